"""Films from files, and the clips that are cut from them."""

from __future__ import annotations

import itertools
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from narrows.data import Clips, Contents, DataModule, Digits, MovingDigits, Part, Video
from narrows.data.film_files import FrameSize, as_gif, find_films, in_order, read_films
from narrows.data.film_pace import of_animation, of_every
from narrows.data.sources.moving_digits import Turn, bounced
from narrows.errors import UserError


def counting(frames: int, height: int = 6, width: int = 5) -> np.ndarray:
    """A film `[T, H, W]` whose frame t is of value t alone."""
    return np.arange(frames, dtype=np.uint8)[:, None, None] * np.ones((1, height, width), np.uint8)


def numbers(part: Part) -> list[list[int]]:
    """The frames of each clip of such a film."""
    return part.x.take(slice(None))[:, 0, :, 0, 0].tolist()


def test_the_frames_of_a_clip_are_the_films_in_order(tmp_path: Path) -> None:
    np.save(tmp_path / "film.npy", counting(20))
    for clips in (Clips(4), Clips(4, 1), Clips(3, 2, 3)):
        made = Video(str(tmp_path / "film.npy"), clips).load().train
        span = clips.away if clips.stride is None else clips.stride
        wanted = [
            [start + clips.step * place for place in range(clips.frames)]
            for start in range(0, 20 - (clips.frames - 1) * clips.step, span)
        ]
        assert numbers(made) == wanted
        assert made.names is not None
        assert made.names[1] == f"film.npy:{span}-{span + clips.span - 1}"


def test_no_frame_is_on_both_sides_where_time_divides(tmp_path: Path) -> None:
    np.savez(tmp_path / "films.npz", x=np.stack([counting(60), counting(60) + 100]))
    np.save(tmp_path / "one.npy", counting(60))
    cuts = ((Clips(4, 1), None), (Clips(3, 2, 2), None), (Clips(4, 2), 3), (Clips(5), None))
    for (clips, folds), (path, split) in itertools.product(cuts, (("films.npz", "time"), ("one.npy", "auto"))):
        source = Video(str(tmp_path / path), clips, split=split, test=0.2)  # type: ignore[arg-type]
        data = DataModule(source, validation=0.2, folds=folds)
        data.setup()
        seen = {name: frames_of(data, name) for name in ("train", "validation", "test")}
        assert not seen["train"] & seen["test"]
        assert not seen["train"] & seen["validation"]
        assert not seen["validation"] & seen["test"]
        for offset in (0, 100) if path == "films.npz" else (0,):
            own = {name: {v for v in values if offset <= v < offset + 60} for name, values in seen.items()}
            assert max(own["train"] | own["validation"]) < min(own["test"])


def frames_of(data: DataModule, split: str) -> set[int]:
    """The frames of a split's clips, which are held as values in [0, 1]."""
    x = data.part(split).x.take(slice(None))  # type: ignore[arg-type]
    return set((x[:, 0, :, 0, 0] * 255).round().int().flatten().tolist())


def test_whole_films_are_held_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "films.npz", x=np.stack([counting(9) + 20 * number for number in range(8)]))
    data = DataModule(Video(str(tmp_path / "films.npz"), Clips(4, 1), test=0.25), validation=0.2)
    data.setup()
    train, test = ({name.split(":")[0] for name in data.part(split).names or []} for split in ("train", "test"))
    assert len(test) == 2
    assert not train & test


def test_every_form_of_a_film_is_read_alike(tmp_path: Path) -> None:
    film = np.random.default_rng(0).integers(0, 256, (12, 8, 10), np.uint8)
    np.save(tmp_path / "a.npy", film)
    np.save(tmp_path / "b.npy", film[..., None])
    (tmp_path / "c.gif").write_bytes(as_gif(film))
    for number, frame in enumerate(film):
        (tmp_path / "d").mkdir(exist_ok=True)
        Image.fromarray(frame).save(tmp_path / "d" / f"frame{number + 1}.png")  # frame10 would sort before frame2
    found = [Video(str(tmp_path / name), Clips(4)).load() for name in ("a.npy", "b.npy", "c.gif", "d")]
    assert [contents.kind for contents in found] == ["video"] * 4
    for contents in found[1:]:
        assert torch.equal(contents.train.x.take(slice(None)), found[0].train.x.take(slice(None)))
    every: Contents = Video(str(tmp_path), Clips(4)).load()
    assert every.groups is not None
    assert every.groups.unique().tolist() == [0, 1, 2, 3]
    assert sorted(["f10", "f9", "f1"], key=in_order) == ["f1", "f9", "f10"]


def test_a_coded_film_is_read(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 32, 32, "yuv420p", 4_000_000
        for value in range(9):
            picture = np.full((32, 32, 3), 20 * value, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    made = Video(str(tmp_path / "film.mp4"), Clips(3), size=[16, 8]).load().train.x
    assert tuple(made.shape) == (3, 1, 3, 16, 8)
    values = made.take(slice(None)).float().mean((1, 3, 4)).flatten()
    assert (values - 20 * torch.arange(9)).abs().max() < 6
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    with pytest.raises(UserError, match="no film that can be read"):
        Video(str(tmp_path / "bad.mp4")).load()


def test_what_is_no_film_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "short.npy", counting(3))
    with pytest.raises(UserError, match="all shorter than a clip"):
        Video(str(tmp_path / "short.npy")).load()
    np.save(tmp_path / "floats.npy", counting(20) / 255)
    with pytest.raises(UserError, match=r"bytes \(uint8\)"):
        Video(str(tmp_path / "floats.npy")).load()
    np.savez(tmp_path / "two.npz", left=counting(20), right=counting(20))
    with pytest.raises(UserError, match=r"set source\.key"):
        Video(str(tmp_path / "two.npz")).load()
    assert len(Video(str(tmp_path / "two.npz"), key="left").load().train) == 2
    np.save(tmp_path / "wide.npy", counting(20, 9, 9))
    (tmp_path / "floats.npy").unlink()
    (tmp_path / "two.npz").unlink()
    with pytest.raises(UserError, match=r"set source\.size"):
        Video(str(tmp_path)).load()
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="holds no film"):
        Video(str(tmp_path / "none")).load()


def test_digits_move_and_bounce() -> None:
    room = np.array([10, 4])
    assert [bounced(np.array([place, 0.0]), room)[0] for place in range(-3, 24)] == [
        *(3, 2, 1), *range(11), *range(9, -1, -1), *(1, 2, 3),
    ]  # fmt: skip
    source = Digits(test=0.2)
    made = [MovingDigits(Bytes(source), 1, 6, 16, [1.0, 2.0], train=5, test=3).load() for _ in range(2)]
    x = made[0].train.x.take(slice(None))
    assert tuple(x.shape) == (5, 1, 6, 16, 16)
    assert made[0].identity == made[1].identity
    assert torch.equal(x, made[1].train.x.take(slice(None)))
    # A single digit keeps all of its light, and moves by a pixel or two.
    light = x.double().sum((1, 3, 4))
    torch.testing.assert_close(light, light[:, :1].expand_as(light))
    rows = (x.double().sum((1, 4)) * torch.arange(16)).sum(2) / light
    columns = (x.double().sum((1, 3)) * torch.arange(16)).sum(2) / light
    moved = (rows.diff(dim=1) ** 2 + columns.diff(dim=1) ** 2).sqrt()
    assert 0.5 < float(moved.mean()) < 2.5
    assert float(moved.max()) <= 2 + 2**0.5


class Bytes:
    """The digits of scikit-learn as pictures of bytes, with a test split."""

    def __init__(self, source: Digits) -> None:
        self.source = source

    def load(self) -> Contents:
        found = self.source.load()
        x = (found.train.x.take(slice(None)) * 255).round().to(torch.uint8)
        return Contents("image", Part(x[:100]), test=Part(x[100:150]))


def test_masks_mark_clips_of_the_test_films(tmp_path: Path) -> None:
    for part in ("train", "test", "ground_truth"):
        (tmp_path / part).mkdir()
    np.save(tmp_path / "train" / "a.npy", counting(8))
    np.save(tmp_path / "test" / "b.npy", counting(8))
    np.save(tmp_path / "test" / "c.npy", counting(8))
    mask = np.zeros((8, 6, 5), np.uint8)
    mask[5, 2, 3] = 1
    np.save(tmp_path / "ground_truth" / "b_mask.npy", mask)
    contents = Video(str(tmp_path), Clips(4)).load()
    assert contents.test is not None
    assert contents.test.names == [f"test/{name}" for name in ("b.npy:0-3", "b.npy:4-7", "c.npy:0-3", "c.npy:4-7")]
    assert contents.test.label is not None
    assert contents.test.label.tolist() == [0, 1, 0, 0]
    assert contents.train.label is not None
    assert contents.train.label.tolist() == [0, 0]
    assert contents.train_labels == [0]
    assert contents.test.anomalous is not None
    marks = contents.test.anomalous.take(slice(None))
    assert tuple(marks.shape) == (4, 1, 4, 6, 5)
    assert torch.nonzero(marks).tolist() == [[1, 0, 1, 2, 3]]
    # Every form of a film can be a mask, and it is brought to the frames' size.
    (tmp_path / "ground_truth" / "b_mask.npy").unlink()
    (tmp_path / "ground_truth" / "b_mask").mkdir()
    for number, frame in enumerate(mask):
        Image.fromarray(frame * np.uint8(255)).save(tmp_path / "ground_truth" / "b_mask" / f"{number}.png")
    again = Video(str(tmp_path), Clips(4)).load()
    assert again.test is not None
    assert again.test.anomalous is not None
    assert torch.equal(again.test.anomalous.take(slice(None)), marks)
    halved = Video(str(tmp_path), Clips(4), size=[3, 5]).load()
    assert halved.test is not None
    assert halved.test.anomalous is not None
    assert tuple(halved.test.anomalous.take(slice(None)).shape) == (4, 1, 4, 3, 5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("short", "has 3 frames of 6 x 5 pixels, but"),
        ("stray", "ground_truth/d_mask.npy is the mask of no test film"),
        ("loose", "do not all lie in folders train, val and test"),
        ("no test", "do not all lie in folders train, val and test"),
    ],
)
def test_masks_that_fit_no_film_are_refused(tmp_path: Path, change: str, sentence: str) -> None:
    for part in ("train", "test", "ground_truth"):
        (tmp_path / part).mkdir()
    np.save(tmp_path / "train" / "a.npy", counting(8))
    if change != "no test":
        np.save(tmp_path / "test" / "b.npy", counting(8))
    if change == "loose":
        np.save(tmp_path / "e.npy", counting(8))
    name = "d_mask.npy" if change == "stray" else "b_mask.npy"
    np.save(tmp_path / "ground_truth" / name, counting(3 if change == "short" else 8))
    with pytest.raises(UserError, match=sentence):
        Video(str(tmp_path), Clips(4)).load()


def test_odd_digits_are_marked_and_the_other_clips_stay_as_they_were() -> None:
    plain = MovingDigits(Bytes(Digits()), 2, 8, 20, [1.0, 2.0], train=6, test=10).load()
    found = MovingDigits(Bytes(Digits()), 2, 8, 20, [1.0, 2.0], train=6, test=10, anomalous=0.4).load()
    assert plain.test is not None
    assert found.test is not None
    assert found.test.label is not None
    assert found.test.anomalous is not None
    odd = found.test.label == 1
    assert int(odd.sum()) == 4
    before, after = plain.test.x.take(slice(None)), found.test.x.take(slice(None))
    assert torch.equal(before[~odd], after[~odd])
    assert all(not torch.equal(one, other) for one, other in zip(before[odd], after[odd], strict=True))
    assert torch.equal(plain.train.x.take(slice(None)), found.train.x.take(slice(None)))
    marks = found.test.anomalous.take(slice(None)) > 0
    assert not marks[~odd].any()
    frames = marks[odd].flatten(3).any(3)[:, 0]
    assert bool(((frames.sum(1) >= 2) & (frames.sum(1) <= 4)).all())
    # Unbroken, and what is marked is seen.
    assert all(int((row.int().diff() == 1).sum()) + int(row[0]) == 1 for row in frames)
    assert bool((after[marks] > 0).all())
    assert plain.identity != found.identity
    rush = Turn(0, 2, 4, shape=False)
    assert [rush.moved(step) for step in range(6)] == [0, 1, 5, 9, 10, 11]
    assert [Turn(0, 2, 4, shape=True).moved(step) for step in range(6)] == [*range(6)]
    for wrong in (-0.1, 1.0):
        with pytest.raises(UserError, match=r"source\.anomalous"):
            MovingDigits(Bytes(Digits()), anomalous=wrong)
    with pytest.raises(UserError, match=r"source\.frames"):
        MovingDigits(Bytes(Digits()), frames=3, anomalous=0.5)


def test_arrays_of_other_axes_are_refused(tmp_path: Path) -> None:
    """Colours first, or with transparency, would be read as many short films."""
    for shape, wanted in (((9, 3, 6, 5), "colours before its rows"), ((9, 6, 5, 4), "colours with transparency")):
        np.save(tmp_path / "film.npy", np.zeros(shape, np.uint8))
        with pytest.raises(UserError, match=wanted):
            Video(str(tmp_path / "film.npy"), Clips(2)).load()
    np.save(tmp_path / "film.npy", np.zeros((9, 3, 6, 5, 1), np.uint8))
    assert Video(str(tmp_path / "film.npy"), Clips(3), test=None).load().train.x.shape == (9, 1, 3, 6, 5)


def test_an_animation_with_transparent_pixels_is_refused(tmp_path: Path) -> None:
    """As a folder of such frames is; what the frame before shows through is not transparent."""
    frames = [np.full((6, 5, 4), 255, np.uint8) for _ in range(9)]
    for place, frame in enumerate(frames):
        frame[place % 6, :, :3] = 40
    for ending in ("gif", "webp"):
        first, *rest = map(Image.fromarray, frames)
        first.save(tmp_path / f"opaque.{ending}", save_all=True, append_images=rest, disposal=1, lossless=True)
        assert len(Video(str(tmp_path / f"opaque.{ending}"), Clips(3), test=None).load().train) == 3
        holes = [frame.copy() for frame in frames]
        for frame in holes:
            frame[2, 2, 3] = 0
        first, *rest = map(Image.fromarray, holes)
        first.save(tmp_path / f"holes.{ending}", save_all=True, append_images=rest, disposal=2, lossless=True)
        with pytest.raises(UserError, match=rf"holes\.{ending} has transparent pixels"):
            Video(str(tmp_path / f"holes.{ending}"), Clips(3), test=None).load()


def test_names_that_differ_in_digits_alone_have_an_order() -> None:
    assert sorted(["f10", "f2", "f02", "f1", "f²3"], key=in_order) == ["f1", "f02", "f2", "f10", "f²3"]


def test_a_film_is_turned_as_it_is_shown(tmp_path: Path) -> None:
    """A telephone on its side writes frames as its sensor lies, and says in the header how they are turned."""
    av = pytest.importorskip("av")
    frame = np.zeros((16, 32, 3), np.uint8)
    frame[:8, :8] = 255
    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for _ in range(6):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    plain = Video(str(tmp_path / "film.mp4"), Clips(3), test=None).load().train.x
    assert plain.shape[1:] == (1, 3, 16, 32)
    content = (tmp_path / "film.mp4").read_bytes()
    as_it_lies = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    clockwise = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 16 << 16, 0, 1 << 30)
    place = content.index(as_it_lies, content.index(b"tkhd"))
    (tmp_path / "film.mp4").write_bytes(content[:place] + clockwise + content[place + len(clockwise) :])
    turned = Video(str(tmp_path / "film.mp4"), Clips(3), test=None).load().train.x
    assert turned.shape[1:] == (1, 3, 32, 16)
    shown = turned.take(slice(None))[0, 0, 0]
    assert shown[:6, 10:].float().mean() > 200  # what was left at the top is right at the top
    assert shown[:6, :6].float().mean() < 50


def test_how_long_frames_are_shown_is_read_and_written(tmp_path: Path) -> None:
    times = [40] * 6 + [400] * 6
    (tmp_path / "film.gif").write_bytes(as_gif(10 * counting(12), times))
    pace: list[float] = []
    ((_, frames),) = read_films(find_films(tmp_path / "film.gif")[0], FrameSize(), pace=pace)
    assert frames[:, 0, 0, 0].tolist() == list(range(0, 120, 10))
    assert pace == times
    assert of_every(pace, 5, 3) == [200, 40 + 4 * 400, 2 * 400]
    assert of_every([], 5, 3) == []
    assert of_animation([1000 / 30, 4]) == [30, 20]
    (said,) = Video(str(tmp_path / "film.gif"), Clips(3)).load().reading
    assert "; in 1 of them frames are shown for different times, and count alike" in said
    (tmp_path / "even.gif").write_bytes(as_gif(10 * counting(12)))
    (said,) = Video(str(tmp_path / "even.gif"), Clips(3)).load().reading
    assert "different times" not in said


def test_a_folder_of_stills_in_a_format_of_animations_is_one_film(tmp_path: Path) -> None:
    for ending in ("webp", "gif"):
        (tmp_path / ending).mkdir()
        for place, frame in enumerate(10 * counting(12)):
            Image.fromarray(frame).convert("RGB").save(tmp_path / ending / f"{place}.{ending}", lossless=True)
        found = numbers(Video(str(tmp_path / ending), Clips(12), test=None).load().train)
        np.testing.assert_allclose(found, [list(range(0, 120, 10))], atol=1)
    (tmp_path / "webp" / "12.webp").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"12\.webp is no animation that can be read"):
        Video(str(tmp_path / "webp"), Clips(12), test=None).load()
