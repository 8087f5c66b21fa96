"""The checks that every data set passes before it is split, and its fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from narrows.data.contents import Contents, Part
from narrows.data.float_precision import find_blurred, narrowed
from narrows.data.stores import Dense, Store, differs
from narrows.errors import UserError, require
from narrows.types import COUNTED

if TYPE_CHECKING:
    from narrows.data.tokenisers import Tokeniser

MOST_CLASSES = 1_000_000
"""Labels below this number classes; a larger one is a name or a number of something else."""


def check(contents: Contents) -> None:
    """Refuse contents that no model can be trained on.

    Raises:
        UserError: an empty part, more or fewer labels than examples, values that are not finite, or examples of
            different shapes.
    """
    for name, part in contents.parts().items():
        require(len(part) > 0, f"the {name} split is empty: it must hold at least one example")
        require(
            part.label is None or len(part.label) == len(part),
            f"the {name} split has {len(part)} examples but {0 if part.label is None else len(part.label)} "
            "labels: there must be one label for each example",
        )
        _check_shape(contents.train, part, name)
        _check_factors(contents.train, part, name)
        _check_target(part, name)
        _check_tokens(contents.tokeniser, part, name)
        for store in part.stores:
            if store.dtype.is_floating_point and not store.sparse:
                # What is too large for float32, in which models compute, becomes infinite there.
                chunks = store.chunks() if contents.columns is not None else map(narrowed, store.chunks())
                check_finite(chunks, name)


def _check_shape(train: Part, part: Part, name: str) -> None:
    wanted, found = list(train.x.shape[1:]), list(part.x.shape[1:])
    longer = differs(train.x) and differs(part.x) and wanted[:-1] == found[:-1]
    require(
        wanted == found or longer,
        f"the {name} split has examples of shape {found}, but the train split of shape {wanted}: "
        "all splits must have the same shape",
    )


def _check_target(part: Part, name: str) -> None:
    found = part.x.shape if part.target is None else part.target.shape
    require(
        found == part.x.shape,
        f"the {name} split has examples of shape {list(part.x.shape)} and targets of shape {list(found)}: "
        "every example needs a target of its own shape",
    )
    if part.target is not None and differs(part.x):
        one, other = part.x.lengths(slice(None)), part.target.lengths(slice(None))
        require(
            other is not None and one is not None and torch.equal(one, other),
            f"the {name} split has examples whose length is not that of their target",
        )


def _check_tokens(tokeniser: Tokeniser | None, part: Part, name: str) -> None:
    if tokeniser is None:
        return
    words = len(tokeniser.vocabulary)
    ends = [(int(chunk.min()), int(chunk.max())) for chunk in part.x.chunks()]
    require(
        all(low >= 0 and high < words for low, high in ends),
        f"the {name} split holds token ids from {min(ends)[0]} to {max(high for _, high in ends)}, but the vocabulary "
        f"has {words} tokens, from 0",
    )
    require(
        not differs(part.x) or tokeniser.end is not None,
        "token sequences that differ in length need an end mark: it is the vocabulary's first token",
    )


def _check_factors(train: Part, part: Part, name: str) -> None:
    wanted, found = (None if one.label is None else list(one.label.shape[1:]) for one in (train, part))
    require(
        found is None or wanted is None or wanted == found,
        f"the {name} split has labels of shape {found} for each example, but the train split of shape {wanted}: "
        "all splits must have the same factors",
    )


def check_finite(chunks: Iterable[Tensor], name: str) -> None:
    """Refuse NaN and infinity; the message says where the first one is.

    Args:
        chunks: the rows of the split, in order.

    Raises:
        UserError: the split `name` holds one.
    """
    count, start, first = 0, 0, None
    for chunk in chunks:
        bad = ~torch.isfinite(chunk)
        if bad.any():
            count += int(bad.sum())
            if first is None:
                row, *position = bad.nonzero()[0].tolist()
                first = (start + row, position)
        start += len(chunk)
    if first is not None:
        raise UserError(
            f"the {name} split holds {count} value{'s' if count > 1 else ''} that are NaN or infinite, the first "
            f"in row {first[0]} at position {first[1]}: clean the data, or fill in what is missing, first"
        )


def fingerprint(contents: Contents) -> str:
    """SHA-256 over name, dtype, shape and bytes of the examples, labels, targets and masks of every part, not over
    paths.

    Numbers of arrays and series in double precision count as the float32 that models see, unless that blurs them.
    The names of what is counted are content too. Examples that are computed are told by `contents.identity`.
    """
    digest = hashlib.sha256((contents.identity or "").encode())
    for name, part in contents.parts().items():
        digest.update(name.encode())
        if contents.identity is None:
            _feed_examples(digest, part.x, as_read=contents.columns is not None)
        for tensor in part.rest:
            if tensor is not None:
                _feed(digest, Dense(tensor))
        if part.covariates is not None:
            digest.update(b"|covariates")
            _feed(digest, Dense(part.covariates))
        if part.target is not None:
            digest.update(b"|target")
            _feed(digest, part.target)
        if part.anomalous is not None:
            digest.update(b"|anomalous")
            _feed(digest, part.anomalous)
    if contents.kind in COUNTED and contents.feature_names is not None:  # a word is what its column counts
        digest.update("\0".join(contents.feature_names).encode(errors="surrogatepass"))
    if contents.columns is not None:  # categories are stored as numbers, but their names are content too
        digest.update(repr(contents.columns).encode())
    return digest.hexdigest()


def _feed_examples(digest: hashlib._Hash, store: Store, *, as_read: bool) -> None:
    if as_read or store.dtype != torch.float64 or find_blurred(store.chunks()) is not None:
        _feed(digest, store)
        return
    digest.update(f"|{torch.float32}|{list(store.shape)}|".encode())
    for chunk in store.chunks():
        digest.update(narrowed(chunk).contiguous().numpy().data)


def _feed(digest: hashlib._Hash, store: Store) -> None:
    digest.update(f"|{store.dtype}|{list(store.shape)}|".encode())
    for values in store.bytes():
        digest.update(values)


def count_classes(contents: Contents) -> int | None:
    """One more than the largest label, so that labels index a table of this size; None if there are no labels, some are
    negative or at least `MOST_CLASSES`, which names no class, or they are factors."""
    labels = [part.label for part in contents.parts().values() if part.label is not None]
    if not labels or labels[0].ndim != 1 or min(int(label.min()) for label in labels) < 0:
        return None
    largest = max(int(label.max()) for label in labels)
    return 1 + largest if largest < MOST_CLASSES else None


def name_factors(contents: Contents) -> list[str] | None:
    """The name of each factor of variation; None if the labels are not factors."""
    label = contents.train.label
    if label is None or label.ndim != 2:
        return None
    return contents.factor_names or [f"factor{column}" for column in range(label.shape[1])]


def count_values(contents: Contents) -> list[int] | None:
    """The number of values of each factor of variation; None if the labels are not factors."""
    labels = [part.label for part in contents.parts().values() if part.label is not None]
    if not labels or labels[0].ndim != 2:
        return None
    return [len(column.unique()) for column in torch.cat(labels).unbind(1)]
