"""Values as Hydra's grammar writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from narrows.config.quoting import quoted_paths


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
