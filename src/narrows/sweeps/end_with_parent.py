"""Starts a command that ends with its parent: `python end_with_parent.py PARENT COMMAND...`.

On Linux the kernel sends SIGTERM to the command when the process that started it dies, even by SIGKILL; the run
saves itself and ends. The setting survives exec. A script of its own, because code between fork and exec in a
process with threads can deadlock.
"""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        # It died before this line was reached.
        raise SystemExit(128 + signal.SIGTERM)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
