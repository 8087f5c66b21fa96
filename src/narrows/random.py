"""Random numbers as a function of counters, so that every draw can be repeated by itself.

A generator that lives as long as its process cannot be resumed in the middle. Every draw in narrows is instead seeded
by its purpose: `(seed, purpose, epoch, step, rank, ...)`. Equal counters give equal numbers, whatever ran before and
however many processes or loader workers there are.
"""

from __future__ import annotations

import hashlib

import torch

Counter = int | str


def derive(seed: int, *counters: Counter) -> int:
    """The 63-bit seed of one draw, from the run's seed and the draw's counters."""
    text = "\x1f".join(map(repr, (seed, *counters))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def generator(seed: int, *counters: Counter, device: torch.device | str = "cpu") -> torch.Generator:
    """A new generator seeded by these counters."""
    return torch.Generator(device=device).manual_seed(derive(seed, *counters))


def seed_default(seed: int, *counters: Counter) -> None:
    """Seed torch's default generators (the CPU's and, when in use, the GPUs') by these counters.

    `torch.manual_seed` does the same at a hundred times the cost, which matters once a step.
    """
    value = derive(seed, *counters)
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(value)
