"""New examples as a trained run reads them: some at a time, in the order of their file, the bad ones in their place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.data import Loading
from narrows.types import Batch, DataSpec

if TYPE_CHECKING:
    from narrows.data import ArrayScaling, Encoding, SignalScaling, Tokeniser, Vocabulary

MOST_ROWS = 500
"""Examples of a chunk."""
MOST_VALUES = 2**22
"""Values of a chunk: 16 MiB as float32, of which a model makes some hundred times as many activations."""
ENDINGS = (".gz", ".xz", ".bz2", ".zip", ".zst")
"""Endings of names that say how a file is packed, not what it is."""

Write = Callable[["Chunk", Tensor | None], None]
"""Writes what a model made of a chunk's readable examples, `[M, *any]`; None where there are none."""


@dataclass(frozen=True)
class Known:
    """What a run recorded of its data, by which new ones are read."""

    spec: DataSpec
    scaling: ArrayScaling | None = None
    encoding: Encoding | None = None
    vocabulary: Vocabulary | None = None
    tokeniser: Tokeniser | None = None
    signals: SignalScaling | None = None
    drawn: int | None = None
    """The seed by which grey values are drawn black or white (`datamodule.binarise`); None where they are not."""
    most: int = 2**31
    """Examples of a chunk, where something else is made of them that takes more memory."""

    @property
    def rows(self) -> int:
        """Examples of a chunk, which bounds the memory whatever is read."""
        bounds = self.most, MOST_VALUES // prod(self.spec.shape), Loading().rows_at_once(self.spec)
        return max(1, min(MOST_ROWS, *bounds))


@dataclass
class Chunk:
    """Some new examples, in the order of their file."""

    names: list[str]
    """Of each example, `[N]`."""
    problems: list[str | None]
    """Why an example could not be read, or what is odd about it, `[N]`."""
    batch: Batch | None
    """Those that could be read, `[M]`; None if none could."""
    rows: NDArray[np.int64]
    """Their places among all, `[M]`, ascending."""
    done: float = 0.0
    """Share of the data read so far."""
    beside: Any = field(default=None, repr=False)
    """What reconstructions of this form of data are written beside, such as the rows of a table."""

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        examples: Sequence[Tensor | None],
        problems: Sequence[str | None],
        done: float,
        beside: Any = None,
    ) -> Chunk:
        """Examples `[*shape]` of one shape, None where one could not be read."""
        rows = np.array([row for row, one in enumerate(examples) if one is not None], dtype=np.int64)
        good = [one for one in examples if one is not None]
        return cls(list(names), list(problems), Batch(torch.stack(good)) if good else None, rows, done, beside)

    def __len__(self) -> int:
        return len(self.names)

    def spread(self, values: NDArray[Any], empty: Any) -> NDArray[Any]:
        """Values of the readable examples `[M, ...]` in the places of all `[N, ...]`, `empty` for the others."""
        found = np.full((len(self), *values.shape[1:]), empty, dtype=values.dtype)
        found[self.rows] = values
        return found


class NewData(ABC):
    """New data of one form: how they are read, and how reconstructions of them are written.

    Args:
        source: the run's own source, whose options say how its files are read.
        given: a path, or in Python an array or a frame.
    """

    form: ClassVar[str]
    """What such data are called in messages."""

    def __init__(self, source: Any, known: Known, given: Any) -> None:
        self.source, self.known, self.given = source, known, given
        self.called = str(given) if isinstance(given, Path) else f"the {type(given).__name__}"
        """What messages call the data."""

    @property
    def path(self) -> Path:
        """The file or folder."""
        assert isinstance(self.given, Path)
        return self.given

    def name_of(self, file: Path) -> str:
        """What a file of the data is called: its way from the folder, or its own name."""
        return file.relative_to(self.path).as_posix() if self.path.is_dir() else file.name

    @abstractmethod
    def chunks(self) -> Iterator[Chunk]:
        """All examples in order, a bounded number at a time.

        Raises:
            UserError: nothing can be read at all; what is wrong with single examples stands in the chunk.
        """

    @abstractmethod
    def default_target(self) -> Path:
        """The place of reconstructions that nobody named, beside the data."""

    @abstractmethod
    def rebuilding(self, out: Path) -> AbstractContextManager[Write]:
        """What writes reconstructions `[M, *shape]` in the data's own form to `out`, which appears once it is complete.

        Raises:
            UserError: `out` has an ending in which they cannot be written.
        """

    @abstractmethod
    def own_form(self, rebuilt: Tensor, chunk: Chunk) -> Any:
        """Reconstructions `[M, *shape]` in the data's own units: an array, a frame, or texts."""

    def stem(self, word: str, ending: str) -> Path:
        """The path beside the data whose name says what it holds: `photos` and `reconstructed` give
        `photos.reconstructed`."""
        return stem_of(self.path, word, ending)


KNOWN = (
    *(".csv", ".tsv", ".txt", ".text", ".parquet", ".pq", ".npy", ".npz", ".jsonl", ".ndjson", ".json"),
    *(".mtx", ".svm", ".svmlight", ".libsvm", ".h5ad", ".smi", ".smiles", ".selfies"),
    *(".mp4", ".avi", ".mov", ".mkv", ".webm"),
    *(".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff"),
    *(".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"),
)
"""Endings that say what a file is: others, such as that of log.2026-11-27, belong to its name."""


def stem_of(path: Path, word: str, ending: str) -> Path:
    """See `NewData.stem`."""
    name = Path(path.resolve().name)
    while name.suffix.lower() in ENDINGS:
        name = name.with_suffix("")
    known = not path.is_dir() and name.suffix.lower() in KNOWN
    named = path if path.name not in ("", "..") else path.resolve()
    return named.with_name(f"{name.stem if known else name.name}.{word}{ending}")
