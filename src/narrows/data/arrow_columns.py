"""Which columns of Hugging Face data sets hold examples and their classes, and whether every row can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from narrows.data.arrow_rows import ArrowColumn, first_null, is_listed, shape_of
from narrows.errors import UserError, nearest, printable, require
from narrows.types import Shape

AUTO = "auto"
USUAL_LABELS = ("label", "labels", "class", "target")
"""Names by which classes are found that no type tells."""
Form = Literal["pictures", "numbers"]


def form_of(dataset: Any, name: str) -> Form | None:
    """What a column holds by its Arrow type; None: something else."""
    import pyarrow.types as types

    kind = dataset.data.schema.field(name).type
    kind = getattr(kind, "storage_type", kind)
    if types.is_struct(kind):
        fields = {field.name: field.type for field in kind}
        kind = fields.get("bytes") if fields.keys() == {"bytes", "path"} and _is_picture(dataset, name) else None
    if kind is not None and (types.is_binary(kind) or types.is_large_binary(kind)):
        return "pictures"
    if kind is None or not is_listed(kind):
        return None
    while is_listed(kind):
        kind = kind.value_type
    return "numbers" if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) else None


def _is_picture(dataset: Any, name: str) -> bool:
    """Whether encoded bytes are no sound or film, which look alike in Arrow."""
    feature = type(dataset.features[name]).__name__
    return feature not in ("Audio", "Video", "Pdf", "Nifti", "Mesh")


def example_column(dataset: Any, asked: str, place: str) -> tuple[str, Form]:
    """The column of examples, and what it holds.

    Raises:
        UserError: there is no such column, it holds neither, or `auto` finds none or several.
    """
    names = dataset.column_names
    forms = {name: form_of(dataset, name) for name in names}
    if asked != AUTO:
        require_column(dataset, asked, "source.column", place)
        form = forms[asked]
        if form is None:
            raise UserError(
                f"column '{asked}' of {place} holds {_said(dataset, asked)}: pictures or lists of numbers are needed "
                "(texts are read by datamodule=text, columns of single numbers by datamodule=table)"
            )
        return asked, form
    found = [name for name in names if forms[name] == "pictures"] or [name for name in names if forms[name]]
    listed = ", ".join(f"{printable(name)} ({_said(dataset, name)})" for name in names)
    if len(found) != 1:
        many = f"several columns of {forms[found[0]]}; set source.column to one" if found else "neither of the two"
        raise UserError(f"{place} is searched for a column of pictures or lists of numbers and has {many} of {listed}")
    form = forms[found[0]]
    assert form is not None
    return found[0], form


def label_column(dataset: Any, asked: str | None, column: str, place: str) -> str | None:
    """The column of classes; None: there is none.

    Raises:
        UserError: there is no such column, or one that holds no classes.
    """
    if asked is None:
        return None
    if asked == AUTO:
        classes = [name for name in dataset.column_names if _class_names(dataset, name) is not None]
        usual = [n for n in dataset.column_names if n.lower() in USUAL_LABELS and n != column and _holds(dataset, n)]
        found = classes if len(classes) == 1 else [name for name in usual if not classes or name in classes]
        return found[0] if len(found) == 1 else None
    require_column(dataset, asked, "source.label", place)
    require(
        _holds(dataset, asked),
        f"column '{asked}' of {place} holds {_said(dataset, asked)}: classes are whole numbers or words",
    )
    return asked


def require_column(dataset: Any, name: str, option: str, place: str) -> None:
    """Refuse a name that no column has.

    Raises:
        UserError: with the nearest name.
    """
    require(
        name in dataset.column_names,
        f"{place} has no column '{name}': {nearest(name, dataset.column_names)}; set {option}",
    )


def _said(dataset: Any, name: str) -> str:
    return printable(str(dataset.data.schema.field(name).type))


def _class_names(dataset: Any, name: str) -> list[str] | None:
    names = getattr(dataset.features[name], "names", None)
    return None if names is None else list(names)


def _holds(dataset: Any, name: str) -> bool:
    import pyarrow.types as types

    kind = dataset.data.schema.field(name).type
    return bool(types.is_integer(kind) or types.is_boolean(kind) or _is_text(kind))


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind))


def check_pictures(column: ArrowColumn) -> None:
    """Look at every row, without its bytes.

    Raises:
        UserError: one has no picture.
    """
    import pyarrow.compute as pc
    import pyarrow.types as types

    for start, piece in column.pieces():
        bare = piece.is_null()
        if types.is_struct(piece.type):
            held, path = (pc.struct_field(piece, name).is_null() for name in ("bytes", "path"))
            bare = pc.or_(bare, pc.and_(held, path))
        rows = np.flatnonzero(bare.to_numpy(zero_copy_only=False))
        if len(rows):
            column.refuse(start + int(rows[0]), "has no picture: take the row out")


def check_numbers(column: ArrowColumn) -> Shape:
    """The shape of all rows, whose numbers are not read.

    Raises:
        UserError: rows of other shapes, or missing numbers.
    """
    found: Shape | None = None
    for start, piece in column.pieces():
        shape = shape_of(piece, lambda row, what, start=start: column.refuse(start + row, what))  # type: ignore[misc]
        found = shape if found is None else found
        if shape != found:
            column.refuse(
                start, f"is of shape {list(shape)} where the first one is {list(found)}: rows of one shape are needed"
            )
    if found is None:
        raise UserError(f"{column.where} has no rows")
    return found


def read_classes(columns: Mapping[str, ArrowColumn]) -> tuple[dict[str, Tensor], list[str] | None]:
    """int64 `[N]` for every part by name, and the names of the classes where they have any.

    Words are numbered in the order of the alphabet, those of the training rows alone.

    Raises:
        UserError: a row without a class, or a class that no training row has.
    """
    first = columns["train"]
    names = _class_names(first.dataset, first.name)
    if not _is_text(first.type):
        return {part: _numbers(column, names) for part, column in columns.items()}, names
    names = sorted({word for _, words in _words(first) for word in words})
    numbers = {name: number for number, name in enumerate(names)}
    return {part: _numbered(column, numbers) for part, column in columns.items()}, names


def _numbers(column: ArrowColumn, names: Sequence[str] | None) -> Tensor:
    import pyarrow as pa

    label = np.empty(len(column), np.int64)
    for start, piece in column.pieces():
        if piece.null_count:
            column.refuse(start + first_null(piece), "has no class: take the row out, or set source.label=null")
        try:
            values = piece.cast(pa.int64()).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid as error:
            raise UserError(f"{column.where} holds a number that no 64 bits hold: set source.label=null") from error
        label[start : start + len(piece)] = values
    if names is not None:
        outside = np.flatnonzero((label < 0) | (label >= len(names)))
        if len(outside):
            column.refuse(
                int(outside[0]),
                f"is of class {label[outside[0]]}, and classes are 0 to {len(names) - 1} (-1 marks rows without one): "
                "take such rows out, or set source.label=null",
            )
    return torch.from_numpy(label)


def _numbered(column: ArrowColumn, numbers: Mapping[str, int]) -> Tensor:
    label = np.empty(len(column), np.int64)
    for start, words in _words(column):
        for row, word in enumerate(words, start):
            if word not in numbers:
                column.refuse(row, f"is of class '{printable(word)}', which no training row has")
            label[row] = numbers[word]
    return torch.from_numpy(label)


def _words(column: ArrowColumn) -> Any:
    """The words of some rows at a time, each with the number of its first row."""
    for start, piece in column.pieces():
        if piece.null_count:
            column.refuse(start + first_null(piece), "has no class: take the row out, or set source.label=null")
        yield start, [str(word) for word in piece.to_pylist()]
