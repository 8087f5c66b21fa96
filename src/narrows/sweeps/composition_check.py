"""Checking that every job of a sweep composes, before the first one starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from narrows.config.composition import check_keys, checked
from narrows.config.leftovers import clear
from narrows.config.origin import split_origin
from narrows.errors import require
from narrows.loading.permitted_classes import require_trusted
from narrows.loading.start_from import expand
from narrows.sweeps.reported_figures import why_not_reported
from narrows.sweeps.sweep_plan import Plan

MOST = 64
"""Up to this size, every job of a grid is composed; in larger spaces, every value is composed once."""


def check_jobs(plan: Plan, master: DictConfig, loader: ConfigLoader) -> None:
    """Compose the jobs in the same way as their own processes will.

    Raises:
        UserError: a key or an option that does not exist, a value of the wrong type, or an objective that no run has.
        HydraException: a choice that does not exist.
    """
    before: Any = HydraConfig.instance().cfg
    refusals: dict[str, list[str | None]] = {metric: [] for metric in plan.objectives}
    try:
        for overrides in samples(plan):
            job = expand([*plan.fixed, *overrides], config_folders(loader)).overrides
            left = clear(job, config_folders(loader))
            origin, _ = split_origin(job)
            allow = None if origin is None else origin.allow
            config = check_job(loader.load_sweep_config(master, [*left.overrides, *job]), allow)
            for metric, reasons in refusals.items():
                reasons.append(why_not_reported(metric, config))
    finally:
        HydraConfig.instance().cfg = before
    for metric, reasons in refusals.items():
        # A grid may hold jobs that do not have the figure by which the others are sorted.
        possible = None in reasons or not reasons
        require(possible, f"sweep.objective: no run will have the figure '{metric}': {next(filter(None, reasons), '')}")


def config_folders(loader: ConfigLoader) -> list[str]:
    """Further config folders of the command line (`--config-dir`)."""
    places = loader.get_search_path().get_path()
    return [str(item.path).removeprefix("file://") for item in places if item.provider == "command-line"]


def check_job(config: DictConfig, allow: Sequence[str] | None = None) -> DictConfig:
    """The resolved config of a job that Hydra has composed, after the checks of a single run.

    Args:
        allow: packages that the user vouches for, where the config comes from a file, which may name nothing else
            beside what narrows permits.
    """
    # References to Hydra's own config ("${hydra:...}") are resolved from here.
    HydraConfig.instance().cfg = config.copy()  # type: ignore[assignment]
    with open_dict(config):
        for key in ("hydra", "sweep", "from"):
            config.pop(key, None)
    if allow is not None:
        resolved = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
        assert isinstance(resolved, DictConfig)
        require_trusted(resolved, allow)
    return checked(config)


def samples(plan: Plan) -> Iterator[tuple[str, ...]]:
    """Jobs in which every value of every parameter occurs once, or all jobs if they are few."""
    if not plan.samples and plan.size <= MOST:
        yield from plan.jobs()
        return
    first = [_written(item.key, item.probes()[0]) for item in plan.parameters]
    recipes = list(plan.recipes.values()) or [()]
    for recipe in recipes:
        yield (*recipe, *first)
    for i, item in enumerate(plan.parameters):
        for value in item.probes()[1:]:
            yield (*recipes[0], *first[:i], _written(item.key, value), *first[i + 1 :])


def _written(key: str, value: str) -> str:
    return f"{key}={value}"


def check_sweep(master: DictConfig) -> None:
    """Check the options of the workers.

    Raises:
        UserError: one does not exist, or has the wrong type.
    """
    node = master.get("sweep")
    require(isinstance(node, DictConfig), "the config has no 'sweep', which -m needs")
    workers = OmegaConf.create({"workers": OmegaConf.to_container(node.workers, resolve=True)})
    require("_target_" in workers.workers, "sweep.workers is no component: it has no _target_")
    check_keys(OmegaConf.create({"sweep": workers}))
