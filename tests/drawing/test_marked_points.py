"""Points lie where their axes say, each group with its own mark and name."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageColor

from narrows.drawing.marked_points import HEIGHT, WIDTH, Marked, _ticks, marked_points

NAMES = ("a", "b")
RED, BLUE = "#ff0000", "#0000ff"


def places(picture: np.ndarray, colour: str) -> np.ndarray:
    """The middle, in pixels from left and top, of what has about this colour, which a mark of 75% leaves on white."""
    mark = 0.75 * np.array(ImageColor.getrgb(colour)) + 0.25 * 255
    rows, columns = np.nonzero((abs(picture.astype(float) - mark) < 8).all(-1))
    return np.array([columns.mean(), rows.mean()])


def marked(*points: tuple[float, float], colour: str = RED) -> Marked:
    return Marked(np.array(points, dtype=float), colour)


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e7])
def test_a_point_lies_between_others_as_its_values_do(scale: float) -> None:
    ends = [marked((0, 0)), marked((10 * scale, 4 * scale), colour=BLUE)]
    picture = marked_points([*ends, marked((5 * scale, 1 * scale), colour="#00aa00")], "t", NAMES, area=30)
    low, high, between = places(picture, RED), places(picture, BLUE), places(picture, "#00aa00")
    assert low[0] < high[0]
    assert low[1] > high[1], "values rise upwards"
    np.testing.assert_allclose((between - low) / (high - low), [0.5, 0.25], atol=0.005)


def test_what_is_not_finite_is_left_out_and_moves_nothing() -> None:
    kept = [(0.0, 0.0), (1.0, 2.0)]
    alone = marked_points([marked(*kept)], "t", NAMES, area=30)
    more = marked_points([marked(*kept, (np.nan, 1.0), (np.inf, 0.0), (0.5, -np.inf))], "t", NAMES, area=30)
    np.testing.assert_array_equal(alone, more)


@pytest.mark.parametrize("point", [(0.0, 0.0), (3.0, -1e30), (np.nan, np.nan)])
def test_points_that_are_all_alike_are_drawn(point: tuple[float, float]) -> None:
    picture = marked_points([marked(point, point)], "t", NAMES, area=30)
    assert picture.shape == (HEIGHT, WIDTH, 3)


def test_long_names_are_whole_and_keep_the_panel_wide() -> None:
    groups = [Marked(np.eye(2), RED, "s", "W" * 24) for _ in range(30)]
    picture = marked_points(groups, "t", NAMES, area=30, rows=20)
    assert picture.shape[1] > WIDTH
    assert (picture[:, -8:] == 255).all(), "a name is cut off"
    low, high = (places(marked_points([*groups, end], "t", NAMES, area=30), BLUE)[0] for end in ENDS)
    assert high - low > 250


ENDS = (marked((0, 0), colour=BLUE), marked((1, 1), colour=BLUE))


@pytest.mark.parametrize(
    ("ends", "texts"),
    [
        ((-1.1, 1.1), ["\N{MINUS SIGN}1.0", "\N{MINUS SIGN}0.5", "0.0", "0.5", "1.0"]),
        ((0, 0.0021), ["0.0000", "0.0005", "0.0010", "0.0015", "0.0020"]),
        ((990, 1010), ["990", "995", "1000", "1005", "1010"]),
        ((0, 4.2e30), ["0", "1e+30", "2e+30", "3e+30", "4e+30"]),
    ],
)
def test_ticks_are_round_numbers_that_tell_themselves_apart(ends: tuple[float, float], texts: list[str]) -> None:
    found = [text for _, text in _ticks(*ends)]
    assert found == texts
