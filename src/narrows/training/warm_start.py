"""Starting a run from the weights of another one (`init_from=RUN`), and parts that keep theirs (`freeze=[encoder]`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from narrows.errors import nearest, require
from narrows.loading.model_from_config import read_weights
from narrows.loading.open_run import OpenRun
from narrows.models.autoencoder import Autoencoder

PREFIX = "model."
"""Of the model's names in a checkpoint."""
SHOWN = 4
"""Names that a line of the table lists."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WarmStart:
    """Which of a model's tensors were set from another run."""

    run: Path
    """Absolute."""
    checkpoint: str
    sha256: str
    """Of the checkpoint."""
    loaded: list[str]
    fresh: list[str]
    """Tensors of the chosen parts that the other run lacks, or has in another shape, which is said."""
    unused: list[str]
    """Tensors of the other run that are not here, or not among the chosen parts."""

    @property
    def manifest(self) -> dict[str, Any]:
        """The entry of the run's manifest."""
        return {"path": str(self.run), "checkpoint": self.checkpoint, "sha256": self.sha256, "loaded": len(self.loaded)}

    def table(self) -> list[str]:
        """Lines that say what became of the tensors, for people."""
        rows = {"loaded": self.loaded, "fresh": self.fresh, "unused": self.unused}
        told = [f"  {name:<7}{len(names):>5}  {_shortened(names)}".rstrip() for name, names in rows.items()]
        return [f"weights of {self.run} ({self.checkpoint}):", *told]


def load(config: DictConfig, model: Autoencoder) -> WarmStart | None:
    """Set the tensors of `model` that `init_from` has under the same name and in the same shape; None without one.

    Raises:
        UserError: no run, one without a readable checkpoint, a part that does not exist, or nothing that fits.
    """
    place = config.get("init_from")
    chosen = parts_of(model, config.get("init_parts"), "init_parts")
    if place is None:
        require(not chosen, "init_parts names the parts to load, and init_from=RUN the run: give both")
        return None
    run = OpenRun(place)
    weights = {
        name.removeprefix(PREFIX): values
        for name, values in read_weights(run.weights).items()
        if name.startswith(PREFIX)
    }
    warm = WarmStart((run.packed or run.path).resolve(), run.weights.name, run.checksum, *_set(model, weights, chosen))
    require(
        bool(warm.loaded),
        f"init_from={place} sets nothing: none of its tensors has the name and shape of one of "
        f"{', '.join(chosen) or 'the model'} here (here: {_shortened(warm.fresh) or 'no weights'})",
    )
    return warm


@torch.no_grad()
def _set(
    model: Autoencoder, weights: Mapping[str, Tensor], chosen: Sequence[str]
) -> tuple[list[str], list[str], list[str]]:
    loaded, fresh = [], []
    for name, own in model.state_dict().items():
        if chosen and name.partition(".")[0] not in chosen:
            continue
        values = weights.get(name)
        if values is not None and values.shape == own.shape:
            own.copy_(values)
            loaded.append(name)
        else:
            fresh.append(name if values is None else f"{name} {list(own.shape)}, there {list(values.shape)}")
    return loaded, fresh, sorted(weights.keys() - set(loaded))


def parts_of(model: Autoencoder, names: Any, key: str) -> tuple[str, ...]:
    """The names of parts of the model that `key` gives, one or a list of them.

    Raises:
        UserError: one that the model does not have.
    """
    chosen = (names,) if isinstance(names, str) else tuple(names or ())
    known = [name for name, part in model.named_children() if part.state_dict()]
    for name in chosen:
        require(
            name in known, f"{key}={list(chosen)}: the model has no weights in '{name}'; {nearest(str(name), known)}"
        )
    return chosen


def _shortened(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
