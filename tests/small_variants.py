"""Every variant, built small on small data, for tests that loop over all of them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from command import composed
from count_source import is_of_counts, is_of_parts, is_of_series
from torch import Tensor, nn

from narrows.config.auto_values import decided
from narrows.config.building import build
from narrows.config.composition import config_dir
from narrows.loading.model_from_config import build_model
from narrows.losses import Objective
from narrows.models.autoencoder import Autoencoder
from narrows.types import Batch, DataSpec, NamedPart

VARIANTS = sorted(path.stem for path in (config_dir() / "variant").glob("*.yaml"))
IMAGE = DataSpec(shape=(1, 8, 8), kind="image", size=100, num_classes=3, value_range=(0.0, 1.0))
SERIES = DataSpec(shape=(2, 12), kind="series", size=100, num_classes=3)
COUNTS = DataSpec((20,), "counts", 100, num_classes=3, value_range=(0.0, float("inf")), totals=(3.0, 0.3))
PARTS = DataSpec(
    shape=(64,),
    kind="vector",
    size=100,
    num_classes=3,
    value_range=(0.0, 1.0),
    parts=[NamedPart(side, (1, 8, 4), "image", (0.0, 1.0)) for side in ("left", "right")],
)
# Small networks, where the choice has such an option.
SMALL: dict[str, Any] = {
    "widths": [12],
    "channels": [4],
    "hidden": 6,
    "blocks": 1,
    "pseudo_inputs": 7,
    "halvings": 1,
    "latents": 3,
}


@dataclass
class Case:
    """A variant, built small."""

    model: Autoencoder
    objective: Objective
    spec: DataSpec

    def parameters(self) -> dict[str, nn.Parameter]:
        found = {f"model.{name}": p for name, p in self.model.named_parameters()}
        return found | {f"objective.{name}": p for name, p in self.objective.named_parameters()}

    def batch(self, n: int = 6) -> Batch:
        drawn = torch.Generator().manual_seed(5)
        x = torch.rand(n, *self.spec.shape, generator=drawn)
        if self.spec.kind == "counts":
            x = (6 * x - 2).round().clamp_min(0)
        return Batch(x=x, label=torch.arange(n) % 3)

    def loss(self, batch: Batch, seed: int = 1, step: int = 0) -> Tensor:
        torch.manual_seed(seed)
        out = self.model(batch)
        out.step = step
        return self.objective(out, self.model).total


@functools.cache
def config_of(variant: str) -> Any:
    data = "series" if is_of_series(variant) else "digits"
    config = decided(composed(f"variant={variant}", f"datamodule={data}"))
    parts = [config[part] for part in ("model", "encoder", "decoder")]
    for part in (*parts, *(part.default for part in parts if "default" in part)):
        for option, value in SMALL.items():
            if option in part and part[option] not in ([], None):
                part[option] = value
    if "codes" in config.bottleneck:
        config.bottleneck.codes = min(config.bottleneck.codes, 100)  # a batch has enough vectors for as many
    if variant == "vmf_topics":
        config.bottleneck.dim = 8  # of a larger sphere, `SameNoise` would have every draw rejected
    return config


def case(variant: str) -> Case:
    config = config_of(variant)
    spec = COUNTS if is_of_counts(config) else SERIES if is_of_series(variant) else IMAGE
    spec = PARTS if is_of_parts(config) else spec
    model = build_model(config, spec)
    objective = Objective({name: build(term, name) for name, term in config.loss.items()})
    torch.manual_seed(4)
    objective.attach(model)
    objective.span(10)
    return Case(model, objective, spec)


def trained(variant: str, steps: int = 2) -> Case:
    """After a few training passes: codebooks have started, thresholds and running statistics have moved."""
    found = case(variant)
    optimizer = torch.optim.SGD(found.parameters().values(), lr=1e-4)
    for step in range(steps):
        optimizer.zero_grad()
        found.loss(found.batch(16), seed=step, step=step).backward()
        optimizer.step()
    return found
