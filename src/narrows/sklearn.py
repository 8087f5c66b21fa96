"""Autoencoders as scikit-learn estimators, composed by the same names as `narrows train`.

    from narrows.sklearn import AutoencoderDetector, AutoencoderTransformer

    make_pipeline(StandardScaler(), AutoencoderTransformer("vae", overrides=["bottleneck.dim=8"]), LogisticRegression())

Rows are `[N, D]`, taken as they are: scale them before, as for any neural network. `X` may be sparse, of any of SciPy's
formats: only some rows at a time are made dense, and results are those of the dense rows. For counts, sparse or not:

    AutoencoderTransformer("nb_vae", overrides=["datamodule=counts"])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, OutlierMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from torch import Tensor, nn

from narrows.errors import require
from narrows.models.autoencoder import Autoencoder
from narrows.tasks.measures.auroc_and_thresholds import quantile_threshold
from narrows.tasks.measures.reconstruction_errors import example_mse
from narrows.training.fit_in_memory import fit

Matrix = NDArray[np.floating]
BATCH = 1000
DTYPES = [np.float64, np.float32]


class _Trained(BaseEstimator):
    """Base of both estimators: a composed autoencoder that `fit` trains.

    A tenth of the rows (`datamodule.validation`) validates and is not trained on; the last weights are kept. Equal
    parameters and rows give an equal fit. After `fit`, `model_` is the `narrows.models.Autoencoder`, on the CPU and in
    double precision, so that a row's result does not depend on the rows beside it, and `run_` the run's directory or
    None.
    """

    model_: Autoencoder
    run_: Path | None
    n_features_in_: int

    def __init__(
        self,
        variant: str = "undercomplete",
        *,
        encoder: str = "mlp",
        decoder: str = "mlp",
        overrides: Sequence[str] = (),
        max_epochs: int = 100,
        seed: int = 0,
        directory: str | Path | None = None,
    ) -> None:
        self.variant = variant
        self.encoder = encoder
        self.decoder = decoder
        self.overrides = overrides
        self.max_epochs = max_epochs
        self.seed = seed
        self.directory = directory

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _train(self, X: Any) -> tuple[Any, NDArray[np.integer]]:
        """Train on the rows of `X`; returns the rows, and the positions of those that validated."""
        rows = validate_data(self, X, accept_sparse="csr", dtype=DTYPES, ensure_min_samples=2)
        require(not isinstance(self.overrides, str), "overrides is a list, such as ['bottleneck.dim=8'], not one text")
        done = fit(rows, self._composed(), self.directory)
        self.model_, self.run_ = _in_double(done.module.model.eval()), done.directory
        return rows, done.held

    def _composed(self) -> list[str]:
        return [
            *("datamodule=arrays", "datamodule.source.path=rows.npz", "datamodule.source.test.fraction=null"),
            *(f"variant={self.variant}", f"encoder={self.encoder}", f"decoder={self.decoder}"),
            *("callbacks=none", "logger=csv", "~tasks.reconstruction", "~tasks.latent", "checkpoint=last"),
            *(f"trainer.max_epochs={self.max_epochs}", f"seed={self.seed}", *self.overrides),
        ]

    def _checked(self, X: Any) -> Any:
        check_is_fitted(self)
        return validate_data(self, X, accept_sparse="csr", dtype=DTYPES, reset=False)

    def score_samples(self, X: Any) -> Matrix:
        """Minus the squared error per feature of the noise-free reconstruction, `[N]`: higher is more normal."""
        return -self._errors(self._checked(X))

    def _errors(self, rows: Any) -> Matrix:
        return _in_batches(lambda x: example_mse(self.model_.reconstruct(x), x, None), rows)


class AutoencoderTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _Trained):
    """An autoencoder's noise-free latent as features.

    Args:
        variant: a choice of `narrows train variant=`.
        encoder: a choice of `encoder=`.
        decoder: a choice of `decoder=`.
        overrides: further `KEY=VALUE`, such as `["bottleneck.dim=8", "optimizer.lr=3e-3"]`.
        max_epochs: passes over the training rows.
        seed: of everything random.
        directory: each `fit` writes a run directory below it; None writes nothing.

    Raises:
        UserError: (`fit`; a `ValueError`) names, values or rows that do not compose.
    """

    def fit(self, X: Any, y: Any = None) -> AutoencoderTransformer:
        """Train on `X [N, D]`; `y` is not read."""
        self._train(X)
        return self

    def transform(self, X: Any) -> Matrix:
        """The latents `[N, K]`, maps and sequences flattened."""
        rows = self._checked(X)
        return _in_batches(self.model_.embed, rows).astype(rows.dtype, copy=False)

    def inverse_transform(self, X: Any) -> Matrix:
        """The mean of p(x|z) at latents `[N, K]`, `[N, D]`."""
        check_is_fitted(self)
        codes = check_array(X, accept_sparse="csr", dtype=DTYPES)
        require(
            codes.shape[1] == self._n_features_out,
            f"X has {codes.shape[1]} features, but the latent has {self._n_features_out}",
        )
        shape = self.model_.latent_shape
        decoded = _in_batches(lambda z: self.model_.point_at(z.unflatten(1, shape)).flatten(1), codes)
        return decoded.astype(codes.dtype, copy=False)

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the squared error per value: what a grid search maximises."""
        return float(self.score_samples(X).mean())

    @property
    def _n_features_out(self) -> int:
        return int(np.prod(self.model_.latent_shape))


class AutoencoderDetector(OutlierMixin, _Trained):
    """Novelty detection by an autoencoder's reconstruction error, trained on normal rows.

    The threshold is the `quantile` of the errors of the validation rows, which were not trained on. `offset_` is minus
    the threshold, and `decision_function = score_samples - offset_` is negative for outliers. Fit it on a hundred rows
    or more: only a tenth of them validates.

    Args:
        variant: a choice of `narrows train variant=`.
        encoder: a choice of `encoder=`.
        decoder: a choice of `decoder=`.
        overrides: further `KEY=VALUE`, such as `["bottleneck.dim=8", "optimizer.lr=3e-3"]`.
        max_epochs: passes over the training rows.
        quantile: of the validation rows' errors, which is the threshold; 0.95 asks for 5% false alarms.
        seed: of everything random.
        directory: each `fit` writes a run directory below it; None writes nothing.

    Raises:
        UserError: (`fit`; a `ValueError`) names, values or rows that do not compose, or a quantile outside (0, 1).
    """

    offset_: float

    def __init__(
        self,
        variant: str = "undercomplete",
        *,
        encoder: str = "mlp",
        decoder: str = "mlp",
        overrides: Sequence[str] = (),
        max_epochs: int = 100,
        quantile: float = 0.95,
        seed: int = 0,
        directory: str | Path | None = None,
    ) -> None:
        super().__init__(
            variant,
            encoder=encoder,
            decoder=decoder,
            overrides=overrides,
            max_epochs=max_epochs,
            seed=seed,
            directory=directory,
        )
        self.quantile = quantile

    def fit(self, X: Any, y: Any = None) -> AutoencoderDetector:
        """Train on `X [N, D]`, which should be normal rows alone; `y` is not read."""
        require(0 < self.quantile < 1, f"quantile must be in (0, 1), not {self.quantile}")
        rows, held = self._train(X)
        self.offset_ = -quantile_threshold(self._errors(rows[held]), self.quantile)
        return self

    def decision_function(self, X: Any) -> Matrix:
        """`score_samples(X) - offset_`, `[N]`: negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> NDArray[np.integer]:
        """1 for inliers and -1 for outliers, `[N]`."""
        return np.where(self.decision_function(X) < 0, -1, 1)


def _in_double(model: Autoencoder) -> Autoencoder:
    """The model in double precision; what a stage returns in single precision is widened for the next stage."""
    for part in model.double().modules():
        if next(part.parameters(recurse=False), None) is not None:
            part.register_forward_pre_hook(_widened)
    return model


def _widened(part: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for x in arguments)


def _in_batches(function: Callable[[Tensor], Tensor], rows: Any) -> Matrix:
    """`function` of float64 tensors, `BATCH` rows of an array or a SciPy matrix (CSR) at a time, without gradients."""
    with torch.no_grad():
        parts = [function(torch.from_numpy(np.array(part, dtype=np.float64))) for part in _parts(rows)]
    return torch.cat(parts).double().numpy()


def _parts(rows: Any) -> Iterator[Matrix]:
    for start in range(0, rows.shape[0], BATCH):
        part = rows[start : start + BATCH]
        yield part.toarray() if sparse.issparse(part) else part
