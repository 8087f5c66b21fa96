"""Densities fitted to the latents of a run: built, fitted, stored with their own config, and attached again."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from narrows.config.composition import build, check_keys, choice_files, class_of
from narrows.densities.base import Density
from narrows.errors import UserError
from narrows.evaluation import EvaluationData
from narrows.loading import trust
from narrows.models.autoencoder import Autoencoder
from narrows.random import seed_default
from narrows.runs import checkpoints
from narrows.runs.file_names import CHECKPOINTS
from narrows.runs.old_names import current_config

log = logging.getLogger(__name__)
FILE = "density.ckpt"


def fitted_path(run_dir: Path) -> Path:
    """Of the density that the run itself fitted: where it is, else where it will be."""
    folder = Path(run_dir) / CHECKPOINTS
    old = folder / "prior.ckpt"
    return old if old.is_file() and not (folder / FILE).exists() else folder / FILE


def build_density(node: DictConfig | None, model: Autoencoder, seed: int) -> Density | None:
    """The density of a config before it is fitted, its start a function of the seed alone.

    Raises:
        UserError: a latent that it cannot read, or an option out of its range.
    """
    if node is None:
        return None
    class_of(node, "density", Density).check(type(model), model.bottleneck)
    seed_default(seed, "init", "prior")
    return build(node, "density", model)


def fit(density: Density, node: DictConfig, model: Autoencoder, data: EvaluationData, seed: int) -> dict[str, float]:
    """Fit it to the model's latents and attach it; its figures."""
    name, start = node._target_.rpartition(".")[2], time.perf_counter()
    log.info("fitting %s to the latents", name)
    figures = density.fit(model, data, seed)
    shown = ", ".join(f"{figure.removeprefix('density/')} {value:.4g}" for figure, value in figures.items())
    log.info("fitted %s in %.0f s: %s nats", name, time.perf_counter() - start, shown)
    model.density = density
    return figures


def save(density: Density, node: DictConfig, weights: Path, path: Path) -> None:
    """Store a density with its config, and with the checksum of the `weights` to whose latents it was fitted."""
    state = {
        "config": OmegaConf.to_container(node, resolve=True),
        "fitted_to": checkpoints.checksum(weights),
        "state_dict": {name: tensor.cpu() for name, tensor in density.state_dict().items()},
    }
    checkpoints.save_as(state, path)


def attach(
    model: Autoencoder, path: Path, weights: Path, allow: Sequence[str] = (), asked: DictConfig | None = None
) -> bool:
    """Give the model the density stored at `path`; whether there was one, of these `weights`.

    Args:
        model: loaded from `weights`.
        path: of the stored density.
        weights: the checkpoint file; a density of another one's latents is left where it is.
        allow: packages that its config may name.
        asked: attach only a density of this config.

    Raises:
        UserError: a damaged file, or a config that names what is not allowed.
    """
    if not path.is_file():
        return False
    state = checkpoints.read(path)
    node = _config(state, path)
    if state.get("fitted_to") != checkpoints.checksum(weights):
        log.warning("%s was fitted to other weights than %s and is not used", path, weights)
        return False
    if asked is not None and node != asked:
        return False
    trust.require_trusted(OmegaConf.create({"density": node}), allow)
    check_keys(OmegaConf.create({"density": node}))
    density = build_density(node, model, 0)
    assert density is not None
    try:
        density.load_state_dict(state["state_dict"])
    except (RuntimeError, KeyError) as error:
        raise UserError(f"{path} does not fit its model: {' '.join(str(error).split())[:300]}") from error
    model.density = density.eval()
    return True


def _config(state: dict[str, Any], path: Path) -> DictConfig:
    values = state.get("config")
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no density: it has no config")
    return OmegaConf.create(current_config(values))


def choices() -> dict[str, DictConfig]:
    """The densities that narrows ships, by name."""
    return {name: OmegaConf.load(path) for name, path in choice_files("density").items()}  # type: ignore[misc]


def fitting(model: Autoencoder) -> list[str]:
    """The names of those that can read this model's latents."""
    kinds = {name: class_of(node, "density", Density).requires for name, node in choices().items()}
    return [name for name, kind in kinds.items() if issubclass(model.latent_kind, kind)]
