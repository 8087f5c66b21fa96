"""The importance of config keys for a figure, by Optuna's evaluators on a study built from the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from narrows.compare.run_records import finite
from narrows.compare.table_formats import Row, Table, shown
from narrows.compare.two_runs import MISSING

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution

FEWEST = 10
"""Fewest completed runs; an importance computed from fewer is noise."""
WIDE = 50
"""Ratio of the largest to the smallest value from which a positive number is put on a logarithmic scale."""


@dataclass
class Importance:
    """The shares of one figure's variation by config key, largest first; they sum to 1."""

    metric: str
    method: str
    runs: int
    values: list[tuple[str, float]]


def importances(table: Table, metrics: Sequence[str]) -> list[Importance]:
    """The importance of each differing key for each metric; empty if there are too few runs or keys."""
    return [found for metric in metrics if (found := _importance(table, metric)) is not None]


def _importance(table: Table, metric: str) -> Importance | None:
    rows = [row for row in table.rows if row.counted and finite(row.metrics.get(metric))]
    keys = [key for key in table.keys if len({shown(row.keys[key]) for row in rows}) > 1]
    figures = {row.metrics[metric] for row in rows}
    if len(rows) < FEWEST or len(keys) < 2 or len(figures) < 2:
        return None
    from optuna.importance import MeanDecreaseImpurityImportanceEvaluator, get_param_importances

    # A random forest, because fANOVA of the same forest takes thirty times as long, and PED-ANOVA needs many runs.
    evaluator = MeanDecreaseImpurityImportanceEvaluator(seed=0)
    values = get_param_importances(_study(rows, keys, metric), evaluator=evaluator)
    ranked = sorted(((key, float(share)) for key, share in values.items()), key=lambda pair: -pair[1])
    return Importance(metric, "mean decrease of impurity in a random forest", len(rows), ranked)


def _study(rows: Sequence[Row], keys: Sequence[str], metric: str) -> Study:
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(storage=optuna.storages.InMemoryStorage())
        columns = {key: _column([row.keys[key] for row in rows]) for key in keys}
        distributions = {key: distribution for key, (_, distribution) in columns.items()}
        for i, row in enumerate(rows):
            params = {key: values[i] for key, (values, _) in columns.items()}
            value = row.metrics[metric]
            study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
    finally:
        optuna.logging.set_verbosity(before)
    return study


def _column(values: Sequence[Any]) -> tuple[list[Any], BaseDistribution]:
    """The values and distribution of one key: numbers, logarithmic if they span decades, or else choices by text."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if all(isinstance(value, (int, float)) and not isinstance(value, bool) and finite(value) for value in values):
        numbers = [float(value) for value in values]
        low, high = min(numbers), max(numbers)
        return numbers, FloatDistribution(low, high, log=low > 0 and high / low >= WIDE)
    texts = ["(absent)" if value is MISSING else shown(value) for value in values]
    return texts, CategoricalDistribution(list(dict.fromkeys(texts)))
