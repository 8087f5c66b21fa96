"""Small runs whose own test rows lie in files again, so that what is made of them as new data can be compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from command import NARROW, NO_TASKS, TINY, run_in_process
from piano_and_molecule_files import write_chorales, write_molecules
from PIL import Image
from sound_clips import write_clips

from narrows.loading import OpenRun

QUICK = (*TINY, *NARROW, *NO_TASKS)


def pictures(folder: Path, number: int = 30) -> None:
    """Pictures of several sizes and endings in two folders."""
    random = np.random.default_rng(0)
    for place in range(number):
        path = folder / "ab"[place % 2] / f"{place:02d}.{('png', 'bmp')[place % 3 > 0]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (12 + place % 3, 14, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


def train(folder: Path, *overrides: str) -> None:
    place = () if any("hydra.run.dir" in text for text in overrides) else ("hydra.run.dir=run",)
    done = run_in_process(*overrides, *QUICK, *place, cwd=folder)
    assert done.code == 0, done.err


def picture_run(folder: Path) -> None:
    """A run of pictures whose test split is the folder `test`."""
    pictures(folder / "pics")
    pictures(folder / "test", 7)
    where = ("datamodule.source.path=pics", "datamodule.source.test_path=test", "datamodule.source.size=[8,10]")
    train(folder, "datamodule=image_folder", *where)


def feature_run(folder: Path) -> None:
    """A run on what a frozen network sees in pictures, whose test split is the folder `test`."""
    pictures(folder / "pics")
    pictures(folder / "test", 7)
    where = ("datamodule.source.path=pics", "datamodule.source.test_path=test", "datamodule.source.size=[8,10]")
    seen = ("feature_map@datamodule.features=frozen", *(f"datamodule.features.{one}" for one in ("side=4", "patch=1")))
    network = ("datamodule.features.network.size=16", "datamodule.features.network.layers=[stem]")
    train(folder, "datamodule=image_folder", *where, *seen, *network, "variant=undercomplete")


def array_run(folder: Path) -> None:
    """A run of series of two channels, channels last, standardised, whose test rows are `x_test`."""
    random = np.random.default_rng(0)
    series = {name: random.normal([100, -3], [5, 0.1], (count, 6, 2)) for name, count in (("train", 60), ("test", 9))}
    np.savez(folder / "own.npz", x_train=series["train"], x_test=series["test"])
    how = ("datamodule.source.channels_last=true", "datamodule.source.standardise=standard", "likelihood=gaussian")
    train(folder, "datamodule=arrays", "datamodule.source.path=own.npz", *how, "variant=undercomplete")


def table_run(folder: Path) -> None:
    """A run of a table whose test rows are `test.csv`."""
    random = np.random.default_rng(0)
    for name, count in (("own", 80), ("test", 9)):
        table = pd.DataFrame(
            {
                "id": np.arange(count),
                "width": random.normal(1000, 20, count).round(3),
                "colour": random.choice(["red", "green"], count),
                "paid": random.choice(["0", "1"], count),
            }
        )
        table.loc[2, "width"] = np.nan
        table.to_csv(folder / f"{name}.csv", index=False)
    where = ("datamodule.source.path=own.csv", "datamodule.source.test.path=test.csv", "datamodule.source.ignore=[id]")
    train(folder, "datamodule=table", *where, "variant=undercomplete")


TEXT = ("variant=text_vae", "input.dim=5", "encoder.hidden=6", "decoder.hidden=6", "decoder.embedding=5")


def text_run(folder: Path) -> None:
    """A run of texts of several lengths whose test split is `test.txt`."""
    source = np.random.default_rng(0)
    for name, count in (("own", 60), ("test", 9)):
        lines = [" ".join(source.choice(["a", "rose", "is", "red"], source.integers(1, 9))) for _ in range(count)]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    where = ("datamodule.source.path=own.txt", "datamodule.source.test.path=test.txt", "bottleneck.dim=3")
    done = run_in_process(
        "datamodule=text", *TEXT, *where, *(one for one in QUICK if one not in NARROW), "hydra.run.dir=run", cwd=folder
    )
    assert done.code == 0, done.err


def document_run(folder: Path) -> None:
    """A run of documents as counts of their words, whose test split is the folder `test`."""
    source = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(12)])
    for name, count in (("own", 60), ("test", 9)):
        (folder / name).mkdir()
        for number in range(count):
            (folder / name / f"{number:02d}.txt").write_text(" ".join(source.choice(words, 6)))
    where = ("datamodule.source.path=own", "datamodule.source.test.path=test")
    train(folder, "datamodule=documents", *where, "variant=mult_vae", "bottleneck.dim=3")


def count_run(folder: Path) -> None:
    """A run of genes whose test split is `test.csv`, with its columns in another order and one more."""
    source = np.random.default_rng(0)
    genes = [f"g{number}" for number in range(7)]
    for name, count in (("own", 60), ("test", 9)):
        table = pd.DataFrame(source.poisson(2, (count, 7)) + np.eye(count, 7, dtype=int), columns=genes)
        table.insert(0, "cell", [f"{name}-{number}" for number in range(count)])
        if name == "test":
            table = table[["cell", *reversed(genes)]].assign(other=1)
        table.to_csv(folder / f"{name}.csv", index=False)
    where = ("datamodule.source.path=own.csv", "datamodule.source.test.path=test.csv")
    train(folder, "datamodule=counts", *where, "variant=nb_vae", "bottleneck.dim=3")


def signal(seed: int, steps: int) -> pd.DataFrame:
    random, clock = np.random.default_rng(seed), np.arange(steps)
    stamps = pd.date_range("2026-03-01", periods=steps, freq="1min").astype(str)
    flow = 500 + np.sin(clock / 3) + 0.1 * random.normal(size=steps)
    return pd.DataFrame({"when": stamps, "flow": flow.round(4), "heat": np.cos(clock / 5).round(4), "note": "ok"})


def signal_run(folder: Path) -> None:
    """A run of windows of two channels, cut without overlap; the last 60 time steps of 600 are the test split."""
    table = signal(0, 600)
    table.to_csv(folder / "own.csv", index=False)
    table[540:].to_csv(folder / "test.csv", index=False)
    where = ("datamodule.source.path=own.csv", "datamodule.source.window=12", "datamodule.source.test=0.1")
    where += ("datamodule.source.stride=null",)
    train(folder, "datamodule=series", *where, "variant=undercomplete", "bottleneck.dim=3")


def whole_series_run(folder: Path) -> None:
    """A run of series that are examples as a whole; those of `test` are held out by no one, and read again as new."""
    for number in range(20):
        (folder / "own").mkdir(exist_ok=True)
        signal(number, 12).to_csv(folder / "own" / f"m{number:02d}.csv", index=False)
    where = ("datamodule.source.path=own", "datamodule.source.test=0.2", "datamodule.source.window=null")
    train(folder, "datamodule=series", *where, "variant=undercomplete", "bottleneck.dim=3")
    (folder / "test").mkdir()
    opened = OpenRun(folder / "run")
    opened.find_data()
    for number in opened.data._split("test").rows.tolist():
        (folder / "test" / f"m{number:02d}.csv").write_bytes((folder / "own" / f"m{number:02d}.csv").read_bytes())


def music_run(folder: Path) -> None:
    """A run of chorales in windows, whose test part is a file of its own too."""
    parts = json.loads(write_chorales(folder / "own.json").read_text())
    (folder / "test.json").write_text(json.dumps({"test": parts["test"]}))
    small = ("encoder.hidden=6", "decoder.hidden=6", "bottleneck.dim=3")
    done = run_in_process(
        *("datamodule=music", "datamodule.source.path=own.json", "datamodule.source.window=5"),
        *("variant=undercomplete", "encoder=gru", "decoder=gru_ar", "likelihood=bernoulli", *small),
        *(one for one in QUICK if one not in NARROW),
        "hydra.run.dir=run",
        cwd=folder,
    )
    assert done.code == 0, done.err


def molecule_run(folder: Path) -> None:
    """A run of molecules whose test split is `test.csv`."""
    write_molecules(folder / "own.csv")
    write_molecules(folder / "test.csv", 1)
    where = ("datamodule.source.path=own.csv", "datamodule.source.test.path=test.csv", "bottleneck.dim=3")
    quick = (one for one in QUICK if one not in NARROW)
    done = run_in_process("datamodule=molecules", *TEXT, *where, *quick, "hydra.run.dir=run", cwd=folder)
    assert done.code == 0, done.err


def sound_run(folder: Path) -> None:
    """A run on windows of sound that masks their spectra; its test split is the folder `own/test`."""
    write_clips(folder / "own" / "train", 5)
    write_clips(folder / "own" / "test", 2)
    train(
        folder,
        *("datamodule=audio", "datamodule.source.path=own", "datamodule.source.window=256", "model=masking"),
        *("input=spectrum", "input.width=32", "input.hop=16", "corruption=sound", "variant=denoising"),
        "bottleneck.dim=3",
    )


def own_latents(run: Path) -> np.ndarray[Any, Any]:
    """`model.embed` of the batches of the run's own test split."""
    opened = OpenRun(run)
    return torch.cat([opened.model.embed(batch) for batch in opened.data.ordered_loader("test")]).numpy()


def own_reconstructions(run: Path) -> torch.Tensor:
    opened = OpenRun(run)
    return torch.cat([opened.model.reconstruct(batch) for batch in opened.data.ordered_loader("test")])


def assert_refused(command: Any, arguments: Sequence[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`narrows COMMAND IN OUT --run run` says this sentence, ends with code 2 and writes nothing to OUT."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        command.main([*arguments, "--run", "run"])
    assert end.value.code == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not Path(arguments[1]).exists()
