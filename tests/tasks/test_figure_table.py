"""The table of figures that a task returns, and the names that it gives them."""

from __future__ import annotations

import re

import pytest

from narrows.compare.figure_names import CLASSICS, MODEL, ROWS, figure_name, named, of_classic
from narrows.tasks.figure_table import FigureTable, declared


def test_a_name_holds_what_is_not_empty_and_the_model_has_none() -> None:
    found = FigureTable("denoising")
    found.add({"psnr": 1.0, "ssim": 2.0}, condition="salt_0.1")
    found.add({"psnr": 3.0}, "ridge", "salt_0.1")
    found.add({"gain": 4.0}, condition="salt_0.1")
    assert found.named() == {
        "test/denoising/salt_0.1/psnr": 1.0,
        "test/denoising/salt_0.1/ssim": 2.0,
        "test/denoising/salt_0.1/gain": 4.0,
        "test/denoising/salt_0.1/ridge/psnr": 3.0,
    }
    assert found.row(condition="salt_0.1") == {"psnr": 1.0, "ssim": 2.0, "gain": 4.0}


def test_declared_names_are_those_of_the_table() -> None:
    found = FigureTable("reduction")
    for method in (MODEL, "pca"):
        found.add({"mse": 1.0, "knn": 0.5}, method)
    assert declared(("mse", "knn"), (MODEL, "pca"), "reduction") == tuple(found.named())


@pytest.mark.parametrize("method", list(CLASSICS))
def test_a_classic_s_figure_is_found_from_the_model_s(method: str) -> None:
    for pattern in ROWS:
        if pattern.startswith("test/"):
            *above, figure = re.sub(r"\*", "anything", pattern).removeprefix("test/").split("/")
            ours, theirs = (figure_name(figure, of, "/".join(above)) for of in (MODEL, method))
            assert theirs == of_classic(ours, method)
            assert list(named([theirs])) == []
