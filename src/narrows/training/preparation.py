"""Everything that training needs, built and checked before anything is trained or written."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial

import lightning as L
from omegaconf import DictConfig, OmegaConf

from narrows.bottlenecks.base import Bottleneck
from narrows.config.auto_values import decided, open_keys
from narrows.config.building import build, build_later, class_of
from narrows.corruptions import Corruption
from narrows.data.contents import Source
from narrows.data.datamodule import DataModule
from narrows.densities.base import Density
from narrows.likelihoods.counts import CountLikelihood
from narrows.likelihoods.elementwise import Likelihood
from narrows.loading import adapt_config, fitted_density
from narrows.loading.model_from_config import build_model, without_start
from narrows.losses import Objective
from narrows.models.autoencoder import Autoencoder
from narrows.random import seed_default
from narrows.runs import checkpoint_files, rewind_histories
from narrows.runs.job import Job
from narrows.runs.run_directory import RunDirectory, read_manifest
from narrows.runs.status import began_at
from narrows.tasks.base import Task, without_test_split
from narrows.training import run_length, small_data, starting_point, warm_start
from narrows.training.begin_resumed import BeginResumed
from narrows.training.component_kinds import check_kinds
from narrows.training.library_options import check_scheduler_options, fast_dev_run, late_milestones
from narrows.training.lightning_module import AutoencoderModule
from narrows.training.lightning_trainer import check_trainer, make_trainer
from narrows.training.starting_point import StartingPoint
from narrows.types import COUNTED, DataSpec

log = logging.getLogger(__name__)


@dataclass
class Prepared:
    """An experiment before its first step."""

    config: DictConfig
    """With the numbers that it had left to the data."""
    trainer: L.Trainer
    module: AutoencoderModule
    data: DataModule
    tasks: dict[str, Task]
    density: Density | None
    """Not yet fitted."""
    start: StartingPoint
    begin: BeginResumed | None
    """What begins a resumed run; None for a new one."""


def prepare(
    config: DictConfig, objective: Objective, job: Job, record: RunDirectory | None, source: Source | None
) -> Prepared:
    """Build what `config` describes, on `source` where given, and check that it fits the data and the checkpoint.

    Raises:
        UserError: values that do not fit the data or one another.
    """
    tasks = {name: build(task, f"tasks.{name}") for name, task in config.tasks.items()}
    closed = decided(config)
    start, begin = _starting_point(closed, job, record)
    trainer = make_trainer(closed, job, begin)
    starting_point.require_room(start, trainer, job)
    data = load_data(config, source)
    if open_keys(config):
        config, told = small_data.decide(config, data)
        data.reading += told
        trainer = make_trainer(config, job, begin, trainer.loggers)
    if record is not None:
        for line in [*data.reading, *late_milestones(config), *fast_dev_run(config)]:
            log.info("%s", line)
    # A `source` is given where no task is run.
    if source is None and not data.has("test"):
        tasks = without_test_split(tasks)
    for task in tasks.values():
        task.check(data.spec)
    model = build_model(config if start.path is None else without_start(config.copy()), data.spec)
    if record is not None:
        _say_of_likelihood(model.likelihood, data.spec)
    # Here, to refuse its options before anything is trained.
    density = fitted_density.build_density(config.get("density"), model, config.seed)
    if start.path is None:
        _start_warm(config, model, record)
    module = build_module(config, model, objective)
    module.freeze_parts(warm_start.parts_of(model, config.get("freeze"), "freeze"))
    starting_point.require_fit(start, module, data, trainer)
    if start.path is not None:
        # Lightning restores weights before it does this: those of double precision would be rounded to single.
        trainer.precision_plugin.convert_module(module)
    run_length.keep(start, module, job)
    return Prepared(config, trainer, module, data, tasks, density, start, begin)


def _start_warm(config: DictConfig, model: Autoencoder, record: RunDirectory | None) -> None:
    warm = warm_start.load(config, model)
    if warm is not None and record is not None:
        for line in warm.table():
            log.info("%s", line)
        record.update(init_from=warm.manifest)


def _say_of_likelihood(likelihood: Likelihood, spec: DataSpec) -> None:
    """What a reader of its nats must know."""
    if spec.kind in COUNTED and not isinstance(likelihood, CountLikelihood):
        log.warning(
            "likelihood %s judges counts as real numbers: its means may lie below 0, and its figures do not compare "
            "with those of likelihood=multinomial (documents, items) or negative_binomial (genes)",
            type(likelihood).__name__,
        )
    if likelihood.remark is not None:
        log.info("%s", likelihood.remark)


def check_composition(config: DictConfig) -> Objective:
    """Build the objective and check that all parts fit together, before any data are loaded.

    Raises:
        UserError: a value out of range, a model that does not fit the bottleneck's latent, or a loss or density that
            does not fit the model's latent.
    """
    config = decided(config)
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
