"""Task probe: how useful the encoder is when few labels are known."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from narrows.compare.figure_names import MODEL, STDERR
from narrows.errors import require, require_at_least
from narrows.evaluation import evaluating
from narrows.models.autoencoder import Autoencoder
from narrows.random import generator, seed_default
from narrows.tasks.base import Task, TaskContext
from narrows.tasks.classics.mean_pca_ridge import fit_classics
from narrows.tasks.figure_table import FigureTable, declared
from narrows.tasks.measures.augmented_rows import augmented_hits
from narrows.tasks.measures.chosen_rows import drawn
from narrows.tasks.measures.classifier import BATCH, descend
from narrows.tasks.measures.embeddings import (
    LinearProbe,
    Matrix,
    Reader,
    clip_field,
    embedding,
    fit_probe,
    labels,
    pooled_embedding,
    read_split,
    told_the_label,
)
from narrows.tasks.measures.mel_features import log_mel_means, mfcc_means
from narrows.tasks.measures.standard_errors import standard_error
from narrows.types import Batch, DataSpec

log = logging.getLogger(__name__)

ALL = "all"
CHUNK = 1000
READ = ("x", "missing")
"""The inputs of a network, in this order, among the arrays read from a split."""
UNSEEN = -10.0
"""Logit of a class without a labelled example."""


class Probe(Task):
    """The label-efficiency curve: test accuracy with 10, 100, ... and all labels of the training split.

    - `test/probe/<n>_labels/probe`: a linear probe (`tasks.measures.embeddings.fit_probe`) of the embeddings, beside
      one of the raw values (`.../raw/probe`) and of as many principal components as the latents are (`.../pca/probe`);
      of sound, of means and deviations of mel bands and of MFCC too (`.../mel/probe`, `.../mfcc/probe`), and where its
      latents are maps over time, of their means and deviations (`.../pooled_probe`), which like those do not say when.
    - `test/probe/<n>_labels/finetuned`: encoder and bottleneck, without noise, under a linear layer that starts as
      the probe, all trained on the labels ("Fine-Tuning can Distort Pretrained Features", Kumar et al., 2022); beside
      the same network from new random weights (`.../scratch/finetuned`). Both see the same batches. The run's model is
      not touched: a copy is trained.

    - `test/probe/<n>_labels/augmented`, if `augment` is set, of all sizes but the last: a random forest of the raw
      labelled rows and `augment` times as many samples by class: the decoder's at draws of a density by class, fitted
      to the latents of these labelled rows alone (`tasks.measures.augmented_rows`). Beside it the same forest with
      nothing added (`.../raw/augmented`), with noise (`.../jitter/augmented`), with shifts of pictures by a pixel
      (`.../shifts/augmented`) and with SMOTE (`.../smote/augmented`).

    The labelled rows are drawn class by class in turn, so that classes are as even as they can be, anew for each of
    `draws`, the same rows for everything in a row; standard errors are over the draws and, with all labels, which are
    drawn once, over test rows. PCA reads all training rows, without labels. Drawn in
    `figures/label_efficiency.png`. From scratch needs the run's config, and is left out where there is no directory.

    Args:
        sizes: numbers of labels; those above the training split's are left out, and all of it is always added.
        draws: of labelled rows.
        steps: of training a network, at least; batches of 128, Adam.
        epochs: over the labelled rows, at least.
        rate: learning rate of both networks.
        networks: whether to train networks at all.
        augment: rows made of every labelled one; 0 makes none.
        max_rows: training rows that PCA may read, and that labels are drawn from; null for all.
        field: of the names of files (`datamodule.source.names.pattern`), whose values are told in place of the data's
            labels, under `test/probe/<field>_<n>_labels/`; without networks and augmentation, which learn the labels.

    Raises:
        UserError: an argument out of its range.
    """

    name = "probe"

    def __init__(
        self,
        *,
        sizes: Sequence[int] = (10, 100, 1000, 10_000),
        draws: int = 3,
        steps: int = 300,
        epochs: int = 5,
        rate: float = 1e-3,
        networks: bool = True,
        augment: int = 0,
        max_rows: int | None = None,
        field: str | None = None,
    ) -> None:
        for size in sizes:
            require(size >= 2, f"task probe: sizes must be at least 2, not {size}")
        require_at_least(1, "task probe:", draws=draws, steps=steps, epochs=epochs)
        require(rate > 0, f"task probe: rate must be above 0, not {rate}")
        require_at_least(2, "task probe:", max_rows=max_rows)
        self.sizes, self.draws = sorted(set(sizes)), draws
        self.steps, self.epochs, self.rate, self.networks = steps, epochs, rate, networks and field is None
        require(augment >= 0, f"task probe: augment must not be negative, not {augment}")
        self.augment, self.max_rows, self.field = augment if field is None else 0, max_rows, field
        every = self._condition(ALL)
        tuned = declared(("finetuned",), heading=self.name, condition=every) if self.networks else ()
        self.figures = (*declared(("probe",), (MODEL, "raw", "pca"), self.name, every), *tuned)

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        if spec.num_classes is None and self.field is None:
            return "the data have no labels" if spec.factor_sizes is None else "the labels are factors, not classes"
        if spec.kind == "tokens":
            return "tokens have no principal components"
        return told_the_label(model)

    def _condition(self, size: str) -> str:
        return f"{size}_labels" if self.field is None else f"{self.field}_{size}_labels"

    def run(self, context: TaskContext) -> FigureTable:
        train, test = (self._read(context, split) for split in ("train", "test"))
        rows = len(train["label"])
        sizes: dict[str, int] = {str(size): size for size in self.sizes if size < rows}
        if len(sizes) < len(self.sizes):
            log.info("task probe: of sizes %s those below the %d training rows", self.sizes, rows)
        found = FigureTable(self.name)
        for name, size in (sizes | {ALL: rows}).items():
            hits: dict[str, list[Matrix]] = {}
            for draw in range(1 if size == rows else self.draws):
                chosen = labelled(train["label"], size, context.seed, draw)
                for kind, values in self._judge(context, train, test, chosen, draw).items():
                    hits.setdefault(kind, []).append(values)
            found.add(_figures(hits), condition=self._condition(name))
            log.info("task probe: %s labels: probe %.4f", name, found.row(condition=self._condition(name))["probe"])
        self._draw(context, found, sizes | {ALL: rows})
        return found

    def _read(self, context: TaskContext, split: str) -> dict[str, NDArray]:
        classics = fit_classics(context, self.max_rows)
        positions = None
        if split == "train" and self.max_rows is not None and self.max_rows < context.spec.size:
            log.info("task probe reads %d of the %d training rows", self.max_rows, context.spec.size)
            # "features", here and below, seeds as it did when the task was called so.
            positions = drawn(context.spec.size, self.max_rows, context.seed, "features")
        readers: dict[str, Reader] = {
            "probe": embedding(context),
            "raw/probe": lambda batch: classics.flat(batch.x, batch.judged),
            "pca/probe": lambda batch: classics.pca.transform(classics.flat(batch.x, batch.judged)),
            "label": labels if self.field is None else clip_field(context, split, self.field, positions),
        }
        if (rate := context.spec.rate) is not None:
            readers["mel/probe"] = lambda batch: log_mel_means(batch.x, rate)
            readers["mfcc/probe"] = lambda batch: mfcc_means(batch.x, rate)
            if len(context.model.latent_shape) == 2:
                readers["pooled_probe"] = pooled_embedding(context)
        if self.networks or self.augment:
            readers["x"] = lambda batch: batch.x.cpu().numpy()
            if next(iter(context.batches(split))).missing is not None:
                readers["missing"] = _missing
        return read_split(context, split, readers, positions)

    def _judge(
        self, context: TaskContext, train: dict[str, NDArray], test: dict[str, NDArray], chosen: NDArray, draw: int
    ) -> dict[str, Matrix]:
        """By kind, 1. for every test row that is classified correctly, else 0."""
        label = train["label"][chosen]
        probes = {kind: fit_probe(train[kind][chosen], label) for kind in train if kind.endswith("probe")}
        found = {kind: _hits(probe.tell(test[kind]), test) for kind, probe in probes.items()}
        if self.augment and "missing" not in train and len(chosen) < len(train["label"]):
            few, judged = (train["x"][chosen], label), (test["x"], test["label"])
            made = augmented_hits(context.model, context.spec, few, judged, self.augment, context.seed, draw)
            found |= {f"{'' if method == MODEL else f'{method}/'}augmented": hits for method, hits in made.items()}
        for kind, network in self._networks(context, probes["probe"], draw).items() if self.networks else ():
            given = [torch.from_numpy(train[name][chosen]) for name in READ if name in train]
            self._train(context, network, [*given, torch.from_numpy(label).long()], draw)
            found[kind] = _hits(_told(network, test, context), test)
        return found

    def _networks(self, context: TaskContext, probe: LinearProbe, draw: int) -> dict[str, Classifier]:
        models = {"finetuned": copy.deepcopy(context.model)}
        if context.untrained is not None:
            models["scratch/finetuned"] = context.untrained(context.seed + draw)
        assert context.spec.num_classes is not None
        found = {}
        for kind, model in models.items():
            seed_default(context.seed, "features head", draw)
            found[kind] = Classifier(model, context.spec.num_classes).to(context.device)
        found["finetuned"].start_from(probe)
        return found

    def _train(self, context: TaskContext, network: Classifier, examples: list[Tensor], draw: int) -> None:
        steps = max(self.steps, math.ceil(self.epochs * len(examples[0]) / BATCH))
        network.train()
        seed_default(context.seed, "features network", draw)
        descend(
            network, network.parameters(), examples, "features", draw, steps=steps, rate=self.rate, seed=context.seed
        )

    def _draw(self, context: TaskContext, found: FigureTable, sizes: dict[str, int]) -> None:
        if context.directory is None:
            return
        from narrows.drawing.embeddings_and_error_bars import Curve, curves

        names = {
            "probe": "this run: linear probe",
            "finetuned": "this run: fine-tuned",
            "pooled_probe": "this run, pooled over time: linear probe",
            "raw/probe": "raw values: linear probe",
            "pca/probe": "PCA: linear probe",
            "mel/probe": "log-mel means: linear probe",
            "mfcc/probe": "MFCC means: linear probe",
            "scratch/finetuned": "same encoder from scratch",
            "augmented": "forest, samples of this run added",
            "raw/augmented": "forest",
            "jitter/augmented": "forest, noise added",
            "shifts/augmented": "forest, shifts added",
            "smote/augmented": "forest, SMOTE added",
        }
        lines = []
        rows = [found.row(condition=self._condition(size)) for size in sizes]
        for kind, name in names.items():
            known = [(size, row) for size, row in zip(sizes.values(), rows, strict=True) if kind in row]
            if known:
                errors = [row.get(f"{kind}{STDERR}", math.nan) for _, row in known]
                values = [row[kind] for _, row in known]
                lines.append(Curve(name, [size for size, _ in known], values, errors, ours="/" not in kind))
        told = "" if self.field is None else f" of {self.field}"
        title = f"Test accuracy{told} by the number of labelled training examples"
        note = f"mean and standard error of {self.draws} draws of the labels"
        name = "label_efficiency" if self.field is None else f"label_efficiency_{self.field}"
        context.show(name, curves(lines, title, ("labelled examples", "accuracy"), note=note))


class Classifier(nn.Module):
    """A linear layer on the noise-free latent of a model, `[B, *shape] -> [B, classes]`."""

    def __init__(self, model: Autoencoder, classes: int) -> None:
        super().__init__()
        self.model = model
        self.head = nn.Linear(math.prod(model.latent_shape), classes)

    @torch.no_grad()
    def start_from(self, probe: LinearProbe) -> None:
        """Start with the weights of a probe of these latents; classes that it never saw get a very low logit."""
        self.head.weight.zero_()
        self.head.bias.fill_(UNSEEN)
        for row, kind in enumerate(probe.classes):
            self.head.weight[kind] = torch.from_numpy(probe.weight[row])
            self.head.bias[kind] = float(probe.bias[row])

    def forward(self, x: Tensor, missing: Tensor | None = None) -> Tensor:
        batch = Batch(x, observed=None if missing is None else ~missing)
        return self.head(self.model.encode(batch).point.flatten(1))


def labelled(label: NDArray, size: int, seed: int, draw: int) -> NDArray[np.int64]:
    """Ascending positions of `size` rows: one of every class, then a second of every class, and so on."""
    order = torch.randperm(len(label), generator=generator(seed, "labelled", draw)).numpy()
    place = np.empty(len(label), dtype=np.int64)
    for kind in np.unique(label):
        mine = order[label[order] == kind]
        place[mine] = np.arange(len(mine))
    # In the last, incomplete round the classes come in random order.
    return np.sort(order[np.argsort(place[order], kind="stable")][:size])


def _hits(told: NDArray, test: dict[str, NDArray]) -> Matrix:
    return (told == test["label"]).astype(np.float64)


def _missing(batch: Batch) -> NDArray[np.bool_]:
    assert batch.missing is not None
    return batch.missing.cpu().numpy()


def _told(network: Classifier, test: dict[str, NDArray], context: TaskContext) -> NDArray:
    parts = zip(*(torch.from_numpy(test[name]).split(CHUNK) for name in READ if name in test), strict=True)
    with evaluating(network, context.seed, "features told"):
        logits = [network(*(rows.to(context.device) for rows in part)) for part in parts]
    return torch.cat(logits).argmax(1).cpu().numpy()


def _figures(hits: dict[str, list[Matrix]]) -> dict[str, float]:
    """Mean accuracy over draws with its standard error: over draws, or over test rows if there is one draw."""
    found: dict[str, float] = {}
    for kind, draws in hits.items():
        accuracies = np.array([draw.mean() for draw in draws])
        found[kind] = fmean(accuracies.tolist())
        found[f"{kind}_stderr"] = standard_error(accuracies if len(draws) > 1 else draws[0])
    return found
