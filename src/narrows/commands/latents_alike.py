"""`narrows compare RUNS --cka PICTURE`: how alike the latents of runs are, in numbers and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from narrows.compare.run_records import Record
from narrows.drawing.canvas import save
from narrows.drawing.matrix import matrix
from narrows.errors import require
from narrows.evaluation import evaluating, subset
from narrows.loading.open_run import OpenRun
from narrows.tasks.measures.alignment import linear_cka
from narrows.tasks.measures.chosen_rows import drawn

ROWS = 2000
"""Test examples whose latents are compared."""
MOST = 40
"""Runs that one picture holds."""


def draw_alike(records: Sequence[Record], target: Path, allow: Sequence[str] = ()) -> list[str]:
    """Draw the linear CKA of the noise-free latents of every two runs on the test examples that they share.

    Returns lines that name the pair of runs that are most alike and the one that is least.

    Raises:
        UserError: fewer than two completed runs or more than 40, runs that hold out different examples, or one that
            cannot be loaded.
    """
    completed = [record for record in records if record.status == "completed"]
    require(1 < len(completed) <= MOST, f"--cka draws 2 to {MOST} completed runs, and here are {len(completed)}")
    found: list[_Latents] = []
    for record in completed:
        found.append(_latents(record, allow))
        require(
            found[0].of == found[-1].of,
            f"--cka compares latents of the same test examples, but {completed[0].name} and {record.name} hold out "
            "different ones",
        )
    codes = [one.codes for one in found]
    values = np.array([[linear_cka(first, second) for second in codes] for first in codes])
    names = [record.name for record in completed]
    save(matrix(values, names, f"Linear CKA of the latents of {len(codes[0]):,} test examples", (0.0, 1.0)), target)
    return _extremes(values, names)


@dataclass
class _Latents:
    """Latents `[N, K]`, and what they are of: the fingerprint of the data, and the rows chosen."""

    codes: Tensor
    of: tuple[str, list[int]]


def _latents(record: Record, allow: Sequence[str]) -> _Latents:
    run = OpenRun(record.path, allow)
    model = run.model
    run.find_data()
    data = run.data
    require(data.has("test"), f"--cka embeds the test split, and the data of {record.path} have none")
    loader = data.ordered_loader("test")
    rows = drawn(sum(len(batch) for batch in loader), ROWS, 0, "alike")
    parts: list[Tensor] = []
    places: list[int] = []
    with evaluating(model, 0, "alike"):
        for batch in subset(data.ordered_loader("test"), rows):
            parts.append(model.embed(batch))
            places += range(len(batch)) if batch.index is None else batch.index.tolist()
    return _Latents(torch.cat(parts), (data.spec.fingerprint, places))


def _extremes(values: np.ndarray, names: Sequence[str]) -> list[str]:
    pairs = [(float(values[a, b]), names[a], names[b]) for a in range(len(names)) for b in range(a)]
    known = sorted(pair for pair in pairs if pair[0] == pair[0])
    if not known:
        return ["CKA: no two runs have latents that vary"]
    (low, first, second), (high, third, fourth) = known[0], known[-1]
    lines = [f"CKA: most alike, at {high:.3f}, are {third} and {fourth}"]
    return lines + ([f"CKA: least alike, at {low:.3f}, are {first} and {second}"] if len(known) > 1 else [])
