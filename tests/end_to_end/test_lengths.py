"""Figures of examples that differ in length: padding is no part of any, wherever a batch ends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command import TINY, run_in_process

from narrows.commands import score
from narrows.loading import OpenRun

SMALL = ("encoder.hidden=8", "decoder.hidden=8", "bottleneck.dim=3", "datamodule.loading.eval_batch_size=3")
MUSIC = (
    "datamodule=music",
    "datamodule.source.path=own.npz",
    "variant=sequential_vae",
    "encoder=gru",
    "decoder=gru_ar",
)


def rolls(count: int, longest: int) -> dict[str, np.ndarray]:
    source, found = np.random.default_rng(0), {}
    for number in range(count):
        frames = int(source.integers(3, 20))
        found[f"p{number:02d}"] = (source.random((88, frames)) < 0.2).astype(np.uint8)
    found["test_long"] = (source.random((88, longest)) < 0.2).astype(np.uint8)
    found["test_short"] = found["test_long"][:, :4]
    return found


@pytest.mark.parametrize("longest", [12, 40])
def test_padding_is_no_part_of_any_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, longest: int) -> None:
    """Padded frames counted as rebuilt ones, and PCA ended the run where a batch was shorter than the longest piece."""
    monkeypatch.chdir(tmp_path)
    pieces = rolls(12, longest)
    np.savez("own.npz", **pieces)
    few = [one for one in TINY if "eval_batch_size" not in one and "limit_test" not in one]
    done = run_in_process(*MUSIC, *SMALL, *few, "~tasks.latent", "hydra.run.dir=run", cwd=tmp_path)
    assert done.code == 0, done.err
    figures = json.loads(Path("run/metrics.json").read_text())
    opened = OpenRun(tmp_path / "run")
    opened.find_data()
    squared, cells, each = 0.0, 0, {}
    for batch in opened.data.ordered_loader("test"):
        with torch.no_grad():
            made = opened.model.eval().reconstruct(batch)
        for guess, truth, length in zip(made, batch.x, batch.length.tolist(), strict=True):
            errors = (guess - truth)[:, :length].square()
            squared, cells = squared + float(errors.sum()), cells + errors.numel()
            each[length] = float(errors.mean())
    assert figures["test/mse"] == pytest.approx(squared / cells, rel=1e-4)
    # The training mean of a frame is that of the pieces that reach it; behind the last one it is 0.
    rows = opened.data._split("train").rows.tolist()
    names = [name for name in pieces if not name.startswith("test")]
    sums, counts = np.zeros((88, max(40, longest))), np.zeros(max(40, longest))
    for row in rows:
        roll = pieces[names[row]]
        sums[:, : roll.shape[1]] += roll
        counts[: roll.shape[1]] += 1
    mean = sums / np.maximum(counts, 1)
    gaps = [(pieces[name] - mean[:, : pieces[name].shape[1]]) ** 2 for name in ("test_long", "test_short")]
    expected = sum(gap.sum() for gap in gaps) / sum(gap.size for gap in gaps)
    assert figures["test/mean/mse"] == pytest.approx(expected, rel=1e-4)
    np.savez("new.npz", short=pieces["test_short"], long=pieces["test_long"])
    score.main(["run", "new.npz", "-o", "scores.csv"])
    scores = pd.read_csv("scores.csv").set_index("name")["score"]
    np.testing.assert_allclose([scores["short"], scores["long"]], [each[4], each[longest]], rtol=1e-4)


def test_usual_errors_are_of_the_examples_that_reach_a_step() -> None:
    """Batches of different lengths could not be added up."""
    from narrows.tasks.measures.anomaly_scores import standardised_mse, usual_errors
    from narrows.types import Batch

    class Zeros:
        def reconstruct(self, batch: Batch) -> torch.Tensor:
            return torch.zeros_like(batch.x)

    short, long = torch.full((2, 1, 3), 2.0), torch.full((1, 1, 5), 4.0)
    batches = [Batch(short, length=torch.tensor([3, 2])), Batch(long, length=torch.tensor([5]))]
    usual = usual_errors(Zeros(), batches, 6)  # type: ignore[arg-type]
    by_hand = [(4 + 4 + 16) / 3] * 2 + [(4 + 16) / 2] + [16.0] * 2
    np.testing.assert_allclose(usual[0], [*by_hand, np.mean(by_hand)])
    found = standardised_mse(torch.zeros_like(short), short, batches[0].judged, usual)
    np.testing.assert_allclose(found, [np.mean([4 / one for one in by_hand[:3]]), np.mean([0.5, 0.5])])
