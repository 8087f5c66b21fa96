"""Task synthetic: what samples of a model are worth in the place of the rows that it was trained on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.compare.figure_names import CLASSICS, MODEL
from narrows.errors import UserError, nearest, require, require_at_least
from narrows.models.autoencoder import Autoencoder
from narrows.random import derive, seed_default
from narrows.tasks.base import Task, TaskContext, counts_have_no
from narrows.tasks.classics.row_samplers import ROW_SAMPLERS
from narrows.tasks.figure_table import FigureTable, declared
from narrows.tasks.measures.chosen_rows import sampled
from narrows.tasks.measures.mixed_rows import MixedRows, RowColumn, cells_of, columns_of, spread
from narrows.tasks.measures.synthetic_figures import (
    Closeness,
    association_difference,
    detection_auc,
    marginal_distances,
)
from narrows.tasks.measures.train_and_test import accuracies
from narrows.types import Batch, DataSpec, Given

log = logging.getLogger(__name__)

CHUNK = 500
CLASS = "class"
MOST_COLUMNS = 200
"""Columns above which associations are left out: every two of them are compared."""
LISTED = 30


class Synthetic(Task):
    """As many samples as training rows, judged in their place (`test/synthetic/...`), beside the same figures of the
    classics: a Gaussian copula (`.../copula/...`), SMOTE (`.../smote/...`) and a bootstrap with noise
    (`.../bootstrap/...`); see `tasks.classics.row_samplers`.

    - tstr: test accuracy of classifiers trained on synthetic rows, the mean of logistic regression, a random forest and
      gradient boosting (`tstr_logistic`, ...); trtr: of the same ones trained on the real rows ("Real-valued (Medical)
      Time Series Generation with Recurrent Conditional GANs", Esteban et al., 2017). `tstr_balanced` is the mean
      over the classes.
    - detection_auc: how well a forest tells synthetic rows from test rows; 0.5 is best.
    - closer_to_train: share of synthetic rows nearer to a training row than to one of as many test rows; 0.5 is best,
      and more means that training rows are copied. closest: distance to the nearest training row over that of test
      rows; far below 1, the samples are copies.
    - marginals, associations: mean distance of columns, and of every two columns' dependence, from the training rows'
      (`tasks.measures.synthetic_figures`); each column's is in `figures/synthetic.md`, drawn in
      `figures/synthetic_marginals.png`.

    The class is the data's label, by the shares of the training rows, of a model whose samples have a class
    (variant=conditional_vae, or density=by_class); or a column that the model itself draws (`target`). Samples of a
    table are rounded and clipped as `narrows sample` writes them, and all are given the gaps of training rows, filled
    with their means. Vectors are draws of p(x|z); pictures and series its means.

    Args:
        target: name of a column of categories whose value is told from the others; null for the data's label.
        max_rows: training rows, synthetic rows and test rows, at most; null for all.
        classics: whether to judge the classics too.

    Raises:
        UserError: an unknown target, or one that is no category.
    """

    name = "synthetic"
    figures = declared(("tstr", "trtr", "marginals"), heading="synthetic")

    def __init__(self, *, target: str | None = None, max_rows: int | None = 10_000, classics: bool = True) -> None:
        require_at_least(2, "task synthetic:", max_rows=max_rows)
        self.target, self.max_rows, self.classics = target, max_rows, classics

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        if spec.kind == "tokens" or spec.variable:
            return "tokens and examples that differ in length are no rows of a table"
        if spec.kind == "features":
            return "features of a frozen network are not drawn"
        if not model.generative:
            return (
                f"bottleneck {type(model.bottleneck).__name__} has no prior to sample from; density=by_class fits one"
            )
        return counts_have_no("classifiers here", spec) or self._without_class(spec, model)

    def _without_class(self, spec: DataSpec, model: Autoencoder) -> str | None:
        if self.target is not None:
            return None
        if spec.num_classes is None:
            return "the data have no classes; task.target names a column in their place"
        if spec.trained_labels is not None and len(spec.trained_labels) < 2:
            return "training was restricted to one class"
        if model.classes(1) is None:
            return "its samples are of no class: use variant=conditional_vae or density=by_class, or name a task.target"
        return None

    def check(self, spec: DataSpec) -> None:
        if self.target is None:
            return
        known = {column.name: column.kind for column in spec.columns or []}
        require(
            self.target in known,
            f"task synthetic: target={self.target}: "
            + (nearest(self.target, known) if known else "the data have no named columns"),
        )
        require(
            known[self.target] != "numeric",
            f"task synthetic: target={self.target} is a column of numbers, which no classifier tells",
        )

    def run(self, context: TaskContext) -> FigureTable:
        self.check(context.spec)
        reader = _Reader(context, self.target)
        train, gaps = reader.read("train", self.max_rows)
        test, _ = reader.read("test", self.max_rows)
        made = {MODEL: reader.drawn(train, gaps)}
        if self.classics:
            for name, sampler in ROW_SAMPLERS.items():
                random = np.random.default_rng(derive(context.seed, "synthetic", name))
                made[name] = reader.written(sampler(train, len(train), random))
        log.info("task synthetic: %d rows of %d columns, %d test rows", len(train), len(train.columns), len(test))
        found = self._judge(context, train, test, made)
        _show(context, reader, train, made)
        return found

    def _judge(
        self, context: TaskContext, train: MixedRows, test: MixedRows, made: Mapping[str, MixedRows]
    ) -> FigureTable:
        seed = derive(context.seed, "synthetic figures") % 2**32
        closeness = Closeness(train, test, seed)
        found, marginals = FigureTable(self.name), {}
        for method, rows in made.items():
            found.add(accuracies(rows, test, "tstr", seed), method)
            marginals[method] = marginal_distances(train, rows)
            found.add({"marginals": float(marginals[method].mean())}, method)
            if len(train.columns) <= MOST_COLUMNS:
                found.add({"associations": association_difference(train, rows)}, method)
            auc = detection_auc(test, rows, seed)
            found.add({} if auc is None else {"detection_auc": auc}, method)
            found.add(closeness.figures(rows), method)
            log.info("task synthetic: %s: accuracy %.4f", method, found.row(method)["tstr"])
        found.add(accuracies(train, test, "trtr", seed))
        context.write("synthetic", _told(train, marginals))
        return found


class _Reader:
    """Splits and samples of a model as rows with a class."""

    def __init__(self, context: TaskContext, target: str | None) -> None:
        self.context, spec = context, context.spec
        self.layout = spec.columns
        self.width = int(np.prod(spec.shape))
        self.columns = columns_of(self.layout, spec.feature_names, self.width)
        self.encoding: Any = getattr(context.everything, "encoding", None)
        self.own_class = target is None
        if target is None:
            assert spec.num_classes is not None
            texts = spec.class_names or [str(kind) for kind in range(spec.num_classes)]
            self.columns = [*self.columns, RowColumn(CLASS, spec.num_classes, tuple(texts))]
            self.place = len(self.columns) - 1
        else:
            self.place = [column.name for column in self.columns].index(target)

    def read(self, split: str, most: int | None) -> tuple[MixedRows, NDArray[np.bool_] | None]:
        """Rows of a split, and which of their cells are missing, `[N, R]`; None if none is."""
        batch = Batch.cat(sampled(self.context, split, most, "synthetic rows")).to(torch.device("cpu"))
        require(len(batch) > 1, f"task synthetic: the {split} split has {len(batch)} rows, too few to judge samples by")
        rows = self._rows(batch.truth.flatten(1), batch.label)
        if batch.observed is None:
            return rows, None
        gaps = ~batch.observed.flatten(1).numpy()
        starts = np.cumsum([0, *(column.width for column in self.layout or [])])[:-1]
        gaps = gaps if self.layout is None else gaps[:, starts]
        return rows, np.hstack([gaps, np.zeros((len(gaps), 1), bool)]) if self.own_class else gaps

    def _rows(self, x: Tensor, label: Tensor | None) -> MixedRows:
        cells = cells_of(x, self.layout)
        if self.own_class:
            if label is None:
                raise UserError("task synthetic: these examples have no labels")
            cells = np.hstack([cells, label[:, None].double().numpy()])
        return MixedRows(self.columns, cells, self.place)

    def drawn(self, train: MixedRows, gaps: NDArray[np.bool_] | None) -> MixedRows:
        """As many samples as training rows, with their gaps and the shares of their classes."""
        context, model = self.context, self.context.model
        random = np.random.default_rng(derive(context.seed, "synthetic", "labels"))
        label = torch.from_numpy(random.choice(train.label, len(train))) if self.own_class else None
        seed_default(context.seed, "synthetic", "draw")
        parts = []
        for start in range(0, len(train), CHUNK):
            own = None if label is None else label[start : start + CHUNK].to(context.device)
            count = min(CHUNK, len(train) - start)
            told: Given = model.usual(count)
            told = told if own is None else replace(told, label=own)
            z = model.draw(count, told.label)
            parts.append(model.point_at(z, told, draw=context.spec.kind == "vector").float().cpu())
        made = self._written(self._rows(torch.cat(parts).flatten(1), label))
        if gaps is None:
            return made
        filled = _fill(train, gaps)
        return made.like(np.where(gaps[random.permutation(len(gaps))], filled, made.values))

    def own_units(self, rows: MixedRows) -> NDArray[np.float64]:
        """The cells `[N, R]` with the numbers of a table in its own units."""
        if self.encoding is None:
            return rows.values
        cells = rows.values[:, : len(self.layout or [])]
        decoded = self.encoding.decode(spread(cells, self.layout).double().numpy())
        values = rows.values.copy()
        for place, column in enumerate(self.encoding.columns):
            if column.kind == "numeric":
                values[:, place] = decoded[column.name]
        return values

    def written(self, rows: MixedRows) -> MixedRows:
        """Rows as a file would hold them: rounded and clipped as the table's columns are, inside the data's range."""
        return self._written(rows)

    def _written(self, rows: MixedRows) -> MixedRows:
        cells = rows.values[:, :-1] if self.own_class else rows.values
        if self.encoding is not None:
            from narrows.data.table_writing import rewritten

            cells = cells_of(rewritten(self.encoding, spread(cells, self.layout)), self.layout)
        elif self.context.spec.bounds is not None:
            cells = cells.clip(*self.context.spec.bounds)
        return rows.like(np.hstack([cells, rows.values[:, -1:]]) if self.own_class else cells)


def _fill(train: MixedRows, gaps: NDArray[np.bool_]) -> NDArray[np.float64]:
    """What stands in the gaps of every column, `[R]`; anything where it has none."""
    return train.values[gaps.argmax(0), np.arange(len(train.columns))]


def _told(train: MixedRows, marginals: Mapping[str, NDArray[np.float64]]) -> str:
    names = ["samples" if method == MODEL else CLASSICS.get(method, method) for method in marginals]
    lines = [f"| column | distance | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    order = np.argsort(-marginals[MODEL], kind="stable")
    for place in order[:LISTED]:
        column = train.columns[place]
        kind = "total variation" if column.levels else "Kolmogorov-Smirnov"
        values = " | ".join(f"{distances[place]:.3f}" for distances in marginals.values())
        lines.append(f"| {column.name} | {kind} | {values} |".replace("\n", " "))
    more = len(order) - LISTED
    return "\n".join([*lines, *([f"\n{more} more columns are nearer than these."] if more > 0 else [])])


def _show(context: TaskContext, reader: _Reader, train: MixedRows, made: Mapping[str, MixedRows]) -> None:
    if context.directory is None:
        return
    from narrows.drawing.marginals import Marginal, marginals

    sets = {"training rows": train, "samples": made[MODEL]}
    if "copula" in made:
        sets[CLASSICS["copula"]] = made["copula"]
    values = {name: reader.own_units(rows) for name, rows in sets.items()}
    panels = [
        Marginal(column.name, {name: rows[:, place] for name, rows in values.items()}, column.texts)
        for place, column in enumerate(train.columns)
    ]
    context.show("synthetic_marginals", marginals(panels, "Marginals of training rows and of synthetic ones"))
