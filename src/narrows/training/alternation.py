"""Training the encoder's half of a model and the decoder's half in turn."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, get_args

from torch import nn

from narrows.errors import require
from narrows.layers.stages import still
from narrows.models.autoencoder import Autoencoder

Unit = Literal["epochs", "steps"]


class Alternation:
    """Some epochs or steps in which the encoder learns, then some in which the decoder does, and so on.

    To the encoder's half belong input, encoder and bottleneck, to the decoder's the decoder and the likelihood; all
    else (critics, the model's own parameters) learns all the time. The half that waits keeps its weights and what the
    optimiser remembers of them, so that one optimiser is as good as two. It is in evaluation mode: while the decoder
    learns, no input is dropped. Whose turn it is follows from the number of the epoch or of the step alone.

    "RecVAE: a New Variational Autoencoder for Top-N Recommendations with Implicit Feedback" (Shenbin et al., 2020,
    https://arxiv.org/abs/1912.11160), section 3.5: three epochs and one. "Lagging Inference Networks and Posterior
    Collapse in Variational Autoencoders" (He et al., 2019, https://arxiv.org/abs/1901.05534), where many steps of the
    encoder come before each of the decoder, until the latent's mutual information with x rises no more: here until a
    step that is given.

    Args:
        turns: epochs or steps of the encoder and of the decoder; None: both learn in every step.
        unit: `epochs`, or optimiser `steps`.
        until: the optimiser step, or as a share of the run, from which on both learn in every step; None: never.

    Raises:
        UserError: not two numbers of at least 1, an unknown unit, an `until` that is neither, or halves that share
            weights.
    """

    def __init__(
        self, model: Autoencoder, turns: Sequence[int] | None, unit: str = "epochs", until: int | float | None = None
    ) -> None:
        given = None if turns is None else list(turns)
        require(
            given is None or (len(given) == 2 and all(isinstance(n, int) and n >= 1 for n in given)),
            f"module.alternate must be null, or for how many epochs the encoder and the decoder learn, such as [3, 1], "
            f"not {given}",
        )
        require(unit in get_args(Unit), f"module.alternate_in must be epochs or steps, not '{unit}'")
        share = isinstance(until, float)
        require(
            until is None or (0 < until <= 1 if share else until >= 1),
            f"module.alternate_until must be null, a step of at least 1, or a share of the run up to 1.0, not {until}",
        )
        self.turns, self.unit, self.until = given, unit, until
        self._run: int | None = None
        self._halves = ((model.input, model.encoder, model.bottleneck), (model.decoder, model.likelihood))
        first, second = ({id(p) for part in half for p in part.parameters()} for half in self._halves)
        require(
            given is None or not first & second,
            "module.alternate trains encoder and decoder in turn, and these share weights: use decoder.tied=false",
        )

    def span(self, run: int | None) -> None:
        """Take shares of a run of `run` optimiser steps; None where the number is not known.

        Raises:
            UserError: `until` is a share, and the run has no known length.
        """
        require(
            run is not None or self.turns is None or not isinstance(self.until, float),
            f"module.alternate_until={self.until} is a share of the run, which has no known length; give a whole "
            "number of steps, or limit trainer.max_epochs or trainer.max_steps",
        )
        self._run = run

    def waiting(self, epoch: int, step: int) -> tuple[nn.Module, ...]:
        """The parts that do not learn in this epoch and optimiser step, counted from 0."""
        if self.turns is None or self._over(step):
            return ()
        number = epoch if self.unit == "epochs" else step
        return self._halves[1 if number % sum(self.turns) < self.turns[0] else 0]

    def _over(self, step: int) -> bool:
        if not isinstance(self.until, float):
            return self.until is not None and step >= self.until
        assert self._run is not None, "the alternation was not told how long the run is"
        return step >= self.until * self._run

    def turn(self, epoch: int, step: int) -> AbstractContextManager[None]:
        """Inside, the half that waits is in evaluation mode."""
        waiting = self.waiting(epoch, step)
        return still(*waiting) if waiting else nullcontext()

    def hold(self, epoch: int, step: int) -> None:
        """Take its gradients from the half that waits, so that the optimiser passes it over."""
        for part in self.waiting(epoch, step):
            for parameter in part.parameters():
                parameter.grad = None
