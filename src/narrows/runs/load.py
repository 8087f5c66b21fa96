"""A finished run, as a model."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from narrows.config import build, check_keys
from narrows.errors import UserError
from narrows.model import Autoencoder
from narrows.random import seed_default
from narrows.runs.directory import CONFIG, MANIFEST, read_json
from narrows.types import DataSpec

STAGES = ("encoder", "bottleneck", "decoder", "likelihood", "corruption")


def read_config(run_dir: Path) -> DictConfig:
    """A run's resolved config.

    Raises:
        UserError: the directory or its config is missing.
    """
    path = Path(run_dir) / CONFIG
    if not path.is_file():
        raise UserError(f"{run_dir} is not a run directory: it has no {CONFIG}")
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    return config


def build_model(config: DictConfig, spec: DataSpec) -> Autoencoder:
    """The untrained model of a config, its initial weights a function of the config's seed alone.

    Raises:
        UserError: stages that do not fit the data or each other.
    """
    seed_default(config.seed, "init")
    stages = {name: build(config[name], name) for name in STAGES}
    return build(config.model, "model", spec, **stages)


def checkpoint_path(run_dir: Path, which: str) -> Path:
    """`best` (lowest monitored figure; the last where none was kept) or `last`.

    Raises:
        UserError: the run has no checkpoint.
    """
    folder = Path(run_dir) / "checkpoints"
    names = ["best", "last"] if which == "best" else [which]
    for name in names:
        if (folder / f"{name}.ckpt").is_file():
            return folder / f"{name}.ckpt"
    raise UserError(f"there is no {which} checkpoint in {folder}")


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The module's state in a checkpoint; nothing but tensors and plain values is ever unpickled.

    Raises:
        UserError: the file is torn or holds anything else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError, OSError) as error:
        raise UserError(f"{path} is not a readable checkpoint ({type(error).__name__})") from error


def load(run_dir: str | Path, checkpoint: str = "best") -> Autoencoder:
    """The trained model of a run, in evaluation mode on the CPU.

    It has `encode / decode / reconstruct / embed / sample`; see `narrows.model.Autoencoder`.

    Args:
        run_dir: what `narrows train` printed.
        checkpoint: `best` or `last`.

    Raises:
        UserError: no such run, or it has no readable checkpoint.
    """
    run_dir = Path(run_dir)
    config = read_config(run_dir)
    check_keys(config)
    data = read_json(run_dir / MANIFEST).get("data")
    if data is None:
        raise UserError(f"{run_dir} stopped before its data were read: there is no model to load")
    model = build_model(config, DataSpec.from_dict(data))
    weights = read_weights(checkpoint_path(run_dir, checkpoint))
    model.load_state_dict({key.removeprefix("model."): w for key, w in weights.items() if key.startswith("model.")})
    return model.eval()
