"""Names of earlier versions: a run that they recorded is read as one of today's. The words that users typed stand in
`narrows.config.old_words`; here are those that only records hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from narrows.config.old_words import current_choice, current_figure, current_key, current_override

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
CLASSES = {
    "narrows.corruptions.Clean": "narrows.corruptions.NoCorruption",
    "narrows.corruptions.FeatureDropout": "narrows.corruptions.SwapNoise",
    "narrows.bottlenecks.UniformNoise": "narrows.bottlenecks.EntropyBottleneck",
    "narrows.losses.DeadReconstruction": "narrows.losses.AuxK",
    "narrows.losses.NestedReconstruction": "narrows.losses.MatryoshkaReconstruction",
    "narrows.tasks.Features": "narrows.tasks.Probe",
}
"""Components with another name, in the rooms where they are now."""
RENAMED_WITH = {
    "loss.dead": "narrows.losses.AuxK",
    "loss.nested": "narrows.losses.MatryoshkaReconstruction",
    "tasks.features": "narrows.tasks.Probe",
}
"""Places in a config that have another name where they hold this component of today: elsewhere it is the user's own."""

Value = TypeVar("Value")


def current_target(target: str) -> str:
    """Today's name of a component; a name that no earlier version recorded is returned as it is."""
    moved = _in_its_room(target)
    return CLASSES.get(moved, moved)


def _in_its_room(target: str) -> str:
    module, _, name = target.rpartition(".")
    while module:
        if module in ROOMS:
            return f"{ROOMS[module]}.{name}"
        if module in PACKAGES:
            return f"{module}.{name}"
        module = module.rpartition(".")[0]
    return target


IDENTITY = {"_target_": "narrows.inputs.Identity", "_partial_": True}
INDICATOR = {"_target_": "narrows.inputs.MissingIndicator", "_partial_": True}
LATER_FIGURES = {"narrows.tasks.Reconstruction": {"at_draw": False, "pca_90": False}}
"""By task, the options that it had not had when it reported less: a run recorded without them is repeated as it was."""
INDICATOR_MODEL = "narrows.models.MissingIndicatorAutoencoder"


def current_config(values: Any) -> Any:
    """A recorded config with today's names and structure."""
    return _without_later_figures(_with_input(_current(values)))


def _without_later_figures(values: Any) -> Any:
    """The config, whose tasks report what they did when it was recorded."""
    tasks = values.get("tasks") if isinstance(values, dict) else None
    if not isinstance(tasks, dict):
        return values
    recorded = {
        name: LATER_FIGURES.get(str(node.get("_target_")), {}) | node if isinstance(node, dict) else node
        for name, node in tasks.items()
    }
    return values | {"tasks": recorded}


def _with_input(values: Any) -> Any:
    """The config, whose encoder reads an input; what is no config of a run is left as it is.

    Before there were inputs an encoder read x itself, and that of the model `missing_indicator` also which values it
    sees.
    """
    model = values.get("model") if isinstance(values, dict) else None
    if not isinstance(model, dict) or "input" in values or "encoder" not in values:
        return values
    if model.get("_target_") != INDICATOR_MODEL:
        return values | {"input": dict(IDENTITY)}
    return values | {"model": model | {"_target_": "narrows.models.Autoencoder"}, "input": dict(INDICATOR)}


def _current(node: Any, place: str = "") -> Any:
    """A part of a recorded config, at `place`, with today's names."""
    if isinstance(node, list):
        return [_current(item, f"{place}[]") for item in node]
    if not isinstance(node, dict):
        return current_figure(node) if place.endswith(".monitor") and isinstance(node, str) else node
    renamed: dict[Any, Any] = {}
    for key, value in node.items():
        inside = f"{place}.{key}".removeprefix(".")
        today = _current(value, inside)
        name = key
        if isinstance(key, str) and current_key(inside) != inside and _is_ours(inside, today):
            name = current_key(inside).rpartition(".")[2]
        renamed[key if name in node else name] = today
    if isinstance(target := renamed.get("_target_"), str):
        renamed["_target_"] = current_target(target)
    return renamed


def _is_ours(place: str, node: Any) -> bool:
    """Whether an earlier version gave this place its name, and not a user."""
    known = RENAMED_WITH.get(place)
    return known is None or (isinstance(node, Mapping) and node.get("_target_") == known)


def current_figures(figures: Mapping[str, Value]) -> dict[str, Value]:
    """Recorded figures under today's names."""
    return {current_figure(name): value for name, value in figures.items()}


def current_term(name: str) -> str:
    """Today's name of a term of a loss, among the figures of a step."""
    return current_figure(f"train/{name}").removeprefix("train/")


def current_sweep(record: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded sweep with today's names."""
    found, plan = dict(record), dict(record["plan"])
    found["arguments"] = [current_override(text) for text in record["arguments"]]
    plan["parameters"] = [current_override(text) for text in plan["parameters"]]
    plan["fixed"] = sorted(current_override(text) for text in plan["fixed"])
    plan["objectives"] = current_figures(plan["objectives"])
    if "recipes" in plan:
        plan["recipes"] = {name: [current_override(text) for text in lines] for name, lines in plan["recipes"].items()}
    return found | {"plan": plan}


def current_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded manifest with today's names; a part that is not as narrows writes it stays as it is."""
    found = dict(manifest)
    if isinstance(choices := found.get("choices"), dict):
        found["choices"] = {
            current_key(str(key)): current_choice(str(key).partition("@")[0], choice)
            if isinstance(choice, str)
            else choice
            for key, choice in choices.items()
        }
    for name, current in (("overrides", current_override), ("evaluated", current_figure)):
        if isinstance(texts := found.get(name), list):
            found[name] = [current(text) if isinstance(text, str) else text for text in texts]
    sweep = found.get("sweep")
    if isinstance(sweep, dict) and isinstance(varied := sweep.get("varied"), list):
        found["sweep"] = sweep | {"varied": [current_key(key) if isinstance(key, str) else key for key in varied]}
    return found
