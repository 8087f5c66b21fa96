"""Where the configs lie, and what is refused before anything is built."""

from __future__ import annotations

import functools
import inspect
import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, InstantiationException, MissingConfigException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from narrows.errors import UserError, nearest

PACKAGE = Path(__file__).resolve().parent
HYDRA_KEYS = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}


def config_dir() -> Path:
    """`narrows/configs` in an installed wheel, the top-level `configs/` in a checkout.

    Raises:
        UserError: neither is there (a broken installation).
    """
    for folder in (PACKAGE / "configs", PACKAGE.parents[1] / "configs"):
        if (folder / "train.yaml").is_file():
            return folder
    raise UserError(f"the configs of narrows are missing beside {PACKAGE}; reinstall the package")


@functools.cache
def run_dir(root: str, experiment: str | None, variant: str | None) -> str:
    """`<root>/<experiment or variant>/<time>_<short id>`, the same however often one process asks."""
    name = next((choice for choice in (experiment, variant) if choice not in (None, "None", "null")), "run")
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    return str(Path(root) / str(name) / f"{stamp}_{uuid.uuid4().hex[:8]}")


def register_resolvers() -> None:
    OmegaConf.register_new_resolver("narrows.run_dir", run_dir, replace=True)


def targets(node: Any, path: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Every node with a `_target_`, with its place in the config, outermost first."""
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield path, node
        for key in node:
            if not OmegaConf.is_missing(node, key):
                yield from targets(node._get_node(key), f"{path}.{key!s}" if path else str(key))
    elif isinstance(node, ListConfig):
        for i in range(len(node)):
            yield from targets(node._get_node(i), f"{path}[{i}]")


def check_keys(config: DictConfig) -> None:
    """Refuse, before anything is built, targets that do not exist and arguments that they do not take.

    Raises:
        UserError: names the key and the nearest valid one.
    """
    for path, node in targets(config):
        try:
            target = get_object(node._target_)
        except Exception as error:
            raise UserError(f"{path}._target_: cannot import '{node._target_}' ({_first_line(error)})") from error
        known = _arguments(target)
        for key in node:
            if known is not None and key not in known and key not in HYDRA_KEYS:
                raise UserError(f"{path} has no option '{key!s}': {nearest(str(key), known)}")


def _arguments(target: Any) -> set[str] | None:
    """The keyword arguments that `target` takes; None when it takes any."""
    try:
        # Decorators such as Lightning's env-default wrapper are looked through.
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters}


def build(node: Any, path: str, *args: Any, **kwargs: Any) -> Any:
    """`hydra.utils.instantiate`, whose `ValueError`s become one sentence that says where.

    Raises:
        UserError: the value of an option was refused, or an option is missing.
    """
    try:
        built = instantiate(node, _convert_="object")
        return built(*args, **kwargs) if args or kwargs else built
    except UserError:
        raise
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        if isinstance(cause, (ValueError, TypeError)):
            raise UserError(f"{path}: {_first_line(cause)}") from error
        raise


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 400 else text[:400] + " ..."


def explain(error: HydraException | OmegaConfBaseException) -> str:
    """One sentence for an error of Hydra's or OmegaConf's composition, with the nearest valid name."""
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        return f"there is no {group or 'config'} '{choice}': {nearest(choice, error.options)}"
    for cause in (error, error.__cause__, error.__context__):
        if isinstance(cause, OmegaConfBaseException) and isinstance(cause.parent_node, DictConfig):
            names = [str(key) for key in cause.parent_node]
            where = f" in '{parent}'" if (parent := str(cause.full_key).rpartition(".")[0]) else ""
            if "not in struct" in str(cause) and names:
                return f"there is no config key '{cause.key}'{where}: {nearest(str(cause.key), names)}"
    if match := re.search(r"Could not override '([^']+)'\.\s*No match in the defaults list", str(error)):
        return f"there is no config group '{match[1]}': {nearest(match[1].split('@')[0], group_names())}"
    return _first_line(error)


def group_names() -> list[str]:
    """The config groups that narrows has."""
    return [entry.name for entry in config_dir().iterdir() if entry.is_dir()]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings to dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat
