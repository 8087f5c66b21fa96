"""Centred kernel alignment: its laws, and against HSIC written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from narrows.tasks.measures.alignment import linear_cka


def codes(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_rotations_scales_and_shifts_change_nothing() -> None:
    x = codes(200, 5) * torch.tensor([1.0, 2.0, 3.0, 0.5, 0.1])
    rotation = torch.linalg.qr(codes(5, 5, 1)).Q
    assert linear_cka(x, x) == pytest.approx(1)
    assert linear_cka(x, 7 * x @ rotation + 3) == pytest.approx(1)
    y = codes(200, 3, 2)
    assert linear_cka(x, y) == pytest.approx(linear_cka(y, x @ rotation))


def test_independent_latents_have_nothing_in_common_however_wide() -> None:
    found = [linear_cka(codes(60, 100, seed), codes(60, 100, 1000 + seed)) for seed in range(40)]
    # The usual, biased estimate is about 0.6 here.
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(40) + 0.01


def test_half_a_shared_latent_lies_between() -> None:
    x, y = codes(500, 4), codes(500, 4, 1)
    half = torch.cat([x[:, :2], y[:, :2]], 1)
    assert linear_cka(x, half) == pytest.approx(0.5, abs=0.06)


def test_hsic_is_the_mean_over_quadruples() -> None:
    x, y = codes(7, 2), codes(7, 3, 1)
    k, m = x @ x.T, y @ y.T

    def hsic(a: torch.Tensor, b: torch.Tensor) -> float:
        total, number = 0.0, 0
        for i, j, q, r in itertools.permutations(range(7), 4):
            total += float(a[i, j] * (b[i, j] + b[q, r] - 2 * b[i, q]))
            number += 1
        return total / number

    expected = hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))
    assert linear_cka(x, y) == pytest.approx(expected)


def test_what_has_no_alignment_is_nan() -> None:
    assert np.isnan(linear_cka(codes(3, 2), codes(3, 2)))
    assert np.isnan(linear_cka(torch.ones(10, 2), codes(10, 2)))
