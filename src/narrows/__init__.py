"""narrows: every autoencoder a composition of configs.

`narrows.train(overrides)` trains a run, and `narrows.load(run_dir)` gives the model of one.
"""

from __future__ import annotations

from typing import Any

from narrows import _torchvision

__version__ = "0.1.0"
__all__ = ["load", "train"]

_torchvision.install()


def __getattr__(name: str) -> Any:
    # Lazy, because importing torch takes seconds and `narrows --help` must not wait for it.
    if name == "load":
        from narrows.new_data.loaded import load

        return load
    if name == "train":
        from narrows.training.in_python import train

        return train
    raise AttributeError(f"module 'narrows' has no attribute '{name}'")
