"""Task denoising on sound: SI-SDR, SNR and STOI of the denoised test clips, beside classic speech enhancement."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from narrows.compare.figure_names import MODEL
from narrows.corruptions.of_sound import LOUDEST_SNR, NOISES, QUIETEST_SNR, SoundNoise
from narrows.drawing.sounds import spectrograms
from narrows.errors import require
from narrows.models.autoencoder import Autoencoder
from narrows.tasks.base import TaskContext
from narrows.tasks.classics import sound_denoisers
from narrows.tasks.figure_table import FigureTable
from narrows.tasks.measures.sound_clips import Clip, Sound, clips_of, noise_for, restored
from narrows.tasks.measures.sound_figures import si_sdr, snr, stoi
from narrows.tasks.measures.standard_errors import with_error

log = logging.getLogger(__name__)

LEVELS: dict[str, Sequence[float]] = {
    "white": (0.0, 5.0, 10.0),
    "pink": (5.0,),
    "babble": (5.0,),
    "hum": (5.0,),
    "impulses": (5.0,),
}
"""Decibels of signal over noise, by kind of noise."""
TUNED = 30
"""Validation clips on which the classics' strengths are chosen."""
SHOWN = 4
PAUSE = 0.25
"""Seconds between the sounds of a file."""
Values = NDArray[np.float64]


@dataclass
class Heard:
    """One noise at one level on the clips, and what each method makes of it."""

    kind: str
    level: float
    seen: bool
    """Whether the model was trained with it."""
    clips: list[Clip]
    noises: list[Sound]
    guesses: dict[str, list[Sound]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.kind}_{self.level:g}"

    @property
    def noisy(self) -> list[Sound]:
        return [clip.samples + noise for clip, noise in zip(self.clips, self.noises, strict=True)]


def require_level(kind: str, level: float) -> None:
    """Refuse a ratio at which no noise is added.

    Raises:
        UserError: names the noise.
    """
    right = LOUDEST_SNR <= level <= QUIETEST_SNR
    require(right, f"task denoising: noise {kind} has level {level:g}, and decibels go from -60 to 120")


def judge(context: TaskContext, wanted: Mapping[str, Sequence[float]] | None, most: int | None) -> FigureTable:
    """The figures of every method for every noise at every level, and their means over these.

    Args:
        wanted: levels of each kind of noise; null for the ones in `LEVELS`.
        most: a seeded subset of so many test clips; null for all.

    Raises:
        UserError: no noise of sound, or no test clip.
    """
    levels = LEVELS if wanted is None else {kind: wanted[kind] for kind in wanted if kind in NOISES}
    require(bool(levels), f"task denoising: none of these noises is of sound ({', '.join(NOISES)})")
    clips, held = clips_of(context, "test", most), clips_of(context, "validation", TUNED)
    require(bool(clips), "task denoising: the test split holds no clip that sounds")
    found, every = FigureTable("denoising"), list[dict[str, dict[str, Values]]]()
    for kind, ratios in levels.items():
        for level in map(float, ratios):
            heard = _made_noisy(context, clips, kind, level, "test")
            tuning = _made_noisy(context, held, kind, level, "validation")
            _restore(context, heard, tuning)
            every.append(_examples(heard, _rate(context)))
            for name, figures in _figures(every[-1]).items():
                found.add(figures, name, heard.name)
            found.add({"seen": float(heard.seen)}, condition=heard.name)
            _show(context, heard)
    for name, figures in _figures(_mean_over_noises(every)).items():
        found.add(figures, name)
    return found


def _rate(context: TaskContext) -> int:
    assert context.spec.rate is not None
    return context.spec.rate


def _made_noisy(context: TaskContext, clips: list[Clip], kind: str, level: float, split: str) -> Heard:
    rate, seeds = _rate(context), (context.seed, "denoising", split)
    noises = [noise_for(clips, number, kind, level, rate, *seeds) for number in range(len(clips))]
    return Heard(kind, level, _trained_with(context.model, kind, level), clips, noises)


def _trained_with(model: Autoencoder, kind: str, level: float) -> bool:
    own = model.corruption
    return isinstance(own, SoundNoise) and kind in own.noises and own.snr[0] <= level <= own.snr[1]


def _restore(context: TaskContext, heard: Heard, tuning: Heard) -> None:
    window = None if context.spec.variable else context.spec.shape[1]
    heard.guesses |= {MODEL: restored(context.model, heard.noisy, window), "noisy": heard.noisy}
    for name, strengths in sound_denoisers.METHODS.items():
        worth = [np.mean(_ratios(_classic(tuning, name, at, _rate(context)), tuning)) for at in strengths]
        best = strengths[int(np.argmax(worth))] if tuning.clips else strengths[len(strengths) // 2]
        heard.guesses[name] = _classic(heard, name, best, _rate(context))


def _classic(heard: Heard, name: str, strength: float, rate: int) -> list[Sound]:
    transform, found = sound_denoisers.transform_of(rate), []
    for noisy, noise in zip(heard.noisy, heard.noises, strict=True):
        channels = [sound_denoisers.told(x, n, transform) for x, n in zip(noisy, noise, strict=True)]
        found.append(np.stack([sound_denoisers.denoise(name, one, strength, transform) for one in channels]))
    return found


def _ratios(guesses: Sequence[Sound], heard: Heard) -> Values:
    return np.array([si_sdr(guess, clip.samples) for guess, clip in zip(guesses, heard.clips, strict=True)])


def _examples(heard: Heard, rate: int) -> dict[str, dict[str, Values]]:
    """By method and figure, the values of every clip, `[N]`."""
    truths = [clip.samples for clip in heard.clips]
    found: dict[str, dict[str, Values]] = {}
    for name, guesses in heard.guesses.items():
        pairs = list(zip(guesses, truths, strict=True))
        found[name] = {
            "si_sdr": _ratios(guesses, heard),
            "stoi": np.array([stoi(guess, truth, rate) for guess, truth in pairs]),
            "snr": np.array([snr(guess, truth) for guess, truth in pairs]),
        }
    return found


def _figures(values: dict[str, dict[str, Values]]) -> dict[str, dict[str, float]]:
    """Means over clips with their standard errors. STOI is of the clips that are long enough to have one."""
    found: dict[str, dict[str, float]] = {}
    for name, each in values.items():
        found[name] = with_error("si_sdr", each["si_sdr"])
        if name != "noisy":
            found[name] |= with_error("snr_gain", each["snr"] - values["noisy"]["snr"])
        known = each["stoi"][np.isfinite(each["stoi"])]
        found[name] |= with_error("stoi", known) if len(known) else {}
    best = max((name for name in values if name != MODEL), key=lambda name: float(values[name]["si_sdr"].mean()))
    found[MODEL] |= with_error("lead", values[MODEL]["si_sdr"] - values[best]["si_sdr"])
    return found


def _mean_over_noises(every: Sequence[dict[str, dict[str, Values]]]) -> dict[str, dict[str, Values]]:
    return {
        name: {figure: np.mean([one[name][figure] for one in every], axis=0) for figure in figures}
        for name, figures in every[0].items()
    }


def _show(context: TaskContext, heard: Heard) -> None:
    """The first clips as spectrograms, and one after another as a sound: clean, noisy, the model's."""
    rows = {"clean": [clip.samples for clip in heard.clips]} | heard.guesses
    order = ["clean", "noisy", MODEL, *(name for name in rows if name not in ("clean", "noisy", MODEL))]
    known = "seen" if heard.seen else "not seen"
    title = f"Denoising: {heard.kind} at {heard.level:g} dB, {known} in training"
    shown = {name: rows[name][:SHOWN] for name in order}
    context.show(f"denoising_{heard.name}", spectrograms(shown, title, _rate(context)))
    quiet = np.zeros((context.spec.shape[0], round(PAUSE * _rate(context))), np.float32)
    for name in ("clean", "noisy", MODEL):
        parts = [part for sound in shown[name] for part in (sound, quiet)]
        context.play(f"denoising_{heard.name}_{name}", np.concatenate(parts, 1), _rate(context))
