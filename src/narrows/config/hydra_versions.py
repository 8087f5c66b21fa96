"""What Hydra 1.3 (with OmegaConf 2.3) and Hydra 1.4 (with OmegaConf 2.4) call differently; both work."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import hydra
import hydra.utils
from hydra._internal.hydra import Hydra
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


@contextlib.contextmanager
def composed_once(arguments: Sequence[str]) -> Iterator[None]:
    """In this context Hydra composes the config of this command line once.

    Before that it composes everything to learn `hydra.mode`, and again to run: 0.2 s. No config of narrows sets it, so
    that where neither an override does nor other configs are named, the answer is known.
    """
    options = {text for text in arguments if text.startswith("-")} - {"-m", "--multirun"}
    keys = [text.partition("=")[0].lstrip("+~") for text in arguments]
    of_hydra = [key for key in keys if key.partition(".")[0] == "hydra" and key != "hydra.run.dir"]
    if options or of_hydra or not hasattr(Hydra, "get_mode"):
        yield
        return
    patched, before = cast(Any, Hydra), Hydra.get_mode
    patched.get_mode = _unset_mode
    try:
        yield
    finally:
        patched.get_mode = before


def _unset_mode(hydra: Hydra, config_name: str | None, overrides: list[str]) -> None:
    """What Hydra finds where nothing sets `hydra.mode`: `-m` alone decides."""


def instantiate(node: Any, **options: Any) -> Any:
    """`hydra.utils.instantiate`, quietly (see `quieten`)."""
    with contextlib.nullcontext() if FIRST else warnings.catch_warnings():
        quieten()
        return hydra.utils.instantiate(node, **options)
