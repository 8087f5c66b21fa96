"""What two runs must share to the bit."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from narrows.runs import checkpoint_files

# Everything that a run carries with it: noise, changed pictures, momenta, gradients that wait, a schedule, drawings, a
# callback that counts, averaged weights, an end that comes early, checkpoints within an epoch.
SETTINGS = (
    *("encoder.widths=[16]", "decoder.widths=[16]", "~tasks.latent", "~tasks.reconstruction"),
    *("augmentation@datamodule.augment=pictures", "datamodule.augment.crop=1", "datamodule.augment.contrast=0.2"),
    *("datamodule.batch_size=128", "module.accumulate=3", "module.clip_norm=1", "scheduler=cosine"),
    *(
        "callbacks=[early_stopping,ema]",
        "callbacks.averaged.decay=0.9",
        "callbacks.early_stopping.min_delta=100",
        "callbacks.early_stopping.patience=2",
    ),
    *("callbacks.checkpoint.every_n_steps=2", "callbacks.pictures.every_n_epochs=2"),
    *("trainer.max_epochs=6", "trainer.log_every_n_steps=7"),
)


def history(run: Path) -> list[tuple[str, str, str]]:
    """`metrics.csv` as text, without what a clock measured."""
    with open(run / "metrics.csv", newline="") as file:
        rows = [(row["step"], row["metric"], row["value"]) for row in csv.DictReader(file)]
    return [row for row in rows if not row[1].startswith("throughput/")]


def events(run: Path) -> list[tuple[int, str, str]]:
    """Every scalar and picture in the event files, in the order in which they were written."""
    return [
        (event.step, value.tag, str(value.tensor))
        for path in sorted(run.glob("events.out.tfevents.*"))
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
        if not value.tag.startswith(("watch/throughput/", "_hparams_/session"))
    ]


def figures(run: Path) -> dict[str, float]:
    return json.loads((run / "metrics.json").read_text())


def state(run: Path, name: str = "last") -> dict[str, Any]:
    read = checkpoint_files.read(run / "checkpoints" / f"{name}.ckpt")
    weights = {key: read[key] for key in ("state_dict", "raw_weights") if key in read}
    return weights | {"optimizer": read["optimizer_states"], "scheduler": read["lr_schedulers"]}


def equal(a: Any, b: Any) -> bool:
    """Whether two nested states are equal to the bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def assert_same(run: Path, other: Path) -> None:
    """Weights, optimiser, schedules, figures, and every step of the histories, once each."""
    for name in ("last", "best"):
        assert equal(state(run, name), state(other, name)), name
    assert figures(run) == figures(other)
    assert history(run) == history(other)
    assert events(run) == events(other)
