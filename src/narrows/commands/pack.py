"""`narrows pack RUN`: a trained run in one file, for others.

    narrows pack RUN [-o NAME.narrows] [--to hf://OWNER/NAME] [--no-pictures] [--allow PKG]

The file holds the config, the manifest without what it says of this machine, the figures, what new data are read with,
the weights that the figures belong to and a fitted density (as safetensors), coding tables, pictures, and a model card
in the form of the Hugging Face hub. It holds no pickle and no event files. Commands take it for a run, and so does
`narrows.load`; unzipped it is a run directory. With `--to` the file and the card go into a repository of the hub.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from narrows.commands import command_line
from narrows.commands.command_line import add_allow, new_parser, packages, print_paths
from narrows.errors import UserError, printable, require
from narrows.files import replacing, require_no_pipe
from narrows.runs.overwriting import require_not_recorded

if TYPE_CHECKING:
    from narrows.loading.open_run import OpenRun

DESCRIPTION = "Write a trained run into one file that every command takes for a run, with a model card, and no pickle."
EPILOG = """\
examples
  narrows pack RUN                        NAME.narrows, by the run's directory
  narrows pack RUN -o digits.narrows
  narrows sample digits.narrows -n 16 --out samples
  narrows pack RUN --to hf://OWNER/NAME   then narrows.load("hf://OWNER/NAME"); log in first with hf auth login
"""
SUFFIX = ".narrows"
CARD = "README.md"
log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = new_parser("pack", DESCRIPTION, EPILOG)
    made.add_argument("run", type=Path, metavar="RUN", help="the directory of a trained run")
    made.add_argument("-o", "--out", type=Path, metavar="OUT", help=f"the file (NAME{SUFFIX} in this folder)")
    made.add_argument(
        "--to", metavar="hf://OWNER/NAME", help="a repository of the Hugging Face hub, made private where there is none"
    )
    made.add_argument("--no-pictures", action="store_true", help="leave the run's figures/*.png out")
    add_allow(made)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    command_line.run(parser(), pack, arguments)


def pack(options: argparse.Namespace) -> None:
    """Load the run, so that what is written can be loaded, and write it.

    Raises:
        UserError: no such run, one without a model, a target that is read or has another ending, or the hub refuses.
    """
    from narrows.loading import hub
    from narrows.loading.open_run import OpenRun

    require(options.to is None or options.out is None, "give -o or --to, a file or a repository of the hub")
    run = OpenRun(options.run, packages(options.allow))
    if options.to is None:
        out: Path = options.out or Path(f"{run.path.resolve().name}{SUFFIX}")
        write(run, out, pictures=not options.no_pictures)
        print_paths(out)
        return
    target = hub.reference(options.to)
    if target is None:
        raise UserError(f"--to {options.to}: name a repository of the hub, hf://OWNER/NAME")
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / f"{target.name.partition('/')[2]}{SUFFIX}"
        write(run, packed, pictures=not options.no_pictures)
        with zipfile.ZipFile(packed) as archive:
            card = archive.read(CARD).decode()
        print(printable(hub.upload(target, packed, card)))


def write(run: OpenRun, out: Path, pictures: bool) -> None:
    """Write the run into the file `out`.

    Raises:
        UserError: no model can be loaded, or a target that is read or has another ending.
    """
    from narrows.loading import pack_run

    require(out.suffix == SUFFIX, f"{out}: a packed run ends in {SUFFIX}")
    require(not out.is_dir(), f"{out} is a folder, and OUT is to be one file")
    require_not_recorded(out, run.path)
    require_no_pipe(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as file:
        pack_run.pack(run, out.stem, file, pictures)
    log.info("%s: %.1f MB", out, out.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
