"""What Windows lacks is asked for by no import: every module of narrows is imported without it.

The rest of Windows cannot be tested here.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = r"""
import builtins, importlib, os, pkgutil, signal, sys, types
import narrows

MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "pty", "tty", "posix", "syslog")
NAMES = {
    "os": (
        "fork forkpty getuid geteuid getgid getpgid setsid killpg pread pwrite mkfifo nice uname getloadavg "
        "register_at_fork sched_getaffinity statvfs chown lchown fchown fchmod posix_spawn posix_fadvise wait3 WNOHANG "
        "O_NOFOLLOW O_NONBLOCK O_CLOEXEC O_DIRECTORY O_SYNC"
    ).split(),
    "signal": "SIGHUP SIGUSR1 SIGUSR2 SIGKILL SIGCONT SIGSTOP SIGTSTP SIGPIPE SIGALRM SIGCHLD SIGQUIT pause alarm "
    "sigwait setitimer pthread_sigmask".split(),
}


class Seen(types.ModuleType):
    # A module as narrows sees it; libraries see the whole of it.
    def __getattr__(self, name):
        if name in NAMES[self.__name__]:
            raise AttributeError(f"Windows has no {self.__name__}.{name}")
        return getattr(sys.modules[self.__name__], name)


usual = builtins.__import__


def imported(name, globals=None, locals=None, fromlist=(), level=0):
    asks = (globals or {}).get("__name__") or ""
    if asks.partition(".")[0] in ("narrows", "hydra_plugins"):
        if name.partition(".")[0] in MODULES:
            raise ModuleNotFoundError(f"Windows has no {name}")
        if name in NAMES:
            return Seen(name)
    return usual(name, globals, locals, fromlist, level)


builtins.__import__ = imported
CANARIES
for module in pkgutil.walk_packages(narrows.__path__, "narrows."):
    importlib.import_module(module.name)
importlib.import_module("hydra_plugins.narrows_sweeper")
"""


def imported(canary: str = "") -> str:
    program = PROGRAM.replace("CANARIES", canary)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True)
    return done.stderr.strip()


def test_every_module_is_imported_without_what_windows_lacks() -> None:
    assert imported() == ""


@pytest.mark.parametrize(
    "line", ["import fcntl", "from resource import getrusage", "import os; os.getuid", "import signal; signal.SIGHUP"]
)
def test_the_test_above_would_notice(line: str) -> None:
    assert "Windows has no" in imported(f"exec({line!r}, {{'__name__': 'narrows.canary'}})")
