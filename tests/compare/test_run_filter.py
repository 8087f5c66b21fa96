"""Choosing runs by what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from narrows.compare.run_filter import choose
from narrows.compare.run_records import Record
from narrows.errors import UserError


def _record(name: str, **config: object) -> Record:
    return Record(
        Path(name),
        name=name,
        status="completed",
        config={"bottleneck.dim": 8, "tags": [], "checkpoint": "best"} | config,
        manifest={"choices": {"variant": name}},
        metrics={"val/loss": 20.0 if name == "vae" else 5.5},
    )


RUNS = [_record("vae", tags=["baseline", "small"]), _record("topk", **{"bottleneck.dim": 256})]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, ["vae", "topk"]),
        ("tags has baseline", ["vae"]),
        ("tags has baseline and bottleneck.dim>8", None),
        ("bottleneck.dim>=8", ["vae", "topk"]),
        ("bottleneck.dim > 8", ["topk"]),
        ("bottleneck.dim=8.0", ["vae"]),
        ("bottleneck.dim!=8", ["topk"]),
        ("variant=topk and val/loss<6", ["topk"]),
        ("variant like v*", ["vae"]),
        ("val/loss <= 5.5", ["topk"]),
        ("checkpoint==best and status=completed", ["vae", "topk"]),
        # A text is neither above nor below a number.
        ("checkpoint>1", None),
    ],
)
def test_runs_are_chosen_by_every_condition(text: str | None, found: list[str] | None) -> None:
    if found is None:
        with pytest.raises(UserError, match="holds of none of the 2 runs"):
            choose(RUNS, text)
    else:
        assert [record.name for record in choose(RUNS, text)] == found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("bottleneck.dim", "is no condition: write KEY, one of ="),
        ("", "is no condition"),
        ("bottleneck.dims>8", "no run has 'bottleneck.dims'; did you mean 'bottleneck.dim'"),
        ("seed=[1", "the value of 'seed=\\[1'"),
        ("variant=vae and", "is no condition"),
    ],
)
def test_what_cannot_be_asked_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        choose(RUNS, text)
