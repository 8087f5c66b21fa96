"""The table of a comparison for a paper, in LaTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable

from narrows.compare.table_formats import Table, number, row_label, shown
from narrows.compare.two_runs import MISSING
from narrows.errors import printable

SPECIAL = {
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
    "±": r"$\pm$",
}
MINUS = re.compile(r"(?<![0-9e])-(?=[0-9])")
"""The sign of a number, which would else be set as a hyphen."""


def as_latex(table: Table) -> str:
    r"""The table as a `tabular` with the rules of the package booktabs (`\usepackage{booktabs}`), the best figure of
    each metric in bold. Statuses are shown where not all runs are completed."""
    statuses = any(not row.counted for row in table.rows)
    head = [row_label(table), *(["status"] * statuses), *table.keys, *table.metrics]
    left = 1 + statuses + len(table.keys)
    align = ("r" if table.grouped else "l") + "l" * (left - 1) + "r" * len(table.metrics)
    lines = [rf"\begin{{tabular}}{{{align}}}", r"\toprule", _line(map(escaped, head)), r"\midrule"]
    for position, row in enumerate(table.rows):
        cells = [row.name, *([row.status] * statuses), *(shown(row.keys.get(key, MISSING)) for key in table.keys)]
        figures = []
        for metric in table.metrics:
            text = MINUS.sub("$-$", escaped(number(row.metrics.get(metric), row.deviations.get(metric))))
            figures.append(rf"\textbf{{{text}}}" if position in table.best.get(metric, ()) else text)
        lines.append(_line([*map(escaped, cells), *figures]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def escaped(text: str) -> str:
    """A text whose special characters LaTeX prints."""
    return "".join(SPECIAL.get(character, character) for character in printable(text))


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
