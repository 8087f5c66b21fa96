"""Derivatives, shares and ways whose answers are known; the task on a model that is the data's own law."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from instances import BOTTLENECKS, IMAGE, SERIES
from instances import model as small_model
from PIL import Image
from tasks.counts import known
from tasks.standins import PPCA, Rows, context
from torch import nn

from narrows.decoders.lstm import LSTMDecoder
from narrows.encoders.lstm import LSTMEncoder
from narrows.errors import UserError
from narrows.likelihoods.normal import GaussianLikelihood
from narrows.tasks.base import run_tasks
from narrows.tasks.interpretation import Interpretation, ranked
from narrows.tasks.measures import jacobians
from narrows.tasks.measures.latent_paths import class_means, linear, other_classes, shift, spherical
from narrows.types import Batch, DataSpec

# ── derivatives ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_jacobian_of_a_linear_decoder_is_its_matrix() -> None:
    truth = PPCA(dims=6, latents=3)
    model = truth.model().eval()
    z, x = torch.randn(5, 3), torch.randn(5, 6)
    found = torch.stack(list(jacobians.columns(lambda at: model.decode(at).mean, z)), dim=2)
    torch.testing.assert_close(found, truth.weight.expand(5, 6, 3))
    back = torch.stack(list(jacobians.rows(lambda at: model.encode(at).point, x)), dim=1)
    scale = truth.weight.square().sum(0) + truth.sigma**2
    torch.testing.assert_close(back, (truth.weight / scale).T.expand(5, 3, 6))


def test_jacobians_of_a_curved_function_against_autograd() -> None:
    network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    at = torch.randn(6, 3, dtype=torch.float64)
    slow = torch.stack([torch.autograd.functional.jacobian(network, row) for row in at])
    torch.testing.assert_close(torch.stack(list(jacobians.columns(network, at)), dim=2), slow)
    torch.testing.assert_close(torch.stack(list(jacobians.rows(network, at)), dim=1), slow)


def test_under_no_grad_through_a_recurrent_network_and_of_a_constant() -> None:
    network = small_model(
        SERIES,
        encoder=partial(LSTMEncoder, hidden=6),
        decoder=partial(LSTMDecoder, hidden=6),
        likelihood=GaussianLikelihood,
    ).eval()
    z = torch.randn(3, 5)
    with torch.no_grad():
        found = list(jacobians.columns(lambda at: network.decode(at).mean, z))
        constant = list(jacobians.columns(lambda at: torch.ones(len(at), 2), z))
    small = 1e-2
    near = [network.decode(z + sign * small * torch.eye(5)[2]).mean for sign in (1, -1)]
    torch.testing.assert_close(found[2], ((near[0] - near[1]) / (2 * small)).detach(), rtol=1e-2, atol=1e-4)
    assert [column.abs().sum() for column in constant] == [0] * 5


# ── ways ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_arc_keeps_the_norm_and_its_ends_in_equal_angles() -> None:
    start, end = torch.randn(2, 7, dtype=torch.float64)
    end = end * start.norm() / end.norm()
    way = spherical(start, end, 6)
    torch.testing.assert_close(way.norm(dim=1), start.norm().expand(6))
    torch.testing.assert_close(way[[0, -1]], torch.stack([start, end]))
    angles = torch.arccos((way[1:] * way[:-1]).sum(1) / start.norm() ** 2)
    torch.testing.assert_close(angles, angles.mean().expand(5))
    assert linear(start, end, 3)[1].norm() < 0.99 * start.norm()


@pytest.mark.parametrize("factor", [2.0, -1.0, 0.0])
def test_the_arc_between_ends_of_one_direction_is_straight(factor: float) -> None:
    start = torch.randn(4)
    torch.testing.assert_close(spherical(start, factor * start, 5), linear(start, factor * start, 5))


def test_a_shift_moves_one_class_s_mean_to_another_s() -> None:
    random = np.random.default_rng(0)
    label = random.integers(0, 3, 90)
    codes = random.normal(size=(90, 2)) + 5 * label[:, None]
    means = class_means(codes, label, 4)
    assert np.isnan(means[3]).all()
    target = other_classes(label, means, seed=1)
    assert not (target == label).any()
    assert set(target) == {0, 1, 2}
    moved = shift(codes, label, np.full(90, 2), means)
    for kind in range(3):
        np.testing.assert_allclose(moved[label == kind].mean(0), means[2])
    without_first = np.where(np.arange(4)[:, None] == 0, np.nan, 1.0) * np.ones((4, 2))
    assert set(other_classes(np.array([1] * 50 + [3] * 50), without_first, seed=0)) == {1, 2, 3}


# ── shares ──────────────────────────────────────────────────────────────────────────────────────────────


def test_effective_number_of_latents() -> None:
    assert ranked(np.ones(7))["effective_latents"] == pytest.approx(7)
    assert ranked(np.array([0, 3.0, 0])) == {"effective_latents": 1.0, "top_1_share": 1.0, "top_3_share": 1.0}
    half = ranked(np.array([2.0, 1, 1]))
    assert half["effective_latents"] == pytest.approx(math.exp(1.5 * math.log(2)))
    assert half["top_1_share"] == 0.5
    assert ranked(np.zeros(3))["effective_latents"] == 0


def drawn(truth: PPCA, n: int, classes: bool = True) -> Batch:
    """Examples of the model's own law; the class is the sign of the first latent, which classes pull apart."""
    label = torch.arange(n) % 2
    z = 0.5 * torch.randn(n, truth.weight.shape[1])
    z[:, 0] += 2.0 * (2 * label - 1)
    return Batch(x=z @ truth.weight.T + truth.bias, label=label if classes else None)


def data(truth: PPCA, classes: bool = True, **spec: object) -> Rows:
    splits = {name: drawn(truth, n, classes) for name, n in (("train", 600), ("validation", 200), ("test", 150))}
    return Rows(splits, batch_size=64, num_classes=2 if classes else None, **spec)


def test_all_figures_on_a_linear_model_are_those_of_its_components(tmp_path: Path) -> None:
    # Next to no noise, so that the posterior mean is the latent; orthogonal columns, which PCA finds.
    truth = PPCA(dims=6, latents=2, sigma=1e-3)
    names = ["height", "width", "weight", "age", "distance", "speed"]
    judged = context(truth.model(), data(truth, feature_names=names))
    judged.directory = tmp_path
    task = Interpretation(examples=40)
    found = run_tasks({"i": task}, judged)
    assert set(task.figures) <= set(found)
    assert all(np.isfinite(value) for value in found.values())
    for name in ("effective_latents", "top_1_share"):
        ours, pca = (found[f"test/interpretation/{kind}{name}"] for kind in ("", "pca/"))
        assert ours == pytest.approx(pca, rel=0.02), name
    # The first latent's variance is 4.25, the second's 0.25, with columns of length 1.5 and 0.7.
    expected = 4.25 * 1.5**2 / (4.25 * 1.5**2 + 0.25 * 0.7**2)
    assert found["test/interpretation/top_1_share"] == pytest.approx(expected, rel=0.02)
    assert found["test/interpretation/top_1_share_stderr"] == pytest.approx(0, abs=1e-5), "a linear model has one slope"
    assert found["test/interpretation/active_units"] == 2
    assert found["test/interpretation/judge_accuracy"] == 1
    assert found["test/interpretation/arithmetic"] > 0.97
    assert found["test/interpretation/pca/arithmetic"] > 0.97
    for name in ("sensitivity", "latent_saliency", "latent_traversal", "interpolation"):
        with Image.open(tmp_path / "figures" / f"{name}.png") as picture:
            assert min(picture.size) > 100
            assert len(picture.getcolors(2**20)) > 20
    listed = judged.texts["latent_features"].splitlines()[2:]
    axes = truth.weight.abs().mul(torch.tensor([4.25, 0.25]).sqrt()).T
    order = (truth.weight * torch.tensor([4.25, 0.25]).sqrt()).square().sum(0).argsort(descending=True)
    for line, unit in zip(listed, order.tolist(), strict=True):
        assert line.split(" | ")[2].removesuffix(" |").split()[0] == names[int(axes[unit].argmax())]
        assert set(line.split(" | ")[1].split()) == set(names)
    assert judged.warnings == []


def test_without_classes_there_is_no_arithmetic_and_the_answer_is_the_same_every_time() -> None:
    truth = PPCA(dims=6, latents=2, sigma=1e-3)
    rows = data(truth, classes=False)
    task = Interpretation(examples=20, rows=50)
    found = run_tasks({"i": task}, context(truth.model(), rows))
    assert not [key for key in found if "arithmetic" in key or "judge" in key]
    assert run_tasks({"i": task}, context(truth.model(), rows)) == found


def test_counts_are_decoded_at_their_own_library_sizes() -> None:
    """Rows of 5 to 500 counts, of two kinds of shares: at sizes that are drawn, no row would be rebuilt."""
    drawn = torch.Generator().manual_seed(0)
    kinds = torch.tensor([[0.4, 0.4, 0.1, 0.1], [0.1, 0.1, 0.4, 0.4]])

    def split(n: int) -> Batch:
        label, total = torch.arange(n) % 2, torch.randint(5, 500, (n, 1), generator=drawn)
        return Batch(torch.poisson(total * kinds[label], generator=drawn), label=label)

    splits = {name: split(n) for name, n in (("train", 200), ("validation", 80), ("test", 80))}
    data = Rows(splits, num_classes=2, kind="counts", value_range=(0.0, math.inf), totals=(5.0, 1.0))

    def second_half(x: torch.Tensor) -> torch.Tensor:
        return x[:, 2:].sum(1, keepdim=True) / x.sum(1, keepdim=True).clamp_min(1)

    def shares(z: torch.Tensor) -> torch.Tensor:
        return torch.cat([1 - z, 1 - z, z, z], 1).clamp(0.01, 0.99)

    judged = [context(known(data.spec, second_half, 1, shares), data) for _ in range(2)]
    found = [run_tasks({"i": Interpretation(examples=20)}, each) for each in judged]
    assert judged[0].warnings == []
    assert found[0] == found[1], "nothing is drawn"
    assert found[0]["test/interpretation/arithmetic"] > 0.8


def test_arithmetic_of_permuted_labels_is_chance() -> None:
    truth = PPCA(dims=6, latents=2, sigma=1e-3)
    rows = data(truth)
    for split in rows.splits.values():
        split.label = split.label[torch.randperm(len(split))]
    found = run_tasks({"i": Interpretation(examples=5)}, context(truth.model(), rows))
    assert found["test/interpretation/arithmetic"] == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(150))


@pytest.mark.parametrize("spec", [DataSpec((3, 6, 9), "image", 40), SERIES, DataSpec((9, 12), "series", 40)])
def test_every_kind_of_data_has_pictures(spec: DataSpec, tmp_path: Path) -> None:
    network = small_model(spec, likelihood=GaussianLikelihood)
    split = Batch(x=torch.rand(30, *spec.shape), label=torch.arange(30) % 3)
    rows = Rows(dict.fromkeys(("train", "validation", "test"), split), kind=spec.kind, num_classes=3)
    judged = context(network, rows)
    judged.directory = tmp_path
    assert run_tasks({"i": Interpretation(examples=6, shown=2, rows=20)}, judged)
    assert "WORSE THAN PREDICTING THE TRAINING MEAN" in judged.warnings[0]
    pictures = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert pictures == {"sensitivity", "latent_saliency", "latent_traversal", "interpolation"}


def test_what_it_does_not_fit_and_options_out_of_range() -> None:
    task = Interpretation()
    assert task.fits(DataSpec((8,), "tokens", 9), small_model()) == "tokens have no derivative"
    codes = small_model(bottleneck=BOTTLENECKS["vq"])
    assert task.fits(IMAGE, codes) == "its latents are codes, which do not move by degrees"
    wide = small_model(bottleneck=lambda shape: BOTTLENECKS["gaussian"](shape, dim=3000))
    assert task.fits(IMAGE, wide) == "3000 latents are more than 2048"
    for option in ("examples", "rows", "shown", "max_rows"):
        with pytest.raises(UserError, match=f"{option} must be at least 1, not 0"):
            Interpretation(**{option: 0})


# ── attributes of a CSV ─────────────────────────────────────────────────────────────────────────────────


class Numbered(Rows):
    """Rows that are numbered through all splits, or named."""

    def __init__(self, splits: dict[str, Batch], named: bool = False) -> None:
        super().__init__(splits, batch_size=64)
        starts = np.cumsum([0, *map(len, splits.values())])
        self.rows = {
            name: torch.arange(start, start + len(splits[name])) for name, start in zip(splits, starts, strict=False)
        }
        self.named = named

    def ordered_loader(self, split: str) -> Iterator[Batch]:
        start = 0
        for batch in super().ordered_loader(split):
            yield replace(batch, index=self.rows[split][start : start + len(batch)])
            start += len(batch)

    def part(self, split: str) -> SimpleNamespace:
        return SimpleNamespace(names=[f"{row}.png" for row in self.rows[split].tolist()] if self.named else None)


def attributed(named: bool = False) -> tuple[PPCA, Numbered, list[str]]:
    """Examples without labels; the CSV says which were on which side, of all but each seventh."""
    torch.manual_seed(0)
    truth = PPCA()
    splits = {name: drawn(truth, n) for name, n in (("train", 400), ("validation", 150), ("test", 80))}
    sides = torch.cat([batch.label for batch in splits.values() if batch.label is not None]).tolist()
    found = Numbered({name: Batch(batch.x) for name, batch in splits.items()}, named)
    lines = [f"{row}{'.png' if named else ''},{'' if row % 7 == 0 else side}" for row, side in enumerate(sides)]
    return truth, found, lines


@pytest.mark.parametrize("named", [False, True])
def test_arithmetic_on_attributes_of_a_csv(named: bool, tmp_path: Path) -> None:
    truth, rows, lines = attributed(named)
    table = tmp_path / "sides.csv"
    table.write_text("\n".join([f"{'file' if named else 'index'},right", *lines]))
    judged = context(truth.model().eval(), rows)
    judged.directory = tmp_path
    found = run_tasks({"i": Interpretation(examples=5, attributes=str(table))}, judged)
    assert found["test/interpretation/right/judge_accuracy"] > 0.95
    assert found["test/interpretation/right/arithmetic"] > 0.95
    assert found["test/interpretation/right/pca/arithmetic"] > 0.95
    assert "test/interpretation/arithmetic" not in found, "there are no classes"
    assert (tmp_path / "figures" / "attribute_right.png").is_file()
    assert judged.warnings == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("row,right\n0,1\n", "names the columns: 'file' .* or 'index' .*; it holds row, right"),
        ("index\n0\n", "then one or more attributes"),
        ("index,a b\n0,1\n", "has the attribute 'a b': each has a name of its own"),
        ("index,right\n0,yes\n", "row 2 of .* is no index and 1 cells of 0, 1 or nothing"),
        ("index,right\nzero,1\n", "row 2 of .* has the index 'zero', which is no row number"),
        ("index,right\n0,1\n0,1\n", "row 3 of .* gives index 0 again"),
        ("index,right\n9999,1\n", "no example has any index that .* gives, such as 9999; the first of training is 0"),
        ("file,right\na.png,1\n", "these examples have no file names; give the rows by 'index'"),
        ("index,right\n0,1\n1,1\n", "attribute 'right' is 1 of 2 and 0 of 0 train examples, and needs both there"),
    ],
)
def test_a_csv_that_says_nothing_is_refused_in_one_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    truth, rows, _ = attributed()
    (tmp_path / "a.csv").write_text(text)
    task = Interpretation(examples=5, attributes=str(tmp_path / "a.csv"))
    with pytest.raises(UserError, match=sentence):
        task.run(context(truth.model().eval(), rows))


def test_a_name_of_two_pictures_is_refused(tmp_path: Path) -> None:
    """Names begin below the folder of a split, so that train/0.png and test/0.png are both 0.png."""
    truth, rows, lines = attributed(named=True)
    (tmp_path / "a.csv").write_text("\n".join(["file,right", *lines]))
    rows.rows["test"] = rows.rows["train"][: len(rows.rows["test"])]
    task = Interpretation(examples=5, attributes=str(tmp_path / "a.csv"))
    with pytest.raises(UserError, match=r"the file 0\.png of .* is both a picture of training and one of the test"):
        task.run(context(truth.model().eval(), rows))
