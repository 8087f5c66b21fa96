"""MS-SSIM, against torchmetrics."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from instances import BOTTLENECKS, IMAGE, LIKELIHOODS, SERIES, batch, model
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as reference
from torchmetrics.functional.image import structural_similarity_index_measure as reference_ssim

from narrows.errors import UserError
from narrows.losses.similarity import MultiScaleSSIM, scales_of, structure
from narrows.models.autoencoder import Autoencoder
from narrows.tasks.measures.reconstruction_errors import example_ms_ssim, example_ssim
from narrows.types import Batch, DataSpec, Output


def spec_of(*shape: int, value_range: tuple[float, float] | None = (0.0, 1.0)) -> DataSpec:
    return DataSpec(shape=shape, kind="image", size=10, value_range=value_range)


def attached(spec: DataSpec, window: int = 11) -> tuple[MultiScaleSSIM, Autoencoder]:
    net = model(spec, bottleneck=BOTTLENECKS["deterministic"], likelihood=LIKELIHOODS["gaussian_fixed"])
    term = MultiScaleSSIM(window=window)
    term.attach(net)
    return term, net


def compared(term: MultiScaleSSIM, net: Autoencoder, x: Tensor, mean: Tensor) -> Tensor:
    p_x = torch.distributions.Normal(mean, torch.ones(()))
    out = Output(batch=Batch(x), seen=Batch(x), latent=None, p_x=p_x)  # type: ignore[arg-type]
    return term(out, net)


def pictures(n: int, *shape: int) -> tuple[Tensor, Tensor]:
    """Smooth ones and noisy copies, so that no factor is negative."""
    coarse = torch.rand(n, shape[0], 5, 5)
    x = torch.nn.functional.interpolate(coarse, size=shape[1:], mode="bicubic").clamp(0, 1)
    return x, (x + torch.linspace(0.02, 0.3, n)[:, None, None, None] * torch.randn_like(x)).clamp(0, 1)


@pytest.mark.parametrize("span", [1.0, 2.0])
def test_it_is_torchmetrics_on_five_scales(span: float) -> None:
    term, net = attached(spec_of(3, 256, 256, value_range=(-span / 2, span / 2)))
    x, y = (span * image - span / 2 for image in pictures(3, 3, 256, 256))
    expected = reference(y, x, data_range=span, reduction="none", normalize=None)
    torch.testing.assert_close(compared(term, net, x, y), 1 - expected, rtol=1e-4, atol=1e-5)


def test_one_scale_is_ssim() -> None:
    term, net = attached(spec_of(1, 8, 8))
    x, y = pictures(5, 1, 8, 8)
    expected = reference_ssim(y, x, data_range=1.0, reduction="none")
    torch.testing.assert_close(compared(term, net, x, y), 1 - expected, rtol=1e-4, atol=1e-5)


def test_fewer_scales_share_the_exponents() -> None:
    term, net = attached(spec_of(1, 28, 28))
    x, y = pictures(4, 1, 28, 28)
    found = compared(term, net, x, y)
    betas = torch.tensor([0.0448, 0.2856, 0.3001]) / (0.0448 + 0.2856 + 0.3001)
    expected = torch.ones(4)
    for scale in range(3):
        whole, contrast = structure(x, y, 1.0, 11)
        expected = expected * (contrast if scale < 2 else whole) ** betas[scale]
        x, y = (image[..., : image.shape[2] // 2 * 2, : image.shape[3] // 2 * 2] for image in (x, y))
        x, y = (image.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean((3, 5)) for image in (x, y))
    torch.testing.assert_close(found, 1 - expected)


@pytest.mark.parametrize("side", [11, 12, 22, 28, 32, 64, 96, 176])
def test_the_figure_is_the_loss_s_own(side: int) -> None:
    term, net = attached(spec_of(1, side, side))
    x, y = pictures(3, 1, side, side)
    torch.testing.assert_close(example_ms_ssim(y, x, 1.0), 1 - compared(term, net, x, y).double())
    expected = reference_ssim(y, x, data_range=1.0, reduction="none").double()
    torch.testing.assert_close(example_ssim(y, x, 1.0), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("side", "scales"), [(6, 1), (8, 1), (12, 2), (28, 3), (32, 3), (64, 4), (176, 5), (999, 5)])
def test_scales_are_those_that_fit(side: int, scales: int) -> None:
    assert scales_of(side, 11) == scales


def test_equal_pictures_cost_nothing_and_unlike_ones_up_to_one() -> None:
    term, net = attached(spec_of(2, 20, 20))
    x, y = (image[:1].expand(6, -1, -1, -1) for image in pictures(1, 2, 20, 20))
    y = (x + torch.linspace(0.02, 0.5, 6)[:, None, None, None] * torch.randn(2, 20, 20)).clamp(0, 1)
    assert float(compared(term, net, x, x).abs().max()) < 1e-5
    costs = compared(term, net, x, y)
    assert (costs.diff() > 0).all(), "more noise costs more"
    opposite = compared(term, net, x, 1 - x)
    assert ((opposite > costs) & (opposite <= 1)).all()


def test_the_gradient_is_that_of_finite_differences() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        x, y = (image.double()[:1] for image in pictures(2, 1, 13, 12))
        y.requires_grad_()

        def value(y: Tensor) -> Tensor:
            whole, contrast = structure(x, y, 1.0, 11)
            return whole * contrast.clamp_min(1e-6) ** 0.3

        assert torch.autograd.gradcheck(value, y, eps=1e-6, atol=1e-6)
    finally:
        torch.set_default_dtype(torch.float32)


def test_anticorrelated_pictures_have_finite_gradients() -> None:
    term, net = attached(spec_of(1, 28, 28))
    x, _ = pictures(3, 1, 28, 28)
    mean = (1 - x).requires_grad_()
    compared(term, net, x, mean).sum().backward()
    assert torch.isfinite(mean.grad).all()


def test_it_does_not_depend_on_the_batch() -> None:
    term, net = attached(spec_of(1, 28, 28))
    x, y = pictures(5, 1, 28, 28)
    alone = torch.cat([compared(term, net, x[i : i + 1], y[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(compared(term, net, x, y), alone, rtol=1e-5, atol=1e-6)


def test_missing_values_are_not_compared() -> None:
    term, net = attached(IMAGE)
    data = batch()
    data.observed = torch.rand_like(data.x) > 0.3
    out = net(data)
    filled = replace(out, batch=replace(data, x=torch.where(data.observed, data.x, torch.tensor(0.7))))
    torch.testing.assert_close(term(out, net), term(filled, net))


@pytest.mark.parametrize(
    ("spec", "window", "sentence"),
    [
        (SERIES, 11, r"compares images \(C, H, W\), but the data are a series of shape \[2, 12\]"),
        (spec_of(1, 8, 8), 17, "a window of 17 needs images of at least 9 pixels a side, not 8 x 8"),
        (spec_of(1, 8, 8, value_range=None), 11, "needs data with a smallest and a largest value"),
    ],
)
def test_it_refuses_other_data(spec: DataSpec, window: int, sentence: str) -> None:
    term = MultiScaleSSIM(window=window)
    with pytest.raises(UserError, match=sentence):
        term.attach(model(spec, likelihood=LIKELIHOODS["gaussian_fixed"]))


@pytest.mark.parametrize("window", [2, 1, 10])
def test_it_refuses_a_window_without_a_middle(window: int) -> None:
    with pytest.raises(UserError, match="term msssim: window must be odd and at least 3"):
        MultiScaleSSIM(window=window)
