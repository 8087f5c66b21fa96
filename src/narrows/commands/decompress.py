"""`narrows decompress IN OUT --run RUN`: turn a file of `narrows compress` back into pictures, sound, films,
scans or arrays.

    narrows decompress IN OUT --run RUN [--allow PKG]

The run must be the one that compressed, with its coding tables; its data are not needed.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from narrows.commands import command_line
from narrows.commands.command_line import new_parser
from narrows.commands.compress import add_places, check_target, open_run, source_of_pixels
from narrows.errors import require
from narrows.files import require_no_pipe
from narrows.runs.file_names import CODING

DESCRIPTION = """\
Decompress: a picture comes back as .png, a folder of pictures as a folder of .png, a sound as .wav or .flac at its own
rate and as long as it was, a film as .gif or .npy, a scan as .nii, .nii.gz or .npy on its own grid, a folder of any of
these as a folder, an array as it was.
A file of another model, or one that is damaged or cut short, is refused.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = new_parser("decompress", DESCRIPTION)
    add_places(made, "a file that narrows compress wrote", "where the pictures, sounds, films, scans or the array go")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    command_line.run(parser(), decompress, arguments)


def decompress(options: argparse.Namespace) -> None:
    """Read, decode, write.

    Raises:
        UserError: a file that is damaged or of another run, or a target that cannot be written.
    """
    from narrows.coding import example_files, film_layout, scan_layout, sound_layout
    from narrows.coding.model_codec import Codec, unit_range
    from narrows.coding.nrwz_file import unpack
    from narrows.coding.packing import find_tables, rebuild_examples, unpack_examples

    name = str(options.source)
    require(not options.source.exists() or not options.source.is_dir(), f"{name} is no file: name what compress wrote")
    require_no_pipe(options.source)
    check_target(options)
    data = options.source.read_bytes()
    header, _ = unpack(data, name)
    example_files.check_target(options.target, header.layout, header.count)
    run = open_run(options)
    codec = Codec(run.model, header.layout.get("codebooks"))
    spec, kind = codec.model.spec, header.layout["kind"]
    of_sound = spec.kind == "audio" and header.layout.get("rate") == spec.rate
    require(kind not in sound_layout.KINDS or of_sound, f"{name} holds sound, and {run.path} is of other data or rates")
    bytes_ = kind in ("image", "folder", *film_layout.KINDS) or header.layout.get("dtype") == "uint8"
    require(not bytes_ or unit_range(spec), f"{name} holds pictures, and the data of {run.path} are none")
    source = source_of_pixels(run)
    on_grid = kind not in scan_layout.KINDS or (hasattr(source, "grid") and hasattr(source, "slices"))
    require(on_grid, f"{name} holds scans, and the data of {run.path} are none")
    tables = find_tables(codec, run.path / CODING, data, name)
    header, streams = unpack_examples(codec, tables, data, name)
    example_files.write(options.target, header.layout, rebuild_examples(codec, header, streams), source)
    logging.getLogger(__name__).info("%s: %d examples", options.target, header.count)


if __name__ == "__main__":
    main()
