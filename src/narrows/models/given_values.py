"""Refusing values that a model cannot read, in the words of whoever gave them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from narrows.errors import UserError, first_line, is_out_of_memory, require
from narrows.types import Shape

Method = TypeVar("Method", bound=Callable[..., Any])


def require_examples(values: Any, shape: Shape, name: str) -> None:
    """Refuse what is no batch of examples of `shape`; axes behind the first may differ, as fully convolutional models
    allow.

    Raises:
        UserError: says what was given, and what would be right.
    """
    tensor = isinstance(values, Tensor)
    if tensor and values.ndim == len(shape) + 1 and (len(shape) < 2 or values.shape[1] == shape[0]):
        return
    given = f"of shape {list(values.shape)}" if tensor else f"a {type(values).__name__}"
    raise UserError(f"{name} must be a tensor [B, {', '.join(map(str, shape))}], not {given}")


def require_count(n: Any) -> None:
    """Refuse what is no number of samples.

    Raises:
        UserError: says what was given.
    """
    whole = isinstance(n, int) and not isinstance(n, bool) and n >= 0
    require(whole, f"the number of samples must be a whole number of at least 0, not {n!r:.40}")


def refusing_others(name: str) -> Callable[[Method], Method]:
    """A decorator that refuses, once a stage has failed on them, values that are not as the model's own are. A model in
    double precision (`trainer.precision=64-true`) reads values in single precision, which loses nothing.

    Args:
        name: of what the method reads: `x`, a batch of examples, or `z`, latents.
    """

    def decorate(method: Method) -> Method:
        @functools.wraps(method)
        def refusing(model: Any, values: Any, *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling():
                return method(model, values, *args, **kwargs)
            if next((parameter.dtype for parameter in model.parameters()), None) == torch.float64:
                values = values.double() if getattr(values, "dtype", torch.float32) == torch.float32 else values
            try:
                return method(model, values, *args, **kwargs)
            except RuntimeError as error:
                shape = model.spec.shape if name == "x" else model.read_shape
                _refuse_others(model, getattr(values, "x", values), shape, name, error)
                raise

        return cast(Method, refusing)

    return decorate


def _refuse_others(model: nn.Module, values: Any, shape: Shape, name: str, error: RuntimeError) -> None:
    own = next((parameter.dtype for parameter in model.parameters()), values.dtype)
    if (tuple(values.shape[1:]) == tuple(shape) and values.dtype == own) or is_out_of_memory(error):
        return
    given, wanted = (str(dtype).removeprefix("torch.") for dtype in (values.dtype, own))
    raise UserError(
        f"{name} of shape {list(values.shape)} and type {given} does not fit this model, which reads "
        f"[B, {', '.join(map(str, shape))}] of {wanted} ({first_line(error)})"
    ) from error
