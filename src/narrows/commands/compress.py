"""`narrows compress IN OUT --run RUN`: pictures, sound or arrays to a small file, by a trained model and its coding
tables.

    narrows compress IN OUT --run RUN [--step S | --codebooks K] [--allow PKG] [KEY=VALUE ...]

The loss comes from the model and from rounding its latents; coding the rounded latents is lossless. The tables of code
probabilities are fitted to the run's training split, which must be on this machine the first time, and kept in the
run's `coding/`. `narrows decompress` needs the run with its tables, but no data.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from narrows.coding import sound_layout
from narrows.commands import command_line
from narrows.commands.command_line import add_allow, new_parser, packages, require_overrides
from narrows.errors import require
from narrows.files import require_other
from narrows.runs.file_names import CODING
from narrows.runs.overwriting import require_not_recorded

if TYPE_CHECKING:
    from narrows.coding.coding_tables import Tables
    from narrows.coding.example_files import Examples
    from narrows.coding.model_codec import Codec
    from narrows.evaluation import EvaluationData
    from narrows.loading.open_run import OpenRun
    from narrows.types import DataSpec

log = logging.getLogger(__name__)

DESCRIPTION = """\
Compress a picture, a folder of pictures, a sound, a folder or zip archive of sounds, or a .npy or .npz of many examples
(x, or its only array) into one file. Arrays hold data as the model reads them: bytes for pictures, scaled numbers for
everything else. Sound of any length and rate is brought to the run's rate, and comes back at its own.
"""
EPILOG = """\
examples
  narrows compress digits.npy digits.nrwz --run RUN           1000 digits in one file
  narrows compress photo.png photo.nrwz --run RUN --step 2    coarser than the run's own step
  narrows compress photos/ photos.nrwz --run RUN data_dir=DIR   data that lie elsewhere here
  narrows decompress photos.nrwz back/ --run RUN
  narrows compress speech.wav speech.nrwz --run RUN --codebooks 4   the first four levels of a residual quantiser
  narrows decompress speech.nrwz back.wav --run RUN
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = new_parser("compress", DESCRIPTION, EPILOG)
    add_places(made, "what to compress", "the compressed file")
    add = made.add_argument
    add("overrides", nargs="*", metavar="KEY=VALUE", help="values to change in the run's config: where its data lie")
    add("--step", type=float, metavar="S", help="of the quantiser of continuous latents; larger is smaller and worse")
    add("--codebooks", type=int, metavar="K", help="levels of a residual quantiser; fewer are smaller and worse")
    return made


def add_places(made: argparse.ArgumentParser, source: str, target: str) -> None:
    """The arguments that compress and decompress share."""
    made.add_argument("source", type=Path, metavar="IN", help=source)
    made.add_argument("target", type=Path, metavar="OUT", help=target)
    made.add_argument("--run", type=Path, required=True, metavar="RUN", help="the directory of the trained run")
    add_allow(made)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    command_line.run(parser(), compress, arguments)


def compress(options: argparse.Namespace) -> None:
    """Read, encode, write.

    Raises:
        UserError: a run that cannot compress, data that are not on this machine, or an input of the wrong kind.
    """
    from narrows.coding import example_files
    from narrows.coding.model_codec import Codec
    from narrows.coding.packing import pack_examples, quantise
    from narrows.files import write_atomically
    from narrows.loading.open_run import require_read

    require_overrides(options.overrides, "IN and OUT are named already")
    require_read(options.overrides)
    require(not options.target.is_dir(), f"{options.target} is a folder, and OUT is to be one file")
    check_target(options)
    run = open_run(options)
    codec = Codec(run.model, options.codebooks)
    examples = example_files.read(options.source, codec)
    tables = _prepare_tables(options, run, codec)
    data = pack_examples(tables, quantise(codec, examples, tables.step), examples)
    options.target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.target, data)
    log.info("%s: %d bytes, %s", options.target, len(data), _rate(len(data), examples, codec.model.spec))


def _rate(size: int, examples: Examples, spec: DataSpec) -> str:
    """What so many bytes are of each example and value."""
    if examples.layout["kind"] in sound_layout.KINDS:
        seconds = sum(sound_layout.coded_steps(examples.layout)) / examples.layout["rate"]
        return f"{8 * size / seconds / 1000:.4g} kbit/s of {seconds:.4g} s"
    values = sum(group.numel() for group in examples.groups)
    places = values // examples.groups[0].shape[1] if spec.kind == "image" else values
    unit = "pixel" if spec.kind == "image" else "value"
    return f"{size / examples.count:.4g} per example, {8 * size / places:.4g} bits per {unit}"


def check_target(options: argparse.Namespace) -> None:
    """Refuse to write over what is read.

    Raises:
        UserError: OUT is IN, or a file of the run.
    """
    require_other(options.target, options.source)
    require_not_recorded(options.target, options.run)


def open_run(options: argparse.Namespace) -> OpenRun:
    """The run, with the weights that its recorded figures belong to.

    Raises:
        UserError: no such run.
    """
    from narrows.loading.open_run import OpenRun

    return OpenRun(options.run, packages(options.allow))


def _prepare_tables(options: argparse.Namespace, run: OpenRun, codec: Codec) -> Tables:
    """The coding tables for the given step; they are fitted if the run has none yet."""
    from narrows.coding.coding_tables import Fitted
    from narrows.coding.model_codec import Codec

    fitted = Fitted(Codec(codec.model), run.path / CODING, lambda: _data(run, options.overrides))
    return fitted.tables(fitted.step(options.step))


def _data(run: OpenRun, overrides: Sequence[str]) -> EvaluationData:
    run.find_data(overrides)
    log.info("fitting coding tables to the training split")
    return run.data


if __name__ == "__main__":
    main()
