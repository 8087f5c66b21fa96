"""What a GPU gives, within minutes: run by `scripts/gpu.sh`, which prints what this finds as JSON.

In turn, each only while there is time: steps beside bare loops; six variants in single precision, in bfloat16, compiled
and with CUDA graphs; two equal runs; a run as one process of NCCL; published settings on the data that are there, the
shortest first. What fails is told in its place, and the rest goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import narrows  # noqa: F401 (before torchvision, which Lightning imports)

# isort: split

import torch
from torch import Tensor

from benchmarks import commands, steps
from benchmarks.models import Case
from narrows.training.lightning_trainer import quieten

PAIR = ("encoder=conv", "decoder=conv")
VARIANTS = {
    "vae": Case(("variant=vae", *PAIR), 1024, 8_192),
    "vq_vae": Case(("variant=vq_vae",), 1024, 8_192),
    "topk": Case(("variant=topk", "bottleneck.dim=4096"), 1024, 8_192),
    "iwae": Case(("variant=iwae",), 256, 2_048),
    "beta_tcvae": Case(("variant=beta_tcvae", *PAIR), 1024, 8_192),
    "sequential": Case(("variant=sequential",), 256, 2_048, "series", (1, 140)),
}
PUBLISHED = ("vae_binarized_mnist", "iwae_mnist", "rae_mnist", "beta_tcvae_dsprites", "vamp_binarized_mnist")


class Budget:
    """The seconds that are left."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return self.end - time.monotonic()


def forms(case: Case, device: str, count: int) -> dict[str, float | str]:
    """Examples a second of training steps in a bare loop, whose batches lie on the device."""
    data = case.datamodule()
    x = torch.cat([batch.x for batch in data.ordered_loader("train")])[: case.batch].to(device)
    changes: dict[str, Callable[[Callable[[Tensor], Tensor]], Callable[[Tensor], Tensor]]] = {
        "single precision": lambda loss: loss,
        "bfloat16": lambda loss: torch.autocast(device, torch.bfloat16)(loss),
        "compiled": torch.compile,
        "compiled, CUDA graphs": lambda loss: torch.compile(loss, mode="reduce-overhead"),
    }
    found: dict[str, float | str] = {}
    for name, change in changes.items():
        loss, optimizer = steps.same_modules(case, data, x.device)
        try:
            found[name] = _rate(change(loss), optimizer, x, count)
        except Exception as error:  # a form that this device or variant has not is a finding
            found[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return found


def _rate(loss: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer, x: Tensor, count: int) -> float:
    times = []
    for number in range(count + 3):
        start = time.perf_counter()
        value = loss(x)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if x.is_cuda:
            torch.cuda.synchronize()
        if number >= 3:
            times.append(time.perf_counter() - start)
    return len(x) / statistics.median(times)


def run(folder: Path, name: str, *options: str) -> tuple[float, Path]:
    """Seconds of `narrows train OPTIONS`, and its run directory."""
    place = folder / name
    start = time.perf_counter()
    commands.finish([*commands.NARROWS, "train", *options, f"output_dir={place}"], folder)
    (manifest,) = place.rglob("manifest.json")
    return time.perf_counter() - start, manifest.parent


def equal_runs(folder: Path, device: str, epochs: int) -> dict[str, Any]:
    """Whether two runs of one seed have the same weights, to the bit."""
    options = ("datamodule=digits", "variant=vae", *PAIR, f"trainer={device}", f"trainer.max_epochs={epochs}")
    runs = [run(folder, name, *options)[1] for name in ("first", "second")]
    first, second = (_weights(one) for one in runs)
    return {"equal to the bit": first == second}


def _weights(directory: Path) -> str:
    saved = torch.load(directory / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=False)["state_dict"]
    found = hashlib.sha256()
    for name, value in sorted(saved.items()):
        found.update(name.encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=450, help="in which to end (default 450)")
    parser.add_argument("--data", type=Path, help="folder of data sets, for the published settings")
    parser.add_argument("--toy", action="store_true", help="the smallest sizes, on the CPU")
    options = parser.parse_args()
    quieten()
    budget, toy = Budget(options.seconds), options.toy
    device = "cpu" if toy else "cuda"
    found: dict[str, Any] = {"device": "cpu" if toy else torch.cuda.get_device_name(), "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, measure in _parts(folder, device, toy, options.data, budget):
            if budget.left < 20:
                found[name] = "no time was left"
                continue
            start = time.monotonic()
            try:
                found[name] = measure()
            except Exception as error:  # the other parts still say something
                found[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
            print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    print(json.dumps(found, indent=2))


def _parts(
    folder: Path, device: str, toy: bool, data: Path | None, budget: Budget
) -> list[tuple[str, Callable[[], Any]]]:
    kind = "cpu" if toy else "gpu"
    chosen = {"MLP VAE, batch 128": Case(steps.MLP, rows=27_000), "MLP VAE, batch 8192": Case(steps.MLP, 8192, 54_000)}
    if toy:
        chosen = {name: case.smaller(256) for name, case in chosen.items()}
    variants = {name: case.smaller(case.batch) for name, case in VARIANTS.items()} if toy else VARIANTS
    variants = dict(list(variants.items())[:1]) if toy else variants
    nccl = ("datamodule=digits", "trainer=ddp", f"trainer.accelerator={kind}", "trainer.devices=1")
    parts: list[tuple[str, Callable[[], Any]]] = [
        ("steps", lambda: dict(steps.ratios(chosen, 1 if toy else 3, device))),
        *((f"forms of {name}", partial(forms, case, device, 1 if toy else 30)) for name, case in variants.items()),
        ("two equal runs", lambda: equal_runs(folder, kind, 1 if toy else 5)),
        ("one process of NCCL", lambda: {"seconds": run(folder, "nccl", *nccl, "trainer.max_epochs=1")[0]}),
    ]
    chosen_settings = PUBLISHED if data else ()
    return parts + [(name, partial(published, folder, name, kind, data, budget)) for name in chosen_settings]


def published(folder: Path, name: str, kind: str, data: Path | None, budget: Budget) -> dict[str, Any]:
    """The figures of an experiment as far as it gets in the time that is left."""
    left = max(1, int(budget.left - 30))
    limit = f"trainer.max_time=00:{left // 3600:02d}:{left % 3600 // 60:02d}:{left % 60:02d}"
    _, directory = run(folder, name, f"experiment={name}", f"data_dir={data}", f"trainer={kind}", limit)
    manifest = json.loads((directory / "manifest.json").read_text())
    figures = json.loads((directory / "metrics.json").read_text())
    test = {key: value for key, value in figures.items() if key.startswith("test/")}
    return {"status": manifest["status"], "seconds": manifest.get("seconds"), **test}


if __name__ == "__main__":
    main()
