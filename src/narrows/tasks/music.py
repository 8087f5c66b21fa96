"""Task music: how likely a model finds pieces, what it rebuilds and invents, as figures, MIDI and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from narrows.compare.figure_names import STDERR
from narrows.data.midi_files import PITCHES, Roll, import_mido, write_midi
from narrows.errors import nearest, require, require_at_least
from narrows.models.autoencoder import Autoencoder
from narrows.random import derive, seed_default
from narrows.runs.file_names import FIGURES
from narrows.tasks.base import Task, TaskContext
from narrows.tasks.classics.music_models import FrameModel, LogisticFrames, Markov, RollPCA, drawn, nats
from narrows.tasks.figure_table import FigureTable, declared
from narrows.tasks.likelihood import Likelihood
from narrows.tasks.measures import chosen_rows, latent_paths
from narrows.tasks.measures.free_running import Reading, run_free, teacher_forced
from narrows.tasks.measures.music_figures import best_threshold, f1, likeness, note_counts
from narrows.tasks.measures.standard_errors import bootstrap
from narrows.types import Batch, DataSpec

FRAME_MODELS = ("marginals", "markov_1", "markov_2", "logistic")
SHOWN, STEPS = 8, 8
ROWS = 256
"""Examples that run free together."""
MUSIC = "music"


class Music(Task):
    """Judges a model of piano rolls `[88, T]` on the test split, each frame of all examples weighing the same.

    - `test/music/nll_per_frame`: -log p(x) in nats, summed over the 88 keys and divided by frames, by importance
      samples (`narrows.tasks.Likelihood`); variational models alone have one. Its first frames are told nothing of what
      stands before an example that was cut out of a piece.
    - `test/music/f1`: of the notes that a model rebuilds **running free** from the noise-free latent, and
      `f1_teacher_forced` where each frame is told the true ones before it. A key sounds where its probability exceeds a
      threshold, which is chosen on the validation split, of the classics too.
    - `test/music/pitch_class_overlap`, `note_length_overlap`: `tasks.measures.music_figures.likeness` of as many
      samples as there are test examples, and of the same lengths, drawn from the prior or density and then frame by
      frame.

    Beside it stand, fitted on the training split: marginals, each key by itself given its one or two last frames
    (`markov_1`, `markov_2`), a logistic regression of all keys on the frame before, and PCA with as many components as
    the latent has values. Standard errors are over examples.

    Writes samples, reconstructions beside the truth, and an interpolation between two test examples as MIDI and as
    pictures of piano rolls, into `figures/music` and `figures`.

    Args:
        samples: importance samples for each example.
        classics: which of them: marginals, markov_1, markov_2, logistic, pca.
        frames_per_beat, tempo: of the MIDI that is written, the tempo in beats a minute.

    Raises:
        UserError: an unknown classic, or a number that is too small.
    """

    name = MUSIC
    figures = declared(("f1",), heading=MUSIC)

    def __init__(
        self,
        *,
        samples: int = 100,
        classics: Sequence[str] = (*FRAME_MODELS, "pca"),
        frames_per_beat: int = 1,
        tempo: float = 90.0,
    ) -> None:
        known = (*FRAME_MODELS, "pca")
        for name in classics:
            require(name in known, f"task music: no classic '{name}': {nearest(name, known)}")
        require_at_least(1, "task music:", samples=samples, frames_per_beat=frames_per_beat)
        require(tempo > 0, f"task music: tempo must be above 0, not {tempo}")
        self.samples, self.classics = samples, list(classics)
        self.frames_per_beat, self.tempo = frames_per_beat, tempo

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        if spec.kind != "series" or spec.shape[0] != PITCHES or spec.bounds != (0.0, 1.0):
            return "it judges piano rolls, series of 88 keys between 0 and 1"
        return None

    def check(self, spec: DataSpec) -> None:
        """Refuse to judge music where mido is missing, which writes it.

        Raises:
            UserError: says how to install it.
        """
        if spec.kind == "series" and spec.shape[0] == PITCHES:
            import_mido()

    def run(self, context: TaskContext) -> FigureTable:
        rolls = _Rolls(context)
        found = FigureTable(self.name)
        found.add(self._of_model(context, rolls))
        for name, model in self._frame_models(context, rolls).items():
            found.add(_of_frames(model, rolls, context.seed), name)
        if "pca" in self.classics:
            found.add(_of_pca(context, rolls), "pca")
        return found

    def _frame_models(self, context: TaskContext, rolls: _Rolls) -> dict[str, FrameModel]:
        found: dict[str, FrameModel] = {}
        for order, name in enumerate(FRAME_MODELS[:3]):
            if name in self.classics:
                found[name] = Markov(rolls.train, order)
        if "logistic" in self.classics:
            found["logistic"] = LogisticFrames(rolls.train, rolls.validation, context.seed)
        return found

    def _of_model(self, context: TaskContext, rolls: _Rolls) -> dict[str, float]:
        model = context.model
        found: dict[str, float] = {}
        if model.bounds_evidence:
            judge = Likelihood(samples=self.samples)
            parts = [
                judge.negative_log_likelihood(model, part)
                for batch in context.batches("test")
                for part in chosen_rows.parts(batch)
            ]
            found |= _per_frame(torch.cat(parts).numpy(), rolls.test, context.seed)
        threshold = best_threshold(lambda value: rebuilt(context, "validation", value), rolls.validation)
        made, told = rebuilt(context, "test", threshold), rebuilt(context, "test", threshold, told=True)
        found |= _f1(made, rolls.test, context.seed)
        found |= {"f1_teacher_forced": f1(note_counts(told, rolls.test)), "threshold": threshold}
        samples = invented(context, [roll.shape[1] for roll in rolls.test]) if model.generative else []
        found |= likeness(samples, rolls.test) if samples else {}
        self._show(context, rolls, made, samples, threshold)
        return found

    def _show(
        self, context: TaskContext, rolls: _Rolls, made: list[Roll], samples: list[Roll], threshold: float
    ) -> None:
        if context.directory is None:
            return
        from narrows.drawing import piano_rolls  # matplotlib is slow to import

        longest = np.argsort([-roll.shape[1] for roll in rolls.test], kind="stable")[:SHOWN].tolist()
        truth, rebuilt_ones = [rolls.test[row] for row in longest], [made[row] for row in longest]
        heads = [f"example {row}: F1 {f1(note_counts([made[row]], [rolls.test[row]])):.2f}" for row in longest]
        context.show(
            "music_reconstructions", piano_rolls.compared_rolls(rebuilt_ones, truth, "Rebuilt, running free", heads)
        )
        between = self._between(context, longest, threshold)
        context.show("music_interpolation", piano_rolls.piano_rolls(between, "From one test example to another"))
        if samples:
            invented_ones = sorted(samples, key=lambda roll: -roll.shape[1])[:SHOWN]
            context.show("music_samples", piano_rolls.piano_rolls(invented_ones, "Samples"))
            self._write(context, {f"sample_{number}": roll for number, roll in enumerate(invented_ones)})
        pairs = {f"truth_{number}": roll for number, roll in enumerate(truth)}
        pairs |= {f"rebuilt_{number}": roll for number, roll in enumerate(rebuilt_ones)}
        self._write(context, pairs | {"interpolation": _one_after_another(between)})

    def _between(self, context: TaskContext, rows: Sequence[int], threshold: float) -> list[Roll]:
        codes = torch.cat([context.model.embed(batch) for batch in context.batches("test")])
        first, last = codes[rows[0]], codes[rows[-1]]
        path = latent_paths.linear(first, last, STEPS).unflatten(1, context.model.latent_shape)
        return _as_rolls(run_free(context.model, path, _above(threshold)), None)

    def _write(self, context: TaskContext, rolls: dict[str, Roll]) -> None:
        assert context.directory is not None
        for name, roll in rolls.items():
            write_midi(roll, context.directory / FIGURES / MUSIC / f"{name}.mid", self.frames_per_beat, self.tempo)


@dataclass
class _Rolls:
    """The piano rolls of each split, without padding."""

    context: TaskContext

    @cached_property
    def train(self) -> list[Roll]:
        return self._read("train")

    @cached_property
    def validation(self) -> list[Roll]:
        return self._read("validation")

    @cached_property
    def test(self) -> list[Roll]:
        return self._read("test")

    def _read(self, split: str) -> list[Roll]:
        return [roll for batch in self.context.batches(split) for roll in _as_rolls(batch.truth, batch.length)]


def _as_rolls(values: Tensor, length: Tensor | None) -> list[Roll]:
    """Piano rolls of 0 and 1 `[B, 88, T]`, each at its own length."""
    rolls = (values.cpu() > 0.5).to(torch.uint8).numpy()
    lengths = [rolls.shape[2]] * len(rolls) if length is None else length.tolist()
    return [roll[:, :steps] for roll, steps in zip(rolls, lengths, strict=True)]


def _above(threshold: float) -> Reading:
    return lambda p_x: (p_x.mean > threshold).float()


def rebuilt(context: TaskContext, split: str, threshold: float, told: bool = False) -> list[Roll]:
    """The examples of a split as the model rebuilds them from noise-free latents, running free or `told` the truth of
    the frames before; each is cut to its own length."""
    model, found = context.model, []
    for batch in context.batches(split):
        for part in chosen_rows.parts(batch, ROWS):
            z = model.encode(part).point
            made = _made(model, z, part, threshold, told)
            found += _as_rolls(made[..., : part.x.shape[-1]], part.length)
    return found


def _made(model: Autoencoder, z: Tensor, part: Batch, threshold: float, told: bool) -> Tensor:
    reading = _above(threshold)
    return teacher_forced(model, z, part, reading) if told else run_free(model, z, reading)


def invented(context: TaskContext, lengths: Sequence[int]) -> list[Roll]:
    """Samples of these lengths: latents of the prior or density, then keys drawn frame by frame."""
    seed_default(context.seed, "music samples")
    found = []
    for start in range(0, len(lengths), ROWS):
        wanted = torch.tensor(lengths[start : start + ROWS])
        found += _as_rolls(context.model.point_at(context.model.draw(len(wanted)), draw=True), wanted)
    return found


def _one_after_another(rolls: Sequence[Roll]) -> Roll:
    """One roll, with a silent frame between two."""
    silence = np.zeros((PITCHES, 1), np.uint8)
    return np.concatenate([part for roll in rolls for part in (roll, silence)], 1)


def _per_frame(nats_each: np.ndarray, rolls: Sequence[Roll], seed: int) -> dict[str, float]:
    frames = np.array([roll.shape[1] for roll in rolls])

    def ratio(total: np.ndarray, steps: np.ndarray) -> float:
        return float(total.sum() / steps.sum())

    error = bootstrap(ratio, nats_each, frames, seed=seed)
    return {"nll_per_frame": ratio(nats_each, frames), f"nll_per_frame{STDERR}": error}


def _f1(made: Sequence[Roll], truth: Sequence[Roll], seed: int) -> dict[str, float]:
    counts = note_counts(made, truth)
    return {"f1": f1(counts), f"f1{STDERR}": bootstrap(f1, counts, seed=seed)}


def _of_frames(model: FrameModel, rolls: _Rolls, seed: int) -> dict[str, float]:
    found = _per_frame(np.array([nats(model, roll) for roll in rolls.test]), rolls.test, seed)
    source = np.random.default_rng(derive(seed, "music classics"))
    samples = [drawn(model, 1, roll.shape[1], source)[0] for roll in rolls.test]
    return found | likeness(samples, rolls.test)


def _of_pca(context: TaskContext, rolls: _Rolls) -> dict[str, float]:
    components = int(np.prod(context.model.latent_shape))
    pca = RollPCA.fit(rolls.train, components, context.spec.shape[-1])
    kept, judged = pca.rebuilt(rolls.validation), pca.rebuilt(rolls.test)

    def at(values: Sequence[np.ndarray], threshold: float) -> list[Roll]:
        return [(value > threshold).astype(np.uint8) for value in values]

    threshold = best_threshold(lambda value: at(kept, value), rolls.validation)
    return _f1(at(judged, threshold), rolls.test, context.seed) | {"threshold": threshold}
