"""Synthetic rows in the place of real ones: every figure on cases whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from tasks.standins import Always, Rows, Same, context
from torch import Tensor

from narrows.bottlenecks.deterministic import Deterministic
from narrows.corruptions import NoCorruption
from narrows.errors import UserError
from narrows.likelihoods.table_row import MixedLikelihood
from narrows.models.autoencoder import Autoencoder
from narrows.models.stages import Stages
from narrows.tasks import Synthetic
from narrows.tasks.classics.latent_correlations import latent_correlations
from narrows.tasks.classics.row_samplers import ROW_SAMPLERS, bootstrap, copula, smote
from narrows.tasks.measures.mixed_rows import MixedRows, RowColumn, cells_of, columns_of, spread
from narrows.tasks.measures.synthetic_figures import (
    Closeness,
    association_difference,
    associations,
    detection_auc,
    marginal_distances,
)
from narrows.tasks.measures.train_and_test import accuracies
from narrows.types import Batch, Column

COLUMNS = [RowColumn("height"), RowColumn("weight"), RowColumn("colour", 3, ("a", "b", "c")), RowColumn("class", 2)]


def rows(n: int, seed: int = 0) -> MixedRows:
    """Two classes that weight and colour tell, and a height that belongs to the weight."""
    random = np.random.default_rng(seed)
    label = random.integers(2, size=n)
    weight = 3.0 * label + random.normal(size=n)
    colour = np.where(random.random(n) < 0.8, label, 2)
    return MixedRows(COLUMNS, np.stack([2 * weight + 0.1 * random.normal(size=n), weight, colour, label], 1), 3)


def shifted(made: MixedRows, by: float) -> MixedRows:
    return made.like(np.where(made.numeric, made.values + by, made.values))


def test_marginals_are_equal_or_apart() -> None:
    real = rows(500)
    assert marginal_distances(real, real).tolist() == [0, 0, 0, 0]
    assert marginal_distances(real, shifted(real, 100.0)).tolist() == [1, 1, 0, 0]
    others = real.like(np.where(np.arange(4) == 3, 1 - real.values, real.values))
    share = real.label.mean()
    assert marginal_distances(real, others)[3] == pytest.approx(abs(1 - 2 * share))


def test_associations_of_known_columns() -> None:
    """Rank correlation, Cramér's V and the correlation ratio: 1 of equal columns, 0 of independent ones."""
    random = np.random.default_rng(0)
    number, codes, n = random.normal(size=4000), random.integers(3, size=4000), 4000
    columns = [
        RowColumn("x"),
        RowColumn("-exp"),
        RowColumn("a", 3),
        RowColumn("b", 4),
        RowColumn("still"),
        RowColumn("by", 0),
    ]
    values = np.stack([number, -np.exp(number), codes, (codes + 1) % 3, np.ones(n), codes * 10.0], 1)
    found = associations(MixedRows(columns, values, 2))
    assert found[0, 1] == pytest.approx(-1)
    assert found[2, 3] == pytest.approx(1)
    assert found[2, 5] == pytest.approx(1)
    assert abs(found[0, 2]) < 0.05
    assert np.array_equal(found, found.T)
    assert not found[4, :4].any()
    table = np.array([[30.0, 10], [20, 40]])
    cells = np.concatenate([np.tile([a, b], (int(table[a, b]), 1)) for a in (0, 1) for b in (0, 1)])
    phi = (30 * 40 - 10 * 20) / np.sqrt(40 * 60 * 50 * 50)
    by_hand = associations(MixedRows([RowColumn("a", 2), RowColumn("b", 2)], cells.astype(float), 1))[0, 1]
    assert by_hand == pytest.approx(phi)
    real = rows(300)
    assert association_difference(real, real) == 0
    mixed = np.stack([random.permutation(column) for column in real.values.T], 1)
    assert association_difference(real, real.like(mixed)) > 0.5


def test_training_rows_are_not_detected_and_shifted_ones_are() -> None:
    train, test = rows(300, 1), rows(300, 2)
    assert detection_auc(test, train, 0) == pytest.approx(0.5, abs=0.08)
    assert detection_auc(test, shifted(train, 50.0), 0) == 1
    assert detection_auc(test.take(np.arange(9)), train, 0) is None


def test_rows_sorted_by_class_are_drawn_from_all_of_them() -> None:
    train, test = rows(300, 1), rows(600, 2)
    test = test.take(np.argsort(test.values[:, 0], kind="stable"))
    assert detection_auc(test, train, 0) == pytest.approx(0.5, abs=0.08)
    assert Closeness(train, test, 0).figures(rows(300, 3))["closer_to_train"] == pytest.approx(0.5, abs=0.08)


def test_copies_lie_at_the_training_rows() -> None:
    train, test, fresh = rows(300, 1), rows(300, 2), rows(300, 3)
    closeness = Closeness(train, test, 0)
    copies, new, leaked = (closeness.figures(made) for made in (train, fresh, test))
    assert copies["closer_to_train"] > 0.98
    assert copies["closest"] == 0
    assert new["closer_to_train"] == pytest.approx(0.5, abs=0.08)
    assert new["closest"] == pytest.approx(1, abs=0.25)
    assert leaked["closer_to_train"] < 0.02


def test_a_copy_is_worth_what_the_rows_are() -> None:
    train, test = rows(200, 1), rows(200, 2)
    real, copied = accuracies(train, test, "trtr", 3), accuracies(train, test, "tstr", 3)
    assert list(copied.values()) == list(real.values())
    assert set(copied) == {"tstr", "tstr_balanced", "tstr_logistic", "tstr_forest", "tstr_boosting"}
    assert copied["tstr"] > 0.85
    other = train.values.copy()
    other[:, 3] = 1 - other[:, 3]
    assert accuracies(train.like(other), test, "tstr", 3)["tstr"] < 0.2
    single = train.take(np.flatnonzero(train.label == 0))
    assert accuracies(single, test, "tstr", 3)["tstr_balanced"] == 0.5


def test_a_copula_keeps_marginals_and_dependence() -> None:
    """Of a Gaussian itself the correlation comes back; categories keep their shares."""
    train = rows(3000, 1)
    made = copula(train, 3000, np.random.default_rng(0))
    assert marginal_distances(train, made).max() < 0.04
    assert associations(made)[0, 1] == pytest.approx(associations(train)[0, 1], abs=0.02)
    assert set(np.unique(made.values[:, 0])) <= set(np.unique(train.values[:, 0]))
    accuracy = accuracies(made, rows(500, 2), "tstr", 0)["tstr"]
    assert 0.8 < accuracy <= accuracies(train, rows(500, 2), "trtr", 0)["trtr"] + 0.02


@pytest.mark.parametrize("correlation", [-0.9, -0.3, 0.0, 0.6])
def test_a_copula_finds_the_gaussian_behind_cells(correlation: float) -> None:
    """Of numbers, of a category of two and of four different numbers: they depend on each other as strongly as in
    training, and the correlation that they were cut from comes back."""
    n, random = 6000, np.random.default_rng(0)
    z = random.multivariate_normal(np.zeros(3), np.full((3, 3), correlation**2) + (1 - correlation**2) * np.eye(3), n)
    z[:, 0] *= -1 if correlation < 0 else 1
    cut = np.stack([np.exp(z[:, 0]), z[:, 1] > 0.5, np.digitize(z[:, 2], [-1.0, 0.2, 1.5])], 1).astype(float)
    found = latent_correlations(cut)[[0, 0, 1], [1, 2, 2]]
    square = correlation**2
    sign = -1 if correlation < 0 else 1
    np.testing.assert_allclose(found, [sign * square, sign * square, square], atol=0.05)
    train = MixedRows([RowColumn("x"), RowColumn("two", 2), RowColumn("four")], cut, 1)
    made = copula(train, n, random)
    assert association_difference(train, made) < 0.04
    assert latent_correlations(np.ones((9, 2))).tolist() == [[1, 0], [0, 1]], "what never varies says nothing"


def test_smote_lies_between_neighbours_of_a_class() -> None:
    train = rows(200, 1)
    made = smote(train, 400, np.random.default_rng(0))
    assert made.label.mean() == pytest.approx(train.label.mean(), abs=0.1)
    for kind in (0, 1):
        mine, theirs = (one.values[one.label == kind] for one in (made, train))
        assert (mine.min(0) >= theirs.min(0)).all()
        assert (mine.max(0) <= theirs.max(0)).all()
        assert set(mine[:, 2]) <= set(theirs[:, 2])
    assert Closeness(train, rows(200, 2), 0).figures(made)["closest"] < 0.8
    lonely = train.take(np.array([*np.flatnonzero(train.label == 0)[:20], np.flatnonzero(train.label == 1)[0]]))
    again = smote(lonely, 200, np.random.default_rng(0))
    assert (again.values[again.label == 1] == lonely.values[-1]).all()


def test_a_bootstrap_has_a_tenth_of_the_spread_as_noise() -> None:
    train = rows(50, 1)
    made = bootstrap(train, 4000, np.random.default_rng(0))
    nearest = np.abs(made.values[:, None, 3] - train.values[None, :, 3]).min(1)
    assert not nearest.any()
    variance = train.values[:, 0].var() * 1.01
    assert made.values[:, 0].var() == pytest.approx(variance, rel=0.1)


LAYOUT = [Column("height", "numeric"), Column("colour", "categorical", 4), Column("paid", "binary")]
NAMES = ["height", "colour=a", "colour=b", "colour=c", "colour=(other)", "paid"]


class Copies(Autoencoder):
    """Draws training rows of the class that is asked for."""

    rows: Batch
    told = True
    generative = True

    def classes(self, n: int) -> Tensor | None:
        return torch.arange(n) % 2 if self.told else None

    def draw(self, n: int, label: Tensor | None = None) -> Tensor:
        if label is None:
            return self.rows.x[torch.randint(len(self.rows), (n,))]
        assert self.rows.label is not None
        chosen = [torch.multinomial((self.rows.label == kind).float(), 1) for kind in label.tolist()]
        return self.rows.x[torch.cat(chosen)]

    def point_at(self, z: Tensor, given: Any = None, *, draw: bool = False, temperature: float = 1.0) -> Tensor:
        assert draw
        return z


def table(n: int, seed: int, gaps: bool = False) -> Batch:
    made = rows(n, seed)
    cells = np.stack([made.values[:, 0], made.values[:, 2], made.values[:, 1] > 1], 1)
    x, observed = spread(cells, LAYOUT), torch.ones(n, 6, dtype=torch.bool)
    assert np.array_equal(cells_of(x, LAYOUT), cells.astype(np.float32))
    if gaps:
        observed[::2, 1:5] = False
        x[::2, 1:5] = torch.tensor([0.2, 0.3, 0.5, 0.0])
    return Batch(x, label=torch.from_numpy(made.label), observed=observed if gaps else None)


def stand_in(gaps: bool = False, told: bool = True) -> tuple[Copies, Rows]:
    sizes = {"train": 400, "test": 300} if gaps else {"train": 120, "test": 90}
    splits = {name: table(n, seed, gaps) for seed, (name, n) in enumerate(sizes.items())}
    data = Rows(splits, batch_size=50, columns=LAYOUT, feature_names=NAMES, num_classes=2)
    stages = Stages(
        Same, partial(Deterministic, dim=2), partial(Always, values=torch.zeros(6)), MixedLikelihood, NoCorruption
    )
    model = Copies(data.spec, stages)
    model.rows, model.told = table(sizes["train"], 0), told  # whole rows, as a model draws them
    return model, data


def test_copies_of_training_rows_are_worth_the_same_and_found_out() -> None:
    model, data = stand_in()
    found = Synthetic().run(context(model, data)).named()
    assert found["test/synthetic/tstr"] == pytest.approx(found["test/synthetic/trtr"], abs=0.05)
    assert found["test/synthetic/closest"] == 0
    assert found["test/synthetic/closer_to_train"] > 0.6
    assert found["test/synthetic/marginals"] < 0.1
    assert {f"test/synthetic/{name}/tstr" for name in ROW_SAMPLERS} <= set(found)
    assert set(Synthetic().figures) <= set(found)
    again = Synthetic(max_rows=60, classics=False).run(context(model, data)).named()
    assert not any(name in again for name in ("test/synthetic/copula/tstr", "test/synthetic/smote/tstr"))


def test_gaps_are_no_giveaway_and_a_column_may_be_the_class(tmp_path: Any) -> None:
    model, data = stand_in(gaps=True)
    judged = replace(context(model, data), directory=tmp_path)
    found = Synthetic(target="paid", classics=False).run(judged).named()
    assert found["test/synthetic/detection_auc"] < 0.65
    assert found["test/synthetic/tstr"] > 0.8
    assert (tmp_path / "figures" / "synthetic_marginals.png").is_file()
    assert "| colour | total variation |" in judged.texts["synthetic"]


def test_what_cannot_be_judged_is_left_out_and_mistakes_are_refused() -> None:
    model, data = stand_in(told=False)
    assert "samples are of no class" in str(Synthetic().fits(data.spec, model))
    assert Synthetic(target="paid").fits(data.spec, model) is None
    assert "no classes" in str(Synthetic().fits(replace(data.spec, num_classes=None), model))
    with pytest.raises(UserError, match="target=payd: did you mean 'paid'"):
        Synthetic(target="payd").check(data.spec)
    with pytest.raises(UserError, match="target=height is a column of numbers"):
        Synthetic(target="height").check(data.spec)
    with pytest.raises(UserError, match="max_rows must be at least 2"):
        Synthetic(max_rows=1)
    assert [column.texts for column in columns_of(LAYOUT, NAMES, 6)] == [(), ("a", "b", "c", "(other)"), ("0", "1")]
