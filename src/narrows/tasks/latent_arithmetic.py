"""Latent arithmetic: examples shifted from one kind to another, decoded, and told by a judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from narrows.compare.figure_names import MODEL
from narrows.errors import require
from narrows.tasks.base import TaskContext
from narrows.tasks.classics.mean_pca_ridge import Classics
from narrows.tasks.figure_table import FigureTable
from narrows.tasks.interpretation_pictures import decoded, told
from narrows.tasks.measures.attribute_table import keys_of, read_attributes
from narrows.tasks.measures.embeddings import Matrix
from narrows.tasks.measures.latent_paths import class_means, fit_judge, other_classes, shift
from narrows.tasks.measures.standard_errors import with_error

Rows = Mapping[str, NDArray]
"""By what they are (`model`, `pca`, `raw`, ...), the rows of a split."""


@dataclass
class Read:
    """Rows by split, and the places of the validation and test rows in theirs."""

    rows: Mapping[str, Rows]
    places: Mapping[str, NDArray]


def arithmetic(
    context: TaskContext, classics: Classics, read: Read, kinds: Mapping[str, NDArray], count: int
) -> tuple[dict[str, dict[str, float]], dict[str, Matrix]]:
    """How often a test example's decoding is told as the kind that it was shifted to, `z + mean(other) - mean(own)`, by
    method, with the judge's accuracy on the test rows themselves; and those decodings, `[N, D]`.

    Args:
        context: the model and its data.
        classics: the principal components.
        read: the rows.
        kinds: by split, the kind of each row, `[N]`.
        count: of kinds.
    """
    held_out, test = read.rows["validation"], read.rows["test"]
    judge = fit_judge(held_out["raw"], kinds["validation"], context.seed)
    found = {MODEL: {"judge_accuracy": float((judge(test["raw"]) == kinds["test"]).mean())}}
    made: dict[str, Matrix] = {}
    back: dict[str, Callable[[Matrix, NDArray], Matrix]] = {
        MODEL: lambda codes, known: decoded(context, codes, told(dict(test), known)).reshape(len(codes), -1),
        "pca": lambda codes, known: classics.pca.inverse_transform(codes),
    }
    for method, decode in back.items():
        means = class_means(read.rows["train"][method], kinds["train"], count)
        known = np.isfinite(means[kinds["test"]]).all(1)
        own = kinds["test"][known]
        target = other_classes(own, means, context.seed)
        made[method] = decode(shift(test[method][known], own, target, means), known)
        hits = (judge(made[method]) == target).astype(np.float64)
        found.setdefault(method, {}).update(with_error("arithmetic", hits))
    return found, made


def attribute_arithmetic(
    context: TaskContext, classics: Classics, read: Read, path: str, found: FigureTable, shown: int
) -> None:
    """The same for each attribute of a CSV, whose examples have it or not: figures under its name, and a picture.

    Raises:
        UserError: a CSV that cannot be read, or an attribute that too few examples have or lack.
    """
    table = read_attributes(path)
    keys = keys_of(context, table)
    values = {split: table.of(of_split) for split, of_split in keys.items()}
    values |= {split: values[split][places] for split, places in read.places.items()}
    for column, name in enumerate(table.names):
        given = {split: rows[:, column] for split, rows in values.items()}
        for split, least in (("train", 2), ("validation", 2), ("test", 1)):
            counts = [int((given[split] == value).sum()) for value in (0, 1)]
            require(
                min(counts) > 0 or (least == 1 and sum(counts) > 0),
                f"task interpretation: attribute '{name}' is 1 of {counts[1]} and 0 of {counts[0]} {split} examples, "
                f"and needs {'both' if least == 2 else 'one'} there: give more of them, or more rows to that split",
            )
        known = {split: np.isfinite(cells) for split, cells in given.items()}
        rows = {
            split: {key: part[known[split]] for key, part in of_split.items()} for split, of_split in read.rows.items()
        }
        chosen = Read(rows, read.places)
        kinds = {split: cells[known[split]].astype(np.int64) for split, cells in given.items()}
        figures, made = arithmetic(context, classics, chosen, kinds, 2)
        for method, of_method in figures.items():
            found.add(of_method, method, name)
        _show(context, classics, chosen, (name, kinds["test"]), made, shown)


def _show(
    context: TaskContext,
    classics: Classics,
    read: Read,
    attribute: tuple[str, NDArray],
    made: Mapping[str, Matrix],
    shown: int,
) -> None:
    """The first test examples without the attribute and with it, rebuilt, and shifted to the other."""
    if context.directory is None:
        return
    from narrows.drawing.restoration import examples

    name, kinds = attribute
    first = np.concatenate([np.flatnonzero(kinds == kind)[: (shown + 1) // 2] for kind in (0, 1)])
    test = read.rows["test"]
    rows = {
        "test example": test["raw"],
        "rebuilt": decoded(context, test[MODEL][first], told(dict(test), first)),
        "shifted": made[MODEL],
        "PCA, rebuilt": classics.pca.inverse_transform(test["pca"]),
        "PCA, shifted": made["pca"],
    }
    pictures = {
        label: (values if label == "rebuilt" else values[first]).reshape(-1, *context.spec.shape)
        for label, values in rows.items()
    }
    heads = [f"{'less' if kinds[place] else 'plus'} {name}" for place in first]
    context.show(f"attribute_{name}", examples(pictures, f"Latent arithmetic: {name}", context.spec, heads))
