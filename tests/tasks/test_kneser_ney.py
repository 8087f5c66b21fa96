"""Kneser-Ney: by hand, as a distribution, and where it must win."""

from __future__ import annotations

import numpy as np
import pytest

from narrows.errors import UserError
from narrows.tasks.classics.kneser_ney import FALLBACK, KneserNey, discounts

A, B, C = 0, 1, 2


def rows(*of: list[int]) -> list[np.ndarray]:
    return [np.array(row) for row in of]


def test_a_tiny_case_by_hand() -> None:
    """Bigrams of `a b` twice and `a c`, vocabulary a, b, c; `.` is the mark before a row. The counts of bigrams are 3
    (. a), 2 (a b) and 1 (a c): y = 1 / (1 + 2), and the discounts are 1 - 2 / 3, 2 - 3 / 3 and 3. Those of unigrams are
    all 1, from which no discount can be told: it is 0.5."""
    model = KneserNey(2, 3).fit(rows([A, B], [A, B], [A, C]))
    # Unigrams count what stands before: a after ., b after a, c after a, one each. 0.5 of 1 is kept, 1.5 / 3 is left.
    unigram = np.array([0.5, 0.5, 0.5]) / 3 + 1.5 / 3 / 3
    np.testing.assert_allclose(unigram, 1 / 3)
    # After a: b twice, c once, of 3: 2 - 1 and 1 - 1/3 are kept, 1 + 1/3 is left.
    np.testing.assert_allclose(model.after([A]), np.array([0, 1, 2 / 3]) / 3 + 4 / 9 * unigram)
    # Before everything a, three times of 3: nothing is kept.
    np.testing.assert_allclose(model.after([]), unigram)
    # After b, which was never a context: the unigrams.
    np.testing.assert_allclose(model.after([B]), unigram)
    np.testing.assert_allclose(model.nats(rows([A, B])), [-np.log(1 / 3) - np.log(1 / 3 + 4 / 27)])


def test_the_discounts_are_those_of_the_counts_of_counts() -> None:
    counts = np.repeat([1, 2, 3, 4, 9], [10, 5, 3, 2, 1])
    share = 10 / (10 + 2 * 5)
    expected = (1 - 2 * share * 5 / 10, 2 - 3 * share * 3 / 5, 3 - 4 * share * 2 / 3)
    assert discounts(counts) == pytest.approx(expected)
    assert discounts(np.array([1, 1, 2])) == FALLBACK


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_it_is_a_distribution_after_every_history(order: int) -> None:
    source = np.random.default_rng(0)
    text = [source.integers(0, 6, source.integers(1, 20)) for _ in range(60)]
    model = KneserNey(order, 7).fit(text)  # one token is never met
    for history in ([], [2], [6], [1, 2, 3, 4, 5, 0], [0, 0, 6, 0], list(text[0][:4])):
        found = model.after(history)
        assert found.sum() == pytest.approx(1)
        assert (found > 0).all()
    row = text[3]
    by_steps = -sum(np.log(model.after(list(row[:step]))[row[step]]) for step in range(len(row)))
    assert model.nats([row])[0] == pytest.approx(by_steps)


def test_longer_histories_help_where_the_text_has_them_and_unseen_ones_do_no_harm() -> None:
    source = np.random.default_rng(1)
    # Each token follows from the two before it, but for one in ten.
    text = []
    for _ in range(400):
        row = [0, 1]
        while len(row) < 15:
            row.append((row[-1] + 2 * row[-2] + 1) % 5 if source.random() < 0.9 else int(source.integers(5)))
        text.append(np.array(row))
    nats = {order: KneserNey(order, 5).fit(text[:300]).nats(text[300:]).mean() for order in (1, 2, 3, 4)}
    assert nats[3] < 0.6 * nats[1]
    assert nats[3] < nats[2] < 1.02 * nats[1]
    assert nats[4] < 1.1 * nats[3]
    with pytest.raises(UserError, match="an order of at least 1"):
        KneserNey(0, 5)
