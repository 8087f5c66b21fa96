"""Convolutions in three dimensions beside those in two, and what is judged of slices and frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from narrows.corruptions import Block
from narrows.data.array_kinds import resolve
from narrows.decoders import ConvDecoder
from narrows.drawing.canvas import FEW, SLICES, side_by_side
from narrows.encoders import ConvEncoder
from narrows.errors import UserError
from narrows.tasks.classics.frame_methods import previous_frame
from narrows.tasks.classics.imputers import Known
from narrows.tasks.measures.imputation_cases import patterns
from narrows.tasks.measures.reconstruction_errors import example_psnr, example_ssim, frame_psnr
from narrows.types import Batch, DataSpec

VIDEO = DataSpec((2, 8, 12, 14), "video", 5, value_range=(0.0, 1.0))


def thin(deep: nn.Module, flat: nn.Module) -> None:
    """Give every convolution of `deep` the kernel of `flat` in the middle of its depth, and zeros beside it."""
    for (_, kernel), (name, wanted) in zip(deep.named_parameters(), flat.named_parameters(), strict=True):
        with torch.no_grad():
            if kernel.ndim != 5:
                kernel.copy_(wanted)
                continue
            kernel.zero_()
            kernel[:, :, kernel.shape[2] // 2] = wanted
            assert "weight" in name


def test_kernels_of_depth_one_see_each_slice_alone() -> None:
    torch.manual_seed(0)
    deep = ConvEncoder((2, 8, 12, 14), channels=[3, 4], flatten=False)
    flat = ConvEncoder((2, 12, 14), channels=[3, 4], flatten=False)
    thin(deep, flat)
    x = torch.rand(5, 2, 8, 12, 14)
    found = deep(x)
    assert found.shape[1:] == deep.out_shape == (4, 2, 3, 4)
    for place in range(2):  # strides of two keep every fourth slice
        torch.testing.assert_close(found[:, :, place], flat(x[:, :, 4 * place]))


def test_a_doubling_writes_each_slice_alone() -> None:
    torch.manual_seed(0)
    deep = ConvDecoder((3, 4, 6, 7), (2, 8, 12, 14), channels=[3], activation="identity")
    flat = ConvDecoder((3, 6, 7), (2, 12, 14), channels=[3], activation="identity")
    thin(deep, flat)
    z = torch.rand(5, 3, 4, 6, 7)
    found = deep(z)
    assert found.shape[1:] == (2, 8, 12, 14)
    for place in range(4):
        torch.testing.assert_close(found[:, :, 2 * place], flat(z[:, :, place]))


@pytest.mark.parametrize("downsample", ["strided", "maxpool"])
def test_any_sides_come_back(downsample: str) -> None:
    shape = (1, 5, 9, 12)
    encoder = ConvEncoder(shape, channels=[4, 4], downsample=downsample)
    decoder = ConvDecoder((7,), (2, *shape[1:]), channels=[4, 4], upsample="nearest", norm="group")
    assert encoder(torch.rand(3, *shape)).shape[1:] == encoder.out_shape
    assert decoder(torch.rand(3, 7)).shape[1:] == (2, *shape[1:])


def test_a_shape_of_five_axes_is_refused() -> None:
    with pytest.raises(UserError, match=r"volumes \(C, D, H, W\)"):
        ConvEncoder((1, 4, 4, 4, 4), channels=[4])


def test_arrays_of_five_axes_say_what_they_are() -> None:
    x = np.zeros((6, 1, 4, 8, 8), np.uint8)
    with pytest.raises(UserError, match=r"source\.kind to volume or video"):
        resolve("auto", x, None, "array 'x'")
    assert resolve("video", x, None, "array 'x'") == "video"
    with pytest.raises(UserError, match="but image data must be"):
        resolve("image", x, None, "array 'x'")


def test_structure_and_decibels_are_means_over_frames() -> None:
    torch.manual_seed(0)
    truth = torch.rand(3, *VIDEO.shape)
    guess = truth + 0.1 * torch.randn_like(truth) * torch.linspace(0.2, 2, 8)[:, None, None]
    frames = [(guess[:, :, t], truth[:, :, t]) for t in range(8)]
    of_each = torch.stack([example_ssim(*pair, 1.0) for pair in frames])
    torch.testing.assert_close(example_ssim(guess, truth, 1.0), of_each.mean(0))
    decibels = torch.stack([example_psnr(*pair, 1.0) for pair in frames]).double()
    torch.testing.assert_close(frame_psnr(guess, truth, 1.0), decibels.mean(0), rtol=1e-5, atol=1e-5)
    # The mean of logarithms is at least the logarithm of the mean.
    assert (frame_psnr(guess, truth, 1.0) > example_psnr(guess, truth, 1.0).double()).all()


def test_the_last_frames_alone_are_hidden() -> None:
    ((name, hide, fixed),) = patterns(VIDEO, (), {"end": [0.25]})
    hidden = hide(torch.rand(3, *VIDEO.shape))
    assert (name, fixed) == ("end_0.25", True)
    assert hidden[:, :, 6:].all()
    assert not hidden[:, :, :6].any()


def test_the_frame_before_fills_what_is_hidden() -> None:
    torch.manual_seed(0)
    x = torch.rand(3, *VIDEO.shape).double()
    gone = torch.zeros_like(x, dtype=torch.bool)
    gone[0, :, 6:] = gone[1, :, 0] = gone[2, 0, 3, 4, 5] = True
    rows = torch.where(gone, torch.nan, x).flatten(1).numpy()
    known = Known(np.zeros((2, rows.shape[1])), np.zeros((2, rows.shape[1])), 0)
    found = torch.from_numpy(previous_frame(VIDEO.shape, known, rows)).reshape(x.shape)
    wanted = x.clone()
    wanted[0, :, 6:] = x[0, :, 5:6]
    wanted[1, :, 0] = x[1, :, 1]
    wanted[2, 0, 3, 4, 5] = x[2, 0, 2, 4, 5]
    torch.testing.assert_close(found, wanted)
    never = np.full((1, rows.shape[1]), np.nan)
    assert (previous_frame(VIDEO.shape, known, never) == 0).all()


def test_a_block_lies_in_all_three_dimensions() -> None:
    hidden: Tensor | None = Block(VIDEO, size=0.5, place="centre")(Batch(torch.rand(2, *VIDEO.shape)))[1]
    assert hidden is not None
    assert hidden.float().mean() == pytest.approx(0.5**3)
    assert hidden[:, :, 2:6, 3:9, 3:10].all()


def test_a_block_at_the_end_is_the_last_frames() -> None:
    x = torch.rand(2, *VIDEO.shape)
    x_in, hidden = Block(VIDEO, size=0.25, place="end")(Batch(x))
    assert hidden is not None
    assert torch.equal(hidden, patterns_hidden(x))
    assert torch.equal(x_in[:, :, :6], x[:, :, :6])
    steps = Block(DataSpec((2, 9), "series", 5), size=0.3, place="end")(Batch(torch.rand(2, 2, 9)))[1]
    assert steps is not None
    assert steps[0, 0].tolist() == [False] * 6 + [True] * 3


def patterns_hidden(x: Tensor) -> Tensor:
    """What task imputation hides of the last quarter."""
    ((_, hide, _),) = patterns(VIDEO, (), {"end": [0.25]})
    return hide(x)


def test_a_picture_of_a_volume_is_a_strip_of_its_slices() -> None:
    deep = np.arange(3 * 40, dtype=float).reshape(3, 1, 40, 1, 1) * np.ones((1, 1, 1, 4, 5))
    found = side_by_side(deep)
    assert found.shape == (FEW, 1, 4, 5 * SLICES)
    assert found[0, 0, 0, ::5].tolist() == [2, 7, 12, 17, 22, 27, 32, 37]  # the middles of eight parts of five slices
    assert side_by_side(deep[:, :, :6]).shape[-1] == 30
