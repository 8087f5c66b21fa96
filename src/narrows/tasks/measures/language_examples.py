"""Texts of a model for people to read: told again, drawn, between two texts, and those that lie near one another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.evaluation import select
from narrows.tasks.base import TaskContext
from narrows.types import Batch

Rows = Sequence[NDArray[np.int64]]
STEPS = 5
"""Texts on the way between two, both ends counted."""
NEAREST = 3


def page(context: TaskContext, reader: Any, chosen: Sequence[Batch], texts: tuple[Rows, Rows], shown: int) -> str:
    """A page in Markdown.

    Args:
        reader: turns ids into text (`decode`).
        chosen: test texts, in batches.
        texts: the ids of the same texts, and of what the model told of them.
        shown: texts of each kind.
    """
    truth, told = ([read(reader, row.tolist()) for row in rows] for rows in texts)
    parts = ["# Language", "", "Texts told again from the noise-free latent, free running.", ""]
    parts += _table(["text", "told again"], list(zip(truth, told, strict=True))[:shown])
    model = context.model
    if model.generative:
        parts += ["", "Samples: the latent drawn, the likeliest token at every step.", ""]
        parts += _list(reader, model.sample(shown))
        if model.decoder.autoregressive:
            parts += ["", "Samples: the latent and every token drawn.", ""]
            parts += _list(reader, model.sample(shown, temperature=1.0))
    codes = torch.cat([model.encode(batch).point for batch in chosen])
    if len(codes) > 1:
        parts += ["", "From the first text to the second, in equal steps between their latents.", ""]
        parts += _list(reader, between(context, codes[:2], chosen))
    if len(codes) > NEAREST:
        parts += ["", f"Texts, and the {NEAREST} others among {len(codes):,} whose latents are nearest.", ""]
        places = nearest(codes.flatten(1).cpu(), min(shown, len(codes)))
        parts += _table(["text", "nearest"], [(truth[i], " <br> ".join(truth[j] for j in of)) for i, of in places])
    return "\n".join(parts)


def between(context: TaskContext, ends: Tensor, chosen: Sequence[Batch]) -> Tensor:
    """The texts at `STEPS` latents on the line between two, ids `[STEPS, T]`."""
    share = torch.linspace(0, 1, STEPS, device=ends.device).reshape(-1, *[1] * (ends.ndim - 1))
    given = select(chosen[0], slice(0, 1)).repeat(STEPS).given
    # The first text's length is not told: where an end mark tells, no decoder reads it.
    return context.model.point_at(torch.lerp(ends[:1], ends[1:2], share), given)


def nearest(codes: Tensor, number: int) -> list[tuple[int, list[int]]]:
    """The first rows, and for each the places of the `NEAREST` others at the least distance."""
    distances = torch.cdist(codes[:number].double(), codes.double())
    distances[torch.arange(number), torch.arange(number)] = torch.inf
    return list(enumerate(distances.topk(NEAREST, largest=False).indices.tolist()))


def read(reader: Any, ids: Sequence[int]) -> str:
    """A text on one line, such as stands in a cell of a table."""
    text = " ".join(reader.decode(ids).split("\n"))
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "\\<").replace("*", "\\*").replace("_", "\\_")


def _list(reader: Any, rows: Tensor) -> list[str]:
    return [f"- {read(reader, row)}" for row in rows.cpu().tolist()]


def _table(heads: Sequence[str], rows: Sequence[tuple[str, str]]) -> list[str]:
    return [f"| {' | '.join(heads)} |", "|---|---|", *(f"| {one} | {other} |" for one, other in rows)]
