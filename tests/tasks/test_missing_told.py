"""A model that reads which values are missing is told so by every task that shows it incomplete examples."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from instances import IMAGE, LIKELIHOODS, model
from tasks.standins import Rows, context

from narrows.models.autoencoder import Autoencoder
from narrows.tasks import generation
from narrows.tasks.anomaly import Anomaly
from narrows.tasks.base import Task, run_tasks
from narrows.tasks.latent import LatentFigures
from narrows.tasks.probe import Probe
from narrows.tasks.reconstruction import Reconstruction
from narrows.tasks.reduction import Reduction
from narrows.types import Batch, DataSpec, Latent

TASKS: dict[str, Callable[[], Task]] = {
    "reconstruction": Reconstruction,
    "reduction": lambda: Reduction(umap_rows=None),
    "probe": lambda: Probe(sizes=[], steps=3, epochs=1),
    "anomaly": Anomaly,
    "latent": LatentFigures,
}
SPEC = DataSpec(shape=(12,), kind="vector", size=60, num_classes=2)


class Strict:
    """`encode`, which insists on being told."""

    def __init__(self, net: Autoencoder) -> None:
        self.encode, self.asked = net.encode, False
        net.encode = self  # type: ignore[method-assign,assignment]

    def __call__(self, batch: Batch) -> Latent:
        self.asked = True
        assert batch.unseen is not None
        assert torch.equal(batch.unseen, batch.x == 0)
        return self.encode(batch)


def incomplete(spec: DataSpec) -> Rows:
    def split(n: int) -> Batch:
        whole = torch.rand(n, *spec.shape)
        observed = torch.rand_like(whole) > 0.3
        return Batch(x=whole * observed, target=whole, observed=observed, label=torch.arange(n) % 2)

    return Rows({name: split(60) for name in ("train", "validation", "test")}, batch_size=16, num_classes=2)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_tells_what_is_missing(name: str) -> None:
    net, data = model(SPEC, likelihood=LIKELIHOODS["gaussian_fixed"]), incomplete(SPEC)
    strict = Strict(net)
    assert run_tasks({name: TASKS[name]()}, context(net, data))
    assert strict.asked


def test_reconstructions_that_samples_are_compared_with_are_told_too() -> None:
    net, data = model(IMAGE), incomplete(IMAGE)
    strict = Strict(net)
    assert len(generation._rebuilt(context(net, data), torch.arange(60), binary=False)) == 60
    assert strict.asked
