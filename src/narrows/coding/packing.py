"""Packing examples into the bytes of a compressed file, and unpacking them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from narrows.coding.ans_entropy_coder import Whole
from narrows.coding.coding_tables import Tables, file_of, load_tables
from narrows.coding.example_files import Examples, shapes
from narrows.coding.model_codec import Codec, fingerprint, rounded
from narrows.coding.nrwz_file import Header, pack, unpack
from narrows.errors import UserError, require


def quantise(codec: Codec, examples: Examples, step: float | None) -> list[Whole]:
    """Quantise all examples; returns their streams, one after another."""
    parts = [rounded(codec.sources(group), step) for group in examples.groups]
    return [np.concatenate(stream) for stream in zip(*parts, strict=True)]


def pack_examples(tables: Tables, streams: list[Whole], examples: Examples) -> bytes:
    """The bytes of the compressed file of the examples, whose quantised latents are `streams`."""
    code = tables.encode(streams)
    header = Header(tables.model, tables.checksum, tables.step, examples.count, examples.layout)
    return pack(header, code)


def find_tables(codec: Codec, folder: Path, data: bytes, name: str) -> Tables:
    """The stored tables in `folder` with which the file `data`, called `name`, was written.

    Raises:
        UserError: a file that is damaged or of another model, or tables that are missing or do not match.
    """
    header, _ = unpack(data, name)
    own = fingerprint(codec.model)
    require(
        header.model == own,
        f"{name} was written by another model ({header.model.hex()}) than this run's ({own.hex()}): name its run",
    )
    tables = load_tables(folder, own, header.step)
    if tables is None or tables.checksum != header.tables:
        raise UserError(
            f"{name} was written with the coding tables {header.tables.hex()}, and {folder / file_of(header.step)} "
            f"{'is missing' if tables is None else 'holds others'}: use the run directory that wrote it"
        )
    return tables


def unpack_examples(codec: Codec, tables: Tables, data: bytes, name: str) -> tuple[Header, list[Whole]]:
    """The header and the streams of a compressed file.

    Raises:
        UserError: a file that is damaged, or that these tables did not write.
    """
    header, code = unpack(data, name)
    each = [codec.lengths(count, shape) for count, shape in shapes(header.layout, header.count)]
    try:
        return header, tables.decode(code, [sum(lengths) for lengths in zip(*each, strict=True)])
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def rebuild_examples(codec: Codec, header: Header, streams: list[Whole]) -> list[Tensor]:
    """The examples in groups of equal shape, means of p(x|z)."""
    groups: list[tuple[int, Any]] = shapes(header.layout, header.count)
    ends = [
        list(itertools.accumulate(column)) for column in zip(*(codec.lengths(*group) for group in groups), strict=True)
    ]
    pieces = [np.split(stream, end[:-1]) for stream, end in zip(streams, ends, strict=True)]
    return [
        codec.rebuild([piece[number] for piece in pieces], count, shape, header.step)
        for number, (count, shape) in enumerate(groups)
    ]
