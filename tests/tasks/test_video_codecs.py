"""H.264 beside compressed clips: what is counted is what a decoder needs, and what comes back is the clips."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from narrows.errors import UserError
from narrows.tasks.classics.image_codecs import PCACodec, of_planes, planes
from narrows.tasks.classics.video_codecs import H264, START, codecs_of_clips, decode, encode, units_of

av = pytest.importorskip("av")


def waves(count: int, channels: int = 1, steps: int = 4, sides: tuple[int, int] = (18, 13)) -> NDArray[np.uint8]:
    """Clips `[N, C, T, H, W]` of a wave that moves on from frame to frame, in a direction of its own in each."""
    source = np.random.default_rng(3)
    time, height, width = np.meshgrid(*(np.arange(side) for side in (steps, *sides)), indexing="ij")
    found = np.empty((count, channels, steps, *sides), np.uint8)
    for number in range(count):
        down, across, turn = source.uniform(0.1, 0.5, 3)
        for channel in range(channels):
            found[number, channel] = 127 + 90 * np.sin(down * height + across * width + turn * time + channel)
    return found


@pytest.mark.parametrize("mosaic", [False, True])
@pytest.mark.parametrize("shape", [(5, 1, 4), (3, 1, 1), (2, 3, 3)])
def test_without_loss_the_clips_come_back_and_fewer_bytes_are_worse(shape: tuple[int, ...], mosaic: bool) -> None:
    count, channels, steps = shape
    clips = waves(count, channels, steps)
    codec = H264(clips, mosaic=mosaic)
    assert H264(clips, mosaic=mosaic).coded(35).size == codec.coded(35).size
    best = codec.coded(0)
    # Colours are turned into brightness and two differences, and back, in whole numbers.
    assert np.abs(best.pictures.astype(int) - clips).max() <= (0 if channels == 1 else 3)
    errors, sizes = [], []
    for quality in (20, 35, 50):
        coded = codec.coded(quality)
        assert coded.pictures.shape == clips.shape
        errors.append(np.square(coded.pictures.astype(float) - clips).mean())
        sizes.append(coded.size)
    assert errors == sorted(errors)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] < best.size


def test_only_what_a_decoder_needs_is_counted_and_it_needs_no_more() -> None:
    clips = waves(3, sides=(18, 14))
    film = np.ascontiguousarray(clips.swapaxes(1, 2)).reshape(12, 1, 18, 14)
    told, units = encode(film, 30)
    assert [unit[0] & 31 for unit in told] == [7, 8]
    kinds = {unit[0] & 31 for of_one in units for unit in of_one}
    assert kinds <= {1, 5}  # pictures alone: the encoder's own description is left out
    assert len(units) == 12
    coded = H264(clips).coded(30)
    assert coded.size == sum(map(len, told)) + sum(len(unit) for of_one in units for unit in of_one)
    # A real file of it, start codes and all, is read by FFmpeg as it stands.
    stream = b"".join(START + unit for unit in [*told, *(unit for of_one in units for unit in of_one)])
    with av.open(io.BytesIO(stream), format="h264") as container:
        read = [frame.to_ndarray()[:18, :14] for frame in container.decode(video=0)]
    np.testing.assert_array_equal(np.stack(read), decode(told, units, 1)[:, 0])
    np.testing.assert_array_equal(np.stack(read).reshape(3, 1, 4, 18, 14), coded.pictures)


def test_units_lie_between_start_codes_of_three_and_of_four_bytes() -> None:
    assert units_of(b"\0\0\0\1ab\0\0\1c\0\0\0\1\0d") == [b"ab", b"c", b"\0d"]


def test_a_still_film_costs_little_more_than_a_frame_and_a_budget_is_kept() -> None:
    still = np.repeat(waves(1, steps=1), 24, axis=2)
    one, many = H264(still[:, :, :1]).coded(20), H264(still).coded(20)
    assert many.size < one.size + 23 * 12
    codec = H264(waves(4))
    for budget in (300, 700, 2000):
        assert codec.within(budget).size <= budget
    assert codec.within(1).size == codec.coded(51).size


def test_small_clips_lie_side_by_side_too() -> None:
    assert set(codecs_of_clips(waves(2))) == {"h264", "h264_mosaic"}
    assert set(codecs_of_clips(waves(1, steps=1, sides=(64, 20)))) == {"h264"}


def test_without_its_library_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"narrows\[video\]"):
        H264(waves(1))


# ── scans and clips as pictures, and their principal components ─────────────────────────────────────────


def test_slices_and_frames_are_pictures_and_back() -> None:
    clips = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 5, 6), dtype=np.uint8)
    flat = planes(clips)
    np.testing.assert_array_equal(flat[4 + 1], clips[1, :, 1])
    np.testing.assert_array_equal(of_planes(flat, clips.shape), clips)
    pictures = clips[:, :, 0]
    assert planes(pictures) is pictures
    assert of_planes(pictures, pictures.shape) is pictures


@pytest.mark.parametrize("shape", [(40, 1, 4, 8, 8), (2, 1, 17, 24, 25), (2, 3, 9, 20, 21)])
def test_pca_reads_clips_whole_or_in_blocks(shape: tuple[int, ...]) -> None:
    count, channels, steps, *sides = shape
    whole = np.prod(shape[1:]) <= 8192
    many = waves(count + 40 if whole else count + 6, channels, steps, (sides[0], sides[1]))
    codec = PCACodec(many[count:], many[:count], seed=0)
    assert codec.pca.n_features_in_ == (np.prod(shape[1:]) if whole else channels * 8**3)
    fine, coarse = codec.within(10**9), codec.within(1)
    assert fine.pictures.shape == shape
    assert coarse.size < 0.2 * fine.size
    errors = [np.square(coded.pictures.astype(float) - many[:count]).mean() for coded in (fine, coarse)]
    assert errors[0] < 0.5 * errors[1]
