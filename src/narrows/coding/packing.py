"""Packing examples into the bytes of a compressed file, and unpacking them."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from narrows.coding.ans_entropy_coder import Whole
from narrows.coding.coding_tables import Tables, file_of, load_tables
from narrows.coding.example_files import Examples
from narrows.coding.file_layout import shapes
from narrows.coding.model_codec import Codec, check_step, fingerprint, rounded
from narrows.coding.nrwz_file import Header, pack, unpack
from narrows.errors import UserError, require

FREE = 2**24
"""Values that a file may hold however short its code is: examples that are all alike cost nothing."""


def quantise(codec: Codec, examples: Examples, step: float | None) -> list[Whole]:
    """Quantise all examples; returns their streams, one after another."""
    parts = [rounded(codec.sources(group), step) for group in examples.groups]
    return [np.concatenate(stream) for stream in zip(*parts, strict=True)]


def pack_examples(tables: Tables, streams: list[Whole], examples: Examples) -> bytes:
    """The bytes of the compressed file of the examples, whose quantised latents are `streams`, as many as their layout
    has codebooks.

    Raises:
        UserError: a file that `unpack_examples` would refuse.
    """
    code = tables.encode(streams, examples.layout.get("codebooks"))
    _require_room(tables, code, [len(stream) for stream in streams], 0, sum(group.numel() for group in examples.groups))
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
    try:
        check_step(codec.model, header.step)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
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
    groups = shapes(header.layout, header.count)
    try:
        tables.require_of(codec.streams, codec.codebooks)
        lengths = _sums([codec.lengths(*group) for group in groups])
        later = sum(codec.later_values(*group) for group in groups)
        _require_room(tables, code, lengths, later, sum(count * math.prod(shape) for count, shape in groups))

        def later_lengths(first: list[Whole]) -> list[int]:
            pieces = _pieces(first, [codec.lengths(*group) for group in groups])
            return _sums([codec.later_lengths(piece, *group) for piece, group in zip(pieces, groups, strict=True)])

        return header, tables.decode(code, lengths, later_lengths, codec.codebooks)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def _sums(each: Sequence[list[int]]) -> list[int]:
    return [sum(parts) for parts in zip(*each, strict=True)]


def _pieces(streams: Sequence[Whole], each: Sequence[list[int]]) -> list[list[Whole]]:
    """The part of every group in each stream, from the lengths that the groups have there."""
    ends = [list(itertools.accumulate(column)) for column in zip(*each, strict=True)]
    pieces = [np.split(stream, end[:-1]) for stream, end in zip(streams, ends, strict=True)]
    return [[piece[number] for piece in pieces] for number in range(len(each))]


def _require_room(tables: Tables, code: bytes, lengths: Sequence[int], later: int, values: int) -> None:
    """Refuse more examples than the code can hold, or than fit into memory, before any is decoded.

    Args:
        lengths: of the streams that are known.
        later: values in all other streams.
        values: of all examples together.
    """
    # The coder's state adds up to 64 bits, and its rounding up to 0.4% of every value's cost.
    possible = values <= FREE or 0.99 * tables.least_bits(lengths, later) <= 8 * len(code) + 64
    require(possible, f"{len(code)} bytes of code cannot hold {values:,} values: its header is wrong")
    bytes_due, memory = 8 * (values + sum(lengths) + later), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    require(
        bytes_due < memory,
        f"{values:,} values take {bytes_due / 1e9:.0f} GB of memory, and this machine has {memory / 1e9:.0f}: "
        "compress them in several parts",
    )


def rebuild_examples(codec: Codec, header: Header, streams: list[Whole]) -> list[Tensor]:
    """The examples in groups of equal shape, means of p(x|z).

    Raises:
        UserError: values that the model cannot decode.
    """
    groups: list[tuple[int, Any]] = shapes(header.layout, header.count)
    lengths = [codec.lengths(*group) for group in groups]
    first = _pieces(streams[: len(lengths[0])], lengths)
    later = [codec.later_lengths(piece, *group) for piece, group in zip(first, groups, strict=True)]
    rest = _pieces(streams[len(lengths[0]) :], later)
    return [
        codec.rebuild([*known, *told], *group, header.step)
        for known, told, group in zip(first, rest, groups, strict=True)
    ]
