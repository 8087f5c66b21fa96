"""`narrows.train(overrides)`: what `narrows train` does, from Python and notebooks."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from omegaconf import DictConfig

from narrows.config.composition import run_dir
from narrows.config.quoting import quoted_paths
from narrows.errors import PrintableFormatter, require
from narrows.loading.open_run import OpenRun
from narrows.loading.run_places import require_run
from narrows.models.autoencoder import Autoencoder
from narrows.runs.file_names import LOG
from narrows.runs.job import Job
from narrows.runs.run_directory import require_new
from narrows.runs.train_log import TrainLog
from narrows.training.experiment import Figures, conclude, recording
from narrows.training.experiment import train as train_experiment
from narrows.training.fit_in_memory import composition, undisturbed
from narrows.training.lightning_trainer import quieten
from narrows.training.preparation import check_composition

ELSEWHERE = ("resume", "from", "replay", "into", "allow", "keep_loggers")
"""What only the command line knows."""


@dataclass(frozen=True)
class Run:
    """A run that has been trained."""

    directory: Path
    """With the record that `narrows train` writes."""
    figures: Figures
    """The final figures, as `metrics.json` has them."""

    @cached_property
    def model(self) -> Autoencoder:
        """The trained model on the CPU, in evaluation mode, with the weights that the figures are of."""
        return OpenRun(self.directory).model


def train(overrides: Iterable[str] = (), directory: str | Path | None = None) -> Run:
    """Train, test and record a run, as `narrows train OVERRIDES` does, but print no report.

    Torch's generators and its deterministic mode are restored afterwards. Sweeps, `resume=` and `from=`, and more than
    one device, which takes processes of their own, are the command's.

    Args:
        overrides: `["variant=beta_vae", "bottleneck.dim=16"]`.
        directory: of the run; None: a new one in `output_dir`, as the command chooses it.

    Raises:
        UserError: a mistake in the overrides or the data.

    Example:
        run = narrows.train(["variant=beta_vae", "datamodule=digits"])
        run.figures["test/elbo"], run.model.sample(2).shape
    """
    require(not isinstance(overrides, str), f"give a list of overrides, such as ['{overrides}']")
    asked = tuple(quoted_paths(map(str, overrides)))
    for text in asked:
        key = text.partition("=")[0]
        require(key not in ELSEWHERE, f"'{text}' is of the command line: narrows train {text}")
    config, choices = composition(asked)
    config, choices = config.copy(), {group: choice for group, choice in choices.items() if group != "sweep"}
    _require_one_process(config)
    job = Job(_place(config, choices, asked) if directory is None else Path(directory).resolve(), list(asked), choices)
    require_new(job.directory)
    if config.get("init_from") is not None:
        require_run(config.init_from)
    with undisturbed():
        quieten()
        objective = check_composition(config)
        with recording(config, job, config) as record, _logged(job.directory):
            figures = conclude(train_experiment(config, objective, job, record), job, record)
    return Run(job.directory, figures)


def _require_one_process(config: DictConfig) -> None:
    devices, strategy = (str(config.trainer.get(key, "auto")) for key in ("devices", "strategy"))
    require(
        devices in ("auto", "1", "[0]") and strategy == "auto",
        f"trainer.devices={devices}, trainer.strategy={strategy}: several devices take processes of their own, which "
        "the command narrows train starts",
    )


def _place(config: DictConfig, choices: Mapping[str, str], asked: tuple[str, ...]) -> Path:
    names = choices.get("experiment"), choices.get("variant")
    # Without its cache: every call has a run of its own.
    return Path(run_dir.__wrapped__(config.output_dir, *names, asked, config.get("name"))).resolve()


@contextmanager
def _logged(directory: Path) -> Iterator[None]:
    """Inside, what narrows says goes to standard error and to the run's `train.log`, as that of the command does."""
    log = logging.getLogger(__name__.partition(".")[0])
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr), TrainLog(directory / LOG)]
    level, propagate = log.level, log.propagate
    for handler in handlers:
        handler.setFormatter(PrintableFormatter("%(message)s"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.level, log.propagate = level, propagate
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()
