"""Every public class of the maths shows how it is used, and what it shows is true.

An example may name torch, its distributions, and whatever a room of the model's exports.
"""

from __future__ import annotations

import doctest
import importlib
from types import ModuleType
from typing import Any

import pytest
import torch

ROOMS = ("models", "bottlenecks", "losses", "likelihoods", "densities")
NAMED = ("types", "corruptions", "schedules", "inputs", "encoders", "decoders", *ROOMS)


def room(name: str) -> ModuleType:
    return importlib.import_module(f"narrows.{name}")


def exported(module: ModuleType) -> dict[str, Any]:
    values = {name: getattr(module, name) for name in getattr(module, "__all__", dir(module))}
    return {name: value for name, value in values.items() if getattr(value, "__module__", "").startswith("narrows.")}


CLASSES = {
    f"{name}.{what}": value for name in ROOMS for what, value in exported(room(name)).items() if isinstance(value, type)
}


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    found: dict[str, Any] = {"torch": torch} | {
        name: getattr(torch.distributions, name) for name in ("Normal", "Laplace")
    }
    for name in NAMED:
        found |= exported(room(name))
    return found


def example(cls: type, names: dict[str, Any]) -> doctest.DocTest:
    own = vars(importlib.import_module(cls.__module__))
    return doctest.DocTestParser().get_doctest(cls.__doc__ or "", names | own, cls.__qualname__, None, 0)


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_a_public_class_has_an_example_that_holds(cls: type, names: dict[str, Any]) -> None:
    test = example(cls, names)
    assert any(shown.want for shown in test.examples), f"the docstring of {cls.__name__} shows no value"
    said: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert not said, "".join(said)


def test_examples_are_short() -> None:
    lines = {name: len(example(cls, {}).examples) for name, cls in CLASSES.items()}
    assert max(lines.values()) <= 6, lines
