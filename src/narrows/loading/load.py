"""A finished run, as a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import torch
from hydra.utils import get_object
from omegaconf import DictConfig

from narrows.config.composition import build, check_keys
from narrows.errors import UserError
from narrows.files import read_json
from narrows.loading import fitted_density, trust
from narrows.models.autoencoder import Autoencoder, Stages
from narrows.random import seed_default
from narrows.runs import checkpoints
from narrows.runs.file_names import CHECKPOINTS, CONFIG, MANIFEST
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


def _without_start(config: DictConfig) -> DictConfig:
    """The config without the options that a checkpoint outdates: their files may be gone, or elsewhere."""
    for option in getattr(get_object(config.encoder._target_), "initial", ()):
        config.encoder[option] = None
    return config


def untrained(run_dir: Path, spec: DataSpec, seed: int) -> Autoencoder:
    """A run's model as it was before training, its random initial weights those of another `seed`.

    Raises:
        UserError: the directory is no run's.
    """
    config = _without_start(read_config(run_dir))
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


def load(run_dir: str | Path, checkpoint: str = "best", allow: Sequence[str] = ()) -> Autoencoder:
    """The trained model of a run, in evaluation mode on the CPU.

    The run may be a stranger's: its config builds components of narrows, torch, torchvision and Lightning and
    nothing else (`narrows.loading.trust`), and its checkpoint holds tensors and plain values and nothing else.
    The model has `encode / decode / reconstruct / embed / sample`; see `narrows.models.Autoencoder`. A density that
    the run fitted to the latents of this checkpoint is attached to it: samples are drawn from that.

    Args:
        run_dir: what `narrows train` printed.
        checkpoint: `best` or `last`.
        allow: packages of your own that the config may name too, such as `["mylab"]`.

    Raises:
        UserError: no such run, it has no readable checkpoint, or its config names what is not allowed.
    """
    run_dir = Path(run_dir)
    config = read_config(run_dir)
    trust.require_trusted(config, allow)
    check_keys(config)
    data = read_json(run_dir / MANIFEST).get("data")
    if data is None:
        raise UserError(f"{run_dir} stopped before its data were read: there is no model to load")
    model = build_model(_without_start(config), DataSpec.from_dict(data))
    weights = read_weights(checkpoint_path(run_dir, checkpoint))
    model.load_state_dict({key.removeprefix("model."): w for key, w in weights.items() if key.startswith("model.")})
    fitted_density.attach(model, fitted_density.fitted_path(run_dir), checkpoint_path(run_dir, checkpoint), allow)
    return model.eval()
