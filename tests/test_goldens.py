"""Golden trajectories: the first ten training losses of every variant, as they were.

They are computed in double precision, where processors differ by 1e-10 of a figure at most, so that what the
tolerance refuses is another formula and never another order of a sum (`scripts/test_instruction_sets.sh` shows it).
A change that should not alter numbers must leave `tests/goldens/<variant>.json` alone. Where one should,
write them anew, or those of some variants, and say why in the commit:

    python tests/test_goldens.py [VARIANT ...]
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from command import composed
from count_source import COUNTS, is_of_counts, is_of_parts, is_of_series
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from narrows.config.auto_values import decided
from narrows.config.building import build
from narrows.config.composition import config_dir
from narrows.loading.model_from_config import build_model
from narrows.losses import Objective
from narrows.random import seed_default
from narrows.training.experiment import quieten
from narrows.training.loggers import CSVHistory

GOLDENS = Path(__file__).parent / "goldens"
VARIANTS = sorted(path.stem for path in (config_dir() / "variant").glob("*.yaml"))
STEPS = 10
"""Of the CPU, in double precision."""
RELATIVE, ABSOLUTE = 1e-7, 1e-11
"""The largest differences measured between instruction sets and numbers of threads are 4.3e-11 and 7.5e-14."""


class Losses(CSVHistory):
    """Keeps `train/*` in memory, by name, and writes nothing."""

    def __init__(self) -> None:
        super().__init__(save_dir=".")
        self.series: dict[str, list[float]] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        for name, value in metrics.items():
            if name.startswith("train/"):
                self.series.setdefault(name, []).append(float(value))


def config_of(variant: str) -> DictConfig:
    """The config that `narrows train variant=... datamodule=...` composes, of codebooks a smaller one."""
    # Of series with the likelihood that was their default when the first goldens were written.
    data = ("datamodule=series", "likelihood=gaussian") if is_of_series(variant) else ("datamodule=digits",)
    asked = (f"variant={variant}", *data, "trainer=cpu", "trainer.precision=64-true")
    config = composed(*asked)
    if is_of_parts(config):
        config = composed(*asked, "datamodule=halves")
    config = decided(composed(*asked, COUNTS) if is_of_counts(config) else config)
    if "kmeans" in config.bottleneck:
        # Fewer codes than rows to start them at: of two equal codes, rounding would choose.
        config.bottleneck.codes = 64
    return config


@contextmanager
def double_precision() -> Iterator[None]:
    """Weights, noise and all else that is made inside is float64."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@double_precision()
def losses(variant: str) -> dict[str, list[float]]:
    """Total and terms of the first steps."""
    config = config_of(variant)
    data = build(config.datamodule, "datamodule")
    data.setup()
    model = build_model(config, data.spec)
    objective = Objective({name: build(term, name) for name, term in config.loss.items()})
    parts = {name: build(config[name], name) for name in ("optimizer", "scheduler")}
    module = build(config.module, "module", model, objective, seed=config.seed, **parts)
    recorder = Losses()
    limits = {"max_epochs": -1, "max_steps": STEPS, "limit_val_batches": 0, "log_every_n_steps": 1}
    silence = {"enable_checkpointing": False, "enable_progress_bar": False, "logger": recorder}
    trainer = build(config.trainer, "trainer", **limits, **silence)
    trainer.fit(module, datamodule=data)
    return recorder.series


@pytest.fixture(autouse=True)
def _as_before() -> object:
    """`trainer.deterministic` holds for the whole process."""
    with warnings.catch_warnings():
        quieten()
        yield
    torch.use_deterministic_algorithms(False)
    GlobalHydra.instance().clear()


def test_every_variant_has_a_golden_and_every_golden_a_variant() -> None:
    assert sorted(path.stem for path in GOLDENS.glob("*.json")) == VARIANTS


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_first_losses_are_what_they_were(variant: str) -> None:
    golden = json.loads((GOLDENS / f"{variant}.json").read_text())
    seed_default(99, "elsewhere")
    found = losses(variant)
    assert found.keys() == golden.keys()
    for name, values in golden.items():
        assert len(values) == STEPS
        assert found[name] == pytest.approx(values, rel=RELATIVE, abs=ABSOLUTE), name


def write(variants: Sequence[str]) -> None:
    """Write these goldens anew, all of them where none is named, and remove those without a variant."""
    quieten()
    torch.set_num_threads(1)
    GOLDENS.mkdir(exist_ok=True)
    for path in GOLDENS.glob("*.json"):
        if path.stem not in VARIANTS:
            path.unlink()
    for variant in variants or VARIANTS:
        rounded = {name: [float(f"{value:.12g}") for value in values] for name, values in losses(variant).items()}
        (GOLDENS / f"{variant}.json").write_text(json.dumps(rounded, indent=1) + "\n")
        print(variant, rounded["train/loss"][0], "->", rounded["train/loss"][-1], file=sys.stderr)


if __name__ == "__main__":
    write(sys.argv[1:])
