"""The report's file: self-contained, escaped, and what it knows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from run_copies import MakeRun

from narrows.commands import compare
from narrows.compare.comparison_table import compare as compared
from narrows.compare.html_page import PICTURE, report
from narrows.compare.key_importance import importances
from narrows.compare.run_records import read_runs


def data_of(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return json.loads(found[1], parse_constant=pytest.fail)


def made(*places: Path) -> str:
    records = [record for record in read_runs(places) if record.usable]
    return report(compared(records), None, records, [], None)


def own_parts(html: str) -> str:
    """The page without plotly.js."""
    scripts = re.split(r"<script nonce=\"[0-9a-f]+\">", html)
    assert len(scripts) == 3
    return scripts[0] + scripts[2]


def test_nothing_is_fetched_and_only_the_pages_own_scripts_run(sweep: Path) -> None:
    html = made(sweep)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; script-src 'nonce-")
    assert "unsafe-eval" not in policy[1]
    addresses = set(re.findall(r"https?://[^\s\"']+", own_parts(html)))
    assert addresses == {"http://www.w3.org/2000/svg"}, "a namespace is no address"
    assert not re.search(r"<(link|script|img|iframe)[^>]+(src|href)=(?!\"data:)", own_parts(html))


def test_what_a_run_says_cannot_end_the_data(tmp_path: Path, make_run: MakeRun) -> None:
    evil = "</script><script>window.pwned = 1</script><!--"
    make_run(tmp_path / "<img src=x onerror=alert(1)>", {"encoder.activation": evil}, {f"val/{evil}": 1.0})
    make_run(tmp_path / "b", {"encoder.activation": "\u2028{{nonce}}"})
    html = made(tmp_path)
    data = data_of(html)
    assert {run["keys"]["encoder.activation"] for run in data["runs"]} >= {evil}
    assert "<img src=x" not in html
    assert "window.pwned" in html
    assert "<script>window.pwned" not in html
    assert "{{nonce}}" in html, "a value is not a place of the template"


def test_curves_are_thinned_to_what_a_browser_draws(tmp_path: Path, make_run: MakeRun) -> None:
    for name in "ab":
        run = make_run(tmp_path / name)
        rows = [f"{step},val/loss,{'nan' if step == 0 else step}" for step in range(200_000)]
        (run / "metrics.csv").write_text("\n".join(["step,metric,value", *rows]) + "\n")
    for _, steps, values in data_of(made(tmp_path))["curves"]["val/loss"]:
        assert len(steps) <= 20_001
        assert (steps[0], steps[-1]) == (0, 199_999)
        assert (values[0], values[-1]) == (None, 199_999)


def test_pictures_of_the_four_best_and_no_giant(sweep: Path) -> None:
    (sweep / "9" / "figures" / "giant.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(PICTURE))
    (sweep / "9" / "figures" / "fake.png").write_text("<svg onload=alert(1)>")
    data = data_of(made(sweep))
    assert [each["run"] for each in data["pictures"]["runs"]] == ["9", "10", "11", "6"]
    assert data["pictures"]["names"] == ["reconstruction"]
    assert [note.split(",")[0] for note in data["notes"]] == [
        "9: fake.png is not a PNG picture",
        "9: giant.png is left out",
    ]


def test_rate_and_distortion_where_runs_have_both(sweep: Path) -> None:
    assert data_of(made(sweep))["scatter"] == ["test/kl", "test/reconstruction"]


def test_importance_finds_what_moves_a_figure(sweep: Path) -> None:
    table = compared(read_runs([sweep]))
    (found,) = importances(table, ["val/loss"])
    shares = dict(found.values)
    assert list(shares) == ["optimizer.lr", "bottleneck.dim", "seed"]
    assert sum(shares.values()) == pytest.approx(1)
    assert importances(table, ["val/loss"]) == [found], "a seeded forest says the same twice"


def test_importance_of_choices_missing_keys_and_few_runs(tmp_path: Path, make_run: MakeRun, sweep: Path) -> None:
    for i in range(12):
        keys = {"encoder.activation": ["relu", None, [1, 2]][i % 3], "trainer.deterministic": i % 2 == 0}
        make_run(tmp_path / "mixed" / str(i), keys, {"val/loss": float(i % 3)})
    (found,) = importances(compared(read_runs([tmp_path / "mixed"])), ["val/loss"])
    assert found.values[0][0] == "encoder.activation"
    few = compared(read_runs([sweep / str(i) for i in range(9)]))
    assert importances(few, ["val/loss"]) == []


def test_the_command_writes_the_report_with_its_groups(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "report.html"
    compare.main([str(sweep), "--group-by", "seed", "--sort", "test/mse", "--html", str(target), "--csv", "-"])
    captured = capsys.readouterr()
    assert captured.out.startswith("n,status,")
    assert str(target) in captured.err
    data = data_of(target.read_text())
    assert len(data["runs"]) == 12
    assert [row["n"] for row in data["groups"]["rows"]] == ["3"] * 4
    assert data["sort"] == "test/mse"
