"""Pictures of sound: spectrograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from narrows.compare.figure_names import CLASSICS
from narrows.drawing.canvas import HEAT, Array, _panels, _render
from narrows.drawing.labels import INK, MUTED, Picture

DEEPEST = 60.0
"""Decibels below the loudest place of the first row at which a spectrogram is black."""
SECONDS = 0.032


def spectrograms(rows: Mapping[str, Sequence[Array]], title: str, rate: int) -> Picture:
    """Sounds `[C, T]`: a row of spectrograms for each method, by name, a column for each sound; low frequencies below.
    All have one scale, of 60 dB below the loudest place of the first row."""
    first = next(iter(rows.values()))
    levels = {name: [_levels(sound, rate) for sound in sounds] for name, sounds in rows.items()}
    top = max((float(level.max()) for level in next(iter(levels.values()))), default=0.0)
    columns = max(1, len(first))
    figure, axes = _panels(len(rows), columns, (2.1, 1.1), title, shared=False)
    for row, (name, found) in enumerate(levels.items()):
        for column, level in enumerate(found):
            axis = axes[row * columns + column]
            seconds = first[column].shape[1] / rate
            axis.imshow(
                level,
                origin="lower",
                aspect="auto",
                cmap=HEAT,
                vmin=top - DEEPEST,
                vmax=top,
                extent=(0, seconds, 0, rate / 2000),
                interpolation="nearest",
            )
            if row < len(rows) - 1:
                axis.set_xticks([])
            if column:
                axis.set_yticks([])
        label = CLASSICS.get(name, name).replace(" ", "\n")
        axes[row * columns].set_ylabel(label, fontsize=8, color=INK, rotation=0, ha="right", va="center")
    axes[-columns].set_xlabel("s, by kHz", fontsize=8, color=MUTED)
    return _render(figure)


def _levels(sound: Array, rate: int) -> Array:
    """Decibels `[F, K]` of the mean of all channels."""
    width = max(16, 2 ** round(np.log2(SECONDS * rate)))
    x = np.pad(np.asarray(sound, np.float64).mean(0), width // 2)
    frames = np.lib.stride_tricks.sliding_window_view(x, width)[:: width // 4] * np.hanning(width)
    return 20 * np.log10(np.abs(np.fft.rfft(frames, axis=1)).T + 1e-6)
