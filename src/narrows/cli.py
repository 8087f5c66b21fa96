"""`narrows <command>`: a thin dispatcher that imports nothing heavy."""

from __future__ import annotations

import os
import subprocess
import sys

from narrows import __version__
from narrows.commands import COMMANDS
from narrows.errors import nearest, printable
from narrows.standard_streams import make_dependable

HELP = """\
narrows {version}: autoencoders as compositions of configs

  narrows train                                   a VAE on scikit-learn's digits, in under a minute
  narrows train variant=topk datamodule=mnist     another variant, other data
  narrows train -m seed=0,1 bottleneck.dim=8,16   a sweep; sweep.resume=true goes on with it
  narrows train from=RUN likelihood=laplace       a run or a config.yaml again, with changes
  narrows train resume=RUN                        goes on with a run that was stopped
  narrows train --help                            every group and its choices

commands
{commands}
  --help, --version
"""


def help_text() -> str:
    rows = "\n".join(f"  {name:<12} {text}" for name, text in COMMANDS.items())
    return HELP.format(version=__version__, commands=rows)


def main() -> None:
    """Replace this process by `python -m narrows.commands.<command>`.

    By exec, so that Lightning's relaunch for several devices, which repeats the main module with the same
    arguments, finds the same command.
    """
    make_dependable()
    command, *arguments = sys.argv[1:] or ["--help"]
    if command in ("-h", "--help", "help"):
        print(help_text(), end="")
        return
    if command in ("-V", "--version"):
        print(__version__)
        return
    if command not in COMMANDS:
        print(f"narrows: there is no command '{printable(command)}': {nearest(command, COMMANDS)}", file=sys.stderr)
        raise SystemExit(2)
    sys.stdout.flush()
    # `train` imports the user's own classes from the current directory; what reads a stranger's run must not.
    options = [] if command == "train" else ["-P"]
    if command == "train" and _starts_from_record(arguments):
        # Unlike -P it holds for the processes that training starts for further devices too.
        os.environ["PYTHONSAFEPATH"] = "1"
    called = [sys.executable, *options, "-m", f"narrows.commands.{command}", *arguments]
    if os.name != "posix":  # Windows has no exec: its own starts a process for which no shell waits
        raise SystemExit(subprocess.call(called))
    os.execv(sys.executable, called)


def _starts_from_record(arguments: list[str]) -> bool:
    """Whether `train` starts from a recorded config without `allow=`, by which the user vouches for packages."""
    keys = {argument.partition("=")[0] for argument in arguments}
    return bool(keys & {"resume", "replay", "from"}) and "allow" not in keys


if __name__ == "__main__":
    main()
