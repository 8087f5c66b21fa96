"""Starting a model that has linear paths at PCA's solution."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any, Literal, cast, get_args

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from narrows.bottlenecks.deterministic import Deterministic
from narrows.bottlenecks.gaussian import Gaussian
from narrows.data.datamodule import DataModule
from narrows.decoders.mlp import MLPDecoder
from narrows.encoders.mlp import MLPEncoder
from narrows.errors import require
from narrows.inputs.identity import Identity
from narrows.models.autoencoder import Autoencoder
from narrows.random import derive
from narrows.tasks.measures.observed_values import flat, mean_of
from narrows.training.lightning_module import AutoencoderModule

log = logging.getLogger(__name__)

When = Literal["never", "possible", "always"]
"""`possible`: where the model has what it takes, without a word where it has not."""
SMALLEST = 1e-6
"""Share of the largest principal variance below which a component is rounding."""
MOST_SQUARE = 2048
"""Most values of an example for which a matrix of all pairs of them is decomposed."""
MOST_VALUES = 50_000_000
"""Of the rows from which components are found otherwise, 400 MB; of more, every second row is taken, or third, ..."""
QUIET = 1e-3
"""Share of the mean variance of a value that counts as noise where the components leave less."""


class StartAtPCA(L.Callback):
    """Before the first step, sets the linear paths of encoder and decoder so that the model rebuilds what PCA does with
    as many components as there are latents.

    The nonlinear layers, whose gates start at 0, then learn what PCA cannot. Deterministic latents start as the
    principal components, scaled to variance 1. Gaussian ones start as the posterior of probabilistic PCA: for a
    component of variance v and noise of variance s (the mean of what the components leave), the mean is the
    component times sqrt(v - s) / v, the variance s / v, and the decoder's column sqrt(v - s) long. "Probabilistic
    Principal Component Analysis" (Tipping and Bishop, 1999), equations 6 to 8.

    The model is validated before the first step too, so that where training only makes it worse, the start is what the
    best checkpoint holds. Missing values of the training rows are put at the mean.

    Args:
        when: `never`; `possible`, on models that have what it takes; or `always`, which refuses others.

    Raises:
        UserError: another `when`; or, with `always`, a model without what it takes.
    """

    def __init__(self, when: str = "possible") -> None:
        require(when in get_args(When), f"callbacks.start_at_pca.when must be never, possible or always, not '{when}'")
        self.when = when

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module = cast(AutoencoderModule, pl_module)
        lacks = lacking(module.model)
        require(self.when != "always" or lacks is None, f"callbacks.start_at_pca.when=always needs {lacks}")
        if self.when == "never" or lacks is not None or trainer.ckpt_path is not None:
            return
        kept = _start(module, cast(Any, trainer).datamodule)
        # Where nothing is recorded, nothing is said: the scikit-learn estimators.
        if kept and trainer.is_global_zero and trainer.loggers:
            log.info("starts at PCA with %d components; callbacks.start_at_pca.when=never starts at random", kept)
        if kept:
            # Where training only makes it worse, the start is the best checkpoint.
            trainer.num_sanity_val_steps = math.inf


def _start(module: AutoencoderModule, data: DataModule) -> int:
    """Put the model at PCA's solution; the number of components."""
    model = module.model
    most = min(model.latent_shape[0], model.encoder.out_shape[0])
    mean, components, variances, total = principal(data, most, derive(module.seed, "pca start") % 2**32)
    kept = int((variances > SMALLEST * variances[:1]).sum())
    if kept:
        start(model, components[:kept], variances[:kept], mean, total)
    return kept


def lacking(model: Autoencoder) -> str | None:
    """What a model needs to start at PCA and has not; None where it can."""
    encoder, bottleneck, decoder = model.encoder, model.bottleneck, model.decoder
    ends = isinstance(encoder, MLPEncoder) and isinstance(decoder, MLPDecoder)
    if not (ends and encoder.shortcut is not None and decoder.shortcut is not None):
        return "encoder=mlp and decoder=mlp with encoder.shortcut=true and decoder.shortcut=true"
    plain = type(bottleneck) is Gaussian or (
        type(bottleneck) is Deterministic
        and isinstance(bottleneck.activation, nn.Identity)
        and isinstance(bottleneck.projection, nn.Linear)
    )
    if not plain or model.read_shape != model.latent_shape:
        return "bottleneck=gaussian, or bottleneck=deterministic without an activation, alone before the decoder"
    if not isinstance(model.input, Identity):
        return "input=identity"
    trial = torch.full(model.spec.shape, 0.25)
    params = model.likelihood.params_of_mean(trial)
    if params is None or not torch.equal(params, trial):
        return "a likelihood whose one parameter is its mean, such as likelihood=gaussian_optimal"
    return None


Array = NDArray[np.float64]


def principal(data: DataModule, most: int, seed: int) -> tuple[Array, Array, Array, float]:
    """The mean `[D]` of the training rows, their first principal components `[K, D]` and the variances of these `[K]`,
    with K at most `most`, and the variance summed over all values; no component where all rows are alike."""
    values, size = math.prod(data.spec.shape), data.spec.size
    mean = mean_of(data.ordered_loader("train"), values)
    if 1 < size >= values and values <= MOST_SQUARE:
        return mean, *_by_covariance(data, mean, min(most, size - 1))
    every = max(1, math.ceil(size * values / MOST_VALUES))
    rows = np.concatenate([part[::every] for part in _centred(data, mean)])
    total = float(rows.var(0, ddof=1).sum()) if len(rows) > 1 else 0.0
    if total == 0:
        return mean, np.zeros((0, values)), np.zeros(0), total
    from sklearn.decomposition import PCA  # takes half a second, which most runs need not wait for

    pca = PCA(min(most, *rows.shape), random_state=seed).fit(rows)
    return mean, pca.components_, pca.explained_variance_, total


def _by_covariance(data: DataModule, mean: Array, most: int) -> tuple[Array, Array, float]:
    """Components, variances and their sum from a matrix that is summed batch by batch, so that no more rows than a
    batch are ever dense."""
    product = np.zeros((len(mean), len(mean)))
    for part in _centred(data, mean):
        product += part.T @ part
    covariance = product / max(data.spec.size - 1, 1)
    first = max(len(mean) - most, 0)
    from scipy.linalg import eigh

    variances, vectors = eigh(covariance, subset_by_index=[first, len(mean) - 1])
    kept = variances[::-1] > 0
    return vectors.T[::-1][kept], variances[::-1][kept], float(covariance.trace())


def _centred(data: DataModule, mean: Array) -> Iterator[Array]:
    """The training rows without the mean, `[B, D]`; missing values are 0."""
    for batch in data.ordered_loader("train"):
        rows = flat(batch.truth).astype(np.float64) - mean
        yield rows if batch.observed is None else np.where(flat(batch.observed), rows, 0.0)


@torch.no_grad()
def start(model: Autoencoder, components: np.ndarray, variances: np.ndarray, mean: np.ndarray, total: float) -> None:
    """Set the linear paths; the model is one that `lacking` finds nothing amiss with.

    Args:
        components: `[k, D]`, orthonormal rows, with k at most the number of latents and of the encoder's features.
        variances: of the components, `[k]`, above 0.
        mean: of the data, `[D]`.
        total: the variance of the data, summed over values.
    """
    kept, values = components.shape
    left, noise = max(total - float(variances.sum()), 0.0), 0.0
    if type(model.bottleneck) is Gaussian:
        noise = max(left / max(values - kept, 1), QUIET * total / values)
    model.likelihood.expect_error(noise or left / values)
    # Latents whose component is no larger than noise would be switched off for good by a column of length 0.
    lengths = np.sqrt(np.maximum(variances - noise, 0.01 * variances))
    _encode(model, components * (lengths / variances)[:, None], mean)
    _decode(model, (components * lengths[:, None]).T, mean)
    if noise:
        _spread(model, np.minimum(noise / variances, 1.0))


def _encode(model: Autoencoder, rows: np.ndarray, mean: np.ndarray) -> None:
    """The first latents become `rows [k, D]` times what is left of x without its mean."""
    linear, projection = _shortcut(model.encoder), _projection(model)
    kept = len(rows)
    linear.weight[:kept] = _as(rows, linear.weight)
    projection.weight[:kept] = torch.eye(kept, projection.in_features, device=projection.weight.device)
    projection.bias[:kept] = _as(-rows @ mean, projection.bias)


def _decode(model: Autoencoder, columns: np.ndarray, mean: np.ndarray) -> None:
    """The decoder becomes the mean and `columns [D, k]` times the first latents."""
    linear = _shortcut(model.decoder)
    last = cast(nn.Linear, cast(Any, model.decoder).blocks[-1][0])
    linear.weight.zero_()
    linear.weight[:, : columns.shape[1]] = _as(columns, linear.weight)
    last.bias.copy_(_as(mean, last.bias))


def _spread(model: Autoencoder, variances: np.ndarray) -> None:
    """The posteriors of the first latents have these variances whatever x is, the others the prior's."""
    projection, dim = _projection(model), math.prod(model.latent_shape)
    projection.weight[dim:] = 0
    projection.bias[dim:] = 0
    projection.bias[dim : dim + len(variances)] = _as(np.log(variances), projection.bias)


def _shortcut(part: nn.Module) -> nn.Linear:
    return cast(nn.Linear, cast(Any, part).shortcut.linear)


def _projection(model: Autoencoder) -> nn.Linear:
    return cast(nn.Linear, model.bottleneck.projection)


def _as(values: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(like)
