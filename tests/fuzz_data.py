"""Data for the fuzzer, how runs read them, and what finished runs are asked about new ones."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

MAPS = ("encoder=conv", "encoder.flatten=false", "decoder=conv")
NARROW = ("encoder.channels=[4]", "decoder.channels=[4]", "bottleneck.dim=4")
DATA = {
    "digits": (),
    "table": ("datamodule=table", "datamodule.source.path={data}/table.csv", "datamodule.source.label.column=kind"),
    "arrays": ("datamodule=arrays", "datamodule.source.path={data}/arrays.npz"),
    "images": ("datamodule=image_folder", "datamodule.source.path={data}/images", "datamodule.source.size=8"),
    "series": ("datamodule=series", "datamodule.source.path={data}/series.csv", "datamodule.source.window=8"),
    "ratings": ("datamodule=interactions", "datamodule.source.path={data}/ratings.csv"),
    "texts": ("datamodule=documents", "datamodule.source.path={data}/texts.jsonl"),
    "clips": ("datamodule=video", "datamodule.source.path={data}/film.npy", "datamodule.source.clips.frames=4"),
}
"""Data of every kind, and how a run reads them."""
RUNS: dict[str, tuple[str, ...]] = {
    "digits": ("datamodule=digits", "density=mixture", "density.components=2"),
    "table": (*DATA["table"], "datamodule.source.label.normal=[ok]", "variant=undercomplete"),
    "codes": (*DATA["arrays"], "variant=residual_vq", "bottleneck.codes=8"),
    "series": (*DATA["series"], "variant=undercomplete", "logger=csv"),
    "films": (*DATA["ratings"], "variant=mult_dae", "datamodule.source.min_rating=2"),
    "texts": (*DATA["texts"], "variant=nvdm"),
    "clips": (*DATA["clips"], "variant=undercomplete", *NARROW),
    "images": (*DATA["images"], "variant=undercomplete", *NARROW, *MAPS),
}
"""The finished runs that are damaged."""
FILES = {
    "table.csv": DATA["table"],
    "table.parquet": (DATA["table"][0], "datamodule.source.path={data}/table.parquet"),
    "arrays.npz": DATA["arrays"],
    "arrays.npy": (DATA["arrays"][0], "datamodule.source.path={data}/arrays.npy"),
    "images/1.png": DATA["images"],
    "images/2.jpg": DATA["images"],
    "series.csv": DATA["series"],
    "ratings.csv": DATA["ratings"],
    "texts.jsonl": DATA["texts"],
    "film.npy": DATA["clips"],
    "series.npz": (DATA["series"][0], "datamodule.source.path={data}/series.npz"),
}
"""The data files that are damaged, and how a run reads them."""
NEW = {
    "digits": "digits.npy",
    "codes": "arrays.npy",
    "series": "series.npy",
    "table": "table.csv",
    "films": "ratings.csv",
    "texts": "story.txt",
    "clips": "film.npy",
    "images": "images/1.png",
}
"""What a run is asked about; where nothing else is said below, to compress it."""
QUESTIONS = {"table": "score", "films": "recommend", "texts": "summarise", "images": "style"}
"""Commands that answer about new data: `narrows COMMAND RUN DATA -o OUT`, but for the style of a picture."""


def question(name: str, run: str, new: str, packed: bool, draw: random.Random | None = None) -> tuple[str, list[str]]:
    """The command that reads new data by a run of `RUNS`, and its arguments; of `packed` data, their unpacking. Half of
    the times that it may `draw` it is one that reads new data of every kind."""
    if draw is not None and not packed and draw.random() < 0.5:
        command = draw.choice(["embed", "reconstruct"])
        endings = {"table": ".csv", "clips": ".gif", "images": ".png"} if command == "reconstruct" else {}
        return command, [run, new, "-o", f"out{endings.get(name, '.npz')}"]
    if name == "images":
        return "style", [new, new, "--run", run, "-o", "out.png"]
    if name in QUESTIONS:
        return QUESTIONS[name], [run, new, "-o", "out.csv"]
    return "decompress" if packed else "compress", [new, "out.npy" if packed else "out", "--run", run]


def make_data(folder: Path) -> None:
    """A file of every kind that a run can read."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    rows = 60
    table = pd.DataFrame({"width": rng.normal(5, 2, rows).round(3), "paid": rng.choice(["true", "false"], rows)})
    table["colour"], table["kind"] = rng.choice(["red", "blue"], rows), rng.choice(["ok", "ok", "bad"], rows)
    table.loc[3, "width"] = np.nan
    table.to_csv(folder / "table.csv", index=False)
    table.to_parquet(folder / "table.parquet")
    x = rng.normal(size=(60, 8)).astype(np.float32)
    np.savez(folder / "arrays.npz", x=x, y=rng.integers(0, 3, 60))
    np.save(folder / "arrays.npy", x)
    np.save(folder / "digits.npy", rng.integers(0, 256, (5, 8, 8), dtype=np.uint8))
    np.save(folder / "series.npy", rng.normal(size=(5, 2, 8)).astype(np.float32))
    np.save(folder / "film.npy", rng.integers(0, 256, (120, 8, 8), dtype=np.uint8))
    signal = pd.DataFrame(rng.normal(size=(400, 2)).round(3), columns=["a", "b"])
    signal.to_csv(folder / "series.csv", index=False)
    np.savez(folder / "series.npz", x=rng.normal(size=(400, 2)).astype(np.float32))
    for i in range(12):
        name = f"{i}.{'jpg' if i % 2 == 0 else 'png'}"
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(folder / "images" / name)
    _make_counts(folder, rng)


def _make_counts(folder: Path, rng: np.random.Generator) -> None:
    """Ratings of films, and texts."""
    rated = rng.random((40, 12)) < 0.6
    user, film = rated.nonzero()
    ratings = pd.DataFrame({"user": user, "item": [f"film {number}" for number in film]})
    ratings["rating"] = rng.integers(1, 6, len(ratings))
    ratings.to_csv(folder / "ratings.csv", index=False)
    words = {"money": ["bank", "rate", "shares", "market"], "farm": ["cows", "grass", "hay", "meadow"]}
    lines = []
    for kind in rng.choice(list(words), 40):
        said = " ".join(rng.choice(words[kind], 9)).capitalize() + ". " + " ".join(rng.choice(words[kind], 5))
        lines.append(json.dumps({"text": said, "kind": kind}))
    (folder / "texts.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "story.txt").write_text("The bank raised its rate. Cows eat grass.\n\nThe market fell. Um. A meadow.\n")
