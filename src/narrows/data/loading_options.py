"""How batches reach the model."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

from narrows.errors import require
from narrows.types import COUNTED, DataSpec

MOST_LOGITS = 2**26
"""Logits of a batch of tokens that is evaluated: 256 MiB as float32."""
MOST_COUNTS = 2**24
"""Values of a batch of counts or features that is evaluated, which bounds the memory of what is computed: 64 MiB as
float32, which the system gets back once they are free, unlike blocks of less than 32 MiB."""


@dataclass
class Loading:
    """How batches reach the model; only `seed` and `by_length` change what is in them.

    Args:
        num_workers: processes that read data from files; data in memory need none.
        device: `auto` holds in-memory data on the GPU if the trainer uses one; `cpu` never does.
        seed: of the order of training examples and of dynamic binarisation.
        by_length: whether training batches hold examples of near-equal length, which saves padding; `auto`: where
            examples differ in length.
    """

    eval_batch_size: int = 1000
    num_workers: int = 0
    device: str = "auto"
    seed: int = 0
    by_length: bool | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        require(self.device in ("auto", "cpu"), f"loading.device={self.device!r} is neither 'auto' nor 'cpu'")
        require(0 <= self.num_workers <= 1024, f"loading.num_workers={self.num_workers} must be from 0 to 1,024")
        known = self.by_length == "auto" or isinstance(self.by_length, bool)
        require(known, f"loading.by_length={self.by_length!r} is none of true, false, auto")
        require(self.eval_batch_size >= 1, f"loading.eval_batch_size={self.eval_batch_size} must be at least 1")

    def rows_at_once(self, spec: DataSpec) -> int:
        """Rows of a batch that is evaluated: of long rows of counts or features, and of tokens of a large vocabulary,
        fewer than `eval_batch_size`."""
        few = self.eval_batch_size
        if spec.kind in COUNTED:
            few = MOST_COUNTS // spec.shape[0]
        elif spec.kind == "features":
            few = MOST_COUNTS // prod(spec.shape)
        elif spec.kind == "tokens":
            few = MOST_LOGITS // (spec.shape[0] * max(1, len(spec.vocabulary or [])))
        return max(1, min(few, self.eval_batch_size))
