"""A model of every kind of latent as a codec; sizes, tables, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from instances import BOTTLENECKS, IMAGE, LIKELIHOODS, MAP_BOTTLENECKS, SERIES, batch, model
from tasks.standins import Rows

from narrows.coding import example_files
from narrows.coding.ans_entropy_coder import Table
from narrows.coding.coding_tables import Fitted, Tables, file_of, load_tables
from narrows.coding.example_files import Examples
from narrows.coding.model_codec import Codec, fingerprint, rounded
from narrows.coding.nrwz_file import pack, unpack
from narrows.coding.packing import find_tables, pack_examples, quantise, rebuild_examples, unpack_examples
from narrows.decoders.conv import ConvDecoder
from narrows.decoders.unet import UNetDecoder
from narrows.encoders.conv import ConvEncoder
from narrows.errors import UserError
from narrows.models.autoencoder import Autoencoder
from narrows.types import DataSpec, QuantizedLatent

CONV = {
    "encoder": partial(ConvEncoder, channels=[3, 4], flatten=False),
    "decoder": partial(ConvDecoder, channels=[4, 3]),
}
ARRAY = {"kind": "npy", "shape": [1, 8, 8], "dtype": "float32", "channel": True}
PHOTO = DataSpec(shape=(3, 16, 24), kind="image", size=20, value_range=(0.0, 1.0))


def network(name: str, **stages: Any) -> Autoencoder:
    torch.manual_seed(0)
    if name in MAP_BOTTLENECKS:
        return model(bottleneck=MAP_BOTTLENECKS[name], **CONV | stages).eval()
    return model(bottleneck=BOTTLENECKS[name], **stages).eval()


def photographs(name: str) -> Autoencoder:
    return network(name, spec=PHOTO, **CONV)


def fitted(net: Autoencoder, folder: Path | None = None) -> Fitted:
    data = Rows({"train": batch(net.spec, net.spec.size)}, batch_size=7, kind=net.spec.kind)
    return Fitted(Codec(net), folder, lambda: data)  # type: ignore[arg-type, return-value]


def compressed(codec: Codec, tables: Tables, examples: Examples) -> bytes:
    return pack_examples(tables, quantise(codec, examples, tables.step), examples)


def examples_of(*groups: torch.Tensor) -> Examples:
    shapes = [list(picture.shape) for group in groups for picture in group]
    return Examples({"kind": "folder", "names": [f"{i}.png" for i in range(len(shapes))], "shapes": shapes}, [*groups])


@pytest.mark.parametrize("name", [*BOTTLENECKS, *MAP_BOTTLENECKS])
def test_the_numbers_come_back_and_the_latent_is_what_the_decoder_reads(name: str) -> None:
    net = network(name)
    fit = fitted(net)
    tables = fit.tables(fit.step())
    examples = Examples(ARRAY, [batch(n=9).x])
    header, streams = unpack_examples(fit.codec, tables, compressed(fit.codec, tables, examples), "f")
    for found, sent in zip(streams, quantise(fit.codec, examples, tables.step), strict=True):
        np.testing.assert_array_equal(found, sent)
    (back,) = rebuild_examples(fit.codec, header, streams)
    with torch.no_grad():
        latent = net.encode(examples.groups[0])
        discrete = isinstance(latent, QuantizedLatent)
        assert (tables.step is None) == discrete
        z = latent.point if discrete else (latent.point.double() / tables.step).round() * tables.step
        torch.testing.assert_close(back, net.decode(z.float()).mean, rtol=1e-5, atol=1e-5)


def test_a_series_is_coded_like_a_picture() -> None:
    net = network("gaussian", spec=SERIES, likelihood=LIKELIHOODS["gaussian_fixed"])
    fit = fitted(net)
    x = batch(SERIES, 4).x
    header, streams = unpack_examples(
        fit.codec,
        fit.tables(0.01),
        compressed(fit.codec, fit.tables(0.01), Examples(ARRAY | {"shape": [2, 12]}, [x])),
        "f",
    )
    with torch.no_grad():
        torch.testing.assert_close(
            rebuild_examples(fit.codec, header, streams)[0], net.reconstruct(x), rtol=0, atol=0.02
        )


@pytest.mark.parametrize("name", ["entropy", "scale_hyperprior", "fsq", "product_vq"])
def test_pictures_of_any_size_are_padded_and_cropped_where_all_is_convolution(name: str) -> None:
    net = photographs(name)
    fit = fitted(net)
    tables = fit.tables(fit.step())
    sizes = [(16, 24), (16, 24), (1, 1), (5, 31), (40, 40)]
    pictures = [torch.rand(3, *size) for size in sizes]
    examples = examples_of(torch.stack(pictures[:2]), *(picture[None] for picture in pictures[2:]))
    header, streams = unpack_examples(fit.codec, tables, compressed(fit.codec, tables, examples), "f")
    back = [picture for group in rebuild_examples(fit.codec, header, streams) for picture in group]
    assert [tuple(picture.shape[1:]) for picture in back] == sizes
    for picture, found in zip(pictures, back, strict=True):
        alone = examples_of(picture[None])
        header, streams = unpack_examples(fit.codec, tables, compressed(fit.codec, tables, alone), "f")
        torch.testing.assert_close(rebuild_examples(fit.codec, header, streams)[0][0], found)
    height, width = sizes[3]
    padded = torch.nn.functional.pad(pictures[3][None], (0, 1, 0, 3), mode="replicate")
    if tables.step is None:
        with torch.no_grad():
            expected = net.reconstruct(padded)[0, :, :height, :width]
        torch.testing.assert_close(back[3], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["volume", "video"])
@pytest.mark.parametrize("name", ["entropy", "fsq"])
def test_volumes_and_clips_of_any_size_are_padded_and_cropped_where_all_is_convolution(name: str, kind: Any) -> None:
    spec = DataSpec(shape=(1, 4, 8, 12), kind=kind, size=20, value_range=(0.0, 1.0))
    net = network(name, spec=spec, **CONV)
    fit = fitted(net)
    tables = fit.tables(fit.step())
    sizes = [(4, 8, 12), (5, 8, 12), (1, 1, 1), (9, 3, 14)]
    parts = [torch.rand(2, 1, *size) for size in sizes]
    for x, size in zip(parts, sizes, strict=True):
        examples = Examples(ARRAY | {"shape": [1, *size]}, [x])
        header, streams = unpack_examples(fit.codec, tables, compressed(fit.codec, tables, examples), "f")
        for found, sent in zip(streams, quantise(fit.codec, examples, tables.step), strict=True):
            np.testing.assert_array_equal(found, sent)
        (back,) = rebuild_examples(fit.codec, header, streams)
        ends = [end for side in reversed(size) for end in (0, -side % 4)]
        padded = torch.nn.functional.pad(x, ends, mode="replicate")
        with torch.no_grad():
            latent = net.encode(padded)
            z = latent.point if tables.step is None else (latent.point.double() / tables.step).round() * tables.step
            depth, height, width = size
            wanted = net.point_at(z.float())[:, :, :depth, :height, :width]
        torch.testing.assert_close(back, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "stages",
    [
        {},
        {"encoder": partial(ConvEncoder, channels=[3]), "decoder": partial(ConvDecoder, channels=[3])},
        {"encoder": CONV["encoder"], "decoder": partial(UNetDecoder, channels=[4, 3])},
    ],
)
def test_other_sizes_are_refused_where_a_stage_has_a_size(stages: dict[str, Any]) -> None:
    codec = Codec(network("fsq", spec=PHOTO, **stages))
    with pytest.raises(UserError, match=r"shape 3 x 16 x 25 do not fit a model of 3 x 16 x 24"):
        codec.sources(torch.rand(1, 3, 16, 25))
    with pytest.raises(UserError, match=r"shape 1 x 16 x 24 do not fit a model of 3-channel pictures of any size"):
        Codec(photographs("fsq")).sources(torch.rand(1, 1, 16, 24))
    volume = network("fsq", spec=DataSpec((1, 4, 8, 12), "volume", 20, value_range=(0.0, 1.0)), **CONV)
    with pytest.raises(UserError, match="do not fit a model of 1-channel volumes and clips of any size"):
        Codec(volume).sources(torch.rand(1, 2, 4, 8, 12))


def test_a_decoder_that_repeats_values_takes_other_sizes_too_where_its_own_is_even() -> None:
    net = network("fsq", spec=PHOTO, **CONV | {"decoder": partial(ConvDecoder, channels=[4, 3], upsample="nearest")})
    assert len(Codec(net).sources(torch.rand(1, 3, 17, 25))[0]) == 5 * 7
    odd = replace(PHOTO, shape=(3, 18, 24))
    net = network("fsq", spec=odd, **CONV | {"decoder": partial(ConvDecoder, channels=[4, 3], upsample="nearest")})
    with pytest.raises(UserError, match=r"shape 3 x 17 x 25 do not fit a model of 3 x 18 x 24"):
        Codec(net).sources(torch.rand(1, 3, 17, 25))


def test_a_finer_step_costs_more_and_loses_less() -> None:
    fit, examples = fitted(network("deterministic")), Examples(ARRAY, [batch(n=300).x])
    with torch.no_grad():
        exact = fit.codec.model.reconstruct(examples.groups[0])
    sizes, errors = [], []
    for step in (0.4, 0.1, 0.02):
        tables = fit.tables(step)
        data = compressed(fit.codec, tables, examples)
        header, streams = unpack_examples(fit.codec, tables, data, "f")
        sizes.append(len(data))
        errors.append(float((rebuild_examples(fit.codec, header, streams)[0] - exact).square().mean()))
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.05 * errors[0]


def test_codes_never_need_an_escape_and_an_unseen_code_still_comes_back() -> None:
    net = network("vq")
    codec = Codec(net)
    tables = Tables(fingerprint(net), None, tuple(Table(0, (*[2] * 6, 2**24 - 13, 1)) for _ in codec.alphabets or ()))
    examples = Examples(ARRAY, [batch(n=30).x])
    _, streams = unpack_examples(codec, tables, compressed(codec, tables, examples), "f")
    np.testing.assert_array_equal(streams[0], codec.sources(examples.groups[0])[0])
    assert fitted(net).tables(None).tables[0].escape == 7


# ── tables ──────────────────────────────────────────────────────────────────────────────────────────────


def test_tables_are_fitted_once_and_then_frozen(tmp_path: Path) -> None:
    net = network("deterministic")
    step = fitted(net, tmp_path).step()
    first = fitted(net, tmp_path).tables(step)
    path = tmp_path / file_of(step)
    before = path.read_bytes()
    frozen = Fitted(Codec(net), tmp_path, lambda: pytest.fail("the data were read again"))
    assert (frozen.step(), frozen.tables(step)) == (step, first)
    assert path.read_bytes() == before
    with torch.no_grad():
        next(net.parameters()).add_(1e-3)
    assert load_tables(tmp_path, fingerprint(net), step) is None, "tables are of one model"
    assert fitted(net, tmp_path).tables(step).model == fingerprint(net)


def test_damaged_tables_and_those_of_another_version_are_refused(tmp_path: Path) -> None:
    net = network("fsq")
    fitted(net, tmp_path).tables(None)
    path = tmp_path / "codes.json"
    content = json.loads(path.read_text())
    shifted = json.loads(path.read_text())
    shifted["tables"][0]["frequencies"][0] += 1
    shifted["tables"][0]["frequencies"][1] -= 1
    for broken in (shifted, content | {"checksum": "00"}, content | {"tables": 3}, [], content | {"model": "x"}):
        path.write_text(json.dumps(broken))
        with pytest.raises(UserError, match=r"codes\.json is damaged"):
            load_tables(tmp_path, fingerprint(net), None)
    path.write_text(json.dumps(content | {"version": 2}))
    with pytest.raises(UserError, match="is of version 2, but this narrows reads version 1"):
        load_tables(tmp_path, fingerprint(net), None)


def test_files_of_another_model_or_other_tables_are_refused(tmp_path: Path) -> None:
    net, other = network("fsq"), network("lfq")
    fit = fitted(net, tmp_path)
    data = compressed(fit.codec, fit.tables(None), Examples(ARRAY, [batch().x]))
    assert find_tables(fit.codec, tmp_path, data, "f") == fit.tables(None)
    with pytest.raises(UserError, match="f was written by another model"):
        find_tables(Codec(other), tmp_path, data, "f")
    with pytest.raises(UserError, match=r"nowhere/codes\.json is missing"):
        find_tables(fit.codec, tmp_path / "nowhere", data, "f")
    header, code = unpack(data, "f")
    foreign = pack(type(header)(header.model, b"tablesta", None, header.count, header.layout), code)
    with pytest.raises(UserError, match=r"codes\.json holds others"):
        find_tables(fit.codec, tmp_path, foreign, "f")
    with pytest.raises(UserError, match="how large its examples are"):
        pack(type(header)(header.model, header.tables, None, 6, ARRAY | {"shape": ["a"]}), code)
    torn = pack(header, code[:-1])
    with pytest.raises(UserError, match="f: the code is cut short"):
        unpack_examples(fit.codec, fit.tables(None), torn, "f")


@pytest.mark.parametrize(
    ("name", "step", "sentence"),
    [
        ("fsq", 0.5, "latents are codes already"),
        ("deterministic", 0.0, "step must be a number above 0"),
        ("deterministic", float("nan"), "step must be a number above 0"),
    ],
)
def test_a_step_that_does_not_fit_is_refused(name: str, step: float, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        fitted(network(name)).step(step)


def test_a_step_too_small_to_count_with_is_refused() -> None:
    with pytest.raises(UserError, match="is too small"):
        rounded([np.array([1e3])], 1e-16)


def test_the_default_step_is_the_latents_own_or_a_quarter_of_their_spread() -> None:
    assert fitted(network("entropy")).step() == 1.0
    fit = fitted(network("deterministic"))
    spread = np.sqrt(np.mean([source.var() for source in fit.sources]))
    assert fit.step() == pytest.approx(spread / 4, rel=0.05)


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "name", ["../a.png", "/a.png", "a/../../b.png", "a\\..\\b.png", "", "a.txt", 3, "..", "a\0.png"]
)
def test_no_name_leads_out_of_the_folder(name: Any, tmp_path: Path) -> None:
    layout = {"kind": "folder", "names": ["fine.png", name], "shapes": [[1, 2, 2]] * 2}
    with pytest.raises(UserError, match=r"leads out of its folder or is no \.png"):
        example_files.write(tmp_path / "out", layout, [torch.zeros(2, 1, 2, 2)])
    assert not (tmp_path / "out").exists()


def test_arrays_keep_their_type_key_and_axes(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    cases: dict[str, Any] = {"a.npy": grey, "b.npy": grey[:, None], "c.npy": grey > 99, "d.npy": grey / 255}
    for name, values in cases.items():
        np.save(tmp_path / name, values)
    np.savez(tmp_path / "e.npz", digits=grey)
    np.savez(tmp_path / "f.npz", x=grey, y=np.arange(4))
    codec = Codec(network("deterministic"))
    assert codec.model.spec == IMAGE
    for name in (*cases, "e.npz", "f.npz"):
        examples = example_files.read(tmp_path / name, codec)
        assert examples.groups[0].shape == (4, 1, 8, 8)
        out = tmp_path / f"out{Path(name).suffix}"
        example_files.write(out, examples.layout, examples.groups)
        back, given = np.load(out), np.load(tmp_path / name)
        if name.endswith("npz"):
            (key,) = back.files
            back, given = back[key], given[key]
        assert (back.dtype, back.shape) == (np.float32 if name == "d.npy" else given.dtype, given.shape)
        np.testing.assert_allclose(back, given, atol=1e-6)
