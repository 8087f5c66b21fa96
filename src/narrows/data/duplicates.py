"""Rows of the held-out splits that also stand in training: every figure of them flatters a model that remembers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.data.splits import Split
from narrows.data.stores import Store, cuts

MOST_BYTES = 2**30
"""Splits that take more are not searched, which would take seconds."""


def count_shared(splits: Mapping[str, Split]) -> dict[str, int] | None:
    """How many rows of each held-out split are, to the bit, rows of the training split; None if nobody has looked,
    because examples stay in their files or there are too many.

    Rows are compared by a quick sum first; only those whose sum is met in both are compared by a digest.
    """
    stores = {name: _judged(split, splits["train"]).comparable() for name, split in splits.items()}
    size = sum(store.dtype.itemsize * math.prod(store.shape) for store in stores.values())
    if size > MOST_BYTES or any(store.reads_files for store in stores.values()):
        return None
    sums = {name: _sums(store) for name, store in stores.items()}
    shared = {}
    for name, store in stores.items():
        if name == "train":
            continue
        here, there = _met(sums[name], sums["train"]), _met(sums["train"], sums[name])
        known = set(_digests(stores["train"], there))
        shared[name] = sum(digest in known for digest in _digests(store, here))
    return shared


def _judged(split: Split, train: Split) -> Store:
    """What is compared: of users who are trained on, too, the items that are judged."""
    part = split.part
    return part.x if part.target is None or train.part.target is not None else part.target


def _met(sums: NDArray[np.uint64], others: NDArray[np.uint64]) -> Tensor:
    """The rows whose sum is one of the others."""
    return torch.from_numpy(np.flatnonzero(np.isin(sums, others)))


def _sums(store: Store) -> NDArray[np.uint64]:
    """uint64 `[N]`: the words of each row, weighted and summed; equal rows have equal sums."""
    sums = [np.zeros(0, np.uint64)]
    for chunk in store.chunks():
        words = _words(chunk)
        weights = np.random.default_rng(0).integers(0, 2**64, words.shape[1], np.uint64) | np.uint64(1)
        sums.append(np.einsum("nw,w->n", words, weights))  # it wraps around, which is as good
    return np.concatenate(sums)


def _words(rows: Tensor) -> NDArray[np.uint64]:
    """uint64 `[n, ...]`: the bytes of each row, eight at a time."""
    flat = rows.cpu().contiguous().reshape(len(rows), -1).numpy().view(np.uint8)
    lacking = -flat.shape[1] % 8
    return (np.pad(flat, ((0, 0), (0, lacking))) if lacking else flat).view(np.uint64)


def _digests(store: Store, rows: Tensor) -> Iterator[bytes]:
    for cut in cuts((len(rows), *store.shape[1:]), store.dtype.itemsize):
        for words in _words(store.take(rows[cut])):
            yield hashlib.sha1(words.data, usedforsecurity=False).digest()


def describe(splits: Mapping[str, Split]) -> str:
    """The line of the splits: how many examples each holds, and how many of those held out stand in training too."""
    sizes = ", ".join(f"{name} {len(splits[name]):,}" for name in ("train", "validation", "test") if name in splits)
    shared = count_shared(splits)
    if shared is None:
        return f"splits: {sizes}"
    found = [f"{count:,} of {name}" for name, count in shared.items() if count]
    stand = "stands" if sum(shared.values()) == 1 else "stand"
    said = f"{' and '.join(found)} also {stand} in train" if found else "none of those held out also stands in train"
    return f"splits: {sizes}; {said}"
