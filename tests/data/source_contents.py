"""What a source loads, in tests of sources."""

from __future__ import annotations

from typing import Any

import torch

from narrows.data.contents import Contents, Part


def load(source: Any) -> Contents:
    contents: Contents = source.load()
    return contents


def held(part: Part | None) -> torch.Tensor:
    """All examples of a part."""
    assert part is not None
    return part.x.take(slice(None))
