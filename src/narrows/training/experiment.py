"""Running an experiment, from its config to its recorded figures."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from narrows import os_signals
from narrows.compare.run_summary import print_report
from narrows.compare.tensorboard_groups import VIEWS
from narrows.config.auto_values import STAND_INS, decided, open_keys
from narrows.config.composition import checked
from narrows.data.contents import Source
from narrows.data.datamodule import DataModule
from narrows.densities.base import Density
from narrows.errors import Pruned, UserError, first_line, is_out_of_memory, naming, require
from narrows.files import write_atomically
from narrows.launching import is_main_process
from narrows.loading import fitted_density, recorded_by_the_data
from narrows.loading.model_from_config import build_model, checkpoint_path, read_weights, untrained, without_start
from narrows.losses import Objective
from narrows.runs.file_names import CHECKPOINTS, CONFIG
from narrows.runs.job import Job
from narrows.runs.run_directory import RunDirectory
from narrows.runs.status import recorded
from narrows.tasks.base import Task, TaskContext, run_tasks
from narrows.training.callbacks.pictures import Pictures, density_samples, publish
from narrows.training.callbacks.write_checkpoints import CheckpointFiles
from narrows.training.elsewhere import Described, Elsewhere
from narrows.training.lightning_module import AutoencoderModule
from narrows.training.lightning_trainer import FSDP, declare, quieten
from narrows.training.preparation import Prepared, build_module, check_composition, prepare
from narrows.training.processes import together
from narrows.training.sounds import write_sounds
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
        with os_signals.handled(), together(None, job.directory):
            yield None
        return
    record = RunDirectory(job.directory)
    if job.resume:
        record.reclaim(wait=True)
    else:
        record.claim()
        record.write_hydra(asked, job.hydra)
    with recorded(record, job, config.seed), together(record, record.path), naming(record.path):
        if job.begun is not None:
            record.do(job.begun)
        # After the manifest: a directory that has a config has all that a run needs to go on.
        record.do(lambda: write_atomically(record.path / CONFIG, OmegaConf.to_yaml(job.recorded or config)))
        yield record


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
    ready = prepare(config, objective, job, record, source)
    trainer, module, data = ready.trainer, ready.module, ready.data
    if record is not None:
        if open_keys(config):
            _record_numbers(record, job, ready.config)
        record.update(data=data.spec.to_dict(), reading=data.reading)
        record.do(partial(recorded_by_the_data.save, data, record.path))
        record.update(parameters=_announced(job, ready))
    config = ready.config
    if ready.start.path is None:
        others = () if ready.density is None else ready.density.figures()
        declare(trainer, config, job, module.model, objective, ready.tasks, others, judged_on(data))
    if record is not None:
        for logger in trainer.loggers:
            if isinstance(logger, Elsewhere):
                logger.open(Described.of(config, job), record)
    try:
        _fit(ready)
    except Pruned:
        if record is not None:
            record.write_metrics(module.validated)
        raise
    require(
        trainer.global_step > 0,
        "nothing was trained: trainer.max_epochs, max_steps, max_time or limit_train_batches allow no step",
    )
    return Trained(config, trainer, module, data, ready.tasks, ready.density)


def _record_numbers(record: RunDirectory, job: Job, config: DictConfig) -> None:
    """Write the numbers that the config had left to its data where it says `auto`, so that whoever reads the config, or
    starts from it, finds those that ran."""
    if job.recorded is not None:
        config = decided(job.recorded, {key: OmegaConf.select(config, key) for key in STAND_INS})
    record.do(lambda: write_atomically(record.path / CONFIG, OmegaConf.to_yaml(config)))


def _fit(ready: Prepared) -> None:
    trainer, start = ready.trainer, ready.start
    files = trainer.strategy.checkpoint_io
    if isinstance(files, CheckpointFiles):
        files.ready = start.release()
    try:
        with os_signals.deferred():
            trainer.fit(ready.module, datamodule=ready.data, ckpt_path=start.path, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(f"trainer: {' '.join(str(error).split())}") from error
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise UserError(
                f"out of memory on {trainer.strategy.root_device} after step {trainer.global_step}: a smaller "
                "datamodule.batch_size (module.accumulate makes up for it) or trainer.precision=bf16-mixed needs less"
            ) from error
        if isinstance(error, UserError) or ready.begin is None or ready.begin.restored:
            raise
        told = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"training cannot go on from {start.path or ready.begin.directory} ({told})") from error


def _announced(job: Job, ready: Prepared) -> int:
    """The number of parameters, once the log has said what is trained."""
    model, data = ready.module.model, ready.data
    parameters = sum(p.numel() for p in model.parameters())
    log.info(
        "%s on %s: %s training examples of shape %s, %s parameters, latent %s, %s",
        job.title,
        job.choices.get("datamodule", "its data"),
        f"{data.spec.size:,}",
        list(data.spec.shape),
        f"{parameters:,}",
        list(model.latent_shape),
        ready.trainer.strategy.root_device,
    )
    return parameters


def conclude(trained: Trained, job: Job, record: RunDirectory | None) -> Figures:
    """Judge the chosen checkpoint, fit the density, run the tasks and write the figures."""
    config, trainer, module, data = trained.config, trained.trainer, trained.module, trained.data
    device = trainer.strategy.root_device
    chosen = checkpoint_path(job.directory, config.checkpoint)
    if config.trainer.get("strategy") == FSDP:
        # Every process judges whole weights, which the trained module holds in parts.
        model = build_model(without_start(config.copy()), data.spec)
        validated = module.validated
        module = trained.module = build_module(config, model, check_composition(config))
        module.validated = validated
        trainer.precision_plugin.convert_module(module)
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
        write_texts(logger, context.texts, trainer.global_step)
        write_sounds(logger, context.sounds, trainer.global_step)
        logger.finalize("success")
        if isinstance(logger, TensorBoard):
            logger.close()
    figures |= further
    record.write_metrics(figures)
    return figures


def write_texts(logger: Any, texts: Mapping[str, str], step: int) -> None:
    """Log what tasks wrote, in the group `views`, to a logger whose experiment has `add_text`."""
    writer = logger if isinstance(logger, Elsewhere) else getattr(logger, "experiment", None)
    add_text = getattr(writer, "add_text", None)
    if add_text is not None:
        for name, text in texts.items():
            add_text(f"{VIEWS}/{name}", text, step)


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
