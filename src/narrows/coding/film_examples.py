"""Films that are compressed and restored: a file, the frames of a folder, or the films of a folder.

A film is brought to the size of the run's frames, as the run brought those that it was trained on, cut into clips side
by side, and comes back at that size and at its own pace, with as many frames as it had (in a GIF, frames that do not
change are one that stays for longer). Where the run brought none to a size, films must have the run's, or any where the
model is one of convolutions alone. See `narrows.coding.film_layout`.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.coding.eight_bits import eight_bits
from narrows.coding.film_layout import ENDINGS, clips, paces, short_pace
from narrows.coding.several_sizes import OTHERS, alike
from narrows.coding.targets import require_apart, require_target
from narrows.data import Video
from narrows.data.batch_loader import unit
from narrows.data.film_files import ARRAYS, GIF, NPY, Frames, find_films, plain_name, put_film, read_films
from narrows.data.film_pace import Pace, of_animation, of_every
from narrows.errors import require
from narrows.files import replacing
from narrows.types import DataSpec

log = logging.getLogger(__name__)


def read_clips(
    path: Path, source: Video, spec: DataSpec, *, any_size: bool = False
) -> tuple[dict[str, Any], list[Tensor]]:
    """The layout of the films at `path`, and their clips `[n, C, F, H, W]`, in groups of films in a row whose frames
    are alike.

    Args:
        source: of the run: how it brings frames to one size, and which it takes.
        any_size: whether the model reads frames of any size.

    Raises:
        UserError: a file that is missing, broken or no film, or frames of another size than the model reads.
    """
    films = find_films(path)
    many = len(films) > 1 or (path.is_dir() and not films[0].frames)
    names, parts, lengths, shown = [], [], [], []
    for film in films:
        pace: Pace = []
        for name, frames in read_films(film, source.size, source.key, pace):
            taken = frames[:: source.clips.step]
            shown.append(short_pace(of_animation(of_every(pace, source.clips.step, len(taken)))))
            _require_fits(taken, spec, name, any_size=any_size)
            ending = NPY if film.path.suffix.lower() in ARRAYS else GIF
            names.append(f"{plain_name(name)}{ending}")
            lengths.append(len(taken))
            parts.append(cut(taken, spec.shape[1]))
    many = many or len(names) > 1
    layout: dict[str, Any] = {"kind": "films" if many else "film", "shape": list(spec.shape), "frames": lengths}
    if many:
        require_apart(names, path, "film")
        layout["names"] = names
    sizes = [list(part.shape[3:]) for part in parts]
    if any(size != list(spec.shape[2:]) for size in sizes):
        layout["sizes"] = sizes
    if any(pace is not None for pace in shown):
        layout["pace"] = shown
    if source.clips.step > 1:
        log.info("one of %d frames is coded, as the run was trained", source.clips.step)
    return layout, [unit(torch.from_numpy(np.concatenate(same))) for same in alike(parts, axis=1)]


def _require_fits(frames: Frames, spec: DataSpec, name: str, *, any_size: bool) -> None:
    channels, _, height, width = spec.shape
    found = " x ".join(map(str, frames.shape[1:]))
    require(
        frames.shape[1:] == (channels, height, width) or (any_size and frames.shape[1] == channels),
        f"the frames of {name} are {found}, and the run's {channels} x {height} x {width}{'' if any_size else OTHERS}",
    )


def cut(film: Frames, frames: int) -> NDArray[np.uint8]:
    """A film `[T, C, H, W]` as clips side by side, `[n, C, F, H, W]`, the last filled up by its last frame."""
    count = -(-len(film) // frames)
    filled = np.concatenate([film, np.repeat(film[-1:], count * frames - len(film), axis=0)])
    return np.ascontiguousarray(filled.reshape(count, frames, *film.shape[1:]).swapaxes(1, 2))


def check_film_target(path: Path, layout: Mapping[str, Any]) -> None:
    """Refuse a target to which the films cannot be written.

    Raises:
        UserError: a wrong ending, or a folder that is not empty.
    """
    require_target(path, path.suffix.lower(), "film", ENDINGS, several=layout["kind"] == "films")


def films_of(layout: Mapping[str, Any], groups: Sequence[Tensor]) -> Iterator[NDArray[np.uint8]]:
    """The films `[T, H, W]` or `[T, H, W, 3]`, from their clips."""
    examples = itertools.chain.from_iterable(groups)
    for frames, count in zip(layout["frames"], clips(layout), strict=True):
        film = np.concatenate([eight_bits(clip) for clip in itertools.islice(examples, count)], axis=1)
        pixels = film[:, :frames].transpose(1, 2, 3, 0)
        yield pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def write_films(path: Path, layout: Mapping[str, Any], groups: Sequence[Tensor]) -> None:
    """Write the films, each file whole or not at all."""
    names = layout["names"] if layout["kind"] == "films" else [""]
    for name, film, pace in zip(names, films_of(layout, groups), paces(layout), strict=True):
        target = path / name if name else path
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as file:
            put_film(file, film, target.suffix.lower(), pace)
