"""Task reduction: how well the latents preserve the data, beside classic reductions to as many dimensions."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from narrows.compare.figure_names import MODEL
from narrows.errors import require, require_at_least
from narrows.models.autoencoder import Autoencoder
from narrows.random import derive, generator
from narrows.tasks.base import Task, TaskContext
from narrows.tasks.classics.dimension_reducers import Reducer, fit_reducers, fit_umap, import_umap, too_many
from narrows.tasks.classics.mean_pca_ridge import Classics, fit_classics
from narrows.tasks.figure_table import FigureTable, declared
from narrows.tasks.measures.chosen_rows import drawn
from narrows.tasks.measures.embeddings import (
    NEIGHBOURS,
    Matrix,
    Reader,
    continuity,
    embedding,
    labels,
    neighbour_hits,
    probe_hits,
    read_split,
    told_the_label,
    trust,
)
from narrows.tasks.measures.reconstruction_errors import example_mse
from narrows.tasks.measures.standard_errors import bootstrap, standard_error, with_error
from narrows.types import Batch, DataSpec

log = logging.getLogger(__name__)

PARTS = 5
"""Parts of the test rows; each gives one value of trustworthiness."""
PERPLEXITY = 30


class Reduction(Task):
    """Judges `embed` as a reduction of the data, beside PCA, a Gaussian random projection, kernel PCA and UMAP of the
    raw values to as many dimensions (`test/reduction/pca/...` and so on).

    - `test/reduction/knn`: accuracy by a vote of the five nearest training rows, and `.../probe`, of a linear probe
      of them (see `narrows.tasks.measures.embeddings`), where there are classes.
    - `.../trustworthiness` and `.../continuity` of five neighbours, a mean over five disjoint random parts of the test
      rows (both depend on how many rows are looked at: compare at equal `neighbour_rows`).
    - `.../mse` per value of the reconstruction and `.../explained_variance = 1 - MSE / MSE of the training mean`,
      0 for predicting the mean, where the reduction has a way back.

    Standard errors are over test rows, of the neighbourhoods over the parts. `figures/reduction_map.png` shows test
    rows in two dimensions: the latents themselves where they are two, else their PCA, t-SNE and UMAP; and the raw
    data's PCA. Where umap-learn is not installed, UMAP is left out.

    Args:
        max_rows: training rows that all but kernel PCA and UMAP may read; null for all.
        kernel_rows: training rows that kernel PCA is fitted on.
        umap_rows: training rows that UMAP is fitted on, and its probes read; null leaves it out.
        neighbour_rows: test rows whose neighbourhoods are compared.
        map_rows: test rows in the picture.

    Raises:
        UserError: an argument below 1, or fewer test rows than neighbourhoods can be read of.
    """

    name = "reduction"
    figures = declared(
        ("trustworthiness", "continuity", "mse", "explained_variance"), (MODEL, "pca"), heading="reduction"
    )

    def __init__(
        self,
        *,
        max_rows: int | None = None,
        kernel_rows: int = 2000,
        umap_rows: int | None = 5000,
        neighbour_rows: int = 5000,
        map_rows: int = 2000,
    ) -> None:
        measured = {"kernel_rows": kernel_rows, "umap_rows": umap_rows, "neighbour_rows": neighbour_rows}
        require_at_least(3 * NEIGHBOURS, "task reduction:", **measured)
        require_at_least(1, "task reduction:", max_rows=max_rows)
        require_at_least(3, "task reduction:", map_rows=map_rows)
        self.max_rows, self.kernel_rows, self.umap_rows = max_rows, kernel_rows, umap_rows
        self.neighbour_rows, self.map_rows = neighbour_rows, map_rows

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        if spec.kind == "tokens":
            return "tokens have no distances"
        return too_many(math.prod(model.latent_shape), spec.shape)

    def run(self, context: TaskContext) -> FigureTable:
        classics = fit_classics(context, self.max_rows)
        look = self._look(context, classics, fit_reducers(context, classics, self.kernel_rows, self.umap_rows))
        model, mean = (float(look.errors[name].mean()) for name in (MODEL, "mean"))
        context.warn_if_worse_than_mean("the model is", "test MSE", model, mean)
        found = FigureTable(self.name)
        for name, codes in look.test.items():
            found.add(self._neighbourhoods(look.raw, codes, context.seed), name)
            found.add(_label_figures(look, name) | _error_figures(look, name, context.seed), name)
        self._draw(context, look)
        return found

    def _look(self, context: TaskContext, classics: Classics, reducers: dict[str, Reducer]) -> _Look:
        readers: dict[str, Reader] = {MODEL: embedding(context)}
        readers |= {name: _reader(classics, reducer) for name, reducer in reducers.items()}
        known = _known_labels(context)
        look = _Look(train=self._train_codes(context, readers, reducers) if known else {})
        named: dict[str, Reader] = {"label": labels} if known else {}
        errors = {f"error {name}": read for name, read in _errors(context, classics, reducers).items()}
        raw: dict[str, Reader] = {"raw": lambda batch: classics.flat(batch.x, batch.judged)}
        test = read_split(context, "test", readers | named | errors | raw)
        look.test = {name: test[name] for name in readers}
        look.errors = {name.removeprefix("error "): test[name] for name in errors}
        look.raw, look.label = test["raw"], test.get("label")
        return look

    def _train_codes(
        self, context: TaskContext, readers: dict[str, Reader], reducers: dict[str, Reducer]
    ) -> dict[str, tuple[Matrix, NDArray]]:
        """By reduction, codes and labels of training rows: those it was fitted on, if it was fitted on some."""
        known = {name: reducer.fitted for name, reducer in reducers.items() if reducer.fitted is not None}
        asked = {name: read for name, read in readers.items() if name not in known} | {"label": labels}
        train = read_split(context, "train", asked, _some(context.spec.size, self.max_rows, context.seed))
        label = train.pop("label")
        found = {name: (codes, label) for name, codes in train.items()}
        for name, (codes, rows) in known.items():
            theirs = read_split(context, "train", {"label": labels}, torch.from_numpy(rows))
            found[name] = (codes, theirs["label"])
        return found

    def _neighbourhoods(self, raw: Matrix, codes: Matrix, seed: int) -> dict[str, float]:
        order = torch.randperm(len(raw), generator=generator(seed, "neighbourhoods"))[: self.neighbour_rows].numpy()
        require(
            len(order) >= 3 * NEIGHBOURS,
            f"task reduction: {len(order)} test rows are too few for the ranks of {NEIGHBOURS} neighbours: 15 at least",
        )
        parts = np.array_split(order, PARTS if len(order) >= 3 * NEIGHBOURS * PARTS else 1)
        measures: dict[str, Callable[[Matrix, Matrix], float]] = {"trustworthiness": trust, "continuity": continuity}
        found: dict[str, float] = {}
        for name, measure in measures.items():
            values = [measure(raw[part], codes[part]) for part in parts]
            found[name] = fmean(values)
            if len(parts) > 1:
                found[f"{name}_stderr"] = standard_error(np.array(values))
        return found

    def _draw(self, context: TaskContext, look: _Look) -> None:
        if context.directory is None:
            return
        from narrows.drawing.embeddings_and_error_bars import maps

        chosen = torch.randperm(len(look.raw), generator=generator(context.seed, "map"))[: self.map_rows].numpy()
        panels = _flat_maps(look.test[MODEL][chosen], context.seed, self.umap_rows is not None)
        panels["raw data: PCA"] = _plane(look.raw[chosen])
        title = f"{len(chosen)} test examples in two dimensions"
        label = None if look.label is None else look.label[chosen]
        context.show("reduction_map", maps(panels, label, title, context.spec.class_names))


@dataclass
class _Look:
    """By reduction: codes of training rows and their labels, if any, codes of test rows, and squared errors of test
    examples."""

    train: dict[str, tuple[Matrix, NDArray]]
    test: dict[str, Matrix] = field(default_factory=dict)
    errors: dict[str, Matrix] = field(default_factory=dict)
    raw: Matrix = field(default_factory=lambda: np.empty((0, 0)))
    label: NDArray | None = None


def _known_labels(context: TaskContext) -> bool:
    if context.spec.num_classes is None:
        return False
    reason = told_the_label(context.model)
    if reason is not None:
        log.info("task reduction leaves out k-NN and probe: %s", reason)
    return reason is None


def _some(size: int, rows: int | None, seed: int) -> torch.Tensor | None:
    if rows is None or rows >= size:
        return None
    log.info("neighbours and probes read %d of the %d training rows", rows, size)
    return drawn(size, rows, seed, "reduction")


def _reader(classics: Classics, reducer: Reducer) -> Reader:
    return lambda batch: np.asarray(reducer.encode(classics.flat(batch.x, batch.judged)), dtype=np.float32)


def _errors(context: TaskContext, classics: Classics, reducers: dict[str, Reducer]) -> dict[str, Reader]:
    """By method of reconstruction, a function that gives the MSE of every example of a batch, `[B]`."""

    def back(reducer: Reducer) -> Reader:
        assert reducer.decode is not None
        decode = reducer.decode

        def read(batch: Batch) -> Matrix:
            guess = decode(reducer.encode(classics.flat(batch.x, batch.judged)))
            return _mse(torch.as_tensor(guess).to(batch.x).reshape(batch.x.shape), batch)

        return read

    found: dict[str, Reader] = {
        MODEL: lambda batch: _mse(context.model.reconstruct(batch), batch),
        "mean": lambda batch: _mse(classics.guess_mean(batch.x), batch),
    }
    return found | {name: back(reducer) for name, reducer in reducers.items() if reducer.decode is not None}


def _mse(guess: torch.Tensor, batch: Batch) -> Matrix:
    return example_mse(guess, batch.truth, batch.judged).numpy()


def _label_figures(look: _Look, name: str) -> dict[str, float]:
    if look.label is None:
        return {}
    codes, label = look.train[name]
    found: dict[str, float] = {}
    for kind, measure in {"knn": neighbour_hits, "probe": probe_hits}.items():
        hits = measure(codes, label, look.test[name], look.label)
        found |= with_error(kind, hits)
    return found


def _error_figures(look: _Look, name: str, seed: int) -> dict[str, float]:
    if name not in look.errors:
        return {}
    ours, mean = look.errors[name], look.errors["mean"]

    def explained(rows: Matrix, reference: Matrix) -> float:
        return 1 - float(rows.sum() / max(reference.sum(), 1e-30))

    return {
        **with_error("mse", ours),
        "explained_variance": explained(ours, mean),
        "explained_variance_stderr": bootstrap(explained, ours, mean, seed=seed),
    }


def _plane(values: Matrix) -> Matrix:
    """The first two principal components, `[N, 2]`, each with its largest loading positive."""
    from narrows.tasks.measures.principal_axes import principal

    rows = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    axes, _, _ = principal(rows, 2)
    return _two(((rows - rows.mean(0)) @ axes.T).numpy())


def _two(points: Matrix) -> Matrix:
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))


def _flat_maps(codes: Matrix, seed: int, with_umap: bool) -> dict[str, Matrix]:
    if codes.shape[1] <= 2:
        return {"latents": _two(codes)}
    state = derive(seed, "map") % 2**32
    found = {"latents: PCA": _plane(codes)}
    neighbours = TSNE(perplexity=min(PERPLEXITY, (len(codes) - 1) / 3), random_state=state)
    found["latents: t-SNE"] = neighbours.fit_transform(codes)
    umap = import_umap() if with_umap else None
    if umap is not None:
        found["latents: UMAP"] = fit_umap(umap, codes, 2, state).embedding_
    return found
