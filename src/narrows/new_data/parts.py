"""New multi-modal examples: a .npz that holds an array of each part, or of some, by the part's name."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.coding.eight_bits import eight_bits
from narrows.data.array_scaling import ArrayScaling
from narrows.data.batch_loader import unit
from narrows.data.dataset_files import array_names, read_arrays
from narrows.data.float_precision import narrowed
from narrows.errors import UserError, nearest, require
from narrows.files import replacing, require_file
from narrows.new_data.array_files import problem_texts, write_array
from narrows.new_data.examples import Chunk, NewData, Write
from narrows.types import Batch, DataSpec, NamedPart

Arrays = dict[str, NDArray[Any]]


class NewParts(NewData):
    """Examples of named parts, each an array `[N, *shape]` under its name; a part that the file does not hold, or a row
    of NaN, is missing, and reconstructions make it from the others. Python gives a dictionary of arrays.
    """

    form = "parts"

    @cached_property
    def arrays(self) -> Arrays:
        """By part, those that are there, all of as many rows."""
        spec = self.known.spec
        names = [part.name for part in spec.parts or []]
        require(self.known.drawn is None, "narrows reads no new examples of parts that were drawn black or white")
        if isinstance(self.given, Mapping):
            found = {str(name): np.asarray(values) for name, values in self.given.items()}
        else:
            right = isinstance(self.given, Path) and self.given.suffix.lower() == ".npz"
            require(
                right,
                f"a run on multi-modal data reads a .npz with arrays named {', '.join(names)} (in Python a dictionary "
                f"of them); what is missing is left out: {self.called} is none",
            )
            require_file(self.path)
            found = read_arrays(self.path, array_names(self.path))
        for name in found:
            require(name in names, f"{self.called} has an array '{name}': {nearest(name, names)}")
        require(bool(found), f"{self.called} holds none of the parts {', '.join(names)}")
        counts = {name: len(values) if values.ndim else 0 for name, values in found.items()}
        require(
            len(set(counts.values())) == 1 and min(counts.values()) > 0,
            f"the arrays of {self.called} hold {counts} rows: there must be as many of each part, at least one",
        )
        return found

    def chunks(self) -> Iterator[Chunk]:
        count = len(next(iter(self.arrays.values())))
        for start in range(0, count, self.known.rows):
            rows = slice(start, min(start + self.known.rows, count))
            x, observed = self._read(rows)
            bad = x.isinf().any(1) | ~observed.any(1)
            said = [None if not wrong else "it holds no part, or infinite values" for wrong in bad.tolist()]
            kept = (~bad).nonzero()[:, 0]
            batch = Batch(x[kept], observed=observed[kept]) if len(kept) else None
            names = [str(row) for row in range(rows.start, rows.stop)]
            yield Chunk(names, said, batch, kept.numpy(), rows.stop / count)

    def _read(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Rows as the model reads them, `[n, D]` with 0 where a value is missing, and which are there."""
        spec, size = self.known.spec, rows.stop - rows.start
        pieces = []
        for part in spec.parts or []:
            values = self.arrays.get(part.name)
            missing = torch.full((size, part.size), torch.nan)
            pieces.append(missing if values is None else self._of_part(part, np.array(values[rows])))
        x = torch.cat(pieces, 1)
        observed = ~x.isnan()
        if self.known.scaling is not None:
            x = self.known.scaling.apply(x)
        return narrowed(x).masked_fill(~observed, 0.0), observed

    def _of_part(self, part: NamedPart, values: NDArray[Any]) -> Tensor:
        wanted = tuple(part.shape)
        plain = values.dtype.kind in "biuf"
        require(plain, f"array '{part.name}' of {self.called} is of type {values.dtype}: numbers are needed")
        shape = tuple(values.shape[1:])
        alike = shape == wanted or (len(wanted) > 1 and wanted[0] == 1 and shape == wanted[1:])
        require(
            alike,
            f"array '{part.name}' of {self.called} holds examples of shape {list(shape)}, and the run's are "
            f"{list(wanted)}",
        )
        x = torch.from_numpy(np.ascontiguousarray(values))
        pictures = part.kind == "image" and x.dtype in (torch.uint8, torch.bool)
        x = unit(x) if pictures and x.dtype == torch.uint8 else x.to(torch.float64 if not pictures else torch.float32)
        return x.flatten(1)

    def default_target(self) -> Path:
        return self.stem("reconstructed", ".npz")

    @contextmanager
    def rebuilding(self, out: Path) -> Iterator[Write]:
        require(out.suffix.lower() == ".npz", f"parts are written as a .npz, which {out} is not by its name")
        problems: list[str | None] = []
        rows: list[Tensor] = []

        def write(chunk: Chunk, rebuilt: Tensor | None) -> None:
            problems.extend(chunk.problems)
            whole = torch.full((len(chunk), *self.known.spec.shape), torch.nan)
            if rebuilt is not None:
                whole[torch.from_numpy(chunk.rows)] = rebuilt
            rows.append(whole)

        yield write
        extra = {"problem": problem_texts(problems)} if any(problems) else {}
        bytes_of = [name for name, values in self.arrays.items() if values.dtype == np.uint8]
        write_parts(out, torch.cat(rows), self.known.spec, self.known.scaling, extra, bytes_of)

    def own_form(self, rebuilt: Tensor, chunk: Chunk) -> Any:
        """A dictionary of arrays, by part."""
        return as_arrays(rebuilt, self.known.spec, self.known.scaling)


def as_arrays(x: Tensor, spec: DataSpec, scaling: ArrayScaling | None, bytes_of: Any = ()) -> Arrays:
    """Examples `[N, D]` as an array `[N, *shape]` of each part in its own units, float32, or uint8 where asked."""
    values = x.double() if scaling is None else scaling.undo(x)
    found: Arrays = {}
    for part in spec.parts or []:
        own = values[:, spec.slices[part.name]].unflatten(1, part.shape)
        if part.name in bytes_of and not own.isnan().any():
            found[part.name] = eight_bits(own.float())
        else:
            found[part.name] = own.numpy().astype(np.float32)
    return found


def write_parts(
    path: Path,
    x: Tensor,
    spec: DataSpec,
    scaling: ArrayScaling | None,
    extra: Mapping[str, NDArray[Any]],
    bytes_of: Any = (),
) -> None:
    """Write examples `[N, D]` to a .npz with an array of each part, and further arrays.

    Raises:
        UserError: a part has the name of one of these.
    """
    arrays = as_arrays(x, spec, scaling, bytes_of)
    for name in extra:
        if name in arrays:
            raise UserError(f"a part is called '{name}', as what stands beside the parts is")
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, values in (*arrays.items(), *extra.items()):
            write_array(archive, name, values)
