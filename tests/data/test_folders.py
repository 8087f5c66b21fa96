"""Folders of data, whatever they hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sound_clips import write_clips

from narrows.data.film_files import find_films
from narrows.data.scan_files import find_scans
from narrows.data.sound_files import find_sounds
from narrows.errors import UserError
from narrows.new_data.places_apart import PlacesApart

pytest.importorskip("soundfile")


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    """Sounds, scans and films of folders that are links are not left out, as pictures of such folders are not."""
    write_clips(tmp_path / "elsewhere", takes=1)
    np.save(tmp_path / "elsewhere" / "one.npy", np.zeros((9, 4, 5), np.uint8))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "linked").symlink_to(tmp_path / "elsewhere")
    assert {file.name.split("/")[0] for file in find_sounds(tmp_path / "own")} == {"linked"}
    assert len(find_scans(tmp_path / "own").files) == 1
    assert [film.name for film in find_films(tmp_path / "own")] == ["linked/one.npy"]
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "own")
    for find in (find_sounds, find_scans, find_films):
        with pytest.raises(UserError, match="no end of files"):
            find(tmp_path / "own")


def test_no_two_examples_have_one_place() -> None:
    names = ["a.gif", "a.mp4", "b.mp4", "b.mov", "c", "c.gif", "d"]
    files = ["a.gif", "a.gif", "b.gif", "b.gif", "c.gif", "c.gif", "d.gif"]
    apart = PlacesApart(zip(names, files, strict=True))
    found = [apart.of(name, file, ".gif") for name, file in zip(names, files, strict=True)]
    assert found == ["a.gif", "a.mp4.gif", "b.mp4.gif", "b.mov.gif", "c_2.gif", "c.gif", "d.gif"]
    assert apart.of("d#0", "d.gif", ".gif") == "d#0.gif"
