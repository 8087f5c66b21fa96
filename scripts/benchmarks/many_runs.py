"""What commands take in a folder of many runs: copies of one that was trained, with seeds of their own."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from pathlib import Path

from benchmarks.commands import NARROWS, SMALL, finish

RUN = [*NARROWS, "train", *SMALL, "trainer.max_steps=1"]
AGAIN = ["reproduce", "outputs/vae/seed=0", "--into", "again"]
VIEW = """
import sys, tempfile
from pathlib import Path
from narrows.compare.run_records import read_runs
from narrows.compare.tensorboard_view import make_view
with tempfile.TemporaryDirectory() as folder:
    make_view(Path(folder), [record for record in read_runs(sys.argv[1:]) if record.usable])
"""


def seconds(runs: int, rounds: int) -> dict[str, float]:
    """Seconds of each command over so many runs, the median of `rounds`."""
    with tempfile.TemporaryDirectory() as folder:
        finish([*RUN, "hydra.run.dir=first"], folder)
        outputs = Path(folder) / "outputs"
        for seed in range(runs):
            _copy(Path(folder) / "first", outputs / "vae" / f"seed={seed}", seed)
        commands = {
            f"narrows compare, {runs:,} runs": [*NARROWS, "compare", "outputs"],
            f"what narrows tensorboard prepares, {runs:,} runs": [NARROWS[0], "-c", VIEW, "outputs"],
            f"narrows reproduce, a run of one step among {runs:,}": [*NARROWS, *AGAIN],
        }
        found: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                shutil.rmtree(Path(folder) / "again", ignore_errors=True)
                found[name].append(finish(command, folder))
        return {name: statistics.median(values) for name, values in found.items()}


def _copy(run: Path, target: Path, seed: int) -> None:
    """The same run under another seed; its large files are the same ones on the disk."""
    shutil.copytree(run, target, copy_function=os.link)
    for name, words in {"config.yaml": "seed: {}\n", "manifest.json": '"seed": {}'}.items():
        file = target / name
        text = file.read_text()
        file.unlink()
        file.write_text(text.replace(words.format(0), words.format(seed), 1))
