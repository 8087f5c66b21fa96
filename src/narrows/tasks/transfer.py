"""Task transfer: how a model reconstructs other data than its own, beside PCA fitted to its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from sklearn.metrics import roc_auc_score
from torch import Tensor

from narrows.compare.figure_names import CLASSICS, MODEL
from narrows.config.building import build
from narrows.config.compose_in_process import plain_choice
from narrows.config.composition import choice_files
from narrows.drawing import restoration
from narrows.errors import nearest, require, require_at_least
from narrows.evaluation import subset
from narrows.models.autoencoder import Autoencoder
from narrows.tasks.base import Task, TaskContext, counts_have_no
from narrows.tasks.classics.mean_pca_ridge import Classics, fit_classics
from narrows.tasks.figure_table import FigureTable
from narrows.tasks.measures.chosen_rows import chosen, reconstructed, sampled
from narrows.tasks.measures.reconstruction_errors import ErrorSums, example_mse
from narrows.tasks.measures.standard_errors import Rows, bootstrap
from narrows.types import Batch, DataSpec

OWN = "own"
SHOWN = 8


@dataclass
class Rebuilt:
    """Rows of one data set, and their reconstructions by name (the model's is "")."""

    batch: Batch
    guesses: dict[str, Tensor]

    def errors(self, name: str) -> Rows:
        """Squared error per value of each row, `[N]`."""
        return example_mse(self.guesses[name], self.batch.truth, self.batch.judged).numpy()


class Transfer(Task):
    """MSE, PSNR and unexplained variance of the model's test split (`test/transfer/own/...`) and of those of other data
    sets of the same shape (`test/transfer/<name>/...`), the model and its weights being the same; and the AUROC with
    which the reconstruction error per value tells their examples from its own, which is what an anomaly score is worth
    on data that are all foreign.

    Beside it PCA fitted to the run's training split with as many components as the latent has dimensions
    (`.../pca/mse`). `variance_unexplained` is the MSE over that of the data set's own mean, here of its test rows, so
    that sets of unlike contrast compare. Standard errors are over examples, of the AUROC by bootstrap.

    Args:
        others: names of `datamodule` choices, or such configs with a `_target_`. They are read where they lie and not
            downloaded.
        data_dir: where they lie; null for where the run's own source looks.
        max_examples: a seeded subset of every test split; null for all.
        max_rows: training rows that PCA may read; null for all.

    Raises:
        UserError: no other data, an unknown choice, data of another shape or kind.
    """

    name = "transfer"

    def __init__(
        self,
        *,
        others: Sequence[str | Mapping[str, Any]] = ("fashion_mnist", "kmnist"),
        data_dir: str | None = None,
        max_examples: int | None = 1000,
        max_rows: int | None = None,
    ) -> None:
        require(len(others) > 0, "task transfer: others must name at least one datamodule")
        known = choice_files("datamodule")
        for other in others:
            if isinstance(other, str):
                require(other in known, f"task transfer: there is no datamodule '{other}': {nearest(other, known)}")
        require_at_least(1, "task transfer:", max_examples=max_examples, max_rows=max_rows)
        self.others, self.data_dir = list(others), data_dir
        self.max_examples, self.max_rows = max_examples, max_rows

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        return "tokens have no squared error" if spec.kind == "tokens" else counts_have_no("decibels", spec)

    def run(self, context: TaskContext) -> FigureTable:
        # Loaded before PCA is fitted, so that a mistake in the options shows at once.
        foreign = {name: self._loaded(context, name, other) for name, other in self._named()}
        classics = fit_classics(context, self.max_rows)
        own = Batch.cat(sampled(context, "test", self.max_examples, "transfer rows"))
        sets = {name: self._rebuilt(context, classics, batch) for name, batch in ({OWN: own} | foreign).items()}
        found = FigureTable(self.name)
        for name, rebuilt in sets.items():
            figures = _errors(rebuilt, classics.span)
            for method in rebuilt.guesses:
                found.add(figures[method], method, name)
                if name != OWN:
                    found.add(_separation(sets[OWN], rebuilt, method, context.seed), method, name)
        _show(context, sets)
        return found

    def _named(self) -> Iterable[tuple[str, str | Mapping[str, Any]]]:
        for place, other in enumerate(self.others):
            yield (other if isinstance(other, str) else f"other{place}"), other

    def _loaded(self, context: TaskContext, name: str, other: str | Mapping[str, Any]) -> Batch:
        data = build(self._config(context, other), f"task.others, {name}")
        data.setup()
        spec, own = data.spec, context.spec
        require(
            (spec.kind, tuple(spec.shape)) == (own.kind, tuple(own.shape)),
            f"task transfer: {name} has examples of kind {spec.kind} and shape {list(spec.shape)}, but the model reads "
            f"{own.kind} of shape {list(own.shape)}; name data of that shape",
        )
        rows = chosen(data, "test", self.max_examples, context.seed, "transfer rows")
        return Batch.cat(subset(data.ordered_loader("test"), rows)).to(context.device)

    def _config(self, context: TaskContext, other: str | Mapping[str, Any]) -> Any:
        if isinstance(other, str):
            node = OmegaConf.create(plain_choice("datamodule", other))
        else:
            node = OmegaConf.create(dict(other))
        source: Any = getattr(context.everything, "source", None)
        folder = self.data_dir or getattr(source, "data_dir", "data")
        whole: Any = OmegaConf.create({"datamodule": node, "data_dir": str(folder), "seed": context.seed})
        if OmegaConf.select(whole, "datamodule.source.download") is not None:
            whole.datamodule.source.download = False
        OmegaConf.resolve(whole)
        return whole.datamodule

    def _rebuilt(self, context: TaskContext, classics: Classics, batch: Batch) -> Rebuilt:
        guesses = {
            MODEL: reconstructed(context.model, batch),
            "pca": classics.guess_usual(batch.x, batch.judged).cpu(),
        }
        return Rebuilt(batch.to("cpu"), guesses)


def _errors(rebuilt: Rebuilt, span: float) -> dict[str, dict[str, float]]:
    """The errors of every method, by name."""
    batch = rebuilt.batch
    found: dict[str, dict[str, float]] = {}
    flat = np.broadcast_to(_mean(batch), batch.truth.shape)
    around = ErrorSums(span, False)
    around.add(torch.from_numpy(flat.copy()), batch.truth, batch.judged)
    for name, guess in rebuilt.guesses.items():
        sums = ErrorSums(span, False)
        sums.add(guess, batch.truth, batch.judged)
        found[name] = sums.figures() | sums.deviations()
        found[name]["variance_unexplained"] = sums.mse / max(around.mse, 1e-30)
    return found


def _mean(batch: Batch) -> Rows:
    """The mean of the observed values, `[*shape]`."""
    truth = batch.truth.float().numpy()
    if batch.judged is None:
        return truth.mean(0)
    seen = batch.judged.numpy()
    return np.where(seen, truth, 0).sum(0) / np.maximum(seen.sum(0), 1)


def _separation(own: Rebuilt, other: Rebuilt, method: str, seed: int) -> dict[str, float]:
    """AUROC of a method's error per value; examples of the other data set are the positives."""
    foreign = np.repeat([False, True], [len(own.batch), len(other.batch)])
    scores = np.concatenate([own.errors(method), other.errors(method)])
    return {"auroc": _auroc(foreign, scores), "auroc_stderr": bootstrap(_auroc, foreign, scores, seed=seed)}


def _auroc(foreign: Rows, scores: Rows) -> float:
    return float(roc_auc_score(foreign, scores)) if 0 < foreign.sum() < len(foreign) else float("nan")


def _show(context: TaskContext, sets: dict[str, Rebuilt]) -> None:
    if context.spec.kind != "image":
        return
    rows: dict[str, Rows] = {}
    for name, rebuilt in sets.items():
        rows[name] = rebuilt.batch.truth[:SHOWN].float().numpy()
        rows |= {
            f"{name}: {CLASSICS.get(guess, guess)}": values[:SHOWN].numpy() for guess, values in rebuilt.guesses.items()
        }
    title = "Transfer: other data, rebuilt by what was trained on its own"
    context.show("transfer", restoration.examples(rows, title, context.spec))
