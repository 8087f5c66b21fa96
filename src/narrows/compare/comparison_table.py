"""The table that compares runs: rows sorted, groups averaged, the best marked."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from narrows.compare.higher_is_better import choose_metrics, headline_metrics, metric_names
from narrows.compare.run_records import STATUSES, Record, finite
from narrows.compare.table_formats import Row, Table
from narrows.compare.two_runs import MISSING
from narrows.compare.varied_keys import differing_columns, key_of
from narrows.errors import UserError, nearest


def compare(
    records: Sequence[Record],
    metrics: Sequence[str] = (),
    group_by: Sequence[str] = (),
    everything: bool = False,
    directions: Mapping[str, bool] | None = None,
) -> Table:
    """The table of `records`, in their order; `metrics` are names and globs, empty for the headline metrics.

    Raises:
        UserError: a metric or a key to group by that the runs do not have.
    """
    columns = differing_columns(records, everything)
    chosen = choose_metrics(metrics, records) if metrics else headline_metrics(records)
    every = list(chosen) if metrics else list(dict.fromkeys([*chosen, *metric_names(records)]))
    rows = [
        Row(
            name=record.name,
            status=record.status,
            keys={key: values[i] for key, values in columns.items()},
            metrics=record.metrics,
            data=_data(record),
        )
        for i, record in enumerate(records)
    ]
    table = Table(rows, list(columns), chosen, every, directions=dict(directions or {}))
    if group_by:
        table = grouped(table, group_by, differing_columns(records, everything=True))
    table.mark()
    return table


def _data(record: Record) -> frozenset[str]:
    recorded = record.manifest.get("data")
    fingerprint = recorded.get("fingerprint") if isinstance(recorded, dict) else None
    return frozenset([fingerprint]) if isinstance(fingerprint, str) and fingerprint else frozenset()


def data_note(table: Table) -> str | None:
    """A note that no row is marked as best, where the runs are of different data; else None."""
    if table.data_sets < 2:
        return None
    sets = f"{table.data_sets} different data sets, by their fingerprints"
    return f"the runs are of {sets}, so that none is marked as best: compare those of one at a time"


def grouped(table: Table, keys: Sequence[str], differing: Mapping[str, Any]) -> Table:
    """Means and standard deviations (n - 1 in the divisor) over the completed runs that differ only in `keys`.

    Raises:
        UserError: the runs do not differ in one of `keys`.
    """
    for key in keys:
        if key not in table.keys:
            known = "the runs do not differ in it" if key not in differing else "it follows from another key"
            raise UserError(f"cannot group by '{key}': {known}; {nearest(key, table.keys)}")
    rest = [key for key in table.keys if key not in keys]
    groups = settings_of(table.rows, rest)
    if not groups:
        raise UserError("no run is completed: there is nothing to average")
    rows = [_mean(members, rest, table.every) for members in groups]
    return Table(rows, rest, table.metrics, table.every, tuple(keys), table.directions)


def settings_of(rows: Sequence[Row], keys: Sequence[str]) -> list[list[Row]]:
    """The completed runs of each setting, which are equal in `keys`; the settings in the order of their first runs."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row.counted:
            groups.setdefault(tuple(key_of(row.keys[key]) for key in keys), []).append(row)
    return list(groups.values())


def _mean(members: Sequence[Row], keys: Sequence[str], metrics: Sequence[str]) -> Row:
    first = members[0]
    row = Row(
        name=str(len(members)),
        status="completed",
        keys={key: first.keys[key] for key in keys},
        metrics={},
        runs=[member.name for member in members],
        data=frozenset().union(*(member.data for member in members)),
    )
    for metric in metrics:
        values = [member.metrics[metric] for member in members if metric in member.metrics]
        if not values:
            continue
        row.counts[metric] = len(values)
        usable = all(map(finite, values))
        row.metrics[metric] = statistics.fmean(values) if usable else float("nan")
        if len(values) > 1 and usable:
            row.deviations[metric] = statistics.stdev(values)
    return row


def repeats(table: Table) -> str | None:
    """The key over which otherwise equal runs can be averaged, seed or fold; None if there is none."""
    for key in ("seed", "datamodule.fold", "datamodule.split_seed"):
        if key in table.keys:
            rest = [other for other in table.keys if other != key]
            settings = {tuple(key_of(row.keys.get(other, MISSING)) for other in rest) for row in table.rows}
            if len(settings) * 2 <= len(table.rows):
                return key
    return None


def status_note(records: Sequence[Record]) -> str | None:
    """A note on how many runs are not completed, by status; None if all are."""
    counts = {status: sum(record.status == status for record in records) for status in STATUSES[1:]}
    parts = [f"{count} {status}" for status, count in counts.items() if count]
    return f"{len(records)} run{'s' * (len(records) != 1)}, of which {', '.join(parts)}" if parts else None


def default_sort(table: Table) -> str | None:
    """The metric by which rows are sorted if the user names none."""
    return "val/loss" if "val/loss" in table.metrics else next(iter(table.metrics), None)
