"""`narrows <command>`: a thin dispatcher that imports nothing heavy."""

from __future__ import annotations

import os
import sys

from narrows import __version__
from narrows.errors import nearest

COMMANDS = {
    "train": "train an autoencoder; -m sweeps",
    "completion": 'print the tab completion of a shell: eval "$(narrows completion bash)"',
}

HELP = """\
narrows {version}: autoencoders as compositions of configs

  narrows train                                   a VAE on scikit-learn's digits, in under a minute
  narrows train variant=topk datamodule=mnist     another variant, other data
  narrows train --help                            every group and its choices

commands
{commands}
  --help, --version
"""


def help_text() -> str:
    rows = "\n".join(f"  {name:<12} {text}" for name, text in COMMANDS.items())
    return HELP.format(version=__version__, commands=rows)


def main() -> None:
    """Replace this process by `python -m narrows.<command>`.

    By exec, so that Lightning's relaunch for several devices, which repeats the main module with the same
    arguments, finds the same command.
    """
    command, *arguments = sys.argv[1:] or ["--help"]
    if command in ("-h", "--help", "help"):
        print(help_text(), end="")
        return
    if command in ("-V", "--version"):
        print(__version__)
        return
    if command not in COMMANDS:
        print(f"narrows: there is no command '{command}': {nearest(command, COMMANDS)}", file=sys.stderr)
        raise SystemExit(2)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", f"narrows.{command}", *arguments])


if __name__ == "__main__":
    main()
