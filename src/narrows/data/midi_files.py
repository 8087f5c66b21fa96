"""MIDI files as piano rolls, and piano rolls as MIDI files, by the library mido.

A piano roll is uint8 `[88, T]`: 1 where a key of the piano sounds in a frame, from A0 (MIDI number 21) to C8 (108).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from narrows.errors import UserError, require
from narrows.files import replacing, require_no_pipe

Roll = NDArray[np.uint8]
LOWEST, PITCHES = 21, 88
MOST_FRAMES = 2**18
"""Frames of the longest file that is read."""
TICKS = 480
DRUMS = 9
"""The channel whose numbers are instruments, not pitches."""
LOUD = 80
EXTRA = "pip install 'narrows[music]'"


def read_midi(path: Path, frames_per_beat: int) -> tuple[Roll, int]:
    """The notes of all instruments but drums, and how many lay outside of the piano's keys.

    A note sounds in the frames between the ones nearest to where it begins and ends, and in one at least. Tempo plays
    no part, because frames are shares of a beat. The roll ends with the last note, and may have no frame.

    Raises:
        UserError: mido is not installed, or the file is no MIDI whose time is counted in beats.
    """
    mido = import_mido()
    require_no_pipe(path)
    try:
        file = mido.MidiFile(str(path), clip=True)
        ticks = file.ticks_per_beat
        notes = [note for track in file.tracks for note in _notes(track)] if file.type != 2 and ticks > 0 else None
    # Whatever is broken in a file, mido raises what its parser met, of which there are many.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} cannot be read as MIDI ({reason})") from error
    if notes is None:
        raise UserError(f"{path} counts its time in seconds or has tracks of their own time: save it with beats")
    frames = [(pitch, *_frames(start, stop, ticks / frames_per_beat)) for pitch, start, stop in notes]
    inside = [(pitch - LOWEST, start, stop) for pitch, start, stop in frames if 0 <= pitch - LOWEST < PITCHES]
    length = max((stop for _, _, stop in inside), default=0)
    require(length <= MOST_FRAMES, f"{path} lasts {length:,} frames: at most {MOST_FRAMES:,} are read")
    roll = np.zeros((PITCHES, length), np.uint8)
    for key, start, stop in inside:
        roll[key, start:stop] = 1
    return roll, len(notes) - len(inside)


def _frames(start: int, stop: int, ticks: float) -> tuple[int, int]:
    first, last = (int(moment / ticks + 0.5) for moment in (start, stop))  # halves all go up, so that lengths stay
    return first, max(first + 1, last)


def _notes(track: Any) -> Iterator[tuple[int, int, int]]:
    """MIDI number, first and last tick of each note of a track; one that is never released lasts until the end."""
    now = 0
    begun: dict[tuple[int, int], int] = {}
    anew: dict[tuple[int, int], int] = {}
    for message in track:
        now += message.time
        if message.type not in ("note_on", "note_off") or message.channel == DRUMS:
            continue
        key, strikes = (message.channel, message.note), message.type == "note_on" and message.velocity > 0
        if not strikes and anew.pop(key, None) == now:
            continue  # it releases the note before, which was struck anew at the same moment
        if key in begun:  # struck anew, it ends where it begins again
            yield message.note, begun.pop(key), now
            if strikes:
                anew[key] = now
        if strikes:
            begun[key] = now
    yield from ((note, start, now) for (_, note), start in begun.items())


def write_midi(roll: Roll, path: Path, frames_per_beat: int = 1, tempo: float = 90.0) -> None:
    """Write a piano roll `[88, T]` as a MIDI file of one piano; a key that sounds in neighbouring frames is one note.

    Args:
        tempo: beats a minute.

    Raises:
        UserError: mido is not installed.
    """
    mido = import_mido()
    ticks = -(-TICKS // frames_per_beat)
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo), time=0)])
    now = 0
    for frame, key, on in _events(roll):
        kind = "note_on" if on else "note_off"
        wait = (frame - now) * ticks
        track.append(mido.Message(kind, note=LOWEST + key, velocity=LOUD if on else 0, time=wait))
        now = frame
    track.append(mido.MetaMessage("end_of_track", time=(roll.shape[1] - now) * ticks))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as target:
        mido.MidiFile(type=0, ticks_per_beat=ticks * frames_per_beat, tracks=[track]).save(file=target)


def _events(roll: Roll) -> list[tuple[int, int, bool]]:
    """Frame, key, and whether the key is struck or released, in the order of time; releases come first."""
    edges = np.diff(np.pad(roll.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    keys, frames = edges.nonzero()
    found = [(int(frame), int(key), bool(edges[key, frame] > 0)) for key, frame in zip(keys, frames, strict=True)]
    return sorted(found, key=lambda event: (event[0], event[2], event[1]))


def import_mido() -> Any:
    """The module mido.

    Raises:
        UserError: it is not installed.
    """
    try:
        import mido  # an extra, which only music needs
    except ImportError as error:
        raise UserError(f"MIDI files need the package mido: {EXTRA}") from error
    return mido
