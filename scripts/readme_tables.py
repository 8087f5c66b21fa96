"""Run what README.md tells a newcomer to type, and write into it what these commands print.

    python scripts/readme_tables.py            # the table of its first run; a minute
    python scripts/readme_tables.py compare    # the sweep and its comparison; some five minutes
    python scripts/readme_tables.py start compare

Figures vary with processor and torch: write both of a page on one machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pty
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

COLUMNS = 110
README = Path(__file__).parents[1] / "README.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", help=f"of {', '.join(TABLES)}")
    for name in parser.parse_args().tables or ["start"]:
        if name not in TABLES:
            parser.error(f"no table '{name}': choose from {', '.join(TABLES)}")
        with tempfile.TemporaryDirectory() as folder:
            for place, lines in TABLES[name](Path(folder)).items():
                README.write_text(placed(README.read_text(), place, lines))


def start(folder: Path) -> dict[str, list[str]]:
    """What the first command prints once narrows is installed."""
    table, _ = run(command("narrows train$"), folder)
    return {"start": table}


def compare(folder: Path) -> dict[str, list[str]]:
    """The last lines of the sweep's progress, and the table of its runs."""
    _, progress = run(command(r"narrows train -m (?!.*sweep\.resume)"), folder)
    table, _ = run(command("narrows compare ").partition(" --html")[0], folder)
    return {"sweep": [line for line in progress if re.search(r": completed| done ", line)][-4:], "compare": table}


TABLES: dict[str, Callable[[Path], dict[str, list[str]]]] = {"start": start, "compare": compare}


def command(pattern: str) -> str:
    """The first command of the README's code that fits, without what is typed before it and its comment."""
    for line in README.read_text().splitlines():
        found = line.partition("  #")[0].strip().rpartition("&& ")[2]
        if re.match(pattern, found):
            return found
    sys.exit(f"{README.name} has no command like '{pattern}'")


def run(line: str, folder: Path) -> tuple[list[str], list[str]]:
    """Run the command in `folder` as in a terminal of `COLUMNS`; the lines on its standard output and error."""
    print(line, file=sys.stderr)
    terminal, inside = pty.openpty()
    # A dumb terminal has neither colour nor bold.
    environment = os.environ | {"COLUMNS": str(COLUMNS), "LINES": "100", "TERM": "dumb"}
    with tempfile.TemporaryFile("w+") as complaints, open(terminal, encoding="utf-8") as screen:
        running = subprocess.Popen(shlex.split(line), cwd=folder, env=environment, stdout=inside, stderr=complaints)
        os.close(inside)
        shown = list(lines_of(screen))
        code = running.wait()
        complaints.seek(0)
        said = [text.rstrip() for text in complaints]
    if code:
        sys.exit("\n".join([*said, f"'{line}' ended with {code}"]))
    return shown, said


def lines_of(screen: TextIO) -> Iterator[str]:
    """What is written to a terminal until nobody holds it any more, which Linux says by an error."""
    with contextlib.suppress(OSError):
        for text in screen:
            yield text.rstrip()


def placed(page: str, place: str, lines: list[str]) -> str:
    """The page with these lines as the code between the two comments of that name."""
    block = "\n".join([f"<!-- {place} -->", "```text", *lines, "```", f"<!-- /{place} -->"])
    pattern = rf"<!-- {place} -->\n.*?<!-- /{place} -->"
    found, count = re.subn(pattern, lambda _: block, page, flags=re.DOTALL)
    if count != 1:
        sys.exit(f"{README.name} needs one place between <!-- {place} --> and <!-- /{place} -->, but has {count}")
    return found


if __name__ == "__main__":
    main()
