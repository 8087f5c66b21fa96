"""`narrows score RUN NEW` of a run on windows of signals: every time step with score, flag and reconstruction.

`NEW` is a table of the same channels, read as the run's own were: time orders its rows, and no window crosses a gap.
`OUT` has every row of `NEW`, unchanged and in its order, with these columns appended:

- `score`: the mean score of the windows that cover the time step, one every `stride` of the run and one at the end of
  every stretch, as in `task=anomaly`;
- `anomaly`: 1 where it is above the threshold, else 0: a quantile of the scores of the normal validation steps of this
  series, or of all where it is new;
- `reconstruction_<channel>`: the mean of what these windows rebuilt, in the data's own units;
- `problem`: why a time step has no score.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from narrows.config.building import build
from narrows.data.signal_scaling import SignalScaling
from narrows.data.signal_table import read_rows
from narrows.data.time_order import Recording
from narrows.errors import require
from narrows.files import replacing
from narrows.loading import recorded_by_the_data
from narrows.loading.open_run import OpenRun
from narrows.models.autoencoder import Autoencoder
from narrows.new_data.result_columns import FLAG, PROBLEM, REBUILT, SCORE
from narrows.new_data.signals import cut, keep_clock, tell_other_step
from narrows.tasks.measures.normal_scores import Calibration, calibrate
from narrows.tasks.measures.time_steps import fold

log = logging.getLogger(__name__)


def score_signals(run: OpenRun, new: Path, out: Path, overrides: Sequence[str], quantile: float) -> Path:
    """Score the time steps of a table; returns the path of the result.

    Raises:
        UserError: a table without the run's channels, or that cannot be read as they were; a series that the run was
            not trained on, where each was scaled by itself; or no stretch as long as a window.
    """
    scaling = recorded_by_the_data.load_signals(run.path)
    require(
        run.model.classes(1) is None, f"{run.path} holds a conditional model, which needs the label that new rows lack"
    )
    run.find_data(overrides, needed=False)
    run.model.to(run.device)
    source = _reader(run, scaling)
    table = read_rows(new, source.format)
    read = source.recordings(new)
    tell_other_step(read, scaling, new.name)
    added = [SCORE, FLAG, *(f"{REBUILT}{channel}" for channel in scaling.channels), PROBLEM]
    taken = [name for name in added if name in table.columns]
    require(not taken, f"{new} has a column '{', '.join(taken)}' already: is it a scored file?")
    scorer = _Scorer(run.model, scaling, calibrate(run, overrides), quantile, source.stride_of(scaling.window))
    columns = pd.DataFrame(index=table.index, columns=added, dtype=object)
    for one in read.series:
        assert one.rows is not None
        columns.iloc[one.rows] = scorer.columns(one, one.name or new.name)
    scored = int(columns[SCORE].notna().sum())
    longest = max(part.values.shape[1] for one in read.series for part in one.stretches)
    require(
        scored > 0,
        f"the longest stretch of {new}, {longest} time steps, is shorter than a window of the run, "
        f"{scaling.window}: nothing can be scored",
    )
    with replacing(out) as file:
        pd.concat([table, columns], axis=1).to_csv(file, index=False)
    flagged = int((columns[FLAG] == 1).sum())
    log.info("%d time steps, %d flagged as anomalies, %d not scored", len(table), flagged, len(table) - scored)
    return out


def _reader(run: OpenRun, scaling: SignalScaling) -> Any:
    """The run's own source, told to read its channels and no labels."""
    config = run.config.datamodule.source.copy()
    config.path, config.label_column, config.columns = None, None, scaling.channels
    if config.get("signals") is not None:
        config.signals.intervals_path = None
    source = build(config, "datamodule.source")
    keep_clock(source, scaling)
    return source


@dataclass
class _Scorer:
    """Scores the time steps of series."""

    model: Autoencoder
    scaling: SignalScaling
    calibration: Calibration
    quantile: float
    stride: int

    @property
    def channels(self) -> int:
        return len(self.scaling.channels)

    def columns(self, one: Recording, name: str) -> NDArray[np.object_]:
        """The new cells of the rows of a series, in the order of time, `[R, 3 + C]`."""
        assert one.steps is not None
        threshold = self.calibration.threshold(self.quantile, self._known(name))
        log.info("%s: threshold %.6g, the %g quantile of normal scores", name, threshold, self.quantile)
        scores, rebuilt = self._steps(one, name)
        found = np.full((one.length, 3 + len(rebuilt)), None, dtype=object)
        known = np.isfinite(scores)
        found[known, 0], found[known, 1] = scores[known], (scores[known] > threshold).astype(int)
        found[known, 2:-1] = rebuilt.T[known]
        found[~known, -1] = (
            f"in no window: a stretch of fewer than {self.scaling.window} time steps, or nothing measured"
        )
        return found[one.steps]

    def _known(self, name: str) -> str | None:
        """The name under which the run knows the series."""
        names = [known for known in self.calibration.series or {} if known == name or known.endswith(f"/{name}")]
        return names[0] if len(names) == 1 else None

    def _steps(self, one: Recording, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scores `[T]` and reconstructions `[C, T]` in the data's own units, NaN where no window is."""
        found = cut(one, name, self.scaling, self.stride)
        if found is None:
            empty = np.full((self.channels, one.length), np.nan)
            return empty[0].copy(), empty
        (batch, begin), (shift, scale), window = found, self.scaling.of(name), self.scaling.window
        guess, scores = self.calibration.judge(self.model, batch)
        own_units = (guess.double() * scale[: self.channels] + shift[: self.channels]).numpy()
        folded = [_fold_values(own_units[:, channel], begin, one.length) for channel in range(self.channels)]
        return fold(scores, begin, window, one.length), np.stack(folded)


def _fold_values(values: NDArray[np.float64], starts: NDArray[np.int64], length: int) -> NDArray[np.float64]:
    """The mean of what windows `[N, W]` say of each time step, `[T]`."""
    sums, counts = np.zeros(length), np.zeros(length)
    for offset in range(values.shape[1]):
        sums[starts + offset] += values[:, offset]
        counts[starts + offset] += 1
    return np.divide(sums, counts, out=np.full(length, np.nan), where=counts > 0)
