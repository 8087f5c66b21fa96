"""Standard errors against what they estimate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from narrows.compare.figure_names import CLASSICS
from narrows.compare.run_summary import figure_table
from narrows.tasks.measures.standard_errors import bootstrap, standard_error


def test_the_bootstrap_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=500)
    assert bootstrap(np.mean, values, seed=0, draws=2000) == pytest.approx(standard_error(values), rel=0.1)


def test_rows_are_resampled_together_and_by_the_seed() -> None:
    labels = np.repeat([0, 1], 50)
    scores = labels + np.random.default_rng(1).normal(size=100)
    first, again, other = (bootstrap(roc_auc_score, labels, scores, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    # Hanley and McNeil (1982), equation 2, for this AUROC.
    area = roc_auc_score(labels, scores)
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + 49 * (q1 - area**2) + 49 * (q2 - area**2)) / 50**2
    assert first == pytest.approx(math.sqrt(variance), rel=0.3)


def test_nothing_is_known_from_one_row() -> None:
    assert math.isnan(standard_error(np.ones(1)))
    assert math.isnan(bootstrap(lambda values: math.nan, np.ones(3), seed=0))


def test_a_table_shows_the_error_behind_its_figure() -> None:
    tiny = {"test/psnr": 1.234e-30, "test/psnr_stderr": 5.67e-33}
    table = figure_table({"test/nll": 93.123, "test/nll_stderr": 0.2345, "test/mse": 0.5} | tiny)
    cells = list(table.columns[1].cells)
    assert cells == ["93.12 ± 0.23", "0.5", "1.23e-30 ± 5.7e-33"]


def test_many_classics_stand_in_one_cell_the_best_first() -> None:
    found = {"test/psnr": 3.0} | {f"test/{kind}/psnr": value for value, kind in enumerate(list(CLASSICS)[:6])}
    table = figure_table(found)
    assert [column.header for column in table.columns] == ["on the test split", "this run", "beside it"]
    (cell,) = table.columns[2].cells
    names = [CLASSICS[kind] for kind in list(CLASSICS)[:6]]
    shown = [f"{name} {value}" for value, name in reversed(list(enumerate(names)))]
    # Those of 4 and 5 dB are better than the run's 3, that of 3 is not.
    assert cell == ", ".join([f"★ {text}" for text in shown[:2]] + shown[2:])
    assert table.caption == "★ better than this run"


@pytest.mark.parametrize(("figure", "winner"), [("psnr", "ridge"), ("mse", "pca")])
def test_a_classic_that_wins_is_marked_by_the_sense_of_the_figure(figure: str, winner: str) -> None:
    found = {f"test/{figure}": 0.2, f"test/pca/{figure}": 0.1, f"test/ridge/{figure}": 0.3}
    table = figure_table(found)
    cells = {column.header: next(iter(column.cells)) for column in table.columns}
    marked = {header for header, cell in cells.items() if str(cell).startswith("★")}
    assert marked == {CLASSICS[winner]}
    behind = figure_table({name: value for name, value in found.items() if winner not in name})
    assert behind.caption is None
    # Of a number that has no better side nobody wins.
    assert figure_table({"test/active_units": 3.0, "test/pca/active_units": 9.0}).caption is None
