"""`narrows pack RUN`: a trained run in one file, for others.

    narrows pack RUN [-o NAME.narrows] [--no-pictures] [--allow PKG]

The file holds the config, the manifest without what it says of this machine, the figures, what new data are read with,
the weights that the figures belong to and a fitted density (as safetensors), coding tables, pictures, and a model card
in the form of the Hugging Face hub. It holds no pickle and no event files. Commands take it for a run, and so does
`narrows.load`; unzipped it is a run directory.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from narrows.commands import command_line
from narrows.commands.command_line import add_allow, new_parser, packages, print_paths
from narrows.errors import require
from narrows.files import replacing, require_no_pipe
from narrows.runs.overwriting import require_not_recorded

DESCRIPTION = "Write a trained run into one file that every command takes for a run, with a model card, and no pickle."
EPILOG = """\
examples
  narrows pack RUN                        NAME.narrows, by the run's directory
  narrows pack RUN -o digits.narrows
  narrows sample digits.narrows -n 16 --out samples
"""
SUFFIX = ".narrows"
log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = new_parser("pack", DESCRIPTION, EPILOG)
    made.add_argument("run", type=Path, metavar="RUN", help="the directory of a trained run")
    made.add_argument("-o", "--out", type=Path, metavar="OUT", help=f"the file (NAME{SUFFIX} in this folder)")
    made.add_argument("--no-pictures", action="store_true", help="leave the run's figures/*.png out")
    add_allow(made)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    command_line.run(parser(), pack, arguments)


def pack(options: argparse.Namespace) -> None:
    """Load the run, so that what is written can be loaded, and write it.

    Raises:
        UserError: no such run, one without a model, or a target that is read or has another ending.
    """
    from narrows.loading import pack_run
    from narrows.loading.open_run import OpenRun

    run = OpenRun(options.run, packages(options.allow))
    out: Path = options.out or Path(f"{run.path.resolve().name}{SUFFIX}")
    require(out.suffix == SUFFIX, f"{out}: a packed run ends in {SUFFIX}")
    require(not out.is_dir(), f"{out} is a folder, and OUT is to be one file")
    require_not_recorded(out, run.path)
    require_no_pipe(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as file:
        pack_run.pack(run, out.stem, file, not options.no_pictures)
    log.info("%s: %.1f MB", out, out.stat().st_size / 1e6)
    print_paths(out)


if __name__ == "__main__":
    main()
