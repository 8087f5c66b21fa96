"""What is read of a constructor's hints without importing it is what importing it gives."""

from __future__ import annotations

from typing import Any

import pytest

from narrows.config.composition import config_dir, find_object
from narrows.config.option_types import type_hints
from narrows.config.plain_yaml import flatten, read_yaml
from narrows.config.written_hints import written_hints


def _targets() -> list[str]:
    found: set[str] = set()
    for path in config_dir().rglob("*.yaml"):
        found |= {str(value) for key, value in flatten(read_yaml(path)).items() if key.endswith("_target_")}
    return sorted(name for name in found if name.startswith("narrows."))


@pytest.mark.parametrize("target", _targets())
def test_written_hints_are_those_of_the_class(target: str) -> None:
    hints: dict[str, Any] = type_hints(find_object(target))
    written = written_hints(target)
    assert {key: hints.get(key) for key in written} == written


def test_most_options_are_read() -> None:
    shipped = _targets()
    assert len(shipped) > 100
    assert sum(bool(written_hints(name)) for name in shipped) > 0.6 * len(shipped)


def test_what_is_not_narrows_is_left_alone() -> None:
    for target in ("torch.optim.Adam", "narrows", "narrows.Nothing", "narrows.bottlenecks.Nothing", "mine.Own", ""):
        assert written_hints(target) == {}
