"""Opening a finished run: its config, model and data, for everything that uses it after training."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from narrows.config.building import build
from narrows.config.composition import check_keys, check_layout
from narrows.config.overrides import override
from narrows.config.plain_schema import require_fits
from narrows.errors import UserError, first_line, nearest, require
from narrows.loading import fitted_density, permitted_classes
from narrows.loading.adapt_config import adapt
from narrows.loading.model_from_config import build_model, checkpoint_path, read_config, read_weights, without_start
from narrows.loading.run_places import find_run, known_names
from narrows.loading.unpacked_run import Unpacked
from narrows.models.autoencoder import Autoencoder
from narrows.random import seed_default
from narrows.runs import checkpoint_files
from narrows.runs.file_names import MANIFEST
from narrows.runs.plain_entries import require_plain_entries
from narrows.runs.run_directory import RunDirectory, read_manifest
from narrows.types import DataSpec

READ = ("data_dir", "datamodule", "tasks", "density", "seed")
"""The keys of a run's config that are read after training."""
log = logging.getLogger(__name__)


def recorded_spec(values: dict[str, Any], where: str) -> DataSpec:
    """The description of the data that a manifest holds.

    Raises:
        UserError: a field that is missing, unknown, of the wrong type or out of range; `where` begins the message.
    """
    try:
        spec = DataSpec.from_dict(values)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{where} is damaged: its data are no description of data ({first_line(error)})") from error
    require_fits(DataSpec, spec, f"{where}, data,")
    return spec


class OpenRun:
    """A finished run whose config, model and data are each read when first used.

    Args:
        path: the run's directory, the file into which `narrows pack` has written it, a model that ships with narrows
            (`digits-vae`), or one of the Hugging Face hub (`hf://OWNER/NAME`, see `narrows.loading.hub`).
        allow: packages that its config may name.
        checkpoint: `best` or `last`; by default the one that the run's figures belong to.

    Raises:
        UserError: there is no such run, it holds a link, or its config is damaged.
    """

    def __init__(self, path: str | Path, allow: Sequence[str] = (), checkpoint: str | None = None) -> None:
        self.path, self.allow = find_run(path), allow
        self.fetched = None if self.path == Path(path) else self.path.stem
        """The run's name, where it is no file or directory of the user."""
        self.packed = self.path if self.path.is_file() or self.fetched else None
        """The file, where the run is packed: nothing that is written to its directory lasts."""
        if self.packed is not None:
            self._unpacked = Unpacked(self.packed)
            self.path = self._unpacked.path
        require(self.path.is_dir(), f"there is no run directory {self.path}; {known_names()}")
        require_plain_entries(self.path)
        self._recorded = read_config(self.path)
        self.config = self._recorded.copy()
        """The recorded config, until `find_data` changes it; the model is always built from the recorded one."""
        self.checkpoint = self.config.get("checkpoint") if checkpoint is None else checkpoint

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return read_manifest(self.path)

    @property
    def weights(self) -> Path:
        """The checkpoint file."""
        return checkpoint_path(self.path, self.checkpoint)

    @property
    def device(self) -> torch.device:
        """The fastest device of this machine."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def model(self) -> Autoencoder:
        """The model in evaluation mode on the CPU, with the density that the run fitted, if any.

        Raises:
            UserError: the config names what is not allowed, or there is no readable checkpoint.
        """
        self._require_trusted()
        model = build_model(without_start(self._recorded.copy()), self._spec)
        if self.checkpoint == "best" and self.weights.stem != "best":
            log.warning("%s has no best checkpoint, so %s is used", self.path, self.weights.name)
        weights = read_weights(self.weights)
        own = {key.removeprefix("model."): values for key, values in weights.items() if key.startswith("model.")}
        checkpoint_files.restore(model, own, self.weights)
        fitted_density.attach(model, fitted_density.fitted_path(self.path), self.weights, self.allow)
        return model.eval()

    def _require_trusted(self) -> None:
        permitted_classes.require_trusted(self._recorded, self.allow)
        check_layout(self._recorded)
        check_keys(self._recorded)

    @property
    def _spec(self) -> DataSpec:
        data = self.manifest.get("data")
        if data is None:
            raise UserError(f"{self.path} stopped before its data were read: there is no model to load")
        return recorded_spec(data, str(self.path / MANIFEST))

    def find_data(self, overrides: Sequence[str] = (), needed: bool = True) -> None:
        """Change the paths of data in the config to where they are found; the user's `overrides` come last.

        Args:
            needed: whether data that are not on this machine are refused; new data need only what reads them.

        Raises:
            UserError: data that are not on this machine, a key that does not exist, or one that is read no more once
                the run is trained.
        """
        require_read(overrides)
        started = str(self.manifest.get("directory") or ".")
        adapted, _ = adapt(self.config, started, overrides, "outputs", keep_loggers=True, needed=needed)
        moved = [f"{key}={value}" for key, value in adapted.items() if key.startswith(("datamodule.", "tasks."))]
        for text in [*moved, *overrides]:
            override(self.config, text)
        check_keys(self.config)

    @cached_property
    def data(self) -> Any:
        """The datamodule, set up.

        Raises:
            UserError: the data are not those that the run was trained on.
        """
        self._require_trusted()
        seed_default(self.config.seed, "data")
        data = build(self.config.datamodule, "datamodule")
        data.setup()
        require(data.spec == self._spec, f"the data found are not those that {self.path} was trained on")
        return data

    @contextmanager
    def writing(self) -> Iterator[RunDirectory]:
        """The run's directory, locked against other processes.

        Raises:
            UserError: another process is writing it.
        """
        require(
            self.packed is None, f"{self.packed} is a packed run, which nothing is added to: unzip it into a folder"
        )
        directory = RunDirectory(self.path)
        directory.reclaim()
        try:
            checkpoint_files.clear_temporary(self.path)
            yield directory
        finally:
            directory.release()

    @property
    def checksum(self) -> str:
        """The checksum of the weights, which everything made from them records."""
        return checkpoint_files.checksum(self.weights)


def require_read(overrides: Sequence[str]) -> None:
    """Refuse overrides of what is no longer read once a run is trained: they would change nothing, without a word.

    Raises:
        UserError: names the first of them.
    """
    for text in overrides:
        key = text.partition("=")[0].lstrip("+~")
        root = key.partition(".")[0]
        require(root in READ, f"'{text}' changes nothing in a trained run: no '{key}' is read; {nearest(root, READ)}")
