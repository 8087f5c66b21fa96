"""Wrong values for a key of a config, and damage for a file, both drawn by a seeded generator."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from narrows.config.plain_yaml import flatten
from narrows.runs import checkpoint_files

NUMBERS = {"minus one": "-1", "zero": "0", "nan": "nan", "infinity": "inf", "huge": "100000000000000000000"}
NOTHING = {"null": "null", "empty text": "''", "empty list": "[]"}
CONTAINERS = {"list": "[1]", "list of text": "[abc]", "mapping": "{a:1}"}
LISTS = {
    "negative": "[-1]",
    "nan": "[nan]",
    "huge": "[100000000000000000000]",
    "nested": "[[1]]",
    "long": "[1,1,1,1,1]",
}
TARGETS = (
    *("3", "null", "''", "[]", "narrows.nope", "nowhere.Thing", "torch.nn.Identity", "torch.nn.Linear"),
    *("collections.OrderedDict", "narrows.encoders.MLPEncoder", "narrows.bottlenecks.Gaussian", "narrows.losses.KL"),
    *("narrows.decoders.MLPDecoder", "narrows.likelihoods.BernoulliLikelihood", "narrows.tasks.Latent"),
    *("torch.optim.SGD", "narrows.data.Digits", "lightning.pytorch.callbacks.Timer"),
)
HYDRA = {
    "_partial_": ("abc", "3", "false", "null"),
    "_convert_": ("foo", "3"),
    "_args_": ("[1]", "3"),
    "_recursive_": ("3",),
}
JSON_VALUES: tuple[Any, ...] = (
    *(None, -1, 0, 10**9, 10**20, 1.5, math.nan, math.inf, True, "", "abc", [], [None], {}, {"a": 1}),
    *([[[1]]], [-1, 10**12], "\x1b[31m", int("9" * 4000)),
)


def override(key: str, value: Any, draw: random.Random) -> tuple[str, str]:
    """A wrong value of `key`, which is `value` where nothing is wrong: what kind of mistake it is, and the override."""
    if key.endswith("_target_"):
        kind, given = "component", draw.choice(TARGETS)
    else:
        kind, given = draw.choice(list(_wrong(value).items()))
    return kind, f"{key}={given}"


def _wrong(value: Any) -> dict[str, str]:
    if isinstance(value, bool):
        return {"text": "abc", "number": "3"} | NOTHING | CONTAINERS
    if isinstance(value, (int, float)):
        return NUMBERS | {"text": "abc", "truth": "true"} | NOTHING | CONTAINERS
    if isinstance(value, list):
        return NUMBERS | NOTHING | LISTS | {"text": "abc", "mapping": "{a:1}"}
    if isinstance(value, str):
        return {"text": "nope", "number": "3", "folder": "..", "nan": "nan"} | NOTHING | CONTAINERS
    return NUMBERS | {"text": "abc", "empty text": "''", "empty list": "[]"} | CONTAINERS


def structure(keys: list[str], draw: random.Random) -> str:
    """An override that damages the structure of a config: a key too few or too many, or one of Hydra's own."""
    place = draw.choice([key for key in keys if "." in key]).rpartition(".")[0]
    name = draw.choice(list(HYDRA))
    return draw.choice([f"~{place}", f"+{place}.bogus=1", f"++{place}.{name}={draw.choice(HYDRA[name])}"])


# Files.


def damage(path: Path, draw: random.Random) -> str:
    """Damage a file, knowing what kind of file it is; says what was done."""
    special = {
        **{".json": _json, ".jsonl": _lines, ".yaml": _yaml, ".ckpt": _checkpoint, ".csv": _text},
        **{".npy": _header, ".npz": _raw},
    }
    change = special.get(path.suffix, _raw) if draw.random() < 0.75 else _raw
    return change(path, draw)


def _raw(path: Path, draw: random.Random) -> str:
    content = path.read_bytes()
    kinds: dict[str, Callable[[], bytes]] = {
        "empty": lambda: b"",
        "cut short": lambda: content[: draw.randrange(len(content) + 1)],
        "binary": lambda: draw.randbytes(200),
        "flipped": lambda: _flipped(content, draw),
        "another kind": lambda: draw.choice(
            (b"null", b"[]", b"3", b"{}", b"PK\x03\x04", b"PAR1PAR1", b"\x93NUMPY\x01\x00")
        ),
        "nested": lambda: draw.choice((b"[", b'{"a":')) * 100_000,
        "a long number": lambda: b'{"a": ' + b"9" * 5000 + b"}",
    }
    kind = draw.choice([*kinds, "a folder", "missing", "a loop of links"])
    path.unlink()
    if kind == "a folder":
        path.mkdir()
    elif kind == "a loop of links":
        path.symlink_to(path.name)
    elif kind != "missing":
        path.write_bytes(kinds[kind]())
    return kind


def _flipped(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice((1, 20))):
        if changed:
            changed[draw.randrange(min(len(changed), draw.choice((100, len(changed)))))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _json(path: Path, draw: random.Random) -> str:
    values = json.loads(path.read_text())
    said = _change(values, draw, JSON_VALUES)
    path.write_text(json.dumps(values))
    return said


def _change(values: Any, draw: random.Random, choices: tuple[Any, ...]) -> str:
    """Change, add or take away one value somewhere below `values`."""
    node, place = values, ""
    while isinstance(node, (dict, list)) and node:
        key = draw.choice(list(node) if isinstance(node, dict) else range(len(node)))
        place += f".{key}"
        if not (isinstance(node[key], (dict, list)) and node[key]) or draw.random() < 0.4:
            break
        node = node[key]
    kind = draw.choice(["changed", "changed", "changed", "missing", "added"])
    if kind == "missing":
        del node[key]
    elif kind == "added" and isinstance(node, dict):
        node["bogus"] = 1
    else:
        node[key] = draw.choice(choices)
        return f"{place} = {str(node[key])[:40]}"
    return f"{place} {kind}"


def _yaml(path: Path, draw: random.Random) -> str:
    """One wrong value of a recorded config."""
    from omegaconf import OmegaConf

    config: Any = OmegaConf.to_container(OmegaConf.load(path))
    flat = flatten(config)
    key = draw.choice(list(flat))
    if draw.random() < 0.3:
        said = _change(config, draw, JSON_VALUES)
    else:
        said = override(key, flat[key], draw)[1]
        node, given = config, OmegaConf.from_dotlist([said])
        for part in key.split(".")[:-1]:
            node, given = node[part], given[part]
        node[key.split(".")[-1]] = OmegaConf.to_container(given)[key.split(".")[-1]]  # type: ignore[index]
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
    return said


def _checkpoint(path: Path, draw: random.Random) -> str:
    """A checkpoint whose checksum fits, but whose content does not."""
    state: Any = torch.load(path, weights_only=True)
    choices: tuple[Any, ...] = (None, 3, "abc", [], {}, torch.zeros(2, 3), torch.tensor(math.nan))
    if draw.random() < 0.15:
        state = draw.choice(([], 3, None, torch.zeros(3), {}))
        said = f"holds {str(state)[:20]}"
    elif draw.random() < 0.5 and state.get("state_dict"):
        said = _change(state["state_dict"], draw, choices)
    else:
        said = _change(state, draw, choices)
    checkpoint_files.save_as(state, path)
    return said


def _text(path: Path, draw: random.Random) -> str:
    """One cell or line of a text file."""
    lines = path.read_text().splitlines() or [""]
    row = draw.randrange(len(lines))
    cells = lines[row].split(",")
    cell = draw.randrange(len(cells))
    cells[cell] = draw.choice(["", "abc", "nan", "inf", "-1e400", "9" * 400, '"', "a;b", "\x00", "x" * 200_000])
    kind = draw.choice(["cell", "cell", "cell", "fewer cells", "more cells", "no rows", "twice"])
    lines[row] = ",".join({"fewer cells": cells[:-1], "more cells": [*cells, "1"]}.get(kind, cells))
    lines = {"no rows": lines[:1], "twice": [*lines[: row + 1], *lines]}.get(kind, lines)
    path.write_text("\n".join(lines) + "\n")
    return f"{kind} {cells[cell][:20]!r} in line {row + 1}"


def _lines(path: Path, draw: random.Random) -> str:
    """One object of a file with an object a line."""
    lines = path.read_text().splitlines()
    row = draw.randrange(len(lines))
    values = json.loads(lines[row])
    said = _change(values, draw, JSON_VALUES)
    lines[row] = json.dumps(values)
    path.write_text("\n".join(lines) + "\n")
    return f"line {row + 1}: {said}"


def _header(path: Path, draw: random.Random) -> str:
    """The header of a .npy file, which claims something else than the file holds."""
    content = path.read_bytes()
    shape = draw.choice(["(10**12, 8)", "(-1, 8)", "()", "(0, 8)", "(3,)", "('a',)", "None", "(2, 0)"])
    kind = draw.choice(["<f8", "|O", "<U5", "<c16", "|V8", "<M8[s]", "|b1", "<i8", "abc"])
    shape = shape.replace("10**12", str(10**12))
    header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (117 - len(header)) + "\n"
    path.write_bytes(content[:8] + len(header).to_bytes(2, "little") + header.encode() + content[128:])
    return f"header {shape} of {kind}"


def copy_of(run: Path, target: Path) -> Path:
    """A copy of a run directory, links kept."""
    return Path(shutil.copytree(run, target, symlinks=True))


def content_of(folder: Path) -> dict[str, bytes | None]:
    """The bytes of every file below a folder; None where there is something else than a file."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.name != ".lock"
    }
