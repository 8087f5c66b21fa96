"""Task music: figures of models that are known, and MIDI that is what it should be."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from command import run_in_process
from piano_and_molecule_files import readme_command, write_chorales, write_midis
from tasks.sequence_standins import context_of, copying, of_steps
from torch import Tensor

from narrows.data import Music as MusicSource
from narrows.data.midi_files import PITCHES, read_midi
from narrows.errors import UserError
from narrows.tasks.base import TaskContext, run_tasks
from narrows.tasks.classics.music_models import Markov, nats
from narrows.tasks.measures.music_figures import f1, note_counts
from narrows.tasks.music import Music, _Rolls
from narrows.types import DataSpec

pytest.importorskip("mido")
FEW = {"samples": 3, "classics": ["marginals"]}


@pytest.fixture(scope="module")
def chorales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chorales(tmp_path_factory.mktemp("music") / "chorales.json")


def figures(context: TaskContext, **options: object) -> dict[str, float]:
    return run_tasks({"music": Music(**(FEW | options))}, context)


def test_a_model_that_copies_rebuilds_every_note_and_its_midi_is_the_music(chorales: Path, tmp_path: Path) -> None:
    context = context_of(MusicSource(str(chorales)), copying, tmp_path)
    found = figures(context)
    assert found["test/music/f1"] == found["test/music/f1_teacher_forced"] == 1
    assert "test/music/nll_per_frame" not in found, "a latent without a posterior has no likelihood"
    assert context.warnings == []
    longest = sorted(_Rolls(context).test, key=lambda roll: -roll.shape[1])
    for number, roll in enumerate(longest):
        for name in ("truth", "rebuilt"):
            heard, _ = read_midi(tmp_path / "figures" / "music" / f"{name}_{number}.mid", frames_per_beat=1)
            np.testing.assert_array_equal(heard, roll)
    assert (tmp_path / "figures" / "music" / "interpolation.mid").is_file()
    assert (tmp_path / "figures" / "music_reconstructions.png").is_file()


def shares(spec: DataSpec, share: Tensor):  # type: ignore[no-untyped-def]
    """A model that says the same shares of every frame."""
    return of_steps(spec, lambda before: share.logit().float()[:, None].expand(len(before), -1, before.shape[-1]))


def test_the_nats_of_a_model_of_shares_are_those_of_the_marginals(chorales: Path, tmp_path: Path) -> None:
    source = MusicSource(str(chorales), window=4)
    train = _Rolls(context_of(source, copying)).train
    share = torch.from_numpy(Markov(train, 0).table[:, 0])
    context = context_of(source, partial(shares, share=share), tmp_path)
    found = figures(context)
    assert found["test/music/nll_per_frame"] == pytest.approx(found["test/music/marginals/nll_per_frame"], rel=1e-4)
    test = _Rolls(context).test
    total = sum(nats(Markov(train, 0), roll) for roll in test) / sum(roll.shape[1] for roll in test)
    assert found["test/music/nll_per_frame"] == pytest.approx(total, rel=1e-4)
    # It plays the same keys in every frame, running free and told alike.
    assert found["test/music/f1"] == pytest.approx(found["test/music/f1_teacher_forced"])
    likeliest = (share.numpy() > found["test/music/threshold"]).astype(np.uint8)[:, None]
    made = [likeliest.repeat(roll.shape[1], 1) for roll in test]
    assert found["test/music/f1"] == pytest.approx(f1(note_counts(made, test)))
    # Its samples are of the marginals.
    assert found["test/music/pitch_class_overlap"] == pytest.approx(
        found["test/music/marginals/pitch_class_overlap"], abs=0.15
    )
    assert (tmp_path / "figures" / "music" / "sample_0.mid").is_file()


def test_a_model_that_repeats_what_it_is_told_is_silent_when_it_runs_free(chorales: Path) -> None:
    context = context_of(MusicSource(str(chorales)), partial(of_steps, logits=lambda before: 20 * (before - 0.5)))
    found = figures(context)
    # A chord lasts two frames, so half of all frames repeat the one before.
    assert found["test/music/f1_teacher_forced"] > 0.4
    assert not found["test/music/f1"] > 0.01


def test_pca_with_as_many_components_as_there_are_pieces_rebuilds_them(chorales: Path) -> None:
    # The twelve training windows of two frames show four chords alone.
    context = context_of(MusicSource(str(chorales), window=2), copying)
    assert figures(context, classics=["pca"])["test/music/pca/f1"] == pytest.approx(1, abs=1e-6)


def test_other_data_are_not_judged(chorales: Path) -> None:
    model = copying(DataSpec((3, 5), "series", 4, value_range=(0.0, 1.0)))
    assert "piano rolls" in str(Music().fits(model.spec, model))
    rolls = copying(DataSpec((PITCHES, 5), "series", 4, value_range=(0.0, 1.0)))
    assert Music().fits(rolls.spec, rolls) is None


@pytest.mark.parametrize(
    ("options", "said"),
    [({"classics": ["markov_3"]}, "did you mean 'markov_"), ({"samples": 0}, "samples"), ({"tempo": 0.0}, "tempo")],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Music(**options)


def test_training_rows_stand_in_other_keys_and_held_out_ones_in_their_own(chorales: Path) -> None:
    plain = context_of(MusicSource(str(chorales), window=4), copying)
    moved = context_of(MusicSource(str(chorales), window=4, stride=2, transpose=[-2, 3]), copying)
    assert len(_Rolls(moved).test) == len(_Rolls(plain).test)
    starts = sum((roll.shape[1] + 1) // 2 for roll in _Rolls(context_of(MusicSource(str(chorales)), copying)).train)
    assert len(_Rolls(moved).train) == 6 * starts
    assert moved.datamodule.spec.variable


def test_pieces_without_parts_are_held_out_as_a_whole(tmp_path: Path, chorales: Path) -> None:
    pieces = json.loads(chorales.read_text())["train"]
    alone = tmp_path / "alone.json"
    alone.write_text(json.dumps(pieces))
    data = context_of(MusicSource(str(alone), window=3, stride=1, test=0.3), copying).datamodule
    named = {name: {text.split(",")[0] for text in data.part(name).names} for name in ("train", "validation", "test")}
    assert all(named.values())
    assert not named["train"] & (named["test"] | named["validation"])
    assert not named["validation"] & named["test"]


def test_one_s_own_midi_is_trained_on_with_the_command_of_the_readme(tmp_path: Path) -> None:
    write_midis(tmp_path / "midis")
    done = run_in_process(
        *readme_command("music"),
        *("encoder.hidden=8", "decoder.hidden=8", "bottleneck.dim=2", "tasks.music.samples=2", "trainer.max_epochs=1"),
        *("datamodule.source.frames_per_beat=1", "callbacks=none", "~tasks.reconstruction", "hydra.run.dir=run"),
        cwd=tmp_path,
    )
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    names = ("marginals", "markov_1", "markov_2", "logistic")
    assert {f"test/music/{name}/nll_per_frame" for name in names} <= set(found)
    assert {"test/music/f1", "test/music/nll_per_frame", "test/music/pca/f1"} <= set(found)
    assert "18 pieces of train" in done.err
    assert len(list((tmp_path / "run" / "figures" / "music").glob("*.mid"))) == 3 * 2 + 1
