"""Training on rows in memory, with the configs of `narrows train` but without its command and run directory."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from numpy.typing import NDArray
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException
from scipy import sparse

from narrows.config.composition import checked, config_dir, register_resolvers, run_dir
from narrows.config.hydra_versions import VERSION_BASE
from narrows.config.leftovers import clear
from narrows.config.overrides import check_overrides, explain
from narrows.data.contents import Contents, Part
from narrows.data.counting import Counting
from narrows.data.datamodule import DataModule
from narrows.data.float_precision import refuse_blurred
from narrows.data.sparse_rows import Sparse
from narrows.data.stores import cuts
from narrows.errors import UserError, require
from narrows.files import replacing
from narrows.runs.job import Job
from narrows.runs.run_directory import RunDirectory
from narrows.training.experiment import recording, train
from narrows.training.lightning_module import AutoencoderModule
from narrows.training.lightning_trainer import quieten
from narrows.training.preparation import check_composition
from narrows.types import Kind

log = logging.getLogger(__name__)

ROWS = "rows.npz"
"""The file in a run directory that holds the rows it was fitted to."""
SHOWING = ("checkpoint", "progress", "pictures")
"""Callbacks that write or print, which are left out of a fit without a directory."""


@dataclass
class Fit:
    """The result of a fit."""

    module: AutoencoderModule
    held: NDArray[np.integer]
    """Positions of the validation rows among the given rows."""
    directory: Path | None
    """The run directory, if one was asked for."""


@dataclass
class Memory:
    """Rows `[N, D]` as a source: an array is held as it is, a SciPy matrix (CSR) and counts as sparse rows."""

    x: Any
    kind: Kind = "vector"
    counting: Counting | None = None

    def load(self) -> Contents:
        dense = isinstance(self.x, np.ndarray) and self.kind == "vector"
        part = Part(torch.from_numpy(self.x) if dense else Sparse(self.x))
        return Contents(self.kind, part, counting=self.counting)


def fit(x: Any, overrides: Sequence[str], directory: str | Path | None) -> Fit:
    """Train on `x [N, D]`, an array or a SciPy matrix (CSR), with `overrides` of `narrows train`; a tenth of the rows
    validates.

    The last weights are kept; no task is run and no density (`density=`) is fitted. Torch's generators and its
    deterministic mode are restored afterwards. With a `directory`, a run is written below it (config, manifest,
    checkpoints, history and the rows), which `narrows.load` and `narrows compare` can read; else nothing is written.

    Raises:
        UserError: overrides that do not compose, or do not fit the rows or one another; rows whose numbers float32
            cannot tell apart.
    """
    refuse_blurred(_in_double(x), None, "scale the rows first")
    composed, choices = composition(tuple(overrides))
    config = composed.copy()
    with undisturbed():
        quieten()
        objective = check_composition(config)
        _require_plain_rows(config)
        rows = _as_memory(x, config)
        require(
            directory is None or rows.kind == "counts" or isinstance(rows.x, np.ndarray),
            "a run directory keeps the rows, and sparse ones only as counts: add overrides=['datamodule=counts'], or "
            "give X.toarray() or no directory",
        )
        job = Job(Path() if directory is None else _place(directory, choices), list(overrides), choices)
        with _silent(config) if directory is None else _recorded(config, rows, job) as record:
            trained = train(config, objective, job, record, rows)
            if record is not None:
                record.write_metrics(trained.module.validated)
    return Fit(trained.module.cpu(), _held(trained.data), None if record is None else record.path)


def _in_double(x: Any) -> Iterator[torch.Tensor]:
    """The rows in double precision, sparse ones some at a time, and only if single precision changes any of them."""
    if not sparse.issparse(x):
        yield torch.from_numpy(np.array(x, dtype=np.float64))
    elif not np.array_equal(x.data, x.data.astype(np.float32)):
        for part in cuts(x.shape, 8):
            yield torch.from_numpy(x[part].toarray().astype(np.float64))


def _as_memory(x: Any, config: DictConfig) -> Memory:
    if str(config.datamodule.source._target_).endswith(".Counts"):
        return Memory(sparse.csr_matrix(x), "counts", Counting(config.datamodule.source.empty))
    return Memory(x if sparse.issparse(x) else np.array(x, dtype=np.float32, order="C"))


def _place(directory: str | Path, choices: dict[str, str]) -> Path:
    # Without its cache: every fit of a process has a run of its own.
    return Path(run_dir.__wrapped__(str(directory), None, choices.get("variant"))).resolve()


def _silent(config: DictConfig) -> AbstractContextManager[None]:
    """Make the config one that writes and prints nothing."""
    config.callbacks = {name: node for name, node in config.callbacks.items() if name not in SHOWING}
    config.logger = {}
    with open_dict(config.trainer):
        config.trainer.enable_checkpointing = False
    return nullcontext()


@contextmanager
def _recorded(config: DictConfig, rows: Memory, job: Job) -> Iterator[RunDirectory | None]:
    """The run's directory, with the rows where its config says that they lie."""
    config.datamodule.source.path = str(job.directory / ROWS)
    with recording(config, job, config) as record:
        if record is not None:
            with replacing(record.path / ROWS) as file:
                if isinstance(rows.x, np.ndarray):
                    np.savez_compressed(file, x=rows.x)
                else:
                    sparse.save_npz(file, rows.x)
        yield record


@functools.lru_cache(maxsize=64)
def composition(overrides: tuple[str, ...]) -> tuple[DictConfig, dict[str, str]]:
    """Compose the config; returns it and its choices by group. The global Hydra of the caller is restored.

    Raises:
        UserError: a group, choice or key that does not exist.
    """
    register_resolvers()
    check_overrides(overrides)
    holder = GlobalHydra.instance()
    before, holder.hydra = holder.hydra, None
    try:
        found = clear(overrides)
        for note in found.notes:
            log.warning(note)
        with initialize_config_dir(str(config_dir()), **VERSION_BASE):
            config = compose("train", [*found.overrides, *overrides], return_hydra_config=True)
        choices = {key: str(name) for key, name in config.hydra.runtime.choices.items() if not key.startswith("hydra/")}
        with open_dict(config):
            del config["hydra"]
        return checked(config), choices
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from error
    finally:
        holder.hydra = before


def _require_plain_rows(config: DictConfig) -> None:
    source = config.datamodule.source
    name = str(source._target_).rpartition(".")[2]
    plain = {
        "Arrays": lambda: source.kind in ("auto", "vector"),
        "Counts": lambda: (
            source.validation_path is source.train_labels is source.label.path is source.names.path is None
            and not source.form.transpose
        ),
    }
    require(
        name in plain and plain[name](),
        "the rows given to fit are the data: leave datamodule=arrays, or datamodule=counts, and its source as they are",
    )
    require(
        source.get("standardise", "none") == "none",
        "an estimator gives back what it was given: scale the rows before it, as make_pipeline(StandardScaler(), ...)",
    )


def _held(data: DataModule) -> NDArray[np.integer]:
    places = [batch.index for batch in data.ordered_loader("validation") if batch.index is not None]
    return torch.cat(places).cpu().numpy()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Restore torch's generators, its deterministic mode and Python's warning filters after this context."""
    strict, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(strict, warn_only=warned)
            torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
