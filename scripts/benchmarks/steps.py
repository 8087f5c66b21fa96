"""What training in narrows costs beside a bare loop: an epoch and its validation, as a ratio within one run.

The bare loop draws a permutation, slices tensors and steps; it trains the very modules that narrows does, and, for the
first case, a VAE that is wired by hand. Narrows is as users have it, with progress bar, TensorBoard, CSV, checkpoints,
random seeding of every step and shuffling by its datamodule, or without the first four. Rounds alternate, so a machine
that slows down slows both.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from benchmarks.models import Case
from narrows.config.building import build_later
from narrows.data.datamodule import DataModule
from narrows.training.callbacks.progress import Progress
from narrows.training.callbacks.write_checkpoints import Checkpoint, CheckpointFiles
from narrows.training.loggers import CSVHistory
from narrows.training.preparation import build_module
from narrows.training.tensorboard import TensorBoard
from narrows.types import Batch

MLP = ("variant=vae", "likelihood=bernoulli", "encoder.widths=[400]", "decoder.widths=[400]", "bottleneck.dim=20")
BY_HAND = "MLP VAE, batch 128, beside one wired by hand"
CASES = {
    BY_HAND: Case(MLP, rows=54_000),
    "MLP VAE, batch 128": Case(MLP, rows=54_000),
    "MLP VAE, batch 1024": Case(MLP, batch=1024, rows=54_000),
    "conv VAE, batch 128": Case(("variant=vae", "encoder=conv", "decoder=conv")),
    "LSTM on 140 steps, batch 64": Case(("variant=sequential",), 64, 3_200, "series", (1, 140)),
    "top-k of 1,024 latents, batch 128": Case(("variant=topk", "bottleneck.dim=1024"), rows=27_000),
    "VQ on maps, batch 128": Case(("variant=vq_vae",)),
}
ALL = frozenset({"bar", "loggers", "checkpoint"})
SETTINGS = {"as users have it": ALL, "with nothing on": frozenset[str]()}


class BareVAE(nn.Module):
    """The layers of the MLP VAE, wired by hand; its output is the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 40))
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784))

    def forward(self, x: Tensor) -> Tensor:
        mean, log_variance = self.encoder(x.flatten(1)).chunk(2, 1)
        q = Normal(mean, (0.5 * log_variance).exp(), validate_args=False)
        p = Normal(torch.zeros_like(mean), torch.ones_like(mean), validate_args=False)
        p_x = Bernoulli(logits=self.decoder(q.rsample()), validate_args=False)
        return (kl_divergence(q, p).sum(1) - p_x.log_prob(x.flatten(1)).sum(1)).mean()


class Clock(L.Callback):
    """The time of the fit loop alone: set-up is paid once, whatever the length of the run."""

    def on_train_start(self, *_: Any) -> None:
        self.start = time.perf_counter()

    def on_train_end(self, *_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self.start


def ratios(
    cases: dict[str, Case], rounds: int, device: str = "cpu"
) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    """Of every case the median, least and largest ratio to the bare loop in every setting, with the data on the
    device."""
    for name, case in cases.items():
        data = case.datamodule()
        x, held_out = (
            torch.cat([batch.x for batch in data.ordered_loader(split)]).to(device) for split in ("train", "validation")
        )
        found: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
        for _ in range(rounds):
            for setting, parts in SETTINGS.items():
                before = _bare(case, data, x, held_out, by_hand=name == BY_HAND)
                seconds = with_narrows(case, data, parts, device)
                after = _bare(case, data, x, held_out, by_hand=name == BY_HAND)
                found[setting].append(2 * seconds / (before + after))
        yield name, {setting: spread(values) for setting, values in found.items()}


def spread(values: list[float]) -> dict[str, float]:
    """The median, least and largest of several rounds."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def _bare(case: Case, data: DataModule, x: Tensor, held_out: Tensor, *, by_hand: bool) -> float:
    """Seconds of one epoch and its validation in the loop that one would write by hand."""
    loss, optimizer = _by_hand(x.device) if by_hand else same_modules(case, data, x.device)
    start = time.perf_counter()
    for rows in torch.randperm(len(x), device=x.device).split(case.batch):
        value = loss(x[rows])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    with torch.no_grad():
        for part in held_out.split(1000):
            loss(part)
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _by_hand(device: torch.device) -> tuple[Callable[[Tensor], Tensor], torch.optim.Optimizer]:
    model = BareVAE().to(device)
    return model, torch.optim.Adam(model.parameters(), lr=1e-3)


def same_modules(
    case: Case, data: DataModule, device: torch.device
) -> tuple[Callable[[Tensor], Tensor], torch.optim.Optimizer]:
    """The loss of a batch by the modules that narrows trains, and their optimiser."""
    config, model, objective = case.build(data)
    objective.attach(model)
    model.to(device)
    objective.to(device)
    objective.span(1000)
    optimizer = build_later(config.optimizer, "optimizer")([*model.parameters(), *objective.parameters()])

    def loss(x: Tensor) -> Tensor:
        return objective(model(Batch(x)), model).total

    return loss, optimizer


def with_narrows(case: Case, data: DataModule, parts: frozenset[str], device: str) -> float:
    """Seconds of the same epoch in narrows with the named parts switched on."""
    config, model, objective = case.build(data)
    module, clock = build_module(config, model, objective), Clock()
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        callbacks: list[L.Callback] = [clock]
        callbacks += [Progress(refresh=20)] if "bar" in parts else []
        callbacks += [Checkpoint()] if "checkpoint" in parts else []
        trainer = L.Trainer(
            accelerator=device,
            devices=1,
            max_epochs=1,
            callbacks=callbacks,
            logger=[TensorBoard(folder), CSVHistory(folder)] if "loggers" in parts else False,
            default_root_dir=folder,
            enable_checkpointing="checkpoint" in parts,
            enable_progress_bar="bar" in parts,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            inference_mode=False,
            use_distributed_sampler=False,
            deterministic=True,
            log_every_n_steps=50,
            plugins=[CheckpointFiles()],
        )
        trainer.fit(module, datamodule=data)
    return clock.seconds
