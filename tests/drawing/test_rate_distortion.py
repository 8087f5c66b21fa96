"""The names of runs never take the room of the panel."""

from __future__ import annotations

import warnings

import pytest

from narrows.drawing.rate_distortion import rate_distortion

CURVE = [(0.1, 20.0), (0.4, 26.0)]


@pytest.mark.parametrize("letters", [5, 100])
def test_names_of_any_length_leave_the_panel_its_room(letters: int) -> None:
    runs = {f"{number}".ljust(letters, "x"): CURVE for number in range(3)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib's, where a layout cannot be had
        picture = rate_distortion(runs, {"jpeg": CURVE}, "t")
    # The panel's lower edge is the longest grey line.
    longest = ((picture[..., :3] < 230).all(-1)).sum(1).max()
    assert longest > 0.5 * picture.shape[1]


def test_long_names_make_the_picture_higher_and_none_is_left_out() -> None:
    short, long = (
        rate_distortion({f"{n}".ljust(letters, "x"): CURVE for n in range(6)}, {}, "t") for letters in (5, 60)
    )
    assert long.shape[0] > short.shape[0] + 6 * 20
    assert long.shape[1] == short.shape[1]
