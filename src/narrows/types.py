"""The types that the stages hand to one another.

Legend for shapes: B examples, C channels, H x W pixels, T time steps, D features; `*shape` is the shape
of one example, without the batch axis. Layout is channels first: images `[B, C, H, W]`, volumes `[B, C, D, H, W]`
with D slices, video `[B, C, T, H, W]` with T frames, sequences `[B, C, T]`, vectors `[B, D]`, token ids `[B, T]`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from narrows.batches import Batch as Batch
from narrows.batches import Given as Given
from narrows.batches import row_sums as row_sums
from narrows.batches import within as within
from narrows.data_spec import COUNTED as COUNTED
from narrows.data_spec import PIXELS as PIXELS
from narrows.data_spec import Column as Column
from narrows.data_spec import DataSpec as DataSpec
from narrows.data_spec import Kind as Kind
from narrows.data_spec import NamedPart as NamedPart
from narrows.data_spec import Shape as Shape


@dataclass
class Latent:
    """What a bottleneck returns."""

    z: Tensor
    """Input of the decoder, `[B, *out_shape]`; a sample where the posterior is stochastic."""
    point: Tensor
    """Value of `z` without noise, which represents the example (`embed`, tasks)."""
    needs: ClassVar[str] = ""
    """Name of a part of the bottleneck or model that reconstruction does not train, so that the loss must have a term
    that `trains` it; empty where there is none."""


@dataclass
class UnitLatent(Latent):
    """A latent of activations inside (0, 1), which can be read as firing probabilities."""


@dataclass
class SparseLatent(Latent):
    """A latent of which most entries are zero."""

    pre: Tensor
    """Activations before the selection, `z`'s shape."""
    idle: Tensor | None = field(default=None, kw_only=True)
    """`[D]`, number of training passes since each latent (entry of axis 1) was last active; None where not counted."""
    read: Tensor | None = field(default=None, kw_only=True)
    """Input of the bottleneck, `[B, C, *positions]`; None where `Bottleneck.learn` does not need it."""


@dataclass
class JumpLatent(SparseLatent):
    """A sparse latent that counts its active entries with a gradient."""

    active: Tensor
    """1 where active, else 0, `z`'s shape; its derivative is a pseudo-gradient."""


@dataclass
class GatedLatent(SparseLatent):
    """A sparse latent whose entries are active where `pre`, the gate's activation, is above 0; what is decoded
    gives the gate no gradient."""

    needs = "gate"


@dataclass
class VariationalLatent(Latent):
    """A latent drawn from a posterior and compared with a prior. Both are over `z`'s shape: elementwise, or with some
    or all axes as one event."""

    posterior: Distribution
    prior: Distribution

    @property
    def drawn(self) -> Tensor:
        """The draw of `posterior`: `z` itself, unless the decoder reads only a part of it."""
        return self.z

    def divergence(self) -> Tensor:
        """`KL(q(z|x) || p(z))` of every latent value or event, `[B, *any]`, in nats.

        Where there is no closed form, it is estimated without bias from the one draw: `log q(z|x) - log p(z)`.
        """
        try:
            return kl_divergence(self.posterior, self.prior)
        except NotImplementedError:
            return self.posterior.log_prob(self.drawn) - self.prior.log_prob(self.drawn)


@dataclass
class ReparameterisedLatent(VariationalLatent):
    """A latent whose posterior is a density over `z` and can be redrawn with gradients (`rsample`)."""


@dataclass
class LearntPriorLatent(ReparameterisedLatent):
    """A latent whose prior has parameters, which reconstruction does not reach."""

    needs = "prior"


@dataclass
class GaussianLatent(ReparameterisedLatent):
    """A latent whose posterior and prior are diagonal Gaussians (`Normal`), elementwise over `z`'s shape."""


@dataclass
class HierarchicalLatent(ReparameterisedLatent):
    """A latent of Gaussian levels, which follow one another on axis 1 of `z`, the top one last."""

    levels: list[GaussianLatent]
    """The levels in `z`'s order, each with a posterior and a prior that are conditioned on the drawn level above it."""

    def divergence(self) -> Tensor:
        """The KL elementwise over `z`'s shape; each level's is in closed form, given the drawn levels above it."""
        return torch.cat([level.divergence() for level in self.levels], 1)


@dataclass
class MomentumLatent(ReparameterisedLatent):
    """A latent with a momentum of the same shape: posterior and prior are over both, `[B, 2 D, *positions]`. The
    decoder reads the first half, `z`."""

    state: Tensor
    """The draw of latent and momentum, `[B, 2 D, *positions]`."""

    @property
    def drawn(self) -> Tensor:
        return self.state


@dataclass
class JointLatent(VariationalLatent):
    """A latent made of independent parts, which follow one another on axis 1 of `z`."""

    parts: dict[str, VariationalLatent]


@dataclass
class HyperpriorLatent(VariationalLatent):
    """A latent whose prior is told by side information, a latent too, which is sent before it."""

    needs = "prior"
    law: Distribution
    """p(z|side), elementwise over `z`'s shape; `prior` is of whole examples and counts the side information too."""
    side: LearntPriorLatent
    """The side information; it may have other positions than `z`."""

    @cached_property
    def own_rate(self) -> Tensor:
        """`KL(q(z|x) || p(z|side))` elementwise over `z`'s shape, in nats."""
        return self.posterior.log_prob(self.z) - self.law.log_prob(self.z)

    @cached_property
    def side_rate(self) -> Tensor:
        """That of the side information, elementwise over its shape, in nats."""
        return self.side.divergence()

    def divergence(self) -> Tensor:
        """Of every value of `z` and then of the side information, `[B, N]`, in nats."""
        return torch.cat([self.own_rate.flatten(1), self.side_rate.flatten(1)], 1)


@dataclass
class QuantizedLatent(Latent):
    """A latent that takes finitely many values: at every position a code from each of `len(sizes)` alphabets."""

    codes: Tensor
    """int64 `[B, len(sizes), *positions]`, `0 <= codes[:, i] < sizes[i]`."""
    sizes: tuple[int, ...]
    maps: dict[str, Shape] | None = field(default=None, kw_only=True)
    """Names and `positions` of the maps, where several maps of different sizes have codes. `codes` is then `[B, N]`,
    the flattened maps one after another, and `sizes` has an entry for each of the N codes."""

    @property
    def books(self) -> dict[str, tuple[int, Tensor]]:
        """Size of every codebook and the codes chosen from it, `[B, *positions]`, by the codebook's name."""
        if self.maps is None:
            pairs = zip(self.sizes, self.codes.unbind(1), strict=True)
            return {str(i): (size, codes) for i, (size, codes) in enumerate(pairs)}
        pieces = self.codes.split([prod(shape) for shape in self.maps.values()], dim=1)
        starts = itertools.accumulate((piece.shape[1] for piece in pieces), initial=0)
        return {
            name: (self.sizes[start], piece.unflatten(1, shape))
            for (name, shape), piece, start in zip(self.maps.items(), pieces, starts, strict=False)
        }


@dataclass
class CodebookLatent(QuantizedLatent):
    """A quantised latent whose values before quantisation should lie near their codes."""

    parts: list[tuple[Tensor, Tensor]]
    """Input and output of each quantiser, both `[B, d, *positions]`, without the straight-through gradient."""


@dataclass
class LearnedCodebookLatent(CodebookLatent):
    """A codebook latent whose codes are trained by gradient; the reconstruction gives them none."""

    needs = "codebook"


@dataclass
class BitLatent(CodebookLatent):
    """A codebook latent whose codes are the signs of what was quantised."""


@dataclass
class SoftCodeLatent(QuantizedLatent):
    """A quantised latent with a probability for every code of its one alphabet."""

    log_probs: Tensor
    """`[B, sizes[0], *positions]`, natural logarithms."""


def at_least_single(values: Tensor) -> Tensor:
    """Half precision as single, in which sums and exponentials are safe; double precision stays double."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def log_prob_of(p_x: Distribution, value: Tensor, judged: Tensor | None) -> Tensor:
    """`log p(value)`, elementwise in nats, and 0 where not `judged` (bool, `value`'s shape; None for all).

    Values that are not judged never reach p(x|z), so that nothing that stands in their place, NaN included, changes a
    likelihood or its gradient. A distribution that is fitted to the values that it judges has `log_prob_judged`, and
    gets the mask.
    """
    if judged is None:
        return p_x.log_prob(value)
    value = value.masked_fill(~judged, 0)
    fitted = getattr(p_x, "log_prob_judged", None)
    nats = p_x.log_prob(value) if fitted is None else fitted(value, judged)
    return nats.masked_fill(~judged, 0.0)


@dataclass
class Output:
    """One pass through the model: all that a term may read."""

    batch: Batch
    """The batch as it was given."""
    seen: Batch
    """The batch as the encoder gets it: `x` corrupted, `hidden` marking what the corruption hid, the truth as
    target."""
    latent: Latent
    p_x: Distribution
    """p(x|z), elementwise over the truth's shape."""
    step: int = 0
    """Optimiser steps taken when this was computed: what schedules read. Evaluation uses `FINAL_STEP`."""

    @cached_property
    def log_likelihood(self) -> Tensor:
        """`log p(x|z)` summed over an example's judged values (`Batch.judged`), `[B]`, in nats."""
        return row_sums(log_prob_of(self.p_x, self.batch.truth, self.batch.judged))


FINAL_STEP = 2**62
"""The step at which every schedule has reached its end."""
