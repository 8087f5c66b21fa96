"""Cutting rows into train, validation and test splits or folds, which depend on `split_seed` alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from narrows.data.contents import Contents, Part, pool
from narrows.data.features import Features
from narrows.data.stores import Store
from narrows.errors import require
from narrows.random import generator
from narrows.types import Kind

FRACTION = 0.1
"""What `validation=auto` holds out of data without an official validation split."""
HOLD_OUT = "such as datamodule.source.test=0.1 (of arrays and tables datamodule.source.test.fraction=0.1)"
"""How rows are held out for a test split, for error messages."""


@dataclass
class Plan:
    """How the development rows are divided into train and validation: by a fraction or a number of rows, by the
    official part, by that or else a tenth (`auto`), or as fold `fold` of `folds`."""

    validation: float | Literal["official", "auto"]
    folds: int | None
    fold: int
    seed: int

    def __post_init__(self) -> None:
        held = self.validation
        if held not in ("official", "auto"):
            fraction = isinstance(held, float) and 0 < held < 1
            rows = isinstance(held, int) and not isinstance(held, bool) and held >= 1
            require(
                fraction or rows,
                f"validation={held!r} is neither a fraction between 0 and 1, a number of rows, 'official' nor 'auto'",
            )
        require(self.folds is not None or self.fold == 0, f"fold={self.fold} is read with folds alone: set folds too")
        if self.folds is not None:
            require(self.folds >= 2, f"folds={self.folds} leaves nothing to train on: it must be at least 2")
            require(
                0 <= self.fold < self.folds,
                f"fold={self.fold} does not exist with folds={self.folds}: it must lie in 0 to {self.folds - 1}",
            )

    def is_official(self, contents: Contents) -> bool:
        """Whether the validation split is the source's own."""
        own = self.validation == "official" or (self.validation == "auto" and contents.validation is not None)
        return own and self.folds is None


@dataclass
class Split:
    """Examples in their unshuffled order, and the row of each in its source."""

    part: Part
    rows: Tensor
    kind: Kind
    """The kind of the data, which decides how values are scaled."""
    features: Features | None = None
    """What makes features of pictures, where those are the data."""
    held: Store | None = None
    """The features, if they have been computed."""

    @property
    def stores(self) -> list[Store]:
        """What batches are read from: the examples, or the features of them that are held, and targets."""
        return self.part.stores if self.held is None else [self.held]

    def __len__(self) -> int:
        return len(self.rows)


def divide(contents: Contents, plan: Plan) -> dict[str, Split]:
    """The splits by name: `train`, `validation`, and `test` if there is one.

    Rows are numbered within the official part that they come from; if the official train and validation parts are
    pooled, validation rows are numbered after the training rows.

    Raises:
        UserError: a plan that leaves a split empty, or that these contents do not allow.
    """
    if plan.validation == "auto":
        plan = replace(plan, validation=FRACTION if contents.validation is None else "official")
    development = contents.train
    require(
        contents.pooled is None or (plan.validation == "official" and plan.folds is None),
        f"{contents.pooled}: set validation=official and folds=null",
    )
    _require_labels(contents)
    rows, splits = _test_split(contents, plan.seed)
    if plan.validation == "official" and plan.folds is None:
        return splits | _official(contents, rows)
    if contents.validation is not None:
        rows = torch.cat([rows, torch.arange(len(contents.validation)) + len(development)])
        development = pool(development, contents.validation)
    rows = _only(contents, rows, development)
    train, validation = _train_and_validation(rows, plan, contents)
    cut = {"train": train, "validation": validation}
    return splits | {name: _take(development, chosen, contents.kind) for name, chosen in cut.items()}


def _test_split(contents: Contents, seed: int) -> tuple[Tensor, dict[str, Split]]:
    """The development rows that remain, and the test split by its name, if there is one."""
    development = contents.train
    rows = torch.arange(len(development))
    if contents.test is not None:
        return rows, {"test": _whole(contents.test, contents.kind)}
    if contents.test_fraction is None:
        return rows, {}
    chosen = _only(contents, rows, development) if contents.rest_to_test else rows
    kept, held = _hold_out(chosen, contents.test_fraction, "test", seed, contents)
    if contents.rest_to_test:
        held = rows[~torch.isin(rows, kept)]
    return kept, {"test": Split(development.select(held), held, contents.kind)}


def _official(contents: Contents, rows: Tensor) -> dict[str, Split]:
    validation = contents.validation
    require(
        validation is not None,
        "validation='official', but this source has no official validation split: set a fraction, "
        "such as validation=0.1",
    )
    assert validation is not None
    allowed = _only(contents, torch.arange(len(validation)), validation)
    return {
        "train": _take(contents.train, _only(contents, rows, contents.train), contents.kind),
        "validation": _take(validation, allowed, contents.kind),
    }


def _whole(part: Part, kind: Kind) -> Split:
    return Split(part, torch.arange(len(part)), kind)


def _take(part: Part, rows: Tensor, kind: Kind) -> Split:
    return _whole(part, kind) if len(rows) == len(part) else Split(part.select(rows), rows, kind)


def _require_labels(contents: Contents) -> None:
    """Refuse a label in `train_labels` that no example has.

    Raises:
        UserError: names it.
    """
    labels = [part.label for part in contents.parts().values() if part.label is not None and part.label.ndim == 1]
    if contents.train_labels is None or not labels:
        return
    present = set(torch.cat(labels).unique().tolist())
    absent = [label for label in contents.train_labels if label not in present]
    require(
        not absent,
        f"train_labels={list(contents.train_labels)}: no example has the label {', '.join(map(str, absent))}; "
        f"the labels that exist are {sorted(present)}",
    )


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


def _train_and_validation(rows: Tensor, plan: Plan, contents: Contents) -> tuple[Tensor, Tensor]:
    if plan.folds is None:
        assert not isinstance(plan.validation, str)
        return _hold_out(rows, plan.validation, "validation", plan.seed, contents)
    groups, neighbours = contents.groups, contents.neighbours
    if groups is not None and neighbours is None:
        units = _shuffled(groups[rows].unique(), plan.seed, "folds")
        kept, held = (_members(rows, groups, chosen) for chosen in _fold(units, plan, 0, "series"))
    elif groups is not None:
        pairs = [_fold(own, plan, neighbours or 0, "examples of a series") for own in _by_group(rows, groups)]
        kept, held = (torch.cat(list(parts)) for parts in zip(*pairs, strict=True))
    else:
        units = rows if neighbours is not None else _shuffled(rows, plan.seed, "folds")
        kept, held = _fold(units, plan, neighbours or 0, "examples")
    require(len(kept) > 0, f"folds={plan.folds} leaves no training example of {len(rows)}: use fewer folds")
    return kept.sort().values, held.sort().values


def _fold(units: Tensor, plan: Plan, gap: int, what: str) -> tuple[Tensor, Tensor]:
    """The units outside fold `plan.fold`, without the `gap` nearest ones on either side, and those inside."""
    assert plan.folds is not None
    require(plan.folds <= len(units), f"folds={plan.folds} is more than the {len(units)} development {what}: lower it")
    pieces = list(torch.tensor_split(units, plan.folds))
    before, held, after = pieces[: plan.fold], pieces[plan.fold], pieces[plan.fold + 1 :]
    earlier = torch.cat(before)[: -gap or None] if before else units[:0]
    later = torch.cat(after)[gap:] if after else units[:0]
    return torch.cat([earlier, later]), held


def _hold_out(rows: Tensor, share: float, name: str, seed: int, contents: Contents) -> tuple[Tensor, Tensor]:
    """The rows that remain and the rows that are held out, both in ascending order; `share` is a fraction of them, or
    the number of held-out rows."""
    # One test row, or none, is meant as a fraction.
    counted = isinstance(share, int) and not isinstance(share, bool) and (name == "validation" or share > 1)
    groups, neighbours = contents.groups, contents.neighbours
    require(counted or 0 < share < 1, f"{name}={share!r} is no fraction between 0 and 1")
    require(not counted or groups is None, f"{name}={share}: of many series a fraction is held out, such as 0.1")
    if groups is None:
        return _some(rows, share, name, seed, neighbours, "examples")
    if neighbours is None:
        kept, held = _some(groups[rows].unique(), share, name, seed, None, "series")
        return _members(rows, groups, kept), _members(rows, groups, held)
    # A series that is too short to give up rows is trained on as a whole.
    long = [len(own) > round(len(own) * share) + neighbours > neighbours for own in _by_group(rows, groups)]
    pairs = [
        _some(own, share, name, seed, neighbours, "examples") if enough else (own, own[:0])
        for own, enough in zip(_by_group(rows, groups), long, strict=True)
    ]
    require(any(long), f"{name}={share} takes no example of any series: raise it, or bring longer series")
    kept, held = (torch.cat(list(parts)) for parts in zip(*pairs, strict=True))
    return kept.sort().values, held.sort().values


def _some(
    units: Tensor, share: float, name: str, seed: int, neighbours: int | None, what: str
) -> tuple[Tensor, Tensor]:
    """The units that remain and those that are held out: the last ones if they have neighbours, else drawn by seed."""
    count = share if isinstance(share, int) else max(1, round(len(units) * share))
    gap = neighbours or 0
    require(
        count + gap < len(units),
        f"{name}={share} takes {count} of {len(units)} {what} and leaves none to train on: lower it, or "
        "bring more data",
    )
    if neighbours is not None:
        return units[: len(units) - count - gap], units[len(units) - count :]
    order = _shuffled(units, seed, name)
    return order[count:].sort().values, order[:count].sort().values


def _shuffled(units: Tensor, seed: int, name: str) -> Tensor:
    return units[torch.randperm(len(units), generator=generator(seed, name))]


def _members(rows: Tensor, groups: Tensor, chosen: Tensor) -> Tensor:
    """The rows that belong to the chosen groups."""
    return rows[torch.isin(groups[rows], chosen)]


def _by_group(rows: Tensor, groups: Tensor) -> list[Tensor]:
    return [rows[groups[rows] == group] for group in groups[rows].unique()]
