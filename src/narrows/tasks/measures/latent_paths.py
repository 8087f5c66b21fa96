"""Paths through a latent space: interpolation between two examples, and shifts from one class to another."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor

from narrows.random import derive

Matrix = NDArray[np.floating]
TREES = 100


def linear(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Equal steps from `start [D]` to `end [D]`, `[steps, D]`."""
    share = torch.linspace(0, 1, steps, dtype=start.dtype)[:, None]
    return (1 - share) * start + share * end


def spherical(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Equal angles from `start [D]` to `end [D]`, `[steps, D]`: two ends of one norm have it all the way.

    `sin((1 - t) w) / sin(w) start + sin(t w) / sin(w) end`, w the angle between them; linear where they point the
    same or the opposite way, or one is 0. "Animating rotation with quaternion curves" (Shoemake, 1985); for latents
    "Sampling Generative Networks" (White, 2016).
    """
    scale = start.norm() * end.norm()
    angle = torch.arccos((start @ end / scale).clamp(-1, 1))
    # If one of them is 0, the angle is NaN, and the comparison below is false.
    if not torch.sin(angle) > 1e-4:
        return linear(start, end, steps)
    share = torch.linspace(0, 1, steps, dtype=start.dtype)[:, None]
    return (torch.sin((1 - share) * angle) * start + torch.sin(share * angle) * end) / torch.sin(angle)


def class_means(codes: Matrix, label: NDArray, classes: int) -> Matrix:
    """The mean code of every class, `[classes, D]`; NaN of one without examples."""
    means = np.full((classes, codes.shape[1]), np.nan)
    for kind in np.unique(label):
        means[kind] = codes[label == kind].mean(0)
    return means


def other_classes(label: NDArray, means: Matrix, seed: int) -> NDArray[np.int64]:
    """For each example a class that is not its own and has a mean, drawn at random."""
    source = np.random.default_rng(derive(seed, "other classes"))
    known = np.flatnonzero(np.isfinite(means).all(1))
    drawn = source.integers(len(known) - 1, size=len(label))
    # Number the other classes in order: those from its own class on move up by one.
    return known[drawn + (drawn >= np.searchsorted(known, label))]


def shift(codes: Matrix, label: NDArray, target: NDArray, means: Matrix) -> Matrix:
    """`z + mean(target) - mean(label)`, `[N, D]`: "Deep Feature Interpolation for Image Content Changes" (Upchurch et
    al., 2017)."""
    return codes + means[target] - means[label]


def fit_judge(values: Matrix, label: NDArray, seed: int) -> Callable[[Matrix], NDArray]:
    """Fit a random forest that classifies raw values `[N, D]`; a linear probe would accept any picture to which the
    difference of two class means was added."""
    state = derive(seed, "judge") % 2**32
    forest = RandomForestClassifier(TREES, random_state=state).fit(values, label)
    return forest.predict
