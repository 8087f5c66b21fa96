"""The groups in which TensorBoard shows a run's figures."""

from __future__ import annotations

LOSS, TERMS, TEST, VIEWS, WATCH = "loss", "terms", "test", "views", "watch"
"""The groups of tags. TensorBoard sorts groups by their names: these begin with what one looks for first and end with
the bookkeeping."""
STAGES = ("train", "val")


def tag_of(name: str) -> str:
    """The tag of a figure: `train/loss` stands at `loss/train` beside `loss/val`, `val/kl` at `terms/kl/val`, figures
    of the test split and of a fitted density below `test`, and all others (`epoch`, `lr`, ...) below `watch`."""
    stage, _, rest = name.partition("/")
    if stage in STAGES:
        return f"{LOSS}/{stage}" if rest == "loss" else f"{TERMS}/{rest}/{stage}"
    if stage == TEST:
        return name
    return f"{TEST if stage == 'density' else WATCH}/{name}"
