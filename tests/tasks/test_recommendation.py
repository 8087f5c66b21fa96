"""Recommenders whose figures are known, beside the classics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from instances import model as small_model
from PIL import Image
from scipy.sparse import csr_matrix
from tasks.counts import always
from tasks.standins import Rows, context

from narrows.errors import UserError
from narrows.tasks.base import TaskContext, run_tasks
from narrows.tasks.measures.ranking_figures import best_items, fold_in
from narrows.tasks.recommendation import Recommendation
from narrows.types import Batch, DataSpec

ITEMS = 80


def users(number: int, seed: int) -> np.ndarray:
    """Half of them like the first items, half the last."""
    source = np.random.default_rng(seed)
    liked = source.random((number, ITEMS)) < 0.7
    liked[::2, ITEMS // 2 :] = liked[1::2, : ITEMS // 2] = False
    return liked.astype(np.float32)


def folded(number: int, seed: int) -> Batch:
    seen, judged = fold_in(csr_matrix(users(number, seed)), seed)
    return Batch(torch.from_numpy(seen.toarray()), target=torch.from_numpy(judged.toarray()))


def data(targets: bool = True, **spec: object) -> Rows:
    held = folded(12, 2)
    splits = {
        "train": Batch(torch.from_numpy(users(60, 0))),
        "validation": held if targets else Batch(held.x + held.truth),
        "test": folded(20, 1),
    }
    return Rows(splits, batch_size=7, kind="interactions", value_range=(0.0, float("inf")), **spec)


def test_a_constant_model_is_at_chance_and_the_classics_are_above(tmp_path: Path) -> None:
    rows = data(feature_names=[f"film {item}" for item in range(ITEMS)])
    judged = context(always(rows, torch.ones(ITEMS)), rows)
    judged.directory = tmp_path
    task = Recommendation(shown=3)
    found = run_tasks({"r": task}, judged)
    assert set(task.figures) <= set(found)
    assert all(np.isfinite(value) for value in found.values())
    test = rows.splits["test"]
    assert found["test/recommendation/users"] == int((test.target.sum(1) > 0).sum())
    # Of the items that a user has not seen, 20 places show each with equal chance.
    unseen, n = (test.x == 0).sum(1), test.target.sum(1)
    expected = (20 / unseen)[n > 0].mean()
    assert found["test/recommendation/recall_20"] == pytest.approx(float(expected))
    for name in ("item_knn", "pure_svd", "ease", "als"):
        theirs = found[f"test/recommendation/{name}/ndcg_100"]
        assert theirs > found["test/recommendation/ndcg_100"] + 0.1
        lead = found[f"test/recommendation/lead_on_{name}"]
        assert lead == pytest.approx(found["test/recommendation/ndcg_100"] - theirs)
        assert found[f"test/recommendation/lead_on_{name}_stderr"] > 0
    text = (tmp_path / "figures" / "recommendations.md").read_text()
    assert text.count("\n") == 5
    assert "film" in text
    with Image.open(tmp_path / "figures" / "recommendation_ndcg.png") as picture:
        assert len(picture.getcolors(2**20)) > 30


def test_a_model_that_knows_the_held_out_items_is_perfect() -> None:
    rows = data()
    test = rows.splits["test"]
    test.target = torch.zeros_like(test.x)
    test.x[:, 3:5] = 0
    test.target[:, 3:5] = 1
    best = always(rows, torch.eye(ITEMS)[3] + torch.eye(ITEMS)[4])
    found = run_tasks({"r": Recommendation(classics=["popularity"], shown=1)}, context(best, rows))
    for figure in ("ndcg_100", "recall_20", "recall_50"):
        assert found[f"test/recommendation/{figure}"] == pytest.approx(1)
        assert found[f"test/recommendation/{figure}_stderr"] == pytest.approx(0, abs=1e-6)
    assert found["test/recommendation/lead_on_popularity"] > 0.2
    assert found["test/recommendation/users_left_out"] == 0


def test_users_of_whom_nothing_is_held_out_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    rows = data()
    rows.splits["test"].target[:3] = 0
    kept = int((rows.splits["test"].target.sum(1) > 0).sum())
    with caplog.at_level("INFO"):
        found = run_tasks({"r": Recommendation(classics=[])}, context(always(rows, torch.ones(ITEMS)), rows))
    assert found["test/recommendation/users"] == kept
    assert found["test/recommendation/users_left_out"] == 20 - kept >= 3
    assert f"{20 - kept} of 20 test users have no held-out item" in caplog.text


def test_validation_users_without_a_target_are_folded_to_choose_by() -> None:
    chosen = []
    for targets in (True, False):
        rows = data(targets)
        judged = context(always(rows, torch.ones(ITEMS)), rows)
        chosen.append(run_tasks({"r": Recommendation(classics=["ease"])}, judged)["test/recommendation/ease/ndcg_100"])
    assert chosen == pytest.approx([chosen[0]] * 2, abs=0.05)


def test_what_cannot_be_judged_is_said() -> None:
    rows = data()
    rows.splits["test"] = Batch(rows.splits["test"].x)
    judged: TaskContext = context(always(rows, torch.ones(ITEMS)), rows)
    assert run_tasks({"r": Recommendation(classics=[])}, judged) == {}
    assert "hold some out as their target" in judged.warnings[0]
    rows = data()
    judged = context(always(rows, torch.full((ITEMS,), torch.nan)), rows)
    assert run_tasks({"r": Recommendation(classics=[])}, judged) == {}
    assert "a score of an item is not finite" in judged.warnings[0]
    with pytest.raises(UserError, match="no classic 'eases': did you mean 'ease'"):
        Recommendation(classics=["eases"])
    reason = Recommendation().fits(DataSpec((5,), "counts", 9), small_model())
    assert reason == "it judges data of kind interactions, not counts"


def test_recommended_items_are_the_best_that_are_not_known() -> None:
    seen = csr_matrix(np.array([[0, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]]))
    found = list(best_items(lambda rows: np.tile([3.0, 9, 5, 5], (rows.shape[0], 1)), seen, 2))
    assert [items.tolist() for items, _ in found] == [[2, 3], [1, 2], []]
    assert [scores.tolist() for _, scores in found] == [[5, 5], [9, 5], []]
    known = seen + csr_matrix(np.array([[0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]))
    found = list(best_items(lambda rows: np.tile([3.0, 9, 5, 5], (rows.shape[0], 1)), seen, 4, known))
    assert [items.tolist() for items, _ in found] == [[3, 0], [2, 3], []]
    with pytest.raises(UserError, match="not finite"):
        next(best_items(lambda rows: np.full((rows.shape[0], 4), np.inf), seen, 2))
