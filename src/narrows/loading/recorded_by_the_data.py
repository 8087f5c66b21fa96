"""What a run's data were read with, kept beside it so that new data are read in exactly the same way: the encoding of a
table, the vocabulary of documents, the tokeniser of texts, the scaling of arrays, of signals and of features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from narrows.config.plain_schema import require_fits
from narrows.errors import UserError, first_line, require
from narrows.files import read_json, write_json
from narrows.runs.file_names import ENCODING, SCALING, SEEN, SIGNALS, TOKENISER, VOCABULARY

LARGEST_SIDE = 2**16
"""Of a picture that a run's features are of."""

if TYPE_CHECKING:
    from narrows.data.array_scaling import ArrayScaling
    from narrows.data.feature_splits import Seen
    from narrows.data.signal_scaling import SignalScaling
    from narrows.data.table_scaling_and_encoding import Encoding
    from narrows.data.tokenisers import Tokeniser
    from narrows.data.vocabulary import Vocabulary


def save(data: Any, run: Path) -> None:
    """Write a datamodule's encoding, scaling, vocabulary and tokeniser, where it has them."""
    kept = {"encoding": ENCODING, "vocabulary": VOCABULARY, "tokeniser": TOKENISER}
    kept |= {"scaling": SCALING, "signals": SIGNALS, "seen": SEEN}
    for attribute, name in kept.items():
        found = getattr(data, attribute, None)
        if found is not None:
            write_json(run / name, found.to_dict())


def load_encoding(run: Path) -> Encoding:
    """The encoding of a run's table.

    Raises:
        UserError: the run was not trained on a table, or the file is damaged.
    """
    import numpy as np

    from narrows.data.table_columns import TableColumn
    from narrows.data.table_scaling_and_encoding import Encoding

    path = run / ENCODING
    absent = f"{run} has no encoding of a table: runs of datamodule=table have one"
    with _read(path, absent) as values:
        found = Encoding.from_dict(values)
        require_fits(list[TableColumn], found.columns, f"{path}, columns,")
        require(
            len(found.fill) == len(found.feature_names), f"{path} is damaged: fill must hold a value of each feature"
        )
        row = np.zeros((1, len(found.columns)))
        found.decode(found.encode(row, row > 0)[0].double().numpy())
    return found


def load_vocabulary(run: Path) -> Vocabulary:
    """The vocabulary of a run's documents.

    Raises:
        UserError: the run was not trained on documents, or the file is damaged.
    """
    from narrows.data.vocabulary import Vocabulary, Words

    path = run / VOCABULARY
    with _read(path, f"{run} has no vocabulary: runs of datamodule=documents have one") as values:
        require_fits(list[str], values["words"], f"{path}, words,")
        found = Vocabulary.from_dict(values)
        require_fits(Words, found.how, f"{path}, how,")
        require(len(set(found.words)) == len(found.words) > 0, f"{path} is damaged: its words must differ")
    return found


def load_tokeniser(run: Path) -> Tokeniser:
    """The tokeniser of a run's texts.

    Raises:
        UserError: the run was not trained on tokens, or the file is damaged.
    """
    from narrows.data.tokenisers import Tokeniser

    path = run / TOKENISER
    with _read(path, f"{run} has no tokeniser: runs on text, such as datamodule=text, have one") as values:
        try:
            found = Tokeniser.from_dict(values)
            found.encode("a" if found.unknown is not None else "")
        except UserError as error:
            raise UserError(f"{path} is damaged ({error})") from error
    return found


def load_scaling(run: Path, channels: int) -> ArrayScaling:
    """How a run's arrays were standardised.

    Args:
        channels: features or channels of an example.

    Raises:
        UserError: they were not, or before narrows recorded it, or the file is damaged.
    """
    import math

    from narrows.data.array_scaling import ArrayScaling

    path = run / SCALING
    with _read(path, f"{run} does not say how its data were standardised") as values:
        found = ArrayScaling(**values)
        require_fits(ArrayScaling, found, f"{path},")
        right = len(found.shift) == len(found.scale) == channels
        require(right, f"{path} is damaged: shift and scale must hold {channels} numbers each")
        usable = all(map(math.isfinite, found.shift)) and all(math.isfinite(one) and one > 0 for one in found.scale)
        require(usable, f"{path} is damaged: it holds a number that nothing is scaled by")
    return found


def load_signals(run: Path) -> SignalScaling:
    """How the windows of a run's signals were scaled and cut.

    Raises:
        UserError: the run was not trained on windows of signals, or the file is damaged.
    """
    import math

    from narrows.data.signal_scaling import SignalScaling

    path = run / SIGNALS
    with _read(path, f"{run} was not trained on windows of signals") as values:
        found = SignalScaling(**values)
        require_fits(SignalScaling, found, f"{path},")
        rows = 1 if found.series is None else len(found.series)
        for name, table in {"shift": found.shift, "scale": found.scale}.items():
            width = len(found.channels) + len(found.covariates)
            right = len(table) == rows and all(len(row) == width for row in table)
            require(right, f"{path} is damaged: {name} must hold {rows} rows of {width} numbers")
            require(
                all(math.isfinite(value) and (name == "shift" or value > 0) for row in table for value in row),
                f"{path} is damaged: {name} holds a number that nothing is scaled by",
            )
        require(found.window >= 1, f"{path} is damaged: window must be at least 1")
    return found


def load_seen(run: Path, channels: int) -> Seen:
    """What the features of a run's pictures were computed with.

    Args:
        channels: features of a position.

    Raises:
        UserError: the run was not trained on features, or before narrows recorded it, or the file is damaged.
    """
    import math

    from narrows.data.feature_splits import Seen

    path = run / SEEN
    with _read(path, f"{run} does not say how its features were scaled") as values:
        found = Seen(**values)
        require_fits(Seen, found, f"{path},")
        sides = len(found.shape) == 3 and all(1 <= side <= LARGEST_SIDE for side in found.shape)
        require(sides, f"{path} is damaged: shape must be channels, height and width of a picture")
        shift, scale = (found.shift or []), (found.scale or [])
        right = (found.shift is None) == (found.scale is None) and len(shift) == len(scale) in (0, channels)
        require(right, f"{path} is damaged: shift and scale must hold {channels} numbers each, or be null")
        usable = all(map(math.isfinite, shift)) and all(math.isfinite(one) and one > 0 for one in scale)
        require(usable, f"{path} is damaged: it holds a number that nothing is scaled by")
    return found


@contextmanager
def _read(path: Path, absent: str) -> Iterator[Any]:
    """What a file holds; what goes wrong with it is a damage of the file.

    Raises:
        UserError: there is none, which `absent` says, or it is damaged.
    """
    require(path.is_file(), absent)
    try:
        yield read_json(path)
    except UserError:
        raise
    # Of scikit-learn's, not fitted is a kind of value error and of attribute error.
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise UserError(f"{path} is damaged ({first_line(error)}): it is written by narrows train") from error
