"""Pieces of music as piano rolls (`narrows.data.midi_files`): from JSON, .npz, and folders of MIDI."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from narrows.data.dataset_files import array_names, read_arrays
from narrows.data.folders import files_below
from narrows.data.midi_files import LOWEST, MOST_FRAMES, PITCHES, Roll, read_midi
from narrows.errors import UserError, require
from narrows.files import require_no_pipe

PARTS = {"train": "train", "valid": "validation", "validation": "validation", "val": "validation", "test": "test"}
"""The names under which the parts of a data set go, and what each is."""
MIDI = (".mid", ".midi")
KNOWN = "a folder of MIDI (.mid), a JSON of pitches (.json, .json.gz), or piano rolls (.npz)"
FRAMES_PER_BEAT = 4
"""Of MIDI, unless told otherwise: sixteenths, where a beat is a quarter."""
MOST_BYTES = 2**28


@dataclass
class Pieces:
    """The pieces of one part."""

    rolls: list[Roll] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    """What was left out, for people."""

    def add(self, roll: Roll, name: str) -> None:
        self.rolls.append(roll)
        self.names.append(name)


def read_pieces(path: Path, frames_per_beat: int | None) -> dict[str, Pieces]:
    """The pieces of each part, by its name; all are `train` where the source names none.

    Args:
        frames_per_beat: of MIDI; the other files have frames already.

    Raises:
        UserError: nothing that can be read, or a source of no pieces to train on.
    """
    parts = read_parts(path, frames_per_beat)
    require("train" in parts, f"{path} has no pieces to train on: their part is called train")
    return parts


def read_parts(path: Path, frames_per_beat: int | None) -> dict[str, Pieces]:
    """As `read_pieces`, also of a source without pieces to train on."""
    require_no_pipe(path)
    if path.is_dir() or path.suffix.lower() in MIDI:
        parts = _folder(path, frames_per_beat or FRAMES_PER_BEAT)
    else:
        require(
            frames_per_beat is None, f"{path} has frames already: source.frames_per_beat is of MIDI, leave it at null"
        )
        ending = "".join(path.suffixes[-2:] if path.suffix.lower() == ".gz" else path.suffixes[-1:]).lower()
        readers = {".json": _json, ".json.gz": _json, ".npz": _arrays}
        require(ending in readers, f"{path} is no music that can be read: {KNOWN} is")
        parts = readers[ending](path)
    return parts


def _folder(path: Path, frames_per_beat: int) -> dict[str, Pieces]:
    files = [path] if path.is_file() else [f for f in files_below(path) if f.suffix.lower() in MIDI]
    require(bool(files), f"{path} holds no MIDI file (.mid or .midi)")
    parts: dict[str, Pieces] = {}
    outside = silent = 0
    top = [file.relative_to(path).parts[0].lower() if path.is_dir() else "" for file in files]
    named = all(part in PARTS for part in top)
    strange = sorted({part for part in top if part not in PARTS})
    require(
        named or not {PARTS[part] for part in top if part in PARTS} >= {"train", "test"},
        f"{path} has folders of parts (train, test), and beside them {', '.join(strange[:3])}: put every MIDI file "
        "into train, valid or test, or none into them",
    )
    for file, part in zip(files, top, strict=True):
        roll, left = read_midi(file, frames_per_beat)
        outside += left
        if roll.shape[1] == 0:
            silent += 1
            continue
        found = parts.setdefault(PARTS[part] if named else "train", Pieces())
        found.add(roll, file.relative_to(path).as_posix() if path.is_dir() else file.name)
    require(bool(parts), f"{path} holds no MIDI file with a note between A0 and C8")
    first = parts.get("train", next(iter(parts.values())))
    first.said += [f"{silent:,} files without such a note left out"] if silent else []
    first.said += [f"{outside:,} notes outside of A0 to C8 left out"] if outside else []
    return parts


def _json(path: Path) -> dict[str, Pieces]:
    """`{"train": [piece, ...], "valid": ..., "test": ...}`, where a piece is a list of frames, and a frame a list of
    the MIDI numbers that sound; -1 is a silent voice."""
    found = _loaded(path)
    if isinstance(found, list):
        found = {"train": found}
    right = isinstance(found, dict) and all(name in PARTS and isinstance(part, list) for name, part in found.items())
    require(right, f"{path} is no JSON of parts: an object with lists of pieces under train, valid and test is wanted")
    parts: dict[str, Pieces] = {}
    for name, pieces in found.items():
        for number, piece in enumerate(pieces):
            where = f"piece {number} of {name} in {path}"
            parts.setdefault(PARTS[name], Pieces()).add(_of_numbers(piece, where), f"{name} {number}")
    return parts


def _loaded(path: Path) -> Any:
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        require(len(content) <= MOST_BYTES, f"{path} holds more than {MOST_BYTES:,} bytes")
        return json.loads(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error})") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is no JSON ({error})") from error


def _of_numbers(piece: object, where: str) -> Roll:
    frames = piece if isinstance(piece, list) else []
    require(0 < len(frames) <= MOST_FRAMES, f"{where} is no list of frames, at least one")
    roll = np.zeros((PITCHES, len(frames)), np.uint8)
    for step, frame in enumerate(frames):
        for pitch in frame if isinstance(frame, list) else [frame]:
            whole = pitch.is_integer() if isinstance(pitch, float) else type(pitch) is int
            known = whole and (pitch == -1 or 0 <= pitch - LOWEST < PITCHES)
            require(
                known, f"{where}, frame {step}: {pitch!r:.40} is no MIDI number from {LOWEST} to 108 (-1 is silence)"
            )
            if pitch != -1:
                roll[int(pitch) - LOWEST, step] = 1
    return roll


def _arrays(path: Path) -> dict[str, Pieces]:
    """An array for each piece, `[88, T]` from A0 or `[128, T]` by MIDI numbers, or with the time first; what sounds is
    above 0. The part of `test_01` is test, that of a name without a part train."""
    parts: dict[str, Pieces] = {}
    arrays = read_arrays(path, list(array_names(path)))
    wheres = {name: f"array '{name}' of {path}" for name in arrays}
    for name, array in arrays.items():
        _require_roll(array, wheres[name])
    pitches = {length for array in arrays.values() for length in _pitch_axes(array, plain_only=True)}
    for name, array in arrays.items():
        part = PARTS.get(name.lower().split("_")[0].rstrip("0123456789"), "train")
        parts.setdefault(part, Pieces()).add(_as_roll(array, wheres[name], pitches), name)
    return parts


def _require_roll(array: np.ndarray[Any, Any], where: str) -> None:
    require(array.ndim == 2 and array.dtype.kind in "biuf", f"{where} is no piano roll of numbers, [88, T]")
    require(bool(_pitch_axes(array)) and array.size > 0, f"{where} is {list(array.shape)}, not [88, T]")
    missing = int(np.isnan(array).sum()) if array.dtype.kind == "f" else 0
    require(not missing, f"{where} holds {missing:,} NaN, and a key sounds (above 0) or not: fill them in")


def _pitch_axes(array: np.ndarray[Any, Any], *, plain_only: bool = False) -> list[tuple[int, int]]:
    """The axes that may be that of the pitches, each with its length; `plain_only`: none where both may."""
    found = [(axis, length) for axis, length in enumerate(array.shape) if length in (PITCHES, 128)]
    return [] if plain_only and len(found) > 1 else found


def _as_roll(array: np.ndarray[Any, Any], where: str, plain: set[tuple[int, int]]) -> Roll:
    """A roll of a file, with the pitches first.

    Args:
        plain: axis and length of the pitches in those arrays of the file where one axis alone can be theirs, by which
            those of 88 or 128 frames are read. Where these do not tell, or there are none, the pitches come first,
            unless notes would then lie outside of the piano's keys.
    """
    axes = _pitch_axes(array)
    told = [found for found in axes if found in plain]
    for axis, _ in told if len(told) == 1 else axes:
        sounds = (array if axis == 0 else array.T) > 0
        keys = sounds if len(sounds) == PITCHES else sounds[LOWEST : LOWEST + PITCHES]
        if keys.sum() == sounds.sum():
            return keys.astype(np.uint8)
    raise UserError(f"{where} has notes outside of A0 to C8 (MIDI numbers {LOWEST} to 108)")


def transposed(roll: Roll, semitones: int) -> Roll | None:
    """The piece so many semitones higher; None where a note would leave the keyboard."""
    moved = np.roll(roll, semitones, axis=0)
    lost = moved[:semitones] if semitones > 0 else moved[len(moved) + semitones :]
    return None if semitones != 0 and lost.any() else moved


def cut(roll: Roll, window: int | None, stride: int | None) -> list[tuple[int, Roll]]:
    """First frame and frames of each stretch of a piece: the whole, or one that begins every `stride` frames and is as
    long as `window`, or what is left."""
    frames = roll.shape[1]
    if window is None:
        return [(0, roll)]
    return [(start, roll[:, start : start + window]) for start in range(0, frames, stride or window)]


def pitch_names(numbers: Sequence[int]) -> list[str]:
    """Names of MIDI numbers, such as C4 of 60."""
    steps = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
    return [f"{steps[number % 12]}{number // 12 - 1}" for number in numbers]
