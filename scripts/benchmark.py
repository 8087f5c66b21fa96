"""What narrows costs beside a bare PyTorch loop, measured interleaved in one run.

    python scripts/benchmark.py                    # the table
    python scripts/benchmark.py --rounds 5 --json figures.json

Both sides train the same MLP VAE (784-400-20-400-784, Adam) on the same number of the same kind of batches,
with the same validation pass after each epoch; narrows as users have it, with progress bar, TensorBoard, CSV,
checkpoints, random seeding of every step and shuffling by its datamodule. The bare loop draws a permutation,
slices tensors and steps. Rounds alternate, so a machine that slows down slows both; the figure is the median of
the per-round ratios. Speed is a ratio within one run and never a test.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import narrows  # noqa: F401 (before torchvision, which Lightning imports)

# isort: split

import lightning as L
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from narrows.bottlenecks.gaussian import Gaussian
from narrows.corruptions import NoCorruption
from narrows.data.contents import Contents, Part
from narrows.data.datamodule import DataModule, Loading
from narrows.decoders.mlp import MLPDecoder
from narrows.encoders.mlp import MLPEncoder
from narrows.likelihoods.elementwise import BernoulliLikelihood
from narrows.losses import Objective
from narrows.losses.divergence import KL
from narrows.losses.reconstruction import NegativeLogLikelihood
from narrows.models.autoencoder import Autoencoder
from narrows.models.stages import Stages
from narrows.training.callbacks.progress import Progress
from narrows.training.callbacks.write_checkpoints import Checkpoint, CheckpointFiles
from narrows.training.lightning_module import AutoencoderModule
from narrows.training.lightning_trainer import quieten
from narrows.training.loggers import CSVHistory
from narrows.training.tensorboard import TensorBoard

ROWS, VALIDATION = 54_000, 6_000  # MNIST's, as narrows splits it


class Pixels:
    """28x28 grey images of noise: their content does not change what a step costs."""

    def load(self) -> Contents:
        x = torch.randint(0, 256, (ROWS + VALIDATION, 1, 28, 28), dtype=torch.uint8)
        return Contents(kind="image", train=Part(x[:ROWS]), validation=Part(x[ROWS:]))


def datamodule(batch_size: int) -> DataModule:
    data = DataModule(Pixels(), batch_size=batch_size, validation="official", loading=Loading())
    data.setup()
    return data


def autoencoder(data: DataModule) -> Autoencoder:
    return Autoencoder(
        data.spec,
        Stages(
            encoder=lambda shape: MLPEncoder(shape, widths=[400]),
            bottleneck=lambda shape: Gaussian(shape, dim=20),
            decoder=lambda shape, out: MLPDecoder(shape, out, widths=[400]),
            likelihood=BernoulliLikelihood,
            corruption=NoCorruption,
        ),
    )


class BareVAE(nn.Module):
    """The same layers, wired by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 40))
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784))

    def forward(self, x: Tensor) -> Tensor:
        mean, log_variance = self.encoder(x).chunk(2, 1)
        q = Normal(mean, (0.5 * log_variance).exp(), validate_args=False)
        p = Normal(torch.zeros_like(mean), torch.ones_like(mean), validate_args=False)
        p_x = Bernoulli(logits=self.decoder(q.rsample()), validate_args=False)
        return (kl_divergence(q, p).sum(1) - p_x.log_prob(x).sum(1)).mean()


def bare(x: Tensor, held_out: Tensor, batch_size: int) -> float:
    """Seconds of one epoch and its validation in the loop that one would write by hand."""
    model = BareVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    start = time.perf_counter()
    for rows in torch.randperm(len(x)).split(batch_size):
        loss = model(x[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        for part in held_out.split(1000):
            model(part)
    return time.perf_counter() - start


class Clock(L.Callback):
    """The time of the fit loop alone: set-up is paid once, whatever the length of the run."""

    def on_train_start(self, *_: Any) -> None:
        self.start = time.perf_counter()

    def on_train_end(self, *_: Any) -> None:
        self.seconds = time.perf_counter() - self.start


def with_narrows(data: DataModule, parts: frozenset[str]) -> float:
    """Seconds of the same epoch in narrows with the named parts switched on."""
    module = AutoencoderModule(
        autoencoder(data),
        Objective({"reconstruction": NegativeLogLikelihood(), "kl": KL()}),
        optimizer=lambda params: torch.optim.Adam(params, lr=1e-3),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0, 1),
    )
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        callbacks: list[L.Callback] = [clock]
        callbacks += [Progress(refresh=20)] if "bar" in parts else []
        callbacks += [Checkpoint()] if "checkpoint" in parts else []
        trainer = L.Trainer(
            accelerator="cpu",
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


PARTS = frozenset({"bar", "loggers", "checkpoint"})
SETTINGS: dict[str, frozenset[str]] = {
    "narrows as users have it": PARTS,
    "  without the progress bar": PARTS - {"bar"},
    "  without TensorBoard and CSV": PARTS - {"loggers"},
    "  without checkpoints": PARTS - {"checkpoint"},
    "  none of the three": frozenset(),
}


def steps(batch_size: int, rounds: int) -> dict[str, dict[str, float]]:
    """Median, least and largest ratio to the bare loop of every setting."""
    data = datamodule(batch_size)
    x = torch.cat([batch.x for batch in data.ordered_loader("train")]).flatten(1)
    held_out = torch.cat([batch.x for batch in data.ordered_loader("validation")]).flatten(1)
    ratios: dict[str, list[float]] = {name: [] for name in SETTINGS}
    for _ in range(rounds):
        for name, parts in SETTINGS.items():
            before = bare(x, held_out, batch_size)
            seconds = with_narrows(data, parts)
            after = bare(x, held_out, batch_size)
            ratios[name].append(2 * seconds / (before + after))
    return {name: _spread(values) for name, values in ratios.items()}


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def data_path(rounds: int) -> dict[str, float]:
    """Images per second that the training loader hands out at batch 128, and a plain index-and-slice."""
    data = datamodule(128)
    x = torch.cat([batch.x for batch in data.ordered_loader("train")])
    loader = data.train_dataloader()

    def ours() -> int:
        return sum(len(batch) for batch in loader)

    def plain() -> int:
        return sum(len(x[rows]) for rows in torch.randperm(len(x)).split(128))

    return {"narrows": _rate(ours, rounds), "tensor[permutation]": _rate(plain, rounds)}


def _rate(serve: Callable[[], int], rounds: int) -> float:
    rates = []
    for _ in range(rounds):
        start = time.perf_counter()
        served = serve()
        rates.append(served / (time.perf_counter() - start))
    return statistics.median(rates)


@contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    yield
    torch.set_num_threads(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="interleaved repetitions (default 5)")
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 1024], help="batch sizes (default 128 1024)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    quieten()
    torch.utils.deterministic.fill_uninitialized_memory = False  # as `narrows train` sets it
    figures: dict[str, Any] = {}
    with _threads(options.threads):
        for batch_size in options.batch:
            print(
                f"batch {batch_size}: time over the bare loop's, median (least to largest) of {options.rounds} rounds"
            )
            figures[f"batch {batch_size}"] = table = steps(batch_size, options.rounds)
            for name, ratio in table.items():
                print(f"  {name:<32} {ratio['median']:.3f} ({ratio['min']:.3f} to {ratio['max']:.3f})", flush=True)
        figures["images per second"] = rates = data_path(4 * options.rounds)
        print("data path at batch 128, 28x28, images per second")
        for name, rate in rates.items():
            print(f"  {name:<32} {rate:,.0f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
