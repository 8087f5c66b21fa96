"""The differences between two runs, as plain data. Imports nothing heavy."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Any

from narrows.config.plain_yaml import flatten

Pair = tuple[Any, Any]


class Missing:
    """The type of `MISSING`, which stands for the value of a key that one side does not have."""

    def __repr__(self) -> str:
        return "(absent)"

    def __reduce__(self) -> str:
        return "MISSING"


MISSING = Missing()


def equal(a: Any, b: Any) -> bool:
    """Equality of recorded values: NaN equals NaN, and `true` is not 1."""
    if isinstance(a, bool) != isinstance(b, bool):
        return False
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return True
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


def pairs(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Pair]:
    """The keys of two flat mappings whose values differ, in the order of `a`, then of `b`."""
    keys = dict.fromkeys([*a, *b])
    both = {key: (a.get(key, MISSING), b.get(key, MISSING)) for key in keys}
    return {key: pair for key, pair in both.items() if not equal(*pair)}


def config_differences(a: Mapping[Any, Any], b: Mapping[Any, Any]) -> dict[str, Pair]:
    """The dotted keys in which two resolved configs differ, each with both values, `MISSING` where a side has none."""
    return pairs(flatten(a), flatten(b))


def surroundings_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, dict[str, Pair]]:
    """The differences in code, versions, hardware and data between two manifests.

    There are always four sections, `code`, `versions`, `hardware` and `data`, with readable names and both values.
    """
    sections = {"code": _code, "versions": _versions, "hardware": _hardware, "data": _data}
    return {name: pairs(read(a), read(b)) for name, read in sections.items()}


def _code(manifest: Mapping[str, Any]) -> dict[str, Any]:
    git = _mapping(manifest.get("git"))
    known = {"narrows": manifest.get("narrows"), "commit": git.get("commit"), "source": manifest.get("source")}
    if "diff" in git:
        known["uncommitted changes"] = summary_of_diff(str(git["diff"]))
    return _without_none(known)


def summary_of_diff(text: str) -> str:
    """A `git diff` summed up in one line that ends with its digest, so that equal lines mean equal diffs."""
    if not text.strip():
        return "none"
    lines = text.splitlines()
    added = sum(line.startswith("+") and not line.startswith("+++") for line in lines)
    removed = sum(line.startswith("-") and not line.startswith("---") for line in lines)
    files = sum(line.startswith("diff --git ") for line in lines)
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{files} file{'s' * (files != 1)} +{added} -{removed} ({digest})"


def _versions(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The versions of all packages but narrows, which `code` has; names normalised, as some occur with `_` and `-`."""
    packages = {str(k).lower().replace("_", "-"): v for k, v in _mapping(manifest.get("versions")).items()}
    packages.pop("narrows", None)
    return _without_none({"python": manifest.get("python")}) | packages


HARDWARE = {
    "os": "operating system",
    "host": "host",
    "cpu": "processor",
    "cores": "cores",
    "threads": "threads",
    "gpus": "GPUs",
    "cuda": "CUDA",
    "driver": "driver",
}


def _hardware(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return _renamed(_mapping(manifest.get("hardware")), HARDWARE)


DATA = {
    "fingerprint": "fingerprint",
    "shape": "shape",
    "kind": "kind",
    "size": "training examples",
    "num_classes": "classes",
    "vocabulary": "vocabulary",
    "feature_names": "feature names",
    "factor_names": "factor names",
    "factor_sizes": "values of the factors",
    "value_range": "value range",
    "trained_labels": "labels trained on",
    "variable": "different lengths",
    "totals": "library sizes",
}
NOT_ALWAYS_RECORDED = {"variable": False, "totals": None}
"""Values for data whose manifest was written before these keys existed."""


def _data(manifest: Mapping[str, Any]) -> dict[str, Any]:
    recorded = _without_none(_mapping(manifest.get("data")))
    return _renamed(NOT_ALWAYS_RECORDED | recorded if recorded else recorded, DATA)


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    order: Iterable[str] = dict.fromkeys([*(key for key in names if key in values), *map(str, values)])
    return {names.get(key, key): values[key] for key in order if key in values}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
