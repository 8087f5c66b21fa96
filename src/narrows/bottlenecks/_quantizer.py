"""What quantising bottlenecks share: the codebook, and the gradient past it.

N rows are the positions of all examples: `[B, d, *positions] -> [N, d]`; K codes of width d.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.bottlenecks.base import Bottleneck
from narrows.distributed import is_distributed, of_first_process, rows_at, sum_over_processes
from narrows.errors import require
from narrows.layers.stages import AxisLinear
from narrows.types import CodebookLatent, Latent, LearnedCodebookLatent, Shape, at_least_single


def straight_through(value: Tensor, source: Tensor) -> Tensor:
    """`value` to the bit, with `source`'s gradient ("Estimating or Propagating Gradients Through Stochastic Neurons for
    Conditional Computation", Bengio et al., 2013, https://arxiv.org/abs/1308.3432)."""
    return value.detach() + (source - source.detach())


def rotated(value: Tensor, source: Tensor) -> Tensor:
    """`value` to the bit, with the gradient of `lambda R source`, where the rotation R turns `source` onto
    `value` and lambda is the ratio of their lengths, both constants; axis 1 holds the vectors.

    "Restructuring Vector Quantization with the Rotation Trick" (Fifty et al., 2024, https://arxiv.org/abs/2410.06424),
    section 4.2.
    """
    value, start = value.detach(), source.detach()
    ratio = value.norm(dim=1, keepdim=True) / start.norm(dim=1, keepdim=True).clamp_min(1e-6)
    goal, origin = F.normalize(value, dim=1), F.normalize(start, dim=1)
    middle = F.normalize(goal + origin, dim=1)
    turned = source - 2 * middle * (middle * source).sum(1, keepdim=True)
    turned = turned + 2 * goal * (origin * source).sum(1, keepdim=True)
    return straight_through(value, ratio * turned)


def as_rows(h: Tensor) -> Tensor:
    """`[B, d, *positions] -> [N, d]`."""
    return h.movedim(1, -1).flatten(0, -2)


class Codebook(nn.Module):
    """K vectors e_k; a row h is given the nearest, `k = argmin_k ||h - e_k||^2`.

    With `ema` = gamma the vectors are buffers and follow the rows that chose them,
    `N_k <- gamma N_k + (1 - gamma) n_k`, `m_k <- gamma m_k + (1 - gamma) sum_i h_i`, `e_k = m_k / N_k` ("Neural
    Discrete Representation Learning", van den Oord et al., 2017, https://arxiv.org/abs/1711.00937, appendix A.1);
    without, they are a parameter. At the first training batch they are put where `kmeans` iterations of Lloyd's
    algorithm take rows of it. A code that no row has chosen for `revive_after` training batches is put on a row of the
    last one ("Jukebox", Dhariwal et al., 2020, https://arxiv.org/abs/2005.00341, section 3.1). Sums are over all
    processes, and rows drawn at random are the first process', so that every process has the same codebook.
    """

    vectors: Tensor
    counts: Tensor
    idle: Tensor
    started: Tensor

    def __init__(self, codes: int, width: int, *, ema: float | None, kmeans: int, revive_after: int | None) -> None:
        super().__init__()
        self.ema, self.kmeans, self.revive_after = ema, kmeans, revive_after
        vectors = torch.empty(codes, width).uniform_(-1 / codes, 1 / codes)
        if ema is None:
            self.vectors = nn.Parameter(vectors)
        else:
            self.register_buffer("vectors", vectors)
        self.register_buffer("counts", torch.ones(codes))
        self.register_buffer("idle", torch.zeros(codes, dtype=torch.long))
        self.register_buffer("started", torch.tensor(kmeans == 0))
        self._started = False

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Codes `[B, *positions]` and their vectors, `h`'s shape."""
        codes = self.nearest(as_rows(h)).unflatten(0, (h.shape[0], *h.shape[2:]))
        return codes, self.lookup(codes)

    @torch.no_grad()
    def nearest(self, rows: Tensor) -> Tensor:
        """`[N, d] -> [N]`; of equally near codes the first."""
        with torch.autocast(rows.device.type, enabled=False):
            gaps = torch.addmm(self.vectors.square().sum(1), rows.to(self.vectors.dtype), self.vectors.t(), alpha=-2)
        return gaps.argmin(1)

    def lookup(self, codes: Tensor) -> Tensor:
        """`[B, *positions] -> [B, d, *positions]`."""
        return F.embedding(codes, self.vectors).movedim(-1, 1)

    @property
    def ready(self) -> bool:
        """Whether `start` has been called; the device is asked only until it has."""
        self._started = self._started or bool(self.started)
        return self._started

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._started = False

    @torch.no_grad()
    def start(self, h: Tensor) -> Tensor:
        """Put the codes where k-means on these rows does; the rows quantised with them, `h`'s shape."""
        rows = as_rows(h)
        self.vectors.copy_(self._draw(rows, len(h)))
        for _ in range(self.kmeans):
            counts, sums = self._statistics(rows, self.nearest(rows))
            self.vectors.copy_(torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], self.vectors))
        self.counts.copy_(self._statistics(rows, self.nearest(rows))[0].clamp_min(1))
        self.idle.zero_()
        self.started.fill_(True)
        return self.lookup(self.nearest(rows).unflatten(0, (h.shape[0], *h.shape[2:])))

    @torch.no_grad()
    def learn(self, h: Tensor, codes: Tensor) -> None:
        """Follow one training batch, quantised as `codes`."""
        rows = as_rows(h)
        counts, sums = self._statistics(rows, codes.flatten())
        if self.ema is not None:
            self._average(self.ema, counts, sums)
        if self.revive_after is not None:
            self._revive(self.revive_after, counts, rows, len(h))

    def _statistics(self, rows: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """`n_k` and `sum_i h_i` over the rows that chose k in any process."""
        rows = at_least_single(rows)
        found = rows.new_zeros(len(self.vectors), rows.shape[1] + 1)
        found.index_add_(0, codes, F.pad(rows, (1, 0), value=1.0))
        found = sum_over_processes(found)
        return found[:, 0], found[:, 1:]

    def _average(self, gamma: float, counts: Tensor, sums: Tensor) -> None:
        # m_k / N_k without m_k: an unused code stays where it is, however small its N_k has become.
        weight = gamma * self.counts + (1 - gamma) * counts
        step = (1 - gamma) * (sums - counts[:, None] * self.vectors)
        self.vectors.add_(step / weight.clamp_min(torch.finfo(weight.dtype).tiny)[:, None])
        self.counts.copy_(weight)

    def _revive(self, patience: int, counts: Tensor, rows: Tensor, examples: int) -> None:
        idle = torch.where(counts > 0, 0, self.idle + 1)
        dead = idle >= patience
        self.vectors.copy_(torch.where(dead[:, None], self._draw(rows, examples), self.vectors))
        self.counts.masked_fill_(dead, 1.0)
        self.idle.copy_(idle.masked_fill_(dead, 0))

    def _draw(self, rows: Tensor, examples: int) -> Tensor:
        """As many rows as codes, without repetition while there are enough, `[K, d]`: of the `examples` in all
        processes, which have equally many rows each."""
        every = examples if not is_distributed() else int(sum_over_processes(rows.new_tensor(examples)))
        positions = len(rows) // examples
        order = of_first_process(torch.randperm(every * positions, device=rows.device))
        places = torch.arange(len(self.vectors), device=rows.device) % len(order)
        return rows_at(at_least_single(rows), order[places], positions)


class CodebookBottleneck(Bottleneck):
    """A linear map to `dim` values, quantised by `count` codebooks of vectors of `width`."""

    def __init__(
        self, in_shape: Shape, name: str, *, dim: int, codes: int, count: int, width: int, **learning: Any
    ) -> None:
        ema, kmeans, revive_after = learning["ema"], learning["kmeans"], learning["revive_after"]
        where = f"bottleneck {name}:"
        require(codes >= 2, f"{where} codes must be at least 2, not {codes}")
        require(ema is None or 0 <= ema < 1, f"{where} ema must be in [0, 1), or null, not {ema}")
        require(kmeans >= 0, f"{where} kmeans must be at least 0 iterations, not {kmeans}")
        require(
            revive_after is None or revive_after >= 1,
            f"{where} revive_after must be at least 1 batch, or null, not {revive_after}",
        )
        super().__init__(in_shape, dim)
        self.returns: type[CodebookLatent] = CodebookLatent if ema is not None else LearnedCodebookLatent
        self.sizes = (codes,) * count
        self.projection = AxisLinear(self.in_shape[0], dim)
        self.books = nn.ModuleList(Codebook(codes, width, **learning) for _ in range(count))

    @property
    def codebooks(self) -> list[Codebook]:
        """The modules of `books`."""
        return cast(list[Codebook], list(self.books))

    def learn(self, latent: Latent) -> None:
        assert isinstance(latent, CodebookLatent)
        if not all(book.ready for book in self.codebooks):
            self.start(latent)
            return
        for book, (given, _), (_, codes) in zip(self.codebooks, latent.parts, latent.books.values(), strict=True):
            book.learn(given.detach(), codes)

    def start(self, latent: CodebookLatent) -> None:
        """Start every codebook at values that it is to quantise."""
        raise NotImplementedError
