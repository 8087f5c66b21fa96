"""`narrows compress` and `decompress` on real runs: what comes back, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from command import NO_TASKS, TINY, run_in_process
from numpy.typing import NDArray

import narrows
from narrows import compress, decompress
from narrows.coding.codec import Codec, rounded
from narrows.coding.packing import unpacked

SMALL = (*TINY, *NO_TASKS, "logger=csv", "hydra.run.dir=run")
CONV = ("encoder=conv", "decoder=conv", "encoder.channels=[4]", "decoder.channels=[4]", "encoder.flatten=false")
MLP = ("encoder.widths=[16]", "decoder.widths=[16]")
RUNS: dict[str, tuple[str, ...]] = {
    "vector": ("variant=undercomplete", "bottleneck.dim=4", *MLP),
    "noise": ("bottleneck=uniform_noise", "loss=elbo", "bottleneck.dim=3", *CONV),
    "vq": ("variant=vq_vae", "bottleneck.codes=8", *CONV),
    "vq_vae_2": (
        "variant=vq_vae_2",
        "bottleneck.codes=8",
        "bottleneck.dim=4",
        "encoder.channels=[4]",
        "decoder.channels=[4]",
    ),
    "residual_vq": ("variant=residual_vq", "bottleneck.codes=8", *MLP),
    "product_vq": ("variant=product_vq", "bottleneck.codes=8", *MLP),
    "fsq": ("variant=fsq", *CONV),
    "lfq": ("variant=lfq", *MLP),
    "gumbel_vq": ("variant=gumbel_vq", "bottleneck.codes=8", *MLP),
    "vae": ("variant=vae", "bottleneck.dim=4", *MLP),
}
"""A latent of every kind, and what it is trained with."""


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    @cache
    def trained(name: str) -> Path:
        folder: Path = tmp_path_factory.mktemp(name)
        done = run_in_process(*SMALL, *RUNS[name], cwd=folder)
        assert done.code == 0, done.err
        return folder / "run"

    return trained


def pictures(count: int = 37, side: int = 8, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side), dtype=np.uint8)


@pytest.mark.parametrize("name", RUNS)
def test_codes_come_back_to_the_number_and_pictures_as_the_model_rebuilds_them(
    name: str, run_of: Callable[[str], Path], tmp_path: Path
) -> None:
    run = run_of(name)
    np.save(tmp_path / "in.npy", pictures())
    compress.main([str(tmp_path / "in.npy"), str(tmp_path / "in.nrwz"), "--run", str(run)])
    shutil.move(run / "metrics.csv", tmp_path)  # decompression needs the weights and the tables alone
    decompress.main([str(tmp_path / "in.nrwz"), str(tmp_path / "out.npy"), "--run", str(run)])
    shutil.move(tmp_path / "metrics.csv", run)
    codec = Codec(narrows.load(run))
    x = torch.from_numpy(pictures())[:, None] / 255
    header, _, streams = unpacked(codec, run / "coding", (tmp_path / "in.nrwz").read_bytes(), "in.nrwz")
    for found, wanted in zip(streams, rounded(codec.sources(x), header.step), strict=True):
        np.testing.assert_array_equal(found, wanted)
    back = np.load(tmp_path / "out.npy")
    assert (back.dtype, back.shape) == (np.uint8, (37, 8, 8))
    if header.step is None:
        np.testing.assert_array_equal(back, (codec.model.reconstruct(x)[:, 0] * 255).clamp(0, 255).round().numpy())
