"""New arrays: a .npy, an array of a .npz, or one in memory, laid out and scaled as the run's own were."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.coding.eight_bits import eight_bits
from narrows.data.array_keys import AUTO, find_training
from narrows.data.array_kinds import AXES
from narrows.data.array_scaling import ArrayScaling
from narrows.data.batch_loader import scaled
from narrows.data.dataset_files import array_names, locate, read_arrays
from narrows.data.float_precision import narrowed
from narrows.data.sources.arrays import lay_out, to_tensor
from narrows.errors import require
from narrows.files import replacing, require_file
from narrows.new_data.array_files import header_of, problem_texts, write_array
from narrows.new_data.examples import Chunk, NewData, Write
from narrows.new_data.pictures import drawn
from narrows.types import PIXELS

ARRAYS = (".npy", ".npz")


class NewArrays(NewData):
    """Examples `[N, ...]` of one array, as the run's own were: vectors, series with channels where the run says, images
    with or without an axis of channels. A large array stays in its file.
    """

    form = "arrays"

    @cached_property
    def key(self) -> str | None:
        """The array's key; None of a .npy or an array in memory."""
        if not isinstance(self.given, Path):
            return None
        require_file(self.path)
        names = array_names(self.path)
        if not names:
            return None
        asked = getattr(self.source, "x_key", AUTO)
        if asked != AUTO and asked in names:
            return str(asked)
        return find_training(names, self.path, "datamodule.source.x_key").x

    @cached_property
    def array(self) -> NDArray[Any]:
        """The examples as they are in the file, left in it where that is possible."""
        if not isinstance(self.given, Path):
            return np.asarray(self.given)
        key = self.key or "x"
        place = locate(self.path, key)
        return read_arrays(self.path, [key])[key] if isinstance(place, str) else place.opened()

    @property
    def where(self) -> str:
        """What messages call the array."""
        if not isinstance(self.given, Path):
            return "the array"
        return str(self.path) if self.key is None else f"array '{self.key}' of {self.path}"

    @property
    def _kind(self) -> str:
        kind = self.known.spec.kind
        if kind == "audio":
            return "series"
        return kind if kind in AXES else "vector"

    @property
    def _keeps_missing(self) -> bool:
        """Whether NaN is a missing value, as the run's own data say."""
        signals = getattr(self.source, "signals", None)
        return getattr(signals, "missing", "refuse") == "keep"

    @cached_property
    def _scaling(self) -> ArrayScaling | None:
        """How the run's own values were scaled, windows of signals too.

        Raises:
            UserError: each series was scaled by itself.
        """
        signals = self.known.signals
        if signals is None:
            return self.known.scaling
        found = signals.of_arrays()
        require(
            found is not None,
            f"{self.where} names no series, each of which was scaled by itself (signals.scale=each): give a table",
        )
        return found

    @cached_property
    def _channels_last(self) -> bool | None:
        return getattr(self.source, "channels_last", None)

    def chunks(self) -> Iterator[Chunk]:
        array, spec = self.array, self.known.spec
        require(array.ndim >= 1 and len(array) > 0, f"{self.where} has shape {list(array.shape)}: it holds no examples")
        require(
            array.ndim in AXES[self._kind],
            f"{self.where} has shape {list(array.shape)}, where examples of shape {list(spec.shape)} are due",
        )
        for start in range(0, len(array), self.known.rows):
            rows = np.array(array[start : start + self.known.rows])  # what is mapped cannot be written to
            x = self._read(rows)
            require(
                tuple(x.shape[1:]) == spec.shape,
                f"{self.where} holds examples of shape {list(x.shape[1:])}, and the run's are {list(spec.shape)}",
            )
            gone = x.isnan() if self._keeps_missing else torch.zeros_like(x, dtype=torch.bool)
            x = x.masked_fill(gone, 0.0)  # the mean, where values are standardised, as missing ones of signals are
            bad = ~x.isfinite().flatten(1).all(1) | gone.flatten(1).all(1)
            examples = [None if wrong else one for one, wrong in zip(x, bad.tolist(), strict=True)]
            said = ["it holds values that are NaN or infinite" if wrong else None for wrong in bad.tolist()]
            names = [str(row) for row in range(start, start + len(rows))]
            chunk = Chunk.of(names, examples, said, (start + len(rows)) / len(array))
            if chunk.batch is not None and gone.any():
                chunk.batch.observed = ~gone[~bad]
            yield chunk

    def _read(self, rows: NDArray[Any]) -> Tensor:
        """Rows of the array as the model reads them, float32 `[n, *shape]`."""
        kind, spec = self._kind, self.known.spec
        x: Tensor = to_tensor(lay_out(rows, kind, self._channels_last, self.where), kind, self.where)
        require(
            x.dtype != torch.uint8 or spec.value_range == (0.0, 1.0) or self._scaling is not None,
            f"{self.where} holds bytes, which are pictures, and the run's data are no pictures of bytes",
        )
        if self._scaling is not None:
            return self._scaling.apply(scaled(x, spec.kind))
        x = scaled(narrowed(x), spec.kind)
        if self.known.drawn is not None:
            return torch.stack([drawn(one, self.known.drawn) for one in x])
        return x

    def default_target(self) -> Path:
        return self.stem("reconstructed", self.path.suffix.lower() if self.path.suffix.lower() in ARRAYS else ".npy")

    @contextmanager
    def rebuilding(self, out: Path) -> Iterator[Write]:
        require(out.suffix.lower() in ARRAYS, f"arrays are written as .npy or .npz, which {out} is not by its name")
        problems: list[str | None] = []
        with replacing(out) as file:
            if out.suffix.lower() == ".npy":
                yield self._into(file, problems)
                return
            with zipfile.ZipFile(file, "w") as archive:
                with archive.open(f"{self.key or 'x'}.npy", "w", force_zip64=True) as member:
                    yield self._into(member, problems)
                if any(problems):
                    write_array(archive, "problem", problem_texts(problems))

    def _into(self, file: IO[bytes], problems: list[str | None]) -> Write:
        file.write(header_of(self.array.shape, self._own_dtype))

        def write(chunk: Chunk, rebuilt: Tensor | None) -> None:
            problems.extend(chunk.problems)
            if rebuilt is None:
                whole = np.full((len(chunk), *self.array.shape[1:]), np.nan, self._own_dtype)
            else:
                whole = chunk.spread(self.own_form(rebuilt, chunk), np.nan if self._own_dtype.kind == "f" else 0)
            file.write(np.ascontiguousarray(whole).tobytes())

        return write

    @property
    def _own_dtype(self) -> np.dtype[Any]:
        kept = self.array.dtype in (np.uint8, np.bool_) and self._kind in PIXELS
        return self.array.dtype if kept else np.dtype(np.float32)

    def own_form(self, rebuilt: Tensor, chunk: Chunk) -> Any:
        """`[M, *shape]` as the file holds it: axes in its order, bytes as bytes, numbers in their own units."""
        dtype = self._own_dtype
        values = rebuilt if self._scaling is None else self._scaling.undo(rebuilt)
        if dtype == np.bool_:
            found: NDArray[Any] = (values > 0.5).numpy()
        else:
            found = eight_bits(values) if dtype == np.uint8 else values.numpy().astype(dtype)
        if self.array.ndim < found.ndim:
            return found[:, 0]
        return np.moveaxis(found, 1, -1) if self._channels_last and found.ndim > 2 else found
