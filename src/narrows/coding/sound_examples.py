"""Sounds that are compressed and restored: a file, or those of a folder or a zip archive.

A sound is brought to the model's rate, coded whole by a model of convolutions alone, else in windows side by side, and
comes back at its own rate, as long as it was. See `narrows.coding.sound_layout`.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from narrows.coding.several_sizes import alike
from narrows.coding.sound_layout import ENDINGS, SUBTYPES, coded_steps, windows
from narrows.coding.targets import require_apart, require_target
from narrows.data.sound_files import Samples, find_sounds, in_channels, lost_by, resampled, write_sound, written_name
from narrows.data.sound_windows import cut_sound
from narrows.types import DataSpec

log = logging.getLogger(__name__)


def read_sounds(path: Path, spec: DataSpec, *, whole: bool) -> tuple[dict[str, Any], list[Tensor]]:
    """The layout of the sounds at `path`, and their examples `[n, C, T]` in groups of equal shapes in a row.

    Args:
        whole: whether a sound is one example, as long as it is.

    Raises:
        UserError: a file that is missing or no sound, or other channels than the model reads.
    """
    assert spec.rate is not None
    files = find_sounds(path)
    many = path.is_dir() or path.suffix.lower() == ".zip"
    sounds, read = [], [file.read() for file in files]
    for file, sound in zip(files, read, strict=True):
        sounds.append(resampled(in_channels(sound.samples, spec.shape[0], file.where), sound.rate, spec.rate))
    for line in lost_by(read, spec, "coded"):
        log.info("%s", line)
    subtypes = [sound.subtype if sound.subtype in SUBTYPES else SUBTYPES[0] for sound in read]
    steps, rates = [sound.samples.shape[1] for sound in read], [sound.rate for sound in read]
    layout = layout_of(steps, rates, spec, whole=whole) | {"subtypes": subtypes}
    if many:
        names = [str(written_name(file.name)) for file in files]
        require_apart(names, path, "sound")
        layout |= {"kind": "sounds", "names": names}
    return layout, examples_of(sounds, layout)


def layout_of(steps: list[int], rates: list[int], spec: DataSpec, *, whole: bool) -> dict[str, Any]:
    """The layout of sounds without names."""
    layout: dict[str, Any] = {
        "kind": "sound" if len(steps) == 1 else "sounds",
        "rate": spec.rate,
        "channels": spec.shape[0],
    }
    layout |= {"steps": steps, "rates": rates, "subtypes": [SUBTYPES[0]] * len(steps)}
    return layout if whole else layout | {"window": spec.shape[1]}


def examples_of(sounds: Sequence[Samples], layout: Mapping[str, Any]) -> list[Tensor]:
    """The examples of sounds `[C, T]` at the model's rate, in groups of equal shapes in a row."""
    window = layout.get("window")
    if window is not None:
        parts = [part for sound in sounds for _, part in cut_sound(sound, window, window)]
        return [torch.from_numpy(np.stack(parts))]
    return [torch.from_numpy(np.stack(same)) for same in alike(sounds)]


def sounds_of(layout: Mapping[str, Any], groups: Sequence[Tensor]) -> Iterator[Samples]:
    """The sounds `[C, T]` at the model's rate, from the examples, without what filled up their last windows."""
    examples = itertools.chain.from_iterable(groups)
    for steps, count in zip(coded_steps(layout), windows(layout), strict=True):
        parts = [part.float().numpy() for part in itertools.islice(examples, count)]
        yield np.concatenate(parts, 1)[:, :steps]


def check_sound_target(path: Path, layout: Mapping[str, Any]) -> None:
    """Refuse a target to which the sounds cannot be written.

    Raises:
        UserError: a wrong ending, or a folder that is not empty.
    """
    require_target(path, path.suffix.lower(), "sound", ENDINGS, several=layout["kind"] == "sounds")


def write_sounds(path: Path, layout: Mapping[str, Any], groups: Sequence[Tensor]) -> None:
    """Write the sounds at their own rates, as long as they were; each file whole or not at all.

    Raises:
        UserError: the library that writes sound is not installed.
    """
    names = layout["names"] if layout["kind"] == "sounds" else [""]
    columns = (names, layout["steps"], layout["rates"], layout["subtypes"], sounds_of(layout, groups))
    for name, steps, rate, subtype, sound in zip(*columns, strict=True):
        back = resampled(sound, layout["rate"], rate)[:, :steps]
        back = np.pad(back, ((0, 0), (0, steps - back.shape[1])))
        target = path / name if name else path
        write_sound(target, back, rate, subtype, str(target))
