"""Sound read from WAV, FLAC and zip archives, resampled, cut into windows and folded together again."""

from __future__ import annotations

import io
import wave
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sound_clips import RATE, tone, write_clips

from narrows.data import Audio, ClipNames, DataModule
from narrows.data.sound_files import encode, find_sounds, resampled, write_sound
from narrows.data.sound_windows import cut_sound, fold_sound
from narrows.errors import UserError

soundfile = pytest.importorskip("soundfile")


def pcm(width: int, values: list[int]) -> bytes:
    """A WAV by the standard library, of whole numbers of so many bytes."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(width)
        out.setframerate(RATE)
        out.writeframes(b"".join(value.to_bytes(width, "little", signed=width > 1) for value in values))
    return file.getvalue()


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_every_depth_is_scaled_to_the_same_values(tmp_path: Path, width: int) -> None:
    half = 2 ** (8 * width - 1)
    offset = half if width == 1 else 0  # 8 bits have no sign
    (tmp_path / "a.wav").write_bytes(pcm(width, [offset - half, offset, offset + half // 2, offset + half - half // 4]))
    (found,) = find_sounds(tmp_path / "a.wav")
    np.testing.assert_allclose(found.read().samples, [[-1.0, 0.0, 0.5, 0.75]], atol=1e-7)


@pytest.mark.parametrize(("ending", "subtype"), [(".wav", "PCM_16"), (".wav", "FLOAT"), (".flac", "PCM_24")])
def test_what_is_written_is_read_back(tmp_path: Path, ending: str, subtype: str) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (2, 3000)).astype(np.float32)
    write_sound(tmp_path / f"a{ending}", x, RATE, subtype)
    found = find_sounds(tmp_path / f"a{ending}")[0].read()
    assert (found.rate, found.subtype) == (RATE, subtype)
    np.testing.assert_allclose(found.samples, x, atol=2 / 2**15 if subtype == "PCM_16" else 1e-6)


@pytest.mark.parametrize("wanted", [4000, 11_025, 16_000])
def test_resampling_keeps_a_sine(wanted: int) -> None:
    steps = 4000
    found = resampled(tone(440, steps), RATE, wanted)
    assert found.shape == (1, -(-steps * wanted // RATE))
    middle = slice(wanted // 10, -wanted // 10)  # the filter sees nothing beyond the ends
    np.testing.assert_allclose(found[:, middle], tone(440, found.shape[1], wanted)[:, middle], atol=2e-3)


def test_resampling_leaves_out_what_the_new_rate_cannot_hold() -> None:
    assert np.abs(resampled(tone(3000, 8000), RATE, 4000)[:, 400:-400]).max() < 2e-3


@pytest.mark.parametrize("steps", [1, 63, 64, 65, 200, 1000])
@pytest.mark.parametrize("stride", [None, 1, 16, 33, 64])
def test_windows_fold_back_to_the_sound(steps: int, stride: int | None) -> None:
    x = np.random.default_rng(steps).standard_normal((2, steps)).astype(np.float32)
    cut = cut_sound(x, 64, stride)
    assert all(part.shape == (2, 64) for _, part in cut)
    assert cut[-1][0] < steps <= cut[-1][0] + 64
    back = fold_sound(np.stack([part for _, part in cut]), [start for start, _ in cut], steps)
    np.testing.assert_allclose(back, x, atol=1e-6)


def test_folding_passes_from_one_window_into_the_next_without_a_jump() -> None:
    windows = np.stack([np.zeros((1, 64)), np.ones((1, 64))])
    steps = np.diff(fold_sound(windows, [0, 32], 96)[0])
    assert steps.min() >= 0
    assert steps.max() < 0.04


def served(path: Path, validation: Any = 0.25, **options: Any) -> DataModule:
    data = DataModule(Audio(str(path), **options), validation=validation)
    data.setup()
    return data


NAMES = {"pattern": "{word}_{speaker}_{take}"}


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_clip_s_windows_stay_together_and_names_say_what_is_test(tmp_path: Path, form: str) -> None:
    path = write_clips(tmp_path / "in")
    if form == "zip":
        with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
            for file in sorted(path.iterdir()):
                archive.write(file, f"recordings/{file.name}")
        path = tmp_path / "in.zip"
    data = served(path, window=256, names=ClipNames(**NAMES, test={"take": [0]}))
    spec = data.spec
    assert (spec.kind, spec.shape, spec.rate, spec.value_range) == ("audio", (1, 256), RATE, (-1.0, 1.0))
    assert spec.class_names == ["no", "yes"]
    owners = {}
    for split in ("train", "validation", "test"):
        part = data.part(split)
        assert part.names is not None
        owners[split] = {name.partition(":")[0] for name in part.names}
        words = [name.rpartition("/")[2].split("_")[0] for name in part.names]
        assert [spec.class_names[int(label)] for label in part.label] == words
    assert not owners["train"] & owners["validation"]
    assert {name.rpartition("_")[2] for name in owners["test"]} == {"0.wav"}
    assert len(set().union(*owners.values())) == 16


def test_the_timeline_gives_the_clips_back(tmp_path: Path) -> None:
    path = write_clips(tmp_path / "in")
    data = served(path, window=256, stride=100, names=ClipNames(**NAMES, test={"take": [0]}))
    timeline = data.timeline
    assert timeline is not None
    for split in ("train", "validation", "test"):
        x, places = data.part(split).x.take(slice(None)).numpy(), timeline.places[split]
        for number in places[:, 0].unique().tolist():
            rows = places[:, 0] == number
            back = fold_sound(x[rows.numpy()], places[rows, 1].tolist(), timeline.lengths[number])
            np.testing.assert_allclose(back, soundfile.read(path / timeline.names[number])[0][None], atol=1e-6)


def test_groups_are_held_out_whole(tmp_path: Path) -> None:
    names = ClipNames(**NAMES, group="speaker", test={"take": [0]})
    data = served(write_clips(tmp_path), 0.5, window=256, names=names)
    speakers = [{name.split("_")[1] for name in data.part(split).names or []} for split in ("train", "validation")]
    assert sorted(map(len, speakers)) == [1, 1]
    assert not speakers[0] & speakers[1]


def test_whole_clips_differ_in_length(tmp_path: Path) -> None:
    data = served(write_clips(tmp_path), window=None, names=ClipNames(**NAMES))
    assert data.spec.variable
    assert data.spec.shape == (1, 500 + 270 + 120)
    batch = next(iter(data.ordered_loader("train")))
    assert batch.length is not None
    assert batch.x.shape[-1] == int(batch.length.max())


def test_folders_are_splits_and_labels(tmp_path: Path) -> None:
    for split, words in (("train", ("cat", "dog")), ("valid", ("cat",)), ("test", ("dog", "cat"))):
        for word in words:
            for take in range(3):
                write_sound(tmp_path / split / word / f"{take}.wav", tone(200 + len(split + word), 300), RATE)
    data = served(tmp_path, "auto", window=128)
    assert data.spec.class_names == ["cat", "dog"]
    assert {split: len(data.part(split)) for split in ("train", "validation", "test")} == {
        "train": 18,
        "validation": 9,
        "test": 18,
    }
    assert data.timeline is not None
    names = [data.timeline.names[number] for number in data.timeline.places["validation"][:, 0].tolist()]
    assert {name.split("/")[0] for name in names} == {"valid"}


def test_rates_are_brought_together_and_channels_averaged(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav", np.concatenate([tone(300, 800), 0 * tone(300, 800)]), RATE)
    write_sound(tmp_path / "b.wav", tone(300, 1600, 16_000), 16_000)
    with pytest.raises(UserError, match=r"holds sounds of 8000 and 16000 samples a second: set source.rate"):
        Audio(str(tmp_path)).load()
    contents = Audio(str(tmp_path), window=None, rate=4000).load()
    assert contents.rate == 4000
    assert contents.identity is not None
    assert contents.identity != Audio(str(tmp_path), window=None, rate=2000).load().identity
    assert contents.train.x.lengths(slice(None)).tolist() == [400, 400]
    half, full = (contents.train.x.take(torch.tensor([row]))[0, 0, 50:350] for row in (0, 1))
    torch.testing.assert_close(half, full / 2, atol=5e-3, rtol=0)
    with pytest.raises(UserError, match=r"has 1 channels, where 2 are due: set source\.mono=true"):
        Audio(str(tmp_path), mono=False, rate=4000).load()


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty.wav": (b"", "is empty"),
    "text.wav": (b"no sound at all, but a text", "cannot be read as sound"),
    "none.wav": (pcm(2, []), "holds no sample"),
    "short.wav": (pcm(2, list(range(900)))[:1000], r"is cut short: 956 of 1,800 bytes of samples are there"),
    "nan.wav": (encode(np.array([[0.1, np.nan, 0.2]]), RATE, ".wav", "FLOAT"), "NaN or infinite"),
    "half.flac": (encode(tone(300, 30_000), RATE, ".flac")[:2000], r"cannot be read as sound|is cut short"),
    "music.zip": (b"PK nothing", "cannot be read as a zip archive"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    content, sentence = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence) as error:
        Audio(str(tmp_path / name)).load()
    assert name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"window": 0}, "source.window=0 must be at least 1"),
        ({"stride": 3, "window": None}, "set source.window too"),
        ({"stride": 300, "window": 256}, "leaves out what lies between windows"),
        ({"test": 1.5}, "no fraction between 0 and 1"),
    ],
)
def test_options_out_of_their_range_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Audio("here", **options)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"pattern": "plain"}, "must hold fields in braces"),
        ({"pattern": "{a}_{a}"}, "each once"),
        ({"pattern": "{a}", "label": "b"}, "names.label=b is no field"),
        ({"test": {"take": [1]}}, "names.test.take=take is no field"),
    ],
)
def test_names_that_say_nothing_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        ClipNames(**options)


def test_files_that_the_pattern_does_not_fit_are_named(tmp_path: Path) -> None:
    write_sound(tmp_path / "plain.wav", tone(300, 400), RATE)
    with pytest.raises(UserError, match=r"plain.wav does not fit source.names.pattern=\{a\}_\{b\}"):
        Audio(str(tmp_path), names=ClipNames("{a}_{b}")).load()
    with pytest.raises(UserError, match=r"is true of no clip"):
        Audio(str(tmp_path), names=ClipNames("{a}", test={"a": ["other"]})).load()
    (tmp_path / "plain.wav").unlink()
    with pytest.raises(UserError, match="holds no sound"):
        Audio(str(tmp_path)).load()


def test_spoken_digits_are_those_of_their_authors(real_data: Path) -> None:
    names = ClipNames("{digit}_{speaker}_{take}", test={"take": [0, 1, 2, 3, 4]})
    data = served(real_data / "fsdd" / "recordings.zip", 0.1, window=4096, names=names)
    assert data.timeline is not None
    assert len(data.timeline.names) == 3000
    assert len(data.timeline.places["test"][:, 0].unique()) == 300
    assert data.spec.class_names == [str(digit) for digit in range(10)]
    assert data.spec.rate == 8000


def test_samples_are_stored_as_finely_as_they_were(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    x = 3 * tone(300, 500)
    kept = {"FLOAT": "FLOAT", "DOUBLE": "DOUBLE", "PCM_32": "PCM_32", "PCM_24": "PCM_24", "PCM_U8": "PCM_16"}
    for subtype, written in kept.items():
        write_sound(tmp_path / "a.wav", x, RATE, subtype)
        assert soundfile.info(tmp_path / "a.wav").subtype == written
        loudest = float(np.abs(soundfile.read(tmp_path / "a.wav")[0]).max())
        assert loudest == pytest.approx(1.5 if written in ("FLOAT", "DOUBLE") else 1, rel=1e-3)
    write_sound(tmp_path / "a.flac", x, RATE, "FLOAT")
    assert soundfile.info(tmp_path / "a.flac").subtype == "PCM_24"
    assert not caplog.records
    write_sound(tmp_path / "b.flac", x, RATE, "FLOAT", "b.flac")
    beyond = int((np.abs(x) > 1).sum())
    assert f"b.flac: {beyond} of 500 samples lie beyond -1 to 1, the farthest at 1.5, and are clipped" in caplog.text


def test_what_was_averaged_and_resampled_is_told(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav", tone(300, 900), RATE)
    write_sound(tmp_path / "b.wav", np.repeat(tone(300, 900), 2, 0), RATE)
    write_sound(tmp_path / "c.wav", tone(300, 900), 2 * RATE)
    (said,) = Audio(str(tmp_path), window=300, rate=RATE, test=None).load().reading
    assert said.endswith("; 1 of several channels averaged to one; 1 resampled from 16,000 Hz")


@pytest.mark.parametrize("stride", [None, 60])
def test_of_a_single_recording_the_last_windows_are_held_out(tmp_path: Path, stride: int | None) -> None:
    steps = np.linspace(-1, 1, 3000, dtype=np.float32)[None]
    write_sound(tmp_path / "long.wav", steps, RATE, "FLOAT")
    source = Audio(str(tmp_path / "long.wav"), window=100, stride=stride)
    (said,) = source.load().reading
    assert said.endswith("; held out: the last windows")
    data = DataModule(source)
    data.setup()
    seen = {}
    for split in ("train", "validation", "test"):
        values = data.part(split).x.take(slice(None))
        seen[split] = set(values[values != 0].tolist())  # zeros fill up the last window
        assert len(values) >= 2
    assert not seen["train"] & (seen["validation"] | seen["test"])
    assert not seen["validation"] & seen["test"]
    assert max(seen["train"]) < min(seen["test"])
