"""`narrows compress IN OUT --run RUN`: pictures, sound, films, scans or arrays to a small file, by a trained model and
its coding tables.

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
from typing import TYPE_CHECKING, Any

from narrows.coding import film_layout, scan_layout, sound_layout
from narrows.commands import command_line
from narrows.commands.command_line import add_allow, new_parser, packages, require_overrides
from narrows.data_spec import PIXELS
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
Compress a picture, a folder of pictures, a sound, a folder or zip archive of sounds, a film, a scan, a folder of these,
or a .npy or .npz of many examples (x, or its only array) into one file. Arrays hold data as the model reads them: bytes
for pictures, scaled numbers for everything else. Sound of any length and rate is brought to the run's rate, and comes
back at its own. Films are brought to the run's size of frames, and come back at it; scans to the run's grid, and come
back on their own, in their own units. A model of convolutions alone (encoder.flatten=false) takes pictures of any size,
and films and scans too where the run brings them to none.
"""
EPILOG = """\
examples
  narrows compress digits.npy digits.nrwz --run RUN           1000 digits in one file
  narrows compress photo.png photo.nrwz --run RUN --step 2    coarser than the run's own step
  narrows compress photos/ photos.nrwz --run RUN data_dir=DIR   data that lie elsewhere here
  narrows decompress photos.nrwz back/ --run RUN
  narrows compress speech.wav speech.nrwz --run RUN --codebooks 4   the first four levels of a residual quantiser
  narrows decompress speech.nrwz back.wav --run RUN
  narrows compress head.nii.gz head.nrwz --run RUN            back as .nii, .nii.gz or .npy; films as .gif or .npy
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
    examples = example_files.read(options.source, codec, source_of_pixels(run, options.overrides))
    tables = _prepare_tables(options, run, codec)
    data = pack_examples(tables, quantise(codec, examples, tables.step), examples)
    options.target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.target, data)
    log.info("%s: %d bytes, %s", options.target, len(data), _rate(len(data), examples, codec.model.spec))


def _rate(size: int, examples: Examples, spec: DataSpec) -> str:
    """What so many bytes are of each example and value."""
    from narrows.coding.scan_examples import voxels

    if examples.layout["kind"] in sound_layout.KINDS:
        seconds = sum(sound_layout.coded_steps(examples.layout)) / examples.layout["rate"]
        return f"{8 * size / seconds / 1000:.4g} kbit/s of {seconds:.4g} s"
    unit = {"image": "pixel", "video": "pixel", "volume": "voxel"}.get(spec.kind, "value")
    if examples.layout["kind"] in scan_layout.KINDS:
        count, places, unit, each = len(examples.layout["sides"]), voxels(examples.layout), "voxel", "scan"
    elif examples.layout["kind"] in film_layout.KINDS:
        count, each = sum(examples.layout["frames"]), "frame"
        places = film_layout.pixels(examples.layout)
    else:
        count, each = examples.count, "example"
        values = sum(group.numel() for group in examples.groups)
        places = values if unit == "value" else values // examples.groups[0].shape[1]
    return f"{size / count:.4g} per {each}, {8 * size / places:.4g} bits per {unit}"


def source_of_pixels(run: OpenRun, overrides: Sequence[str] = ()) -> Any:
    """The source of the run's data, where they are pictures, films or scans, by which its files are read; else None."""
    from narrows.new_data.open_new import source_of

    return source_of(run, overrides) if run.model.spec.kind in PIXELS else None


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
