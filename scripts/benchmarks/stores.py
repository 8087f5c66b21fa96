"""What the data path costs beside bare slicing: examples a second of stores in memory and of the loader over them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from benchmarks.models import Case
from narrows.data.ragged_rows import Ragged
from narrows.data.sparse_rows import Sparse
from narrows.data.stores import Dense

BATCH = 128


def rates(rows: int, rounds: int) -> dict[str, dict[str, float]]:
    """Examples a second that are handed out in a random order, and those of slicing them as one tensor."""
    pixels = torch.randint(0, 256, (rows, 1, 28, 28), dtype=torch.uint8)
    counts = (torch.rand(rows, 2000) < 0.02).float()
    tokens = torch.randint(0, 1000, (rows, 40))
    loader = Case((), BATCH, rows).datamodule().train_dataloader()
    found = {
        "loader over bytes of pictures": (lambda: sum(len(batch) for batch in loader), pixels),
        "bytes of pictures": (_taken(Dense(pixels)), pixels),
        "2,000 sparse counts": (_taken(Sparse(csr_matrix(counts.numpy()))), counts),
        "ragged rows of 20 to 40 tokens": (
            _taken(Ragged.of([row[: 20 + n % 21] for n, row in enumerate(tokens)])),
            tokens,
        ),
    }
    return {
        name: {"narrows": _rate(serve, rounds), "sliced": _rate(_sliced(dense), rounds)}
        for name, (serve, dense) in found.items()
    }


def _taken(store: Any) -> Callable[[], int]:
    return lambda: sum(len(store.take(rows)) for rows in torch.randperm(len(store)).split(BATCH))


def _sliced(x: Tensor) -> Callable[[], int]:
    return lambda: sum(len(x[rows]) for rows in torch.randperm(len(x)).split(BATCH))


def _rate(serve: Callable[[], int], rounds: int) -> float:
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        served = serve()
        found.append(served / (time.perf_counter() - start))
    return statistics.median(found)
