"""Odd files of texts, molecules and music: what ends a line, half characters, names behind molecules, axes of rolls."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from narrows.data import Molecules, Music, Text
from narrows.data.midi_files import LOWEST, PITCHES, read_midi
from narrows.data.piano_rolls import read_pieces
from narrows.data.tokenised import texts_of
from narrows.errors import UserError
from narrows.new_data.text_rows import text_rows

SENTENCES = ["one\u2028two", "three\x0cfour", "fi\x85ve", "שלום 👩‍👧"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_ends_where_a_line_of_a_file_ends(tmp_path: Path, end: str) -> None:
    """Unicode's other line ends stand in texts; new texts, of which a row each is told, were cut elsewhere."""
    (tmp_path / "t.txt").write_bytes(("\ufeff" + end.join(SENTENCES) + end).encode())
    contents = Text(str(tmp_path / "t.txt")).load()
    assert texts_of(contents.train.x) == SENTENCES
    rows = [row.text for row in text_rows(tmp_path / "t.txt", None)]
    assert [row for row in rows if row] == SENTENCES


def test_json_holds_separators_within_texts_and_half_characters_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    lines = [json.dumps({"text": text, "mood": "ok"}, ensure_ascii=False) for text in SENTENCES]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert texts_of(Text(str(path), label="mood").load().train.x) == SENTENCES
    for half in ({"text": "a \ud83d", "mood": "ok"}, {"text": "a", "mood": "\ud83d"}):
        path.write_text("\n".join([*lines, json.dumps(half)]), encoding="utf-8")
        with pytest.raises(UserError, match=r"line 5 of .* holds half a character \(a lone surrogate"):
            Text(str(path), label="mood").load()
    path.write_text("\n".join([*lines, json.dumps({"text": "a \ud83d"})]), encoding="utf-8")
    for given in (path, [*SENTENCES, "a \ud83d"]):
        problems = [row.problem for row in text_rows(given, None)]
        assert problems[:4] == [None] * 4
        assert str(problems[4]).startswith("it holds half a character")


def test_the_way_out_of_a_refusal_names_an_option_that_there_is(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id;text\n1;a\n2;b\n")
    with pytest.raises(UserError, match=r"set datamodule\.source\.text\.separator=semicolon$"):
        Text(str(path)).load()
    path.write_bytes("text\ncafé\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"set datamodule\.source\.text\.encoding, such as latin-1$"):
        Text(str(path)).load()
    path.with_suffix(".txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(UserError, match=r": save it as UTF-8$"):
        Text(str(path.with_suffix(".txt"))).load()


def test_what_follows_a_molecule_is_no_part_of_it(tmp_path: Path) -> None:
    """CXSMILES in a cell were learnt as tokens, which a .smi of the same lines did not have."""
    pytest.importorskip("selfies")
    molecules = ["CCO", "[13CH4]", "[NH4+].[Cl-]", "C[C@H](N)C(=O)O"]
    (tmp_path / "m.smi").write_text("\n".join(f"{text} |$R1;;$|" for text in molecules))
    with (tmp_path / "m.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["smiles"], *([f" {text} |$R1;;$|"] for text in molecules)])
    vocabularies = []
    for name in ("m.smi", "m.csv"):
        contents = Molecules(str(tmp_path / name)).load()
        assert contents.train.names == molecules
        assert contents.tokeniser is not None
        vocabularies.append(contents.tokeniser.vocabulary)
    assert vocabularies[0] == vocabularies[1]


def rolls(shapes: list[tuple[int, int]], pitches: int) -> dict[str, Any]:
    """Rolls with a note in every frame, of which some are as long as the keyboard is wide."""
    found = {}
    for number, (frames, axis) in enumerate(shapes):
        roll = np.zeros((pitches, frames), np.uint8)
        roll[40 + np.arange(frames) % 20, np.arange(frames)] = 1
        found[f"p{number}"] = roll if axis == 0 else roll.T
    return found


@pytest.mark.parametrize("pitches", [PITCHES, 128])
@pytest.mark.parametrize("axis", [0, 1])
def test_rolls_as_long_as_a_keyboard_lie_as_the_others_of_their_file(tmp_path: Path, pitches: int, axis: int) -> None:
    content = rolls([(40, axis), (88, axis), (128, axis)], pitches)
    np.savez(tmp_path / "a.npz", **content)
    found = read_pieces(tmp_path / "a.npz", None)["train"].rolls
    assert [roll.shape for roll in found] == [(88, 40), (88, 88), (88, 128)]
    first = 0 if pitches == PITCHES else LOWEST
    for roll, array in zip(found, content.values(), strict=True):
        expected = array if axis == 0 else array.T
        np.testing.assert_array_equal(roll, expected[first : first + PITCHES])
    if pitches == PITCHES:
        np.savez(tmp_path / "alone.npz", a=content["p2"])
        assert read_pieces(tmp_path / "alone.npz", None)["train"].rolls[0].shape == (88, 128)


def test_nan_is_no_silence(tmp_path: Path) -> None:
    roll = np.zeros((88, 5))
    roll[3, 2:4] = np.nan
    np.savez(tmp_path / "a.npz", a=roll)
    with pytest.raises(UserError, match=r"array 'a' of .* holds 2 NaN"):
        Music(str(tmp_path / "a.npz")).load()


def test_parts_beside_other_folders_are_not_mixed_into_training(tmp_path: Path) -> None:
    pytest.importorskip("mido")
    for name in ("train/a.mid", "test/b.mid", "more/c.mid"):
        midi(tmp_path / name, [("note_on", 60, 0), ("note_off", 60, 480)])
    with pytest.raises(UserError, match=r"has folders of parts \(train, test\), and beside them more: put every"):
        read_pieces(tmp_path, None)


def midi(path: Path, events: list[tuple[str, int, int]]) -> None:
    """A file of messages, notes and ticks since the one before; 480 are a beat."""
    mido = pytest.importorskip("mido")
    path.parent.mkdir(parents=True, exist_ok=True)
    track = mido.MidiTrack(
        [
            mido.Message(kind, note=note, velocity=64 if kind == "note_on" else 0, time=wait)
            for kind, note, wait in events
        ]
    )
    mido.MidiFile(ticks_per_beat=480, tracks=[track]).save(str(path))


def test_a_note_struck_anew_before_the_old_one_is_released_lasts(tmp_path: Path) -> None:
    legato = [("note_on", 60, 0), ("note_on", 60, 480), ("note_off", 60, 0), ("note_off", 60, 480)]
    midi(tmp_path / "a.mid", legato)
    roll, _ = read_midi(tmp_path / "a.mid", 4)
    assert roll[60 - LOWEST].tolist() == [1] * 8
    midi(tmp_path / "zero.mid", [("note_on", 60, 0), ("note_off", 60, 0), ("note_on", 62, 480), ("note_off", 62, 480)])
    roll, _ = read_midi(tmp_path / "zero.mid", 4)
    assert roll[60 - LOWEST].tolist() == [1] + [0] * 7
    assert roll[62 - LOWEST].tolist() == [0] * 4 + [1] * 4


def test_notes_between_two_frames_all_go_the_same_way(tmp_path: Path) -> None:
    """Halves were rounded to even numbers, so that notes of one length had one frame or two."""
    run = [event for note in range(60, 68) for event in (("note_on", note, 0), ("note_off", note, 240))]
    midi(tmp_path / "a.mid", [("note_on", 50, 0), ("note_off", 50, 120), *run])
    roll, _ = read_midi(tmp_path / "a.mid", 2)
    assert roll[60 - LOWEST : 68 - LOWEST].sum(1).tolist() == [1] * 8
