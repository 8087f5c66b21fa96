"""Tables of factors and latents for the laws of disentanglement."""

from __future__ import annotations

import numpy as np

from narrows.tasks.measures.disentanglement_scores import Matrix, Whole

SIZES = (2, 3, 4, 5)


def factors(rows: int = 3000, sizes: tuple[int, ...] = SIZES) -> Whole:
    random = np.random.default_rng(0)
    return np.stack([random.integers(0, size, rows) for size in sizes], axis=1)


def noise(rows: int, columns: int, seed: int = 1) -> Matrix:
    return np.random.default_rng(seed).normal(size=(rows, columns))
