"""Films from files, as frames in their order: folders of frames, animations, arrays, and what av decodes; and films
written as animations and arrays."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from narrows.data.dataset_files import array_names, read_arrays
from narrows.data.film_pace import Pace, pace_of_coded
from narrows.data.folders import folders_below
from narrows.data.image_files import ImageReader, Pictures, opaque, open_image
from narrows.data.image_tree import SUFFIXES
from narrows.errors import UserError, require
from narrows.files import require_no_pipe

Frames = NDArray[np.uint8]
"""`[T, C, H, W]`."""
ANIMATIONS, ARRAYS = (".gif", ".webp", ".apng"), (".npy", ".npz")
CODED = (".mp4", ".m4v", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".ogv")
ENDINGS = (*ANIMATIONS, *ARRAYS, *CODED)
MOST_BYTES = 4 * 2**30
"""Of the frames of one film."""
GIF, NPY = ".gif", ".npy"
PACE = 100
"""Milliseconds of a frame of an animation that is written."""
EXTRA = "pip install 'narrows[video]'"


@dataclass(frozen=True)
class Film:
    """A film: a file, the frames of a folder, or one film of an array of many."""

    name: str
    path: Path
    frames: tuple[str, ...] = field(default=(), repr=False)
    """The pictures of a folder, in their order."""


@dataclass(frozen=True)
class FrameSize:
    """What frames are brought to.

    Args:
        size: height and width, one number for both or two; null: as they are.
        channels: 1 (grey) or 3 (colour).
    """

    size: Any = None
    channels: int = 1

    def __post_init__(self) -> None:
        require(self.channels in (1, 3), f"source.channels={self.channels} is neither 3 (colour) nor 1 (grey)")
        if self.size is not None:
            ImageReader(self.size, self.channels)  # type: ignore[arg-type]

    def fit(self, image: Image.Image) -> Frames:
        """A frame `[C, H, W]`; of another shape it is scaled until it covers the size, and its middle is kept."""
        image = image.convert("RGB" if self.channels == 3 else "L")
        if self.size is not None:
            image = ImageReader(self.size, self.channels).fitted(image)  # type: ignore[arg-type]
        pixels = np.array(image).reshape(image.height, image.width, self.channels)
        return pixels.transpose(2, 0, 1)


def in_order(name: str) -> list[Any]:
    """A key by which numbers in names are put in their own order: frame 9 comes before frame 10."""
    parts = [part for part in re.split(r"(\d+)", name) if part]
    numbered = [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]
    return [numbered, name]  # 1 and 01 are one number, and the name decides


def find_films(root: Path) -> list[Film]:
    """The films at a path in the order of their names: a file; the pictures of a folder as one film; or the films and
    the folders of pictures in a folder and below.

    Raises:
        UserError: there are none.
    """
    require_no_pipe(root)
    if not root.is_dir():
        return [Film(root.name, root)]
    found = []
    for folder in folders_below(root):
        kept = sorted((entry.name for entry in folder.files), key=in_order)
        inside = Path(folder.path).relative_to(root)
        films = [name for name in kept if Path(name).suffix.lower() in ENDINGS]
        pictures = [name for name in kept if Path(name).suffix.lower() in SUFFIXES - set(ENDINGS)]
        if not pictures and _are_stills(folder.path, films):
            films, pictures = [], films
        found += [Film((inside / name).as_posix(), Path(folder.path) / name) for name in films]
        if pictures:
            name = inside.as_posix() if inside.parts else root.name
            found.append(Film(name, Path(folder.path), tuple(os.path.join(folder.path, one) for one in pictures)))
    require(
        bool(found),
        f"{root} holds no film: folders of frames ({', '.join(sorted(SUFFIXES))}) and files ending in "
        f"{', '.join(ENDINGS)} are looked for",
    )
    return sorted(found, key=lambda film: in_order(film.name))


def _are_stills(folder: str, films: Sequence[str]) -> bool:
    """Whether files that may be animations are the frames of a film: several, each a single picture."""
    if len(films) < 2 or any(Path(name).suffix.lower() not in ANIMATIONS for name in films):
        return False
    try:
        for name in films:
            with Image.open(os.path.join(folder, name)) as image:
                if getattr(image, "is_animated", False):
                    return False
    except Exception:  # a broken file is told of where it is read
        return False
    return True


def read_films(
    film: Film, size: FrameSize, key: str = "auto", pace: Pace | None = None
) -> Iterator[tuple[str, Frames]]:
    """The name and the frames `[T, C, H, W]` of a film; of an array of many, of each.

    Args:
        key: of a .npz of several arrays, the one that holds the films.
        pace: to which is added how long each frame is shown, where the film says so.

    Raises:
        UserError: a file that is broken, no film, or of values that are no pixels.
    """
    suffix = film.path.suffix.lower()
    if film.frames:
        yield film.name, _stacked((size.fit(open_image(path)) for path in film.frames), str(film.path))
    elif suffix in ARRAYS:
        yield from _of_array(film, size, key)
    elif suffix in CODED:
        yield film.name, _stacked(_decoded(film.path, size, [] if pace is None else pace), str(film.path))
    else:
        yield film.name, _stacked(_animated(film.path, size, [] if pace is None else pace), str(film.path))


def _stacked(read: Iterable[Frames], where: str) -> Frames:
    frames, taken = [], 0
    for frame in read:
        taken += frame.nbytes
        require(
            taken <= MOST_BYTES,
            f"{where} has more than {MOST_BYTES // 2**30} GiB of pixels, a guard against films that fill the memory: "
            "set source.size to a smaller one, or cut the film",
        )
        frames.append(frame)
    require(bool(frames), f"{where} holds no frame")
    shapes = {frame.shape for frame in frames}
    require(
        len(shapes) == 1,
        f"{where} holds frames of {' and '.join(f'{shape[1]} x {shape[2]}' for shape in sorted(shapes)[:2])} pixels: "
        "set source.size, to which all are brought",
    )
    return np.stack(frames)


def _animated(path: Path, size: FrameSize, pace: Pace) -> Iterator[Frames]:
    try:
        with Image.open(path) as image:
            for frame in ImageSequence.Iterator(image):
                pace += [float(frame.info["duration"])] if frame.info.get("duration") else []
                yield size.fit(opaque(frame, path, Pictures()))
    except UserError:
        raise
    except Exception as error:  # Pillow's readers raise whatever a broken file leads them into
        raise UserError(f"{path} is no animation that can be read ({' '.join(str(error).split())})") from error


def _decoded(path: Path, size: FrameSize, pace: Pace) -> Iterator[Frames]:
    library = import_av()
    try:
        with library.open(str(path)) as container:
            require(len(container.streams.video) > 0, f"{path} holds no pictures: it may be cut short, or be sound")
            for frame in container.decode(video=0):
                pace += pace_of_coded(frame)
                yield size.fit(_upright(frame))
    except UserError:
        raise
    except Exception as error:  # FFmpeg's readers raise whatever a broken file leads them into
        raise UserError(f"{path} is no film that can be read ({' '.join(str(error).split())})") from error


def _upright(frame: Any) -> Image.Image:
    """A decoded frame, turned as the film says that it is shown: a camera on its side writes it as its sensor lies."""
    image: Image.Image = frame.to_image()
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def _of_array(film: Film, size: FrameSize, key: str) -> Iterator[tuple[str, Frames]]:
    path = film.path
    keys = array_names(path)
    if key == "auto":
        require(
            len(keys) <= 1 or "images" in keys or "x" in keys,
            f"{path} holds the arrays {', '.join(keys)}: set source.key to that of the films",
        )
        key = next((name for name in ("x", "images") if name in keys), keys[0] if keys else "x")
    values = read_arrays(path, [key])[key]
    where = f"array '{key}' of {path}" if keys else str(path)
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    require(
        values.dtype == np.uint8,
        f"{where} holds {values.dtype} values, where the pixels of films are bytes (uint8): scale it to 0 to 255, or "
        "use datamodule=arrays datamodule.source.kind=video for clips of numbers",
    )
    coloured = values.ndim >= 4 and values.shape[-1] in (1, 3)
    if values.ndim == 4 and not coloured:
        _require_films(values.shape, where)
    if not coloured:
        values = values[..., None]
    require(
        values.ndim in (4, 5) and values.size > 0,
        f"{where} has shape {list(values.shape)}, where a film is [T, H, W] or [T, H, W, C], and many are [N, T, H, W] "
        "or [N, T, H, W, C]",
    )
    many = values if values.ndim == 5 else values[None]
    for number, one in enumerate(many):
        images = [Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame) for frame in one]
        yield f"{film.name}#{number}" if len(many) > 1 else film.name, _stacked(map(size.fit, images), where)


def _require_films(shape: tuple[int, ...], where: str) -> None:
    """Refuse an array `[N, T, H, W]` of many films that is more likely one film of other axes."""
    require(
        shape[1] not in (1, 3),
        f"{where} has shape {list(shape)}, which is {shape[0]} films of {shape[1]} frames, or one film with its "
        "colours before its rows: move these to the end, or, if they are films, add a last axis of 1",
    )
    require(
        shape[3] not in (2, 4),
        f"{where} has shape {list(shape)}, whose last axis is that of colours with transparency: keep the first "
        f"{shape[3] - 1} of it",
    )


def plain_name(name: str) -> str:
    """A film's name without the ending of its file; of one of many in an array, behind its number."""
    path, mark, number = name.partition("#")
    plain = path if Path(path).suffix.lower() not in ENDINGS else str(Path(path).with_suffix(""))
    return f"{plain}{mark and '_'}{number}"


def as_gif(frames: NDArray[np.uint8], pace: Sequence[int] = ()) -> bytes:
    """Frames `[T, H, W, 3]` or `[T, H, W]` as the bytes of an endless GIF, whose colours are rounded to a palette of
    256; grey frames keep theirs. Frames that do not change are one that stays for longer.

    Args:
        pace: milliseconds of each; none: `PACE`.
    """
    images = [Image.fromarray(frame) for frame in frames]
    file = io.BytesIO()
    images[0].save(
        file,
        "GIF",
        save_all=True,
        append_images=images[1:],
        duration=list(pace) or PACE,
        loop=0,
        optimize=False,
        disposal=1,
    )
    return file.getvalue()


def put_film(file: Any, frames: NDArray[np.uint8], ending: str, pace: Sequence[int] = ()) -> None:
    """Write frames `[T, H, W]` or `[T, H, W, 3]` to an open file, as the array or the animation that its ending
    says; see `as_gif`."""
    if ending == NPY:
        np.save(file, frames)
    else:
        file.write(as_gif(frames, pace))


def import_av() -> Any:
    """The library av, which reads and writes films by FFmpeg.

    Raises:
        UserError: it is not installed.
    """
    try:
        import av
    except ModuleNotFoundError as error:
        raise UserError(f"coded films are read by the library av, which is not installed: {EXTRA}") from error
    return av
