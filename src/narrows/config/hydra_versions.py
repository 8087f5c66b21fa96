"""What Hydra 1.3 (with OmegaConf 2.3) and Hydra 1.4 (with OmegaConf 2.4) call differently; both work."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import hydra
import hydra.utils
from omegaconf import OmegaConf

FIRST = tuple(int(part) for part in hydra.__version__.split(".")[:2]) < (1, 4)
"""Whether this is the first of the two generations."""
VERSION_BASE: dict[str, Any] = {"version_base": "1.3"} if FIRST else {}
"""The argument by which Hydra 1.3 behaves as itself; 1.4 always does, and warns of the argument."""


def register_resolver(name: str, resolver: Callable[..., Any]) -> None:
    """Register an OmegaConf resolver, in place of an earlier one of that name."""
    # The first generation has a `register_resolver` too, which is an older one.
    register: Any = OmegaConf.register_new_resolver if FIRST else OmegaConf.register_resolver
    register(name, resolver, replace=True)


def quieten() -> None:
    """Silence the request of Hydra 1.4 for a list of the classes that a config may name.

    Narrows has its own for configs of strangers (`narrows.loading.permitted_classes`), and the user's own configs may
    name any class. What Hydra forbids in every config, such as `os.system`, stays forbidden.
    """
    if not FIRST:
        warnings.filterwarnings("ignore", message=r"(?s).*execution.whitelist")


def instantiate(node: Any, **options: Any) -> Any:
    """`hydra.utils.instantiate`, quietly (see `quieten`)."""
    with contextlib.nullcontext() if FIRST else warnings.catch_warnings():
        quieten()
        return hydra.utils.instantiate(node, **options)
