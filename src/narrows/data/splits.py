"""Cutting rows into train, validation and test splits or folds, which depend on `split_seed` alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from narrows.data.contents import Contents, Part, pool
from narrows.errors import require
from narrows.random import generator
from narrows.types import Kind


@dataclass
class Plan:
    """How the development rows are divided into train and validation: by a fraction, by the official part, or as fold
    `fold` of `folds`."""

    validation: float | Literal["official"]
    folds: int | None
    fold: int
    seed: int

    def __post_init__(self) -> None:
        fraction = self.validation
        if fraction != "official":
            require(
                isinstance(fraction, int | float) and 0 < fraction < 1,
                f"validation={fraction!r} is neither a fraction between 0 and 1 nor 'official'",
            )
        if self.folds is not None:
            require(self.folds >= 2, f"folds={self.folds} leaves nothing to train on: it must be at least 2")
            require(
                0 <= self.fold < self.folds,
                f"fold={self.fold} does not exist with folds={self.folds}: it must lie in 0 to {self.folds - 1}",
            )


@dataclass
class Split:
    """Examples in their unshuffled order, and the row of each in its source."""

    part: Part
    rows: Tensor
    kind: Kind
    """The kind of the data, which decides how values are scaled."""

    def __len__(self) -> int:
        return len(self.rows)


def divide(contents: Contents, plan: Plan) -> dict[str, Split]:
    """The splits by name: `train`, `validation`, and `test` if there is one.

    Rows are numbered within the official part that they come from; if the official train and validation parts are
    pooled, validation rows are numbered after the training rows.

    Raises:
        UserError: a plan that leaves a split empty, or that these contents do not allow.
    """
    development = contents.train
    splits: dict[str, Split] = {}
    rows = torch.arange(len(development))
    if contents.test is not None:
        splits["test"] = _whole(contents.test, contents.kind)
    elif contents.test_fraction is not None:
        chosen = _only(contents, rows, development) if contents.rest_to_test else rows
        kept, held = _hold_out(chosen, contents.test_fraction, "test", plan.seed, contents.neighbours)
        if contents.rest_to_test:
            held = rows[~torch.isin(rows, kept)]
        rows = kept
        splits["test"] = Split(development.select(held), held, contents.kind)
    official = plan.validation == "official" and plan.folds is None
    if official:
        require(
            contents.validation is not None,
            "validation='official', but this source has no official validation split: set a fraction, "
            "such as validation=0.1",
        )
        assert contents.validation is not None
        splits["train"] = _take(development, _only(contents, rows, development), contents.kind)
        allowed = _only(contents, torch.arange(len(contents.validation)), contents.validation)
        splits["validation"] = _take(contents.validation, allowed, contents.kind)
        return splits
    if contents.validation is not None:
        rows = torch.cat([rows, torch.arange(len(contents.validation)) + len(development)])
        development = pool(development, contents.validation)
    rows = _only(contents, rows, development)
    train, validation = _train_and_validation(rows, plan, contents.neighbours)
    cut = {"train": train, "validation": validation}
    return splits | {name: _take(development, chosen, contents.kind) for name, chosen in cut.items()}


def _whole(part: Part, kind: Kind) -> Split:
    return Split(part, torch.arange(len(part)), kind)


def _take(part: Part, rows: Tensor, kind: Kind) -> Split:
    return _whole(part, kind) if len(rows) == len(part) else Split(part.select(rows), rows, kind)


def _only(contents: Contents, rows: Tensor, part: Part) -> Tensor:
    """The given rows whose label is one of `train_labels`."""
    wanted = contents.train_labels
    if wanted is None:
        return rows
    require(part.label is not None, f"train_labels={list(wanted)}, but the data have no labels to choose by: set null")
    assert part.label is not None
    require(
        part.label.ndim == 1,
        f"train_labels={list(wanted)} chooses classes, but these labels are {part.label.shape[-1]} factors for each "
        "example: set null",
    )
    kept = rows[torch.isin(part.label[rows], torch.tensor(list(wanted)))]
    present = sorted(set(part.label[rows].tolist()))
    require(
        len(kept) > 0,
        f"train_labels={list(wanted)} matches no example: the labels that exist are {present}",
    )
    return kept


def _train_and_validation(rows: Tensor, plan: Plan, neighbours: int | None) -> tuple[Tensor, Tensor]:
    if plan.folds is None:
        assert plan.validation != "official"
        return _hold_out(rows, plan.validation, "validation", plan.seed, neighbours)
    require(
        plan.folds <= len(rows),
        f"folds={plan.folds} is more than the {len(rows)} development examples: lower it",
    )
    if neighbours is None:
        rows = rows[torch.randperm(len(rows), generator=generator(plan.seed, "folds"))]
    pieces = list(torch.tensor_split(rows, plan.folds))
    before, held, after = pieces[: plan.fold], pieces[plan.fold], pieces[plan.fold + 1 :]
    gap = neighbours or 0
    earlier = torch.cat(before)[: -gap or None] if before else rows[:0]
    later = torch.cat(after)[gap:] if after else rows[:0]
    kept = torch.cat([earlier, later])
    require(len(kept) > 0, f"folds={plan.folds} leaves no training example of {len(rows)}: use fewer folds")
    return kept.sort().values, held.sort().values


def _hold_out(rows: Tensor, fraction: float, name: str, seed: int, neighbours: int | None) -> tuple[Tensor, Tensor]:
    """The rows that remain and the rows that are held out, both in ascending order."""
    require(0 < fraction < 1, f"{name}={fraction!r} is no fraction between 0 and 1")
    count = max(1, round(len(rows) * fraction))
    gap = neighbours or 0
    require(
        count + gap < len(rows),
        f"{name}={fraction} takes {count} of {len(rows)} examples and leaves none to train on: lower it, or "
        "bring more data",
    )
    if neighbours is not None:
        return rows[: len(rows) - count - gap], rows[len(rows) - count :]
    order = rows[torch.randperm(len(rows), generator=generator(seed, name))]
    return order[count:].sort().values, order[:count].sort().values
