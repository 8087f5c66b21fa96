"""Task denoising: how well a model restores noisy test examples, beside classic denoisers."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from narrows.compare.figure_names import MODEL
from narrows.corruptions import Block, Corruption, GaussianNoise, Masking, SaltAndPepper, Speckle
from narrows.corruptions.of_sound import NOISES as SOUND_NOISES
from narrows.drawing import restoration
from narrows.errors import nearest, require, require_at_least
from narrows.models.autoencoder import Autoencoder
from narrows.random import seed_default
from narrows.tasks import denoising_of_sound
from narrows.tasks.base import Task, TaskContext, counts_have_no
from narrows.tasks.classics import denoising_filters
from narrows.tasks.classics.mean_pca_ridge import MAX_SQUARE, gather_training, ridge_to_clean
from narrows.tasks.figure_table import FigureTable
from narrows.tasks.measures.chosen_rows import reconstructed, sampled
from narrows.tasks.measures.reconstruction_errors import example_psnr, example_ssim, has_ssim
from narrows.tasks.measures.standard_errors import with_error
from narrows.types import PIXELS, Batch, DataSpec

log = logging.getLogger(__name__)

KINDS: dict[str, tuple[type[Corruption], str]] = {
    "gaussian": (GaussianNoise, "sigma"),
    "salt_and_pepper": (SaltAndPepper, "p"),
    "speckle": (Speckle, "sigma"),
    "masking": (Masking, "p"),
    "block": (Block, "size"),
}
"""By kind of noise, the corruption and its argument that is the level."""
LEVEL_NAMES = {kind: "share of the side" if kind == "block" else argument for kind, (_, argument) in KINDS.items()}
LEVELS: dict[str, Sequence[float]] = {
    "gaussian": (0.25, 0.5, 0.75),
    "salt_and_pepper": (0.1, 0.25),
    "speckle": (0.5,),
    "masking": (0.25, 0.5),
    "block": (0.3,),
}
TRIAL = DataSpec(shape=(1, 64, 64), kind="image", size=1, value_range=(0.0, 1.0))
"""Data with which levels are tried, before there are any."""
TUNED = 50
"""Validation rows on which filters are tuned."""
SHOWN = 8


@dataclass
class Condition:
    """One kind of noise at one level."""

    kind: str
    level: float
    corruption: Corruption
    seen: bool
    """Whether the model was trained with this noise."""

    @property
    def name(self) -> str:
        return f"{self.kind}_{self.level:g}"


@dataclass
class Restored:
    """The rows `[N, *shape]` of one condition, and the rows restored by each method, by name."""

    clean: Tensor
    observed: Tensor | None
    guesses: dict[str, Tensor] = field(default_factory=dict)


class Denoising(Task):
    """PSNR and SSIM (images; see `scores`) of the denoised test examples at each noise of `noises`, and the gain in
    PSNR over the noisy input, with the standard errors of means over examples; the gain's is of paired differences.

    Beside the model's `test/denoising/<kind>_<level>/psnr` stand, on the same noisy rows, the noisy input itself
    (`.../noisy/psnr`), the median, Gaussian and wavelet filters, total variation and non-local means of
    `tasks.classics.denoising_filters`, and ridge regression from noisy to clean, fitted on training rows to which
    the same noise was added anew. A filter's strength is the one, of a few, with the smallest squared error on 50
    validation rows under the same noise, whose root mean square is known to it: no test row is looked at. The
    filters are not told which values were masked; the model is, if its encoder reads that. Everything is clipped to
    the data's range.
    `lead` is the model's PSNR less that of the best of them by mean, paired.

    The noise that the model was trained with is added to `noises` where it is one of these kinds, and `seen` is 1
    there; noise that does not fit the data (a block of a vector) is left out. Vectors have ridge alone.

    Sound has noises of its own, `white`, `pink`, `babble`, `hum` and `impulses`, whose levels are decibels of signal
    over noise, and is judged clip by clip: windows overlap by a half and are folded together. `si_sdr`, `snr_gain`
    (over the noisy input) and `stoi` (of clips of at least 384 ms) stand under `test/denoising/<kind>_<level>/`, their
    means over all of these under `test/denoising/`. Beside the model stand the noisy input, spectral subtraction, a
    decision-directed Wiener filter, a spectral gate and wavelets (`tasks.classics.sound_denoisers`), which are told the
    mean spectrum of the very noise of each clip, as the model is not, and `wiener_blind`, which is told nothing; their
    strengths are the best of a few on 30 validation clips. `lead` is the SI-SDR on the best of them all. The first
    clips are written as WAV and drawn as spectrograms.

    Args:
        noises: levels of each kind: sigma of `gaussian` and `speckle`, p of `salt_and_pepper` and `masking`, the side
            of a `block`, decibels of noises of sound; null for the ones in `LEVELS`.
        max_examples: a seeded subset of the test split, because the filters are slow; null for all.
        max_rows: training rows that ridge may read; null for all.

    Raises:
        UserError: an unknown kind, a kind without levels or with one that is no noise, or a number below 1.
    """

    name = "denoising"

    def __init__(
        self,
        *,
        noises: Mapping[str, Sequence[float]] | None = None,
        max_examples: int | None = 300,
        max_rows: int | None = 20_000,
    ) -> None:
        for kind, levels in (noises or {}).items():
            known = [*KINDS, *SOUND_NOISES]
            require(kind in known, f"task denoising: there is no noise '{kind}': {nearest(kind, known)}")
            require(len(levels) > 0, f"task denoising: noise {kind} needs at least one level")
            for level in levels:
                require(isinstance(level, (int, float)), f"task denoising: noise {kind} has level {level}, no number")
                if kind in SOUND_NOISES:
                    denoising_of_sound.require_level(kind, level)
                else:
                    build(kind, level, TRIAL)
        require_at_least(1, "task denoising:", max_examples=max_examples, max_rows=max_rows)
        self.noises = noises
        self.max_examples, self.max_rows = max_examples, max_rows

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        if spec.kind == "audio" and spec.rate is None:
            return "these sounds do not say how many samples a second has (DataSpec.rate)"
        return "tokens have no noise of a size" if spec.kind == "tokens" else counts_have_no("decibels", spec)

    def run(self, context: TaskContext) -> FigureTable:
        if context.spec.kind == "audio":
            return denoising_of_sound.judge(context, self.noises, self.max_examples)
        span = _span(context)
        found = FigureTable(self.name)
        curves: dict[str, dict[str, dict[float, float]]] = {}
        for condition in self._conditions(context):
            restored = self._restored(context, condition)
            of_kind = curves.setdefault(condition.kind, {})
            for name, judged in _figures(restored, span, has_ssim(context.spec)).items():
                found.add(judged, name, condition.name)
                of_kind.setdefault(name, {})[condition.level] = judged["psnr"]
            found.add({"seen": float(condition.seen)}, condition=condition.name)
            _show(context, condition, restored)
        context.show("denoising_levels", restoration.level_lines(curves, LEVEL_NAMES, _trained_with(context.model)))
        return found

    def _conditions(self, context: TaskContext) -> list[Condition]:
        wanted = {kind: [float(level) for level in levels] for kind, levels in (self.noises or LEVELS).items()}
        own = _own(context.model.corruption)
        if own is not None and own[1] not in wanted.get(own[0], []):
            wanted[own[0]] = sorted([*wanted.get(own[0], []), own[1]])
        found = []
        for kind, levels in wanted.items():
            reason = _unfit(kind, context.spec)
            if reason is not None:
                log.info("denoising: %s is left out: %s", kind, reason)
                continue
            for level in levels:
                seen = own == (kind, level)
                corruption = context.model.corruption if seen else build(kind, level, context.spec)
                found.append(Condition(kind, level, corruption, seen))
        require(bool(found), "task denoising: none of these noises fits these data; name others in task.noises")
        return found

    def _restored(self, context: TaskContext, condition: Condition) -> Restored:
        bounds = context.spec.bounds
        batch = _rows(context, "test", self.max_examples)
        noisy, guess = _noisy(context, condition, batch, "test")
        restored = Restored(batch.truth.float().cpu(), None if batch.judged is None else batch.judged.cpu())
        restored.guesses |= {MODEL: guess, "noisy": noisy}
        if np.prod(context.spec.shape) <= MAX_SQUARE:
            seed_default(context.seed, "denoising", condition.name, "ridge")
            training = gather_training(context, self.max_rows, condition.corruption.to(context.device))
            rows = ridge_to_clean(training).predict(training.flat(noisy, batch.judged))
            restored.guesses["ridge"] = torch.from_numpy(rows).float().reshape(noisy.shape)
        restored.guesses |= self._filtered(context, condition, noisy, bounds or _range(restored.clean))
        if bounds is not None:
            restored.guesses = {name: rows.clamp(*bounds) for name, rows in restored.guesses.items()}
        return restored

    def _filtered(
        self, context: TaskContext, condition: Condition, noisy: Tensor, bounds: tuple[float, float]
    ) -> dict[str, Tensor]:
        names = denoising_filters.filters_for(context.spec.shape)
        if not names:
            return {}
        held = _rows(context, "validation", TUNED)
        tuning, _ = _noisy(context, condition, held, "validation")
        clean, found = held.truth.float().cpu().numpy(), {}
        for name in names:
            strength = denoising_filters.best_strength(name, tuning.numpy(), clean, bounds)
            found[name] = torch.from_numpy(denoising_filters.apply(name, noisy.numpy(), strength, bounds)).float()
        return found


def build(kind: str, level: float, spec: DataSpec) -> Corruption:
    """The corruption of that kind and level, with default values for its other arguments."""
    corruption, argument = KINDS[kind]
    return corruption(spec, **{argument: level})


def _own(corruption: Corruption) -> tuple[str, float] | None:
    """Kind and level of the noise that the model was trained with; None if it is not among `KINDS`."""
    for kind, (known, argument) in KINDS.items():
        if type(corruption) is known:
            return kind, float(getattr(corruption, argument))
    return None


def _trained_with(model: Autoencoder) -> str:
    own = _own(model.corruption)
    if own is not None:
        return f"{own[0].replace('_', ' ')} {own[1]:g}"
    return "no noise" if model.corruption.identity else type(model.corruption).__name__


def _unfit(kind: str, spec: DataSpec) -> str | None:
    if kind in SOUND_NOISES:
        return "it is a noise of sound"
    if kind == "salt_and_pepper" and spec.bounds is None:
        return "the data have no smallest and largest value"
    return "it needs images or series" if kind == "block" and len(spec.shape) == 1 else None


def _rows(context: TaskContext, split: str, most: int | None) -> Batch:
    found = list(sampled(context, split, most, "denoising rows"))
    require(bool(found), f"task denoising: the {split} split is empty")
    return Batch.cat(found)


def _noisy(context: TaskContext, condition: Condition, batch: Batch, split: str) -> tuple[Tensor, Tensor]:
    """The noisy rows and the model's reconstruction, on the CPU; the noise is the same in every call."""
    seed_default(context.seed, "denoising", condition.name, split)
    seen = batch.seen_as(*condition.corruption.to(context.device)(batch))
    return seen.x.float().cpu(), reconstructed(context.model, seen)


def _span(context: TaskContext) -> float:
    """The range of the data: from the spec if that is bounded, else of the training split."""
    bounds = context.spec.bounds
    if bounds is not None:
        return bounds[1] - bounds[0]
    training = gather_training(context, 1)
    return training.high - training.low


def _range(rows: Tensor) -> tuple[float, float]:
    return float(rows.min()), float(rows.max())


def _figures(restored: Restored, span: float, ssim: bool) -> dict[str, dict[str, float]]:
    """The figures of every method, by name."""
    decibels = {
        name: example_psnr(rows, restored.clean, span, restored.observed) for name, rows in restored.guesses.items()
    }
    found: dict[str, dict[str, float]] = {}
    for name, rows in restored.guesses.items():
        examples = {"psnr": decibels[name]}
        if name != "noisy":
            examples["gain"] = decibels[name] - decibels["noisy"]
        if ssim and restored.observed is None:
            examples["ssim"] = example_ssim(rows, restored.clean, span)
        found[name] = {}
        for figure, values in examples.items():
            found[name] |= with_error(figure, values)
    best = max((name for name in decibels if name != MODEL), key=lambda name: float(decibels[name].mean()))
    found[MODEL] |= with_error("lead", decibels[MODEL] - decibels[best])
    return found


def _show(context: TaskContext, condition: Condition, restored: Restored) -> None:
    if context.spec.kind not in (*PIXELS, "series") or len(context.spec.shape) == 1:
        return
    rows = {"clean": restored.clean, "noisy": restored.guesses["noisy"]} | restored.guesses
    known = "seen" if condition.seen else "not seen"
    title = f"Denoising: {condition.kind.replace('_', ' ')} {condition.level:g}, {known} in training"
    picture = restoration.examples({label: guess[:SHOWN].numpy() for label, guess in rows.items()}, title, context.spec)
    context.show(f"denoising_{condition.name}", picture)
