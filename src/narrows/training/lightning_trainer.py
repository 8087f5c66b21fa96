"""Building the Lightning Trainer of a run, with its loggers and callbacks."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig, OmegaConf

from narrows.config.composition import build, is_chosen
from narrows.config.plain_yaml import flatten
from narrows.errors import UserError, require
from narrows.losses import Objective
from narrows.runs.job import Job
from narrows.tasks.base import Task
from narrows.training.callbacks.write_checkpoints import CheckpointFiles
from narrows.training.tensorboard import TensorBoard

CHOSEN = ("variant", "experiment", "datamodule", "input", "encoder", "decoder", "likelihood", "corruption", "density")
"""The config groups whose choices are hyper-parameters."""


def quieten() -> None:
    """Silence notices of Lightning about its own internals, which do not help a user of narrows."""
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    # Irrelevant here: figures are summed over the processes before they are logged.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    for name in ("pytorch.utilities.rank_zero", "pytorch.accelerators.cuda", "fabric.utilities.distributed"):
        logging.getLogger(f"lightning.{name}").setLevel(logging.WARNING)


def check_trainer(options: DictConfig) -> None:
    """Refuse options on which Lightning would fail late or with an unclear message.

    Raises:
        UserError: names the option.
    """
    every = options.get("check_val_every_n_epoch")
    require(every is None or every >= 1, f"trainer.check_val_every_n_epoch must be at least 1, not {every}")
    if options.get("accelerator") in ("gpu", "cuda") and not (
        torch.cuda.is_available() or torch.backends.mps.is_available()
    ):
        raise UserError(
            f"trainer.accelerator={options.accelerator}, but torch {torch.__version__} finds no GPU here; use "
            "trainer=cpu, trainer=auto, or a build of torch that fits the machine's driver"
        )
    _require_end(options)


def make_trainer(config: DictConfig, job: Job) -> L.Trainer:
    """The Trainer with the loggers and callbacks of the config.

    Raises:
        UserError: an option that Lightning refuses, or a logger whose extra is not installed.
    """
    # Deterministic mode would fill every new tensor with NaN, a safeguard against kernels that read uninitialised
    # memory; it costs several percent of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    loggers = [build(node, f"logger.{name}", save_dir=job.directory) for name, node in config.logger.items()]
    callbacks = [build(node, f"callbacks.{name}") for name, node in config.callbacks.items()]
    if job.sweep is not None and job.sweep.trial is not None:
        from narrows.sweeps.pruning import Pruning

        callbacks.append(Pruning(job.sweep.trial))
    trainer: L.Trainer = build(
        config.trainer,
        "trainer",
        logger=loggers,
        callbacks=callbacks,
        plugins=[CheckpointFiles()],
        default_root_dir=str(job.directory),
        enable_progress_bar="progress" in config.callbacks,
    )
    return trainer


def declare(
    trainer: L.Trainer,
    config: DictConfig,
    job: Job,
    model: Any,
    objective: Objective,
    tasks: Mapping[str, Task],
    others: Sequence[str] = (),
) -> None:
    """Declare the run's hyper-parameters and final figures to TensorBoard before it starts."""
    metrics = ["test/loss", *(f"test/{name}" for name in objective)]
    metrics += [*(["test/elbo"] if model.variational else []), *others]
    for task in tasks.values():
        metrics += task.figures if task.fits(model.spec, model) is None else ()
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoard):
            logger.declare(hyperparameters(config, job), list(dict.fromkeys(metrics)))


def hyperparameters(config: DictConfig, job: Job) -> dict[str, Any]:
    """The hyper-parameters by name: in a sweep the keys in which its jobs differ, else choices and numbers."""
    if job.sweep is not None:
        values = {key: job.choices.get(key, OmegaConf.select(config, key)) for key in job.sweep.varied}
        return {key: value for key, value in values.items() if value is not None}
    named = {key: job.choices[key] for key in CHOSEN if is_chosen(job.choices.get(key))}
    parts = {
        key: OmegaConf.to_container(config[key]) for key in ("bottleneck", "loss", "corruption", "encoder", "decoder")
    }
    numbers = {k: v for k, v in flatten(parts).items() if not k.split(".")[-1].startswith("_")}
    chosen = {"seed": config.seed, "lr": config.optimizer.get("lr"), "batch_size": config.datamodule.get("batch_size")}
    return named | numbers | chosen


def _require_end(options: DictConfig) -> None:
    """Refuse a run that would train for ever: Lightning takes -1 epochs for no limit."""
    epochs, others = options.get("max_epochs"), (options.get("max_steps"), options.get("max_time"))
    require(
        epochs is None or epochs >= 0 or (epochs == -1 and others not in ((-1, None), (None, None))),
        f"trainer.max_epochs must be at least 0, not {epochs}: -1 is for runs that max_steps or max_time ends",
    )
