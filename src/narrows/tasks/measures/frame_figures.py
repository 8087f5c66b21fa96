"""Figures of the scores of frames, whose standard errors resample films, because frames of one film are alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from narrows.compare.figure_names import STDERR
from narrows.tasks.measures.auroc_and_thresholds import RATES, Flags, Ranking, Scores, detection_figures
from narrows.tasks.measures.standard_errors import bootstrap


def frame_figures(
    scores: Scores, anomalous: Flags, threshold: float, films: NDArray[np.int64], seed: int
) -> dict[str, float]:
    """`frame_auroc`, `frame_average_precision` and the rates at the threshold, over the frames of all films together,
    each with its bootstrap standard error over films; NaN where there is one film.

    Args:
        scores: `[F]`, higher where more anomalous.
        films: the number of each frame's film, `[F]`.
    """
    of_film = [np.flatnonzero(films == film) for film in np.unique(films)]
    ranking, flagged = Ranking(scores, anomalous), scores > threshold

    def rows(drawn: NDArray[np.integer]) -> NDArray[np.integer]:
        return np.concatenate([of_film[film] for film in drawn])

    def at_threshold(rate: Callable[[Flags, Flags], float], drawn: NDArray[np.integer]) -> float:
        return rate(flagged[rows(drawn)], anomalous[rows(drawn)])

    figures: dict[str, Callable[[NDArray[np.integer]], float]] = {
        "auroc": lambda drawn: ranking.auroc(rows(drawn)),
        "average_precision": lambda drawn: ranking.average_precision(rows(drawn)),
        **{name: partial(at_threshold, rate) for name, rate in RATES.items()},
    }
    every = np.arange(len(of_film))
    errors = {
        f"{name}{STDERR}": bootstrap(figure, every, seed=seed) if len(every) > 1 else math.nan
        for name, figure in figures.items()
    }
    found = detection_figures(scores, anomalous, threshold) | errors
    return {f"frame_{name}": value for name, value in found.items()}
