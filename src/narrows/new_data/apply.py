"""What a run's model makes of new data: latents and reconstructions, a chunk at a time."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from narrows.errors import UserError, printable, require
from narrows.evaluation import evaluating
from narrows.new_data.beyond_range import BeyondRange
from narrows.new_data.examples import Chunk, NewData
from narrows.new_data.latent_files import writing_latents
from narrows.types import Batch

if TYPE_CHECKING:
    from narrows.models.autoencoder import Autoencoder

SHOWN = 20
"""Problems that are logged one by one."""
BAR = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
log = logging.getLogger(__name__)


def embed(model: Autoencoder, data: NewData, out: Path) -> None:
    """Write the noise-free latents of new data to `out`, see `writing_latents`.

    Raises:
        UserError: nothing of the data can be read, or `out` has no known ending.
    """
    with writing_latents(out, model.latent_shape) as write:
        for chunk in followed(data):
            latents = made(model, chunk, model.embed)
            write(chunk, None if latents is None else latents.numpy())


def reconstruct(model: Autoencoder, data: NewData, out: Path) -> None:
    """Write the reconstructions of new data, at their noise-free latents, to `out` in the data's own form.

    Raises:
        UserError: nothing of the data can be read, or they cannot be written as `out`.
    """
    with data.rebuilding(out) as write:
        for chunk in followed(data):
            write(chunk, made(model, chunk, model.reconstruct))


def made(model: Autoencoder, chunk: Chunk, what: Callable[[Batch], Tensor]) -> Tensor | None:
    """What a method of the model makes of a chunk's readable examples, `[M, *any]` on the CPU; None of none."""
    if chunk.batch is None:
        return None
    with evaluating(model, 0, "new data"):
        found = what(chunk.batch.to(next(model.parameters()).device)).cpu()
    return found.float() if found.is_floating_point() else found


def followed(data: NewData) -> Iterator[Chunk]:
    """The chunks of new data with a progress bar; problems are logged by the names of their examples, and counted.

    Raises:
        UserError: no example could be read.
    """
    from tqdm import tqdm

    count = readable = troubled = 0
    first, beyond = None, BeyondRange(data.known.spec)
    with tqdm(total=1.0, desc=printable(data.called), bar_format=BAR, disable=not sys.stderr.isatty()) as bar:
        for chunk in data.chunks():
            for called, problem in zip(chunk.names, chunk.problems, strict=True):
                if problem is None:
                    continue
                first = first or problem
                troubled += 1
                if troubled <= SHOWN:
                    log.warning("%s of %s: %s", called, data.called, problem)
            count, readable = count + len(chunk), readable + len(chunk.rows)
            if chunk.batch is not None:
                beyond.add(chunk.batch.x)
            yield chunk
            bar.update(chunk.done - bar.n)
    require(readable > 0, f"nothing of {data.called} can be read: {first}")
    if troubled > SHOWN:
        log.warning("and %d more have problems", troubled - SHOWN)
    for line in beyond.said(data.called):
        log.warning("%s", line)
    log.info("%d examples, %d with problems, %d of them left empty", count, troubled, count - readable)


def to_memory(model: Autoencoder, data: NewData, what: Callable[[Batch], Any]) -> list[tuple[Chunk, Tensor]]:
    """What a method of the model makes of new data, all of which must be readable.

    Raises:
        UserError: an example that could not be read.
    """
    found = []
    for chunk in data.chunks():
        for row in set(range(len(chunk))) - set(chunk.rows.tolist()):
            raise UserError(f"{chunk.names[row]}: {chunk.problems[row]}")
        values = made(model, chunk, what)
        assert values is not None
        found.append((chunk, values))
    require(bool(found), "the data hold no example")
    return found
