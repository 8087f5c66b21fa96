"""What the files of a run hold, as types against which they are checked when they are read."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

Figures = dict[str, float]
"""`metrics.json`."""


class Manifest(TypedDict, total=False):
    """`manifest.json`; versions differ in what they record, so every field may be missing."""

    status: str
    command: str
    overrides: list[str]
    choices: dict[str, Any]
    seed: int
    directory: str | None
    versions: dict[str, Any] | None
    hardware: dict[str, Any] | None
    environment: dict[str, Any] | None
    sweep: dict[str, Any] | None
    attempts: list[dict[str, Any]]
    data: dict[str, Any] | None
    seconds: float
    rank: int | None
    nondeterministic: list[str] | None
    evaluated: list[str] | None


class Progress(TypedDict):
    """What a checkpoint holds beside weights: what training goes on from."""

    epoch: int
    global_step: int
    state_dict: dict[str, Any]
    loops: dict[str, Any]
    callbacks: dict[str, Any]
    optimizer_states: list[dict[str, Any]]
    lr_schedulers: list[dict[str, Any]]


class Calibration(TypedDict):
    """`calibration.json`."""

    weights: str
    score: str
    scores: list[float]
    usual: list[float] | None
    series: NotRequired[dict[str, list[float]] | None]
    frames: NotRequired[list[float] | None]
    padding: NotRequired[bool]
    """Whether the padding of examples that differ in length was judged too."""
