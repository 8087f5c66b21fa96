"""The kind of class that each key of a config names, and what it is called with."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from hydra.utils import get_object
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from narrows.bottlenecks import Bottleneck
from narrows.config.composition import HYDRA_KEYS
from narrows.corruptions import Corruption
from narrows.data.datamodule import DataModule
from narrows.densities import Density
from narrows.errors import OWN_CLASSES, UserError, first_line, require
from narrows.inputs import Input
from narrows.layers.stages import Decoder, Encoder
from narrows.likelihoods import Likelihood
from narrows.losses import Term
from narrows.models import Autoencoder
from narrows.tasks.base import Task
from narrows.training.lightning_module import AutoencoderModule


@dataclass(frozen=True)
class _Kind:
    """The base class of a component, and the arguments that narrows calls it with.

    `called_with` is empty where the config alone gives all arguments; else the config says `_partial_: true`.
    """

    base: type
    called_with: tuple[str, ...] = ()
    by_name: tuple[str, ...] = ()
    made_by_functions: bool = False
    """Whether a function may stand in the place of a class; it is taken at its word."""


ONE = {
    "datamodule": _Kind(DataModule),
    "corruption": _Kind(Corruption, ("spec",)),
    "input": _Kind(Input, ("spec",)),
    "encoder": _Kind(Encoder, ("in_shape",)),
    "bottleneck": _Kind(Bottleneck, ("in_shape",)),
    "decoder": _Kind(Decoder, ("in_shape", "out_shape")),
    "likelihood": _Kind(Likelihood, ("spec",)),
    "model": _Kind(Autoencoder, ("spec", "stages")),
    "density": _Kind(Density, ("model",)),
    "module": _Kind(AutoencoderModule, ("model", "objective"), ("optimizer", "scheduler", "seed")),
    "optimizer": _Kind(torch.optim.Optimizer, ("params",), made_by_functions=True),
    "scheduler": _Kind(torch.optim.lr_scheduler.LRScheduler, ("optimizer",), made_by_functions=True),
    "trainer": _Kind(L.Trainer, (), ("logger", "callbacks", "plugins", "default_root_dir", "enable_progress_bar")),
}
"""By key of the config."""
NAMED = {
    "loss": _Kind(Term),
    "tasks": _Kind(Task),
    "callbacks": _Kind(L.Callback),
    "logger": _Kind(Logger, (), ("save_dir",), made_by_functions=True),
}
"""By key of the config, below which components have names."""


def check_kinds(config: DictConfig) -> None:
    """Refuse a component of another kind than its key asks for, before anything is built.

    Raises:
        UserError: names the key, what it is called with, and where that is written.
    """
    for path, node, kind in _components(config):
        target = get_object(node._target_)
        if isinstance(target, type) or not kind.made_by_functions:
            fits = isinstance(target, type) and issubclass(target, kind.base)
            require(fits, _refusal(path, node, kind))
        partial = bool(kind.called_with or kind.by_name)
        require(bool(node.get("_partial_")) is partial, _refusal(path, node, kind))
        _check_call(path, node, target, kind)


def _components(config: DictConfig) -> Iterator[tuple[str, DictConfig, _Kind]]:
    for key, kind in ONE.items():
        if config.get(key) is not None:
            yield key, config[key], kind
    for key, kind in NAMED.items():
        for name, node in config[key].items():
            yield f"{key}.{name}", node, kind


def _check_call(path: str, node: DictConfig, target: Any, kind: _Kind) -> None:
    """Refuse a class that cannot be called with what it is called with."""
    options = {str(key): None for key in node if key not in HYDRA_KEYS}
    options |= dict.fromkeys(kind.by_name)
    if getattr(target, "autoregressive", False):
        options["spec"] = None
    if issubclass(kind.base, Encoder | Decoder) and getattr(target, "reads_parts", False):
        options["layout"] = None
    try:
        inspect.signature(target).bind(*kind.called_with, **options)
    except TypeError as error:
        raise UserError(f"{_refusal(path, node, kind)} ({first_line(error)})") from error
    except ValueError:  # written in C: it has no signature
        return


def _refusal(path: str, node: DictConfig, kind: _Kind) -> str:
    given = [*kind.called_with, *(f"{name}=" for name in kind.by_name)]
    how = f"with _partial_: true, which is called with ({', '.join(given)})" if given else "without _partial_"
    what = f"{path} names a class of kind {kind.base.__name__}, {how}"
    return f"{path}: '{node._target_}' cannot stand here: {what}; {OWN_CLASSES}"
