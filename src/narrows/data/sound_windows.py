"""Windows of sounds, and the sounds folded together from them again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from narrows.data.sound_files import Samples


def starts_of(steps: int, window: int, stride: int) -> list[int]:
    """The first samples of the windows that cover a sound of so many samples: one every `stride`, until the end."""
    return list(range(0, max(steps - window, 0) + stride, stride)) if steps > window else [0]


def cut_sound(samples: Samples, window: int | None, stride: int | None) -> list[tuple[int, Samples]]:
    """The windows `[C, window]` of a sound `[C, T]` and where each begins; the last ones are filled up with zeros.
    null: the whole sound.

    Args:
        stride: samples from window to window; null: `window`.
    """
    if window is None:
        return [(0, samples)]
    found = []
    for start in starts_of(samples.shape[1], window, stride or window):
        part = samples[:, start : start + window]
        found.append((start, np.pad(part, ((0, 0), (0, window - part.shape[1])))))
    return found


class Folding:
    """A sound `[C, T]` that is put together from windows of one width: the mean of those that cover a sample, weighed
    by their distance to the window's ends, so that one passes into the next without a click. Windows that were cut and
    not changed give back the sound. What no window covers is 0.

    Args:
        steps: T.
    """

    def __init__(self, channels: int, steps: int, width: int) -> None:
        near = np.minimum(np.arange(1, width + 1), np.arange(width, 0, -1)).astype(np.float64)
        self._steps, self._width, self._near = steps, width, near
        self._total = np.zeros((channels, steps))
        self._weight = np.zeros(steps)

    def add(self, start: int, window: NDArray[Any]) -> None:
        """Add the window `[C, width]` that begins at this sample; what lies behind the end is left out."""
        inside = max(0, min(self._width, self._steps - start))
        near = self._near[:inside]
        self._total[:, start : start + inside] += window[:, :inside] * near
        self._weight[start : start + inside] += near

    def sound(self) -> Samples:
        """The sound as far as it has been added."""
        return (self._total / np.where(self._weight > 0, self._weight, 1)).astype(np.float32)


def fold_sound(windows: NDArray[Any], starts: Sequence[int], steps: int) -> Samples:
    """The sound `[C, steps]` whose windows `[N, C, W]` begin at `starts`; see `Folding`."""
    found = Folding(windows.shape[1], steps, windows.shape[2])
    for start, window in zip(starts, windows, strict=True):
        found.add(start, window)
    return found.sound()
