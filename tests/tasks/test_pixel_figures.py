"""Pixel AUROC and AUPRO: cases that are known, and a direct computation threshold by threshold."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from narrows.tasks.measures.pixel_figures import LIMIT, area_up_to, pixel_figures, region_shares


def figures(maps: NDArray[np.floating], masks: NDArray[np.bool_], threshold: float = 0.5) -> dict[str, float]:
    return pixel_figures(maps, masks, threshold, seed=0)


def direct(maps: NDArray[np.floating], masks: NDArray[np.bool_]) -> float:
    """AUPRO as it is defined: every threshold, every region, one after another."""
    regions = []
    for number, mask in enumerate(masks):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [(number, labels == region + 1) for region in range(count)]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        above = maps >= threshold
        overlap = np.mean([above[number][region].mean() for number, region in regions])
        points.append((float(above[~masks].mean()), float(overlap)))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= LIMIT or x1 == x0:
            continue
        end = min(x1, LIMIT)
        y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        area += (end - x0) * (y0 + y_end) / 2
    return area / LIMIT


@pytest.mark.parametrize("levels", [4, 50, 10**6])
def test_all_figures_are_those_of_the_slow_way(levels: int) -> None:
    random = np.random.default_rng(levels)
    masks = ndimage.binary_dilation(random.random((5, 24, 24)) < 0.01, np.ones((1, 3, 3)))
    masks[0] = False
    maps = np.floor(levels * (random.random(masks.shape) + 0.5 * masks)) / levels
    found = figures(maps, masks)
    assert found["aupro"] == pytest.approx(direct(maps, masks), rel=1e-9)
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), rel=1e-9)
    precision = average_precision_score(masks.ravel(), maps.ravel())
    assert found["pixel_average_precision"] == pytest.approx(precision, rel=1e-9)


def test_the_best_dice_is_that_of_the_best_threshold() -> None:
    random = np.random.default_rng(0)
    masks = random.random((4, 3, 6, 5)) < 0.2  # of volumes
    maps = np.round(random.random(masks.shape) + 0.5 * masks, 1)

    def dice(threshold: float) -> float:
        above = maps >= threshold
        return 2 * float((above & masks).sum()) / float(above.sum() + masks.sum())

    found = figures(maps, masks)
    assert found["best_dice"] == pytest.approx(max(dice(threshold) for threshold in np.unique(maps)), rel=1e-12)
    assert figures(masks.astype(float), masks)["best_dice"] == 1
    # Of a map that tells nothing apart the best is to call all of it anomalous.
    share = masks.mean()
    assert figures(np.zeros(masks.shape), masks)["best_dice"] == pytest.approx(2 * share / (1 + share))


def test_regions_of_volumes_touch_through_slices() -> None:
    masks = np.zeros((1, 3, 4, 4), dtype=bool)
    masks[0, 0, 0, 0] = masks[0, 1, 1, 1] = masks[0, 2, 3, 3] = True
    assert region_shares(masks)[masks].tolist() == [0.5, 0.5, 1.0]


def test_known_cases() -> None:
    masks = np.zeros((2, 10, 10), dtype=bool)
    masks[0, :2, :2] = masks[0, 5:, 5:] = True
    assert figures(masks.astype(float), masks)["aupro"] == 1
    # Nothing is told apart: the curve is the diagonal, whose area up to 0.3 is 0.3 / 2 of what it could be.
    flat = figures(np.zeros(masks.shape), masks)
    assert flat["aupro"] == pytest.approx(LIMIT / 2)
    assert flat["pixel_auroc"] == pytest.approx(0.5)
    assert figures(-masks.astype(float), masks)["aupro"] == 0
    # The large region alone is found: half of the regions, though 25 of 29 pixels.
    large = masks & (np.arange(10) >= 5)
    found = figures(large.astype(float), masks)
    rate = LIMIT
    assert found["aupro"] == pytest.approx(0.5 + 0.5 * rate / 2)
    assert found["pixel_recall"] == pytest.approx(25 / 29)
    assert found["pixel_false_alarm_rate"] == 0


def test_a_false_alarm_beyond_the_limit_costs_nothing_more() -> None:
    """A fifth of the normal pixels lies above the defect: PRO is 0 up to 0.2, then 1."""
    masks = np.zeros((1, 10, 11), dtype=bool)
    masks[0, :, 10] = True
    maps = np.zeros(masks.shape)
    maps[masks] = 1
    maps[0, :2, :10] = 2
    assert figures(maps, masks)["aupro"] == pytest.approx(1 / 3)
    assert figures(maps, masks)["pixel_auroc"] == pytest.approx(0.8)
    maps[0, :4, :10] = 2
    assert figures(maps, masks)["aupro"] == 0


def test_regions_touch_at_corners_and_weigh_one_each() -> None:
    masks = np.zeros((1, 6, 6), dtype=bool)
    masks[0, 0, 0] = masks[0, 1, 1] = masks[0, 5, 5] = True
    assert region_shares(masks)[0, [0, 1, 5], [0, 1, 5]].tolist() == [0.5, 0.5, 1]


def test_the_area_of_a_curve_that_ends_before_or_at_the_limit() -> None:
    assert area_up_to(np.array([0.0, 1.0]), np.array([1.0, 1.0]), 1.0) == 1
    assert area_up_to(np.array([0.0, 0.3, 1.0]), np.array([0.0, 1.0, 1.0]), 0.3) == pytest.approx(0.5)


def test_standard_errors_are_those_of_drawing_pictures_anew() -> None:
    random = np.random.default_rng(0)

    def picture() -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
        mask = np.zeros((12, 12), dtype=bool)
        mask[3:6, 3:7] = True
        return random.normal(size=mask.shape) + random.uniform(0, 2) * mask, mask

    def drawn(count: int) -> dict[str, float]:
        maps, masks = zip(*(picture() for _ in range(count)), strict=True)
        return figures(np.stack(maps), np.stack(masks))

    several = [drawn(20) for _ in range(20)]
    for name in ("pixel_auroc", "aupro"):
        spread = np.std([one[name] for one in several], ddof=1)
        said = np.mean([one[f"{name}_stderr"] for one in several])
        assert said == pytest.approx(spread, rel=0.5)


def test_without_a_defect_nothing_is_defined() -> None:
    found = figures(np.zeros((2, 4, 4)), np.zeros((2, 4, 4), dtype=bool))
    assert math.isnan(found["aupro"])
    assert math.isnan(found["pixel_auroc"])
