"""Sound as pictures: levels in mel bands over time."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from narrows.data.contents import Contents, Part, Source
from narrows.data.mel_scale import mel_filters
from narrows.data.stores import Store, differs
from narrows.errors import require, require_at_least

SILENCE = 1e-10
"""Power below which there is no sound."""
CHUNK = 500
"""Clips that are turned into pictures together."""


class LogMel:
    """Wraps a source of sound and turns each clip into a picture of its levels, `[C, bands, frames]` in [0, 1], the
    lowest band first: decibels of the power in mel bands, of which 1 is the clip's loudest and 0 lies `decibels` below.

    Frames are Hann windows, one every `hop` samples, the first one centred at the first sample. Clips are cut, or
    filled up with silence, to `frames` of them. How loud a clip is as a whole is not in its picture, but for what is
    below `SILENCE`.

    Args:
        source: of sound, of whole clips (`window: null`) or of windows.
        bands: height of the picture.
        frames: width of the picture.
        hop: samples from frame to frame.
        width: samples of a window.
        decibels: from black to white.

    Raises:
        UserError: an option out of its range, or (`load`) a source of anything but sound.
    """

    def __init__(
        self,
        source: Source,
        bands: int = 32,
        frames: int = 32,
        hop: int = 128,
        width: int = 256,
        decibels: float = 80.0,
    ) -> None:
        require_at_least(1, "source log_mel:", bands=bands, frames=frames, hop=hop)
        require(width >= 4 and width % 2 == 0, f"source log_mel: width must be even and at least 4, not {width}")
        require(decibels > 0, f"source log_mel: decibels must be above 0, not {decibels}")
        self.source, self.bands, self.frames = source, bands, frames
        self.hop, self.width, self.decibels = hop, width, decibels

    def load(self) -> Contents:
        contents = self.source.load()
        require(
            contents.kind == "audio" and contents.rate is not None,
            f"source log_mel makes pictures of sound, and {type(self.source).__name__} holds {contents.kind} data",
        )
        assert contents.rate is not None
        filters = torch.from_numpy(mel_filters(contents.rate, self.width, self.bands))
        parts = {name: self._pictures(part, filters) for name, part in contents.parts().items()}
        longest = (self.frames - 1) * self.hop
        cut = sum(int((_lengths(part.x) > longest).sum()) for part in contents.parts().values())
        told = f"log-mel: pictures of {self.bands} bands x {self.frames} frames, {longest / contents.rate:.2f} s"
        return contents.with_parts(
            parts,
            kind="image",
            timeline=None,
            rate=None,
            identity=self._identity(contents),
            reading=[*contents.reading, f"{told}; {cut:,} clips are longer, and their end is cut off"],
        )

    def _identity(self, contents: Contents) -> str:
        """What the pictures are told by: processors differ in the last digits of what is computed."""
        options = (self.bands, self.frames, self.hop, self.width, self.decibels, contents.rate)
        digest = hashlib.sha256(repr((options, contents.identity)).encode())
        for name, part in contents.parts().items():
            digest.update(f"{name}|{list(part.x.shape)}".encode())
            for values in () if contents.identity else part.x.bytes():
                digest.update(values)
        return digest.hexdigest()

    def _pictures(self, part: Part, filters: Tensor) -> Part:
        steps = torch.arange(len(part)).split(CHUNK)
        found = torch.cat([self._levels(self._cut(part.x.take(rows)), filters) for rows in steps])
        return Part(found, part.label, names=part.names)

    def _cut(self, x: Tensor) -> Tensor:
        """Clips `[B, C, T]` as long as a picture."""
        longest = (self.frames - 1) * self.hop
        return torch.nn.functional.pad(x.double(), (0, max(0, longest - x.shape[-1])))[..., :longest]

    def _levels(self, x: Tensor, filters: Tensor) -> Tensor:
        """`[B, C, T] -> [B, C, bands, frames]`, float32 in [0, 1]."""
        hann = torch.hann_window(self.width, dtype=torch.float64)
        options: dict[str, Any] = {"window": hann, "center": True, "pad_mode": "constant", "return_complex": True}
        spectra = torch.stft(x.flatten(0, 1), self.width, self.hop, **options).abs().square()
        power = (filters @ spectra / hann.square().sum()).unflatten(0, x.shape[:2])
        loudest = power.flatten(1).amax(1).reshape(-1, 1, 1, 1)
        level = 10 / np.log(10) * (power.clamp_min(SILENCE).log() - loudest.clamp_min(SILENCE).log())
        return torch.where(loudest > SILENCE, 1 + level / self.decibels, 0.0).clamp(0, 1).float()


def _lengths(store: Store) -> Tensor:
    found = store.lengths(slice(None)) if differs(store) else None
    return torch.full((len(store),), store.shape[-1]) if found is None else found
