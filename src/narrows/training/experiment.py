"""Running an experiment, from its config to its recorded figures."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from narrows import os_signals
from narrows.bottlenecks.base import Bottleneck
from narrows.compare.run_summary import print_report
from narrows.config.composition import build, build_later, checked, class_of
from narrows.corruptions import Corruption
from narrows.densities.base import Density
from narrows.errors import Pruned, UserError, require
from narrows.files import write_atomically
from narrows.likelihoods.elementwise import Likelihood
from narrows.loading import fitted_density, recorded_table_encoding
from narrows.loading.model_from_config import build_model, checkpoint_path, read_weights, untrained
from narrows.losses import Objective
from narrows.models.autoencoder import Autoencoder
from narrows.random import seed_default
from narrows.runs import checkpoint_files, rewind_histories
from narrows.runs.file_names import CHECKPOINTS, CONFIG
from narrows.runs.job import Job
from narrows.runs.provenance import is_main_process
from narrows.runs.run_directory import RunDirectory
from narrows.runs.status import began_at, recorded
from narrows.tasks.base import Task, TaskContext, run_tasks
from narrows.training.callbacks.pictures import Pictures, density_samples, publish
from narrows.training.callbacks.write_checkpoints import is_out_of_memory
from narrows.training.lightning_module import AutoencoderModule
from narrows.training.lightning_trainer import check_trainer, declare, make_trainer, quieten
from narrows.training.tensorboard import TensorBoard

Figures = dict[str, float]
log = logging.getLogger(__name__)


def run(config: DictConfig, job: Job) -> Figures:
    """Train, test and record the experiment that `config` describes; returns its final figures.

    Raises:
        UserError: a mistake in the config or the data.
        Pruned: the sweep that this run belongs to ended it early.
    """
    quieten()
    asked, config = config, checked(config)
    objective = check_composition(config)
    directory = RunDirectory(job.directory)
    if not is_main_process():
        return _execute(config, objective, job, directory)
    _take(directory, job, asked)
    with recorded(directory, job, config.seed):
        # Written after the manifest: a directory with a config then has all that resuming needs.
        write_atomically(directory.path / CONFIG, OmegaConf.to_yaml(config))
        return _execute(config, objective, job, directory)


def _take(directory: RunDirectory, job: Job, asked: DictConfig) -> None:
    if job.resume:
        directory.reclaim()
    else:
        directory.claim()
        directory.write_hydra(asked, job.hydra)


def check_composition(config: DictConfig) -> Objective:
    """Build the objective and check that all parts fit together, before any data are loaded.

    Raises:
        UserError: a value out of range, a model that does not fit the bottleneck's latent, or a loss or density that
            does not fit the model's latent.
    """
    check_trainer(config.trainer)
    objective = Objective({name: build(term, f"loss.{name}") for name, term in config.loss.items()})
    # The kind of latent does not depend on the encoder's width, so any width will do here.
    width = class_of(config.bottleneck, "bottleneck", Bottleneck).trial_shape
    bottleneck = build(config.bottleneck, "bottleneck", width)
    model = class_of(config.model, "model", Autoencoder)
    objective.check(model, bottleneck, class_of(config.corruption, "corruption", Corruption))
    objective.check_likelihood(class_of(config.likelihood, "likelihood", Likelihood))
    if config.get("density") is not None:
        class_of(config.density, "density", Density).check(model, bottleneck)
    return objective


def _execute(config: DictConfig, objective: Objective, job: Job, directory: RunDirectory) -> Figures:
    tasks = {name: build(task, f"tasks.{name}") for name, task in config.tasks.items()}
    start = _starting_point(job, directory)
    trainer = make_trainer(config, job)
    seed_default(config.seed, "data")
    data = build(config.datamodule, "datamodule")
    data.setup()
    if is_main_process():
        directory.update(data=data.spec.to_dict())
        recorded_table_encoding.save(data, directory.path)
    model = build_model(config, data.spec)
    parameters = sum(p.numel() for p in model.parameters())
    if is_main_process():
        directory.update(parameters=parameters)
    # Built here, so that wrong options are refused before training.
    density = fitted_density.build_density(config.get("density"), model, config.seed)
    module = build_module(config, model, objective)
    _announce(job, data, model, parameters, trainer)
    if start is None:
        declare(trainer, config, job, model, objective, tasks, () if density is None else density.figures())
    try:
        _fit(trainer, module, data, start)
    except Pruned:
        if is_main_process():
            directory.write_metrics(module.validated)
        raise
    require(
        trainer.global_step > 0,
        "nothing was trained: trainer.max_epochs, max_steps, max_time or limit_train_batches allow no step",
    )
    return conclude(config, trainer, module, data, tasks, directory, density)


def build_module(config: DictConfig, model: Autoencoder, objective: Objective) -> AutoencoderModule:
    """The LightningModule that trains the model on the objective.

    Raises:
        UserError: an option that the module refuses.
    """
    return build(
        config.module,
        "module",
        model,
        objective,
        optimizer=build_later(config.optimizer, "optimizer"),
        scheduler=build_later(config.scheduler, "scheduler"),
        seed=config.seed,
    )


def _starting_point(job: Job, directory: RunDirectory) -> Path | None:
    """The checkpoint to resume from, with the run's histories cut back to it; None for a new run."""
    if not job.resume:
        if is_main_process():
            began_at(directory, 0, None)
        return None
    start = checkpoint_files.newest(directory.path)
    if not is_main_process():
        return start
    checkpoint_files.clear_temporary(directory.path)
    state: dict[str, Any] = {} if start is None else checkpoint_files.read(start)
    rewind_histories.rewind(directory.path, state.get("histories", {}))
    began_at(directory, state.get("global_step", 0), None if start is None else start.name)
    log.info("going on with %s from step %s", directory.path, state.get("global_step", 0))
    return start


def _fit(trainer: L.Trainer, module: AutoencoderModule, data: Any, start: Path | None) -> None:
    try:
        with os_signals.deferred():
            trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(f"trainer: {' '.join(str(error).split())}") from error
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise UserError(
                f"out of memory on {trainer.strategy.root_device} after step {trainer.global_step}: a smaller "
                "datamodule.batch_size (module.accumulate makes up for it) or trainer.precision=bf16-mixed needs less"
            ) from error
        raise


def _announce(job: Job, data: Any, model: Autoencoder, parameters: int, trainer: L.Trainer) -> None:
    if not is_main_process():
        return
    log.info(
        "%s on %s: %s training examples of shape %s, %s parameters, latent %s, %s",
        job.title,
        job.choices.get("datamodule", "its data"),
        f"{data.spec.size:,}",
        list(data.spec.shape),
        f"{parameters:,}",
        list(model.latent_shape),
        trainer.strategy.root_device,
    )


def conclude(
    config: DictConfig,
    trainer: L.Trainer,
    module: AutoencoderModule,
    data: Any,
    tasks: Mapping[str, Task],
    directory: RunDirectory,
    density: Density | None = None,
) -> Figures:
    """Test the chosen checkpoint, fit the density, run the tasks, write and print the figures."""
    device = trainer.strategy.root_device
    chosen = checkpoint_path(directory.path, config.checkpoint)
    module.load_state_dict(read_weights(chosen))
    trainer.test(module, datamodule=data, verbose=False)
    tested = {name: float(value) for name, value in trainer.callback_metrics.items()}
    figures: Figures = module.validated | tested
    if not is_main_process():
        return figures
    module.model.to(device)
    if density is not None:
        figures |= fitted_density.fit(density, config.density, module.model, data, config.seed)
        fitted_density.save(density, config.density, chosen, directory.path / CHECKPOINTS / fitted_density.FILE)
        if any(isinstance(callback, Pictures) for callback in trainer.callbacks):  # type: ignore[attr-defined]
            publish(density_samples(module.model, config.seed), directory.path, trainer.loggers, trainer.global_step)
    context = TaskContext(
        model=module.model,
        datamodule=data,
        directory=directory.path,
        seed=config.seed,
        device=device,
        untrained=partial(untrained, directory.path, data.spec),
    )
    judged = {name: value for name, value in figures.items() if name.startswith("density/")}
    judged |= run_tasks(tasks, context)
    for logger in trainer.loggers:
        logger.log_metrics(judged, step=trainer.global_step)
        logger.finalize("success")
        if isinstance(logger, TensorBoard):
            logger.close()
    figures |= judged
    directory.write_metrics(figures)
    print_report(figures, directory.path, Path(config.output_dir))
    return figures
