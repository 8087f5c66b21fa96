"""The pictures of task interpretation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from narrows.compare.figure_names import MODEL
from narrows.drawing import canvas
from narrows.drawing.canvas import Row
from narrows.drawing.embeddings_and_error_bars import Curve, curves
from narrows.drawing.examples import features, layout_of, middle, paths, rolls
from narrows.drawing.labels import Picture
from narrows.random import generator
from narrows.tasks.base import TaskContext
from narrows.tasks.measures import latent_paths
from narrows.tasks.measures.embeddings import Matrix
from narrows.types import DataSpec, Given

CHUNK = 500
STEPS = 9
REACH = 2.5
PAIRS = 3
RANKS = 60
LISTED = 8
"""Features of each latent in words."""


def draw(
    context: TaskContext,
    ours: Sensitivity,
    theirs: dict[str, Matrix],
    codes: Matrix,
    test: dict[str, NDArray],
    shown: int,
) -> None:
    """Draw all pictures, for the `shown` latents that change the output most; `codes` `[N, K]` are of training rows.
    Where features have names, `latent_features` lists the first of each latent: the marker genes of cells."""
    variation = ours.energy.mean(0)
    order = np.argsort(-variation, kind="stable")[:shown]
    shares = variation / max(float(variation.sum()), 1e-30)
    names = [f"z{unit} ({shares[unit]:.0%})" for unit in order]
    context.show("sensitivity", _ranking(variation, theirs, len(ours.energy)))
    context.show("latent_saliency", _saliency(context.spec, ours, theirs, order, names))
    if context.spec.feature_names is not None:
        context.write("latent_features", _listed(context.spec.feature_names, ours, order, names))
    context.show("latent_traversal", _traversal(context, codes, test, order, names))
    context.show("interpolation", _interpolation(context, test))


def _ranking(variation: Matrix, theirs: dict[str, Matrix], examples: int) -> Picture:
    of = {"this run: latents": variation, "PCA: components": np.square(theirs["pca"]).sum(1)}
    of["ICA: components"] = np.square(theirs["ica"]).sum(1)
    lines = []
    for name, values in of.items():
        ordered = np.sort(values / max(float(values.sum()), 1e-30))[::-1][:RANKS]
        lines.append(Curve(name, list(range(1, len(ordered) + 1)), ordered.tolist(), ours=name.startswith("this")))
    title = f"Share of the output's variation, decoder Jacobian at {examples} test examples"
    return curves(lines, title, ("rank of the latent or component", "share"), log_x=False)


def _saliency(
    spec: DataSpec, ours: Sensitivity, theirs: dict[str, Matrix], order: NDArray, names: list[str]
) -> Picture:
    strongest = {kind: _strongest(weights, len(order)) for kind, weights in theirs.items()}
    rows: list[Row] = [("values it moves", ours.moved[order]), ("inputs that drive it", ours.driving[order])]
    rows += [(f"{kind.upper()}, same rank", np.abs(weights)) for kind, weights in strongest.items()]
    # Each map has its own scale; on that of the first latent the others would be dark.
    rows = [(name, values / np.maximum(values.max(1, keepdims=True), 1e-30)) for name, values in rows]
    title = "The latents that move the output most (share): each map from 0 to its own largest value"
    layout = layout_of(spec)
    if layout in ("image", "roll"):
        maps = [(name, values.reshape(-1, *spec.shape)) for name, values in rows]
        pictures = rolls(maps) if layout == "roll" else [(name, part.mean(1, keepdims=True)) for name, part in maps]
        if len(spec.shape) == 4:
            pictures = [(name, middle(part)) for name, part in pictures]
        return canvas.image_grid(_padded(pictures), title, (0.0, 1.0), heat=True, heads=names)
    latents = ", ".join(names)
    rows = [(f"{name}: {latents}" if "it" in name else name, values) for name, values in _padded(rows)]
    ranks = [str(rank + 1) for rank in range(len(order))]
    rows, shown = features(rows, spec)
    return canvas.heat_maps(rows, title, shown, "rank", ranks, (0.0, 1.0))


def _listed(named: Sequence[str], ours: Sensitivity, order: NDArray, names: list[str]) -> str:
    """A Markdown table of the features that drive each latent most, and of those that it moves most."""
    lines = ["| latent (share) | inputs that drive it | values it moves |", "|---|---|---|"]
    for unit, name in zip(order, names, strict=True):
        most = (np.argsort(-of[unit], kind="stable")[:LISTED] for of in (ours.driving, ours.moved))
        cells = (" ".join(named[place] for place in places).replace("|", "/") for places in most)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _strongest(weights: Matrix, count: int) -> Matrix:
    return weights[np.argsort(-np.square(weights).sum(1), kind="stable")[:count]]


def _padded(rows: list[Row]) -> list[Row]:
    """The rows filled up to the length of the first, because there may be fewer components than latents."""
    count = len(rows[0][1])
    return [
        (name, np.pad(values, ((0, count - len(values)), *(((0, 0),) * (values.ndim - 1))))) for name, values in rows
    ]


def _traversal(
    context: TaskContext, codes: Matrix, test: dict[str, NDArray], order: NDArray, names: list[str]
) -> Picture:
    mean, spread = codes.mean(0), codes.std(0)
    steps = np.linspace(-REACH, REACH, STEPS)
    rows: list[Row] = []
    for unit, name in zip(order, names, strict=True):
        way = np.repeat(test[MODEL][:1], STEPS, axis=0)
        way[:, unit] = mean[unit] + steps * spread[unit]
        rows.append((name, decoded(context, way, told(test, np.zeros(STEPS, int)))))
    title = "One test example, one latent moved from -2.5 to 2.5 standard deviations about its mean (share)"
    return paths(rows, steps.tolist(), context.spec, title, "-2.5 to 2.5 sd")


def _interpolation(context: TaskContext, test: dict[str, NDArray]) -> Picture:
    rows: list[Row] = []
    # Curves and heat maps have a panel for each path, images a row.
    pairs = PAIRS if layout_of(context.spec) in ("image", "roll") else 1
    for first, last in _pairs(test, context.seed)[:pairs]:
        start, end = (torch.from_numpy(test[MODEL][place]) for place in (first, last))
        ends = f" {test['label'][first]} to {test['label'][last]}" if "label" in test else ""
        given = told(test, np.full(STEPS, first))
        for name, way in (("linear", latent_paths.linear), ("spherical", latent_paths.spherical)):
            rows.append((f"{name}{ends}", decoded(context, way(start, end, STEPS).numpy(), given)))
        raw, other = (torch.from_numpy(test["raw"][place]) for place in (first, last))
        mixed = latent_paths.linear(raw, other, STEPS)
        rows.append(("raw values", mixed.numpy().reshape(-1, *context.spec.shape)))
    title = "Between two test examples: latents, straight and on an arc, and the raw values"
    return paths(rows, np.linspace(0, 1, STEPS).tolist(), context.spec, title, "from one to the other")


def _pairs(test: dict[str, NDArray], seed: int) -> list[tuple[int, int]]:
    """Positions of random pairs of examples, with different labels if there are labels."""
    order = torch.randperm(len(test["raw"]), generator=generator(seed, "pairs")).tolist()
    found: list[tuple[int, int]] = []
    while len(found) < PAIRS and len(order) > 1:
        first = order.pop()
        others = [place for place in order if "label" not in test or test["label"][place] != test["label"][first]]
        if others:
            order.remove(others[0])
            found.append((first, others[0]))
    # All have one label, so any two will do.
    return found or [(0, len(test["raw"]) - 1)]


@dataclass
class Sensitivity:
    """How much each latent changes the output, and how much inputs change it; by latent, in the model's order."""

    energy: Matrix
    """`[B, K]`: the squared norm of `sd_k dx/dz_k` of each example."""
    moved: Matrix
    """`[K, D]`: root mean square over examples of `sd_k dx_j/dz_k`, in the data's units."""
    driving: Matrix
    """`[K, D]`: root mean square over examples of `sd(x_j) dz_k/dx_j / sd_k`."""


def told(rows: dict[str, NDArray], places: NDArray | slice = slice(None)) -> dict[str, NDArray]:
    """What p(x|z) is given besides z of the rows at these places: labels, and library sizes of counts."""
    return {name: rows[name][places] for name in ("label", "total") if name in rows}


def decoded(context: TaskContext, codes: Matrix, given: dict[str, NDArray]) -> Matrix:
    """Means of p(x|z) at flattened latents `[N, K]`, `[N, *shape]`, for what is `told` of each, `[N]`."""
    parts = []
    for start in range(0, len(codes), CHUNK):
        z = torch.as_tensor(codes[start : start + CHUNK], dtype=torch.float32, device=context.device)
        own = {name: torch.as_tensor(v[start : start + CHUNK], device=context.device) for name, v in given.items()}
        latents = z.reshape(-1, *context.model.latent_shape)
        parts.append(context.model.point_at(latents, Given(**own)).float().cpu().numpy())
    return np.concatenate(parts)
