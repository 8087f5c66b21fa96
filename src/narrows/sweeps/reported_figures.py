"""Which final figures a run can report, known from its config alone, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from narrows.compare.figure_names import CLASSICS, ROWS, SILENT, STDERR
from narrows.config.composition import choice_files
from narrows.errors import nearest


def why_not_reported(metric: str, config: DictConfig) -> str | None:
    """The reason why no run of this config reports a final figure `metric`; None if it does, or if that is not known.

    Figures of the validation and test split are the loss, its terms and the ELBO; tasks add figures of the test split.
    What a task or density of the user's own reports is not known.
    """
    stage, _, name = metric.partition("/")
    own = ["loss", *map(str, config.loss), "elbo"]
    if stage == "val":
        return None if name in own else _nearest(metric, [f"val/{term}" for term in own])
    if stage == "density":
        return None if config.get("density") is not None else "no density is fitted: choose one, density=gaussian"
    if stage != "test":
        return _nearest(metric, [f"{split}/{term}" for split in ("val", "test") for term in own])
    return None if name.removeprefix("other_labels/") in own else _why_not_of_tasks(metric, config.tasks, own)


def _why_not_of_tasks(metric: str, tasks: Mapping[str, Any], own: list[str]) -> str | None:
    of_loss = [f"test/{term}" for term in own]
    if not tasks:
        return f"there is no task, and {_nearest(metric, of_loss)}"
    targets = [str(node.get("_target_")) for node in tasks.values()]
    if not all(target.startswith("narrows.") for target in targets):
        return None
    parts = metric.removesuffix(STDERR).split("/")
    shipped = choice_files("task")
    if len(parts) > 2 and parts[1] in shipped:
        target = OmegaConf.select(OmegaConf.load(shipped[parts[1]]), "_target_")
        add = f"+task@tasks.{parts[1]}={parts[1]}"
        return None if target in targets else f"it is one of task {parts[1]}, which these runs do not have: {add}"
    known = [*of_loss, *(name for name in [*ROWS, *SILENT] if "*" not in name)]
    plain = "/".join(part for part in parts if part not in CLASSICS)
    return None if len(parts) > 2 or plain in known else _nearest(metric, known)


def _nearest(metric: str, known: list[str]) -> str:
    return nearest(metric, dict.fromkeys(known))
