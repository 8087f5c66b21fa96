"""Coding tables: fitted once to a run's training split, frozen, and stored in the run's `coding/`.

The files are `codes.json` for discrete latents, or `step_STEP.json` for every step used; `default.json` holds the step
that is used if none is given. Each file names the weights that it belongs to and carries its own checksum.

A density that a run fitted to its codes (`density=autoregressive`) is not used for coding: its probabilities are
floating-point sums, whose last bits depend on threads and machines, and a single wrong bit loses the rest of a file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from narrows.coding.ans_entropy_coder import Table, Whole, decode, encode, fit_table
from narrows.coding.model_codec import Codec, Source, check_step, discrete, fingerprint, rounded
from narrows.coding.nrwz_file import digest
from narrows.errors import UserError, require
from narrows.evaluation import EvaluationData, subset
from narrows.files import read_json, write_json

DEFAULT = "default.json"
VERSION = 1
VALUES = 20_000_000
"""Most latent values to which tables are fitted."""
FINENESS = 4
"""Steps per standard deviation of the latents, if nothing else decides the step."""


@dataclass(frozen=True)
class Tables:
    """The tables of all streams, for one model and one step."""

    model: bytes
    """Fingerprint."""
    step: float | None
    tables: tuple[Table, ...]

    @property
    def content(self) -> dict[str, Any]:
        """The values that are stored and covered by the checksum."""
        tables = [{"low": table.low, "frequencies": list(table.frequencies)} for table in self.tables]
        return {"version": VERSION, "model": self.model.hex(), "step": self.step, "tables": tables}

    @property
    def checksum(self) -> bytes:
        return digest(json.dumps(self.content, separators=(",", ":")).encode())

    def encode(self, streams: Sequence[Any], codebooks: int | None = None) -> bytes:
        """See `narrows.coding.ans_entropy_coder.encode`; `codebooks` of the streams alone, where it is not null."""
        self.require_of(len(streams), codebooks)
        return encode(streams, self.tables[:codebooks])

    def decode(
        self,
        code: bytes,
        lengths: Sequence[int],
        later: Callable[[list[Whole]], list[int]] | None = None,
        codebooks: int | None = None,
    ) -> list[Any]:
        """See `narrows.coding.ans_entropy_coder.decode`."""
        return decode(code, lengths, self.tables[:codebooks], later)

    def least_bits(self, lengths: Sequence[int], later: int = 0) -> float:
        """The fewest bits that streams of these lengths, and so many values in all others, take, if every value is the
        likeliest one."""
        least = [float(table.costs.min()) for table in self.tables]
        known = sum(length * bits for length, bits in zip(lengths, least, strict=False))
        return known + (later * min(least[len(lengths) :]) if later else 0.0)

    def require_of(self, streams: int, codebooks: int | None = None) -> None:
        """Refuse tables of another number of streams.

        Args:
            codebooks: how many of them are coded; null: all.

        Raises:
            UserError: says both numbers.
        """
        has = len(self.tables[:codebooks])
        require(has == streams, f"the coding tables are of {has} streams of numbers, and the model has {streams}")


def file_of(step: float | None) -> str:
    return "codes.json" if step is None else f"step_{step!r}.json"


def store(tables: Tables, folder: Path) -> None:
    """Write the tables below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / file_of(tables.step), tables.content | {"checksum": tables.checksum.hex()})


def load_tables(folder: Path, model: bytes, step: float | None) -> Tables | None:
    """The stored tables of that model and step; None if there are none, or they belong to other weights.

    Raises:
        UserError: a file that is damaged, or of another version.
    """
    path = folder / file_of(step)
    if not path.is_file():
        return None
    content = read_json(path)
    damaged = UserError(f"{path} is damaged: its checksum does not fit; take it away to have it fitted again")
    if not isinstance(content, dict):
        raise damaged
    version = content.get("version")
    require(version == VERSION, f"{path} is of version {version}, but this narrows reads version {VERSION}")
    try:
        tables = tuple(Table(int(part["low"]), tuple(map(int, part["frequencies"]))) for part in content["tables"])
        found = Tables(bytes.fromhex(content["model"]), content["step"], tables)
        fits = found.checksum.hex() == content["checksum"]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise damaged from error
    if not fits or not (found.step is None or _is_step(found.step)):
        raise damaged
    return found if (found.model, found.step) == (model, step) else None


class Fitted:
    """The tables of a run: the stored ones, or else fitted to its training split, which is encoded once, when needed.

    Args:
        codec: of the run's model, with all of its codebooks.
        folder: where they are stored; None to write nothing.
        data: returns the run's data.
    """

    def __init__(self, codec: Codec, folder: Path | None, data: Callable[[], EvaluationData]) -> None:
        self.codec, self.folder, self.data = codec, folder, data
        self.model = fingerprint(codec.model)

    @cached_property
    def sources(self) -> list[Source]:
        """The streams of the training split."""
        return training_sources(self.codec, self.data())

    def step(self, asked: float | None = None) -> float | None:
        """The given step, else the one that the latents were trained for, else the stored default, else a quarter of
        their root mean square deviation, which is then stored; None for discrete latents.

        Raises:
            UserError: a step for discrete latents, or one not above 0.
        """
        model = self.codec.model
        if asked is not None or discrete(model):
            check_step(model, asked)
            return None if asked is None else float(asked)
        if model.bottleneck.step is not None:
            return model.bottleneck.step
        path = None if self.folder is None else self.folder / DEFAULT
        found = read_json(path) if path is not None and path.is_file() else {}
        require(isinstance(found, dict), f"{path} is damaged: it holds no names and values; take it away")
        if found.get("model") == self.model.hex():
            require(_is_step(found.get("step")), f"{path} is damaged: it holds no step above 0; take it away")
            return float(found["step"])
        step = default_step(self.sources)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"model": self.model.hex(), "step": step})
        return step

    def tables(self, step: float | None) -> Tables:
        """Of that step."""
        found = None if self.folder is None else load_tables(self.folder, self.model, step)
        if found is None:
            found = Tables(self.model, step, self._fit(step))
            if self.folder is not None:
                store(found, self.folder)
        return found

    def _fit(self, step: float | None) -> tuple[Table, ...]:
        told, sizes = self.codec.told, self.codec.alphabets
        if told is not None:
            assert step is not None
            return (*map(fit_table, rounded(self.sources[: told.own], step)), *told.tables(step))
        whole = rounded(self.sources, step)
        if sizes is None:
            return tuple(fit_table(values) for values in whole)
        return tuple(fit_table(values, 0, size - 1) for values, size in zip(whole, sizes, strict=True))


def _is_step(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def default_step(sources: Sequence[Source]) -> float:
    """A quarter of the root mean square standard deviation of the streams, rounded to two digits."""
    spread = math.sqrt(float(np.mean([np.var(source.astype(np.float64)) for source in sources])))
    require(spread > 0, "the latents do not vary, so there is no step to quantise them with: choose one (--step)")
    return float(f"{spread / FINENESS:.2g}")


def training_sources(codec: Codec, data: EvaluationData) -> list[Source]:
    """The streams of the training split, or of evenly spaced rows of it if they would exceed `VALUES`."""
    size = data.spec.size
    rows = min(size, max(1, VALUES // math.prod(codec.model.latent_shape)))
    positions = torch.arange(rows) * size // rows
    parts = [codec.sources(batch.x) for batch in subset(data.ordered_loader("train"), positions)]
    return [np.concatenate(stream) for stream in zip(*parts, strict=True)]
