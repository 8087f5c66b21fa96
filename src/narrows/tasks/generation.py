"""Task generation: how samples compare with data, by Fréchet and kernel distance, precision, recall, memorisation."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics.image.kid import KernelInceptionDistance

from narrows.drawing import canvas
from narrows.errors import require
from narrows.evaluation import subset
from narrows.models.autoencoder import Autoencoder
from narrows.random import generator, seed_default
from narrows.tasks.base import Task, TaskContext
from narrows.tasks.classics.samplers import classic_samplers
from narrows.tasks.figure_table import FigureTable, declared
from narrows.tasks.measures import chosen_rows
from narrows.tasks.measures.feature_extractor import Extractor, feature_extractor, is_binary, name_of
from narrows.tasks.measures.frechet_distance import Given, frechet
from narrows.types import DataSpec

log = logging.getLogger(__name__)

CHUNK = 500
KID_SUBSETS, KID_SIZE = 20, 1000
NEIGHBOURS = 3
SHOWN = 8
COPIES = 250
"""Most rows for which the nearest training row is found."""

Sampler = Callable[[int], Tensor]


class Generation(Task):
    """Samples against the test split, in the features of `tasks.measures.feature_extractor` (named in the log).

    Of the model (`test/fid`, ...), of reconstructions of the test split (`test/rfid`), and beside them the same
    figures of the classics: a Gaussian over PCA's components (`test/pca/fid`), a mixture over pixels
    (`test/mixture/fid`), and of training rows themselves (`test/train/fid`), the floor.

    - fid: squared Fréchet distance of two Gaussians fitted to the features ("GANs Trained by a Two Time-Scale
      Update Rule", Heusel et al., 2017); it falls with the number of samples, so compare at equal numbers only.
    - kid: squared maximum mean discrepancy, cubic kernel, with its standard deviation over 20 random subsets of 1,000
      rows, or of half the smaller set where that is less ("Demystifying MMD GANs", Binkowski et al., 2018).
    - precision, recall: the share of samples (test rows) inside the other's 3-nearest-neighbour balls ("Improved
      Precision and Recall Metric", Kynkäänniemi et al., 2019).
    - memorisation: mean distance in data space from a sample to the nearest training row, over that of a test row;
      far below 1, the samples are copies.

    Binary data are compared with draws of p(x|z), all others with its means.

    Args:
        samples: most samples, and test rows, a seeded subset; never more than the test split has.
        neighbours: samples, and test rows, for precision and recall.

    Raises:
        UserError: an argument too small.
    """

    name = "generation"
    figures = declared(("fid", "kid", "kid_std", "precision", "recall", "memorisation"))

    def __init__(self, *, samples: int = 10_000, neighbours: int = 2_000) -> None:
        require(samples >= 2 * NEIGHBOURS, f"task generation: samples must be at least 6, not {samples}")
        require(neighbours > NEIGHBOURS, f"task generation: neighbours must be at least 4, not {neighbours}")
        self.samples, self.neighbours = samples, neighbours

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        if spec.kind != "image":
            return f"it compares images, not data of kind {spec.kind}"
        if model.needs_input:
            return f"{type(model).__name__} answers with a part of its input, and cannot be sampled"
        if not model.generative:
            return f"bottleneck {type(model.bottleneck).__name__} has no prior to sample from; density=mixture fits one"
        return None

    def run(self, context: TaskContext) -> FigureTable:
        extractor = feature_extractor(context)
        places = chosen_rows.chosen(context.datamodule, "test", self.samples, context.seed, "generation rows")
        test, train = _shuffled(_test(context, places), context.seed), _gathered(context, "train")
        log.info("generation is judged in the features of %s, %d samples", name_of(context), len(test))
        binary = is_binary(context)
        real = features(extractor, test)
        found = FigureTable()
        rows = _samples(len(test), lambda n: _of_model(context.model, n, binary))
        found.add(self._judge(extractor, real, rows, context))
        found.add({"memorisation": self._memorisation(rows, test, train, context)})
        found.add({"rfid": frechet(real, features(extractor, _rebuilt(context, places, binary)))})
        for kind, sampler in classic_samplers(context, train, binary).items():
            found.add(self._judge(extractor, real, _samples(len(test), sampler), context), kind)
        kept = torch.randperm(len(train), generator=generator(context.seed, "generation train"))[: len(test)]
        found.add(self._judge(extractor, real, train[kept], context), "train")
        self._show(context, rows, train)
        return found

    def _judge(self, extractor: Extractor, real: Tensor, rows: Tensor, context: TaskContext) -> dict[str, float]:
        fake = features(extractor, rows)
        # KID draws random subsets.
        seed_default(context.seed, "generation", "kid")
        mean, deviation = kernel(real, fake)
        precision, recall = precision_recall(real[: self.neighbours], fake[: self.neighbours])
        return {
            "fid": frechet(real, fake),
            "kid": mean,
            "kid_std": deviation,
            "precision": precision,
            "recall": recall,
        }

    def _memorisation(self, rows: Tensor, test: Tensor, train: Tensor, context: TaskContext) -> float:
        of_samples, _ = nearest(rows[:COPIES], train, context.device)
        of_test, _ = nearest(test[:COPIES], train, context.device)
        return float(of_samples.mean() / of_test.mean())

    def _show(self, context: TaskContext, rows: Tensor, train: Tensor) -> None:
        shown = rows[:SHOWN]
        _, index = nearest(shown, train, context.device)
        grid = [("sample", shown.numpy()), ("nearest training row", train[index].numpy())]
        context.show(
            "nearest_training_rows", canvas.image_grid(grid, "Samples and what they may copy", _range(context))
        )


def _range(context: TaskContext) -> tuple[float, float] | None:
    return context.spec.bounds


def _gathered(context: TaskContext, split: str) -> Tensor:
    """The rows of a split `[N, C, H, W]` on the CPU."""
    return torch.cat([batch.truth.float().cpu() for batch in context.batches(split)])


def _test(context: TaskContext, places: Tensor) -> Tensor:
    """The test rows at these places, `[N, C, H, W]` on the CPU."""
    return torch.cat([batch.truth.float().cpu() for batch in subset(context.batches("test"), places)])


def _shuffled(rows: Tensor, seed: int) -> Tensor:
    """In an order of its own: a split often stands class by class, and some figures read its first rows alone."""
    return rows[torch.randperm(len(rows), generator=generator(seed, "generation order"))]


def _samples(count: int, sampler: Sampler) -> Tensor:
    return torch.cat([sampler(min(CHUNK, count - start)).float().cpu() for start in range(0, count, CHUNK)])


def _of_model(model: Autoencoder, n: int, binary: bool) -> Tensor:
    means = model.sample(n)
    return means.bernoulli() if binary else means


def _rebuilt(context: TaskContext, places: Tensor, binary: bool) -> Tensor:
    means = (context.model.reconstruct(batch) for batch in subset(context.batches("test"), places))
    return torch.cat([(part.clamp(0, 1).bernoulli() if binary else part).float().cpu() for part in means])


def features(extractor: Extractor, rows: Tensor) -> Tensor:
    """`[N, C, H, W] -> [N, 128]`, float64 on the CPU."""
    device = next(extractor.parameters()).device
    return torch.cat([extractor(part.to(device)).cpu() for part in rows.split(CHUNK)])


def kernel(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of the squared kernel distance over random subsets."""
    # Subsets must be smaller than the whole to vary, and the estimate needs two rows of each.
    size = min(KID_SIZE, max(min(len(real), len(fake)) // 2, 2))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Metric `Kernel Inception Distance` will save all extracted features")
        metric = KernelInceptionDistance(feature=Given(real.shape[1]), subsets=KID_SUBSETS, subset_size=size)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    mean, deviation = metric.compute()
    return float(mean), float(deviation)


def precision_recall(real: Tensor, fake: Tensor, k: int = NEIGHBOURS) -> tuple[float, float]:
    """The share of `fake` in a ball of `real` that reaches to its k-th neighbour, and the other way round."""
    return _covered(real, fake, k), _covered(fake, real, k)


def _covered(centres: Tensor, points: Tensor, k: int) -> float:
    # The nearest neighbour is the point itself.
    radius = torch.cdist(centres, centres).kthvalue(min(k + 1, len(centres)), dim=1).values
    return float((torch.cdist(points, centres) <= radius).any(1).double().mean())


def nearest(rows: Tensor, train: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """For each row, the Euclidean distance to the nearest training row in data space, and its position."""
    rows = rows.flatten(1).to(device)
    best = torch.full((len(rows),), torch.inf, device=device)
    place = torch.zeros(len(rows), dtype=torch.long, device=device)
    for start in range(0, len(train), 5000):
        distance, index = torch.cdist(rows, train[start : start + 5000].flatten(1).to(device)).min(1)
        closer = distance < best
        best, place = torch.where(closer, distance, best), torch.where(closer, index + start, place)
    return best.cpu(), place.cpu()
