"""Pretrained weights from files of state dicts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from narrows.errors import UserError, require


def read_weights(path: Path, part: str) -> dict[str, Tensor]:
    """The state dict in a file, on the CPU.

    Args:
        path: of the file.
        part: whose weights they are, for messages.

    Raises:
        UserError: the file cannot be read safely, or holds something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{part}.weights: {path} is no file of weights that can be read safely") from error
    tensors = isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())
    require(tensors, f"{part}.weights: {path} holds no state dict (tensors by name)")
    return dict(state)


def is_downloaded(name: str, weights: str) -> bool:
    """Whether the file of torchvision's weights of that name, for its model of that name, is on this machine."""
    from torchvision import models  # slow to import

    url = models.get_model_weights(name)[weights].url
    return Path(f"{torch.hub.get_dir()}/checkpoints/{url.rpartition('/')[2]}").is_file()


def require_fitting(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], part: str, path: object) -> None:
    """Refuse weights that are not those of the network called `wanted`.

    Raises:
        UserError: names the first tensor that is missing, too many or of another shape.
    """
    problems = [
        *(f"it lacks {key}" for key in wanted if key not in state),
        *(f"it has {key}, which the model has not" for key in state if key not in wanted),
        *(
            f"its {key} is {list(state[key].shape)}, not {list(value.shape)}"
            for key, value in wanted.items()
            if key in state and state[key].shape != value.shape
        ),
    ]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    require(not problems, f"{part}: {path} does not fit: {problems[0] if problems else ''}{more}")
