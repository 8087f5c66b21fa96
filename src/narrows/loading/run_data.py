"""A run's own data, found from here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from narrows.config.composition import build
from narrows.config.overrides import override
from narrows.errors import require
from narrows.files import read_json
from narrows.loading.adapt import adapt
from narrows.random import seed_default
from narrows.runs.file_names import MANIFEST
from narrows.types import DataSpec


def find(config: DictConfig, run: Path, overrides: Sequence[str] = ()) -> None:
    """Change a run's config to where its data lie from here; the user's `overrides` come last.

    Raises:
        UserError: data that are not here, or a key that does not exist.
    """
    started = str(read_json(run / MANIFEST).get("directory") or ".")
    adapted, _ = adapt(config, started, overrides, "outputs", keep_loggers=True)
    moved = [f"{key}={value}" for key, value in adapted.items() if key.startswith(("datamodule.", "tasks."))]
    for text in [*moved, *overrides]:
        override(config, text)


def load(config: DictConfig, run: Path) -> Any:
    """The datamodule of a run, set up.

    Raises:
        UserError: the data are not those that the run was trained on.
    """
    seed_default(config.seed, "data")
    data = build(config.datamodule, "datamodule")
    data.setup()
    recorded = DataSpec.from_dict(read_json(run / MANIFEST)["data"])
    require(data.spec == recorded, f"the data found are not those that {run} was trained on")
    return data
