"""The latents of one run as the data of the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from narrows.data import Contents, Part
from narrows.data.contents import Standardise
from narrows.errors import require
from narrows.evaluation import evaluating
from narrows.loading.open_run import OpenRun
from narrows.runs.recorded_threads import as_recorded
from narrows.types import Kind

KINDS: dict[int, Kind] = {1: "vector", 2: "series", 3: "image", 4: "volume"}
"""By the axes of a latent: maps are images, whose channels come first."""


class Latents:
    """The noise-free latents of another run's data, with its own train, validation and test splits and labels.

    That run and its data must be on this machine. They are told again by the checksums of its weights and its data, not
    by the latents, whose last digits differ between processors.

    Args:
        run: its directory, or the file into which `narrows pack` has written it.
        standardise: none, standard or minmax, per feature or channel, fitted on the training rows.

    Raises:
        UserError: (`load`) no such run, a conditional model, or data that are not here.
    """

    x_key = "latents"
    """What `narrows embed` calls latents in a file, which are new examples of a run on latents."""
    channels_last = False

    def __init__(self, run: str, standardise: Standardise = "standard") -> None:
        self.run, self.standardise = run, standardise

    def load(self) -> Contents:
        place = Path(self.run).expanduser()
        require(place.exists(), f"source.run={self.run}: there is no such run; its latents are what is trained on")
        run = OpenRun(place)
        require(
            run.model.classes(1) is None,
            f"{place} holds a conditional model, whose latents are not told without the label",
        )
        own = run.config.datamodule.source.get("run")
        require(
            own is None or Path(own).resolve() != place.resolve(), f"{place} names itself as the source of its data"
        )
        # The generators of the training that is about to begin stay as they are.
        with torch.random.fork_rng(devices=[]), as_recorded(run.path):
            run.find_data()
            return self._contents(run)

    def _contents(self, run: OpenRun) -> Contents:
        data, model, spec = run.data, run.model, run.model.spec
        splits = [name for name in ("train", "validation", "test") if data.has(name)]
        parts = {name: _latents(run, data, name) for name in splits}
        shape, checksum = model.latent_shape, run.checksum
        counts = ", ".join(f"{len(part):,} to {name}" for name, part in parts.items())
        return Contents(
            KINDS.get(len(shape), "vector"),
            parts["train"],
            validation=parts["validation"],
            test=parts.get("test"),
            train_labels=spec.trained_labels,
            standardise=self.standardise,
            factor_names=spec.factor_names,
            class_names=spec.class_names,
            identity=f"latents of {checksum}, {spec.fingerprint}",
            reading=[
                f"latents: of shape {list(shape)}, {counts}, as the run {self.run} divides its data; its weights are "
                f"{run.weights.name}, sha256 {checksum}"
            ],
        )


def _latents(run: OpenRun, data: Any, split: str) -> Part:
    """The latents of a split, `[N, *latent_shape]`, or `[N, D]` where they have more axes than data can have."""
    model, found, labels = run.model, list[Tensor](), list[Tensor]()
    with evaluating(model, 0, "latents"):
        for batch in data.ordered_loader(split):
            found.append(model.embed(batch).float())
            labels += [] if batch.label is None else [batch.label]
    latents = torch.cat(found)
    shape = model.latent_shape if len(model.latent_shape) in KINDS else (latents.shape[1],)
    label = torch.cat(labels) if len(labels) == len(found) else None
    return Part(latents.reshape(-1, *shape), label, names=data.part(split).names)
