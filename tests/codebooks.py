"""Codebooks for tests."""

from __future__ import annotations

from typing import Any

import torch

from narrows.bottlenecks._quantizer import Codebook


def with_spread_codes(bottleneck: torch.nn.Module) -> Any:
    """A new codebook's codes lie near 0, where one of them is nearest to most rows."""
    for part in bottleneck.modules():
        if isinstance(part, Codebook):
            torch.nn.init.normal_(part.vectors)
    return bottleneck


def codebook(codes: int = 6, width: int = 3, **options: Any) -> Codebook:
    options = {"ema": 0.9, "kmeans": 0, "revive_after": None} | options
    return with_spread_codes(Codebook(codes, width, **options))
