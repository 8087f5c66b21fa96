"""What every source serves, as digests: a program, because instruction sets are chosen when a process starts.

    python tests/data/served_data.py FOLDER [REAL_DATA]

Writes small files into FOLDER, reads them, and prints one JSON object of names and digests.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from narrows.data.contents import Scaling
from narrows.data.datamodule import DataModule
from narrows.data.missing_completely_at_random import Missing
from narrows.data.sources import synthetic
from narrows.data.sources.arrays import Arrays
from narrows.data.sources.bundled import Bundled
from narrows.data.sources.digits import Digits
from narrows.data.sources.image_folder import ImageFolder
from narrows.data.sources.series import Series
from narrows.data.sources.table import Table

MARGIN = "distance of the generated signal from a rounding boundary"


def write_files(folder: Path) -> None:
    """Numbers of many digits, of many sizes, and some symmetric about their mean; pictures to be made smaller."""
    source = np.random.Generator(np.random.PCG64(0))
    (folder / "pictures").mkdir()
    np.savez(folder / "numbers.npz", x=source.integers(-(10**9), 10**9, (3000, 7)) / 7 * 10.0 ** np.arange(-12, 2, 2))
    np.savez(folder / "grey.npz", x=source.integers(0, 10**6, (400, 1, 32, 32)).astype(np.float32) / 7e5)
    for number in range(24):
        pixels = source.integers(0, 256, (50, 41, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{number}.png")
    rows = [f"{n % 11 - 5},{n / 7!r},{n * n % 997},{'abc'[n % 3]},{'' if n % 5 else n}" for n in range(2200)]
    (folder / "table.csv").write_text("\n".join(["whole,ratio,square,letter,seldom", *rows]) + "\n")
    signal = [f"{n % 13},{(n * n % 101) / 3!r}" for n in range(500)]
    (folder / "signal.csv").write_text("\n".join(["a,b", *signal]) + "\n")


def datamodules(folder: Path, real: Path | None) -> Iterator[tuple[str, Any]]:
    """Every source that needs no download, in each way of preparing it."""
    sources = {
        "generated": Series(window=64, stride=16, test=0.25),
        "generated whole": Series(test=None),
        "signal": Series(str(folder / "signal.csv"), window=20, stride=5),
        "missing": Missing(Bundled(), share=0.3),
        "pictures": ImageFolder(str(folder / "pictures"), size=16, test=0.2),
        **{f"numbers {how}": Arrays(str(folder / "numbers.npz"), standardise=how) for how in ("standard", "minmax")},
        **{f"bundled {name}": Bundled(name) for name in ("breast", "wine", "digits", "iris")},
        **{
            f"table {method}": Table(str(folder / "table.csv"), scaling=Scaling(method))
            for method in ("standard", "minmax", "robust", "quantile", "none")
        },
    }
    if real is not None:
        sources["ecg5000"] = Series(str(real / "ucr" / "ECG5000.npz"), train_labels=[1])
        sources["olivetti"] = Arrays(str(real / "olivetti" / "olivetti_faces.npz"), x_key="images")
    for name, source in sources.items():
        yield name, DataModule(source)
    for seed in range(6):
        source = Arrays(str(folder / "grey.npz"), kind="image", standardise="standard")
        yield f"grey {seed}", DataModule(source, split_seed=seed)
    for binarise in ("none", "static", "dynamic"):
        yield f"digits {binarise}", DataModule(Digits(), binarise=binarise, folds=3, fold=1)


def digest(batches: Any) -> str:
    """Of everything that they hold."""
    found = hashlib.sha256()
    for batch in batches:
        for values in (batch.x, batch.label, batch.observed, batch.index):
            if values is not None:
                found.update(f"|{values.dtype}{list(values.shape)}".encode() + values.contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def served(folder: Path, real: Path | None) -> dict[str, Any]:
    """Digests by name, and the margin."""
    write_files(folder)
    found: dict[str, Any] = {}
    for name, data in datamodules(folder, real):
        data.setup()
        found[name] = data.spec.fingerprint
        found[f"{name}, described"] = hashlib.sha256(repr(data.spec).encode()).hexdigest()[:16]
        found[f"{name}, first epoch"] = digest(data.train_dataloader())
        for split in ("train", "validation", *(["test"] if "test" in data._splits else [])):
            found[f"{name}, {split}"] = digest(data.ordered_loader(split, revealed=True))
    in_cells = synthetic.unrounded(18_000, synthetic.LENGTH)[0] / synthetic.GRID
    found[MARGIN] = float((in_cells - in_cells.floor() - 0.5).abs().min() * synthetic.GRID)
    return found


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    print(json.dumps(served(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)))
