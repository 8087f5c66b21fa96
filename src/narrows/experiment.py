"""One experiment, from its config to its record."""

from __future__ import annotations

import logging
import signal
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from narrows.config import build, build_later, check_keys, check_layout
from narrows.errors import UserError, require
from narrows.loggers import TensorBoard
from narrows.losses import Objective
from narrows.module import AutoencoderModule
from narrows.random import seed_default
from narrows.report import print_report
from narrows.runs.directory import CONFIG, RunDirectory, write_atomically
from narrows.runs.load import build_model, checkpoint_path, read_weights
from narrows.runs.manifest import is_main_process, surroundings
from narrows.tasks.base import Task, TaskContext, run_tasks

Figures = dict[str, float]
log = logging.getLogger(__name__)


def run(config: DictConfig) -> Figures:
    """Train, test and record what `config` describes; the final figures.

    Raises:
        UserError: anything in the config or the data that a user can mend.
    """
    quieten()
    asked, config = config, _resolved(config)
    check_layout(config, OmegaConf.to_yaml(asked))
    check_keys(config)
    objective = check_composition(config)
    directory = RunDirectory(Path(HydraConfig.get().runtime.output_dir))
    if not is_main_process():
        return _execute(config, objective, directory)
    directory.claim()
    directory.write_hydra(asked, cast(DictConfig | None, HydraConfig.instance().cfg))
    with recorded(directory, config):
        return _execute(config, objective, directory)


def _resolved(config: DictConfig) -> DictConfig:
    resolved = OmegaConf.create(OmegaConf.to_container(config, resolve=True, throw_on_missing=True))
    assert isinstance(resolved, DictConfig)
    OmegaConf.set_struct(resolved, True)
    return resolved


def quieten() -> None:
    """Silence what tells a user of narrows nothing: notices of Lightning's on its own inner parts."""
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
    # Figures are summed over the processes before they are logged.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    for name in ("pytorch.utilities.rank_zero", "pytorch.accelerators.cuda", "fabric.utilities.distributed"):
        logging.getLogger(f"lightning.{name}").setLevel(logging.WARNING)


def check_composition(config: DictConfig) -> Objective:
    """Build what needs no data, and refuse what cannot work together before any data are loaded.

    Raises:
        UserError: a value out of range, or a loss that cannot read the latent.
    """
    if HydraConfig.get().mode is RunMode.MULTIRUN and _devices(config) > 1:
        raise UserError(
            "a sweep (-m) over jobs with several devices would train other values on other ranks; "
            "start each job on its own, or set trainer.devices=1"
        )
    _check_trainer(config.trainer)
    objective = Objective({name: build(term, f"loss.{name}") for name, term in config.loss.items()})
    # The kind of latent does not depend on the width before it: any width does to ask for it.
    trial = build(config.bottleneck, "bottleneck", (4,))
    corruption = build(config.corruption, "corruption").func
    objective.check(trial.returns, type(trial), corruption)
    return objective


def _check_trainer(options: DictConfig) -> None:
    """What Lightning would meet late, or say in riddles."""
    every = options.get("check_val_every_n_epoch")
    require(every is None or every >= 1, f"trainer.check_val_every_n_epoch must be at least 1, not {every}")
    if options.get("accelerator") in ("gpu", "cuda") and not (
        torch.cuda.is_available() or torch.backends.mps.is_available()
    ):
        raise UserError(
            f"trainer.accelerator={options.accelerator}, but torch {torch.__version__} finds no GPU here; use "
            "trainer=cpu, trainer=auto, or a build of torch that fits the machine's driver"
        )


def _devices(config: DictConfig) -> int:
    devices = config.trainer.get("devices", 1)
    if isinstance(devices, int):
        return devices
    return 1 if devices != "auto" else max(1, torch.cuda.device_count())


@contextmanager
def recorded(directory: RunDirectory, config: DictConfig) -> Iterator[None]:
    """Keep the manifest's status truthful, whatever ends the run."""
    started = time.time()
    write_atomically(directory.path / CONFIG, OmegaConf.to_yaml(config))
    job = HydraConfig.get()
    choices = {key: str(value) for key, value in job.runtime.choices.items() if not key.startswith("hydra/")}
    directory.update(status="running", started=_stamp(started))
    directory.update(**surroundings(list(job.overrides.task), choices, config.seed))
    status, cause = "failed", None
    try:
        with _signals_as_exit():
            yield
        status = "completed"
    except (KeyboardInterrupt, SystemExit) as error:
        status, cause = "interrupted", type(error).__name__
        raise
    except BaseException as error:
        cause = f"{type(error).__name__}: {error}"
        raise
    finally:
        ended = time.time()
        directory.update(status=status, error=cause, ended=_stamp(ended), seconds=round(ended - started, 3))


def _stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


@contextmanager
def _signals_as_exit() -> Iterator[None]:
    """SIGTERM and SIGHUP end the run as SystemExit with the conventional code, so that it is recorded."""

    def leave(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    previous = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _execute(config: DictConfig, objective: Objective, directory: RunDirectory) -> Figures:
    tasks = {name: build(task, f"tasks.{name}") for name, task in config.tasks.items()}
    trainer = make_trainer(config, directory.path)
    seed_default(config.seed, "data")
    data = build(config.datamodule, "datamodule")
    data.setup()
    if is_main_process():
        directory.update(data=data.spec.to_dict())
    model = build_model(config, data.spec)
    module = build(
        config.module,
        "module",
        model,
        objective,
        optimizer=build_later(config.optimizer, "optimizer"),
        scheduler=build_later(config.scheduler, "scheduler"),
        seed=config.seed,
    )
    _announce(config, data, model, trainer)
    declare(trainer, config, model, objective, tasks)
    try:
        trainer.fit(module, datamodule=data)
    except MisconfigurationException as error:
        raise UserError(f"trainer: {' '.join(str(error).split())}") from error
    if trainer.interrupted:
        raise KeyboardInterrupt
    require(
        trainer.global_step > 0,
        "nothing was trained: trainer.max_epochs, max_steps, max_time or limit_train_batches allow no step",
    )
    return conclude(config, trainer, module, data, tasks, directory)


def make_trainer(config: DictConfig, path: Path) -> L.Trainer:
    """The Trainer with the loggers and callbacks of the config.

    Raises:
        UserError: an option that Lightning refuses, or a logger whose extra is not installed.
    """
    # Deterministic mode would fill every new tensor with NaN first: a safeguard for kernels that read what
    # nobody wrote, at several percent of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    loggers = [build(node, f"logger.{name}", save_dir=path) for name, node in config.logger.items()]
    callbacks = [build(node, f"callbacks.{name}") for name, node in config.callbacks.items()]
    try:
        return build(
            config.trainer,
            "trainer",
            logger=loggers,
            callbacks=callbacks,
            default_root_dir=str(path),
            enable_progress_bar="progress" in config.callbacks,
        )
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise UserError(f"trainer: {' '.join(str(error).split())}") from error


def _announce(config: DictConfig, data: Any, model: torch.nn.Module, trainer: L.Trainer) -> None:
    if not is_main_process():
        return
    choices = HydraConfig.get().runtime.choices
    what = choices.get("experiment") or choices.get("variant")
    parameters = sum(p.numel() for p in model.parameters())
    log.info(
        "%s on %s: %s training examples of shape %s, %s parameters, latent %s, %s",
        what,
        choices.get("datamodule"),
        f"{data.spec.size:,}",
        list(data.spec.shape),
        f"{parameters:,}",
        list(model.latent_shape),  # type: ignore[operator, arg-type]
        trainer.strategy.root_device,
    )


def declare(
    trainer: L.Trainer, config: DictConfig, model: Any, objective: Objective, tasks: Mapping[str, Task]
) -> None:
    """Name the run's hyper-parameters and final figures to TensorBoard before it starts."""
    metrics = ["test/loss", *(f"test/{name}" for name in objective)]
    metrics += ["test/elbo"] if model.generative else []
    for task in tasks.values():
        metrics += task.figures if task.fits(model.spec, model) is None else ()
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoard):
            logger.declare(hyperparameters(config), list(dict.fromkeys(metrics)))


def hyperparameters(config: DictConfig) -> dict[str, Any]:
    """The choices and numbers that experiments differ in, flat."""
    from narrows.config import flatten

    choices = HydraConfig.get().runtime.choices
    named = {
        key: str(choices[key])
        for key in ("variant", "experiment", "datamodule", "encoder", "decoder", "likelihood", "corruption")
        if choices.get(key) is not None
    }
    parts = {
        key: OmegaConf.to_container(config[key]) for key in ("bottleneck", "loss", "corruption", "encoder", "decoder")
    }
    numbers = {k: v for k, v in flatten(parts).items() if not k.split(".")[-1].startswith("_")}
    chosen = {"seed": config.seed, "lr": config.optimizer.get("lr"), "batch_size": config.datamodule.get("batch_size")}
    return named | numbers | chosen


def conclude(
    config: DictConfig,
    trainer: L.Trainer,
    module: AutoencoderModule,
    data: Any,
    tasks: Mapping[str, Task],
    directory: RunDirectory,
) -> Figures:
    """Test the chosen checkpoint, run the tasks, write and print the figures."""
    fitted = {name: float(value) for name, value in trainer.callback_metrics.items()}
    device = trainer.strategy.root_device
    module.load_state_dict(read_weights(checkpoint_path(directory.path, config.checkpoint)))
    trainer.test(module, datamodule=data, verbose=False)
    tested = {name: float(value) for name, value in trainer.callback_metrics.items()}
    figures: Figures = fitted | tested
    if not is_main_process():
        return figures
    context = TaskContext(
        model=module.model.to(device), datamodule=data, directory=directory.path, seed=config.seed, device=device
    )
    judged = run_tasks(dict(tasks), context)
    for logger in trainer.loggers:
        logger.log_metrics(judged, step=trainer.global_step)
        logger.finalize("success")
        if isinstance(logger, TensorBoard):
            logger.close()
    figures |= judged
    directory.write_metrics(figures)
    print_report(figures, directory.path, Path(config.output_dir))
    return figures
