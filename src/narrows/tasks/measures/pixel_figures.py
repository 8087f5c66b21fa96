"""Figures of anomaly maps against masks: pixel AUROC, pixel average precision, AUPRO and the best Dice.

Maps are `[N, H, W]`, of volumes `[N, D, H, W]`, higher where more anomalous; masks are bool of that shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from narrows.compare.figure_names import STDERR
from narrows.tasks.measures.auroc_and_thresholds import RATES, Flags, Scores
from narrows.tasks.measures.standard_errors import bootstrap

LIMIT = 0.3
"""The false-alarm rate of pixels at which AUPRO ends."""
BINS = 500
"""Thresholds, of equally many pixels each, by which the standard errors are estimated."""


def pixel_figures(maps: Scores, masks: Flags, threshold: float, seed: int) -> dict[str, float]:
    """`pixel_auroc`, `pixel_average_precision`, `aupro` and `best_dice` over all pixels of all pictures, each with
    its bootstrap standard error over pictures, and the rates of pixels above `threshold`.

    AUPRO is the area under the per-region overlap, over false-alarm rates of pixels from 0 to `LIMIT`, divided by
    `LIMIT`. At each threshold the overlap is the share of a defect's region that lies above it, the mean over all
    regions of all pictures, so that small defects count as much as large ones; the false-alarm rate is the share above
    it of all pixels outside defects, also those of pictures without a defect. Regions are the connected components of
    the masks, over sides and corners. Between thresholds, and at `LIMIT`, the curve is interpolated.

    The best Dice is `2 |above and mask| / (|above| + |mask|)` over the pixels of all pictures together, at the one
    threshold at which it is largest: a bound on what any threshold gives, because it has seen the masks. "Autoencoders
    for Unsupervised Anomaly Segmentation in Brain MR Images" (Baur et al., 2021, https://arxiv.org/abs/2004.03271).

    "The MVTec Anomaly Detection Dataset" (Bergmann et al., 2021, https://doi.org/10.1007/s11263-020-01400-4),
    section 5.3; "Uninformed Students" (Bergmann et al., 2020, https://arxiv.org/abs/1911.02357).
    """
    regions = region_shares(masks)
    order = np.argsort(-maps, axis=None, kind="stable")
    curves = _Curves.of(maps.ravel()[order], masks.ravel()[order], regions.ravel()[order])
    binned, places = _Binned(order, masks, regions), np.arange(len(maps))
    found = {}
    for name, figure in FIGURES.items():
        found[name] = _value(figure, curves)
        found[f"{name}{STDERR}"] = bootstrap(partial(binned.drawn, figure), places, seed=seed)
    flagged = maps > threshold
    rates = {f"pixel_{name}": rate(flagged, masks) for name, rate in RATES.items()}
    return found | {"pixel_threshold": threshold} | rates


def region_shares(masks: Flags) -> NDArray[np.float64]:
    """`[N, *size]`: of each anomalous pixel 1 / the size of its region, so that every region's sum is 1; else 0."""
    shares = np.zeros(masks.shape)
    for share, mask in zip(shares, masks, strict=True):
        labels, count = ndimage.label(mask, np.ones((3,) * mask.ndim, dtype=bool))  # touching at a side or a corner
        if count:
            sizes = np.bincount(labels.ravel())
            share[mask] = 1 / sizes[labels[mask]]
    return shares


class _Curves:
    """What lies above each of the descending thresholds.

    Args:
        hits: anomalous pixels, `[K]`, the last of which is all of them.
        alarms: pixels that are not anomalous.
        overlap: sum over regions of their share.
    """

    def __init__(self, hits: Scores, alarms: Scores, overlap: Scores) -> None:
        self.hits, self.alarms, self.overlap = (np.append(0.0, values) for values in (hits, alarms, overlap))

    @classmethod
    def of(cls, scores: Scores, anomalous: Flags, shares: Scores) -> _Curves:
        """Those of all distinct thresholds; the pixels `[P]` are in the order of descending scores."""
        ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
        hits = np.cumsum(anomalous)[ends].astype(float)
        return cls(hits, ends + 1 - hits, np.cumsum(shares)[ends])

    def auroc(self) -> float:
        return float(np.trapezoid(self.hits, self.alarms)) / (self.hits[-1] * self.alarms[-1])

    def average_precision(self) -> float:
        """The step-wise area under precision and recall."""
        precision = self.hits[1:] / np.maximum(self.hits[1:] + self.alarms[1:], 1)
        return float(np.diff(self.hits) @ precision) / self.hits[-1]

    def best_dice(self) -> float:
        return float((2 * self.hits / np.maximum(self.hits + self.alarms + self.hits[-1], 1)).max())

    def aupro(self) -> float:
        return area_up_to(self.alarms / self.alarms[-1], self.overlap / self.overlap[-1], LIMIT)


FIGURES: dict[str, Callable[[_Curves], float]] = {
    "pixel_auroc": _Curves.auroc,
    "pixel_average_precision": _Curves.average_precision,
    "aupro": _Curves.aupro,
    "best_dice": _Curves.best_dice,
}


def _value(figure: Callable[[_Curves], float], curves: _Curves) -> float:
    """NaN where no pixel is anomalous, or all are."""
    return figure(curves) if curves.hits[-1] and curves.alarms[-1] else math.nan


def area_up_to(rate: Scores, height: Scores, limit: float) -> float:
    """Area under the curve `[K]` over rates from 0 to `limit`, divided by it; the curve is linear between its points,
    whose `rate` never falls and ends at 1."""
    inside = rate <= limit
    last = int(inside.sum())
    if last == len(rate):
        return float(np.trapezoid(height, rate)) / limit
    # Of the step across the limit, the part before it.
    way = (limit - rate[last - 1]) / (rate[last] - rate[last - 1])
    end = height[last - 1] + way * (height[last] - height[last - 1])
    return float(np.trapezoid(np.append(height[:last], end), np.append(rate[:last], limit))) / limit


class _Binned:
    """The pixels of every picture in `BINS` bins of scores, so that curves of resampled pictures are sums.

    Args:
        order: of all pixels, by descending score.
        masks: `[N, H, W]`.
        shares: see `region_shares`.
    """

    def __init__(self, order: NDArray[np.integer], masks: Flags, shares: Scores) -> None:
        pictures, each = len(masks), masks[0].size
        bins = min(BINS, len(order))
        cells = np.empty(len(order), dtype=np.int64)
        cells[order] = np.arange(len(order)) * bins // len(order)
        cells += np.arange(pictures).repeat(each) * bins

        def counted(weights: NDArray[Any]) -> NDArray[Any]:
            return np.bincount(cells, weights.ravel(), pictures * bins).reshape(pictures, bins)

        self._hits, self._all, self._overlap = counted(masks), counted(np.ones(masks.shape)), counted(shares)

    def drawn(self, figure: Callable[[_Curves], float], pictures: NDArray[np.integer]) -> float:
        """The figure of these pictures, counted as often as they occur."""
        times = np.bincount(pictures, minlength=len(self._hits)).astype(float)
        hits, every, overlap = (np.cumsum(times @ part) for part in (self._hits, self._all, self._overlap))
        return _value(figure, _Curves(hits, every - hits, overlap))
