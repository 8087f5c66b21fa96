"""Running an experiment, from its config to its recorded figures."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from narrows.data.contents import Source
from narrows.data.datamodule import DataModule
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


@dataclass
class Trained:
    """An experiment whose training has ended."""

    config: DictConfig
    trainer: L.Trainer
    module: AutoencoderModule
    data: Any
    """The datamodule."""
    tasks: dict[str, Task]
    density: Density | None
    """Not yet fitted."""


def run(config: DictConfig, job: Job) -> Figures:
    """Train, test and record the experiment that `config` describes; returns its final figures.

    Raises:
        UserError: a mistake in the config or the data.
        Pruned: the sweep that this run belongs to ended it early.
    """
    quieten()
    asked, config = config, checked(config)
    objective = check_composition(config)
    with recording(config, job, asked) as record:
        return conclude(train(config, objective, job, record), job, record)


@contextmanager
def recording(config: DictConfig, job: Job, asked: DictConfig) -> Iterator[RunDirectory | None]:
    """The run's directory, whose status is kept truthful; None in a process that writes nothing."""
    if not is_main_process():
        yield None
        return
    record = RunDirectory(job.directory)
    if job.resume:
        record.reclaim()
    else:
        record.claim()
        record.write_hydra(asked, job.hydra)
    with recorded(record, job, config.seed):
        # After the manifest: a directory that has a config has all that a run needs to go on.
        write_atomically(record.path / CONFIG, OmegaConf.to_yaml(config))
        yield record


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


def load_data(config: DictConfig, source: Source | None = None) -> DataModule:
    """The config's datamodule, set up; with `source` in the place of its own."""
    node = config.datamodule
    if source is not None:
        node = OmegaConf.create({key: value for key, value in node.items() if key != "source"} | {"_partial_": True})
    seed_default(config.seed, "data")
    data: DataModule = build(node, "datamodule", **({} if source is None else {"source": source}))
    data.setup()
    return data


def train(
    config: DictConfig,
    objective: Objective,
    job: Job,
    record: RunDirectory | None,
    source: Source | None = None,
) -> Trained:
    """Build what `config` describes and train it, on `source` where given; without a `record` nothing is noted.

    Raises:
        UserError: values that do not fit the data or one another, or limits that allow no step.
        Pruned: the sweep that this run belongs to gave up on it.
    """
    tasks = {name: build(task, f"tasks.{name}") for name, task in config.tasks.items()}
    start = _starting_point(job, record)
    trainer = make_trainer(config, job)
    data = load_data(config, source)
    for line in data.reading:
        log.info("%s", line)
    if record is not None:
        record.update(data=data.spec.to_dict(), reading=data.reading)
        recorded_table_encoding.save(data, record.path)
    model = build_model(config, data.spec)
    if record is not None:
        record.update(parameters=_announced(job, data, model, trainer))
    # Here, to refuse its options before anything is trained.
    density = fitted_density.build_density(config.get("density"), model, config.seed)
    module = build_module(config, model, objective)
    if start is None:
        declare(trainer, config, job, model, objective, tasks, () if density is None else density.figures())
    try:
        _fit(trainer, module, data, start)
    except Pruned:
        if record is not None:
            record.write_metrics(module.validated)
        raise
    require(
        trainer.global_step > 0,
        "nothing was trained: trainer.max_epochs, max_steps, max_time or limit_train_batches allow no step",
    )
    return Trained(config, trainer, module, data, tasks, density)


def build_module(config: DictConfig, model: Autoencoder, objective: Objective) -> AutoencoderModule:
    """The LightningModule that trains the model on the objective.

    Raises:
        UserError: an option that the module refuses.
    """
    module: AutoencoderModule = build(
        config.module,
        "module",
        model,
        objective,
        optimizer=build_later(config.optimizer, "optimizer"),
        scheduler=build_later(config.scheduler, "scheduler"),
        seed=config.seed,
    )
    return module


def _starting_point(job: Job, record: RunDirectory | None) -> Path | None:
    """The checkpoint to go on from, with the run's histories cut back to it."""
    start = checkpoint_files.newest(job.directory) if job.resume else None
    if record is None:
        return start
    if not job.resume:
        began_at(record, 0, None)
        return None
    checkpoint_files.clear_temporary(record.path)
    state: dict[str, Any] = {} if start is None else checkpoint_files.read(start)
    rewind_histories.rewind(record.path, state.get("histories", {}))
    began_at(record, state.get("global_step", 0), None if start is None else start.name)
    log.info("going on with %s from step %s", record.path, state.get("global_step", 0))
    return start


def _fit(trainer: L.Trainer, module: AutoencoderModule, data: DataModule, start: Path | None) -> None:
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


def _announced(job: Job, data: DataModule, model: Autoencoder, trainer: L.Trainer) -> int:
    """The number of parameters, once the log has said what is trained."""
    parameters = sum(p.numel() for p in model.parameters())
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
    return parameters


def conclude(trained: Trained, job: Job, record: RunDirectory | None) -> Figures:
    """Test the chosen checkpoint, fit the density, run the tasks, write and print the figures."""
    config, trainer, module, data = trained.config, trained.trainer, trained.module, trained.data
    device = trainer.strategy.root_device
    chosen = checkpoint_path(job.directory, config.checkpoint)
    module.load_state_dict(read_weights(chosen))
    trainer.test(module, datamodule=data, verbose=False)
    tested = {name: float(value) for name, value in trainer.callback_metrics.items()}
    figures: Figures = module.validated | tested
    if record is None:
        return figures
    module.model.to(device)
    if trained.density is not None:
        figures |= _fit_density(trained, trained.density, record, chosen)
    context = TaskContext(
        model=module.model,
        datamodule=data,
        directory=record.path,
        seed=config.seed,
        device=device,
        untrained=partial(untrained, record.path, data.spec),
    )
    judged = {name: value for name, value in figures.items() if name.startswith("density/")}
    judged |= run_tasks(trained.tasks, context)
    for logger in trainer.loggers:
        logger.log_metrics(judged, step=trainer.global_step)
        logger.finalize("success")
        if isinstance(logger, TensorBoard):
            logger.close()
    figures |= judged
    record.write_metrics(figures)
    print_report(figures, record.path, Path(config.output_dir))
    return figures


def _fit_density(trained: Trained, density: Density, record: RunDirectory, chosen: Path) -> Figures:
    config, trainer, model = trained.config, trained.trainer, trained.module.model
    figures = fitted_density.fit(density, config.density, model, trained.data, config.seed)
    fitted_density.save(density, config.density, chosen, record.path / CHECKPOINTS / fitted_density.FILE)
    if any(isinstance(callback, Pictures) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        publish(density_samples(model, config.seed), record.path, trainer.loggers, trainer.global_step)
    return figures
