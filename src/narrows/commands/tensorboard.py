"""`narrows tensorboard PLACE...`: TensorBoard on chosen runs, with the keys in which they differ as HParams."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from narrows import os_signals
from narrows.commands.command_line import new_parser, run
from narrows.compare.run_filter import HELP, choose
from narrows.compare.run_records import read_runs
from narrows.errors import UserError, require

DESCRIPTION = """\
Open TensorBoard on the runs at and below these places. Its HParams are exactly the keys in which the runs differ, and
runs are named by them. What it shows is a folder of links, which is taken away at the end; nothing of a run is changed.
It needs no network; Ctrl-C stops it.
"""
EPILOG = """\
examples
  narrows tensorboard outputs
  narrows tensorboard SWEEP outputs/vae --where 'seed=0 and bottleneck.dim>8'
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = new_parser("tensorboard", DESCRIPTION, EPILOG)
    add = options.add_argument
    add("places", nargs="+", metavar="PLACE", help="run directories, sweeps, or folders with runs below")
    add("--where", metavar="CONDITIONS", help=HELP)
    add("--host", default="localhost", help="address to serve at (default: this machine alone)")
    add("--port", type=int, metavar="N", help="port (default: 6006, or the next one that is free)")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    run(parser(), _run, arguments)


def _run(options: argparse.Namespace) -> None:
    require(options.port is None or 0 <= options.port < 2**16, f"--port {options.port} is no port: 0 to 65535")
    records = choose([record for record in read_runs(options.places) if record.usable], options.where)
    # TensorBoard takes a second to import, which a refusal need not wait for.
    from narrows.compare.tensorboard_view import make_view

    with tempfile.TemporaryDirectory(prefix="narrows-tensorboard-") as folder:
        shown = make_view(Path(folder), records)
        require(
            bool(shown), f"none of these {len(records)} runs has TensorBoard events (logger=tensorboard writes them)"
        )
        for number in os_signals.existing("SIGINT", "SIGTERM", "SIGHUP"):
            signal.signal(number, _interrupt)
        try:
            address = _serve(folder, options.host, options.port)
            print(f"{len(shown)} runs at {address}", flush=True)
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            print("stopped")
        finally:
            logging.disable(logging.NOTSET)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _serve(folder: str, host: str, port: int | None) -> str:
    """Start TensorBoard in the background; returns its address.

    Raises:
        UserError: the port is taken, or the host is not this machine's.
    """
    from tensorboard import program

    # Its own levels are set anew while it starts, and every request of a browser would be a line.
    logging.disable(logging.WARNING)
    server = program.TensorBoard()
    asked = [] if port is None else ["--port", str(port)]
    server.configure(argv=[None, "--logdir", folder, "--host", host, "--reload_multifile", "true", *asked])
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # advice on its options; what goes wrong is raised
            return server.launch()
    except program.TensorBoardServerException as error:
        raise UserError(f"tensorboard: {error}") from error


if __name__ == "__main__":
    main()
