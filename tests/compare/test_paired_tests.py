"""Whether settings differ by more than chance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from run_copies import MakeRun
from scipy import stats

from narrows.commands.compare import main
from narrows.compare.comparison_table import compare
from narrows.compare.paired_tests import LEVEL, POWER, Difference, detectable_effect, paired_tests
from narrows.compare.run_records import read_runs

SEEDS = 6
DIMS = (2, 4, 8)
NOISE = {2: (0.0, 0.3, -0.2, 0.1, 0.4, -0.3), 4: (0.1, 0.2, -0.1, 0.0, 0.5, -0.4), 8: (0.0, 0.2, 0.0, 0.1, 0.2, -0.1)}
LEVELS = {2: 1.0, 4: 1.05, 8: 3.0}


@pytest.fixture
def runs(tmp_path: Path, make_run: MakeRun) -> Path:
    """Three settings of six seeds; those of 2 and 4 are alike, that of 8 has a higher loss."""
    for dim in DIMS:
        for seed in range(SEEDS):
            figures = {"val/loss": LEVELS[dim] + NOISE[dim][seed] + seed}
            make_run(tmp_path / f"{dim}_{seed}", {"bottleneck.dim": dim, "seed": seed}, figures)
    return tmp_path


def compared(place: Path, *against: str) -> dict[tuple[int, int], Difference]:
    records = read_runs([place])
    tests = paired_tests(compare(records, ["val/loss"]), ["seed"], ["val/loss"], against or None)
    return {(test.first["bottleneck.dim"], test.second["bottleneck.dim"]): test for test in tests}


def losses(dim: int) -> np.ndarray:
    return LEVELS[dim] + np.array(NOISE[dim]) + np.arange(SEEDS)


def test_p_values_are_those_of_paired_t_tests_and_holms_are_by_hand(runs: Path) -> None:
    found = compared(runs)
    assert set(found) == {(2, 4), (2, 8), (4, 8)}
    expected = {pair: stats.ttest_rel(losses(pair[0]), losses(pair[1])).pvalue for pair in found}
    for pair, test in found.items():
        assert test.p == pytest.approx(expected[pair])
        assert test.mean == pytest.approx((losses(pair[0]) - losses(pair[1])).mean())
        assert (test.pairs, test.left_out) == (SEEDS, 0)
    smallest, middle, largest = sorted(expected, key=lambda pair: expected[pair])
    assert found[smallest].holm == pytest.approx(3 * expected[smallest])
    assert found[middle].holm == pytest.approx(max(3 * expected[smallest], 2 * expected[middle]))
    assert found[largest].holm == pytest.approx(max(found[middle].holm, expected[largest]))


def test_a_difference_between_settings_and_none_within_the_noise(runs: Path) -> None:
    found = compared(runs)
    assert found[2, 8].verdict(higher=False) == "better"
    assert found[4, 8].verdict(higher=False) == "better"
    assert found[2, 8].verdict(higher=True) == "worse"
    assert found[2, 8].verdict(None) == "lower"
    assert found[2, 4].verdict(higher=False) == "not told apart"


def test_seeds_that_shift_all_settings_alike_take_no_part(runs: Path) -> None:
    assert stats.ttest_ind(losses(2), losses(8)).pvalue > LEVEL > compared(runs)[2, 8].p


def test_against_a_named_setting_fewer_comparisons_are_corrected_for(runs: Path) -> None:
    named, every = compared(runs, "2_0", "2_1"), compared(runs)
    assert set(named) == {(4, 2), (8, 2)}
    assert named[8, 2].holm == pytest.approx(2 * named[8, 2].p)
    assert named[8, 2].holm < every[2, 8].holm


@pytest.mark.parametrize(("pairs", "comparisons"), [(3, 1), (5, 3), (20, 1)])
def test_the_detectable_difference_is_found_four_times_in_five(pairs: int, comparisons: int) -> None:
    source, number = np.random.default_rng(0), 4000
    drawn = source.normal(detectable_effect(pairs, comparisons), 1.0, (number, pairs))
    found = (stats.ttest_1samp(drawn, 0.0, axis=1).pvalue < LEVEL / comparisons).mean()
    assert abs(found - POWER) < 4 * np.sqrt(POWER * (1 - POWER) / number)


def test_runs_without_a_partner_are_left_out_and_said(
    runs: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(runs / "alone", {"bottleneck.dim": 2, "seed": 9}, {"val/loss": 100.0})
    make_run(runs / "nan", {"bottleneck.dim": 4, "seed": 9}, {"val/loss": float("nan")})
    found = compared(runs)
    assert {pair: (test.pairs, test.left_out) for pair, test in found.items()} == {
        **{(2, 4): (SEEDS, 2), (2, 8): (SEEDS, 1), (4, 8): (SEEDS, 1)}
    }
    main([str(runs), "--group-by", "seed", "--paired", "val/loss"])
    assert "runs without a partner of the same seed are in no comparison" in capsys.readouterr().out


def test_equal_and_constant_differences_and_single_pairs(tmp_path: Path, make_run: MakeRun) -> None:
    figures = {2: (1.0, 2.0, 3.0), 4: (1.0, 2.0, 3.0), 8: (2.0, 3.0, 4.0), 16: (5.0,)}
    for dim, values in figures.items():
        for seed, value in enumerate(values):
            make_run(tmp_path / f"{dim}_{seed}", {"bottleneck.dim": dim, "seed": seed}, {"val/loss": value})
    found = compared(tmp_path)
    assert (found[2, 4].p, found[2, 8].p) == (1.0, 0.0)
    assert np.isnan(found[2, 16].p)
    assert found[2, 16].verdict(False) == "too few pairs"


def test_the_command_shows_tests_and_says_that_few_pairs_find_little(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(runs), "--group-by", "seed", "--paired", "val/loss", "--against", "bottleneck.dim=2"])
    out = capsys.readouterr().out
    assert "dim=8" in out
    assert "worse" in out
    assert "not told apart" in out
    assert "dim=4 │ dim=8" not in out
    assert "underpowered: 6 pairs and 2 comparisons" in out
    main([str(runs), "--group-by", "seed", "--paired", "val/loss", "--json", "-"])
    paired = json.loads(capsys.readouterr().out)["paired"]
    assert len(paired) == 3
    assert {"setting", "against", "holm", "detectable", "verdict"} <= set(paired[0])


def test_a_key_that_only_all_keys_show_may_tell_pairs_apart(
    tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, dim in enumerate((2, 2, 4, 4)):
        make_run(tmp_path / str(number), {"bottleneck.dim": dim, "notes": number % 2}, {"val/loss": float(number)})
    main([str(tmp_path), "--all", "--group-by", "notes", "--paired", "val/loss"])
    assert "dim=2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--paired", "val/loss"], "set --group-by seed too"),
        (["--group-by", "seed", "--against", "seed=0"], "--against is of --paired"),
        (["--group-by", "seed", "--paired", "val/nothing"], "no run has the metric"),
        (["--group-by", "seed", "--paired", "val/loss", "--against", "seed=0"], "must hold of one setting"),
        (["--group-by", "seed", "--paired", "val/loss", "--against", "nothing=0"], "--against: no run has"),
        (["--group-by", "bottleneck.dim,seed", "--paired", "val/loss"], "these runs are all of one"),
    ],
)
def test_refusals(runs: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(runs), *options])
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2
    assert said in line


def test_two_runs_of_one_seed_are_refused_by_name(
    runs: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(runs / "again", {"bottleneck.dim": 2, "seed": 0}, {"val/loss": 1.0})
    with pytest.raises(SystemExit):
        main([str(runs), "--group-by", "seed", "--paired", "val/loss"])
    assert "one setting with the same seed=0" in capsys.readouterr().err
