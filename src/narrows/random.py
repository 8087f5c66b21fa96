"""Randomness as a function of counters.

A stream that lives as long as its process cannot be resumed or re-sliced. Every draw in narrows is
instead seeded by what it is for: `(seed, purpose, epoch, step, rank, ...)`. Equal counters give equal
numbers, whatever ran before, in however many processes or loader workers.
"""

from __future__ import annotations

import hashlib

import torch

Counter = int | str


def derive(seed: int, *counters: Counter) -> int:
    """A 63-bit seed from the run's seed and the counters of one draw."""
    text = "\x1f".join(map(repr, (seed, *counters))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def generator(seed: int, *counters: Counter, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator at the state that these counters name."""
    return torch.Generator(device=device).manual_seed(derive(seed, *counters))


def seed_default(seed: int, *counters: Counter) -> None:
    """Put torch's default generators (the CPU's and, when in use, the GPUs') at these counters.

    `torch.manual_seed` does the same at a hundred times the cost: it is called once a step.
    """
    value = derive(seed, *counters)
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(value)
