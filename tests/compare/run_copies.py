"""Copies of a run directory with other values in its records."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

MakeRun = Callable[..., Path]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class Template:
    """The records of one real run, read once."""

    def __init__(self, run: Path) -> None:
        self.config = yaml.load((run / "config.yaml").read_text(), LOADER)
        self.manifest = json.loads((run / "manifest.json").read_text())
        self.metrics = json.loads((run / "metrics.json").read_text())
        self.history = (run / "metrics.csv").read_text()

    def write(
        self, path: Path, keys: dict[str, Any] | None = None, figures: dict[str, float] | None = None, **changes: Any
    ) -> Path:
        """The run in `path` with other config values (dotted keys, recorded as overrides), figures and manifest."""
        path.mkdir(parents=True)
        edited = copy.deepcopy(self.config)
        for key, value in (keys or {}).items():
            _set(edited, key.split("."), value)
        asked = [f"{key}={value}" for key, value in (keys or {}).items()]
        (path / "config.yaml").write_text(yaml.dump(edited, Dumper=DUMPER, sort_keys=False))
        (path / "manifest.json").write_text(json.dumps(self.manifest | {"overrides": asked} | changes))
        (path / "metrics.json").write_text(json.dumps(self.metrics | (figures or {})))
        (path / "metrics.csv").write_text(self.history)
        return path


def _set(config: dict[str, Any], parts: list[str], value: Any) -> None:
    for part in parts[:-1]:
        config = config[part]
    config[parts[-1]] = value


def picture(run: Path, name: str = "reconstruction", shade: int = 128) -> None:
    """A small picture among the run's figures."""
    (run / "figures").mkdir(exist_ok=True)
    Image.new("RGB", (40, 20), (shade, shade, 255)).save(run / "figures" / f"{name}.png")


def write_sweep(root: Path, make_run: MakeRun) -> Path:
    """Twelve jobs in `root`, two learning rates by two widths by three seeds; wider and faster is better."""
    settings = itertools.product((0.001, 0.01), (2, 8), (0, 1, 2))
    for number, (lr, dim, seed) in enumerate(settings):
        loss = 10 / dim + 0.01 / lr + 0.1 * seed
        figures = {"val/loss": loss, "test/elbo": -loss, "test/kl": 0.5 * dim + seed, "test/mse": loss / 100}
        keys = {"optimizer.lr": lr, "bottleneck.dim": dim, "seed": seed}
        picture(make_run(root / str(number), keys, figures), shade=20 * number)
    (root / "sweep.yaml").write_text("jobs: 12\n")
    return root
