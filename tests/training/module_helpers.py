"""Small data and real fits, for laws of the training module."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from instances import BOTTLENECKS, LIKELIHOODS, LOSSES, model
from lightning.pytorch.loggers import Logger
from torch import Tensor

from narrows.data.contents import Contents, Part
from narrows.data.datamodule import DataModule, Loading
from narrows.losses import Objective
from narrows.models.autoencoder import Autoencoder
from narrows.training.callbacks.write_checkpoints import CheckpointFiles
from narrows.training.lightning_module import AutoencoderModule
from narrows.types import DataSpec

SPEC = DataSpec(shape=(12,), kind="vector", size=0, value_range=(0.0, 1.0))
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
    "num_sanity_val_steps": 0,
    "inference_mode": False,
    "log_every_n_steps": 1,
}
quiet = [
    pytest.mark.filterwarnings(f"ignore:{message}")
    for message in (".*LeafSpec.*", ".*treespec.*", ".*does not have many workers.*", ".*smaller than the logging.*")
]
"""What `narrows.training.experiment.quieten` silences in a run."""
constant = partial(torch.optim.lr_scheduler.ConstantLR, factor=1.0, total_iters=1)
adam = partial(torch.optim.Adam, lr=1e-2)
sgd = partial(torch.optim.SGD, lr=1e-2)


class Rows:
    """A source of given size whose splits are fixed: no fraction has to be worked out."""

    def __init__(self, train: int, held_out: int) -> None:
        self.sizes = train, held_out, held_out

    def load(self) -> Contents:
        x = torch.rand(sum(self.sizes), *SPEC.shape, generator=torch.Generator().manual_seed(7))
        train, validation, test = (Part(part) for part in x.split(self.sizes))
        return Contents("vector", train, validation=validation, test=test)


def datamodule(train: int = 50, held_out: int = 23, batch_size: int = 10, eval_batch_size: int = 1000) -> DataModule:
    loading = Loading(eval_batch_size=eval_batch_size)
    return DataModule(Rows(train, held_out), batch_size=batch_size, validation="official", loading=loading)


class Recorder(Logger):
    """Keeps what is logged."""

    name, version = "recorder", ""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("the module declares nothing by itself")

    def series(self, name: str) -> list[tuple[int, float]]:
        return [(step, row[name]) for step, row in self.rows if name in row]


def network(bottleneck: str = "gaussian", likelihood: str = "bernoulli", **stages: Any) -> Autoencoder:
    """The same initial weights every time."""
    torch.manual_seed(3)
    return model(SPEC, bottleneck=BOTTLENECKS[bottleneck], likelihood=LIKELIHOODS[likelihood], **stages)


def deterministic() -> Autoencoder:
    return network("deterministic", "gaussian_fixed")


def module(net: Autoencoder | None = None, objective: Objective | None = None, **options: Any) -> AutoencoderModule:
    net = net or network()
    objective = objective or LOSSES["elbo" if net.generative else "reconstruction"]()
    return AutoencoderModule(net, objective, **({"optimizer": adam, "scheduler": constant} | options))


def fit(
    trained: AutoencoderModule, data: DataModule | None = None, checkpoint: Path | None = None, **settings: Any
) -> tuple[L.Trainer, Recorder]:
    """Train on the CPU; the trainer and what it logged."""
    recorder = Recorder()
    options = {"max_epochs": 2, "logger": recorder, "plugins": [CheckpointFiles()]}
    trainer = L.Trainer(**(QUIET | options | settings))
    trainer.fit(trained, datamodule=data or datamodule(), ckpt_path=None if checkpoint is None else str(checkpoint))
    return trainer, recorder


def weights(trained: AutoencoderModule) -> Tensor:
    return torch.cat([p.detach().flatten() for p in trained.parameters()])


class SaveAt(L.Callback):
    """A checkpoint after so many batches."""

    def __init__(self, batches: int, path: Path) -> None:
        self.batches, self.path = batches, path

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress.total
        if progress.processed == self.batches:
            trainer.save_checkpoint(self.path, storage_options=["last"])


def watched(seen: list[Any], look: Callable[[torch.optim.Optimizer], Any], lr: float = 1e-2) -> Callable[..., Any]:
    """SGD that appends `look(self)` to `seen` at every step."""

    class Watched(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            seen.append(look(self))
            return super().step(closure)

    return partial(Watched, lr=lr)


def gradient_norm(optimizer: torch.optim.Optimizer) -> float:
    gradients = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"]]
    return float(torch.cat(gradients).norm())
