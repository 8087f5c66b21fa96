"""`narrows reconstruct RUN DATA`: new data as a run's model rebuilds them, in their own form and units.

    narrows reconstruct RUN DATA [-o OUT] [--allow PKG] [KEY=VALUE ...]

`DATA` is read as the run's own data were, with what it recorded of them: nothing is fitted on new data. A folder of
pictures becomes a folder of PNGs of the same names, a picture one PNG; an array an array with its axes and units; a
table the same rows with the columns that the model reads rebuilt, and `problem`. Each is what the decoder says at the
noise-free latent, at the run's own size. Examples that cannot be read are told by name; their places stay empty.

Examples are read a few at a time, and `OUT` appears only once it is complete.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from narrows.commands import command_line
from narrows.commands.command_line import new_parser, print_paths
from narrows.commands.on_new_data import add_arguments, apply

DESCRIPTION = "Write new data as the run's model rebuilds them, in their own form and units."
EPILOG = """\
examples
  narrows reconstruct RUN photos/              writes the folder photos.reconstructed
  narrows reconstruct RUN photo.jpg -o out.png
  narrows reconstruct RUN new.csv              writes new.reconstructed.csv
  echo "a rose" | narrows reconstruct RUN -    of a run on texts: printed
  narrows reconstruct RUN new.npy -o out.npz
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = new_parser("reconstruct", DESCRIPTION, EPILOG)
    add_arguments(made, "DATA.reconstructed, with the ending of its form")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    command_line.run(parser(), reconstruct, arguments)


def reconstruct(options: argparse.Namespace) -> None:
    """Write the reconstructions, and print where they are, or themselves."""
    from narrows.new_data import apply as applied  # torch is slow to import

    written = apply(options, "reconstruct", lambda data, _: data.default_target(), applied.reconstruct)
    if written is not None:
        print_paths(written)


if __name__ == "__main__":
    main()
