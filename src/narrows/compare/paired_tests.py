"""Whether settings differ by more than chance: paired tests over equal seeds or folds, corrected for their number."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from rich.table import Table as RichTable

from narrows.compare.comparison_table import settings_of
from narrows.compare.run_records import finite
from narrows.compare.table_formats import Row, Table, number, plain, plain_keys, shown
from narrows.compare.two_runs import MISSING
from narrows.compare.varied_keys import key_of
from narrows.errors import UserError, printable, require

LEVEL, POWER = 0.05, 0.8
"""Two-sided level of the tests, and the share of true differences that a test is asked to find."""
QUANTILES = 2000
"""Of the estimated deviation, over which the power of a test is averaged."""
MOST = 15
"""Comparisons that a terminal shows."""
Setting = dict[str, Any]


@dataclass
class Difference:
    """The differences `first - second` of one figure over pairs of runs that are equal in the keys grouped by.

    `p` is that of a two-sided paired t-test, NaN of fewer than two pairs; `holm` the same after Holm's correction for
    all comparisons of this figure; `detectable` is the smallest true difference that as many pairs with this spread
    find with a probability of 0.8 at the level of 0.05 over the number of comparisons.
    """

    metric: str
    first: Setting
    second: Setting
    pairs: int
    left_out: int
    mean: float
    deviation: float
    p: float
    holm: float = math.nan
    detectable: float = math.nan

    @property
    def told_apart(self) -> bool:
        return self.holm < LEVEL

    def verdict(self, higher: bool | None) -> str:
        """What the test says of `first`, in a word or two."""
        if self.pairs < 2:
            return "too few pairs"
        if not self.told_apart:
            return "not told apart"
        if higher is None:
            return "higher" if self.mean > 0 else "lower"
        return "better" if (self.mean > 0) == higher else "worse"


def paired_tests(
    table: Table, keys: Sequence[str], metrics: Sequence[str], against: Sequence[str] | None = None
) -> list[Difference]:
    """All comparisons of two settings, or of each with the one whose runs are named in `against`.

    Holm's correction is over the comparisons of a figure that are made: all pairs of settings unless one is named
    beforehand, because the best setting is known only once its figures are.

    Args:
        table: of single runs.
        keys: that runs of one setting differ in, such as `seed`; a pair has the same values of all.
        metrics: by their names.
        against: names of the runs of the setting that the others are held against.

    Raises:
        UserError: a setting has two completed runs of the same seed, there are fewer than two settings, or `against`
            names the runs of none or of several.

    "Statistical Comparisons of Classifiers over Multiple Data Sets" (Demsar, 2006),
    https://jmlr.org/papers/v7/demsar06a.html, for the correction in comparisons of learning methods; "A Simple
    Sequentially Rejective Multiple Test Procedure" (Holm, 1979).
    """
    rest = [key for key in table.keys if key not in keys]
    settings = _settings(table, keys, rest)
    require(len(settings) > 1, "--paired compares settings, and these runs are all of one")
    reference = None if against is None else _named(settings, against)
    found = []
    for metric in metrics:
        pairs = itertools.combinations(settings, 2) if reference is None else _others(settings, reference)
        tests = [_difference(metric, first, second) for first, second in pairs]
        _correct(tests)
        found += tests
    return found


@dataclass
class _Group:
    setting: Setting
    runs: dict[tuple[Any, ...], Row]


def _settings(table: Table, keys: Sequence[str], rest: Sequence[str]) -> list[_Group]:
    """The settings in the order of the table, each with its completed runs by the values of `keys`."""
    return [
        _Group({key: rows[0].keys[key] for key in rest}, _by_pair(rows, keys)) for rows in settings_of(table.rows, rest)
    ]


def _by_pair(rows: Sequence[Row], keys: Sequence[str]) -> dict[tuple[Any, ...], Row]:
    """The runs of one setting by the values of `keys`."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        pair = tuple(key_of(row.keys[key]) for key in keys)
        if pair in found:
            same = ", ".join(f"{key}={shown(row.keys[key])}" for key in keys)
            raise UserError(
                f"--paired: {row.name} and {found[pair].name} are one setting with the same {same}: "
                "leave one out with --where"
            )
        found[pair] = row
    return found


def _named(settings: Sequence[_Group], names: Sequence[str]) -> _Group:
    wanted = set(names)
    found = [group for group in settings if any(row.name in wanted for row in group.runs.values())]
    if len(found) != 1:
        known = "; ".join(label(group.setting) for group in settings)
        raise UserError(f"--against must hold of one setting, but holds of {len(found)}: {known}")
    return found[0]


def _others(settings: Sequence[_Group], reference: _Group) -> list[tuple[_Group, _Group]]:
    return [(group, reference) for group in settings if group is not reference]


def _difference(metric: str, first: _Group, second: _Group) -> Difference:
    values = []
    for pair, row in first.runs.items():
        other = second.runs.get(pair)
        ours, theirs = row.metrics.get(metric), None if other is None else other.metrics.get(metric)
        if ours is not None and theirs is not None and finite(ours) and finite(theirs):
            values.append(ours - theirs)
    left_out = len(first.runs) + len(second.runs) - 2 * len(values)
    mean = statistics.fmean(values) if values else math.nan
    deviation = statistics.stdev(values) if len(values) > 1 else math.nan
    p = _p_value(mean, deviation, len(values))
    return Difference(metric, first.setting, second.setting, len(values), left_out, mean, deviation, p)


def _p_value(mean: float, deviation: float, pairs: int) -> float:
    """Of a two-sided paired t-test; without any spread a difference is certain, and none is none."""
    if pairs < 2:
        return math.nan
    if deviation == 0:
        return 1.0 if mean == 0 else 0.0
    from scipy.stats import t  # slow to import

    return float(2 * t.sf(abs(mean) / deviation * math.sqrt(pairs), pairs - 1))


def _correct(tests: Sequence[Difference]) -> None:
    """Fill in Holm's p-values and the differences that could have been found."""
    tested = sorted((test for test in tests if test.pairs > 1), key=lambda test: test.p)
    largest = 0.0
    for place, test in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - place) * test.p))
        test.holm = largest
        test.detectable = detectable_effect(test.pairs, len(tested)) * test.deviation


@cache
def detectable_effect(pairs: int, comparisons: int = 1) -> float:
    """The mean difference, in its standard deviations, that a two-sided paired t-test finds with a probability of 0.8
    at the level of 0.05 divided by the number of comparisons."""
    import numpy as np  # these are slow to import
    from scipy.optimize import brentq
    from scipy.stats import chi2, norm, t

    critical = t.isf(LEVEL / comparisons / 2, pairs - 1)
    # Not the noncentral t of scipy, which is NaN at large shifts: the normal probabilities, averaged over deviations.
    spreads = np.sqrt(chi2.ppf((np.arange(QUANTILES) + 0.5) / QUANTILES, pairs - 1) / (pairs - 1))

    def missing(effect: float) -> float:
        shift = effect * math.sqrt(pairs)
        found = norm.sf(critical * spreads - shift) + norm.cdf(-critical * spreads - shift)
        return float(found.mean() - POWER)

    highest = 1.0
    while missing(highest) < 0:
        highest *= 2
    return float(brentq(missing, 0.0, highest))


def label(setting: Setting) -> str:
    """A setting by the last parts of its keys."""
    named = [f"{key.rpartition('.')[2]}={shown(value)}" for key, value in setting.items() if value is not MISSING]
    return printable(", ".join(named))


def terminal_tests(tests: Sequence[Difference], table: Table) -> RichTable:
    """The comparisons for a terminal, the surest first."""
    drawn = RichTable(header_style="bold", title="differences over pairs of runs", title_justify="left")
    drawn.add_column("figure", overflow="fold")
    drawn.add_column("setting", overflow="fold")
    drawn.add_column("against", overflow="fold")
    for heading in ("pairs", "difference", "p", "p (Holm)"):
        drawn.add_column(heading, justify="right")
    drawn.add_column("")
    for test in sorted(tests, key=lambda test: (test.metric, math.isnan(test.p), test.p))[:MOST]:
        verdict = test.verdict(table.higher(test.metric))
        drawn.add_row(
            test.metric,
            label(test.first),
            label(test.second),
            str(test.pairs),
            number(test.mean, None if math.isnan(test.deviation) else test.deviation),
            _probability(test.p),
            _probability(test.holm),
            verdict,
            style="bold" if test.told_apart else "",
        )
    return drawn


def _probability(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def power_notes(tests: Sequence[Difference], keys: Sequence[str]) -> list[str]:
    """What the tests could not have found, and what they left out."""
    notes = []
    tested = [test for test in tests if test.pairs > 1]
    if tested:
        fewest = min(test.pairs for test in tested)
        comparisons = max(sum(test.metric == metric for test in tested) for metric in {test.metric for test in tested})
        effect = detectable_effect(fewest, comparisons)
        if effect > 1:
            notes.append(
                f"underpowered: {fewest} pairs and {comparisons} comparison{'s' * (comparisons > 1)} find, with a "
                f"probability of {POWER}, only differences of at least {effect:.1f} of their standard deviations; "
                f"'not told apart' does not mean equal"
            )
    if any(test.left_out for test in tests):
        notes.append(f"runs without a partner of the same {', '.join(keys)} are in no comparison")
    if len(tests) > MOST:
        notes.append(f"{MOST} of {len(tests)} comparisons are shown: --json has all")
    return notes


def plain_tests(tests: Sequence[Difference], table: Table) -> list[dict[str, Any]]:
    """The comparisons as plain values; NaN is null."""
    return [
        {
            "metric": test.metric,
            "setting": plain_keys(test.first),
            "against": plain_keys(test.second),
            "pairs": test.pairs,
            "left_out": test.left_out,
            **{name: plain(getattr(test, name)) for name in ("mean", "deviation", "p", "holm", "detectable")},
            "verdict": test.verdict(table.higher(test.metric)),
        }
        for test in tests
    ]
