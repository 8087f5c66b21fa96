"""Starts a command that ends when its parent ends: `python end_with_parent.py PARENT COMMAND...`.

On Linux the kernel sends SIGTERM to the command when the process that started it dies, even by SIGKILL; the run then
saves itself and ends. The setting survives exec. This is a separate script, because code between fork and exec can
deadlock in a process with threads.
"""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """Have the kernel send SIGTERM to this process when its parent dies."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        # The parent died before the setting took effect.
        raise SystemExit(128 + signal.SIGTERM)


def main() -> None:
    parent, *command = sys.argv[1:]
    end_with(int(parent))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
