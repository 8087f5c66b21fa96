"""Task codec: how well a model compresses sound, in real files at several rates, beside codecs at equal bytes."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from narrows.bottlenecks.discrete import ResidualVQ
from narrows.coding.ans_entropy_coder import Whole
from narrows.coding.coding_tables import Fitted
from narrows.coding.example_files import Examples
from narrows.coding.model_codec import Codec, unfit
from narrows.coding.packing import pack_examples, quantise, rebuild_examples, unpack_examples
from narrows.coding.sound_examples import examples_of, layout_of, sounds_of
from narrows.compare.figure_names import CLASSICS, MODEL
from narrows.drawing.sounds import spectrograms
from narrows.errors import UserError, require, require_at_least
from narrows.models.autoencoder import Autoencoder
from narrows.runs.file_names import CODING
from narrows.tasks.base import Task, TaskContext
from narrows.tasks.classics.sound_codecs import ClassicSoundCodec, CodedSound, codecs_for
from narrows.tasks.compression import decoder_cost
from narrows.tasks.figure_table import FigureTable, declared
from narrows.tasks.measures.mel_distance import mel_distance
from narrows.tasks.measures.sound_clips import clips_of
from narrows.tasks.measures.sound_figures import si_sdr, stoi
from narrows.tasks.measures.standard_errors import with_error
from narrows.types import DataSpec

log = logging.getLogger(__name__)

SHOWN = 4
PAUSE = 0.2
TRAINED = 600
"""Training clips to which the tables of the transform codec are fitted."""


@dataclass(frozen=True)
class Point:
    """One rate of a model."""

    step: float | None
    codebooks: int | None

    @property
    def name(self) -> str:
        return f"step_{self.step:g}" if self.codebooks is None else f"codebooks_{self.codebooks}"


@dataclass
class WrittenSound(CodedSound):
    """A compressed file of the clips, and the sounds decoded from it."""

    streams: list[Whole]
    """What was coded."""


class SoundCompression(Task):
    """Compresses the test clips into one real file at several rates, decodes it, and judges size and quality.

    - kbit_per_s: 8 x bytes of the file / seconds of sound / 1000, header, lengths and checksum included.
    - si_sdr: mean over clips, in dB, with its standard error; `lead` is the model's less that of the best of the
      codecs beside it whose bytes are at most as many, paired.
    - mel_distance: mean over clips of `tasks.measures.mel_distance`, in dB; stoi: of the main figures alone, and of
      clips that are long enough.
    - decoder_parameters, decoder_bytes, decoder_macs_per_sample: as in task compression.
    - `test/codec/level_L/codes_used` and `.../perplexity`: how much of the L-th codebook the test clips use.

    A residual quantiser has a rate for each number of its codebooks, `test/codec/codebooks_K/...` (few are worth
    hearing if it was trained without `bottleneck.dropout`), a continuous latent one for each step. Beside each stand,
    at the best setting of at most as many bytes, or at their fewest (`kbit_per_s` says which): Opus and MP3 through
    PyAV, all clips as one sound, bytes of packets alone, delays measured and taken away; mu-law and IMA ADPCM at
    fractions of the sampling rate; and the MDCT, rounded, under narrows' own coder with tables of training clips.

    Args:
        kbit_per_s: the rate of the main figures, which are of the largest file that has at most that; null: the
            largest.
        codebooks: numbers of them; null: all.
        step: of the quantiser of continuous latents; null: as in task compression.
        factors: further steps, in multiples of that.
        max_examples: a seeded subset of the test clips; null for all.

    Raises:
        UserError: a value out of its range, or no test clip that sounds.
    """

    name = "codec"
    figures = declared(("si_sdr", "kbit_per_s", "mel_distance"), heading="codec")

    def __init__(
        self,
        *,
        kbit_per_s: float | None = None,
        codebooks: Sequence[int] | None = None,
        step: float | None = None,
        factors: Sequence[float] = (0.25, 0.5, 2.0, 4.0),
        max_examples: int | None = 300,
    ) -> None:
        require(kbit_per_s is None or kbit_per_s > 0, f"task codec: kbit_per_s must be above 0, not {kbit_per_s}")
        require(step is None or step > 0, f"task codec: step must be above 0, not {step}")
        right = all(factor > 0 and factor != 1 for factor in factors)
        require(right, f"task codec: factors must be above 0 and not 1, which is there anyway, not {factors}")
        few = codebooks is None or (len(codebooks) > 0 and all(number >= 1 for number in codebooks))
        require(few, f"task codec: codebooks must be numbers of at least 1, or null for all, not {codebooks}")
        require_at_least(1, "task codec:", max_examples=max_examples)
        self.kbit_per_s, self.step, self.factors, self.max_examples = kbit_per_s, step, list(factors), max_examples
        self.codebooks = None if codebooks is None else sorted(set(codebooks))

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        if spec.kind != "audio" or spec.rate is None:
            return "kilobits a second are of sound whose sampling rate is known"
        return unfit(model)

    def run(self, context: TaskContext) -> FigureTable:
        assert context.spec.rate is not None
        truth = [clip.samples for clip in clips_of(context, "test", self.max_examples)]
        require(bool(truth), "task codec: the test split holds no clip that sounds")
        folder = None if context.directory is None else context.directory / CODING
        fitted = Fitted(Codec(context.model), folder, lambda: context.datamodule)
        classics, originals = _classics(context, truth), Originals(truth, context.spec.rate)
        points = self._points(fitted)
        files = {point: _written(fitted, point, truth, context.spec) for point in points}
        main = self._main(files, originals)
        found = FigureTable(self.name)
        cost = decoder_cost(context.model)
        found.add({name.replace("per_pixel", "per_sample"): value for name, value in cost.items()})
        curves: dict[str, list[tuple[float, float]]] = {}
        for point, file in files.items():
            beside = {name: codec.within(file.size) for name, codec in classics.items()}
            judged = originals.figures(file, beside)
            if point == main:
                for name, heard in originals.understood(file, beside).items():
                    judged[name] |= heard
            for method, figures in judged.items():
                curves.setdefault(method, []).append((figures["kbit_per_s"], figures["si_sdr"]))
                for condition in ("",) * (point == main) + (point.name,) * (len(points) > 1):
                    found.add(figures, method, condition)
            if point == main:
                _show(context, file, beside, truth)
        for level, (codes, size) in enumerate(_codes(fitted, files[max(files, key=lambda at: files[at].size)]), 1):
            found.add(_use(codes, size), condition=f"level_{level}")
        _draw(context, curves)
        return found

    def _points(self, fitted: Fitted) -> list[Point]:
        bottleneck = fitted.codec.model.bottleneck
        if isinstance(bottleneck, ResidualVQ):
            levels = self.codebooks or range(1, len(bottleneck.sizes) + 1)
            return [Point(None, level) for level in levels]
        require(self.codebooks is None, "task codec: codebooks are of a residual quantiser, and this run has none")
        step = fitted.step(self.step)
        if step is None:
            return [Point(None, None)]
        steps = sorted((step, *(float(f"{step * factor:.2g}") for factor in self.factors)), reverse=True)
        return [Point(at, None) for at in steps]

    def _main(self, files: Mapping[Point, WrittenSound], originals: Originals) -> Point:
        """The point of the main figures."""
        inside = {
            point: file.size
            for point, file in files.items()
            if self.kbit_per_s is None or originals.rate_of(file) <= self.kbit_per_s
        }
        if not inside:
            point = min(files, key=lambda at: files[at].size)
            log.info("codec: no file has %g kbit/s or less: figures are of the smallest", self.kbit_per_s)
            return point
        return max(inside, key=lambda at: inside[at])


@dataclass
class Originals:
    """The original clips, and how decoded ones are judged."""

    truth: list[NDArray[np.float32]]
    rate: int

    def rate_of(self, coded: CodedSound) -> float:
        """kbit/s."""
        return 8 * coded.size / (sum(sound.shape[1] for sound in self.truth) / self.rate) / 1000

    def figures(self, file: CodedSound, beside: Mapping[str, CodedSound]) -> dict[str, dict[str, float]]:
        """By method, the figures of a file and of the codecs beside it."""
        every = {MODEL: file, **beside}
        ratios = {name: self._each(coded, lambda guess, true: si_sdr(guess, true)) for name, coded in every.items()}
        found = {name: self._one(coded, ratios[name]) for name, coded in every.items()}
        inside = [name for name, coded in beside.items() if coded.size <= file.size]
        if inside:
            best = max(inside, key=lambda name: float(ratios[name].mean()))
            found[MODEL] |= with_error("lead", ratios[MODEL] - ratios[best])
        return found

    def understood(self, file: CodedSound, beside: Mapping[str, CodedSound]) -> dict[str, dict[str, float]]:
        """By method, STOI of the clips that are long enough."""
        found = {}
        for name, coded in {MODEL: file, **beside}.items():
            heard = self._each(coded, lambda guess, true: stoi(guess, true, self.rate))
            known = heard[np.isfinite(heard)]
            found[name] = with_error("stoi", known) if len(known) else {}
        return found

    def _one(self, coded: CodedSound, ratios: NDArray[np.float64]) -> dict[str, float]:
        found = {"kbit_per_s": self.rate_of(coded)} | with_error("si_sdr", ratios)
        far = self._each(coded, lambda guess, true: mel_distance(guess, true, self.rate))
        return found | with_error("mel_distance", far)

    def _each(self, coded: CodedSound, measure: object) -> NDArray[np.float64]:
        assert callable(measure)
        return np.array([measure(guess, true) for guess, true in zip(coded.sounds, self.truth, strict=True)])


def _written(fitted: Fitted, point: Point, truth: list[NDArray[np.float32]], spec: DataSpec) -> WrittenSound:
    """Write the clips to the bytes of a real file, and decode them from these."""
    assert spec.rate is not None
    codec, tables = Codec(fitted.codec.model, point.codebooks), fitted.tables(point.step)
    steps = [sound.shape[1] for sound in truth]
    layout = layout_of(steps, [spec.rate] * len(steps), spec, whole=codec.any_size)
    if layout["kind"] == "sounds":
        layout["names"] = [f"{number}.wav" for number in range(len(steps))]
    if point.codebooks is not None:
        layout["codebooks"] = point.codebooks
    examples = Examples(layout, examples_of(truth, layout))
    start = time.perf_counter()
    sent = quantise(codec, examples, point.step)
    data = pack_examples(tables, sent, examples)
    encoded = time.perf_counter()
    header, streams = unpack_examples(codec, tables, data, "the test clips")
    sounds = list(sounds_of(header.layout, rebuild_examples(codec, header, streams)))
    log.info(
        "codec%s: %d clips encoded in %.2f s, decoded in %.2f s",
        *("" if point == Point(None, None) else f" {point.name}", len(truth), encoded - start),
        time.perf_counter() - encoded,
    )
    assert all(np.array_equal(a, b) for a, b in zip(streams, sent, strict=True)), "the file gave other codes back"
    return WrittenSound(len(data), sounds, streams)


def _classics(context: TaskContext, truth: list[NDArray[np.float32]]) -> dict[str, ClassicSoundCodec]:
    train = [clip.samples for clip in clips_of(context, "train", TRAINED)]
    assert context.spec.rate is not None
    found = codecs_for(truth, context.spec.rate, train)
    for name, codec in list(found.items()):
        try:
            codec.check()
        except UserError as reason:
            del found[name]
            context.warn(f"task codec: {CLASSICS[name]} is left out: {reason}")
    return found


def _codes(fitted: Fitted, file: WrittenSound) -> list[tuple[Whole, int]]:
    """The codes of every codebook in a file, and how many there are to choose from."""
    sizes = fitted.codec.alphabets
    return [] if sizes is None else list(zip(file.streams, sizes, strict=False))


def _use(codes: Whole, size: int) -> dict[str, float]:
    shares = np.bincount(codes, minlength=size) / len(codes)
    known = shares[shares > 0]
    return {"codes_used": len(known) / size, "perplexity": float(np.exp(-(known * np.log(known)).sum()))}


def _draw(context: TaskContext, curves: Mapping[str, list[tuple[float, float]]]) -> None:
    if context.directory is None:
        return
    # Imported here, so that loading a model does not import matplotlib.
    from narrows.drawing.rate_distortion import rate_distortion

    classics = {name: sorted(set(points)) for name, points in curves.items() if name != MODEL}
    picture = rate_distortion(
        {"this run": sorted(curves[MODEL])},
        classics,
        "Rate and fidelity of the test clips",
        ("kbit/s, from bytes", "SI-SDR (dB)"),
    )
    context.show("codec_curve", picture)


def _show(
    context: TaskContext, file: CodedSound, beside: Mapping[str, CodedSound], truth: list[NDArray[np.float32]]
) -> None:
    """The first clips as spectrograms, and one after another as a sound."""
    assert context.spec.rate is not None
    rows = {"original": truth, "this run": file.sounds} | {name: coded.sounds for name, coded in beside.items()}
    shown = {name: sounds[:SHOWN] for name, sounds in rows.items()}
    context.show("codec_examples", spectrograms(shown, "Test clips, coded and decoded", context.spec.rate))
    quiet = np.zeros((context.spec.shape[0], round(PAUSE * context.spec.rate)), np.float32)
    for name, sounds in shown.items():
        parts = [part for sound in sounds for part in (sound, quiet)]
        heard = MODEL if name == "this run" else name
        context.play(f"codec_{heard}", np.concatenate(parts, 1), context.spec.rate)
