"""The plan of a sweep, read from the `sweep` node of the config and the command line."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from narrows.errors import UserError, nearest, require
from narrows.sweeps.search_space import Parameter, grid, parameter, parse

SAMPLERS = {
    "random": "optuna.samplers.RandomSampler",
    "tpe": "optuna.samplers.TPESampler",
    "nsga2": "optuna.samplers.NSGAIISampler",
}
PRUNERS = {
    "median": "optuna.pruners.MedianPruner",
    "successive_halving": "optuna.pruners.SuccessiveHalvingPruner",
}
OTHERS = "for sweep=random, optuna and pareto"
DIRECTIONS = ("minimize", "maximize")
KEYS = (
    *("method", "sampler", "pruner", "params", "recipes", "objective", "direction", "objectives", "trials", "seed"),
    *("workers", "resume", "dry_run", "retry_failed", "dir"),
)
# Hydra's own settings of job directories and launchers are not options of a sweep.
OURS = ("hydra.sweep", "hydra.run", "hydra.mode", "hydra.launcher", "hydra/sweeper", "hydra/launcher", "hydra.job.num")


@dataclass(frozen=True)
class Plan:
    """Everything that determines the jobs of a sweep; equal plans mean the same sweep."""

    method: str
    parameters: tuple[Parameter, ...]
    fixed: tuple[str, ...]
    """Overrides that all jobs share."""
    objectives: dict[str, str]
    """Objectives: direction by metric, the most important first."""
    trials: int | None = None
    seed: int = 0
    sampler: dict[str, Any] = field(default_factory=dict)
    pruner: dict[str, Any] = field(default_factory=dict)
    """The pruner, as `method` and its options; empty if no run is pruned."""
    recipes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Named bundles of overrides; a grid runs every combination with each bundle."""

    @property
    def samples(self) -> bool:
        """Whether Optuna proposes the jobs, instead of a grid."""
        return self.method != "grid"

    @property
    def varied(self) -> list[str]:
        bundled = [_key(line) for lines in self.recipes.values() for line in lines]
        return [*dict.fromkeys(bundled), *(item.name for item in self.parameters)]

    @property
    def size(self) -> int:
        """The number of jobs."""
        return int(self.trials or 0) if self.samples else sum(1 for _ in self.jobs())

    def jobs(self) -> Iterator[tuple[str, ...]]:
        """The overrides of every job of a grid, the last parameter changing fastest.

        Raises:
            UserError: a parameter has infinitely many values.
        """
        for recipe in self.recipes.values() or [()]:
            for combination in grid(self.parameters):
                yield (*recipe, *combination)

    def identity(self) -> dict[str, Any]:
        """The part of the plan that identifies a sweep; a resumed one may be given more trials."""
        plain = asdict(self)
        del plain["trials"]
        plain["parameters"] = [f"{item.key}={item.text}" for item in self.parameters]
        plain["fixed"] = sorted(self.fixed)
        del plain["recipes"]
        if self.recipes:
            plain["recipes"] = {name: list(lines) for name, lines in self.recipes.items()}
        return plain


def split(arguments: Iterable[str], loader: ConfigLoader | None) -> tuple[list[Override], list[Override]]:
    """The overrides of the command line that are swept, and those that are fixed, without options of the sweep."""
    overrides = [o for o in parse(arguments, loader) if not _is_sweeps(o.key_or_group)]
    return [o for o in overrides if o.is_sweep_override()], [o for o in overrides if not o.is_sweep_override()]


def _is_sweeps(key: str) -> bool:
    return key == "sweep" or key.startswith(("sweep.", "sweep/"))


def make_plan(node: DictConfig, arguments: Iterable[str], loader: ConfigLoader | None = None) -> Plan:
    """The plan of a `sweep` node and the overrides of the command line, which take precedence.

    Raises:
        UserError: an option that does not exist or does not fit the method.
    """
    options: Any = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    for key in map(str, options):
        require(key in KEYS, f"sweep has no option '{key}': {nearest(key, KEYS)}")
    swept, fixed = split(arguments, loader)
    given = {_bare(override) for override in (*swept, *fixed)}
    named = parse((f"{key}={_written(value)}" for key, value in (options.get("params") or {}).items()), loader)
    named = [override for override in named if _bare(override) not in given]
    parameters = [parameter(o, options["seed"]) for o in (*named, *swept) if o.is_sweep_override()]
    lines = [str(o.input_line) for o in (*named, *fixed) if not o.is_sweep_override()]
    plan = Plan(
        method=str(options["method"]),
        parameters=tuple(parameters),
        fixed=tuple(lines),
        objectives=_objectives(options),
        trials=options.get("trials"),
        seed=options["seed"],
        sampler=dict(options.get("sampler") or {}),
        pruner=_pruner(options.get("pruner")),
        recipes=_recipes(options.get("recipes"), loader),
    )
    _check(plan)
    return plan


def _recipes(named: Mapping[str, Any] | None, loader: ConfigLoader | None) -> dict[str, tuple[str, ...]]:
    recipes = {}
    for name, lines in (named or {}).items():
        where = f"sweep.recipes.{name}"
        require(isinstance(lines, list) and bool(lines), f"{where} must be a list of overrides, not {lines!r}")
        swept = [str(o.input_line) for o in parse(lines, loader) if o.is_sweep_override()]
        require(not swept, f"{where}: {swept[0] if swept else ''} has several values; those belong in sweep.params")
        recipes[str(name)] = tuple(lines)
    return recipes


def _key(line: str) -> str:
    return line.partition("=")[0].lstrip("+~")


def _bare(override: Override) -> str:
    return override.get_key_element().lstrip("+~")


def _written(value: Any) -> str:
    return value if isinstance(value, str) else Override._get_value_element_as_str(value)


def _pruner(options: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if not options or options.get("method") in (None, "none") else dict(options)


def _objectives(options: Mapping[str, Any]) -> dict[str, str]:
    objectives = options.get("objectives") or {options.get("objective"): options.get("direction")}
    for metric, direction in objectives.items():
        require(isinstance(metric, str) and metric != "", "sweep.objective must name a metric, such as val/loss")
        require(
            direction in DIRECTIONS,
            f"sweep: no direction '{direction}' for {metric}: {nearest(str(direction), DIRECTIONS)}",
        )
    return {str(metric): str(direction) for metric, direction in objectives.items()}


def _check(plan: Plan) -> None:
    for option in ("seed", "trials"):
        value = getattr(plan, option)
        whole = isinstance(value, int) and not isinstance(value, bool)
        require(
            whole or (option == "trials" and value is None), f"sweep.{option} must be a whole number, not {value!r}"
        )
    if not plan.samples:
        _check_pruner(plan)
        require(plan.trials is None, f"sweep.trials is {OTHERS}: a grid runs every combination")
        require(not plan.sampler, f"sweep.sampler is {OTHERS}: a grid draws nothing")
        next(plan.jobs(), None)
        return
    require(not plan.recipes, f"sweep.recipes are for a grid, not for sweep.method={plan.method}")
    require(
        plan.trials is not None and plan.trials > 0,
        f"sweep.trials must be at least 1 with sweep.method={plan.method}, not {plan.trials}",
    )
    require(len(plan.parameters) > 0, "sweep: nothing to search; give KEY=interval(LOW,HIGH) or KEY=A,B")
    require(
        plan.method != "tpe" or len(plan.objectives) == 1,
        f"sweep.method={plan.method} has one objective, not {len(plan.objectives)}; sweep=pareto takes several",
    )
    _require_optuna(plan.method)
    _check_pruner(plan)
    make(plan.method, SAMPLERS, plan.sampler, "sweep.sampler")


def _require_optuna(method: str) -> None:
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(f"sweep.method={method} needs Optuna: pip install optuna") from error


def _check_pruner(plan: Plan) -> None:
    if not plan.pruner:
        return
    name = plan.pruner["method"]
    require(plan.samples, f"sweep/pruner={name}: a grid runs every job to its end; pruning is for sweep=optuna")
    require(
        len(plan.objectives) == 1,
        f"sweep/pruner={name}: runs with several objectives cannot be pruned; choose sweep/pruner=none",
    )
    metric = next(iter(plan.objectives))
    require(
        not metric.startswith("test/"),
        f"sweep/pruner={name}: {metric} is known only when a run has ended; choose a val/ objective, or "
        "sweep/pruner=none",
    )
    make(name, PRUNERS, _options(plan.pruner), "sweep.pruner")


def _options(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key != "method"}


def make_pruner(node: Mapping[str, Any]) -> Any:
    """The Optuna pruner of a `sweep/pruner` node."""
    return make(node["method"], PRUNERS, _options(node), "sweep.pruner")


def make(name: str, known: Mapping[str, str], options: Mapping[str, Any], where: str, **more: Any) -> Any:
    """An object of one of Optuna's classes, or of any class that can be imported, with these options.

    Raises:
        UserError: Optuna is not installed, or has no such class or option.
    """
    path = known.get(name, name)
    module, _, attribute = path.rpartition(".")
    names = ("grid", *SAMPLERS) if known is SAMPLERS else ("none", *PRUNERS)
    require(module != "", f"{where}: there is no method '{name}': {nearest(name, names)}")
    try:
        target = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise UserError(f"{where}: cannot import '{path}' ({error})") from error
    except AttributeError as error:
        raise UserError(f"{where}: {module} has no '{attribute}'") from error
    takes = [key for key in inspect.signature(target).parameters if key != "seed"]
    for key in options:
        require(key in takes, f"{where} has no option '{key}': {nearest(str(key), takes)}")
    try:
        return target(**options, **more)
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: {error}") from error
