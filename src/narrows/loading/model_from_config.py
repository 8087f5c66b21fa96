"""Building a model from a run's config, and reading the weights of its checkpoint; `open_run` combines both."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import torch
from hydra.utils import get_object
from omegaconf import DictConfig

from narrows.config.building import build
from narrows.config.plain_schema import require_fits
from narrows.errors import UserError
from narrows.loading import permitted_classes
from narrows.models.autoencoder import Autoencoder
from narrows.models.stages import Stages
from narrows.random import seed_default
from narrows.runs import checkpoint_files
from narrows.runs.file_names import CHECKPOINTS, CONFIG
from narrows.runs.weight_files import SUFFIX
from narrows.types import DataSpec


def read_config(run_dir: Path) -> DictConfig:
    """A run's resolved config, as plain values; `permitted_classes.require_trusted` says whether it may be built.

    Raises:
        UserError: the directory or its config is missing, or the file is not the config of a run.
    """
    path = Path(run_dir) / CONFIG
    if not path.is_file():
        raise UserError(f"{run_dir} is not a run directory: it has no {CONFIG}")
    return permitted_classes.read_config(path)


def build_model(config: DictConfig, spec: DataSpec) -> Autoencoder:
    """The untrained model of a config; its initial weights depend on the config's seed alone.

    Raises:
        UserError: stages that do not fit the data or each other.
    """
    seed_default(config.seed, "init")
    stages = Stages(**{field.name: build(config[field.name], field.name) for field in fields(Stages)})
    return build(config.model, "model", spec, stages)


def without_start(config: DictConfig) -> DictConfig:
    """The config without options that name files of initial weights, which a checkpoint replaces."""
    for option in getattr(get_object(config.encoder._target_), "initial", ()):
        config.encoder[option] = None
    return config


def untrained(run_dir: Path, spec: DataSpec, seed: int) -> Autoencoder:
    """A run's model as it was before training, but with initial weights of another `seed`.

    Raises:
        UserError: the directory is not that of a run.
    """
    config = without_start(read_config(run_dir))
    config.seed = seed
    return build_model(config, spec)


def checkpoint_path(run_dir: Path, which: str) -> Path:
    """The path of checkpoint `best` (by the monitored figure; else the last) or `last`.

    Raises:
        UserError: the run has no checkpoint.
    """
    folder = Path(run_dir) / CHECKPOINTS
    names = ["best", "last"] if which == "best" else [which]
    for path in (folder / f"{name}{suffix}" for name in names for suffix in (".ckpt", SUFFIX)):
        if path.is_file():
            return path
    raise UserError(f"there is no {which} checkpoint in {folder}")


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The weights of the LightningModule in a checkpoint.

    Raises:
        UserError: the file is damaged, or holds anything but tensors and plain values.
    """
    state = checkpoint_files.read(path)
    require_fits(dict[str, torch.Tensor], state.get("state_dict"), f"{path}, state_dict,")
    return state["state_dict"]
