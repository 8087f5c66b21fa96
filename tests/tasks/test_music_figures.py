"""Figures of piano rolls on constructed cases, and the classic models of frames."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from narrows.data.midi_files import LOWEST, PITCHES
from narrows.tasks.classics.music_models import LogisticFrames, Markov, RollPCA, drawn, nats
from narrows.tasks.measures.music_figures import (
    best_threshold,
    f1,
    likeness,
    note_counts,
    note_lengths,
    overlap,
    pitch_classes,
)

Roll = np.ndarray
C4 = 60 - LOWEST


def roll_of(notes: dict[int, list[int]], frames: int) -> Roll:
    roll = np.zeros((PITCHES, frames), np.uint8)
    for key, where in notes.items():
        roll[key, where] = 1
    return roll


def chains(n: int, frames: int, seed: int = 0) -> list[Roll]:
    """Rolls in which key C4 stays with 0.9 and comes with 0.2, and key C4 + 7 sounds just where C4 did before."""
    source = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        roll = np.zeros((PITCHES, frames), np.uint8)
        on = bool(source.random() < 2 / 3)
        for frame in range(frames):
            roll[C4 + 7, frame] = frame > 0 and roll[C4, frame - 1]
            roll[C4, frame] = on
            on = bool(source.random() < (0.9 if on else 0.2))
        found.append(roll)
    return found


def test_f1_is_of_all_notes_together() -> None:
    truth = [roll_of({0: [0, 1], 5: [1]}, 3), roll_of({7: [0]}, 1)]
    made = [roll_of({0: [0], 6: [1]}, 3), roll_of({7: [0]}, 1)]
    counts = note_counts(made, truth)
    assert counts.tolist() == [[1, 2, 3], [1, 1, 1]]
    assert f1(counts) == pytest.approx(2 * 2 / (3 + 4))
    assert f1(note_counts(truth, truth)) == 1
    assert math.isnan(f1(note_counts([roll_of({}, 2)], [roll_of({}, 2)])))


def test_the_threshold_is_the_best_on_what_it_is_chosen_by() -> None:
    truth = [roll_of({0: [0, 1, 2]}, 6)]
    values = np.zeros((PITCHES, 6))
    values[0] = [0.5, 0.41, 0.35, 0.3, 0.1, 0.05]
    found = best_threshold(lambda threshold: [(values > threshold).astype(np.uint8)], truth)
    assert 0.3 <= found < 0.35


def test_overlap_is_the_area_that_is_shared() -> None:
    assert overlap(np.array([1.0, 3.0]), np.array([2.0, 6.0])) == pytest.approx(1)
    assert overlap(np.array([1.0, 0.0]), np.array([0.0, 4.0])) == 0
    assert overlap(np.array([1.0, 1.0]), np.array([3.0, 1.0])) == pytest.approx(0.75)
    assert math.isnan(overlap(np.zeros(2), np.ones(2)))


def test_notes_are_runs_of_a_key() -> None:
    roll = roll_of({C4: [0, 1, 2, 5], C4 + 12: [5], C4 + 2: [3, 4]}, 6)
    assert note_lengths([roll], 6).tolist() == [2, 1, 1, 0, 0, 0]
    assert note_lengths([roll], 2).tolist() == [2, 2]
    classes = pitch_classes([roll])
    assert (classes[0], classes[2], classes.sum()) == (5, 2, 7)
    alike = likeness([roll], [roll])
    assert alike == {"pitch_class_overlap": pytest.approx(1), "note_length_overlap": pytest.approx(1)}


@pytest.mark.parametrize("order", [0, 1, 2])
def test_a_markov_chain_is_a_distribution_over_rolls(order: int) -> None:
    model = Markov([roll[:, :4] for roll in chains(20, 4)], order)
    # All rolls of two keys and three frames; the other keys are silent.
    keys, total = (C4, C4 + 7), 0.0
    for bits in itertools.product((0, 1), repeat=6):
        roll = roll_of({}, 3)
        roll[keys, :] = np.array(bits).reshape(2, 3)
        others = np.delete(model.probabilities(roll), keys, 0)
        total += math.exp(-nats(model, roll) - np.log1p(-others).sum())
    assert total == pytest.approx(1)


def test_classic_models_know_what_they_were_shown() -> None:
    train, test = ([roll[[C4, C4 + 7]] for roll in chains(200, 20, seed)] for seed in (0, 1))
    frames = sum(roll.shape[1] for roll in test)
    per_frame = {
        name: sum(nats(model, roll) for roll in test) / frames
        for name, model in {
            "marginals": Markov(train, 0),
            "one": Markov(train, 1),
            "two": Markov(train, 2),
            "logistic": LogisticFrames(train, test, 0),
        }.items()
    }
    entropy = [-(p * math.log(p) + (1 - p) * math.log(1 - p)) for p in (2 / 3, 0.9, 0.2)]
    # C4's chain, of which two thirds of the frames sound, and C4 + 7, which the frame before tells.
    chain = 2 / 3 * entropy[1] + 1 / 3 * entropy[2]
    assert per_frame["marginals"] == pytest.approx(2 * entropy[0], abs=0.06)
    # The first frame of a roll is told less.
    assert per_frame["one"] == pytest.approx(2 * chain, abs=0.1)
    assert per_frame["logistic"] == pytest.approx(chain, abs=0.1)
    assert per_frame["logistic"] < per_frame["two"] <= per_frame["one"] + 0.02
    assert per_frame["one"] < per_frame["marginals"]


def test_samples_have_the_statistics_of_their_model() -> None:
    model = Markov(chains(300, 20), 1)
    samples = drawn(model, 200, 20, np.random.default_rng(0))
    assert {roll.shape for roll in samples} == {(PITCHES, 20)}
    sounded = np.concatenate([roll[C4] for roll in samples]).mean()
    stayed = np.concatenate([roll[C4, 1:][roll[C4, :-1] == 1] for roll in samples]).mean()
    assert sounded == pytest.approx(2 / 3, abs=0.05)
    assert stayed == pytest.approx(0.9, abs=0.03)


def test_pca_of_rolls_is_that_of_their_covariance() -> None:
    rolls = [roll[:, : 1 + number % 3] for number, roll in enumerate(chains(40, 3))]
    from sklearn.decomposition import PCA

    rows = np.zeros((40, PITCHES, 3))
    for row, roll in zip(rows, rolls, strict=True):
        row[:, : roll.shape[1]] = roll
    slow = PCA(3).fit(rows.reshape(40, -1))
    wanted = slow.inverse_transform(slow.transform(rows.reshape(40, -1))).reshape(rows.shape)
    for found, row, roll in zip(RollPCA.fit(rolls, 3, 3).rebuilt(rolls), wanted, rolls, strict=True):
        np.testing.assert_allclose(found, row[:, : roll.shape[1]], atol=1e-4)
