"""Building the components that a config names: whatever a constructor raises becomes one sentence."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from hydra.errors import InstantiationException

from narrows.config.hydra_versions import instantiate
from narrows.errors import TRACEBACK, UserError, first_line, is_out_of_memory

T = TypeVar("T")


def build(node: Any, path: str, *args: Any, **kwargs: Any) -> Any:
    """`hydra.utils.instantiate`, with whatever the constructor raises turned into one sentence that names `path`.

    Raises:
        UserError: the value of an option was refused, an option is missing, or the constructor failed.
        OSError: a file cannot be used; the error names it.
    """
    with _explaining(node, path):
        built = instantiate(node, _convert_="object")
        if args or kwargs:
            return built(*args, **kwargs)
    return Waiting(built, node, path) if isinstance(built, functools.partial) else built


class Waiting:
    """A partial of a config, which explains what its constructor raises wherever it is called."""

    def __init__(self, partial: functools.partial[Any], node: Any, path: str) -> None:
        self._partial, self._node, self._path = partial, node, path
        self.func, self.keywords = partial.func, partial.keywords

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with _explaining(self._node, self._path):
            return self._partial(*args, **kwargs)


@contextlib.contextmanager
def _explaining(node: Any, path: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
        if isinstance(cause, UserError) or (isinstance(cause, OSError) and cause.filename is not None):
            raise cause from error
        raise UserError(f"{path}: {_reason(cause, node)}") from error


def _reason(error: BaseException, node: Any) -> str:
    """Why a constructor failed: its own words where it refused a value; else also what it raised, and how to see
    where."""
    if is_out_of_memory(error):
        return f"out of memory ({first_line(error)})"
    # Lightning's exception is recognised by its name, because importing Lightning takes seconds.
    refusal = isinstance(error, (ValueError, TypeError)) or type(error).__name__ == "MisconfigurationException"
    if refusal and str(error):
        return first_line(error)
    target = node.get("_target_") if isinstance(node, Mapping) else None
    return f"{target or node} raised {type(error).__name__}: {first_line(error)} ({TRACEBACK}=1 shows where)"


def class_of(node: Any, path: str, base: type[T]) -> type[T]:
    """The class that a component's config names; it is not built.

    Raises:
        UserError: it does not name a subclass of `base`.
    """
    found = getattr(build(node, path), "func", None)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UserError(f"{path}: '{node.get('_target_')}' is no {base.__name__}, or lacks _partial_: true")
    return found


def build_later(node: Any, path: str) -> Callable[..., Any]:
    """`build` a partial; when it is called with its remaining arguments, a `ValueError` becomes one sentence too."""
    return functools.partial(build, node, path)
