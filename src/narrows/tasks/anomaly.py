"""How well the reconstruction error tells anomalies from normal examples, beside the classics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.metrics import average_precision_score, roc_auc_score

from narrows.errors import UserError, require
from narrows.model import Autoencoder
from narrows.tasks.base import Task, TaskContext
from narrows.tasks.classics import Classics, fit_classics, fit_mahalanobis
from narrows.tasks.scores import example_mse
from narrows.types import Batch, DataSpec

Scores = dict[str, NDArray[np.floating]]


class Anomaly(Task):
    """Ranks test examples by their reconstruction error per value; labels outside `normal_labels` are anomalies.

    Reports AUROC and average precision and, at a threshold, the false-alarm rate that was really reached,
    recall, precision and F1. The threshold is the `quantile` of the scores of *validation normals*: no anomaly
    and no test example is looked at. The same figures stand beside it for PCA with as many components as the
    latent has dimensions (`test/anomaly/pca/...`), the distance to the training mean (`.../mean/...`) and the
    Mahalanobis distance with Ledoit-Wolf shrinkage (`.../mahalanobis/...`), all fitted on the training split as
    it is: for one-class detection it must hold normals only.

    Args:
        normal_labels: labels of the normal classes.
        quantile: of the validation normals' scores; 0.95 asks for 5% false alarms.
        max_rows: training rows that the classics may read; null for all.

    Raises:
        UserError: no normal label, a quantile outside (0, 1), no normal in the validation split, or a test
            split without both kinds.
    """

    name = "anomaly"
    figures = (
        "test/anomaly/auroc",
        "test/anomaly/average_precision",
        "test/anomaly/false_alarm_rate",
        "test/anomaly/recall",
        "test/anomaly/pca/auroc",
        "test/anomaly/mean/auroc",
    )

    def __init__(
        self, *, normal_labels: Sequence[int] = (1,), quantile: float = 0.95, max_rows: int | None = None
    ) -> None:
        require(len(normal_labels) > 0, "task anomaly: normal_labels must name at least one label")
        require(0 < quantile < 1, f"task anomaly: quantile must be in (0, 1), not {quantile}")
        require(max_rows is None or max_rows >= 1, f"task anomaly: max_rows must be at least 1, not {max_rows}")
        self.normal_labels, self.quantile, self.max_rows = list(normal_labels), quantile, max_rows

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        if spec.num_classes is None:
            return "the data have no labels" if spec.factor_sizes is None else "the labels are factors, not classes"
        return "tokens have no squared error" if spec.kind == "tokens" else None

    def run(self, context: TaskContext) -> dict[str, float]:
        classics = fit_classics(context, self.max_rows)
        covariance = fit_mahalanobis(context, self.max_rows)
        held_out, held_labels = _scores(context, "validation", classics, covariance)
        scores, labels = _scores(context, "test", classics, covariance)
        normal, anomalous = np.isin(held_labels, self.normal_labels), ~np.isin(labels, self.normal_labels)
        self._check(normal, anomalous)
        found = {"test/anomaly/prevalence": float(anomalous.mean())}
        for name, values in scores.items():
            threshold = float(np.quantile(held_out[name][normal], self.quantile))
            prefix = "test/anomaly" if name == "model" else f"test/anomaly/{name}"
            figures = detection_figures(values, anomalous, threshold)
            found |= {f"{prefix}/{key}": value for key, value in figures.items()}
        return found

    def _check(self, normal: NDArray[np.bool_], anomalous: NDArray[np.bool_]) -> None:
        if not normal.any():
            raise UserError(
                f"task anomaly: no validation example has a label in normal_labels={self.normal_labels}, and the "
                "threshold comes from them; name the labels of normal examples"
            )
        if anomalous.all() or not anomalous.any():
            raise UserError(
                f"task anomaly: with normal_labels={self.normal_labels} the test split is all "
                f"{'anomalies' if anomalous.all() else 'normal'}; ranking needs both kinds"
            )


def detection_figures(scores: NDArray[np.floating], anomalous: NDArray[np.bool_], threshold: float) -> dict[str, float]:
    """Figures of a score (higher is more anomalous), flagged above `threshold`.

    An alarm is a score strictly above the threshold; precision is 0 where nothing is flagged.
    """
    flagged = scores > threshold
    hits = float((flagged & anomalous).sum())
    recall, precision = hits / anomalous.sum(), hits / max(int(flagged.sum()), 1)
    return {
        "auroc": float(roc_auc_score(anomalous, scores)),
        "average_precision": float(average_precision_score(anomalous, scores)),
        "threshold": threshold,
        "false_alarm_rate": float(flagged[~anomalous].mean()),
        "recall": float(recall),
        "precision": precision,
        "f1": float(2 * precision * recall / max(precision + recall, 1e-12)),
    }


def _scores(
    context: TaskContext, split: str, classics: Classics, covariance: LedoitWolf | None
) -> tuple[Scores, NDArray]:
    parts: dict[str, list[NDArray]] = {}
    labels: list[NDArray] = []
    for batch in context.batches(split):
        if batch.label is None:
            raise UserError(f"task anomaly: the {split} split has no labels; choose data that have, or leave it out")
        labels.append(batch.label.cpu().numpy())
        for name, values in _batch_scores(context, batch, classics, covariance).items():
            parts.setdefault(name, []).append(values)
    require(bool(labels), f"task anomaly: the {split} split is empty")
    return {name: np.concatenate(values) for name, values in parts.items()}, np.concatenate(labels)


def _batch_scores(context: TaskContext, batch: Batch, classics: Classics, covariance: LedoitWolf | None) -> Scores:
    x, observed = batch.x, batch.observed
    guesses = {
        "model": context.model.reconstruct(x, batch.label),
        "pca": classics.guess_pca(x, observed),
        "mean": classics.guess_mean(x),
    }
    found: Scores = {name: example_mse(guess, batch.truth, observed).numpy() for name, guess in guesses.items()}
    if covariance is not None:
        found["mahalanobis"] = covariance.mahalanobis(classics.flat(x, observed))
    return found
