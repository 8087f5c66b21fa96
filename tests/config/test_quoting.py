"""Values as Hydra's grammar writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from narrows.config.quoting import quoted, quoted_paths, unquoted


@pytest.mark.parametrize("name", ["dim=4,seed=1", "it's", "a b", "(1)", "ends in \\"])
def test_paths_that_exist_are_read_as_texts(name: str, tmp_path: Path) -> None:
    place = tmp_path / name
    place.mkdir()
    (argument,) = quoted_paths([f"init_from={place}"])
    assert OverridesParser.create().parse_override(argument).value() == str(place)


def test_all_else_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dim=4").mkdir()
    Path("plain-1.0").mkdir()
    same = [
        "-m",
        "--config-dir=dim=4",
        "resume=dim=4",
        "replay=dim=4",
        "from=dim=4",
        "init_from=plain-1.0",
        "x=a,b",
        "y=" + "n," * 5000,
    ]
    assert quoted_paths(same) == same
    assert quoted_paths(["init_from=dim=4"]) == ["init_from='dim=4'"]


@pytest.mark.parametrize("text", ["dim=4,seed=1/", "it's", 'a "b"', "ends in \\", "'", ""])
def test_a_text_in_quotes_is_read_as_it_was_written(text: str) -> None:
    assert unquoted(quoted(text)) == text


def test_a_text_is_read_without_its_double_quotes() -> None:
    assert unquoted('"dim=4,seed=1/"') == "dim=4,seed=1/"


@pytest.mark.parametrize("text", ["dim=4", "it's", "'a'b'", "'", "'a\"", "'ends in \\'"])
def test_what_does_not_stand_in_quotes_is_read_as_it_is(text: str) -> None:
    assert unquoted(text) == text


def test_quotes_of_a_path_that_exists_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("'dim=4'").mkdir()
    assert unquoted("'dim=4'") == "'dim=4'"
