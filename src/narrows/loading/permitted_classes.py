"""The classes that the config of a run may name, because the run may come from a stranger.

A config is a program: Hydra imports and calls whatever a `_target_` names, and its own list of forbidden names does not
protect (`torch.load`, `pathlib.Path.write_text` and `pip.main` pass). A *recorded* config may therefore name only what
is permitted here. Every `_target_`, anywhere in the config,

1. is plain text, a dotted name without private parts, in a permitted module, which is checked *before* anything is
   imported: an import executes code, and the current directory is on Python's path;
2. is exactly one name of one module, because `torch.nn.modules.module.warnings.sys.exit` leads out of the module;
3. resolves to an object that is itself defined in a permitted module, and Hydra finds the same object: a re-exported
   name is judged by where it was defined;
4. is a class that configs are made of: in narrows a public class of a package of components (or a function that a
   shipped config names), in torch a module, optimiser or scheduler, in torchvision a module, in Lightning the Trainer
   and what is listed in `LIGHTNING`.

So nothing is called that loads files, fetches models, starts processes or writes where the config says:
`ModelCheckpoint`, profilers, DeepSpeed and Lightning's own loggers are refused. Packages that the user names
(`--allow PKG`) are permitted as a whole, but not what they merely import.

References (`${...}`) are refused: a recorded config is resolved, and a resolver may read the environment.

Other options: the Trainer's `logger`, `callbacks` and `default_root_dir` are replaced by narrows' own, so that its
profilers write below the run directory. Paths of data have to be read; their content can leave the machine only through
loggers, and `narrows reproduce`, `resume=` and `from=` drop those that talk to servers (`wandb`, `mlflow` with
its `tracking_uri`) and download no data unless they are told where to. A config can still ask for more memory or time
than there is.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from narrows.config.composition import config_dir, find_object
from narrows.config.plain_yaml import nodes, read_yaml, require_plain
from narrows.errors import UserError, nearest, printable, require
from narrows.loading.working_directory import importable
from narrows.runs.old_names import current_config

ROOMS = (
    *("models", "inputs", "encoders", "decoders", "bottlenecks", "densities", "likelihoods", "corruptions"),
    *("losses", "schedules", "data", "tasks"),
    *("layers.feature_networks", "layers.feature_maps"),
    *("training.lightning_module", "training.learning_rate", "training.loggers", "training.tensorboard"),
    *("training.callbacks", "new_data.latents_source"),
)
"""The modules and packages of narrows whose public classes configs compose."""
FACES = ("training", "layers", "new_data")
"""Packages that export classes of such modules beside other classes, which no config may name."""
KINDS = {
    "torch.nn": ("torch.nn.Module",),
    "torch.optim": ("torch.optim.Optimizer", "torch.optim.lr_scheduler.LRScheduler"),
    "torchvision.models": ("torch.nn.Module",),
    "torchvision.ops": ("torch.nn.Module",),
    "torchvision.transforms": ("torch.nn.Module",),
}
"""By permitted package of a library, the base classes of its permitted classes."""
LIGHTNING = {
    "lightning.pytorch": ("Trainer",),
    "lightning.pytorch.callbacks": (
        *("DeviceStatsMonitor", "EarlyStopping", "EMAWeightAveraging", "GradientAccumulationScheduler"),
        *("LearningRateMonitor", "ModelSummary", "RichModelSummary", "RichProgressBar"),
        *("StochasticWeightAveraging", "ThroughputMonitor", "Timer", "TQDMProgressBar", "WeightAveraging"),
    ),
    "lightning.pytorch.strategies": ("DDPStrategy", "FSDPStrategy", "SingleDeviceStrategy"),
}
"""Lightning's classes that neither read nor write at a path given by an argument."""
OWN_LOGGERS = ("narrows.training.CSVHistory", "narrows.training.TensorBoard")
"""Loggers that write only in the run directory."""
NAME = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+", re.ASCII)


def read_config(path: Path) -> DictConfig:
    """A recorded config: plain values without references.

    Raises:
        UserError: it is missing, not YAML, too large, or holds a reference.
    """
    try:
        values = read_yaml(path)
    except OSError as error:
        raise UserError(f"cannot read the config {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} {' '.join(str(error).split())}") from error
    require(isinstance(values, dict) and bool(values), f"{path} is no config: it holds no keys")
    _require_resolved(values, str(path))
    for key in ("hydra", "defaults"):
        require(key not in values, f"{path} is no resolved config: it has '{key}'; give the config.yaml of a run")
    config = OmegaConf.create(current_config(values))
    assert isinstance(config, DictConfig)
    return config


def _require_resolved(values: Any, where: str) -> None:
    for path, _, value in nodes(values):
        require(
            not isinstance(value, str) or "${" not in value,
            f"{where}: {shown(path)} refers to something ({shown(value)}), but a recorded config is resolved; "
            "write the value itself",
        )


def require_trusted(config: DictConfig, allow: Sequence[str] = ()) -> None:
    """Refuse a config that names anything but permitted components; nothing that is refused is imported.

    Args:
        allow: packages that the user vouches for, such as `["mylab"]`.

    Raises:
        UserError: names the key in the config, the target, and the option that would permit it.
    """
    allow = [allow] if isinstance(allow, str) else allow
    for package in allow:
        require(NAME.fullmatch(f"{package}.x") is not None, f"--allow {shown(package)}: no name of a package")
    values = OmegaConf.to_container(config, resolve=False, throw_on_missing=False)
    try:
        require_plain(values)
    except ValueError as error:
        raise UserError(f"the config {error}") from error
    _require_resolved(values, "the config")
    found = [(shown(path), value) for path, key, value in nodes(values) if key == "_target_"]
    # Check all names before the first import, because importing a module can change what other names mean.
    for path, target in found:
        require(isinstance(target, str), f"{path} must be the name of a component, not {shown(repr(target))}")
        _require_permitted_name(path, target, allow)
    with importable(allow):
        for path, target in found:
            _require_component(path, target, allow)


def _require_permitted_name(path: str, target: str, allow: Sequence[str]) -> None:
    """Refuse a target by its name alone, before anything is imported."""
    module = target.rpartition(".")[0]
    if NAME.fullmatch(target) is None or not (_is_place(module) or _within(target, allow)):
        raise _refusal(path, target)


def _is_place(module: str) -> bool:
    """Whether `module` may hold permitted components."""
    if module in ("lightning", "lightning.pytorch"):
        return True
    if module in [f"narrows.{face}" for face in FACES]:
        return True
    rooms = [f"narrows.{room}" for room in ROOMS]
    return _within(module, [*rooms, *KINDS, *(place for place in LIGHTNING if place != "lightning.pytorch")])


def _require_component(path: str, target: str, allow: Sequence[str]) -> None:
    vouched = _within(target, allow)
    found = _object(path, target) if vouched else _attribute(path, target)
    home = str(getattr(found, "__module__", None) or type(found).__module__)
    if not ((vouched and _within(home, allow)) or _is_component(target, found, home)):
        raise _refusal(path, target, "" if home == target.rpartition(".")[0] else f", which is of {home},")


def _attribute(path: str, target: str) -> Any:
    """The object of one name in one module, which is the same that Hydra would call."""
    module, _, name = target.rpartition(".")
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{path}: '{target}' is no name of a module: cannot import '{module}'") from error
    namespace = vars(found)
    if name in namespace.get("__all__", ()):
        # Packages of narrows load what they export at first access.
        namespace = {public: getattr(found, public) if public == name else None for public in namespace["__all__"]}
    if name not in namespace:
        raise UserError(f"{path}: {module} has no '{name}': {nearest(name, (n for n in namespace if n[0] != '_'))}")
    if _object(path, target) is not namespace[name]:
        raise _refusal(path, target)
    return namespace[name]


def _object(path: str, target: str) -> Any:
    try:
        return find_object(target)
    except Exception as error:  # importing a package of the user may fail in any way
        reason = " ".join(str(error.__cause__ or error).split())
        where = "where Python looks, or, if --allow names them, in the working directory"
        raise UserError(
            f"{path}: cannot import '{shown(target)}' ({reason[:300]}); it and what it imports must lie {where}"
        ) from error


def _is_component(target: str, found: Any, home: str) -> bool:
    at_home = _within(home, [f"narrows.{room}" for room in ROOMS])
    if not isinstance(found, type):
        return at_home and target in _named_by_configs()
    if at_home:
        return NAME.fullmatch(f"{home}.{found.__qualname__}") is not None
    if _within(home, ["lightning.pytorch"]):
        listed = ((module, name) for module, names in LIGHTNING.items() for name in names if name == found.__name__)
        return any(found is getattr(importlib.import_module(module), name) for module, name in listed)
    kinds = [kind for place, kinds in KINDS.items() if _within(home, [place]) for kind in kinds]
    return any(issubclass(found, get_object(kind)) for kind in kinds)


@functools.cache
def _named_by_configs() -> frozenset[str]:
    """Every `_target_` of the configs that narrows ships."""
    pattern = re.compile(r"^\s*(?:- )?_target_:\s*(narrows\.[\w.]+)", re.MULTILINE)
    texts = (path.read_text(encoding="utf-8") for path in config_dir().rglob("*.yaml"))
    return frozenset(name for text in texts for name in pattern.findall(text))


def _within(name: str, places: Sequence[str]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def _refusal(path: str, target: str, home: str = "") -> UserError:
    package = target.partition(".")[0]
    cure = f"; if you trust it, permit all of {package} with --allow {package} (narrows train: allow={package})"
    return UserError(
        f"{shown(path)}: '{shown(target)}'{home} is no component that a recorded config may build"
        + (cure if package.isidentifier() else "")
    )


def shown(text: str) -> str:
    """A text that may come from a stranger, on one short line without control characters."""
    plain = printable(str(text))
    return plain if len(plain) <= 200 else plain[:200] + "..."


def without_foreign_loggers(config: DictConfig) -> tuple[DictConfig, list[str]]:
    """The config without loggers that write outside the run directory, and the names of those loggers."""
    loggers = config.get("logger") or {}
    foreign = [
        str(name)
        for name, node in loggers.items()
        if isinstance(node, DictConfig) and node.get("_target_") not in OWN_LOGGERS
    ]
    if not foreign:
        return config, []
    kept = config.copy()
    kept.logger = {name: node for name, node in loggers.items() if name not in foreign}
    return kept, foreign
