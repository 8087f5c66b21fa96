"""Checkpoint files are whole, or refused by name."""

from __future__ import annotations

import errno
import io
import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from narrows.errors import UserError
from narrows.runs import checkpoint_files

STATE = {"state_dict": {"weight": torch.arange(500.0)}, "epoch": 3}


def kept(folder: Path) -> dict[str, int]:
    return {path.stem: checkpoint_files.read(path)["epoch"] for path in sorted(folder.iterdir())}


def test_last_becomes_previous_and_best_stays(tmp_path: Path) -> None:
    for epoch, names in enumerate([["best", "last"], ["last"], ["last"]]):
        checkpoint_files.save({"epoch": epoch}, tmp_path, names)
    assert kept(tmp_path) == {"best": 0, "last": 2, "previous": 1}


def test_every_flipped_bit_and_every_cut_is_seen(tmp_path: Path) -> None:
    checkpoint_files.save(STATE, tmp_path, ["last"])
    whole = (tmp_path / "last.ckpt").read_bytes()
    source, copy = random.Random(0), tmp_path / "copy.ckpt"
    for _ in range(300):
        damaged = bytearray(whole)
        bit = source.randrange(8 * len(whole))
        damaged[bit // 8] ^= 1 << bit % 8
        copy.write_bytes(damaged)
        assert checkpoint_files.damage(copy) is not None, bit
    for size in range(0, len(whole), 97):
        copy.write_bytes(whole[:size])
        assert checkpoint_files.damage(copy) is not None, size
    copy.write_bytes(whole)
    assert checkpoint_files.damage(copy) is None


def test_a_full_disk_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint_files.save(STATE, tmp_path, ["last"])

    class Full(io.BufferedWriter):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    # Torch's own writer loses the cause.
    monkeypatch.setattr(Path, "open", lambda path, mode: Full(io.FileIO(path, mode)))
    with pytest.raises(UserError, match=r"cannot write a checkpoint to .*: No space left on device; .* are kept"):
        checkpoint_files.save({"epoch": 4}, tmp_path, ["best", "last"])
    assert kept(tmp_path) == {"last": 3}


def test_anything_but_tensors_and_plain_values_is_refused(tmp_path: Path) -> None:
    checkpoint_files.save({"surprise": Path("x")}, tmp_path, ["last"])
    with pytest.raises(UserError, match=r"last.ckpt is not a readable checkpoint \(UnpicklingError\)"):
        checkpoint_files.read(tmp_path / "last.ckpt")
