"""Rankings whose figures are known: perfect, worst, tied and random; and recommenders in closed form."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from narrows.errors import UserError
from narrows.tasks.classics import recommenders
from narrows.tasks.classics.recommenders import FITS, Candidate, fit_recommenders, solve_factors
from narrows.tasks.measures import ranking_figures
from narrows.tasks.measures.ranking_figures import Scorer, fold_in, lead, rank, with_judged


def rows(*dense: list[float]) -> csr_matrix:
    return csr_matrix(np.array(dense, dtype=np.float32))


def always(scores: np.ndarray) -> Scorer:
    return lambda seen: np.broadcast_to(scores, seen.shape)


def some_users(users: int = 40, items: int = 25, seed: int = 0) -> csr_matrix:
    return csr_matrix((np.random.default_rng(seed).random((users, items)) < 0.4).astype(np.float32))


def by_definition(order: list[int], relevant: set[int], k: int) -> tuple[float, float]:
    """NDCG and recall of one user's ranking, as they are written."""
    gains = [1 / np.log2(place + 2) for place, item in enumerate(order[:k]) if item in relevant]
    ideal = [1 / np.log2(place + 2) for place in range(min(k, len(relevant)))]
    return sum(gains) / sum(ideal), len(gains) / min(k, len(relevant))


def test_a_perfect_ranking_is_one_and_the_reverse_is_nothing() -> None:
    judged = rows([1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1])
    nothing = rows([0] * 6, [0] * 6)
    found = rank(always(np.arange(6.0)[::-1]), nothing, judged, ndcg=(3, 100), recall=(2, 3, 100))
    # The ideal is cut at k too: two of three relevant items are all that two places can hold.
    assert [values[0] for values in found.values()] == pytest.approx([1, 1, 1, 1, 1])
    assert [found[name][1] for name in ("ndcg_3", "recall_2", "recall_3", "recall_100")] == [0, 0, 0, 1]


def test_figures_are_those_of_the_definition() -> None:
    whole = some_users()
    seen, judged = fold_in(whole, seed=1, share=0.6)
    scores = np.random.default_rng(2).normal(size=whole.shape)
    found = rank(lambda part: scores[with_judged(judged)], seen, judged, ndcg=(5, 100), recall=(3, 20))
    assert len(found["ndcg_5"]) == len(with_judged(judged)) > 30
    for place, user in enumerate(with_judged(judged)):
        shown, relevant = set(seen[user].indices), set(judged[user].indices)
        order = [item for item in np.argsort(-scores[user]) if item not in shown]
        for k in (5, 100):
            assert found[f"ndcg_{k}"][place] == pytest.approx(by_definition(order, relevant, k)[0])
        for k in (3, 20):
            assert found[f"recall_{k}"][place] == pytest.approx(by_definition(order, relevant, k)[1])


@pytest.mark.parametrize("k", [1, 2, 4, 9])
def test_items_level_with_each_other_count_with_the_mean_over_their_orders(k: int) -> None:
    scores, relevant = np.array([2.0, 1, 1, 1, 1, 0]), {1, 4, 5}
    orders = [[0, *middle, 5] for middle in itertools.permutations((1, 2, 3, 4))]
    expected = np.mean([by_definition(order, relevant, k) for order in orders], axis=0)
    judged = rows([float(item in relevant) for item in range(6)])
    found = rank(always(scores), rows([0.0] * 6), judged, (k,), (k,))
    assert [found[f"ndcg_{k}"][0], found[f"recall_{k}"][0]] == pytest.approx(expected)


def test_a_constant_score_is_a_random_ranking_wherever_the_items_stand() -> None:
    judged = rows([1, 1] + [0] * 8, [0] * 8 + [1, 1])
    found = rank(always(np.zeros(10)), rows([0] * 10, [0] * 10), judged, (3,), (3,))
    assert found["recall_3"] == pytest.approx([2 * 3 / 10 / 2] * 2)
    assert found["ndcg_3"][0] == found["ndcg_3"][1]


def test_what_a_user_has_seen_takes_no_place() -> None:
    seen, judged = rows([1, 1, 0, 0]), rows([0, 0, 1, 0])
    assert rank(always(np.array([9.0, 8, 1, 0])), seen, judged, (1,), (1,)) == {"ndcg_1": [1], "recall_1": [1]}


def test_users_without_judged_items_are_left_out_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = csr_matrix(np.vstack([some_users(7).toarray(), np.eye(25)[:1], np.zeros((1, 25))]).astype(np.float32))
    seen, judged = fold_in(whole, seed=0)
    users = with_judged(judged).tolist()
    assert users == np.flatnonzero(np.diff(whole.indptr) >= 5).tolist()
    assert 5 <= len(users) < 9
    stored = judged.copy()
    stored.data[stored.indptr[0] : stored.indptr[1]] = 0
    assert with_judged(stored).tolist() == users[1:], "a stored zero is no item"
    weights = np.random.default_rng(0).normal(size=(25, 25))
    once = rank(lambda part: part @ weights, seen, judged)
    monkeypatch.setattr(ranking_figures, "CHUNK", 2)
    again = rank(lambda part: part @ weights, seen, judged)
    for name, values in once.items():
        np.testing.assert_allclose(again[name], values, rtol=1e-12)


def test_what_has_no_ranking_is_refused() -> None:
    seen, judged = rows([1, 0, 0]), rows([0, 1, 0])
    with pytest.raises(UserError, match="not finite"):
        rank(always(np.array([0, np.nan, 1])), seen, judged)
    with pytest.raises(UserError, match="already seen"):
        rank(always(np.zeros(3)), seen, rows([1, 1, 0]))


def test_a_paired_difference_has_the_error_of_the_differences() -> None:
    hard = np.random.default_rng(0).random(50)
    found = lead(hard + 0.1, hard, "lead")
    assert found["lead"] == pytest.approx(0.1)
    assert found["lead_stderr"] == pytest.approx(0, abs=1e-12)


def test_four_of_five_items_are_shown_and_the_rest_judged() -> None:
    whole = csr_matrix(np.array([[1.0] * n + [0.0] * (20 - n) for n in (0, 1, 4, 5, 9, 10, 20)]))
    seen, judged = fold_in(whole, seed=3)
    assert np.diff(judged.indptr).tolist() == [0, 0, 0, 1, 1, 2, 4]
    assert (seen + judged != whole).nnz == 0
    assert seen.multiply(judged).nnz == 0
    # A row is drawn by its own counters: the rows above it change nothing.
    np.testing.assert_array_equal(fold_in(whole[:5], seed=3)[1].toarray(), judged[:5].toarray())
    assert (fold_in(whole, seed=4)[1] != judged).nnz > 0


def scores_of(name: str, train: csr_matrix, seen: csr_matrix, number: int = 0) -> np.ndarray:
    return list(FITS[name](train, 0))[number].scores(seen)


def test_popularity_counts_users() -> None:
    train = rows([5, 0, 1], [1, 0, 0], [1, 1, 0])
    np.testing.assert_array_equal(scores_of("popularity", train, train[:2]), [[3, 1, 1]] * 2)


def test_ease_is_the_ridge_regression_of_every_item_on_the_others() -> None:
    train, penalty = some_users(60, 8).toarray().astype(np.float64), 20
    found = next(recommenders.ease(csr_matrix(train), penalties=(penalty,))).scores(csr_matrix(np.eye(8)))
    for item in range(8):
        others = np.delete(train, item, axis=1)
        slope = np.linalg.solve(others.T @ others + penalty * np.eye(7), others.T @ train[:, item])
        np.testing.assert_allclose(np.delete(found[:, item], item), slope, rtol=1e-6)
        assert found[item, item] == 0


def test_item_neighbours_are_cosines_cut_to_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recommenders, "BLOCK", 3)
    train = some_users(30, 8)
    unit = train.toarray() / np.linalg.norm(train.toarray(), axis=0)
    cosines = unit.T @ unit - np.eye(8)
    every, nearest = (c.scores(csr_matrix(np.eye(8))) for c in recommenders.item_neighbours(train, neighbours=(7, 2)))
    np.testing.assert_allclose(every, cosines, atol=1e-6)
    for item in range(8):
        np.testing.assert_allclose(np.sort(nearest[:, item])[-2:], np.sort(cosines[:, item])[-2:], rtol=1e-5)
        assert (nearest[:, item] > 0).sum() == 2


def test_pure_svd_is_the_projection_on_the_first_axes() -> None:
    train, seen = some_users(40, 12), some_users(3, 12, seed=5)
    axes = np.linalg.svd(train.toarray())[2][:4]
    found = list(recommenders.pure_svd(train, factors=(6, 4)))[1].scores(seen)
    np.testing.assert_allclose(found, seen.toarray() @ axes.T @ axes, atol=0.02)


def test_als_solves_the_weighted_ridge_regression_of_a_row() -> None:
    row, others = some_users(1, 12).toarray(), np.random.default_rng(0).normal(size=(12, 3))
    found = solve_factors(csr_matrix(row), others, confidence=4.0, penalty=0.5)[0]
    weight = np.diag(1 + 4.0 * row[0])
    expected = np.linalg.solve(others.T @ weight @ others + 0.5 * np.eye(3), others.T @ weight @ (row[0] > 0))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def two_tastes(users: int, seed: int) -> csr_matrix:
    """Users of two kinds, each liking half of the items of its own half: what is popular says little."""
    source = np.random.default_rng(seed)
    liked = source.random((users, 40)) < 0.5
    liked[: users // 2, 20:] = liked[users // 2 :, :20] = False
    return csr_matrix(liked.astype(np.float32))


def test_every_recommender_but_popularity_tells_two_tastes_apart() -> None:
    train, test = two_tastes(100, 0), fold_in(two_tastes(40, 1), 0)
    fitted = fit_recommenders(train, *fold_in(two_tastes(20, 2), 1), list(FITS), seed=0)
    recall = {name: rank(c.scores, *test, (), (20,))["recall_20"].mean() for name, c in fitted.items()}
    assert recall.pop("popularity") < 0.75
    assert set(recall) == {"item_knn", "pure_svd", "ease", "als"}
    assert min(recall.values()) > 0.85, recall


def test_a_setting_is_chosen_on_validation_users_alone() -> None:
    judged = rows([0, 0, 1, 0])
    worse, better = Candidate("worse", always(np.array([0.0, 3, 1, 2]))), Candidate("better", always(np.eye(4)[2]))
    seen = rows([1, 0, 0, 0])
    assert recommenders._best("ease", iter([worse, better]), seen, judged).setting == "better"
    assert recommenders._best("ease", iter([better, worse]), seen, judged).setting == "better"
    # Without anything to choose by, the first, whatever it is.
    assert recommenders._best("ease", iter([worse, better]), seen, 0 * judged).setting == "worse"


def test_ease_of_too_many_items_is_left_out_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recommenders, "MAX_ITEMS", 39)
    with caplog.at_level("INFO"):
        found = fit_recommenders(two_tastes(10, 0), *fold_in(two_tastes(6, 2), 1), ["ease", "popularity"], seed=0)
    assert set(found) == {"popularity"}
    assert "EASE is left out: 40 items are more than 39" in caplog.text
