"""Names of earlier versions: a run that they recorded is read as one of today's. The one table of old and new."""

from __future__ import annotations

from typing import Any

ROOMS = {
    "narrows.module": "narrows.training",
    "narrows.loggers": "narrows.training",
    "narrows.callbacks": "narrows.training.callbacks",
    "narrows.model": "narrows.models",
    "narrows.mixed": "narrows.likelihoods",
    "narrows.priors.vamp": "narrows.models",
    "narrows.priors": "narrows.densities",
}
"""Where the components of a former module or package are now, under the names they had."""
PACKAGES = (
    *("narrows.bottlenecks", "narrows.data", "narrows.decoders", "narrows.encoders", "narrows.losses"),
    *("narrows.models", "narrows.sweeps", "narrows.tasks"),
)
"""Packages whose components were named by their files: `narrows.encoders.mlp.MLPEncoder`."""


def current_target(target: str) -> str:
    """Today's name of a component; a name that no earlier version recorded is returned as it is."""
    module, _, name = target.rpartition(".")
    while module:
        if module in ROOMS:
            return f"{ROOMS[module]}.{name}"
        if module in PACKAGES:
            return f"{module}.{name}"
        module = module.rpartition(".")[0]
    return target


def current_config(node: Any) -> Any:
    """A recorded config, or a part of one, with today's names."""
    if isinstance(node, list):
        return [current_config(item) for item in node]
    if not isinstance(node, dict):
        return node
    renamed = {key: current_config(value) for key, value in node.items()}
    if isinstance(target := renamed.get("_target_"), str):
        renamed["_target_"] = current_target(target)
    return renamed
