"""Train the small models that ship with narrows, and pack them into `src/narrows/pretrained/`.

    python scripts/make_pretrained.py                # all of them; some minutes on one thread
    python scripts/make_pretrained.py digits-vae

Their figures stand in their model cards: `unzip -p src/narrows/pretrained/digits-vae.narrows README.md`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PLACE = Path(__file__).parents[1] / "src" / "narrows" / "pretrained"
COMMON = ("datamodule=digits", "seed=0", "logger=csv")
MAP = ("encoder=conv", "encoder.flatten=false", "decoder=conv")
SMALL_DENSITY = ("density=autoregressive", "density.width=64", "density.layers=2")
MODELS = {
    "digits-vae": ("variant=vae",),
    "digits-vq": ("variant=vq_vae", *MAP, "bottleneck.dim=16", "bottleneck.codes=128", *SMALL_DENSITY),
    "digits-sae": (
        "variant=topk",
        "encoder.widths=[]",
        "decoder.widths=[]",
        "bottleneck.dim=128",
        "bottleneck.k=8",
        "loss=sparse",
    ),
}
NOTES = (
    "Made by `python scripts/make_pretrained.py {name}` of the source of narrows; the weights have the licence of "
    "narrows, MIT. The data are the digits of scikit-learn: 1,797 pictures of 8 x 8 pixels, the test part of Optical "
    "Recognition of Handwritten Digits (E. Alpaydin and C. Kaynak, 1998, UCI Machine Learning Repository, CC BY 4.0). "
    "An example for trying things out, and no reader of digits: it knows 8 x 8 pixels with values from 0 to 1 alone."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(MODELS)}")
    for name in parser.parse_args().names or MODELS:
        if name not in MODELS:
            parser.error(f"no model '{name}': choose from {', '.join(MODELS)}")
        make(name)


def make(name: str) -> None:
    """Train the model in a folder that is then gone, and pack it."""
    with tempfile.TemporaryDirectory() as folder:
        run("train", *COMMON, *MODELS[name], f"notes='{NOTES.format(name=name)}'", f"hydra.run.dir={name}", cwd=folder)
        run("pack", name, "-o", str(PLACE / f"{name}.narrows"), "--no-pictures", cwd=folder)


def run(command: str, *arguments: str, cwd: str) -> None:
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", f"narrows.commands.{command}", *arguments], cwd=cwd, env=one_thread, check=True
    )


if __name__ == "__main__":
    main()
