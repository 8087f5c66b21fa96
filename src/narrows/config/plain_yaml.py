"""Reading YAML of unknown origin as plain values: text, numbers, truth values, lists and mappings of these.

Files that are too large, aliases (a few lines of them can expand to billions of values) and nesting that could overflow
the stack are refused; no object is ever built. Numbers are read as OmegaConf reads them, and dates stay text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from narrows.errors import printable

LARGEST = 4 * 2**20
"""Largest size of a config in bytes."""
MOST_VALUES = 20_000
DEEPEST = 100
"""Deepest nesting of a config."""
HARMLESS = 5_000
"""Length up to which a text cannot be nested deeply enough to overflow the stack of the compiled loader."""
PLAIN = (str, bool, int, float, type(None))
FLOAT = re.compile(
    r"""[-+]?(?:\d[\d_]*\.[\d_]*(?:[eE][-+]?\d+)?|\d[\d_]*[eE][-+]?\d+
    |\d[\d_]*(?::[0-5]?\d)+\.[\d_]*|\.(?:inf|Inf|INF))$|\.\d[\d_]*(?:[eE][-+]\d+)?$|\.(?:nan|NaN|NAN)$""",
    re.VERBOSE | re.ASCII,
)
"""The floats of OmegaConf; in YAML 1.1 alone, `1e-3` would be text."""


def read_text(path: Path, most: int) -> str:
    """The text of a file of at most `most` bytes.

    Raises:
        ValueError: it is not a file, too long, or not text; the message continues a sentence that begins with its name.
        OSError: it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise ValueError("is not a file")
    if path.stat().st_size > most:
        raise ValueError(f"is longer than {most >> 20} MB")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("is not text") from error


def read_yaml(path: Path) -> Any:
    """The plain values in a YAML file.

    Raises:
        ValueError: see `read_text` and `parse_yaml`.
        OSError: it cannot be read.
    """
    return parse_yaml(read_text(path, LARGEST))


def parse_yaml(text: str) -> Any:
    """The plain values in a YAML text.

    Raises:
        ValueError: it is not YAML, or holds what no config holds; the message continues a sentence that begins with the
            file's name.
    """
    loader = _loader()
    try:
        if "*" in text or len(text) > HARMLESS:
            _refuse_bombs(text, loader)
        values = yaml.load(text, Loader=loader)
        require_plain(values)
    except yaml.YAMLError as error:
        if "nesting depth" in str(error):  # PyYAML has a limit of its own since 6.0.4
            raise ValueError("is nested too deeply") from error
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"is not valid YAML ({where}{getattr(error, 'problem', None) or error})") from error
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    return values


def _refuse_bombs(text: str, loader: Any) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("uses YAML aliases, which no recorded config has")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError("is nested too deeply")


@functools.cache
def _loader() -> Any:
    """PyYAML's safe loader, the compiled one if installed, that refuses duplicate keys."""
    fast: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(fast):
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise yaml.constructor.ConstructorError(None, None, f"found duplicate key {twice}", node.start_mark)
            return super().construct_mapping(node, deep=deep)

    ours = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float")
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in rules if tag not in ours]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver(ours[1], FLOAT, list("-+0123456789."))
    return Loader


def nodes(node: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any, Any]]:
    """Every value below `node`, with its dotted path and its key.

    Raises:
        ValueError: it is nested too deeply.
    """
    if depth >= DEEPEST:
        raise ValueError("is nested too deeply")
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(node, (dict, list)):
        items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        place = f"{path}[{key}]" if isinstance(node, list) else f"{path}.{key}".removeprefix(".")
        yield place, key, value
        yield from nodes(value, place, depth + 1)


def require_plain(values: Any) -> None:
    """Refuse values that are not plain, and more of them than a config can hold.

    Raises:
        ValueError: the message continues a sentence that begins with the file's name.
    """
    for number, (path, key, value) in enumerate(nodes(values)):
        if number >= MOST_VALUES:
            raise ValueError(f"is too large for a config: more than {MOST_VALUES:,} values")
        for part, kinds in ((key, PLAIN), (value, (*PLAIN, dict, list))):
            if not isinstance(part, kinds):
                kind = type(part).__name__
                raise ValueError(f"is none that a run records: {printable(path)[:200]} is of type {kind}")


def flatten(values: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; lists and empty mappings count as values."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return flat


def is_within(key: str, place: str) -> bool:
    """Whether a dotted key is `place` or lies below it."""
    return key == place or key.startswith(f"{place}.")
