"""Data sets of the Hugging Face library: saved ones, Parquet, and those of the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch

from narrows.data.array_kinds import ArrayKind, resolve
from narrows.data.arrow_columns import (
    AUTO,
    Form,
    check_numbers,
    check_pictures,
    example_column,
    form_of,
    label_column,
    read_classes,
    require_column,
)
from narrows.data.arrow_rows import ArrowColumn, ArrowNumbers, ArrowPictures, numbers_of
from narrows.data.contents import Contents, Part, Standardise
from narrows.data.float_precision import refuse_blurred
from narrows.data.hub_datasets import HubFiles, open_parts
from narrows.data.image_files import ImageReader, Pictures
from narrows.data.sources.arrays import arranged, lay_out, to_tensor
from narrows.data.stores import Dense, Store, cuts, require_memory_limit
from narrows.errors import nearest, printable, require


@dataclass
class Numbers:
    """What lists of numbers are; see `narrows.data.Arrays`.

    Args:
        kind: of data, told by their axes if it is `auto`.
        channels_last: null is false, but refuses what looks like them.
        standardise: per feature or channel, fitted on the training rows; the numbers are then held in memory.
    """

    kind: ArrayKind = "auto"
    channels_last: bool | None = None
    standardise: Standardise = "none"

    def __post_init__(self) -> None:
        for name, choices in (("kind", get_args(ArrayKind)), ("standardise", get_args(Standardise))):
            value = getattr(self, name)
            require(value in choices, f"unknown numbers.{name}={value!r}: {nearest(str(value), choices)}")


class HuggingFace:
    """One column of a Hugging Face data set, in the order of its rows: pictures `[channels, height, width]` uint8, or
    lists of numbers of one shape.

    The data set is a folder that `save_to_disk` wrote, a Parquet file or a folder of them, or `OWNER/NAME` of the hub.
    Parts named train, validation and test are used as they are. Rows are read at their places from memory-mapped Arrow
    files, and held in memory if all of them fit in `memory_limit_mb`. `narrows.data.hub_datasets` says where files are
    kept.

    Args:
        column: of the examples; `auto` takes the only one of pictures or, where there is none, of lists of numbers.
        label: the column of classes, whole numbers or words; `auto` takes the only one whose type names classes, else
            one of a usual name; null for none.
        size: of pictures, height and width, one number for both or `[height, width]`.
        pictures: what becomes of pictures of other sizes and depths; of several frames the first is read, or none.
        numbers: what lists of numbers are.
        files: which part and folder of the data set is read, and where files are kept.
        test: fraction held out for the test split, if no part is the test split; null for none.
        train_labels: names or numbers of the only classes to train and validate on; the test split keeps all.

    Raises:
        UserError: (`load`) nothing that can be read, a column that is not there or holds something else, rows of other
            shapes, missing values, or (when it is read) a picture that `ImageReader` refuses.
    """

    def __init__(
        self,
        path: str,
        column: str = AUTO,
        label: str | None = AUTO,
        size: int | Sequence[int] = 64,
        channels: Literal[1, 3] = 3,
        pictures: Pictures | None = None,
        numbers: Numbers | None = None,
        files: HubFiles | None = None,
        test: float | None = 0.1,
        memory_limit_mb: float = 2048,
        train_labels: Sequence[int | str] | None = None,
    ) -> None:
        self.path, self.column, self.label, self.test = path, column, label, test
        self.reader = ImageReader(size, channels, pictures=pictures or Pictures())
        require(
            self.reader.pictures.frames != "each",
            "source.pictures.frames=each is for folders of files: of a picture in a row take the first frame, or none",
        )
        require_memory_limit(memory_limit_mb)
        self.numbers, self.files = numbers or Numbers(), files or HubFiles()
        self.memory_limit_mb, self.train_labels = memory_limit_mb, train_labels

    def load(self) -> Contents:
        parts, aside = open_parts(self.path, self.files)
        name, form = example_column(parts["train"], self.column, self._place("train"))
        label = label_column(parts["train"], self.label, name, self._place("train"))
        columns = {part: self._column(part, dataset, name, form) for part, dataset in parts.items()}
        classes, names = None, None
        if label is not None:
            classes, names = read_classes({part: self._labels(part, data, label) for part, data in parts.items()})
        kind, stores = self._pictures(columns) if form == "pictures" else self._lists(columns)
        found = {part: Part(store, None if classes is None else classes[part]) for part, store in stores.items()}
        return Contents.of_parts(
            kind,
            found,
            self.test,
            train_labels=self._trained(names),
            class_names=names,
            standardise="none" if form == "pictures" else self.numbers.standardise,
            reading=[self._said(found, name, label, aside)],
        )

    def _place(self, part: str) -> str:
        return f"part '{part}' of {self.path}"

    def _column(self, part: str, dataset: Any, name: str, form: Form) -> ArrowColumn:
        """The column of one part, which must be like that of the training rows."""
        place = self._place(part)
        require(len(dataset) > 0, f"{place} has no rows: take it away, or set source.files.split")
        require_column(dataset, name, "source.column", place)
        require(form_of(dataset, name) == form, f"column '{name}' of {place} holds no {form}, as the training rows do")
        return ArrowColumn.of(dataset, name, place)

    def _labels(self, part: str, dataset: Any, label: str) -> ArrowColumn:
        require_column(dataset, label, "source.label", self._place(part))
        return ArrowColumn.of(dataset, label, self._place(part))

    def _streamed(self, values: int) -> bool:
        return values > self.memory_limit_mb * 2**20

    def _pictures(self, columns: Mapping[str, ArrowColumn]) -> tuple[Any, dict[str, Store]]:
        for column in columns.values():
            check_pictures(column)
        stores = {part: ArrowPictures([column], self.reader) for part, column in columns.items()}
        if self._streamed(sum(store.shape.numel() for store in stores.values())):
            return "image", dict(stores)
        return "image", {part: _held(store) for part, store in stores.items()}

    def _lists(self, columns: Mapping[str, ArrowColumn]) -> tuple[Any, dict[str, Store]]:
        first, how = columns["train"], self.numbers
        shape = check_numbers(first)
        for column in columns.values():
            same = check_numbers(column) == shape and column.numbers == first.numbers
            require(
                same,
                f"{column.where} holds {column.numbers} of shape {list(check_numbers(column))}, and the training rows "
                f"{first.numbers} of {list(shape)}: the parts must be alike",
            )
        rows = sum(map(len, columns.values()))
        like = np.empty((1, *shape), first.numbers)
        kind: Any = resolve(how.kind, like, how.channels_last, first.where)
        stores: dict[str, Store] = {}
        streamed = self._streamed(rows * like.nbytes)
        for part, column in columns.items():
            tensor = partial(_tensor, kind=kind, channels_last=how.channels_last, where=column.where)
            narrow = partial(arranged, kind=kind, channels_last=how.channels_last, where=column.where)
            if streamed:
                stores[part] = ArrowNumbers([column], narrow, shape)
            else:
                stores[part] = Dense(torch.cat([tensor(numbers_of(piece, shape)) for _, piece in column.pieces()]))
        if streamed and first.numbers.itemsize > 4:
            tensor = partial(_tensor, kind=kind, channels_last=how.channels_last, where=first.where)
            wide = (tensor(numbers_of(piece, shape)) for _, piece in first.pieces())
            refuse_blurred(wide, None, "take the offset off first")
        return kind, stores

    def _trained(self, names: Sequence[str] | None) -> list[int] | None:
        """The numbers of the classes to train on, which may be given by name."""
        if self.train_labels is None:
            return None
        numbers = {name: number for number, name in enumerate(names or [])}
        chosen = []
        for label in self.train_labels:
            known = isinstance(label, int) or label in numbers
            require(
                known,
                f"source.train_labels={list(self.train_labels)}: there is no class '{label}'; "
                f"{nearest(str(label), numbers)}",
            )
            chosen.append(label if isinstance(label, int) else numbers[label])
        return chosen

    def _said(self, parts: Mapping[str, Part], name: str, label: str | None, aside: Sequence[str]) -> str:
        counts = f"{len(parts['train']):,}"
        if len(parts) > 1:
            uses = {"validation": "validate"}
            counts = " and ".join(f"{len(part):,} to {uses.get(use, use)} on" for use, part in parts.items())
        x, classes = parts["train"].x, parts["train"].label
        told = "" if classes is None else f" of {len(classes.unique()):,} classes ('{printable(label or '')}')"
        said = f"rows: {counts}{told}, column '{printable(name)}' as {'x'.join(map(str, x.shape[1:]))}"
        said += ", read from their places when they are needed" if x.reads_files else ""
        left = ", ".join(printable(part) for part in aside)
        return f"{said}; left aside: the parts {left}" if left else said


def _held(pictures: ArrowPictures) -> Store:
    x = torch.empty(pictures.shape, dtype=torch.uint8)
    for cut in cuts(pictures.shape, 1):
        x[cut] = pictures.take(cut)
    return Dense(x)


def _tensor(x: np.ndarray[Any, Any], kind: str, channels_last: bool | None, where: str) -> torch.Tensor:
    """Rows as a tensor with channels first, in double precision where float32 could not hold their type."""
    return to_tensor(lay_out(x, kind, channels_last, where), kind, where)
