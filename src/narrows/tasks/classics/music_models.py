"""Classic models of music: how likely each key is to sound in a frame, given the frames before, and PCA.

Legend: a roll is uint8 `[88, T]`; P keys, T frames, S states.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from narrows.data.midi_files import PITCHES, Roll
from narrows.random import derive

log = logging.getLogger(__name__)

Values = NDArray[np.floating]
MOST_FRAMES = 100_000
"""Most training frames that the logistic regression is fitted on."""
PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3)
"""Of the squared weights, per frame; the validation split chooses."""
STEPS = 60


class FrameModel(Protocol):
    """A model of each frame given those before it."""

    def probabilities(self, roll: Roll) -> Values:
        """The probability that each key sounds, given the frames before, `[P, T]`."""
        ...


def nats(model: FrameModel, roll: Roll) -> float:
    """`-log p` of all frames of a roll, summed over keys."""
    sounds = model.probabilities(roll).clip(1e-12, 1 - 1e-12)
    return -float(np.where(roll > 0, np.log(sounds), np.log1p(-sounds)).sum())


def drawn(model: FrameModel, n: int, frames: int, source: np.random.Generator) -> list[Roll]:
    """`n` rolls of so many frames, drawn frame by frame."""
    made = []
    for _ in range(n):
        roll = np.zeros((PITCHES, frames), np.uint8)
        for frame in range(frames):
            roll[:, frame] = source.random(PITCHES) < model.probabilities(roll[:, : frame + 1])[:, frame]
        made.append(roll)
    return made


class Markov:
    """Each key by itself, given whether it sounded in the `order` frames before (or that there was no frame): counted
    in training rolls, with one more of each outcome. Order 0 are the marginals."""

    def __init__(self, rolls: Sequence[Roll], order: int) -> None:
        self.order = order
        keys = len(rolls[0])
        sounded, seen = np.ones((keys, 3**order)), np.full((keys, 3**order), 2.0)
        for roll in rolls:
            states = self._states(roll)
            key = np.arange(keys)[:, None].repeat(roll.shape[1], 1)
            np.add.at(seen, (key, states), 1)
            np.add.at(sounded, (key, states), roll)
        self.table = sounded / seen

    def probabilities(self, roll: Roll) -> Values:
        return np.take_along_axis(self.table, self._states(roll), 1)

    def _states(self, roll: Roll) -> NDArray[np.int64]:
        """The state `[P, T]` before each frame: frames before as digits to the base 3, 2 where there is none."""
        states = np.zeros(roll.shape, np.int64)
        for back in range(1, self.order + 1):
            past = np.full(roll.shape, 2, np.int64)
            past[:, back:] = roll[:, :-back]
            states = 3 * states + past
        return states


class LogisticFrames:
    """A logistic regression of each key on all keys of the frame before, and on whether there was one."""

    def __init__(self, train: Sequence[Roll], validation: Sequence[Roll], seed: int) -> None:
        before, frames = _pairs(train)
        if len(before) > MOST_FRAMES:
            log.info("the logistic regression is fitted on %d of %d training frames", MOST_FRAMES, len(before))
            kept = np.random.default_rng(derive(seed, "logistic frames")).permutation(len(before))[:MOST_FRAMES]
            before, frames = before[kept], frames[kept]
        judged = _pairs(validation)
        fitted = [_fit(before, frames, penalty) for penalty in PENALTIES]
        self.weights = min(fitted, key=lambda weights: float(_nats(weights, *judged))).double().numpy()

    def probabilities(self, roll: Roll) -> Values:
        return 1 / (1 + np.exp(-(_before(roll) @ self.weights).T))


def _before(roll: Roll) -> Values:
    """What is known before each frame, `[T, P + 2]`: the frame before, whether there is one, and 1."""
    found = np.zeros((roll.shape[1], len(roll) + 2))
    found[1:, : len(roll)] = roll[:, :-1].T
    found[0, -2] = 1
    found[:, -1] = 1
    return found


def _pairs(rolls: Sequence[Roll]) -> tuple[Tensor, Tensor]:
    before = np.concatenate([_before(roll) for roll in rolls])
    frames = np.concatenate([roll.T for roll in rolls])
    return torch.from_numpy(before).float(), torch.from_numpy(frames).float()


def _nats(weights: Tensor, before: Tensor, frames: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(before @ weights, frames, reduction="sum") / len(frames)


def _fit(before: Tensor, frames: Tensor, penalty: float) -> Tensor:
    # Rare keys start rare, so that few steps are enough.
    share = frames.mean(0).clamp(1e-5, 1 - 1e-5)
    weights = torch.zeros(before.shape[1], frames.shape[1])
    weights[-1] = share.logit()
    weights.requires_grad_()
    optimiser = torch.optim.LBFGS([weights], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        with torch.enable_grad():
            found = _nats(weights, before, frames) + penalty * len(frames) * weights[:-1].square().mean()
            found.backward()
        return found

    optimiser.step(loss)  # type: ignore[arg-type]
    return weights.detach()


@dataclass
class RollPCA:
    """Principal components of rolls padded with silence to one length."""

    mean: Values
    axes: Values
    """`[K, P * T]`."""
    frames: int

    @classmethod
    def fit(cls, rolls: Sequence[Roll], components: int, frames: int) -> RollPCA:
        """The first axes of the covariance, summed some rolls at a time.

        Args:
            frames: of the longest roll of any split.
        """
        size = len(rolls[0]) * frames
        total, squares = np.zeros(size), np.zeros((size, size))
        for start in range(0, len(rolls), 1024):
            rows = _padded(rolls[start : start + 1024], frames)
            total += rows.sum(0)
            squares += rows.T @ rows
        mean = total / len(rolls)
        _, axes = np.linalg.eigh(squares / len(rolls) - np.outer(mean, mean))
        return cls(mean, axes[:, ::-1].T[:components], frames)

    def rebuilt(self, rolls: Sequence[Roll]) -> list[Values]:
        """Each roll from its components, `[P, T]` of its own length."""
        rows = _padded(rolls, self.frames) - self.mean
        back = (rows @ self.axes.T) @ self.axes + self.mean
        shaped = back.reshape(len(rolls), -1, self.frames)
        return [row[:, : roll.shape[1]] for row, roll in zip(shaped, rolls, strict=True)]


def _padded(rolls: Sequence[Roll], frames: int) -> Values:
    found = np.zeros((len(rolls), len(rolls[0]), frames), np.float32)
    for row, roll in zip(found, rolls, strict=True):
        row[:, : roll.shape[1]] = roll
    return found.reshape(len(rolls), -1)
