"""The type hints of narrows' own constructors as their files state them, read without importing them.

Importing any of them imports torch, which takes seconds, and a mistyped number should not.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import narrows

NAMES = {kind.__name__: kind for kind in (bool, int, float, str, list, tuple, dict)} | {
    **{"Sequence": Sequence, "Iterable": Iterable, "Mapping": Mapping, "Literal": Literal},
}
"""What a hint may be made of to be read here; `None` is a literal of the language."""


@functools.cache
def written_hints(target: str) -> dict[str, Any]:
    """By argument, the hints of a class of narrows that are made of plain values; of anything else none."""
    file = _file_of(target)
    if file is None:
        return {}
    name = target.rpartition(".")[2]
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _plain_hints(_arguments(node))
    return {}


def _file_of(target: str) -> Path | None:
    """The file of a public class: its module's, or the one that the stub of its package names."""
    *rooms, name = target.split(".")
    if len(rooms) < 2 or rooms.pop(0) != "narrows":
        return None
    place = Path(narrows.__path__[0]).joinpath(*rooms)
    module, stub = place.with_suffix(".py"), place / "__init__.pyi"
    if module.is_file():
        return module
    if not stub.is_file():
        return None
    found = re.search(rf"^from \.([\w.]+) import {re.escape(name)} as ", stub.read_text(encoding="utf-8"), re.MULTILINE)
    return None if found is None else place.joinpath(*found[1].split(".")).with_suffix(".py")


def _arguments(node: ast.ClassDef) -> dict[str, ast.expr | None]:
    """By name, the hints of a constructor, or of the fields of a dataclass."""
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            return {argument.arg: argument.annotation for argument in (*part.args.args, *part.args.kwonlyargs)}
    if not any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        return {}
    fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
    return {part.target.id: part.annotation for part in fields if isinstance(part.target, ast.Name)}


def _plain_hints(arguments: Mapping[str, ast.expr | None]) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    for name, annotation in arguments.items():
        if annotation is not None:
            # A hint with any other name is left to the check that imports the class.
            with contextlib.suppress(NameError, AttributeError):
                hints[name] = eval(ast.unparse(annotation), {"__builtins__": {}}, NAMES)
    return hints
