"""Anomaly scores of new examples that are no rows of a table, and error maps of pictures."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from narrows.compare.table_formats import as_cell
from narrows.errors import UserError
from narrows.files import appearing
from narrows.new_data.apply import followed
from narrows.new_data.examples import Chunk, NewData
from narrows.new_data.result_columns import FLAG, NAME, PROBLEM, SCORE

if TYPE_CHECKING:
    import pandas as pd

    from narrows.models.autoencoder import Autoencoder
    from narrows.tasks.measures.normal_scores import Calibration

log = logging.getLogger(__name__)
Draw = Callable[[Chunk, Tensor | None], None]


def score_examples(
    model: Autoencoder, data: NewData, calibration: Calibration, quantile: float, out: Path, maps: Path | None
) -> None:
    """Write a table of the examples: `name`, `score`, `anomaly` (1 above the threshold) and `problem`.

    Args:
        quantile: of the normal scores, which is the threshold.
        maps: a new folder for a picture of each example: input, reconstruction and where they differ; of features the
            picture and where they differ.

    Raises:
        UserError: nothing of the data can be read, `out` has no known ending, or maps of what is no pictures.
    """
    from narrows.new_data.tables import writing_rows  # pandas is slow to import

    threshold = calibration.threshold(quantile)
    log.info("threshold %.6g, the %g quantile of the scores of the run's validation normals", threshold, quantile)
    flagged = 0
    with writing_rows(out) as write, _drawing(data, maps, calibration) as draw:
        for chunk in followed(data):
            rebuilt, scores = None, np.zeros(0)
            if chunk.batch is not None:
                rebuilt, scores = calibration.judge(model, chunk.batch)
            flagged += int((scores > threshold).sum())
            write(_rows(chunk, scores, threshold))
            draw(chunk, rebuilt)
    log.info("%d flagged as anomalies", flagged)


def _rows(chunk: Chunk, scores: Any, threshold: float) -> pd.DataFrame:
    import pandas as pd

    every = chunk.spread(scores, np.nan) if len(scores) else np.full(len(chunk), np.nan)
    flags = pd.array([None if np.isnan(one) else int(one > threshold) for one in every], dtype="Int64")
    names = [as_cell(name) for name in chunk.names]  # of files, which may be a stranger's
    problems = pd.Series(chunk.problems, dtype="str")
    return pd.DataFrame({NAME: pd.Series(names, dtype="str"), SCORE: every, FLAG: flags, PROBLEM: problems})


@contextlib.contextmanager
def _drawing(data: NewData, maps: Path | None, calibration: Calibration) -> Iterator[Draw]:
    """What draws a picture of every readable example of a chunk, beside its reconstruction; nothing without `maps`."""
    if maps is None:
        yield lambda chunk, rebuilt: None
        return
    from narrows.new_data.error_maps import brightest, error_map, heat_map
    from narrows.new_data.features import NewFeatures
    from narrows.new_data.pictures import NewPictures

    pictures = data.pictures if isinstance(data, NewFeatures) else data
    if not isinstance(pictures, NewPictures):
        raise UserError(f"--maps draws where pictures are odd, and {data.path} holds {pictures.form}")
    limit = brightest(calibration)
    with appearing(maps) as folder:
        place = pictures.places(folder)

        def draw(chunk: Chunk, rebuilt: Tensor | None) -> None:
            if rebuilt is None or chunk.batch is None:
                return
            shown = chunk.beside if pictures is not data else [None] * len(rebuilt)
            for row, x, guess, picture in zip(chunk.rows.tolist(), chunk.batch.x, rebuilt, shown, strict=True):
                drawn = error_map(x, guess, limit) if picture is None else heat_map(picture, x, guess, limit)
                drawn.save(place(chunk.names[row]), format="PNG")

        yield draw
