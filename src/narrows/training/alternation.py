"""Training the encoder's half of a model and the decoder's half in turn, and parts that do not learn at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from torch import nn

from narrows.errors import require
from narrows.layers.stages import still
from narrows.models.autoencoder import Autoencoder


class Alternation:
    """Some epochs in which the encoder learns, then some in which the decoder does, and so on.

    To the encoder's half belong input, encoder and bottleneck, to the decoder's the decoder and the likelihood; all
    else (critics, the model's own parameters) learns in every epoch. The half that waits keeps its weights and what the
    optimiser remembers of them, so that one optimiser is as good as two. It is in evaluation mode: while the decoder
    learns, no input is dropped. Whose turn it is follows from the number of the epoch alone.

    "RecVAE: a New Variational Autoencoder for Top-N Recommendations with Implicit Feedback" (Shenbin et al., 2020,
    https://arxiv.org/abs/1912.11160), section 3.5: three epochs and one.

    Args:
        epochs: of the encoder and of the decoder; None: both learn in every step.

    Raises:
        UserError: not two numbers of at least 1, or halves that share weights.
    """

    def __init__(self, model: Autoencoder, epochs: Sequence[int] | None) -> None:
        given = None if epochs is None else list(epochs)
        require(
            given is None or (len(given) == 2 and all(isinstance(n, int) and n >= 1 for n in given)),
            f"module.alternate must be null, or for how many epochs the encoder and the decoder learn, such as [3, 1], "
            f"not {given}",
        )
        self.epochs = given
        self.frozen: tuple[nn.Module, ...] = ()
        self._halves = ((model.input, model.encoder, model.bottleneck), (model.decoder, model.likelihood))
        first, second = ({id(p) for part in half for p in part.parameters()} for half in self._halves)
        require(
            given is None or not first & second,
            "module.alternate trains encoder and decoder in turn, and these share weights: use decoder.tied=false",
        )

    def freeze(self, parts: Mapping[str, nn.Module], others: Mapping[str, nn.Module]) -> None:
        """Keep the weights of `parts` as they are, in every epoch.

        Raises:
            UserError: one shares weights with one of the `others`.
        """
        kept = {id(p) for part in parts.values() for p in part.parameters()}
        for name, other in others.items():
            require(
                not kept & {id(p) for p in other.parameters()},
                f"freeze={list(parts)}: {name} shares weights with them, and would not learn: use decoder.tied=false",
            )
        for part in parts.values():
            part.requires_grad_(False)
        self.frozen = tuple(parts.values())

    def waiting(self, epoch: int) -> tuple[nn.Module, ...]:
        """The parts that do not learn in this epoch, counted from 0."""
        if self.epochs is None:
            return self.frozen
        return (*self.frozen, *self._halves[1 if epoch % sum(self.epochs) < self.epochs[0] else 0])

    def turn(self, epoch: int) -> AbstractContextManager[None]:
        """Inside, the half that waits is in evaluation mode."""
        waiting = self.waiting(epoch)
        return still(*waiting) if waiting else nullcontext()

    def hold(self, epoch: int) -> None:
        """Take its gradients from the half that waits, so that the optimiser passes it over."""
        for part in self.waiting(epoch):
            for parameter in part.parameters():
                parameter.grad = None
