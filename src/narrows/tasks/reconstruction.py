"""How well the test split is reconstructed, beside the classic answers."""

from __future__ import annotations

import logging

from torch import Tensor

from narrows.errors import require
from narrows.model import Autoencoder
from narrows.tasks.base import Task, TaskContext
from narrows.tasks.classics import Classics, fit_classics
from narrows.tasks.scores import ErrorSums
from narrows.types import Batch, DataSpec

log = logging.getLogger(__name__)


class Reconstruction(Task):
    """MSE, PSNR and BCE per value (see `ErrorSums`) of the uncorrupted test input, noise free and free running.

    Beside the model: PCA with as many components as the latent has dimensions (`test/pca/...`) and the
    training mean (`test/mean/...`). `variance_unexplained = MSE / MSE of the training mean`, so predicting the
    mean scores 1. A model with a corruption is also judged from the corrupted input (`test/denoised/...`),
    beside that input itself (`test/corrupted/...`), its PCA projection and ridge regression from
    corrupted to clean; one whose corruption hides values also on these alone (`test/hidden/...`), beside the mean
    and ridge. Being worse than the mean, on the hidden values where there are any, is a loud warning.

    Args:
        max_rows: training rows that PCA and ridge may read; null for all.

    Raises:
        UserError: `max_rows` below 1.
    """

    name = "reconstruction"
    figures = (
        "test/mse",
        "test/psnr",
        "test/variance_unexplained",
        "test/pca/mse",
        "test/pca/psnr",
        "test/pca/variance_unexplained",
        "test/mean/mse",
        "test/mean/psnr",
    )

    def __init__(self, *, max_rows: int | None = None) -> None:
        require(max_rows is None or max_rows >= 1, f"task reconstruction: max_rows must be at least 1, not {max_rows}")
        self.max_rows = max_rows

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        return "tokens have no squared error" if spec.kind == "tokens" else None

    def run(self, context: TaskContext) -> dict[str, float]:
        classics = fit_classics(context, self.max_rows)
        bounds = context.spec.value_range
        unit = bounds is not None and bounds[0] >= 0 and bounds[1] <= 1
        sums: dict[str, ErrorSums] = {}
        for batch in context.batches("test"):
            for name, (guess, judged) in _guesses(context, classics, batch).items():
                sums.setdefault(name, ErrorSums(classics.span, unit)).add(guess, batch.truth, judged)
        require(bool(sums), "task reconstruction: the test split is empty")
        self._compare(context, sums, classics.pca.n_components_)
        return _figures(sums, classics.pca.n_components_)

    def _compare(self, context: TaskContext, sums: dict[str, ErrorSums], components: int) -> None:
        judged, beside = ("test/hidden", "test/hidden/mean") if "test/hidden" in sums else ("test", "test/mean")
        pca = sums["test/pca"].mse
        if not warn_if_worse_than_mean(context, judged, sums[judged].mse, sums[beside].mse) and pca < sums["test"].mse:
            log.info("PCA with %d components has test MSE %.6g, the model %.6g", components, pca, sums["test"].mse)


def warn_if_worse_than_mean(context: TaskContext, judged: str, model: float, mean: float) -> bool:
    """Warn, loudly, of a model whose MSE is above that of predicting the training mean; whether it is."""
    worse = not model <= mean * (1 + 1e-6)
    if worse:
        context.warn(
            f"the model is WORSE THAN PREDICTING THE TRAINING MEAN: {judged} MSE {model:.6g} against {mean:.6g}; "
            "it has learned nothing, whatever its other figures say"
        )
    return worse


def _guesses(context: TaskContext, classics: Classics, batch: Batch) -> dict[str, tuple[Tensor, Tensor | None]]:
    """By name, a guess at the truth and the values that it is judged by (None for all)."""
    model, x, observed = context.model, batch.x, batch.observed
    guesses = {
        "test": model.reconstruct(x, batch.label),
        "test/pca": classics.guess_pca(x, observed),
        "test/mean": classics.guess_mean(x),
    }
    hidden = None
    if not getattr(model.corruption, "identity", False):
        x_in, hidden = model.corruption(x)
        guesses["test/denoised"] = model.reconstruct(x_in, batch.label, hidden)
        guesses["test/corrupted"] = x_in
        guesses["test/denoised/pca"] = classics.guess_pca(x_in, observed)
        if classics.ridge is not None:
            guesses["test/denoised/ridge"] = classics.guess_ridge(x_in, observed)
    judged = {name: (guess, observed) for name, guess in guesses.items()}
    if hidden is not None:
        only = hidden if observed is None else hidden & observed
        of = {"": "test/denoised", "/mean": "test/mean", "/ridge": "test/denoised/ridge"}
        judged |= {f"test/hidden{name}": (guesses[guess], only) for name, guess in of.items() if guess in guesses}
    return judged


def _figures(sums: dict[str, ErrorSums], components: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, errors in sums.items():
        found |= errors.figures(name)
    # A denoiser's input is no prediction of probabilities.
    found.pop("test/corrupted/bce", None)
    smallest = 1e-30
    mean = max(sums["test/mean"].mse, smallest)
    found["test/variance_unexplained"] = sums["test"].mse / mean
    found["test/pca/variance_unexplained"] = sums["test/pca"].mse / mean
    found["test/pca/components"] = float(components)
    return found
