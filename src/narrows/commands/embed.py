"""`narrows embed RUN DATA`: the latents of new pictures, arrays, rows, series, texts or counts.

    narrows embed RUN DATA [-o OUT.npz] [--allow PKG] [KEY=VALUE ...]

`DATA` is read as the run's own data were, with what it recorded of them: nothing is fitted on new data. `OUT` holds the
noise-free latent of every example, in order: a .npz with `latents` `[N, *latent_shape]` and `names`, or a .csv or
.parquet with the columns `name`, `z_0`, `z_1`, ... and `problem`. Examples that cannot be read are told by name and
keep their place: their latents are NaN, or empty, and `problem` says why.

Examples are read a few at a time, and `OUT` appears only once it is complete.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from narrows.commands import command_line
from narrows.commands.command_line import new_parser, print_paths
from narrows.commands.on_new_data import add_arguments, apply

if TYPE_CHECKING:
    from narrows.new_data import NewData

DESCRIPTION = "Write the latents of new data, read as the run's own were."
EPILOG = """\
examples
  narrows embed RUN photos/                    writes photos.latents.npz: latents, names
  narrows embed RUN photo.jpg -o photo.csv     a table: name, z_0, z_1, ..., problem
  narrows embed RUN new.csv -o z.parquet       rows of a table, by the run's columns and scaling
  narrows embed RUN - < new.csv                from standard input; the table of latents is printed
  narrows embed RUN new.npz datamodule.source.x_key=images     another array of the file
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = new_parser("embed", DESCRIPTION, EPILOG)
    add_arguments(made, "DATA.latents.npz")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    command_line.run(parser(), embed, arguments)


def embed(options: argparse.Namespace) -> None:
    """Write the latents, and print where they are, or themselves."""
    from narrows.new_data import apply as applied  # torch is slow to import

    def target(data: NewData, printed: bool) -> Path:
        return data.stem("latents", ".csv" if printed else ".npz")

    written = apply(options, "embed", target, applied.embed)
    if written is not None:
        print_paths(written)


if __name__ == "__main__":
    main()
