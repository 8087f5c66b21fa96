"""What a source gives: the examples of each part that its makers fixed, before any split of ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import torch
from torch import Tensor

from narrows.errors import UserError, nearest, require
from narrows.types import Kind, Shape

if TYPE_CHECKING:
    from narrows.data.table_columns import TableColumn

Standardise = Literal["none", "standard", "minmax"]
ScalingMethod = Literal["none", "standard", "minmax", "robust", "quantile"]


@dataclass
class Scaling:
    """How the numeric columns of a table are scaled, by its training rows.

    Args:
        method: `standard`, `minmax`, `robust` (median and quartiles), `quantile` (to a standard normal) or `none`.
        clip: where scaled numbers are cut, on both sides: a squared error sees little else than the outliers of
            heavy-tailed columns; null: nowhere.
    """

    method: ScalingMethod = "standard"
    clip: float | None = None

    def __post_init__(self) -> None:
        known = get_args(ScalingMethod)
        require(self.method in known, f"unknown scaling.method={self.method!r}: {nearest(str(self.method), known)}")
        require(self.clip is None or self.clip > 0, f"scaling.clip={self.clip} must be above 0, or null")


class Stream:
    """Images that are read from their files whenever they are asked for, because they do not fit memory.

    Args:
        paths: one file per example.
        read: `read(path) -> uint8 [C, H, W]`; raises `UserError` where a file is broken. Picklable, for
            loader workers; its `repr` names every choice that changes a pixel (it goes into the fingerprint).
    """

    dtype = torch.uint8

    def __init__(self, paths: Sequence[str], read: Callable[[str], Tensor], shape: Shape) -> None:
        self.paths = list(paths)
        self.read = read
        self.shape = torch.Size((len(self.paths), *shape))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Tensor:
        return self.read(self.paths[row])

    def __getitems__(self, rows: Tensor) -> Tensor | UserError:
        # The error travels as a value: raised inside a loader worker it would come out as a page of traceback.
        try:
            return torch.stack([self[row] for row in rows.tolist()])
        except UserError as error:
            return error

    def index_select(self, dim: int, rows: Tensor) -> Stream:
        """The stream of these rows, in this order; `dim` is always 0, as in `Tensor.index_select`."""
        return Stream([self.paths[row] for row in rows.tolist()], self.read, tuple(self.shape[1:]))


class Packed:
    """Black and white examples held as bits, an eighth of their bytes.

    Args:
        bits: uint8 `[N, ceil(D / 8)]`, the first value of an example in the highest bit, as `numpy.packbits`
            writes them.
        shape: of one example, with D values.
    """

    dtype = torch.uint8

    def __init__(self, bits: Tensor, shape: Shape) -> None:
        self.bits = bits
        self.shape = torch.Size((len(bits), *shape))

    def __len__(self) -> int:
        return len(self.bits)

    @property
    def device(self) -> torch.device:
        return self.bits.device

    def to(self, device: torch.device) -> Packed:
        return Packed(self.bits.to(device), tuple(self.shape[1:]))

    def index_select(self, dim: int, rows: Tensor) -> Packed:
        """These rows, in this order; `dim` is always 0, as in `Tensor.index_select`."""
        return Packed(self.bits.index_select(0, rows), tuple(self.shape[1:]))

    def unpack(self, rows: Tensor | slice = slice(None)) -> Tensor:
        """These rows as uint8, 0 or 255, `[len(rows), *shape]`."""
        places = torch.arange(7, -1, -1, dtype=torch.uint8, device=self.device)
        values = (self.bits[rows].unsqueeze(-1) >> places).bitwise_and_(1).mul_(255).flatten(1)
        shape = self.shape[1:]
        return values[:, : math.prod(shape)].reshape(-1, *shape)


@dataclass
class Part:
    """Examples and their labels.

    `x` is uint8 (served divided by 255) or float32 (served as it is), `[N, *shape]`; `label` int64, classes
    `[N]` or factors of variation `[N, K]`.
    """

    x: Tensor | Stream | Packed
    label: Tensor | None = None
    observed: Tensor | None = None
    """bool, `x`'s shape: False where the value is missing (None: none is); a table's encoding fills it in."""
    concealed: Tensor | None = None
    """bool, `x`'s shape: True where `x` holds a value that is missing on purpose: not `observed`, and served as 0."""

    def __len__(self) -> int:
        return len(self.x)

    def select(self, rows: Tensor) -> Part:
        return Part(self.x.index_select(0, rows), *(None if t is None else t.index_select(0, rows) for t in self.rest))

    @property
    def rest(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """What goes with every example."""
        return self.label, self.observed, self.concealed


@dataclass
class Contents:
    """All that `load()` found.

    `validation` and `test` are the official parts, None where there is none. Where `test` is None the
    datamodule takes `test_fraction` of `train` (None: no test part). Where `neighbours` is set, consecutive
    rows share samples (overlapping windows): parts are then cut in order, never shuffled, and so many rows
    are left out at every cut. `standardise` is fitted by the datamodule, which knows the training rows, and so is
    the encoding of a table, whose `columns` say what the values of `x` are, by its `scaling`. Where `rest_to_test`
    is set, rows that `train_labels` leaves out of training join the `test_fraction`.
    """

    kind: Kind
    train: Part
    validation: Part | None = None
    test: Part | None = None
    test_fraction: float | None = None
    train_labels: Sequence[int] | None = None
    neighbours: int | None = None
    standardise: Standardise = "none"
    feature_names: list[str] | None = None
    factor_names: list[str] | None = None
    columns: list[TableColumn] | None = None
    scaling: Scaling | None = None
    rest_to_test: bool = False

    def parts(self) -> dict[str, Part]:
        """The parts that exist, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in named.items() if part is not None}


class Source(Protocol):
    """What the datamodule's `source` is."""

    def load(self) -> Contents: ...


def pool(first: Part, second: Part) -> Part:
    """Both parts as one: the rows of `second` are numbered after those of `first`."""
    pairs = zip(first.rest, second.rest, strict=True)
    rest = [torch.cat([a, b]) if a is not None and b is not None else None for a, b in pairs]
    if isinstance(first.x, Stream) and isinstance(second.x, Stream):
        paths = first.x.paths + second.x.paths
        return Part(Stream(paths, first.x.read, tuple(first.x.shape[1:])), *rest)
    if isinstance(first.x, Packed) and isinstance(second.x, Packed):
        return Part(Packed(torch.cat([first.x.bits, second.x.bits]), tuple(first.x.shape[1:])), *rest)
    assert isinstance(first.x, Tensor)
    assert isinstance(second.x, Tensor)
    return Part(torch.cat([first.x, second.x]), *rest)
