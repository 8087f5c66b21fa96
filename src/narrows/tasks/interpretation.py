"""Task interpretation: how latents change the output, which inputs drive them, and latent arithmetic."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.compare.figure_names import MODEL
from narrows.errors import require_at_least
from narrows.evaluation import select, subset
from narrows.models.autoencoder import Autoencoder
from narrows.random import generator
from narrows.tasks.base import Task, TaskContext
from narrows.tasks.classics.ica import fit_ica
from narrows.tasks.classics.mean_pca_ridge import Classics, fit_classics
from narrows.tasks.figure_table import FigureTable, declared
from narrows.tasks.interpretation_pictures import Sensitivity, decoded, told
from narrows.tasks.latent_arithmetic import Read, arithmetic, attribute_arithmetic
from narrows.tasks.measures import jacobians
from narrows.tasks.measures.attribute_table import read_attributes
from narrows.tasks.measures.chosen_rows import drawn
from narrows.tasks.measures.embeddings import Matrix, Reader, embedding, labels, read_split, told_the_label
from narrows.tasks.measures.standard_errors import bootstrap
from narrows.types import COUNTED, Batch, DataSpec, QuantizedLatent

log = logging.getLogger(__name__)

MAX_LATENTS = 2048
"""Most latents, because each one is differentiated separately."""
ACTIVE = 0.01


class Interpretation(Task):
    """Ranks the latents by how much they change the output, draws their effects, and tries latent arithmetic.

    A latent's sensitivity is the squared norm of its column of the decoder's Jacobian, times the latent's standard
    deviation over training rows, averaged over test examples: of a linear model it is the variance that the
    component explains. Its share is that over all latents'.

    - `test/interpretation/effective_latents = exp(H(shares))`, between 1 and the number of latents: "The effective
      rank" (Roy and Vetterli, 2007); `.../top_1_share` and `.../top_3_share`; beside principal components (`pca`) and
      independent ones in their subspace (`ica`). Standard errors are over the test examples.
    - `test/interpretation/active_units`: latents whose variance over test rows is above 0.01.
    - `test/interpretation/arithmetic`, where there are classes: how often a random forest, fitted on *validation* rows,
      gives a test example's decoding the class that it was shifted to, `z + mean(other class) - mean(its own)`; beside
      the same in principal components. `.../judge_accuracy` is the forest's on the test rows themselves.
    - `test/interpretation/NAME/arithmetic` likewise for each attribute that a CSV gives (`attributes`: a column `file`,
      the name of a picture in its folder, or `index`, its row; then columns of 1, 0 or nothing, where it is not known),
      between examples with it and without.

    Pictures: `sensitivity` (the shares, ranked), `latent_saliency` (what each of the first latents moves, and which
    inputs drive it; the classics' components), `latent_traversal`, `interpolation` (linear, spherical, and of the raw
    values), and `attribute_NAME` for each attribute. Where features have names, the text `latent_features` lists those
    that drive each of the first latents most, such as the marker genes of cells. Data whose factors are known are for
    task disentanglement.

    Args:
        examples: test examples at which derivatives are taken.
        rows: test examples for the arithmetic, and validation rows for its judge.
        shown: latents and classics' components in the pictures.
        max_rows: training rows that PCA may read, null for all, and ICA, at most 10,000.
        attributes: a CSV of the attributes of examples; null for none.

    Raises:
        UserError: an argument below 1; `attributes` that cannot be read, or are of none of the examples.
    """

    name = "interpretation"
    figures = declared(("effective_latents", "top_1_share", "top_3_share"), (MODEL, "pca", "ica"), "interpretation")

    def __init__(
        self,
        *,
        examples: int = 200,
        rows: int = 2000,
        shown: int = 8,
        max_rows: int | None = None,
        attributes: str | None = None,
    ) -> None:
        require_at_least(1, "task interpretation:", examples=examples, rows=rows, shown=shown, max_rows=max_rows)
        self.examples, self.rows, self.shown, self.max_rows = examples, rows, shown, max_rows
        self.attributes = attributes

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        if spec.kind == "tokens":
            return "tokens have no derivative"
        if not model.likelihood.has_mean:
            return f"likelihood {type(model.likelihood).__name__} has no mean to take derivatives of"
        if issubclass(model.latent_kind, QuantizedLatent):
            return "its latents are codes, which do not move by degrees"
        if model.needs_input:
            return f"{type(model).__name__} needs its input besides the latent"
        latents = math.prod(model.latent_shape)
        return None if latents <= MAX_LATENTS else f"{latents} latents are more than {MAX_LATENTS}"

    def check(self, spec: DataSpec) -> None:
        if self.attributes is not None:
            read_attributes(self.attributes)

    def run(self, context: TaskContext) -> FigureTable:
        if context.spec.factor_sizes is not None:
            log.info("the factors of these data are known: task disentanglement holds the latents against them")
        classics = fit_classics(context, self.max_rows)
        train = self._read(context, classics, "train", None)
        looked_at = drawn(_size(context, "test"), self.rows, context.seed, "factors", "test")
        test = self._read(context, classics, "test", looked_at)
        self._compare(context, classics, test)
        spread = train[MODEL].std(0)
        ours = _sensitivity(context, test, spread, looked_at, self.examples)
        theirs = _components(context, classics, train["pca"], self.max_rows)
        found = FigureTable(self.name)
        found.add(_shares_of_examples(ours.energy, context.seed))
        for kind, weights in theirs.items():
            found.add(ranked(np.square(weights).sum(1)), kind)
        found.add({"active_units": float((test[MODEL].var(0) > ACTIVE).sum())})
        if context.spec.num_classes is not None or self.attributes is not None:
            held_out = drawn(_size(context, "validation"), self.rows, context.seed, "factors", "validation")
            places = {"validation": held_out.numpy(), "test": looked_at.numpy()}
            rows = {"train": train, "validation": self._read(context, classics, "validation", held_out), "test": test}
            read = Read(rows, places)
            self._arithmetic(context, classics, read, found)
        if context.directory is not None:
            from narrows.tasks import interpretation_pictures

            interpretation_pictures.draw(context, ours, theirs, train[MODEL], test, self.shown)
        return found

    def _read(
        self, context: TaskContext, classics: Classics, split: str, positions: Tensor | None
    ) -> dict[str, NDArray]:
        readers: dict[str, Reader] = {
            MODEL: embedding(context),
            "pca": lambda batch: classics.pca.transform(classics.flat(batch.x, batch.judged)),
        }
        if context.spec.num_classes is not None:
            readers["label"] = labels
        if split != "train":
            readers["raw"] = lambda batch: classics.flat(batch.x, batch.judged)
            if context.spec.kind in COUNTED:
                readers["total"] = _totals
        return read_split(context, split, readers, positions)

    def _compare(self, context: TaskContext, classics: Classics, test: dict[str, NDArray]) -> None:
        guess = decoded(context, test[MODEL], told(test)).reshape(test["raw"].shape)
        model, mean = (float(np.square(rows - test["raw"]).mean()) for rows in (guess, classics.mean))
        context.warn_if_worse_than_mean("the model is", "test MSE", model, mean)

    def _arithmetic(self, context: TaskContext, classics: Classics, read: Read, found: FigureTable) -> None:
        """Add the figures of latent arithmetic between classes, if there are any, and of attributes that are given."""
        classes, train = context.spec.num_classes, read.rows["train"]
        if classes is not None and told_the_label(context.model) is None and len(np.unique(train["label"])) > 1:
            kinds = {split: rows["label"] for split, rows in read.rows.items()}
            for method, figures in arithmetic(context, classics, read, kinds, classes)[0].items():
                found.add(figures, method)
        if self.attributes is not None:
            attribute_arithmetic(context, classics, read, self.attributes, found, self.shown)


def _size(context: TaskContext, split: str) -> int:
    return sum(len(batch) for batch in context.datamodule.ordered_loader(split))


def _totals(batch: Batch) -> NDArray[np.floating]:
    """Library sizes, `[B]`."""
    total = batch.given.total
    assert total is not None
    return total.cpu().numpy()


def ranked(variation: Matrix) -> dict[str, float]:
    """Effective number of latents and top shares of the variation `[K]` that each adds; all 0 without variation."""
    total = float(variation.sum())
    if total <= 0:
        return {"effective_latents": 0.0, "top_1_share": 0.0, "top_3_share": 0.0}
    shares = np.sort(variation / total)[::-1]
    positive = shares[shares > 0]
    return {
        "effective_latents": float(np.exp(-(positive * np.log(positive)).sum())),
        "top_1_share": float(shares[0]),
        "top_3_share": float(shares[:3].sum()),
    }


def _shares_of_examples(energy: Matrix, seed: int) -> dict[str, float]:
    found = ranked(energy.mean(0))
    errors = {
        f"{name}_stderr": bootstrap(lambda rows, name=name: ranked(rows.mean(0))[name], energy, seed=seed)
        for name in found
    }
    return found | errors


def _sensitivity(
    context: TaskContext, test: dict[str, NDArray], spread: Matrix, looked_at: Tensor, examples: int
) -> Sensitivity:
    model = context.model
    order = torch.randperm(len(looked_at), generator=generator(context.seed, "derivatives"))[:examples]
    batch = select(Batch.cat(subset(context.batches("test"), looked_at)), order)
    z = torch.from_numpy(test[MODEL])[order].to(context.device).reshape(-1, *model.latent_shape)
    scale = test["raw"].std(0)
    energy, moved, driving = [], [], []
    for unit, column in enumerate(jacobians.columns(lambda at: model.decode(at, batch.given).mean, z)):
        squared = (spread[unit] * column.flatten(1).double().cpu().numpy()) ** 2
        energy.append(squared.sum(1))
        moved.append(np.sqrt(squared.mean(0)))
    for unit, row in enumerate(jacobians.rows(lambda at: model.encode(replace(batch, x=at)).point, batch.x)):
        pulled = row.flatten(1).double().cpu().numpy() * scale / max(float(spread[unit]), 1e-12)
        driving.append(np.sqrt(np.square(pulled).mean(0)))
    return Sensitivity(np.stack(energy, 1), np.stack(moved), np.stack(driving))


def _components(context: TaskContext, classics: Classics, codes: Matrix, max_rows: int | None) -> dict[str, Matrix]:
    """The change of an example by one standard deviation of each component, `[K, D]`."""
    ica = fit_ica(context, classics, min(10_000, max_rows or 10_000))
    axes = classics.pca.components_
    return {"pca": codes.std(0)[:, None] * axes, "ica": ica.mixing @ axes}
