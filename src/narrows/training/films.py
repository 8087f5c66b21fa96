"""Samples of models of video as an animation, beside their picture."""

from __future__ import annotations

from pathlib import Path

from narrows.data.film_files import as_gif
from narrows.drawing.examples import array, panels
from narrows.drawing.films import film_of
from narrows.evaluation import evaluating
from narrows.files import write_atomically
from narrows.models.autoencoder import Autoencoder
from narrows.runs.file_names import FIGURES


def write_films(model: Autoencoder, directory: Path, seed: int) -> None:
    """Write `<directory>/figures/samples.gif`, where the data are video and the model has a prior: those of
    `samples.png`. Model and random generators are left unchanged."""
    if model.spec.kind != "video" or not model.generative or model.needs_input:
        return
    with evaluating(model, seed, "pictures"):
        drawn = array(model.sample(panels(model.spec)))
    path = directory / FIGURES / "samples.gif"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, as_gif(film_of(drawn, model.spec.bounds)))
