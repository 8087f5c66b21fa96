"""What an autoregressive decoder is fed: the truth, or what is read out of its own steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from narrows.layers.stages import Decoder
from narrows.likelihoods.elementwise import Likelihood
from narrows.types import Batch, DataSpec, Given


def teacher_forced(decoder: Decoder, likelihood: Likelihood, read: Tensor, batch: Batch) -> Tensor:
    """The parameters `[B, n, T]`, where every step is fed the truth of those before it."""
    # Nor does a missing value reach the steps after it.
    missing = batch.missing
    target = batch.truth if missing is None else batch.truth.masked_fill(missing, 0)
    told: dict[str, Any] = {"length": batch.length} if decoder.reads_length else {}
    if decoder.training and decoder.scheduled_sampling > 0:
        told["readout"] = readout(likelihood, batch.given)
    return decoder(read, target, **told)


def readout(
    likelihood: Likelihood, given: Given | None, temperature: float | None = None
) -> Callable[[Tensor], Tensor]:
    """What turns parameters of p(x|z) into values: its point, or a draw where there is a temperature."""
    if temperature is None:
        return lambda params: likelihood.point(likelihood(params, given))
    return lambda params: likelihood.draw(params, given, temperature)


def steps(spec: DataSpec, given: Given | None) -> int | None:
    """How many steps a decoder runs free; None: as many as the longest example of the data has.

    Where an end mark tells, nobody else does; without one, examples that differ in length end with their batch.
    """
    if given is None or given.length is None or spec.end is not None or len(given.length) == 0:
        return None
    return int(given.length.max()) if given.judged is None else given.judged.shape[-1]
