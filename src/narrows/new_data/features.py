"""New pictures of a run that was trained on what a frozen network sees in pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from narrows.config.building import build
from narrows.data import Features, Seen
from narrows.errors import UserError, require
from narrows.loading import recorded_by_the_data as recorded
from narrows.loading.adapt_config import require_no_download
from narrows.new_data.examples import Chunk, Known, NewData, Write
from narrows.new_data.rebuilt_archive import rebuilding_archive
from narrows.runs.file_names import SEEN
from narrows.types import Batch

if TYPE_CHECKING:
    from narrows.loading.open_run import OpenRun


class NewFeatures(NewData):
    """The features of new pictures, computed and scaled as in training. What is rebuilt of them are features too,
    written as arrays: no picture can be made of those.

    Args:
        pictures: the new pictures.
        known: of the features.
        features: what makes them.
        device: where they are made.
    """

    form = "features of pictures"

    def __init__(self, pictures: NewData, known: Known, features: Features, device: torch.device) -> None:
        super().__init__(pictures.source, known, pictures.given)
        self.pictures, self.features, self.device = pictures, features, device

    def chunks(self) -> Iterator[Chunk]:
        """Of which `beside` are the pictures, `[M, C, H, W]`."""
        for chunk in self.pictures.chunks():
            if chunk.batch is None:
                yield chunk
                continue
            x = chunk.batch.x
            yield replace(chunk, batch=Batch(self.features(x.to(self.device)).cpu()), beside=x)

    def default_target(self) -> Path:
        return self.stem("reconstructed", ".npz")

    @contextmanager
    def rebuilding(self, out: Path) -> Iterator[Write]:
        """A .npz of `x` `[N, C, h, w]`, NaN where a picture could not be read, with `names`."""
        require(
            out.suffix.lower() == ".npz",
            f"this run rebuilds features of pictures, which are written as .npz, and {out} is none by its name",
        )
        with rebuilding_archive(out, self.known.spec.shape) as write:
            yield write

    def own_form(self, rebuilt: Tensor, chunk: Chunk) -> Any:
        return rebuilt.numpy()


def features_of(run: OpenRun, overrides: Sequence[str]) -> tuple[Seen, Features]:
    """What the features of a run's pictures were, and what computes them anew.

    Raises:
        UserError: the network's weights are not at hand or are others, or the run did not record how its features were
            scaled and its pictures are not here.
    """
    node = run.config.datamodule.features
    require_no_download(OmegaConf.create({"datamodule": {"features": node}}), overrides)
    features: Features = build(node, "datamodule.features")
    spec = run.model.spec
    recorded_here = (run.path / SEEN).is_file()
    seen = recorded.load_seen(run.path, spec.shape[0]) if recorded_here else _from_data(run, overrides)
    scaled = seen.of(features)
    found = tuple(scaled.out_shape(tuple(seen.shape)))
    require(
        found == tuple(spec.shape),
        f"{run.path / SEEN} is damaged: pictures of shape {seen.shape} have features of shape {list(found)}, and the "
        f"run's are {list(spec.shape)}",
    )
    return seen, scaled


def pictures(seen: Seen, known: Known) -> Known:
    """What is known of the pictures behind features."""
    spec = replace(known.spec, kind="image", shape=tuple(seen.shape), value_range=(0.0, 1.0))
    return replace(known, spec=spec, scaling=None, most=known.rows)


def _from_data(run: OpenRun, overrides: Sequence[str]) -> Seen:
    try:
        run.find_data(overrides)
        found: Seen | None = run.data.seen
    except UserError as error:
        raise UserError(
            f"{run.path} does not say how its features were scaled, as runs of this version do, and its pictures "
            f"cannot be read again ({error})"
        ) from error
    assert found is not None
    return found
