"""Running an experiment, from its config to its recorded figures."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from narrows import os_signals
from narrows.bottlenecks.base import Bottleneck
from narrows.compare.run_summary import print_report
from narrows.config.composition import build, build_later, checked, class_of, first_line
from narrows.corruptions import Corruption
from narrows.data.contents import Source
from narrows.data.datamodule import DataModule
from narrows.densities.base import Density
from narrows.errors import Pruned, UserError, naming, require
from narrows.files import write_atomically
from narrows.likelihoods.elementwise import Likelihood
from narrows.loading import adapt_config, fitted_density, recorded_table_encoding
from narrows.loading.model_from_config import build_model, checkpoint_path, read_weights, untrained, without_start
from narrows.losses import Objective
from narrows.models.autoencoder import Autoencoder
from narrows.random import seed_default
from narrows.runs import checkpoint_files, rewind_histories
from narrows.runs.file_names import CHECKPOINTS, CONFIG
from narrows.runs.job import Job
from narrows.runs.provenance import is_main_process
from narrows.runs.run_directory import RunDirectory, read_manifest
from narrows.runs.status import began_at, recorded
from narrows.tasks.base import Task, TaskContext, run_tasks, without_test_split
from narrows.training import run_length, starting_point
from narrows.training.begin_resumed import BeginResumed
from narrows.training.callbacks.pictures import Pictures, density_samples, publish
from narrows.training.callbacks.write_checkpoints import CheckpointFiles, is_out_of_memory
from narrows.training.component_kinds import check_kinds
from narrows.training.library_options import check_scheduler_options, late_milestones
from narrows.training.lightning_module import AutoencoderModule
from narrows.training.lightning_trainer import check_trainer, declare, make_trainer, quieten
from narrows.training.starting_point import StartingPoint
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
        figures = conclude(train(config, objective, job, record), job, record)
    if record is not None:
        # Whatever becomes of what is printed, the run is completed.
        print_report(figures, record.path, Path(config.output_dir))
    return figures


@contextmanager
def recording(config: DictConfig, job: Job, asked: DictConfig) -> Iterator[RunDirectory | None]:
    """The run's directory, whose status is kept truthful; None in a process that writes nothing.

    That of a resumed run is only read until its `begin`.
    """
    if not is_main_process():
        yield None
        return
    record = RunDirectory(job.directory)
    if job.resume:
        record.reclaim(wait=True)
    else:
        record.claim()
        record.write_hydra(asked, job.hydra)
    with recorded(record, job, config.seed), naming(record.path):
        if job.begun is not None:
            record.do(job.begun)
        # After the manifest: a directory that has a config has all that a run needs to go on.
        record.do(lambda: write_atomically(record.path / CONFIG, OmegaConf.to_yaml(job.recorded or config)))
        yield record


def check_composition(config: DictConfig) -> Objective:
    """Build the objective and check that all parts fit together, before any data are loaded.

    Raises:
        UserError: a value out of range, a model that does not fit the bottleneck's latent, or a loss or density that
            does not fit the model's latent.
    """
    check_trainer(config.trainer)
    check_kinds(config)
    check_scheduler_options(config.scheduler)
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
    start, begin = _starting_point(config, job, record)
    trainer = make_trainer(config, job, begin)
    starting_point.require_room(start, trainer, job)
    data = load_data(config, source)
    if record is not None:
        for line in [*data.reading, *late_milestones(config)]:
            log.info("%s", line)
    # A `source` is given where no task is run.
    if source is None and not data.has("test"):
        tasks = without_test_split(tasks)
    for task in tasks.values():
        task.check(data.spec)
    model = build_model(config if start.path is None else without_start(config.copy()), data.spec)
    # Here, to refuse its options before anything is trained.
    density = fitted_density.build_density(config.get("density"), model, config.seed)
    module = build_module(config, model, objective)
    starting_point.require_fit(start, module, data, trainer)
    run_length.keep(start, module, job)
    if record is not None:
        record.update(data=data.spec.to_dict(), reading=data.reading)
        record.do(partial(recorded_table_encoding.save, data, record.path))
        record.update(parameters=_announced(job, data, model, trainer))
    if start.path is None:
        others = () if density is None else density.figures()
        declare(trainer, config, job, model, objective, tasks, others, judged_on(data))
    try:
        _fit(trainer, module, data, start, begin)
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


def _starting_point(
    config: DictConfig, job: Job, record: RunDirectory | None
) -> tuple[StartingPoint, BeginResumed | None]:
    """Where training starts; of a resumed run also the callback that cuts its histories back to there and begins it."""
    if not job.resume:
        if record is not None:
            began_at(record, 0, None)
        return StartingPoint(None, {}), None
    manifest = read_manifest(job.directory) if record is None else record.manifest
    start = starting_point.find(job.directory, manifest, config)
    if start.path is None:
        adapt_config.require_no_download(config)
    if record is not None:
        began_at(record, start.step, None if start.path is None else start.path.name)
        record.do(partial(checkpoint_files.finish_save, record.path, start.path))
        record.do(partial(rewind_histories.rewind, record.path, start.histories))
    log.info("going on with %s from step %s", job.directory, start.step)
    return start, BeginResumed(job.directory, record, job.done)


def _fit(
    trainer: L.Trainer, module: AutoencoderModule, data: DataModule, start: StartingPoint, begin: BeginResumed | None
) -> None:
    files = trainer.strategy.checkpoint_io
    if isinstance(files, CheckpointFiles):
        files.ready = start.release()
    try:
        with os_signals.deferred():
            trainer.fit(module, datamodule=data, ckpt_path=start.path, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(f"trainer: {' '.join(str(error).split())}") from error
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise UserError(
                f"out of memory on {trainer.strategy.root_device} after step {trainer.global_step}: a smaller "
                "datamodule.batch_size (module.accumulate makes up for it) or trainer.precision=bf16-mixed needs less"
            ) from error
        if isinstance(error, UserError) or begin is None or begin.restored:
            raise
        told = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"training cannot go on from {start.path or begin.directory} ({told})") from error


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
    """Judge the chosen checkpoint, fit the density, run the tasks and write the figures."""
    config, trainer, module, data = trained.config, trained.trainer, trained.module, trained.data
    device = trainer.strategy.root_device
    chosen = checkpoint_path(job.directory, config.checkpoint)
    module.load_state_dict(read_weights(chosen))
    judge = trainer.test if judged_on(data) == "test" else trainer.validate
    judge(module, datamodule=data, verbose=False)
    judged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    figures: Figures = module.validated | judged
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
    further = {name: value for name, value in figures.items() if name.startswith("density/")}
    further |= run_tasks(trained.tasks, context)
    for logger in trainer.loggers:
        logger.log_metrics(further, step=trainer.global_step)
        logger.finalize("success")
        if isinstance(logger, TensorBoard):
            logger.close()
    figures |= further
    record.write_metrics(figures)
    return figures


def judged_on(data: DataModule) -> Literal["test", "val"]:
    """The split that the final figures are of, as their names begin."""
    return "test" if data.has("test") else "val"


def _fit_density(trained: Trained, density: Density, record: RunDirectory, chosen: Path) -> Figures:
    config, trainer, model = trained.config, trained.trainer, trained.module.model
    figures = fitted_density.fit(density, config.density, model, trained.data, config.seed)
    fitted_density.save(density, config.density, chosen, record.path / CHECKPOINTS / fitted_density.FILE)
    if any(isinstance(callback, Pictures) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        publish(density_samples(model, config.seed), record.path, trainer.loggers, trainer.global_step)
    return figures
