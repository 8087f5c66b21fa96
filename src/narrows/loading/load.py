"""The parts of which a model is put together from a run's config and checkpoint; `open_run` does so."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import torch
from hydra.utils import get_object
from omegaconf import DictConfig

from narrows.config.composition import build
from narrows.errors import UserError
from narrows.loading import trust
from narrows.models.autoencoder import Autoencoder, Stages
from narrows.random import seed_default
from narrows.runs import checkpoints
from narrows.runs.file_names import CHECKPOINTS, CONFIG
from narrows.types import DataSpec


def read_config(run_dir: Path) -> DictConfig:
    """A run's resolved config, plain values only; `narrows.loading.trust.require_trusted` says whether to build it.

    Raises:
        UserError: the directory or its config is missing, or the config is none of a run.
    """
    path = Path(run_dir) / CONFIG
    if not path.is_file():
        raise UserError(f"{run_dir} is not a run directory: it has no {CONFIG}")
    return trust.read_config(path)


def build_model(config: DictConfig, spec: DataSpec) -> Autoencoder:
    """The untrained model of a config, its initial weights a function of the config's seed alone.

    Raises:
        UserError: stages that do not fit the data or each other.
    """
    seed_default(config.seed, "init")
    stages = Stages(**{field.name: build(config[field.name], field.name) for field in fields(Stages)})
    return build(config.model, "model", spec, stages)


def without_start(config: DictConfig) -> DictConfig:
    """The config without the options that a checkpoint outdates: their files may be gone, or elsewhere."""
    for option in getattr(get_object(config.encoder._target_), "initial", ()):
        config.encoder[option] = None
    return config


def untrained(run_dir: Path, spec: DataSpec, seed: int) -> Autoencoder:
    """A run's model as it was before training, its random initial weights those of another `seed`.

    Raises:
        UserError: the directory is no run's.
    """
    config = without_start(read_config(run_dir))
    config.seed = seed
    return build_model(config, spec)


def checkpoint_path(run_dir: Path, which: str) -> Path:
    """`best` (lowest monitored figure; the last where none was kept) or `last`.

    Raises:
        UserError: the run has no checkpoint.
    """
    folder = Path(run_dir) / CHECKPOINTS
    names = ["best", "last"] if which == "best" else [which]
    for name in names:
        if (folder / f"{name}.ckpt").is_file():
            return folder / f"{name}.ckpt"
    raise UserError(f"there is no {which} checkpoint in {folder}")


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The module's state in a checkpoint.

    Raises:
        UserError: the file is damaged, or holds anything but tensors and plain values.
    """
    return checkpoints.read(path)["state_dict"]
