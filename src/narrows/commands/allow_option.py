"""The option `--allow`: packages of one's own that a run's config may name (see `narrows.loading.trust`)."""

from __future__ import annotations

import argparse
from collections.abc import Iterable


def add_allow(made: argparse.ArgumentParser, config: str = "the run's config") -> None:
    """May be given several times, each with several packages between commas."""
    made.add_argument("--allow", action="append", default=[], metavar="PKG", help=f"a package that {config} may use")


def packages(texts: Iterable[str]) -> list[str]:
    """What was given, one by one."""
    return [name for text in texts for name in text.split(",") if name]
