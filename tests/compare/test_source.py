"""What was changed against the config that a run was started from comes first."""

from __future__ import annotations

from pathlib import Path

from narrows.commands.diff import sections
from narrows.compare.run_records import Record
from narrows.compare.varied_keys import differing_columns

CONFIG = {"bottleneck.dim": 8, "optimizer.lr": 0.1, "seed": 0}


def records() -> tuple[Record, Record]:
    told = {"from": {"path": "/mail/mine.yaml", "sha256": "1"}, "overrides": ["from=/mail/mine.yaml", "seed=3"]}
    before = Record(Path("a"), config=CONFIG, manifest={"overrides": ["bottleneck.dim=8"]})
    return before, Record(Path("b"), config=CONFIG | {"bottleneck.dim": 4, "seed": 3}, manifest=told)


def test_a_record_knows_its_source_and_what_was_changed() -> None:
    before, after = records()
    assert (before.source, before.changed) == (None, [])
    assert (after.source, after.changed) == ("/mail/mine.yaml", ["seed"])
    assert Record(Path("c"), manifest={"from": 3}).source is None


def test_diff_and_compare_show_it_first() -> None:
    before, after = records()
    assert list(sections(before, after)["config"]) == ["seed", "bottleneck.dim"]
    assert list(differing_columns([before, after])) == ["seed", "bottleneck.dim"]
    after.manifest.pop("from")
    assert list(differing_columns([before, after])) == ["bottleneck.dim", "seed"]
