"""The compression task: its figures on cases whose answer is known, its classics, and its picture of several runs."""

from __future__ import annotations

import io
import itertools
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from instances import BOTTLENECKS, LIKELIHOODS, SERIES, model
from PIL import Image
from tasks.standins import Rows, context

from narrows.data import Clips
from narrows.data.sources.video import clip_name, frames_of_clip
from narrows.decoders.conv import ConvDecoder
from narrows.encoders.conv import ConvEncoder
from narrows.errors import UserError
from narrows.models.autoencoder import Autoencoder
from narrows.tasks.base import TaskContext
from narrows.tasks.classics.image_codecs import OPTIONS, PCACodec, Pictures, PillowCodec, png_bytes, sheets, unsheeted
from narrows.tasks.compression import Compression, decoder_cost
from narrows.tasks.compression_pictures import curve_of
from narrows.tasks.measures.coded_examples import apart
from narrows.types import Batch, DataSpec

SPEC = DataSpec(shape=(1, 8, 8), kind="image", size=60, value_range=(0.0, 1.0))


def low_rank(count: int, shape: tuple[int, ...] = (1, 8, 8), rank: int = 2, seed: int = 0) -> Pictures:
    """Pictures in a plane: two waves, mixed."""
    source = np.random.default_rng(seed)
    waves = np.sin(np.linspace(0, 9, rank * int(np.prod(shape)))).reshape(rank, *shape)
    mixed = 127 + 60 * np.tensordot(source.uniform(-1, 1, (count, rank)), waves, 1)
    return np.rint(mixed.clip(0, 255)).astype(np.uint8)


def judged(net: Autoencoder, directory: Path | None = None, train: int = 60, test: int = 23) -> TaskContext:
    splits = {
        name: Batch(x=torch.from_numpy(low_rank(n, seed=n)) / 255) for name, n in (("train", train), ("test", test))
    }
    found = context(net, Rows(splits, batch_size=10, kind="image", value_range=(0.0, 1.0)))
    found.directory = directory
    return found


def network(name: str = "entropy") -> Autoencoder:
    torch.manual_seed(0)
    return model(SPEC, bottleneck=BOTTLENECKS[name]).eval()


@pytest.mark.parametrize("name", ["entropy", "scale_hyperprior", "residual_vq"])
def test_its_figures_are_those_of_a_file(name: str, tmp_path: Path) -> None:
    net = network(name)
    found = Compression(factors=[0.25]).run(judged(net, tmp_path)).named()
    assert set(Compression.figures) <= found.keys()
    bytes_ = 23 * found["test/compression/bytes_per_example"]
    assert bytes_ == pytest.approx(round(bytes_))
    assert found["test/compression/bpp"] == pytest.approx(8 * bytes_ / (23 * 64))
    assert 0 < found["test/compression/entropy_bpp"] < found["test/compression/bpp"]
    assert found["test/compression/bpp_stderr"] > 0
    side = found.get("test/compression/side_bpp")
    assert (side is not None) == (name == "scale_hyperprior")
    assert side is None or 0 < side < found["test/compression/entropy_bpp"]
    assert found["test/compression/png/bpp"] == pytest.approx(8 * png_bytes(low_rank(23, seed=23)) / (23 * 64))
    stems = {path.stem for path in (tmp_path / "coding").iterdir()}
    if name == "residual_vq":
        assert stems == {"codes"}
        x = torch.from_numpy(low_rank(23, seed=23)) / 255
        errors = ((net.reconstruct(x) * 255).round() / 255 - x).square().flatten(1).mean(1)
        assert found["test/compression/psnr"] == pytest.approx(float((-10 * errors.log10()).mean()), rel=1e-5)
        assert found["test/compression/mse"] == pytest.approx(float(errors.mean()), rel=1e-5)
    else:
        assert stems == {"step_1.0", "step_0.25"}
        assert found["test/compression/step_0.25/bpp"] > found["test/compression/bpp"]
        assert found["test/compression/step_0.25/jpeg/psnr"] > 0
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "compression_curve.png",
        "compression_examples.png",
    }
    assert all(np.isfinite(list(found.values())))


def test_the_same_question_has_the_same_answer_and_an_untrained_model_is_warned_of() -> None:
    one, two = judged(network()), judged(network())
    assert Compression().run(one).named() == Compression().run(two).named()
    assert "WORSE THAN PREDICTING THE TRAINING MEAN" in one.warnings[0]


def test_only_the_first_examples_are_compressed() -> None:
    few = Compression(max_examples=7, factors=[]).run(judged(network())).named()
    alone = Compression(factors=[]).run(judged(network(), test=23)).named()
    assert few["test/compression/bytes_per_example"] > alone["test/compression/bytes_per_example"]
    assert few["test/compression/png/bpp"] == 8 * png_bytes(low_rank(23, seed=23)[:7]) / (7 * 64)


def test_what_the_receiver_must_have() -> None:
    net = model(SPEC, bottleneck=BOTTLENECKS["gaussian"], likelihood=LIKELIHOODS["gaussian_shared"])
    cost = decoder_cost(net)
    widths = [5, 16, 64]
    weights = sum(a * b for a, b in itertools.pairwise(widths))
    assert cost["decoder_macs_per_pixel"] == weights / 64
    assert cost["decoder_parameters"] == weights + 16 + 64 + 1
    assert cost["decoder_bytes"] == 4 * (weights + 16 + 64 + 1)
    with_codes = decoder_cost(network("vq"))
    assert with_codes["decoder_parameters"] > cost["decoder_parameters"] + 7 * 5 - 1
    conv = model(
        SPEC,
        bottleneck=BOTTLENECKS["gaussian"],
        encoder=partial(ConvEncoder, channels=[3], flatten=False),
        decoder=partial(ConvDecoder, channels=[3]),
    )
    # 5 to 3 channels at 4 x 4, and 3 to 1 from 4 x 4 to 8 x 8, all of 3 x 3.
    assert decoder_cost(conv)["decoder_macs_per_pixel"] == (5 * 3 * 9 * 16 + 3 * 9 * 16) / 64


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (model(SERIES, likelihood=LIKELIHOODS["gaussian_fixed"]), "bits per pixel are of grey or colour pictures"),
        (model(DataSpec(shape=(1, 8, 8), kind="image", size=9), likelihood=LIKELIHOODS["gaussian_fixed"]), r"\[0, 1\]"),
    ],
)
def test_what_it_cannot_judge_has_a_reason(net: Autoencoder, reason: str) -> None:
    import re

    assert re.search(reason, Compression().fits(net.spec, net) or "")
    assert Compression().fits(SPEC, network()) is None


@pytest.mark.parametrize("options", [{"step": 0.0}, {"factors": [1.0]}, {"factors": [-1.0]}, {"max_examples": 0}])
def test_senseless_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"task compression: \w+ must be"):
        Compression(**options)
    with pytest.raises(UserError, match="codes already"):
        Compression(step=0.5).run(judged(network("fsq")))


def test_every_frame_of_a_film_is_coded_once() -> None:
    names = [clip_name("a:b.gif", start, Clips(4, 1)) for start in range(9)] + [clip_name("c", 2, Clips(4))]
    assert apart(names) == [0, 4, 8, 9]
    assert apart(["one", "two"]) == [0, 1]
    assert frames_of_clip("a:b.gif:10-13") == ("a:b.gif", 10, 13)
    assert frames_of_clip("a.gif") is None


# ── the classics ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shape", [(7, 1, 5, 6), (9, 3, 4, 4), (1, 1, 2, 2), (3, 3, 64, 40)])
def test_a_mosaic_is_one_file_and_gives_the_pictures_back(shape: tuple[int, ...]) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = sheets(pictures)
    assert len(found) == (3 if shape[2] == 64 else 1)
    np.testing.assert_array_equal(unsheeted(np.stack(found), shape), pictures)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("shape", [(30, 1, 16, 16), (2, 3, 64, 72)])
def test_a_classic_is_as_good_as_the_bytes_allow(name: str, shape: tuple[int, ...]) -> None:
    smooth = np.random.default_rng(0).normal(size=shape).cumsum(2).cumsum(3)
    pictures = np.rint(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    codec = PillowCodec(name, pictures)
    every = [codec.coded(setting) for setting in codec.settings[:: len(codec.settings) // 12]]
    for budget in (every[3].size, every[6].size + 1, every[-1].size):
        best = codec.within(budget)
        allowed = max((coded for coded in every if coded.size <= budget), key=lambda coded: coded.size)
        assert best.size <= budget
        assert best.size >= 0.95 * allowed.size
        errors = [np.square(coded.pictures.astype(float) - pictures).mean() for coded in (best, allowed)]
        assert errors[0] <= 1.1 * errors[1] + 0.1
    assert codec.within(1).size == min(coded.size for coded in every)


def test_jpeg_is_pillow_s_own() -> None:
    pictures = low_rank(2, (1, 64, 64))
    file = io.BytesIO()
    Image.fromarray(pictures[0, 0]).save(file, format="JPEG", quality=37, optimize=True)
    one = PillowCodec("jpeg", pictures[:1]).coded(37)
    assert one.size == len(file.getvalue())
    np.testing.assert_array_equal(one.pictures[0, 0], np.array(Image.open(file)))
    assert PillowCodec("jpeg", pictures).coded(37).size > one.size


@pytest.mark.parametrize("shape", [(40, 1, 8, 8), (4, 3, 68, 70)])
def test_pca_codes_what_varies_and_nothing_else(shape: tuple[int, ...]) -> None:
    pictures = low_rank(shape[0], shape[1:], seed=1)
    codec = PCACodec(low_rank(60 if shape[2] == 8 else 6, shape[1:]), pictures, seed=0)
    fine, coarse = codec.within(10**9), codec.within(1)
    assert np.abs(fine.pictures.astype(int) - pictures).max() <= 1
    assert coarse.size < 0.2 * fine.size
    assert coarse.pictures.shape == fine.pictures.shape == shape


# ── several runs ────────────────────────────────────────────────────────────────────────────────────────


def recorded(run: Path, rate: float, data: str) -> Path:
    """A run that was judged: three steps, of which a classic has each too."""
    figures = {}
    for step, factor in (("", 1.0), ("/step_2", 0.5), ("/step_0.5", 2.0)):
        for codec in ("", "/jpeg", "/pca"):
            prefix = f"test/compression{step}{codec}"
            figures |= {f"{prefix}/bpp": rate * factor, f"{prefix}/psnr": 20 + 6 * rate * factor + len(codec)}
    (run / "tasks").mkdir(parents=True)
    record = {"figures": figures, "data": data, "options": {"max_examples": 1000}}
    (run / "tasks" / "compression.json").write_text(json.dumps(record))
    return run


def test_the_curves_of_several_runs_are_one_picture(tmp_path: Path) -> None:
    one, two = recorded(tmp_path / "one", 0.1, "digits"), recorded(tmp_path / "two", 0.4, "digits")
    figures = json.loads((one / "tasks" / "compression.json").read_text())["figures"]
    assert curve_of(figures) == [(0.05, pytest.approx(20.3)), (0.1, pytest.approx(20.6)), (0.2, pytest.approx(21.2))]
    path = Compression().across([one, two])
    assert path == one / "figures" / "compression_runs.png"
    with Image.open(path) as image:
        assert image.width > 600
    assert Compression().across([one, recorded(tmp_path / "three", 0.2, "photographs")]) is None
