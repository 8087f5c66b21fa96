"""What a source returns: the examples of each official part of its data, before narrows splits them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import torch
from torch import Tensor

from narrows.data.stores import Dense, Store
from narrows.errors import nearest, require
from narrows.types import Kind, NamedPart

if TYPE_CHECKING:
    from narrows.data.cell_forms import LabelColumn
    from narrows.data.counting import Counting
    from narrows.data.table_columns import TableColumn
    from narrows.data.time_order import Timeline
    from narrows.data.tokenisers import Tokeniser, Tokens

Standardise = Literal["none", "standard", "minmax"]
ScalingMethod = Literal["none", "standard", "minmax", "robust", "quantile"]


@dataclass
class Scaling:
    """The scaling of a table's numeric columns, fitted on its training rows.

    Args:
        method: `standard`, `minmax`, `robust` (median and quartiles), `quantile` (to a standard normal) or `none`.
        clip: scaled numbers are clipped to [-clip, clip], because outliers of heavy-tailed columns would dominate a
            squared error; null does not clip.
    """

    method: ScalingMethod = "standard"
    clip: float | None = None

    def __post_init__(self) -> None:
        known = get_args(ScalingMethod)
        require(self.method in known, f"unknown scaling.method={self.method!r}: {nearest(str(self.method), known)}")
        require(self.clip is None or self.clip > 0, f"scaling.clip={self.clip} must be above 0, or null")


@dataclass(init=False)
class Part:
    """Examples and their labels.

    `x` is `[N, *shape]`: bytes of images are served divided by 255, token ids as int64, and everything else as float32.
    `label` is int64: classes `[N]` or factors of variation `[N, K]`. A plain tensor is wrapped as `Dense`.
    """

    x: Store
    label: Tensor | None
    observed: Tensor | None
    """bool, `x`'s shape: False where a value is missing, which a table's encoding fills in; None if none is missing."""
    concealed: Tensor | None
    """bool, `x`'s shape: True where a value of `x` is hidden on purpose: it counts as missing and is served as 0."""
    target: Store | None
    """What the output is compared with, `x`'s shape, where that is not `x` itself: items held out of a history, or the
    clean half of a pair."""
    names: list[str] | None
    """The name of each example, such as that of a user or a file; None where they have none."""
    covariates: Tensor | None
    """`[N, K, T]`, signals beside `x` that an input may read and that nothing rebuilds; NaN is a missing value."""
    anomalous: Store | None
    """uint8 `[N, 1, H, W]`, above 0 at pixels of defects. No batch holds it: tasks alone ask for it."""

    def __init__(
        self,
        x: Store | Tensor,
        label: Tensor | None = None,
        observed: Tensor | None = None,
        concealed: Tensor | None = None,
        target: Store | Tensor | None = None,
        names: list[str] | None = None,
        covariates: Tensor | None = None,
        anomalous: Store | Tensor | None = None,
    ) -> None:
        self.x = _store(x)
        self.label = label
        self.observed = observed
        self.concealed = concealed
        self.target = None if target is None else _store(target)
        self.names = names
        self.covariates = covariates
        self.anomalous = None if anomalous is None else _store(anomalous)

    def __len__(self) -> int:
        return len(self.x)

    def select(self, rows: Tensor) -> Part:
        """These rows, in this order."""
        part = self._with(lambda store: store.select(rows), lambda tensor: tensor.index_select(0, rows))
        part.names = None if self.names is None else [self.names[row] for row in rows.tolist()]
        return part

    def to(self, device: torch.device) -> Part:
        """The part on this device; examples that are read from files stay in them."""
        return self._with(lambda store: store.to(device), lambda tensor: tensor.to(device))

    @property
    def rest(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Label, `observed` and `concealed`, which accompany every example."""
        return self.label, self.observed, self.concealed

    @property
    def stores(self) -> list[Store]:
        """`x`, and `target` where there is one."""
        return [self.x] if self.target is None else [self.x, self.target]

    @property
    def reads_files(self) -> bool:
        """Whether examples stay in their files and are read for every batch."""
        return any(store.reads_files for store in self.stores)

    def _with(self, hold: Callable[[Store], Store], keep: Callable[[Tensor], Tensor]) -> Part:
        label, observed, concealed = (None if tensor is None else keep(tensor) for tensor in self.rest)
        target = None if self.target is None else hold(self.target)
        covariates = None if self.covariates is None else keep(self.covariates)
        anomalous = None if self.anomalous is None else hold(self.anomalous)
        return Part(hold(self.x), label, observed, concealed, target, self.names, covariates, anomalous)


def _store(values: Store | Tensor) -> Store:
    return Dense(values) if isinstance(values, Tensor) else values


@dataclass
class Contents:
    """The data of a source, as its `load()` returns them.

    `validation` and `test` are the official parts, or None. If `test` is None, the datamodule takes `test_fraction` of
    `train` as the test part (None: no test part). If `neighbours` is set, consecutive rows share samples (overlapping
    windows): parts are then cut in order and never shuffled, and `neighbours` rows are left out at every cut. If
    `groups` numbers the rows of `train` by what they belong to, such as a series, whole groups are held out, or with
    `neighbours` the last rows of each. The datamodule, which knows the training rows, fits `standardise` and, for a
    table with `columns`, the encoding by its `scaling`. If `rest_to_test` is set, rows that `train_labels` leaves out
    of training join the `test_fraction`.
    """

    kind: Kind
    train: Part
    validation: Part | None = None
    test: Part | None = None
    test_fraction: float | int | None = None
    """Of the rows, or their number where it is a whole number above 1."""
    train_labels: Sequence[int] | None = None
    neighbours: int | None = None
    groups: Tensor | None = None
    """int64 `[N]`; None where every row is on its own."""
    standardise: Standardise = "none"
    feature_names: list[str] | None = None
    covariate_names: list[str] | None = None
    factor_names: list[str] | None = None
    columns: list[TableColumn] | None = None
    scaling: Scaling | None = None
    label_column: LabelColumn | None = None
    """Where the labels of a table stand, and what stands for each class."""
    rest_to_test: bool = False
    class_names: list[str] | None = None
    """The name of each class, in the order of their numbers, where the files have names for them."""
    tokeniser: Tokeniser | None = None
    """What the source has encoded texts with, where the examples are tokens."""
    tokens: Tokens | None = None
    """How texts become tokens once their rows are divided; the examples are then the texts' own bytes."""
    counting: Counting | None = None
    """What is done with counts and interactions once their rows are divided."""
    timeline: Timeline | None = None
    """Where the rows of `train` and `test` lie in the series that they were cut from, if they are windows."""
    rate: int | None = None
    """Samples of a second, where the examples are sound."""
    named_parts: list[NamedPart] | None = None
    """The parts of multi-modal data, whose flattened values stand side by side in `x`; `standardise` is then "none"."""
    standardise_parts: list[Standardise] | None = None
    """How each of them is standardised."""
    pooled: str | None = None
    """Why the official parts must stay as they are, where pooling some of their rows would put what is held out into
    training; None: they may be pooled."""
    scale_each: bool = False
    """Whether `standardise` is fitted to each series of the timeline alone."""
    identity: str | None = None
    """What the examples are told by in the fingerprint, where they are computed, so that their last digits differ
    between processors; None: by their values."""
    reading: list[str] = field(default_factory=list)
    """One or two lines that say how the files were read (what was found, skipped, chosen), which every run prints
    before training and records: "images: 60 of 3 classes (0 cat, 1 dog, 2 fish), 32x32"."""

    @classmethod
    def of_parts(cls, kind: Kind, parts: Mapping[str, Part], fraction: float | int | None, **told: Any) -> Contents:
        """The contents of these official parts, by name; of the other fields `told` has some.

        Args:
            fraction: the `test_fraction`, where no test part is among them.
        """
        test = parts.get("test")
        fraction = fraction if test is None else None
        return cls(kind, parts["train"], parts.get("validation"), test, fraction, **told)

    def parts(self) -> dict[str, Part]:
        """The parts that exist, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in named.items() if part is not None}

    def with_parts(self, parts: Mapping[str, Part], **changed: Any) -> Contents:
        """These contents with other parts, by name, and what else has `changed`."""
        test = parts.get("test")
        return replace(self, train=parts["train"], validation=parts.get("validation"), test=test, **changed)


def shortened(names: Sequence[str], most: int = 5) -> str:
    """Names in a line for people: the first ones, and how many more there are."""
    more = f", ... {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class Source(Protocol):
    """The protocol of the datamodule's `source`."""

    def load(self) -> Contents: ...


def pool(first: Part, second: Part) -> Part:
    """Both parts as one; the rows of `second` follow those of `first`.

    Raises:
        UserError: one of them has targets and the other has none, or their stores differ.
    """
    require(
        (first.target is None) == (second.target is None),
        "examples with a target of their own and without one cannot be pooled: set validation=official and folds=null, "
        "which keeps the two splits apart",
    )
    pairs = zip(first.rest, second.rest, strict=True)
    label, observed, concealed = (torch.cat([a, b]) if a is not None and b is not None else None for a, b in pairs)
    target = None if first.target is None or second.target is None else first.target.join(second.target)
    names = None if first.names is None or second.names is None else first.names + second.names
    beside = [one.covariates for one in (first, second) if one.covariates is not None]
    covariates = torch.cat(beside) if len(beside) == 2 else None
    return Part(first.x.join(second.x), label, observed, concealed, target, names, covariates)
