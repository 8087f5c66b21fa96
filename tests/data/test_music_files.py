"""Music read from JSON, arrays and MIDI, and written as MIDI."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from narrows.data.midi_files import LOWEST, PITCHES, read_midi, write_midi
from narrows.data.piano_rolls import cut, pitch_names, read_pieces, transposed
from narrows.errors import UserError

mido = pytest.importorskip("mido")
C4 = 60 - LOWEST


def drawn_roll(frames: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((PITCHES, frames)) < 0.05).astype(np.uint8)


def with_end(roll: np.ndarray) -> np.ndarray:
    """A roll whose last frame sounds, because MIDI ends with its last note."""
    roll[C4, -1] = 1
    return roll


@pytest.mark.parametrize("frames_per_beat", [1, 2, 4, 7])
def test_what_is_written_as_midi_is_read_back(tmp_path: Path, frames_per_beat: int) -> None:
    roll = with_end(drawn_roll(23))
    write_midi(roll, tmp_path / "a.mid", frames_per_beat)
    found, left = read_midi(tmp_path / "a.mid", frames_per_beat)
    assert left == 0
    np.testing.assert_array_equal(found, roll)


def test_the_midi_s_notes_are_the_roll_s_in_time(tmp_path: Path) -> None:
    roll = np.zeros((PITCHES, 8), np.uint8)
    roll[C4, 0:3] = roll[C4 + 4, 2:4] = roll[C4, 5] = 1
    write_midi(roll, tmp_path / "a.mid", frames_per_beat=2, tempo=120)
    file = mido.MidiFile(str(tmp_path / "a.mid"))
    now, heard = 0.0, []
    for message in file:
        now += message.time
        if message.type in ("note_on", "note_off"):
            heard.append((round(now, 6), message.type, message.note))
    # A frame is a quarter of a second.
    assert heard == [
        (0.0, "note_on", 60),
        (0.5, "note_on", 64),
        (0.75, "note_off", 60),
        (1.0, "note_off", 64),
        (1.25, "note_on", 60),
        (1.5, "note_off", 60),
    ]
    assert file.length == pytest.approx(2.0)


def midi(path: Path, events: list[tuple[str, int, int, int]], ticks: int = 96) -> Path:
    """A file of events: kind, note, ticks after the one before, channel."""
    file = mido.MidiFile(ticks_per_beat=ticks)
    file.tracks.append(mido.MidiTrack())
    for kind, note, wait, channel in events:
        file.tracks[0].append(mido.Message(kind, note=note, velocity=64, time=wait, channel=channel))
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save(str(path))
    return path


def test_notes_of_a_file_lie_in_the_nearest_frames(tmp_path: Path) -> None:
    events = [
        ("note_on", 60, 0, 0),
        ("note_on", 36, 0, 9),  # a drum
        ("note_on", 20, 0, 0),  # below the keyboard
        ("note_off", 60, 45, 0),  # nearest to the second sixteenth's end
        ("note_on", 62, 5, 1),
        ("note_off", 62, 2, 1),  # shorter than half a frame
        ("note_on", 64, 44, 0),
        ("note_on", 64, 24, 0),  # struck anew
        ("note_off", 64, 24, 0),
        ("note_off", 20, 0, 0),
        ("note_on", 67, 0, 0),  # never released, and the track ends
    ]
    roll, left = read_midi(midi(tmp_path / "a.mid", events), frames_per_beat=4)
    assert left == 1
    sounding = {key + LOWEST: frames.nonzero()[0].tolist() for key, frames in enumerate(roll) if frames.any()}
    assert sounding == {60: [0, 1], 62: [2], 64: [4, 5], 67: [6]}


def test_a_folder_of_midi_has_its_parts_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    note = [("note_on", 60, 0, 0), ("note_off", 60, 96, 0)]
    for name in ("train/a.mid", "train/deep/b.MIDI", "valid/c.mid", "test/d.mid"):
        midi(tmp_path / name, note)
    midi(tmp_path / "train" / "drums.mid", [("note_on", 40, 0, 9), ("note_off", 40, 9, 9)])
    parts = read_pieces(tmp_path, None)
    assert {name: pieces.names for name, pieces in parts.items()} == {
        "train": ["train/a.mid", "train/deep/b.MIDI"],
        "validation": ["valid/c.mid"],
        "test": ["test/d.mid"],
    }
    assert parts["train"].rolls[0].shape == (PITCHES, 4)
    assert parts["train"].said == ["1 files without such a note left out"]
    assert set(read_pieces(tmp_path / "train", 1)) == {"train"}


def written(path: Path, content: Any) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **content)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(json.dumps(content).encode()))
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(json.dumps(content))
    return path


def test_pitches_of_json_are_keys(tmp_path: Path) -> None:
    content = {"train": [[[21, 108], [], [60.0, -1]]], "valid": [[[60]]], "test": [[60, 62]]}
    parts = read_pieces(written(tmp_path / "a.json.gz", content), None)
    (roll,) = parts["train"].rolls
    assert roll.nonzero()[0].tolist() == [0, C4, 87]
    assert roll.nonzero()[1].tolist() == [0, 2, 0]
    assert parts["test"].rolls[0].nonzero()[1].tolist() == [0, 1]
    assert set(parts) == {"train", "validation", "test"}


def test_arrays_are_rolls_whichever_axis_is_time(tmp_path: Path) -> None:
    roll = drawn_roll(30)
    whole = np.zeros((128, 30), np.float32)
    whole[LOWEST : LOWEST + PITCHES] = roll
    content = {"a": roll, "b": roll.T, "test_1": whole * 90, "valid": whole.T > 0}
    parts = read_pieces(written(tmp_path / "a.npz", content), None)
    assert {name: pieces.names for name, pieces in parts.items()} == {
        "train": ["a", "b"],
        "test": ["test_1"],
        "validation": ["valid"],
    }
    for pieces in parts.values():
        for found in pieces.rolls:
            np.testing.assert_array_equal(found, roll)


BROKEN = {
    "a.json": ({"train": [[[200]]]}, r"piece 0 of train .*, frame 0: 200 is no MIDI number from 21 to 108"),
    "b.json": ({"train": [[]]}, r"piece 0 of train .* is no list of frames"),
    "c.json": ({"pieces": []}, r"is no JSON of parts"),
    "d.json": ({"test": [[[60]]]}, r"no pieces to train on"),
    "e.json": (b"{", r"is no JSON"),
    "e2.json": ({"train": [[[True]]]}, r"True is no MIDI number"),
    "e3.json": ({"train": [[[float("nan")]]]}, r"nan is no MIDI number"),
    "e5.json": ({"train": [[[10**400]]]}, r"is no MIDI number"),
    "e4.json": ({"train": [[[60.5]]]}, r"60.5 is no MIDI number"),
    "f.json.gz.gz": ({}, r"is no music that can be read"),
    "g.mid": (b"MThd\0\0", r"cannot be read as MIDI"),
    "h.npz": ({"a": np.zeros((3, 4))}, r"array 'a' of .* is \[3, 4\], not \[88, T\]"),
    "i.npz": ({"a": np.ones((128, 4))}, r"notes outside of A0 to C8"),
    "j.wav": (b"", r"a folder of MIDI \(.mid\), a JSON"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_music_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    content, said = BROKEN[name]
    with pytest.raises(UserError, match=said):
        read_pieces(written(tmp_path / name, content), None)


def test_frames_per_beat_are_refused_where_there_are_frames(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="frames_per_beat is of MIDI"):
        read_pieces(written(tmp_path / "a.json", {"train": [[[60]]]}), 4)


def test_a_file_with_a_huge_gap_is_refused(tmp_path: Path) -> None:
    events = [("note_on", 60, 2**27, 0), ("note_off", 60, 96, 0)]
    with pytest.raises(UserError, match="frames: at most"):
        read_midi(midi(tmp_path / "a.mid", events), 4)


def test_a_piece_moves_as_a_whole_or_not_at_all() -> None:
    roll = np.zeros((PITCHES, 2), np.uint8)
    roll[[3, 80], 0] = 1
    for semitones in range(-12, 13):
        moved = transposed(roll, semitones)
        if -3 <= semitones <= 7:
            assert moved is not None
            assert moved.nonzero()[0].tolist() == [3 + semitones, 80 + semitones]
        else:
            assert moved is None


@pytest.mark.parametrize(("window", "stride"), [(None, None), (4, None), (4, 1), (40, None), (10, 10)])
def test_stretches_without_overlap_are_the_piece(window: int | None, stride: int | None) -> None:
    roll = drawn_roll(30)
    pieces = cut(roll, window, stride)
    assert [start for start, _ in pieces] == list(range(0, 30, stride or window or 30))
    for start, part in pieces:
        np.testing.assert_array_equal(part, roll[:, start : start + (window or 30)])
        assert part.shape[1] >= 1
    if stride is None:
        np.testing.assert_array_equal(np.concatenate([part for _, part in pieces], 1), roll)


def test_keys_have_their_names() -> None:
    assert pitch_names([21, 60, 61, 108]) == ["A0", "C4", "C#4", "C8"]
