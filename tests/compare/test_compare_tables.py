"""Order, marks, means, and the formats of the table."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from run_copies import MakeRun

from narrows.commands.compare import main
from narrows.compare.comparison_table import compare, repeats
from narrows.compare.higher_is_better import choose_metrics, headline_metrics, higher_is_better
from narrows.compare.run_records import read_runs
from narrows.compare.table_formats import as_cell, as_csv, as_json, as_markdown, console, number, terminal
from narrows.errors import UserError


def test_sorted_best_first_whichever_way_is_better(sweep: Path) -> None:
    table = compare(read_runs([sweep]))
    for metric, sign in (("val/loss", 1), ("test/elbo", -1)):
        table.sort(metric)
        values = [sign * row.metrics[metric] for row in table.rows]
        assert values == sorted(values)
        assert table.best[metric] == {0}


def test_the_user_may_turn_a_direction_round(sweep: Path) -> None:
    table = compare(read_runs([sweep]), directions={"val/loss": True})
    table.sort("val/loss")
    assert table.rows[0].metrics["val/loss"] == max(row.metrics["val/loss"] for row in table.rows)


@pytest.mark.parametrize(
    ("metric", "higher"),
    [
        *[(name, True) for name in ("test/elbo", "val/psnr", "test/anomaly/auroc", "test/knn_accuracy", "test/ssim")],
        *[(name, False) for name in ("val/loss", "test/nll", "test/mse", "test/bce", "test/kl", "test/denoised/mse")],
        *[(name, None) for name in ("test/active_units", "test/l0", "epoch")],
    ],
)
def test_the_direction_of_a_metric(metric: str, higher: bool | None) -> None:
    assert higher_is_better(metric) is higher


def test_what_did_not_finish_is_never_best(tmp_path: Path, make_run: MakeRun) -> None:
    for loss, status in ((3.0, "completed"), (2.0, "completed"), (1.0, "pruned")):
        make_run(tmp_path / status / str(loss), figures={"val/loss": loss}, status=status)
    table = compare(read_runs([tmp_path]))
    table.sort("val/loss")
    assert [row.status for row in table.rows] == ["pruned", "completed", "completed"]
    assert table.best["val/loss"] == {1}


def test_missing_and_infinite_figures_come_last(tmp_path: Path, make_run: MakeRun) -> None:
    for name, loss in (("a", float("nan")), ("b", 2.0), ("c", 1.0)):
        make_run(tmp_path / name, figures={"val/loss": loss})
    run = make_run(tmp_path / "d", status="interrupted")
    (run / "metrics.json").unlink()
    (run / "metrics.csv").unlink()
    table = compare(read_runs([tmp_path]))
    table.sort("val/loss")
    assert [row.name for row in table.rows] == ["c", "b", "a", "d"]


def test_means_and_deviations_against_numpy(sweep: Path) -> None:
    runs = compare(read_runs([sweep]))
    groups = compare(read_runs([sweep]), group_by=["seed"])
    assert len(groups.rows) == 4
    assert groups.keys == ["bottleneck.dim", "optimizer.lr"]
    for row in groups.rows:
        members = [run for run in runs.rows if all(run.keys[key] == row.keys[key] for key in groups.keys)]
        assert row.runs == [member.name for member in members]
        for metric in ("val/loss", "test/kl", "test/mse"):
            values = [member.metrics[metric] for member in members]
            assert row.metrics[metric] == pytest.approx(np.mean(values), rel=1e-12)
            assert row.deviations[metric] == pytest.approx(np.std(values, ddof=1), rel=1e-12)
            assert row.counts[metric] == 3


def test_a_mean_takes_completed_runs_only_and_one_run_has_no_deviation(tmp_path: Path, make_run: MakeRun) -> None:
    for seed, status in enumerate(("completed", "failed")):
        make_run(tmp_path / str(seed), {"seed": seed}, {"val/loss": 1.0 + seed}, status=status)
    (row,) = compare(read_runs([tmp_path]), group_by=["seed"]).rows
    assert (row.metrics["val/loss"], row.counts["val/loss"], row.deviations) == (1.0, 1, {})


def test_grouping_by_what_does_not_differ_is_refused(sweep: Path) -> None:
    with pytest.raises(UserError, match=r"cannot group by 'sede': .* did you mean 'seed'"):
        compare(read_runs([sweep]), group_by=["sede"])


def test_seeds_suggest_a_mean(sweep: Path, tmp_path: Path, make_run: MakeRun) -> None:
    assert repeats(compare(read_runs([sweep]))) == "seed"
    for i in range(2):
        make_run(tmp_path / "other" / str(i), {"seed": i, "bottleneck.dim": 2 + i})
    assert repeats(compare(read_runs([tmp_path / "other"]))) is None


def test_metrics_by_name_and_glob(sweep: Path) -> None:
    records = read_runs([sweep])
    assert choose_metrics(["test/mse", "val/*"], records)[:2] == ["test/mse", "val/loss"]
    with pytest.raises(UserError, match="did you mean 'test/mse'"):
        choose_metrics(["test/mes"], records)


def test_no_figure_stands_under_two_names(sweep: Path) -> None:
    names = headline_metrics(read_runs([sweep]))
    assert names[0] == "val/loss"
    assert "test/elbo" not in names, "it is the negative of val/loss here"
    assert len(names) <= 6


def test_csv_round_trip(sweep: Path) -> None:
    table = compare(read_runs([sweep]))
    table.sort("val/loss")
    rows = list(csv.DictReader(io.StringIO(as_csv(table, table.every))))
    assert len(rows) == 12
    for row, line in zip(table.rows, rows, strict=True):
        assert line["run"] == row.name
        assert {key: json.loads(line[key]) for key in table.keys} == row.keys
        for metric in table.every:
            assert float(line[metric]) == row.metrics[metric]


def test_grouped_csv_has_deviations_and_counts(sweep: Path) -> None:
    table = compare(read_runs([sweep]), ["val/loss"], ["seed"])
    lines = list(csv.DictReader(io.StringIO(as_csv(table, table.metrics))))
    assert [float(line["val/loss.sd"]) for line in lines] == [row.deviations["val/loss"] for row in table.rows]
    assert {line["val/loss.n"] for line in lines} == {"3"}


def test_json_round_trip(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path / "a", {"encoder.widths": [16], "bottleneck.dim": 2}, {"val/loss": float("inf")})
    make_run(tmp_path / "b", {"encoder.widths": [16, 8], "bottleneck.dim": 4}, {"val/loss": 1.5})
    table = compare(read_runs([tmp_path]))
    read = json.loads(as_json(table, table.every, ["a note"]), parse_constant=pytest.fail)
    assert [row["config"]["encoder.widths"] for row in read["rows"]] == [[16], [16, 8]]
    assert [row["metrics"]["val/loss"] for row in read["rows"]] == [None, 1.5]
    assert read["notes"] == ["a note"]


def test_markdown_is_one_table_whatever_a_name_holds(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path / "a|b <script>", {"encoder.activation": "re|lu\n| x |"}, {"val/loss": 2.0})
    make_run(tmp_path / "c", {}, {"val/loss": 1.0})
    lines = as_markdown(compare(read_runs([tmp_path]), ["val/loss"])).splitlines()
    assert len(lines) == 4
    assert {line.replace("\\|", "").count("|") for line in lines} == {5}
    assert "<" not in "".join(lines)
    assert "**1**" in lines[3]


def test_a_terminal_is_told_nothing_by_a_run(tmp_path: Path, make_run: MakeRun) -> None:
    for i, value in enumerate(("\x1b]0;owned\x07", "[red]x[/red]")):
        make_run(tmp_path / f"{i}\x1b[2J", {"encoder.activation": value})
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(terminal(compare(read_runs([tmp_path]))))
    text = console.export_text()
    assert "\x1b" not in text
    assert "[red]x[/red]" in text


def test_a_narrow_terminal_shows_fewer_figures_and_breaks_none(
    tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names, shown = [f"test/{name}" for name in ("elbo", "reconstruction", "psnr", "mse", "bce")], {}
    for i in range(2):
        figures = {name: 1234.5 + 10 * place + i for place, name in enumerate(names)}
        make_run(tmp_path / f"a_run_whose_name_is_longer_than_a_line_of_a_table_{i}", {"seed": i}, figures)
    for width in (70, 100, 200):
        monkeypatch.setattr("narrows.commands.compare.console", lambda _, width=width: console(width))
        main([str(tmp_path)])
        text = capsys.readouterr().out
        shown[width] = [place for place in range(len(names)) if f"{1234.5 + 10 * place:.1f}" in text]
        told = [name for name in names if name in text.partition("no room for ")[2]]
        assert told == [name for place, name in enumerate(names) if place not in shown[width]]
    assert 1 <= len(shown[70]) < len(shown[100]) < len(shown[200]) == len(names)


@pytest.mark.parametrize(
    ("value", "deviation", "text"),
    [
        *[(1.23456, None, "1.235"), (128.0, None, "128"), (1234.56, None, "1234.6"), (float("nan"), None, "nan")],
        *[(2.8642, 0.9412, "2.86 ± 0.94"), (76.2, 0.0, "76.2 ± 0"), (1234.5, 56.7, "1234 ± 57"), (None, None, "")],
    ],
)
def test_numbers_as_a_person_reads_them(value: float | None, deviation: float | None, text: str) -> None:
    assert number(value, deviation) == text


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1+1", "'+1+1"),
        ("-2+3", "'-2+3"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "'\t=1"),
        ("\rx", "'\rx"),
        (" =1+1", "' =1+1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("-0.5", "-0.5"),
        ("+1e-5", "+1e-5"),
        ("-inf", "-inf"),
        ("-", "-"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula_and_numbers_stay(text: str, safe: str) -> None:
    assert as_cell(text) == safe


def test_names_of_strangers_are_no_formulas_in_a_csv(tmp_path: Path, make_run: MakeRun) -> None:
    for name, loss in (("=1+1", -2.5), ("@x", 1e-7)):
        make_run(tmp_path / name, {"encoder.activation": f"+{name}"}, {"=test/loss": loss, "test/\x1b[31mkl": 1.0})
    lines = list(csv.reader(io.StringIO(as_csv(table := compare(read_runs([tmp_path])), table.every))))
    cells = [cell for line in lines for cell in line]
    assert {"'=1+1", "'@x", "'+=1+1", "'=test/loss", "-2.5", "1e-07"} <= {*cells}
    assert not any(cell[:1] in ("=", "@") for cell in cells)
    assert "".join(cells).isprintable()
