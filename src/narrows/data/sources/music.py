"""Music as piano rolls: chorales, your own MIDI files, or rolls that were saved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from narrows.data.contents import Contents, Part
from narrows.data.dataset_files import existing
from narrows.data.midi_files import LOWEST, PITCHES
from narrows.data.piano_rolls import Pieces, cut, pitch_names, read_pieces, transposed
from narrows.data.ragged_rows import Ragged
from narrows.errors import require

OCTAVE = 12


class Music:
    """Pieces of music as piano rolls `[88, T]` of 0 and 1, each as long as it is.

    - A `.json` or `.json.gz` holds `{"train": [piece, ...], "valid": ..., "test": ...}`; a piece is a list of frames,
      and a frame a list of the MIDI numbers that sound in it, as in the JSB chorales of "Modeling Temporal
      Dependencies in High-Dimensional Sequences" (Boulanger-Lewandowski et al., 2012, https://arxiv.org/abs/1206.6392).
    - A folder holds MIDI files, in sub-folders train, valid and test if there are such parts.
    - A `.npz` holds an array for each piece, `[88, T]` or `[128, T]`; the part of `test_01` is test.

    Official parts are cut without overlap and stay in their key. Where the source has no parts of its own, pieces are
    held out as a whole, and are cut and transposed as the training pieces are.

    Args:
        window: frames of an example; what is left at the end of a piece is a shorter one. null: whole pieces.
        stride: frames from one training window to the next; null: `window`.
        transpose: semitones, such as [-5, 6], by which training pieces are also moved, each as an example of its own;
            a piece is left out where one of its notes would leave the keyboard. null: none.
        frames_per_beat: of MIDI files, null for 4; the other files have frames already.
        test: fraction of the pieces held out for the test split, where there is no test part; null for none.

    Raises:
        UserError: an option out of its range; (`load`) a file that is missing or broken, or holds no pieces.
    """

    def __init__(
        self,
        path: str,
        window: int | None = None,
        stride: int | None = None,
        transpose: Sequence[int] | None = None,
        frames_per_beat: int | None = None,
        test: float | None = 0.1,
    ) -> None:
        for option, value in {"window": window, "stride": stride, "frames_per_beat": frames_per_beat}.items():
            require(value is None or value >= 1, f"source.{option}={value} must be at least 1, or null")
        require(stride is None or window is not None, "source.stride is of windows: set source.window too")
        moves = list(transpose or (0, 0))
        right = len(moves) == 2 and -OCTAVE <= moves[0] <= 0 <= moves[1] <= OCTAVE
        require(right, f"source.transpose={moves} goes from at least -12 to at most 12 semitones, such as [-5, 6]")
        require(test is None or 0 < test < 1, f"source.test={test} is no fraction between 0 and 1")
        self.path, self.window, self.stride = path, window, stride
        self.moves = range(moves[0], moves[1] + 1)
        self.frames_per_beat, self.test = frames_per_beat, test

    def load(self) -> Contents:
        read = read_pieces(existing(self.path, "source.path"), self.frames_per_beat)
        parts = {name: self._part(pieces, name == "train") for name, pieces in read.items()}
        return Contents.of_parts(
            "series",
            {name: part for name, (part, _) in parts.items()},
            self.test,
            groups=parts["train"][1],
            feature_names=pitch_names(range(LOWEST, LOWEST + PITCHES)),
            reading=[self._say(read, parts)],
        )

    def _part(self, pieces: Pieces, train: bool) -> tuple[Part, torch.Tensor]:
        """The examples of a part, and the number of the piece of each."""
        rolls, names, numbers = [], [], []
        for number, (roll, name) in enumerate(zip(pieces.rolls, pieces.names, strict=True)):
            for move in self.moves if train else (0,):
                moved = transposed(roll, move)
                for start, frames in [] if moved is None else cut(moved, self.window, self.stride if train else None):
                    rolls.append(torch.from_numpy(np.ascontiguousarray(frames)))
                    names.append(_name(name, start, frames.shape[1], self.window, move))
                    numbers.append(number)
        return Part(Ragged.of(rolls), names=names), torch.tensor(numbers)

    def _say(self, read: dict[str, Pieces], parts: dict[str, tuple[Part, torch.Tensor]]) -> str:
        counted = [
            f"{len(pieces.rolls):,} pieces of {name} ({sum(roll.shape[1] for roll in pieces.rolls):,} frames, "
            f"{len(parts[name][0]):,} examples)"
            for name, pieces in read.items()
        ]
        keys = f", in {len(self.moves)} keys" if len(self.moves) > 1 else ""
        left = "; ".join(line for pieces in read.values() for line in pieces.said)
        return f"music: {', '.join(counted)}{keys}{'; ' if left else ''}{left}"


def _name(piece: str, start: int, frames: int, window: int | None, move: int) -> str:
    place = "" if window is None else f", frames {start} to {start + frames - 1}"
    return f"{piece}{place}{f', {move:+d} semitones' if move else ''}"
