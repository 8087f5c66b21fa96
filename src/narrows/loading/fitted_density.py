"""Densities fitted to the latents of a run: building, fitting, storing and attaching them."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from narrows.config.building import build, class_of
from narrows.config.composition import check_keys, choice_files
from narrows.densities.base import Density
from narrows.errors import UserError
from narrows.evaluation import EvaluationData
from narrows.loading import permitted_classes
from narrows.models.autoencoder import Autoencoder
from narrows.random import seed_default
from narrows.runs import checkpoint_files
from narrows.runs.file_names import CHECKPOINTS
from narrows.runs.old_names import current_config
from narrows.runs.weight_files import SUFFIX

log = logging.getLogger(__name__)
FILE = "density.ckpt"


def fitted_path(run_dir: Path) -> Path:
    """The path of the density that the run itself fits at its end."""
    folder = Path(run_dir) / CHECKPOINTS
    others = (folder / "prior.ckpt", (folder / FILE).with_suffix(SUFFIX))
    found = [path for path in (folder / FILE, *others) if path.is_file()]
    return found[0] if found else folder / FILE


def build_density(node: DictConfig | None, model: Autoencoder, seed: int) -> Density | None:
    """The density of a config before it is fitted; its initial weights depend on the seed alone.

    Raises:
        UserError: a latent that it cannot read, or an option out of its range.
    """
    if node is None:
        return None
    class_of(node, "density", Density).check(type(model), model.bottleneck)
    seed_default(seed, "init", "prior")
    return build(node, "density", model)


def fit(density: Density, node: DictConfig, model: Autoencoder, data: EvaluationData, seed: int) -> dict[str, float]:
    """Fit the density to the model's latents and attach it; returns its figures."""
    name, start = node._target_.rpartition(".")[2], time.perf_counter()
    log.info("fitting %s to the latents", name)
    figures = density.fit(model, data, seed)
    shown = ", ".join(f"{figure.removeprefix('density/')} {value:.4g}" for figure, value in figures.items())
    log.info("fitted %s in %.0f s: %s nats", name, time.perf_counter() - start, shown)
    model.density = density
    return figures


def save(density: Density, node: DictConfig, weights: Path, path: Path) -> None:
    """Store a density with its config and the checksum of the `weights` whose latents it was fitted to."""
    state = {
        "config": OmegaConf.to_container(node, resolve=True),
        "fitted_to": checkpoint_files.checksum(weights),
        "state_dict": {name: tensor.cpu() for name, tensor in density.state_dict().items()},
    }
    checkpoint_files.save_as(state, path)


def attach(
    model: Autoencoder, path: Path, weights: Path, allow: Sequence[str] = (), asked: DictConfig | None = None
) -> bool:
    """Attach to the model the density stored at `path`; returns whether there was one for these `weights`.

    Args:
        model: loaded from `weights`.
        path: of the stored density.
        weights: the checkpoint file; a density fitted to another checkpoint's latents is not attached.
        allow: packages that its config may name.
        asked: if given, attach only a density with this config.

    Raises:
        UserError: a damaged file, or a config that names what is not allowed.
    """
    if not path.is_file():
        return False
    state = checkpoint_files.read(path)
    node = _config(state, path)
    if state.get("fitted_to") != checkpoint_files.checksum(weights):
        log.warning("%s was fitted to other weights than %s and is not used", path, weights)
        return False
    if asked is not None and node != asked:
        return False
    permitted_classes.require_trusted(OmegaConf.create({"density": node}), allow)
    check_keys(OmegaConf.create({"density": node}))
    density = build_density(node, model, 0)
    assert density is not None
    checkpoint_files.restore(density, state.get("state_dict"), path)
    model.density = density.eval()
    return True


def _config(state: Any, path: Path) -> DictConfig:
    values = state.get("config") if isinstance(state, dict) else None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no density: it has no config")
    return OmegaConf.create(current_config(values))


def choices() -> dict[str, DictConfig]:
    """The densities that narrows ships, by name."""
    return {name: OmegaConf.load(path) for name, path in choice_files("density").items()}  # type: ignore[misc]


def fitting(model: Autoencoder) -> list[str]:
    """The names of the densities that can be fitted to this model's latents."""
    kinds = {name: class_of(node, "density", Density) for name, node in choices().items()}
    classes = model.spec.num_classes is not None
    return [
        name
        for name, kind in kinds.items()
        if issubclass(model.latent_kind, kind.requires) and (classes or not kind.by_class)
    ]
