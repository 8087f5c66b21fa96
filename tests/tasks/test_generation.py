"""Samples against data: the figures against closed forms and brute force, the extractor as a function of the data."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from instances import BOTTLENECKS, LIKELIHOODS, SERIES
from instances import model as small_model
from tasks.standins import Rows, context
from torch import Tensor

from narrows.errors import UserError
from narrows.models.autoencoder import Autoencoder
from narrows.tasks import generation
from narrows.tasks.base import TaskContext, run_tasks
from narrows.tasks.generation import Generation, frechet, kernel, nearest, precision_recall
from narrows.tasks.measures.feature_extractor import FEATURES, feature_extractor, name_of
from narrows.types import Batch

SPEC = {"kind": "image", "value_range": (0.0, 1.0), "fingerprint": "5ca1ab1e" * 8}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("narrows.tasks.measures.feature_extractor.STEPS", 150)
    return tmp_path / "narrows" / "extractors"


def bars(n: int, binary: bool = False) -> Batch:
    """A light row in the first class, a light column in the second, at a place of its own."""
    x = 0.1 * torch.rand(n, 1, 8, 8)
    label, place = torch.arange(n) % 2, torch.randint(8, (n,))
    for i in range(n):
        axis = (i, 0, place[i]) if label[i] == 0 else (i, 0, slice(None), place[i])
        x[axis] = 0.9 + 0.1 * torch.rand(8)
    return Batch(x.round() if binary else x, label=label)


def data(binary: bool = False, labels: bool = True) -> Rows:
    splits = {name: bars(n, binary) for name, n in (("train", 240), ("validation", 60), ("test", 60))}
    if not labels:
        splits = {name: replace(part, label=None) for name, part in splits.items()}
    return Rows(splits, batch_size=32, num_classes=2 if labels else None, **SPEC)


class Given(Autoencoder):
    """Gives these rows as samples, and every input as its reconstruction."""

    rows: Tensor
    generative = True

    def sample(self, n: int, given: object = None) -> Tensor:
        return self.rows[torch.randint(len(self.rows), (n,))]

    def reconstruct(self, batch: Batch | Tensor) -> Tensor:
        return Batch.of(batch).x


def giving(rows: Tensor) -> Given:
    network = small_model()
    network.__class__ = Given
    network.rows = rows
    return network


def judged(rows: Tensor, source: Rows | None = None, directory: Path | None = None) -> dict[str, float]:
    where = context(giving(rows), source or data())
    where.directory = directory
    return run_tasks({"g": Generation(samples=60, neighbours=60)}, where)


def test_frechet_distance_in_closed_form() -> None:
    torch.manual_seed(1)
    noise = torch.randn(20_000, FEATURES, dtype=torch.float64)
    whitened = noise - noise.mean(0)
    whitened = whitened @ torch.linalg.inv(torch.linalg.cholesky(whitened.T.cov()).T)
    assert frechet(whitened, whitened) == pytest.approx(0, abs=1e-3)
    shift, scale = 0.5, 1.5
    # |m|^2 + tr(I + s^2 I - 2 s I)
    expected = FEATURES * (shift**2 + (scale - 1) ** 2)
    assert frechet(whitened, scale * whitened + shift) == pytest.approx(expected, rel=1e-6)


def test_kernel_distance_is_unbiased_and_sees_a_difference() -> None:
    torch.manual_seed(2)
    one, other = torch.randn(2, 3000, FEATURES, dtype=torch.float64)
    mean, deviation = kernel(one, other)
    assert abs(mean) < 2 * deviation
    assert kernel(one, other + 0.3)[0] > 10 * deviation


@pytest.mark.parametrize("rows", [60, 300])
def test_the_spread_of_the_kernel_distance_is_that_of_fresh_subsets(rows: int) -> None:
    """Of few rows too: subsets that are all of them would agree to the last digit."""
    torch.manual_seed(4)
    _, spread = kernel(*torch.randn(2, rows, FEATURES, dtype=torch.float64))
    fresh = [kernel(*torch.randn(2, rows, FEATURES, dtype=torch.float64))[0] for _ in range(8)]
    assert 0.3 < spread / torch.tensor(fresh).std().item() < 10


def test_precision_and_recall_of_known_sets() -> None:
    torch.manual_seed(3)
    real = torch.cat([torch.randn(200, 3), torch.randn(200, 3) + 50])
    assert precision_recall(real, real) == (1.0, 1.0)
    half = real[:200] + 1e-3
    assert precision_recall(real, half) == (1.0, 0.5)
    assert precision_recall(real, real + 1e4) == (0.0, 0.0)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_balls_reach_to_the_kth_neighbour(k: int) -> None:
    real, fake = torch.randn(2, 60, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    fake = 1.5 * fake

    def covered(centres: torch.Tensor, points: torch.Tensor) -> float:
        found = 0
        for point in points:
            for i, centre in enumerate(centres):
                others = sorted(float((centre - other).norm()) for j, other in enumerate(centres) if j != i)
                if float((point - centre).norm()) <= others[k - 1]:
                    found += 1
                    break
        return found / len(points)

    assert precision_recall(real, fake, k) == pytest.approx((covered(real, fake), covered(fake, real)))
    near, far = precision_recall(real, fake, k), precision_recall(real, fake, k + 1)
    assert near[0] < far[0] < 1


def test_the_nearest_row_by_brute_force() -> None:
    rows, train = torch.rand(7, 1, 3, 4), torch.rand(6001, 1, 3, 4)
    distance, index = nearest(rows, train, torch.device("cpu"))
    slow = (rows[:, None] - train[None]).flatten(2).norm(dim=2)
    torch.testing.assert_close(distance, slow.min(1).values)
    assert torch.equal(index, slow.argmin(1))


def test_copies_are_found_out_and_new_data_is_not(tmp_path: Path) -> None:
    source = data()
    copies = judged(source.splits["train"].x, source, tmp_path)
    assert set(Generation.figures) <= copies.keys()
    fresh = judged(bars(240).x, source)
    assert copies["test/memorisation"] < 0.01
    assert fresh["test/memorisation"] == pytest.approx(1, abs=0.15)
    assert (tmp_path / "figures" / "nearest_training_rows.png").is_file()
    noise = judged(torch.rand(240, 1, 8, 8), source)
    for figures in (copies, fresh):
        assert figures["test/fid"] < 0.2 * noise["test/fid"]
        assert figures["test/precision"] > 0.5 > 0.2 > noise["test/precision"]
        assert figures["test/rfid"] == pytest.approx(0, abs=1e-3)
    # The classics and the floor are the same whatever the model.
    for name in ("pca/fid", "mixture/fid", "train/fid"):
        assert fresh[f"test/{name}"] == copies[f"test/{name}"] == noise[f"test/{name}"]
    assert fresh["test/train/fid"] < fresh["test/pca/fid"]


def test_figures_of_a_few_test_rows_are_of_all_classes_of_a_split_that_stands_class_by_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, asked = data(), list[Tensor]()
    test = source.splits["test"]
    x = test.x[test.label.argsort()]
    source.splits["test"] = replace(test, x=x, label=test.label.sort().values)
    monkeypatch.setattr(generation, "COPIES", 20)
    monkeypatch.setattr(generation, "nearest", lambda rows, *others: asked.append(rows) or nearest(rows, *others))
    where = context(giving(bars(400).x), source)
    for samples in (60, 40):
        found = run_tasks({"g": Generation(samples=samples, neighbours=30)}, where)
        assert found["test/rfid"] == pytest.approx(0, abs=1e-3), "rows and their reconstructions are the same ones"
    for rows in asked[1::3]:  # of samples, of test rows, of those that are shown
        assert len(rows) == 20
        first = sum(bool((x[:30] == row).flatten(1).all(1).any()) for row in rows)
        assert 2 <= first <= 18, "the first 30 rows are of one class"


def test_binary_data_are_compared_with_draws() -> None:
    source = data(binary=True)
    half = judged(torch.full((10, 1, 8, 8), 0.5), source)
    drawn = judged(torch.rand(240, 1, 8, 8).round(), source)
    assert half["test/fid"] == pytest.approx(drawn["test/fid"], rel=0.2)


def _extractor(source: Rows, seed: int = 0) -> dict[str, Tensor]:
    with torch.no_grad():
        return feature_extractor(context(small_model(), source, seed)).state_dict()


def test_the_extractor_is_a_function_of_the_data_alone(cache: Path) -> None:
    source = data()
    first = _extractor(source)
    assert float(first["accuracy"]) > 0.95
    (file,) = cache.glob("*/*.ckpt")
    assert name_of(context(small_model(), source)) in file.parent.name
    stamp = file.stat().st_mtime_ns
    again = _extractor(source, seed=7)
    assert file.stat().st_mtime_ns == stamp, "what is kept is not trained again"
    file.unlink()
    anew = _extractor(source, seed=7)
    for key, value in first.items():
        assert torch.equal(value, again[key])
        assert torch.equal(value, anew[key])


def test_features_have_unit_scale() -> None:
    source = data()
    network = feature_extractor(context(small_model(), source))
    with torch.no_grad():
        found = network(source.splits["validation"].x)
    assert found.shape == (60, FEATURES)
    assert float(found.square().mean()) == pytest.approx(1, rel=1e-5)


def test_data_without_classes_are_told_by_their_turns() -> None:
    source = data(labels=False)
    for part in source.splits.values():
        part.x[:, :, :3, :3] = 1.0
        part.x[:, :, 5:, 5:] = 0.0
    state = _extractor(source)
    assert state["head.weight"].shape[0] == 4
    assert "rotations" in name_of(context(small_model(), source))
    assert float(state["accuracy"]) > 0.95
    assert not math.isnan(judged(bars(100).x, source)["test/fid"])


def test_black_and_white_draws_of_the_same_data_have_an_extractor_of_their_own(cache: Path) -> None:
    for binary in (False, True):
        _extractor(data(binary=binary))
    black, grey = sorted(path.name for path in cache.iterdir())
    assert grey != black
    assert "binary" in black


def test_a_damaged_extractor_is_refused_by_name(cache: Path) -> None:
    source = data()
    _extractor(source)
    (file,) = cache.glob("*/*.ckpt")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"best\.ckpt is cut short"):
        _extractor(source)


def test_whom_it_does_not_suit() -> None:
    task = Generation()
    assert "not data of kind series" in str(
        task.fits(SERIES, small_model(SERIES, likelihood=LIKELIHOODS["gaussian_fixed"]))
    )
    plain = small_model(bottleneck=BOTTLENECKS["deterministic"])
    assert "has no prior to sample from" in str(task.fits(plain.spec, plain))
    with pytest.raises(UserError, match="samples must be at least 6"):
        Generation(samples=1)
    with pytest.raises(UserError, match="neighbours must be at least 4"):
        Generation(neighbours=3)
    with pytest.raises(UserError, match="no fingerprint"):
        feature_extractor(_unnamed())


def _unnamed() -> TaskContext:
    source = data()
    source.spec = replace(source.spec, fingerprint="")
    return context(small_model(), source)
