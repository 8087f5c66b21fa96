"""Weights in the safetensors format, with what else their checkpoint held of plain values: what a packed run carries.

The header's metadata hold `narrows`, a JSON of those values, of the checksum of the checkpoint that the weights were
taken from, by which everything that was made from them names them, and of a checksum of the tensors themselves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from narrows.errors import UserError, first_line

SUFFIX = ".safetensors"
KEY = "narrows"


def save(state: Mapping[str, Any], origin: str) -> bytes:
    """The content of a file of weights.

    Args:
        state: `state_dict`, tensors by name, and plain values.
        origin: checksum of the checkpoint that they were read from.
    """
    from safetensors.torch import save as serialised

    # Copies, because tied weights share memory, and two names of one tensor are refused.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state["state_dict"].items()}
    plain = {name: value for name, value in state.items() if name != "state_dict"}
    told = {"origin": origin, "tensors": _digest(tensors), "values": plain}
    return serialised(tensors, metadata={KEY: json.dumps(told, sort_keys=True)})


def read(path: Path) -> dict[str, Any]:
    """`state_dict` and the plain values of a file of weights, on the CPU.

    Raises:
        UserError: the file is damaged, or was not written by narrows.
    """
    from safetensors import SafetensorError, safe_open

    told = _told(path)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged ({first_line(error)})") from error
    if _digest(tensors) != told.get("tensors"):
        raise UserError(f"{path} is damaged: its checksum does not fit")
    return {"state_dict": tensors} | told["values"]


def origin(path: Path) -> str:
    """The checksum of the checkpoint that the weights were taken from.

    Raises:
        UserError: the file is damaged, or was not written by narrows.
    """
    return str(_told(path)["origin"])


def _told(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:  # which imports no torch
            told = json.loads((file.metadata() or {})[KEY])
        right = isinstance(told, dict) and isinstance(told["values"], dict) and "origin" in told
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged, or was not written by narrows pack ({first_line(error)})") from error
    if not right:
        raise UserError(f"{path} is damaged: its header holds no record of its weights")
    return dict(told)


def _digest(tensors: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().flatten().view(_bytes()).numpy().data)
    return digest.hexdigest()


def _bytes() -> Any:
    import torch

    return torch.uint8
