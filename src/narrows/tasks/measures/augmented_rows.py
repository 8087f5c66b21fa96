"""Few labelled rows and more made of them: by noise, by shifts of pictures, by SMOTE, and by samples of a model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from narrows.compare.figure_names import MODEL
from narrows.densities import ClassMixtures
from narrows.models.autoencoder import Autoencoder
from narrows.random import derive, seed_default
from narrows.tasks.classics.row_samplers import smote
from narrows.tasks.measures.mixed_rows import MixedRows, RowColumn
from narrows.types import Batch, DataSpec, Given

Array = NDArray[np.floating]
Maker = Callable[[Array, NDArray[np.int64], np.random.Generator], Array]
"""Makes a row `[*shape]` of the class of each of these labelled rows, `[N, *shape]` and `[N]`."""
TREES, NOISE, SHIFT, CHUNK = 100, 0.25, 1, 500


def jitter(x: Array, label: NDArray[np.int64], random: np.random.Generator) -> Array:
    """Normal noise of a quarter of the deviation of all values."""
    return x + NOISE * x.std() * random.standard_normal(x.shape)


def shifts(x: Array, label: NDArray[np.int64], random: np.random.Generator) -> Array:
    """Pictures `[N, C, H, W]` moved by up to a pixel on both axes; what comes in is the picture's own edge."""
    padded = np.pad(x, ((0, 0), (0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)), mode="edge")
    height, width = x.shape[2:]
    moves = random.integers(2 * SHIFT + 1, size=(len(x), 2))
    moved = [
        one[:, down : down + height, right : right + width] for one, (down, right) in zip(padded, moves, strict=True)
    ]
    return np.stack(moved)


def between(x: Array, label: NDArray[np.int64], random: np.random.Generator) -> Array:
    """SMOTE: rows between neighbours of a class, of the classes in their shares; see `row_samplers.smote`.

    The rows come class by class as `label` has them.
    """
    flat = x.reshape(len(x), -1).astype(np.float64)
    columns = [*(RowColumn(str(place)) for place in range(flat.shape[1])), RowColumn("class", int(label.max()) + 1)]
    made = np.empty_like(flat)
    for kind in np.unique(label):
        mine = np.flatnonzero(label == kind)
        rows = MixedRows(columns, np.hstack([flat[mine], label[mine, None]]), flat.shape[1])
        made[mine] = smote(rows, len(mine), random).values[:, :-1]
    return made.reshape(x.shape)


def samples(model: Autoencoder, x: Array, label: NDArray[np.int64], seed: int) -> Maker:
    """Samples of a model by class: its decoder's points at draws of a density by class that is fitted to the latents of
    these labelled rows alone. The model itself has seen no label."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    own = torch.from_numpy(label)
    latents = torch.cat([model.encode(Batch(part.to(device))).z.cpu() for part in torch.from_numpy(x).split(CHUNK)])
    density = ClassMixtures(model)
    density.label = own
    density.learn(latents, latents)

    def make(x: Array, label: NDArray[np.int64], random: np.random.Generator) -> Array:
        seed_default(seed, "augmented", int(random.integers(2**31)))
        z = density.sample_of(torch.from_numpy(label)).to(device)
        points = [model.point_at(part, Given()).cpu() for part in z.split(CHUNK)]
        return torch.cat(points).numpy()

    return make


def makers(
    model: Autoencoder, spec: DataSpec, x: Array, label: NDArray[np.int64], seed: int
) -> dict[str, Maker | None]:
    """The ways to make rows, by method; None adds nothing."""
    found: dict[str, Maker | None] = {MODEL: samples(model, x, label, seed), "raw": None, "jitter": jitter}
    if spec.kind == "image":
        found["shifts"] = shifts
    return found | {"smote": between}


def augmented_hits(
    model: Autoencoder,
    spec: DataSpec,
    train: tuple[Array, NDArray[np.int64]],
    test: tuple[Array, NDArray[np.int64]],
    times: int,
    seed: int,
    draw: int,
) -> dict[str, NDArray[np.float64]]:
    """By method, 1. for every test row that a random forest of the labelled rows, and `times` as many that are made of
    them, tells correctly, else 0., `[M]`.

    Args:
        train, test: rows `[N, *shape]` and their classes.
        draw: of the labelled rows, which seeds what is made.
    """
    x, label = train
    found = {}
    for method, make in makers(model, spec, x, label, derive(seed, "augmented", draw)).items():
        random = np.random.default_rng(derive(seed, "augmented", method, draw))
        made = [] if make is None else [make(x, label, random) for _ in range(times)]
        rows = np.concatenate([x, *made]).reshape(len(x) * (1 + len(made)), -1)
        forest = RandomForestClassifier(TREES, random_state=derive(seed, "augmented forest", draw) % 2**32)
        forest.fit(rows, np.tile(label, 1 + len(made)))
        found[method] = (forest.predict(test[0].reshape(len(test[0]), -1)) == test[1]).astype(np.float64)
    return found
