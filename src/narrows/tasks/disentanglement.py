"""Task disentanglement: how well each latent stands for one factor of variation, beside PCA and ICA."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from narrows.compare.figure_names import MODEL
from narrows.drawing import canvas
from narrows.errors import nearest, require, require_at_least
from narrows.evaluation import subset
from narrows.models.autoencoder import Autoencoder
from narrows.random import generator
from narrows.runs.file_names import FIGURES
from narrows.tasks.base import Task, TaskContext
from narrows.tasks.classics.ica import fit_ica
from narrows.tasks.classics.mean_pca_ridge import fit_classics
from narrows.tasks.figure_table import FigureTable, declared
from narrows.tasks.measures.chosen_rows import drawn
from narrows.tasks.measures.disentanglement_scores import (
    TREES,
    Matrix,
    Table,
    Whole,
    dci,
    explicitness,
    mig,
    modularity,
    sap,
    top_gap,
)
from narrows.tasks.measures.factor_interventions import beta_vae, factor_vae
from narrows.types import DataSpec

METRICS: dict[str, Callable[[Table], dict[str, float]]] = {
    "mig": mig,
    "sap": sap,
    "modularity": modularity,
    "explicitness": explicitness,
    "factor_vae": factor_vae,
    "beta_vae": beta_vae,
}
"""Metrics by their name in `metrics`; `dci` also depends on `trees`."""
DCI = ("disentanglement", "completeness", "informativeness")
MAX_LATENTS = 256
"""Most latents, because every latent is compared with every factor."""


class Disentanglement(Task):
    """Judges the noise-free latents of test examples by their factors of variation.

    The figures are those of `disentanglement_lib` (see `tasks.measures.disentanglement_scores` and
    `factor_interventions`) and lie in [0, 1].

    `test/mig`, and of each factor `test/mig/<factor>`; `test/sap`; `test/modularity` and `test/explicitness`;
    `test/factor_vae` and `test/beta_vae`; `test/dci_<trees>_disentanglement`, `..._completeness` and
    `..._informativeness`. The same stand beside it for PCA with as many components as the latent has dimensions
    (`test/pca/...`) and FastICA in that subspace (`test/ica/...`), both fitted on the training split. The
    mutual information that MIG reads is drawn in `figures/factors.png`.

    For 10,000 examples with ten latents and dSprites' factors: a minute on one core with `trees=forest`, most of it
    in the trees; `boosting`, the reference's, takes a quarter of an hour for each of the three.

    Args:
        samples: test examples, drawn at random; all where there are fewer. Predictors are trained on two thirds.
        bins: of equal width, for the mutual information.
        metrics: which are measured.
        trees: what DCI reads latents with: `forest` or `boosting`.
        max_rows: training rows that PCA may read; null for all.

    Raises:
        UserError: `samples` below 12, `bins` below 2, an unknown metric or kind of trees, factors that do not vary.
    """

    name = "disentanglement"

    def __init__(
        self,
        *,
        samples: int = 10_000,
        bins: int = 20,
        metrics: Sequence[str] = ("mig", "sap", "modularity", "explicitness", "factor_vae", "beta_vae", "dci"),
        trees: str = "forest",
        max_rows: int | None = None,
    ) -> None:
        require_at_least(12, "task disentanglement:", samples=samples)
        require_at_least(2, "task disentanglement:", bins=bins)
        require(len(metrics) > 0, "task disentanglement: metrics must name at least one")
        for metric in metrics:
            choices = [*METRICS, "dci"]
            require(metric in choices, f"task disentanglement: no metric {metric!r}: {nearest(metric, choices)}")
        require(trees in TREES, f"task disentanglement: no trees={trees!r}: {nearest(trees, TREES)}")
        require_at_least(1, "task disentanglement:", max_rows=max_rows)
        self.samples, self.bins, self.metrics, self.trees, self.max_rows = samples, bins, metrics, trees, max_rows
        names = [name for name in metrics if name != "dci"]
        names += [f"dci_{trees}_{part}" for part in DCI] if "dci" in metrics else []
        self.figures = declared(names, (MODEL, "pca", "ica"))

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        if spec.factor_sizes is None:
            return "the labels are no factors of variation, which would be whole numbers [N, K]"
        if spec.kind == "tokens":
            return "tokens have no principal components"
        latents = math.prod(model.latent_shape)
        return None if latents <= MAX_LATENTS else f"{latents} latents are more than {MAX_LATENTS}"

    def run(self, context: TaskContext) -> FigureTable:
        codes, factors = self._look(context)
        names = np.array(context.spec.factor_names)
        varying = np.array([len(np.unique(column)) > 1 for column in factors.T])
        require(bool(varying.any()), f"task disentanglement: no factor varies over {len(factors)} test examples")
        if not varying.all():
            context.warn(f"task disentanglement leaves out what does not vary: {', '.join(names[~varying])}")
        factors, names = factors[:, varying], names[varying]
        tables = {name: Table(values, factors, self.bins, context.seed) for name, values in codes.items()}
        found = FigureTable()
        for name, table in tables.items():
            found.add(self._measure(table), name)
        if "mig" in self.metrics:
            gaps = top_gap(tables[MODEL].information) / tables[MODEL].entropy
            found.add({name: float(gap) for name, gap in zip(names, gaps, strict=True)}, condition="mig")
        self._draw(context, tables, list(names))
        return found

    def _measure(self, table: Table) -> dict[str, float]:
        found: dict[str, float] = {}
        for metric in self.metrics:
            if metric == "dci":
                parts = dci(table, TREES[self.trees])
                found |= {f"dci_{self.trees}_{part}": value for part, value in parts.items()}
            else:
                found |= METRICS[metric](table)
        return found

    def _look(self, context: TaskContext) -> tuple[dict[str, Matrix], Whole]:
        """The codes of the same test examples by the model and the classics `[N, D]`, and their factors `[N, K]`,
        in random order."""
        classics = fit_classics(context, self.max_rows)
        size = sum(len(batch) for batch in context.datamodule.ordered_loader("test"))
        require(size >= 12, f"task disentanglement: {size} test examples are too few: 12 at least")
        positions = drawn(size, self.samples, context.seed, "factors", "test")
        ours, theirs, labels = [], [], []
        for batch in subset(context.datamodule.ordered_loader("test"), positions):
            batch = batch.to(context.device)
            assert batch.label is not None
            ours.append(context.model.embed(batch).double().cpu())
            theirs.append(classics.pca.transform(classics.flat(batch.x, batch.judged)))
            labels.append(batch.label.cpu())
        mixed = torch.randperm(len(positions), generator=generator(context.seed, "order")).numpy()
        pca = np.concatenate(theirs).astype(np.float64)
        ica = fit_ica(context, classics, self.samples)
        codes = {MODEL: torch.cat(ours).numpy(), "pca": pca, "ica": ica.unmix(pca)}
        return {name: values[mixed] for name, values in codes.items()}, torch.cat(labels).numpy()[mixed]

    def _draw(self, context: TaskContext, tables: dict[str, Table], factors: list[str]) -> None:
        if context.directory is None:
            return
        labels = {MODEL: "this run: latents", "pca": "PCA: components", "ica": "ICA: components"}
        width = max(table.codes.shape[1] for table in tables.values())
        panels = [
            (labels[name], np.pad(shares, ((0, 0), (0, width - shares.shape[1])), constant_values=np.nan))
            for name, table in tables.items()
            for shares in [table.information / table.entropy[:, None]]
        ]
        title = f"Mutual information, as a share of the factor's entropy, over {len(tables[MODEL].codes)} test examples"
        columns = [str(number) for number in range(width)]
        bounds = (0.0, max(float(np.nanmax(values)) for _, values in panels))
        picture = canvas.heat_maps(panels, title, columns, "factor", factors, bounds)
        canvas.save(picture, context.directory / FIGURES / "factors.png")
