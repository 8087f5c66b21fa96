"""Classes are told apart and called by their names."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from narrows.drawing.class_plots import MOST, explain, histogram, paint, scatter


def drawn(labels: np.ndarray, classes: list[str] | None) -> Figure:
    figure = Figure(figsize=(6.4, 3.9), layout="constrained")
    axis = figure.subplots()
    points = np.random.default_rng(0).random((len(labels), 2))
    explain(figure, [axis], paint(axis, points, labels, 9), labels, classes)
    FigureCanvasAgg(figure).draw()
    return figure


def texts(legend: Legend) -> list[str]:
    return [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize("number", [2, 10, 11, 20, 21, MOST])
def test_every_class_has_its_name_and_a_mark_of_its_own(number: int) -> None:
    names = [f"kind of cell number {place}" for place in range(number)]
    figure = drawn(np.arange(3 * number) % number, names)
    (legend,), axis = figure.legends, figure.axes[0]
    assert texts(legend) == names
    paths = [(*dots.get_facecolor()[0], len(dots.get_paths()[0].vertices)) for dots in axis.collections]
    assert len(set(paths)) == number
    box, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= box.x0 < box.x1 <= whole.x1, "it is cut off"
    assert whole.y0 <= box.y0 < box.y1 <= whole.y1, "it is cut off"
    assert axis.get_window_extent().width > 200


def test_names_that_mean_something_to_the_drawing_library_are_shown() -> None:
    names = ["_hidden", "from $5 to $9", "x" * 99, "a\x1bb"]
    shown = texts(drawn(np.arange(4), names).legends[0])
    assert [shown[0].strip(), shown[1].replace("\\", ""), len(shown[2])] == [*names[:2], 24]
    assert "\x1b" not in shown[3]


def test_only_the_classes_that_are_drawn_stand_in_the_legend_and_numbers_where_there_are_no_names() -> None:
    assert texts(drawn(np.array([2, 0, 2]), ["a", "b", "c"]).legends[0]) == ["a", "c"]
    assert texts(drawn(np.array([7, 3]), None).legends[0]) == ["3", "7"]
    assert texts(drawn(np.array([-1, 1, 5]), ["a", "b"]).legends[0]) == ["-1", "b", "5"]


@pytest.mark.parametrize("labels", [np.arange(MOST + 1), np.linspace(0, 1, 9)])
def test_more_classes_and_real_numbers_have_a_colour_bar(labels: np.ndarray) -> None:
    figure = drawn(labels, [str(place) for place in range(MOST + 1)])
    assert not figure.legends
    assert len(figure.axes) == 2


def test_whole_pictures_show_the_names() -> None:
    rng, labels = np.random.default_rng(0), np.arange(60) % 12
    names = [f"class {kind}" for kind in range(12)]
    bare = scatter(rng.random((60, 2)), labels, "t", ("z0", "z1"))
    named = scatter(rng.random((60, 2)), labels, "t", ("z0", "z1"), classes=names)
    assert bare.shape == named.shape
    assert (bare[:, -150:] != named[:, -150:]).any()
    few = labels % 3
    assert (histogram(rng.random(60), few, "t", "z") != histogram(rng.random(60), few, "t", "z", names)).any()
