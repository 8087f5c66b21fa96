"""How odd the single frames of new films are: what their clips say, folded back to every frame."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from narrows.compare.table_formats import as_cell
from narrows.new_data.examples import Chunk
from narrows.new_data.result_columns import FILM, FLAG, FRAME, PROBLEM, SCORE
from narrows.new_data.video import NewVideo

if TYPE_CHECKING:
    import pandas as pd

    from narrows.models.autoencoder import Autoencoder
    from narrows.tasks.measures.normal_scores import Calibration

log = logging.getLogger(__name__)


def score_frames(model: Autoencoder, data: NewVideo, calibration: Calibration, quantile: float, out: Path) -> None:
    """Write a table of the frames of every film, in order: `film`, `frame` (its place in the film, from 0), `score`,
    `anomaly` (1 above the threshold) and `problem`; a film that cannot be read has one row.

    A frame's score is its mean squared error in a clip, and the mean over the clips that hold it, as in `task=anomaly`:
    a clip begins every `stride` frames, as the run's did, and one ends with the film.

    Args:
        quantile: of the scores of frames of normal validation clips, which is the threshold.

    Raises:
        UserError: `out` has no known ending.
    """
    from narrows.new_data.tables import writing_rows  # pandas is slow to import

    assert calibration.frames is not None
    clips = data.video.clips
    threshold = float(np.quantile(calibration.frames, quantile))
    log.info("threshold of frames %.6g, the %g quantile of those of validation normals", threshold, quantile)
    flagged = 0
    with writing_rows(out) as write:
        for chunk in data.chunks(stride=max(1, clips.away // clips.step)):
            scores = np.zeros((0, 0))
            if chunk.batch is not None:
                scores = calibration.frame_scores(calibration.judge(model, chunk.batch)[0], chunk.batch.x)
            for piece, values in zip(chunk.beside, _spread(chunk, scores), strict=True):
                if piece.film is None:
                    write(_rows(piece.name, None, np.zeros(0, dtype=bool), piece.problem))
                    continue
                if piece.film.add(piece.start, values[None]):
                    (whole,) = piece.film.mean()
                    flagged += int((whole > threshold).sum())
                    write(_rows(piece.film.name, whole, whole > threshold, None, clips.step))
    log.info("%d frames flagged as anomalies", flagged)


def _spread(chunk: Chunk, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The scores of all clips of a chunk, in their order: NaN of those that could not be read."""
    return chunk.spread(scores, np.nan) if len(scores) else np.zeros((len(chunk), 0))


def _rows(
    name: str, scores: NDArray[np.float64] | None, flags: NDArray[np.bool_], problem: str | None, step: int = 1
) -> pd.DataFrame:
    """The rows of a film, whose name may be a stranger's; one without scores where it could not be read."""
    import pandas as pd

    count = 1 if scores is None else len(scores)
    places = [None] if scores is None else [step * place for place in range(count)]
    return pd.DataFrame(
        {
            FILM: pd.Series([as_cell(name)] * count, dtype="str"),
            FRAME: pd.array(places, dtype="Int64"),
            SCORE: np.full(count, np.nan) if scores is None else scores,
            FLAG: pd.array([None] if scores is None else flags.astype(int).tolist(), dtype="Int64"),
            PROBLEM: pd.Series([problem] * count, dtype="str"),
        }
    )
