"""Runs on sound: trained, judged, and given sound that they have not seen."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import new_data_runs as runs
import numpy as np
import pytest
from command import run_in_process
from sound_clips import RATE, tone
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import narrows
from narrows.commands import reconstruct, score
from narrows.data.sound_files import write_sound

soundfile = pytest.importorskip("soundfile")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sound")
    runs.sound_run(made)
    return made


@pytest.fixture
def place(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = Path(shutil.copytree(folder, tmp_path / "sound"))
    monkeypatch.chdir(found)
    return found


def test_a_sound_comes_back_at_its_own_rate_as_long_as_it_was(place: Path) -> None:
    """The network is all but untrained: its masks lie near a half."""
    for name, rate, subtype in (("a.wav", RATE, "PCM_24"), ("b.flac", 16_000, "PCM_16"), ("c.wav", 11_025, "FLOAT")):
        x = tone(300, 3001, rate)
        write_sound(place / name, x, rate, subtype)
        reconstruct.main(["run", name, "-o", f"out/{name}"])
        with soundfile.SoundFile(f"out/{name}") as file:
            assert (file.samplerate, file.subtype, file.frames) == (rate, subtype, 3001)
            found = file.read()
        inside = slice(400, -400)
        share = float(found[inside] @ x[0, inside]) / float(x[0, inside] @ x[0, inside])
        assert 0.2 < share < 0.8
        assert np.corrcoef(found[inside], x[0, inside])[0, 1] > 0.9
    reconstruct.main(["run", "a.wav"])
    assert (place / "a.reconstructed.wav").is_file()


def test_windows_of_new_sound_are_folded_without_a_seam(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sound(place / "a.wav", tone(300, 2000), RATE)
    reconstruct.main(["run", "a.wav", "-o", "a.out.wav"])
    monkeypatch.setattr("narrows.new_data.examples.MOST_ROWS", 2)
    reconstruct.main(["run", "a.wav", "-o", "b.out.wav"])
    one, other = (soundfile.read(name)[0] for name in ("a.out.wav", "b.out.wav"))
    np.testing.assert_allclose(one, other, atol=1e-4)
    assert np.abs(np.diff(one, 2)).max() < 0.08


def test_folders_and_archives_come_back_and_bad_files_are_told(place: Path) -> None:
    (place / "own" / "test" / "broken.wav").write_bytes(b"nothing")
    reconstruct.main(["run", "own/test", "-o", "back"])
    assert sorted(path.name for path in (place / "back").iterdir()) == sorted(
        ["problems.csv", *(path.name for path in (place / "own" / "train").iterdir() if path.stem[-1] in "01")]
    )
    with (place / "back" / "problems.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["broken.wav"]
    assert "cannot be read as sound" in rows[0]["problem"]
    with zipfile.ZipFile("in.zip", "w") as archive:
        archive.write("own/test/no_ada_0.wav", "deep/no.wav")
    reconstruct.main(["run", "in.zip"])
    alone, among_others = (
        soundfile.read(place / name, dtype="int16")[0].astype(int)
        for name in ("in.reconstructed/deep/no.wav", "back/no_ada_0.wav")
    )
    # A batch of other windows rounds otherwise, by at most one step of sixteen bits.
    np.testing.assert_allclose(alone, among_others, rtol=0, atol=1)


def test_windows_are_scored_and_python_gives_them_back(place: Path) -> None:
    score.main(["run", "own/test", "-o", "scores.csv"])
    with (place / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["name"] == "no_ada_0.wav:0-255"
    assert all(float(row["score"]) >= 0 for row in rows)
    model = narrows.load("run")
    found = model.reconstruct("own/test/no_ada_0.wav")
    assert [window.shape[1] for window in found] == [256, 256, 580 - 512]
    assert model.embed("own/test/no_ada_0.wav").shape[0] == 3
    windows = np.stack([np.pad(window, ((0, 0), (0, 256 - window.shape[1]))) for window in found])
    assert model.reconstruct(windows).shape == (3, 1, 256)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("own/test/no_ada_0.wav", "-o", "out.mp3"), "is written as .wav or .flac, which out.mp3 is not"),
        (("text.txt",), "cannot be read as sound"),
        (("own/test", "-o", "own/test/inside"), "lies in own/test, which is read"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    place: Path, arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "text.txt").write_text("no sound")
    with pytest.raises(SystemExit) as end:
        reconstruct.main(["run", *arguments])
    assert end.value.code == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_denoising_is_judged_by_its_ratio_and_can_be_heard(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "own", tmp_path / "own")
    small = [one for one in runs.QUICK if not one.startswith("callbacks")]
    done = run_in_process(
        *("datamodule=audio", "datamodule.source.path=own", "datamodule.source.window=256", "model=masking"),
        *("input=spectrum", "input.width=32", "input.hop=16", "corruption=sound", "variant=denoising"),
        *("bottleneck.dim=3", "corruption.snr=[0,10]", "+task@tasks.denoising=denoising", "hydra.run.dir=run"),
        *("tasks.denoising.noises={white:[5],hum:[5]}", *small, "callbacks.progress.enable=false"),
        "trainer.limit_test_batches=null",
        cwd=tmp_path,
    )
    assert done.code == 0, done.err
    figures: dict[str, Any] = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert figures["test/denoising/white_5/noisy/si_sdr"] == pytest.approx(5, abs=0.3)
    assert figures["test/denoising/white_5/seen"] == 1
    assert figures["test/denoising/hum_5/seen"] == 0
    each = [figures[f"test/denoising/{noise}/si_sdr"] for noise in ("white_5", "hum_5")]
    assert figures["test/denoising/si_sdr"] == pytest.approx(np.mean(each))
    assert figures["test/denoising/wiener/si_sdr"] > 5
    assert "test/denoising/wavelet/snr_gain" in figures
    for name in ("clean", "noisy", "model"):
        assert soundfile.info(tmp_path / "run" / "figures" / f"denoising_white_5_{name}.wav").samplerate == RATE
    assert (tmp_path / "run" / "figures" / "denoising_white_5.png").is_file()
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"audio": 0}).Reload()
    assert {"views/denoising_white_5_model", "views/reconstruction_0_model"} <= set(events.Tags()["audio"])


def test_sounds_that_differ_in_their_endings_alone_all_come_back(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    (place / "new" / "deep").mkdir(parents=True)
    for number, name in enumerate(("a.wav", "a.flac", "a.ogg", "deep/b.ogg", "deep/c.aiff", "deep/c.ogg")):
        soundfile.write(place / "new" / name, tone(300, 1000 + number).T, 16_000)
    with caplog.at_level("INFO"):
        reconstruct.main(["run", "new", "-o", "back"])
    found = {path.relative_to("back").as_posix(): soundfile.info(path).frames for path in Path("back").rglob("*.*")}
    assert found == {
        "a.wav": 1000,
        "a.flac": 1001,
        "a.ogg.wav": 1002,
        "deep/b.wav": 1003,
        "deep/c.aiff.wav": 1004,
        "deep/c.ogg.wav": 1005,
    }

    assert caplog.text.count("sound of 16000 samples a second is rebuilt at the run's 8000") == 1
