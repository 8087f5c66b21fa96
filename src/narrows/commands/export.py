"""`narrows export RUN --to FORMAT`: a trained model as files that other programs run.

    narrows export RUN --to onnx | torch_export | safetensors [--part PART] [-o OUT] [--tolerance T] [--allow PKG]

Parts are the encoder (x to the noise-free latent z), the decoder (z to the point of p(x|z) and the likelihood's
parameters) and the whole reconstruction (x to its point). x is as the model takes it: scaled and encoded as the spec,
the encoding, the vocabulary and the config in the file's metadata say. A batch may have any size.

Each part is compared with the model on validation examples before anything is written.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Sequence
from pathlib import Path

from narrows.commands import command_line
from narrows.commands.command_line import add_allow, new_parser, packages, print_paths
from narrows.errors import require
from narrows.files import require_no_pipe, write_atomically
from narrows.runs.overwriting import require_not_recorded

DESCRIPTION = """\
Write a trained model's encoder, decoder and whole reconstruction as files that other programs run, each compared with
the model first."""
EPILOG = """\
formats
  onnx          a graph that onnxruntime runs without torch; needs the extra narrows[export]
  torch_export  torch.export.load(FILE).module()(x), without narrows
  safetensors   the weights alone, in one file unless --part says otherwise
  (TorchScript, which torch has deprecated, is not offered: torch_export took its place.)

examples
  narrows export RUN --to onnx                           RUN.encoder.onnx, RUN.decoder.onnx, RUN.reconstruction.onnx
  narrows export RUN --to onnx --part encoder -o e.onnx
  narrows export digits-vae --to torch_export -o folder
"""
SUFFIXES = {"safetensors": ".safetensors", "onnx": ".onnx", "torch_export": ".pt2"}
PARTS = ("encoder", "decoder", "reconstruction")
TOLERANCE = 1e-4
log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = new_parser("export", DESCRIPTION, EPILOG)
    made.add_argument("run", metavar="RUN", help="the directory of a trained run, or a packed one")
    made.add_argument("--to", required=True, choices=tuple(SUFFIXES), help="the format")
    made.add_argument("--part", action="append", choices=PARTS, help="one part alone; may be given twice (all)")
    made.add_argument("-o", "--out", type=Path, metavar="OUT", help="a file, or a folder (RUN.PART in this folder)")
    made.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        metavar="T",
        help=f"most difference from the model, by its largest value ({TOLERANCE:g})",
    )
    add_allow(made)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    command_line.run(parser(), export, arguments)


def export(options: argparse.Namespace) -> None:
    """Load the run, write each part into memory, compare, and write the files.

    Raises:
        UserError: no such run, one without a model, a target that is read, parts of which none can be exported, or one
            that is not as the model.
    """
    from narrows.exporting import export_run
    from narrows.exporting.formats import FORMATS
    from narrows.loading.open_run import OpenRun

    require(options.tolerance >= 0, f"--tolerance must be at least 0, not {options.tolerance:g}")
    require(math.isfinite(options.tolerance), f"--tolerance must be a number, not {options.tolerance:g}")
    form = FORMATS[options.to]()
    run = OpenRun(options.run, packages(options.allow))
    parts = list(dict.fromkeys(options.part or (PARTS if form.graph else PARTS[-1:])))
    places = targets(options.out, run.path.resolve().name, parts, SUFFIXES[options.to])
    for place in places.values():
        require(not place.is_dir(), f"{place} is a folder, and is to be a file")
        require_not_recorded(place, run.path)
        require_no_pipe(place)
    made = export_run.export(run, form, parts, options.tolerance)
    for each in made:
        place = places[each.name]
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, each.content)
    print_paths(*(places[each.name] for each in made))


def targets(out: Path | None, name: str, parts: Sequence[str], suffix: str) -> dict[str, Path]:
    """The file of each part: `OUT` itself of one alone, else `NAME.PART` beside it, or `PART` in the folder OUT.

    Raises:
        UserError: OUT has another format's ending.
    """
    if out is None:
        out = Path(f"{name}{suffix}")
        return {part: out if suffix == ".safetensors" else out.with_name(f"{name}.{part}{suffix}") for part in parts}
    if out.is_dir() or not out.suffix:
        return {part: out / f"{part}{suffix}" for part in parts}
    require(out.suffix == suffix, f"{out}: a file of this format ends in {suffix}, and a folder has no ending")
    return {part: out if len(parts) == 1 else out.with_name(f"{out.stem}.{part}{suffix}") for part in parts}


if __name__ == "__main__":
    main()
