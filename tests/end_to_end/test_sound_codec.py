"""A codec of sound: trained, judged by its files, and asked to compress sound that it has not seen."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import NO_TASKS, TINY, run_in_process
from sound_clips import RATE, tone, write_clips

from narrows.commands import compress, decompress, evaluate, reconstruct
from narrows.data.sound_files import write_sound

soundfile = pytest.importorskip("soundfile")

OPTIONS = (
    *("datamodule=audio", "datamodule.source.path=own", "datamodule.source.window=256", "variant=residual_vq"),
    *("encoder=lapped", "decoder=lapped", "encoder.hop=32", "decoder.hop=32", "encoder.width=8", "decoder.width=8"),
    "datamodule.source.names.pattern='{word}_{speaker}_{take}'",
    *("bottleneck.dim=32", "bottleneck.codes=16", "bottleneck.levels=3", "bottleneck.identity=true"),
    *(
        "bottleneck.dropout=0.5",
        "loss=vq_sound",
        "+term@loss.spectral=spectral",
        "loss.spectral.widths=[32]",
        "hydra.run.dir=run",
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("codec")
    write_clips(made / "own" / "train", 5)
    write_clips(made / "own" / "test", 2)
    done = run_in_process(*TINY, *NO_TASKS, *OPTIONS, cwd=made)
    assert done.code == 0, done.err
    return made


@pytest.fixture
def place(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = Path(shutil.copytree(folder, tmp_path / "codec"))
    monkeypatch.chdir(found)
    return found


def test_sound_of_any_length_and_rate_comes_back_as_it_was(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, rate, subtype, steps in (
        ("a.wav", RATE, "PCM_16", 3001),
        ("b.flac", 16_000, "PCM_24", 999),
        ("c.wav", 11_025, "FLOAT", 40),
    ):
        write_sound(place / name, tone(300, steps, rate), rate, subtype)
        with caplog.at_level("INFO"):
            compress.main([name, f"{name}.nrwz", "--run", "run"])
        decompress.main([f"{name}.nrwz", f"back/{name}", "--run", "run"])
        with soundfile.SoundFile(f"back/{name}") as file:
            assert (file.samplerate, file.subtype, file.frames) == (rate, subtype, steps)
    assert "sound of 16000 samples a second is coded at the run's 8000" in caplog.text
    size = (place / "a.wav.nrwz").stat().st_size
    assert f"{size} bytes, {8 * size / (3001 / RATE) / 1000:.4g} kbit/s of 0.3751 s" in caplog.text
    x, found = tone(300, 3001)[0], soundfile.read("back/a.wav")[0]
    assert np.corrcoef(x[100:-100], found[100:-100])[0, 1] > 0.9
    write_sound(place / "both.wav", np.concatenate([tone(300, 500), tone(300, 500)]), RATE)
    compress.main(["both.wav", "both.nrwz", "--run", "run"])
    decompress.main(["both.nrwz", "both.back.wav", "--run", "run"])
    assert soundfile.info("both.back.wav").channels == 1


def test_fewer_codebooks_are_fewer_bytes_and_folders_come_back_as_folders(place: Path) -> None:
    sizes = []
    for levels in (1, 2, 3):
        compress.main(["own/test", f"{levels}.nrwz", "--run", "run", "--codebooks", str(levels)])
        sizes.append((place / f"{levels}.nrwz").stat().st_size)
        decompress.main([f"{levels}.nrwz", f"back{levels}", "--run", "run"])
    assert sizes == sorted(set(sizes))
    for file in sorted((place / "own" / "test").iterdir()):
        assert soundfile.info(file).frames == soundfile.info(place / "back2" / file.name).frames
    with zipfile.ZipFile("in.zip", "w") as archive:
        archive.write("own/test/no_ada_0.wav", "deep/no.wav")
    compress.main(["in.zip", "zip.nrwz", "--run", "run", "--codebooks", "3"])
    decompress.main(["zip.nrwz", "zipped", "--run", "run"])
    assert (place / "zipped/deep/no.wav").read_bytes() == (place / "back3/no_ada_0.wav").read_bytes()
    reconstruct.main(["run", "own/test/no_ada_0.wav", "-o", "rebuilt.wav"])
    assert soundfile.info("rebuilt.wav").frames == soundfile.info("own/test/no_ada_0.wav").frames


@pytest.mark.parametrize(
    ("command", "arguments", "sentence"),
    [
        ("compress", ("text.wav", "out.nrwz"), "cannot be read as sound"),
        ("compress", ("nothing.wav", "out.nrwz"), "nothing.wav"),
        ("compress", ("a.wav", "out.nrwz", "--codebooks", "4"), "codebooks must be from 1 to this run's 3, not 4"),
        ("compress", ("a.wav", "out.nrwz", "--codebooks", "x"), "invalid int value: 'x'"),
        ("compress", ("a.wav", "out.nrwz", "--step", "1"), "latents are codes already"),
        ("compress", ("two.npy", "out.nrwz"), "2 x 300 do not fit a model of 1-channel sounds of any length"),
        ("decompress", ("a.nrwz", "out.mp3"), "let OUT end in .wav or .flac, not out.mp3"),
        ("decompress", ("folder.nrwz", "own"), "own is no new or empty folder"),
        ("decompress", ("cut.nrwz", "out.wav"), "cut.nrwz is cut short or damaged"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    place: Path, command: str, arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sound(place / "a.wav", tone(300, 300), RATE)
    (place / "text.wav").write_text("no sound")
    np.save("two.npy", np.zeros((1, 2, 300), np.float32))
    if command == "decompress":
        compress.main(["a.wav", "a.nrwz", "--run", "run"])
        compress.main(["own/test", "folder.nrwz", "--run", "run"])
        (place / "cut.nrwz").write_bytes((place / "a.nrwz").read_bytes()[:-9])
    before = sorted(place.rglob("*"))
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        (compress if command == "compress" else decompress).main([*arguments, "--run", "run"])
    assert end.value.code == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    left = [path for path in sorted(place.rglob("*")) if path not in before and "coding" not in path.parts]
    assert not left


def test_another_field_of_the_names_is_told_from_the_latents(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The field that is the label gives the label's figures; another one is told by its own."""
    evaluate.main(["run", "task=probe", "task.sizes=[4]", "task.networks=false", "task.field=word"])
    by_field = json.loads((place / "run" / "tasks" / "probe.json").read_text())["figures"]
    evaluate.main(["run", "task=probe", "task.sizes=[4]", "task.networks=false"])
    by_label = json.loads((place / "run" / "tasks" / "probe.json").read_text())["figures"]
    assert by_field == {name.replace("probe/", "probe/word_", 1): value for name, value in by_label.items()}
    assert {"test/probe/all_labels/pooled_probe", "test/probe/4_labels/mfcc/probe"} <= set(by_label)
    # Tones of one pitch a word, whoever says it.
    assert by_label["test/probe/all_labels/mel/probe"] == 1
    evaluate.main(["run", "task=probe", "task.sizes=[]", "task.field=speaker"])
    found = json.loads((place / "run" / "tasks" / "probe.json").read_text())["figures"]
    assert found["test/probe/speaker_all_labels/mel/probe"] < 0.9
    with pytest.raises(SystemExit) as end:
        evaluate.main(["run", "task=probe", "task.sizes=[]", "task.field=age"])
    assert end.value.code == 2
    assert "field=age is none of these data's names: they have word, speaker, take" in capsys.readouterr().err


def test_a_run_is_judged_by_its_files_beside_codecs_at_equal_bytes(place: Path) -> None:
    evaluate.main(["run", "task=codec", "task.kbit_per_s=100"])
    figures: dict[str, Any] = json.loads((place / "run" / "tasks" / "codec.json").read_text())["figures"]
    seconds = sum(soundfile.info(file).frames for file in (place / "own" / "test").iterdir()) / RATE
    compress.main(["own/test", "all.nrwz", "--run", "run"])
    size = (place / "all.nrwz").stat().st_size
    # The names of the files take other room than numbers do.
    assert figures["test/codec/kbit_per_s"] == pytest.approx(8 * size / seconds / 1000, rel=0.1)
    rates = [figures[f"test/codec/codebooks_{levels}/kbit_per_s"] for levels in (1, 2, 3)]
    assert rates == sorted(rates)
    assert figures["test/codec/si_sdr"] == figures["test/codec/codebooks_3/si_sdr"]
    assert figures["test/codec/lead"] == pytest.approx(
        figures["test/codec/si_sdr"]
        - max(
            figures[f"test/codec/{name}/si_sdr"]
            for name in ("opus", "mp3", "mu_law", "adpcm", "mdct")
            if figures.get(f"test/codec/{name}/kbit_per_s", 1e9) <= figures["test/codec/kbit_per_s"]
        )
    )
    for level in (1, 2, 3):
        used, perplexity = (figures[f"test/codec/level_{level}/{name}"] for name in ("codes_used", "perplexity"))
        assert 0 < used <= 1
        assert 1 <= perplexity <= 16 * used + 1e-6
    for name in ("original", "model", "mdct"):
        assert soundfile.info(place / "run" / "figures" / f"codec_{name}.wav").samplerate == RATE
    assert (place / "run" / "figures" / "codec_curve.png").is_file()
    assert (place / "run" / "figures" / "codec_examples.png").is_file()
