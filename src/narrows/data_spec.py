"""What a model may know of its data."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass, field
from math import inf, isfinite, prod
from typing import Any, Literal

from narrows.errors import require

Shape = tuple[int, ...]
LARGEST = 2**40
"""Most values of one example."""
Kind = Literal["image", "volume", "video", "vector", "series", "tokens", "counts", "interactions", "audio", "features"]
PIXELS = ("image", "volume", "video")
"""Kinds whose bytes are levels of grey or of a colour, which are served divided by 255."""
COUNTED = ("counts", "interactions")
"""Kinds whose values are counts of something, 0 or more, most of them 0."""


@dataclass
class Column:
    """One column of a table, and the number of an example's values that belong to it."""

    name: str
    kind: Literal["numeric", "binary", "categorical"]
    width: int = 1
    """Number of values: that of the categories where the column is categorical (one-hot), the last for all those that
    no training row has; else 1."""


@dataclass
class NamedPart:
    """One part of multi-modal data: a run of an example's values, which have a shape and a kind of their own."""

    name: str
    shape: Shape
    kind: Kind
    value_range: tuple[float, float] | None = None
    """As `DataSpec.value_range`."""
    rate: int | None = None
    """Samples of a second, where the part is sound."""

    @property
    def size(self) -> int:
        """Number of values."""
        return prod(self.shape)


@dataclass
class DataSpec:
    """Description of the data, all that a model may know of them: `datamodule.spec` after `setup()`."""

    shape: Shape
    """Shape of one example: `(C, H, W)`, of volumes `(C, D, H, W)`, of video `(C, T, H, W)`; `(C, T)`, `(D,)` or
    `(T,)`; of `variable` data that of the longest in any split."""
    kind: Kind
    size: int
    """Number of training examples."""
    num_classes: int | None = None
    vocabulary: list[str] | None = None
    """The text of each token id, where the data are tokens."""
    feature_names: list[str] | None = None
    columns: list[Column] | None = None
    """Columns of a table, in the order of an example's values; None where the data are not a table."""
    factor_names: list[str] | None = None
    """Names of the labels' columns, where the labels are factors of variation `[B, K]`."""
    factor_sizes: list[int] | None = None
    """Number of values that each factor takes."""
    value_range: tuple[float, float] | None = None
    """Smallest and largest value that the scaled data can take; one of them may be infinite (counts: `(0, inf)`). None
    where the data are unbounded on both sides."""
    variable: bool = False
    """Whether examples differ in length; their batches then have a `length`."""
    totals: tuple[float, float] | None = None
    """Mean and standard deviation of the logarithm of the training examples' library sizes, where the data are
    counts."""
    covariates: list[str] | None = None
    """Names of the signals that stand beside the examples and are not rebuilt; None where there are none."""
    rate: int | None = None
    """Samples of a second, where the data are sound."""
    parts: list[NamedPart] | None = None
    """The parts of multi-modal data, in the order in which an example `[D]` holds their flattened values; else None."""
    fingerprint: str = ""
    """SHA-256 of the content (not the path) of all splits."""
    trained_labels: list[int] | None = field(default=None, compare=False)
    """Classes that training and validation are restricted to (the test split may hold others); None means all. It is
    not compared between specs: a run recorded without it is of the same data."""
    class_names: list[str] | None = field(default=None, compare=False)
    """The name of each class, in the order of their numbers, where the files have names for them."""
    end: int | None = None
    """The token id that ends every example, where the data are tokens and differ in length; else None."""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Smallest and largest value, where both are finite; else None."""
        found = self.value_range
        return found if found is not None and all(map(isfinite, found)) else None

    @property
    def slices(self) -> dict[str, slice]:
        """Where each part's values stand in an example `[D]`, by its name; empty where the data have no parts."""
        parts = self.parts or []
        ends = list(itertools.accumulate((part.size for part in parts), initial=0))
        return {part.name: slice(start, end) for part, start, end in zip(parts, ends, ends[1:], strict=False)}

    def of_part(self, name: str) -> DataSpec:
        """What is known of a part alone."""
        part = next(part for part in self.parts or [] if part.name == name)
        return DataSpec(
            part.shape,
            part.kind,
            self.size,
            self.num_classes,
            value_range=part.value_range,
            rate=part.rate,
            class_names=self.class_names,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for the manifest; an infinite end of the range becomes None."""
        values = asdict(self)
        for one in (values, *(values["parts"] or [])):
            if one["value_range"] is not None:
                one["value_range"] = tuple(end if isfinite(end) else None for end in one["value_range"])
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DataSpec:
        values = dict(values)
        values["shape"] = tuple(values["shape"])
        values["value_range"] = _range(values.get("value_range"))
        if values.get("parts") is not None:
            values["parts"] = [
                NamedPart(**{**part, "shape": tuple(part["shape"]), "value_range": _range(part.get("value_range"))})
                for part in values["parts"]
            ]
        if values.get("totals") is not None:
            values["totals"] = tuple(values["totals"])
        if values.get("columns") is not None:
            values["columns"] = [Column(**column) for column in values["columns"]]
        found = cls(**values)
        found.check()
        return found

    def check(self) -> None:
        """Refuse numbers that describe no data.

        Raises:
            UserError: names the field.
        """
        require(
            len(self.shape) > 0 and all(axis >= 1 for axis in self.shape) and prod(self.shape) <= LARGEST,
            f"shape {list(self.shape)} must have axes of at least 1, of at most 2^40 values together",
        )
        words = len(self.vocabulary or [])
        require(
            self.end is None or 0 <= self.end < words,
            f"the end mark has the id {self.end}, but the vocabulary holds {words} tokens",
        )
        require(self.size >= 0, f"size must not be negative, but it is {self.size}")
        counts = [self.num_classes or 0, *(column.width for column in self.columns or [])]
        require(all(count >= 0 for count in counts), f"numbers of classes or categories must not be negative: {counts}")
        require(self.rate is None or self.rate >= 1, f"the sampling rate must be at least 1, but it is {self.rate}")
        for bounds in (self.value_range, *(part.value_range for part in self.parts or [])):
            low, high = bounds or (0, 1)
            require(low <= high, f"value_range must go from the smallest to the largest, but is {bounds}")
        require(
            self.parts is None or self.shape == (sum(part.size for part in self.parts),),
            f"parts of {[part.size for part in self.parts or []]} values do not fill examples of shape "
            f"{list(self.shape)}",
        )


def _range(ends: Any) -> tuple[float, float] | None:
    """A range as it was before `to_dict`."""
    if ends is None:
        return None
    low, high = ends
    return (-inf if low is None else low, inf if high is None else high)
