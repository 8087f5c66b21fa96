"""Task multimodal: parts of multi-modal data that are made from other parts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from narrows.drawing.parts import cross_generation
from narrows.errors import nearest, require, require_at_least
from narrows.models.autoencoder import Autoencoder
from narrows.random import derive
from narrows.tasks.base import Task, TaskContext
from narrows.tasks.classics.part_regressions import CCAOfBoth, PCAOfBoth
from narrows.tasks.figure_table import FigureTable, declared
from narrows.tasks.measures import chosen_rows
from narrows.tasks.measures.conditions import conditional_nll, given_parts, joint_nll, made, posterior_of
from narrows.tasks.measures.part_classifier import PartClassifier
from narrows.types import Batch, DataSpec

FITTED = 5000
"""Most training rows of the classics."""
TAUGHT = 60_000
"""Most training rows of the classifiers."""
SHOWN, VERSIONS = 10, 3
ROWS = 20
"""Examples whose likelihood is estimated together."""


@dataclass
class _Judges:
    """The classifier of each part, trained on real ones, and the true labels of the test rows."""

    of_part: dict[str, PartClassifier]
    label: Tensor

    def coherence(self, name: str, x: Tensor) -> Tensor:
        """For each test row the share of what was made for it, `x [S N, *shape]`, that has its label, `[N]`."""
        right = self.of_part[name].labels(x) == self.label.repeat(len(x) // len(self.label))
        return right.float().reshape(-1, len(self.label)).mean(0)


class Multimodal(Task):
    """What a model makes of one part when it is given another, `TARGET_from_SOURCE`:

    - coherence: the share of made targets that a classifier gives the label of their source; it was trained on real
      training examples and is frozen, and its `accuracy` on real test ones stands beside it, under the part's name
      ("Variational Mixture-of-Experts Autoencoders for Multi-Modal Deep Generative Models", Shi et al., 2019,
      https://arxiv.org/abs/1911.03393, section 4.3). `joint/coherence`: the share of draws from the prior of which all
      classifiers say the same. `coherence` itself is that of the chosen pair, or the mean of all pairs.
    - spread: the variance of made targets within a label over that of real ones: 1 where they differ as much.
    - nll: `conditional_nll` of the true target in nats; `joint/nll` of all parts together, both upper bounds.

    The classics answer with one target for each source: PCA of both, and canonical correlations. Rows are those test
    rows that have all parts. Without labels there is no coherence.

    Args:
        source: with `target`, the pair that the headline is of; null: the mean of all pairs.
        samples: latents drawn for each example.
        max_examples: a seeded subset of the test split; null for all of it.
        nll_samples: draws per example.
        nll_examples: of those examples.
        flipped: parts that are drawn with their first row at the bottom.

    Raises:
        UserError: an argument below 1, or one of source and target without the other; (`check`) a name of no part.
    """

    name = "multimodal"
    figures = declared(("coherence",), heading="multimodal")

    def __init__(
        self,
        *,
        source: str | None = None,
        target: str | None = None,
        samples: int = 5,
        max_examples: int | None = 1000,
        nll_samples: int = 100,
        nll_examples: int = 200,
        flipped: Sequence[str] = (),
    ) -> None:
        counts = {"samples": samples, "max_examples": max_examples, "nll_samples": nll_samples}
        require_at_least(1, "task multimodal:", **counts, nll_examples=nll_examples)
        alone = (source is None) != (target is None)
        require(not alone, "task multimodal: source and target are a pair: set both, or neither")
        require(source is None or source != target, f"task multimodal: source and target are both '{source}'")
        self.source, self.target, self.samples, self.max_examples = source, target, samples, max_examples
        self.nll_samples, self.nll_examples, self.flipped = nll_samples, nll_examples, list(flipped)

    def declared(self, spec: DataSpec) -> tuple[str, ...]:
        return self.figures if spec.num_classes else ()

    def check(self, spec: DataSpec) -> None:
        names = [part.name for part in spec.parts or []]
        for name in (self.source, self.target, *self.flipped):
            known = name is None or not names or name in names
            require(known, f"task multimodal: the data have no part '{name}': {nearest(str(name), names)}")

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        if spec.parts is None:
            return f"{spec.kind} data have no named parts"
        if not (model.encoder.reads_parts and model.variational):
            return f"encoder {type(model.encoder).__name__} reads all parts at once: encoder=parts reads any of them"
        return None

    def run(self, context: TaskContext) -> FigureTable:
        model, spec = context.model, context.spec
        batch = self._rows(context)
        table = FigureTable(self.name)
        judges = self._judges(context, batch, table) if spec.num_classes and batch.label is not None else None
        headline: dict[str, list[Tensor]] = {}
        for source, target in itertools.permutations(spec.slices, 2):
            asked = self.source is None or (source, target) == (self.source, self.target)
            for method, x in self._answers(context, batch, source, target):
                figures = {"spread": self._spread(batch, spec, target, x)}
                if judges is not None:
                    rows = judges.coherence(target, x.unflatten(1, spec.of_part(target).shape))
                    figures |= _mean(rows, "coherence")
                    headline.setdefault(method, []).extend([rows] if asked else [])
                table.add(figures, method, f"{target}_from_{source}")
            nats = [conditional_nll(model, part, target, source, self.nll_samples) for part in self._few(batch)]
            table.add(_mean(torch.cat(nats), "nll"), condition=f"{target}_from_{source}")
        for method, shares in headline.items():
            table.add(_mean(torch.stack(shares).mean(0), "coherence"), method)
        nats = [joint_nll(model, part, self.nll_samples) for part in self._few(batch)]
        table.add(_mean(torch.cat(nats), "nll"), condition="joint")
        if judges is not None:
            table.add({"coherence": self._agreement(context, judges, len(batch))}, condition="joint")
        self._show(context, batch)
        return table

    def _rows(self, context: TaskContext) -> Batch:
        """Test rows that have all parts."""
        found = Batch.cat(chosen_rows.sampled(context, "test", self.max_examples, "multimodal rows"))
        if found.observed is None:
            return found
        whole = found.observed.all(1)
        require(bool(whole.any()), "task multimodal: no test row has all parts")
        return next(chosen_rows.parts(_select(found, whole), len(found)))

    def _few(self, batch: Batch) -> Iterator[Batch]:
        few = next(chosen_rows.parts(batch, self.nll_examples))
        return chosen_rows.parts(few, ROWS)

    def _judges(self, context: TaskContext, batch: Batch, table: FigureTable) -> _Judges:
        spec = context.spec
        assert batch.label is not None
        assert spec.num_classes is not None
        train, label = _training(context, TAUGHT)
        judges = _Judges({}, batch.label.cpu())
        for name, place in spec.slices.items():
            shape = spec.of_part(name).shape
            seed = derive(context.seed, "multimodal")
            judge = PartClassifier(train[:, place].unflatten(1, shape), label, spec.num_classes, seed, name)
            judges.of_part[name] = judge
            real = judges.coherence(name, batch.x[:, place].cpu().unflatten(1, shape))
            table.add(_mean(real, "accuracy"), condition=name)
        return judges

    def _answers(self, context: TaskContext, batch: Batch, source: str, target: str) -> Iterator[tuple[str, Tensor]]:
        """Flattened targets `[S N, D_t]` by method: the model's, and those of the classics, one for each source."""
        model, slices = context.model, context.spec.slices
        latent = posterior_of(model, given_parts(batch, model, (source,)))
        z = latent.posterior.sample(torch.Size((self.samples,))).flatten(0, 1)
        yield "model", made(model, z)[:, slices[target]]
        if "multimodal rows" not in context.memo:
            context.memo["multimodal rows"] = _training(context, FITTED)[0].numpy()
        rows = context.memo["multimodal rows"]
        own, wanted = rows[:, slices[source]], rows[:, slices[target]]
        asked = batch.x[:, slices[source]].cpu().numpy()
        seed = derive(context.seed, "multimodal", "pca") % 2**32
        components = math.prod(model.latent_shape)
        yield "pca", torch.from_numpy(PCAOfBoth(own, wanted, components, seed).predict(asked)).float()
        yield "cca", torch.from_numpy(CCAOfBoth(own, wanted, seed).predict(asked)).float()

    def _spread(self, batch: Batch, spec: DataSpec, target: str, x: Tensor) -> float:
        real = batch.x[:, spec.slices[target]].cpu()
        label = torch.zeros(len(real), dtype=torch.long) if batch.label is None else batch.label.cpu()
        return _within(x, label.repeat(len(x) // len(label))) / max(_within(real, label), 1e-12)

    def _agreement(self, context: TaskContext, judges: _Judges, count: int) -> float:
        """The share of draws from the prior whose parts all classifiers give the same label."""
        x = made(context.model, context.model.draw(count))
        spec = context.spec
        said = [judges.of_part[n].labels(x[:, s].unflatten(1, spec.of_part(n).shape)) for n, s in spec.slices.items()]
        return float((torch.stack(said) == said[0]).all(0).float().mean())

    def _show(self, context: TaskContext, batch: Batch) -> None:
        model, spec = context.model, context.spec
        # Evenly over the rows: pairs by class stand in the order of their classes.
        few = _select(batch, torch.linspace(0, len(batch) - 1, min(SHOWN, len(batch))).round().long())
        pairs = itertools.permutations(spec.slices, 2)
        shown = []
        for source, target in pairs:
            latent = posterior_of(model, given_parts(few, model, (source,)))
            z = latent.posterior.sample(torch.Size((VERSIONS,)))
            answers = [made(model, draw)[:, spec.slices[target]] for draw in z]
            shown.append((source, few.x[:, spec.slices[source]].cpu(), target, answers))
        picture = cross_generation(shown, spec, self.flipped)
        if picture is not None:
            context.show("multimodal", picture)


def _select(batch: Batch, rows: Tensor) -> Batch:
    return Batch(batch.x[rows], label=None if batch.label is None else batch.label[rows])


def _training(context: TaskContext, most: int) -> tuple[Tensor, Tensor]:
    """Training rows that have all parts, `[N, D]`, and their labels, on the CPU; at most so many."""
    found, labels, count = [], [], 0
    for batch in context.datamodule.ordered_loader("train"):
        whole = torch.ones(len(batch), dtype=torch.bool) if batch.observed is None else batch.observed.all(1).cpu()
        found.append(batch.x.cpu()[whole])
        labels.append(torch.zeros(len(batch)).long()[whole] if batch.label is None else batch.label.cpu()[whole])
        count += len(found[-1])
    require(count > 0, "task multimodal: no training row has all parts")
    kept = chosen_rows.drawn(count, most, context.seed, "multimodal training rows")
    return torch.cat(found)[kept], torch.cat(labels)[kept]


def _within(x: Tensor, label: Tensor) -> float:
    """The mean over labels of the variance of their rows, summed over values; labels of one row have none."""
    groups = [x[label == one] for one in label.unique()]
    spreads = [group.var(0).sum() for group in groups if len(group) > 1]
    return float(torch.stack(spreads).mean()) if spreads else math.nan


def _mean(values: Tensor, name: str) -> dict[str, float]:
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return {name: float(values.mean()), f"{name}_stderr": error}
