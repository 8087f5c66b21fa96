"""The table of a comparison in LaTeX."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from run_copies import MakeRun

from narrows.commands.compare import main
from narrows.compare.comparison_table import compare
from narrows.compare.latex_table import as_latex, escaped
from narrows.compare.run_records import read_runs


def test_every_row_has_the_columns_that_the_head_declares(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(sweep), "--group-by", "seed", "--metrics", "val/loss,test/kl", "--latex", "-"])
    text = capsys.readouterr().out
    (columns,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", text)
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert len(columns) == 5
    assert len(rows) == 5
    assert all(len(re.split(r"(?<!\\)&", row)) == len(columns) for row in rows)
    # Both rates of the narrower setting have the same divergence.
    assert text.count(r"\textbf{") == 3
    assert r"$\pm$" in text
    order = [r"\begin{tabular}", r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)


def test_what_latex_would_read_is_escaped(tmp_path: Path, make_run: MakeRun) -> None:
    assert escaped(r"50% of $x_1$ & {\a^b~}#") == (
        r"50\% of \$x\_1\$ \& \{\textbackslash{}a\textasciicircum{}b\textasciitilde{}\}\#"
    )
    for seed in range(2):
        make_run(tmp_path / f"a_{seed}", {"seed": seed}, {"val/loss": -1.5 - seed, "test/mse": 1.5e-8 * (1 + seed)})
    text = as_latex(compare(read_runs([tmp_path]), ["val/loss", "test/mse"]))
    assert r"a\_0" in text
    assert r"\textbf{$-$2.5}" in text
    assert "1.5e-08" in text
