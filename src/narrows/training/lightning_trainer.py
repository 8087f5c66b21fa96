"""Building the Lightning Trainer of a run, with its loggers and callbacks."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import lightning as L
import torch
from omegaconf import DictConfig, OmegaConf

from narrows.compare.varied_keys import BOOKKEEPING
from narrows.config.building import build
from narrows.config.composition import is_chosen
from narrows.errors import UserError, first_line, require
from narrows.losses import Objective
from narrows.runs.job import Job
from narrows.tasks.base import Task
from narrows.training.begin_resumed import BeginResumed
from narrows.training.callbacks.averaged_weights import AveragedWeights
from narrows.training.callbacks.resample_dead import ResampleDead
from narrows.training.callbacks.write_checkpoints import CheckpointFiles
from narrows.training.library_options import as_started, check_trainer_options
from narrows.training.processes import watch
from narrows.training.tensorboard import TensorBoard

PROFILERS = {
    "simple": "lightning.pytorch.profilers.SimpleProfiler",
    "advanced": "lightning.pytorch.profilers.AdvancedProfiler",
}

FSDP = "fsdp"
WRITE_WEIGHTS = (AveragedWeights, ResampleDead)
"""Callbacks that change weights or the optimiser's values while training goes on."""


def quieten() -> None:
    """Silence notices of Lightning about its own internals, which do not help a user of narrows."""
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    # Where a cluster's commands are installed, also in runs of one process that nobody meant to queue.
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
    # Of FSDP2: nothing writes into the total of a loss in place.
    warnings.filterwarnings("ignore", message=".*returned a view tensor.*")
    # Irrelevant here: figures are summed over the processes before they are logged.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    for name in ("pytorch.utilities.rank_zero", "pytorch.accelerators.cuda", "fabric.utilities.distributed"):
        logging.getLogger(f"lightning.{name}").setLevel(logging.WARNING)


def check_trainer(options: DictConfig) -> None:
    """Refuse options on which Lightning would fail late or with an unclear message.

    Raises:
        UserError: names the option.
    """
    check_trainer_options(options)
    if options.get("accelerator") in ("gpu", "cuda") and not (
        torch.cuda.is_available() or torch.backends.mps.is_available()
    ):
        raise UserError(
            f"trainer.accelerator={options.accelerator}, but torch {torch.__version__} finds no GPU here; use "
            "trainer=cpu, trainer=auto, or a build of torch that fits the machine's driver"
        )
    _require_end(options)


def make_trainer(
    config: DictConfig, job: Job, begin: BeginResumed | None = None, loggers: list[Any] | None = None
) -> L.Trainer:
    """The Trainer with the loggers and callbacks of the config; `begin` makes those of a resumed run wait.

    Args:
        loggers: those of a Trainer that this one takes the place of.

    Raises:
        UserError: an option that Lightning refuses, or a logger whose extra is not installed.
    """
    # Deterministic mode would fill every new tensor with NaN, a safeguard against kernels that read uninitialised
    # memory; it costs several percent of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    held = loggers is not None
    if loggers is None:
        loggers = [build(node, f"logger.{name}", save_dir=job.directory) for name, node in config.logger.items()]
    named = {str(name): build(node, f"callbacks.{name}") for name, node in config.callbacks.items()}
    callbacks = list(named.values())
    if begin is not None:
        loggers = loggers if held else begin.hold_back(loggers)
        begin.keep_options({callback: config.callbacks[name] for name, callback in named.items()})
        callbacks = [begin, *callbacks]
    if job.sweep is not None and job.sweep.trial is not None:
        from narrows.sweeps.pruning import Pruning

        callbacks.append(Pruning(job.sweep.trial))
    return _build_trainer(
        _with_report(_tried_once(config.trainer), job),
        **_strategy(config, named),
        **as_started(config.trainer),
        logger=loggers,
        callbacks=callbacks,
        plugins=[CheckpointFiles()],
        default_root_dir=str(job.directory),
        enable_progress_bar="progress" in config.callbacks,
    )


def _strategy(config: DictConfig, callbacks: Mapping[str, L.Callback]) -> dict[str, Any]:
    """narrows' own strategy, where `fsdp` asks for it."""
    if config.trainer.get("strategy") != FSDP:
        return {}
    writing = [name for name, callback in callbacks.items() if isinstance(callback, WRITE_WEIGHTS)]
    require(
        not writing,
        f"trainer.strategy=fsdp divides the weights between the processes, and callbacks.{''.join(writing[:1])} reads "
        "and writes them as a whole: use trainer=ddp, or leave it out",
    )
    precision, compiled = config.trainer.get("precision"), config.module.get("compile")
    require(
        precision not in ("16-mixed", 16, "16") and not compiled,
        "trainer.strategy=fsdp takes neither trainer.precision=16-mixed, whose scale each process would find alone, "
        "nor module.compile=true: use bf16-mixed, or trainer=ddp",
    )
    from narrows.training.fully_sharded import FullyShardedStrategy

    return {"strategy": FullyShardedStrategy()}


def _tried_once(options: DictConfig) -> DictConfig:
    """The Trainer's options with the limits that `fast_dev_run` stands for.

    Lightning's own would also take the loggers away, by whose histories a run is recorded.
    """
    asked = options.get("fast_dev_run")
    if not asked:
        return options
    batches = int(asked)
    require(batches > 0, f"trainer.fast_dev_run must be true, false or a number of batches, not {asked}")
    splits = dict.fromkeys(("limit_train_batches", "limit_val_batches", "limit_test_batches"), batches)
    whole = {"check_val_every_n_epoch": 1, "val_check_interval": None, "overfit_batches": 0.0, "max_time": None}
    ends = {"max_epochs": 1, "max_steps": batches, "min_epochs": None, "min_steps": None}
    limits: dict[str, Any] = {"fast_dev_run": False, "num_sanity_val_steps": 0, **splits, **whole, **ends}
    values: dict[str, Any] = {str(key): value for key, value in options.items()}
    return OmegaConf.create(values | limits)


def _with_report(options: DictConfig, job: Job) -> DictConfig:
    """The Trainer's options with a profiler that writes to the run directory, where a name asks for one."""
    name = options.get("profiler")
    if not isinstance(name, str) or name not in PROFILERS:
        return options
    made = {"_target_": PROFILERS[name], "dirpath": str(job.directory), "filename": "profile"}
    values: dict[str, Any] = {str(key): value for key, value in options.items()}
    return OmegaConf.create(values | {"profiler": made})


def _build_trainer(node: DictConfig, **parts: Any) -> L.Trainer:
    try:
        trainer: L.Trainer = build(node, "trainer", **parts)
    except UserError:
        raise
    except Exception as error:  # Lightning refuses options with errors of many kinds
        raise UserError(f"trainer: {first_line(error)}") from error
    watch(trainer.strategy)
    return trainer


def declare(
    trainer: L.Trainer,
    config: DictConfig,
    job: Job,
    model: Any,
    objective: Objective,
    tasks: Mapping[str, Task],
    others: Sequence[str] = (),
    split: Literal["test", "val"] = "test",
) -> None:
    """Declare the run's hyper-parameters and final figures, of that split, to TensorBoard before it starts."""
    metrics = [f"{split}/loss", *(f"{split}/{name}" for name in objective)]
    metrics += [*([f"{split}/elbo"] if model.bounds_evidence else []), *others]
    for task in tasks.values():
        metrics += task.declared(model.spec) if task.fits(model.spec, model) is None else ()
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoard):
            logger.declare(hyperparameters(config, job), dict.fromkeys(metrics), objective)


def hyperparameters(config: DictConfig, job: Job) -> dict[str, Any]:
    """The hyper-parameters by name: in a sweep the keys in which its jobs differ, else variant, size of the latent and
    what was asked for. They are few, because TensorBoard sorts them by name and shows the first five."""
    if job.sweep is not None:
        keys = list(job.sweep.varied)
    else:
        asked = [override.partition("=")[0].lstrip("+~") for override in job.overrides]
        keys = ["variant", "bottleneck.dim", *(key for key in asked if not BOOKKEEPING.fullmatch(key))]
    values = {key: job.choices.get(key, OmegaConf.select(config, key)) for key in keys}
    return {key: value for key, value in values.items() if is_chosen(value)}


def _require_end(options: DictConfig) -> None:
    """Refuse a run that would train for ever: Lightning takes -1 epochs for no limit."""
    epochs, others = options.get("max_epochs"), (options.get("max_steps"), options.get("max_time"))
    require(
        epochs is None or epochs >= 0 or (epochs == -1 and others not in ((-1, None), (None, None))),
        f"trainer.max_epochs must be at least 0, not {epochs}: -1 is for runs that max_steps or max_time ends",
    )
