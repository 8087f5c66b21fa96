"""What all decoders that predict each step from the steps before have in common.

Legend: B examples, C channels of the data, n parameters of the likelihood per step, T steps, V words, D values of the
flattened latent, E values of an embedded step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from narrows.errors import require
from narrows.layers.blocks import counts, probability
from narrows.layers.stages import Decoder
from narrows.types import DataSpec, Shape

Readout = Callable[[Tensor], Tensor]
"""The parameters of a step or of all, `[B, n, any]`, to the values fed back: `[B, C, any]`, or token ids `[B, any]`."""


class AutoregressiveDecoder(Decoder):
    """p(x|z) = prod_t p(x_t | x_1, ..., x_{t-1}, z), where a network reads the steps before.

    `forward` reads them from the target (teacher forcing), all steps at once; `generate` and `run_free` feed back what
    was read out of each step. Numbers are read as they are, tokens through an embedding of the decoder's own, and the
    step before the first is learnt. `[B, *in_shape], [B, C, T] -> [B, n, T]`, of tokens from `[B, T]`; params_t depends
    on no x_u with u >= t (u <= t when reversed). Reversed, an example starts at its own last step, and not in the
    padding behind it.

    Where tokens have an end mark, a row that has written it writes nothing else, and running free stops once every row
    has; no row is told its true length. What follows the mark is the mark with certainty.

    A subclass has `begin`, the state that a latent starts, and `unroll`, which takes it on.

    Args:
        in_shape: of one latent, any; it is flattened.
        out_shape: `(n, T)`.
        spec: of the data, whose examples are `(C, T)`, or tokens `(T,)`.
        part: in messages.
        embedding: E, values that a token is read as; None: numbers are fed as they are.
        input_dropout: probability, in training, that a step's fed-back values are zeroed ("word dropout"): what the
            past does not tell must come from the latent.
        scheduled_sampling: probability, in training, that a step's fed-back values are the decoder's own guess, made
            under teacher forcing in a first pass without gradient, and not the truth.
        reverse: go from the last step to the first.

    Raises:
        UserError: a shape that is no series, an argument out of its range, or tokens with an end mark, reversed.

    "Generating Sentences from a Continuous Space" (Bowman et al., 2016), https://arxiv.org/abs/1511.06349, for
    `input_dropout`; "Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks" (Bengio et al., 2015),
    https://arxiv.org/abs/1506.03099, as "Parallel Scheduled Sampling" (Duckworth et al., 2019),
    https://arxiv.org/abs/1906.04331, with one pass.
    """

    autoregressive: ClassVar[bool] = True
    reads_length: ClassVar[bool] = True

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        *,
        spec: DataSpec,
        part: str,
        embedding: int | None,
        input_dropout: float,
        scheduled_sampling: float,
        reverse: bool = False,
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        self.input_dropout = probability(input_dropout, "input_dropout", part)
        self.scheduled_sampling = probability(scheduled_sampling, "scheduled_sampling", part)
        self.reverse, self.end = reverse, spec.end
        self.latent = math.prod(self.in_shape)
        self.outputs, steps = series_of(self.out_shape, part)
        require(
            steps == spec.shape[-1],
            f"{part} reads data of shape {list(spec.shape)} step by step, but the likelihood's "
            f"parameters {list(self.out_shape)} have another number of steps",
        )
        require(
            not reverse or spec.end is None,
            f"{part} cannot go from the last token to the first, because it stops at the end mark; use reverse=false",
        )
        self.tokens = spec.kind == "tokens"
        if self.tokens:
            require(bool(spec.vocabulary), f"{part} reads tokens, but these data have no vocabulary")
            words = len(spec.vocabulary or [])
            self.inputs = counts([embedding or 0], "embedding", part)[0]
            self.embedding = nn.Embedding(words + 1, self.inputs)
            """The last row is the step before the first."""
        else:
            self.inputs = series_of(tuple(spec.shape), part)[0]
            self.first = nn.Parameter(torch.zeros(self.inputs, 1))

    def begin(self, z: Tensor, running: bool) -> Any:
        """The state before the first step, for all steps at once or, `running`, for one after another.

        Args:
            z: `[B, D]`.
            running: whether `unroll` is then given the steps one by one.
        """
        raise NotImplementedError

    def unroll(self, fed: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The parameters `[B, n, S]` of S steps, of which each is fed what was before it, `[B, S, E]`; and the state
        after them."""
        raise NotImplementedError

    def forward(
        self, z: Tensor, target: Tensor, length: Tensor | None = None, readout: Readout | None = None
    ) -> Tensor:
        z = z.flatten(1)
        past = (in_reverse(target, length) if self.reverse else target)[..., :-1]
        if self.training and self.scheduled_sampling > 0 and readout is not None:
            past = self._partly_guessed(z, past, readout)
        params, _ = self.unroll(self._fed(z, past), self.begin(z, running=False))
        return in_reverse(params, length) if self.reverse else params

    def generate(self, z: Tensor, readout: Readout, steps: int | None = None) -> Tensor:
        """The parameters `[B, n, S]` when each of the `steps` (None: T) is fed what was read out of the one before."""
        return self._joined([params for params, _ in self._running(z, readout, steps)])

    def run_free(self, z: Tensor, readout: Readout, steps: int | None = None) -> Tensor:
        return self._joined([value for _, value in self._running(z, readout, steps)])

    def _joined(self, steps: list[Tensor]) -> Tensor:
        return torch.cat(steps[::-1] if self.reverse else steps, -1)

    def _running(self, z: Tensor, readout: Readout, steps: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Parameters and values, step by step in the order of writing."""
        z = z.flatten(1)
        state, fed = self.begin(z, running=True), self._before_first(z)
        ended = torch.zeros(z.shape[0], dtype=torch.bool, device=z.device)
        for _ in range(self.out_shape[1] if steps is None else steps):
            params, state = self.unroll(fed, state)
            if self.end is not None:
                params = params.where(~ended[:, None, None], _certain(params, self.end))
            value = readout(params)
            yield params, value
            if self.end is not None:
                ended = ended | (value[:, 0] == self.end)
                if bool(ended.all()):
                    return
            fed = self._embedded(value)

    def _partly_guessed(self, z: Tensor, past: Tensor, readout: Readout) -> Tensor:
        with torch.no_grad():
            params, _ = self.unroll(self._fed(z, past), self.begin(z, running=False))
            guess = readout(params)[..., : past.shape[-1]]
        chosen = torch.rand(past.shape[0], past.shape[-1], device=past.device) < self.scheduled_sampling
        return torch.where(chosen if self.tokens else chosen[:, None], guess.to(past.dtype), past)

    def _fed(self, z: Tensor, past: Tensor) -> Tensor:
        """`[B, T, E]` from the values of all steps but the last."""
        return torch.cat([self._before_first(z), self._drop(self._embedded(past))], 1)

    def _embedded(self, values: Tensor) -> Tensor:
        """`[B, C, S]`, or `[B, S]` of tokens, to `[B, S, E]`."""
        if not self.tokens:
            return values.transpose(1, 2)
        found: Tensor = self.embedding(values)
        return found

    def _before_first(self, z: Tensor) -> Tensor:
        first = self.embedding.weight[-1:] if self.tokens else self.first.transpose(0, 1)
        return first.expand(z.shape[0], 1, -1)

    def _drop(self, values: Tensor) -> Tensor:
        if not self.training or self.input_dropout == 0:
            return values
        keep = torch.rand(values.shape[0], values.shape[1], 1, device=values.device) >= self.input_dropout
        return values * keep


def in_reverse(values: Tensor, length: Tensor | None) -> Tensor:
    """`[B, any, T]` or `[B, T]` with the steps of every example from its last to its first, and padding where it
    was."""
    if length is None:
        return values.flip(-1)
    steps = torch.arange(values.shape[-1], device=values.device)
    back = length.to(values.device)[:, None] - 1 - steps
    places = back.where(back >= 0, steps)
    return values.gather(-1, places if values.ndim == 2 else places[:, None].expand_as(values))


def series_of(shape: Shape, part: str) -> tuple[int, int]:
    """Channels and steps of a series `(C, T)`.

    Raises:
        UserError: the shape is no series.
    """
    require(
        len(shape) == 2,
        f"{part} writes series (C, T), not data of shape {list(shape)}; use mlp or conv",
    )
    counts(shape, "shape", part)
    return shape[0], shape[1]


def _certain(params: Tensor, token: int) -> Tensor:
    """Logits `[V, 1]` of a token that is certain."""
    # The smallest number and not -inf: its product with a probability of 0 must be 0.
    logits = torch.full_like(params[0, :, :1], torch.finfo(params.dtype).min)
    logits[token] = 0
    return logits
