"""Compressed files and coding tables of strangers, with right checksums: each is refused in one sentence."""

from __future__ import annotations

import base64
import json
import resource
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from instances import BOTTLENECKS, batch, model
from tasks.standins import Rows

from narrows.coding import ans_entropy_coder, example_files
from narrows.coding.ans_entropy_coder import Table, decode, encode
from narrows.coding.coding_tables import Fitted, Tables, load_tables, store
from narrows.coding.example_files import Examples
from narrows.coding.model_codec import Codec
from narrows.coding.nrwz_file import LAYOUT, digest, pack, unpack
from narrows.coding.packing import find_tables, pack_examples, quantise, rebuild_examples, unpack_examples
from narrows.data import Volumes
from narrows.errors import UserError

ARRAY: dict[str, Any] = {"kind": "npz", "key": "x", "shape": [1, 8, 8], "dtype": "float32", "channel": True}
FOLDER: dict[str, Any] = {"kind": "folder", "names": ["a.png", "b.png"], "shapes": [[1, 8, 8]] * 2}

SOUNDS: dict[str, Any] = {
    **{"kind": "sounds", "names": ["a.wav", "b.flac"], "rate": 8000, "channels": 1},
    **{"steps": [500, 700], "rates": [8000, 16_000], "subtypes": ["PCM_16", "FLOAT"]},
}

FILMS: dict[str, Any] = {
    **{"kind": "films", "names": ["a.gif", "deep/b.npy"], "shape": [1, 4, 6, 5]},
    **{"frames": [4, 3]},
}
SCANS: dict[str, Any] = {
    **{"kind": "scans", "names": ["a.nii.gz", "b.npy"], "shape": [1, 8, 8, 8], "sides": [[9, 9, 9], [8, 8, 8]]},
    **{"ends": [[0.0, 1.0], [-4, 900.5]], "headers": [base64.b64encode(bytes(348)).decode(), None]},
}


def file_of(layout: Any, count: int = 2, code: bytes = b"\0", step: float = 0.0, model: bytes = b"m" * 8) -> bytes:
    """A file with a right checksum, whatever it says; a layout of bytes is taken as it is."""
    packed = layout if isinstance(layout, bytes) else zlib.compress(json.dumps(layout).encode())
    body = struct.pack("<4sB8s8sdII", b"NRWZ", 1, model, b"t" * 8, step, count, len(packed)) + packed + code
    return body + digest(body)


def without(layout: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in layout.items() if name != key}


WRONG: dict[str, tuple[Any, int]] = {
    "a list": ([1, 2], 2),
    "null": (None, 2),
    "nested 200,000 deep": (zlib.compress(b"[" * 200_000), 2),
    "not deflated": (b"{}", 2),
    "cut short": (zlib.compress(json.dumps(ARRAY).encode())[:-6], 2),
    "not text": (zlib.compress(b"\xff\xfe"), 2),
    "no kind": (without(ARRAY, "kind"), 2),
    "a list as kind": (ARRAY | {"kind": ["npz"]}, 2),
    "no examples": (ARRAY, 0),
    "no shape": (without(ARRAY, "shape"), 2),
    "one name too few": (FOLDER | {"names": ["a.png"]}, 2),
    "no names": (FOLDER | {"names": None}, 2),
    "one shape too few": (FOLDER | {"shapes": [[1, 8, 8]]}, 2),
    "twice one name": (FOLDER | {"names": ["a.png", "a.png"]}, 2),
    "a file as a folder": (FOLDER | {"names": ["a.png", "a.png/b.png"]}, 2),
    "40 examples as one picture": ({"kind": "image", "shape": [1, 8, 8]}, 40),
    "no dtype": (without(ARRAY, "dtype"), 2),
    "objects": (ARRAY | {"dtype": "object"}, 2),
    "channel": (ARRAY | {"channel": "no"}, 2),
    "an array of several shapes": (ARRAY | {"shapes": [[1, 8, 8], [1, 9, 9]]}, 2),
    "no axis of channels": (ARRAY | {"channel": False, "shape": [3, 8, 8]}, 2),
}
WRONG |= {
    f"shape {shape!r}": (ARRAY | {"shape": shape}, 2)
    for shape in (None, 3, "8x8", [], [0], [-1, 8], [1.0, 8], [True, 8], ["a"], [2**40], [[1]], [1] * 99, {"a": 1})
}
WRONG |= {f"shapes {shapes!r}": (FOLDER | {"shapes": shapes}, 2) for shapes in (3, [3, 3], [None, [1]], "ab", {"a": 1})}
WRONG |= {
    f"key {key!r}": (ARRAY | {"key": key}, 2)
    for key in ("../../evil", "a/b", "/a", "file", "", "..", "a\\b", "C:a", "a\x1b[2J", None, 3, ["x"], "x" * 999)
}
WRONG |= {
    f"name {name!r}": (FOLDER | {"names": ["a.png", name]}, 2)
    for name in (None, 3, "../b.png", "/b.png", "c/../../b.png", "c//b.png", "./b.png", "b.exe", "b\x1b.png", "b\n.png")
}
WRONG |= {
    f"sounds {change!r}": (SOUNDS | change, 2)
    for change in (
        *({"steps": steps} for steps in (None, [500], [500, 0], [500, 2**40], [500, True], [500, "x"], [2**28, 9])),
        *({"rates": rates} for rates in (None, [8000], [8000, 0], [8000, 2**40], [8000, 8000.0])),
        *({"subtypes": subtypes} for subtypes in (None, ["PCM_16"], ["PCM_16", "EVIL"], ["PCM_16", ["FLOAT"]])),
        *({"rate": rate} for rate in (None, 0, -8000, "8000")),
        *({"channels": channels} for channels in (None, 0, 2**20, True)),
        *({"window": window} for window in (0, -1, "a", 100)),
        *(
            {"names": names}
            for names in (None, ["a.wav"], ["a.wav", "a.wav"], ["a.wav", "../b.wav"], ["a.wav", "b.exe"])
        ),
        *({"codebooks": codebooks} for codebooks in (0, -1, "2", True, [1])),
        {"kind": "sound"},
    )
}
WRONG |= {
    f"films {change!r}": (FILMS | change, 2)
    for change in (
        *({"frames": frames} for frames in (None, [], [4], [4, 0], [4, True], [4, 2**30], [9, 9], [4, "x"])),
        *({"shape": shape} for shape in (None, [1, 4, 6], [2, 4, 6, 5], [1, 0, 6, 5], [1, 4, 6, 2.0])),
        *(
            {"names": names}
            for names in (None, ["a.gif"], ["a.gif", "a.gif"], ["a.gif", "../b.npy"], ["a.gif", "b.py"])
        ),
        *({"pace": pace} for pace in (40, [40], [40, 0], [40, 1e3], [40, True], [40, [40, 40]], [[2**30] * 4, 40])),
        *({"sizes": sizes} for sizes in (3, [[6, 5]], [[6, 5], [6]], [[6, 5], [6, 0]], [[6, 5], [6, 2**40]])),
        {"kind": "film"},
    )
}
WRONG |= {
    f"scans {str(change)[:60]!r}": (SCANS | change, 2)
    for change in (
        *({"sides": sides} for sides in (None, [[9, 9, 9]], [[9, 9], [8, 8, 8]], [[9, 9, 0], [8, 8, 8]])),
        *({"sides": [[9, 9, 9], sides]} for sides in (3, [2**15, 1, 1], [9000, 9000, 9000], [8, 8, True], [8.0, 8, 8])),
        *({"ends": [[0, 1], ends]} for ends in (None, [1, 0], [0, 0], [0, float("inf")], [0, "1"], [0, True], [0])),
        *({"headers": [None, header]} for header in (3, "x", "AAAA", "é", base64.b64encode(bytes(349)).decode())),
        *({"shape": shape} for shape in (None, [3, 8, 8, 8], [1, 8], [1, 8, 8, 0])),
        *(
            {"names": names}
            for names in (None, ["a.nii"], ["a.nii", "a.nii"], ["a.nii", "../b.npy"], ["a.nii", "b.png"])
        ),
        *({"fitted": [[8, 8, 8], sides]} for sides in (3, [8, 8], [8, 8, 0], [9000, 9000, 9000])),
        {"fitted": [[8, 8, 8]]},
        {"fitted": [[8, 8, 8]] * 2, "shape": [1, 8, 8]},
        {"kind": "scan"},
    )
}


def test_what_is_changed_above_is_right_as_it_is() -> None:
    sized = FILMS | {"sizes": [[6, 5], [7, 9]], "pace": [40, [40, 50, 60]]}, SCANS | {"fitted": [[8, 8, 8], [9, 9, 9]]}
    for layout in (FILMS, SCANS, SOUNDS, *sized):
        assert unpack(file_of(layout, 2), "f")[0].layout == layout


def test_a_header_of_nifti_is_checked_before_a_scan_is_written(tmp_path: Path) -> None:
    pytest.importorskip("nibabel")
    source = Volumes("nowhere")
    examples = [torch.zeros(2, 1, 8, 8, 8)]
    with pytest.raises(UserError, match=r"a\.nii\.gz"):
        example_files.write(tmp_path / "out", SCANS | {"sides": [[8, 8, 8]] * 2}, examples, source)
    with pytest.raises(UserError, match="describes other scans than its examples are of"):
        example_files.write(tmp_path / "out", SCANS | {"headers": [None, None]}, examples, source)
    mixed = SCANS | {"headers": [None, None], "names": ["a.npy", "b.npy"], "fitted": [[8, 8, 8], [9, 9, 9]]}
    with pytest.raises(UserError, match="describes other scans than its examples are of"):
        example_files.write(tmp_path / "out", mixed, [torch.zeros(1, 1, 8, 8, 8), torch.zeros(1, 1, 9, 9, 9)], source)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", WRONG)
def test_a_layout_is_checked_before_it_is_believed(what: str) -> None:
    layout, count = WRONG[what]
    with pytest.raises(UserError, match=r"^f[: ]") as refusal:
        unpack(file_of(layout, count), "f")
    assert len(str(refusal.value)) < 400
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("step", [float("nan"), float("inf"), -1.0])
def test_the_step_is_a_number_above_0(step: float) -> None:
    with pytest.raises(UserError, match="its step is"):
        unpack(file_of(ARRAY, step=step), "f")


def test_a_layout_is_inflated_no_further_than_one_may_be_long() -> None:
    deflater, megabyte = zlib.compressobj(1), b" " * 10**6
    bomb = b"".join(deflater.compress(megabyte) for _ in range(100)) + deflater.flush()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="a header of more than"):
        unpack(file_of(bomb), "f")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KB
    many = {"kind": "folder", "names": [f"{i:06}.png" for i in range(99_999)], "shapes": [[1, 8, 8]] * 99_999}
    header, _ = unpack(file_of(ARRAY), "f")
    with pytest.raises(UserError, match="compress them in several parts"):
        pack(type(header)(header.model, header.tables, None, 99_999, many), b"")
    assert len(json.dumps(many)) > LAYOUT


@pytest.fixture(scope="module")
def coded() -> tuple[Codec, Tables, bytes]:
    torch.manual_seed(0)
    net = model(bottleneck=BOTTLENECKS["fsq"]).eval()
    data = Rows({"train": batch(net.spec, net.spec.size)}, batch_size=7, kind=net.spec.kind)
    fit = Fitted(Codec(net), None, lambda: data)  # type: ignore[arg-type, return-value]
    tables = fit.tables(None)
    examples = Examples(ARRAY, [batch(n=2).x])
    return fit.codec, tables, tables.encode(quantise(fit.codec, examples, None))


@pytest.mark.parametrize("count", [10**6, 10**9, 2**32 - 1])
def test_no_more_is_decoded_than_the_code_can_hold(count: int, coded: tuple[Codec, Tables, bytes]) -> None:
    codec, tables, code = coded
    with pytest.raises(UserError, match="bytes of code cannot hold"):
        unpack_examples(codec, tables, file_of(ARRAY, count, code), "f")


@pytest.mark.parametrize("shape", [[1, 10**5, 10**5], [10**9], [1, 9, 9], [3, 8, 8]])
def test_a_shape_is_compared_with_the_models_before_anything_is_allocated(
    shape: list[int], coded: tuple[Codec, Tables, bytes]
) -> None:
    codec, tables, code = coded
    with pytest.raises(UserError, match="do not fit a model of"):
        unpack_examples(codec, tables, file_of(ARRAY | {"shape": shape}, 2, code), "f")


def test_what_is_all_alike_may_cost_nothing() -> None:
    """The first symbol is free as long as the coder's state is 0, so that a short code of many values may be right."""
    table = Table(0, (2**23, 2**23 - 1, 1))
    values = np.zeros(10_000, dtype=np.int64)
    code = encode([values], [table])
    assert len(code) == 1
    np.testing.assert_array_equal(decode(code, [len(values)], [table])[0], values)


def test_parts_are_decoded_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(-3, 5, 1000)
    table = ans_entropy_coder.fit_table(values, -1, 2)
    code = encode([values], [table])
    monkeypatch.setattr(ans_entropy_coder, "AT_ONCE", 7)
    np.testing.assert_array_equal(decode(code, [1000], [table])[0], values)


HOSTILE_CODES: dict[str, Callable[[bytes], bytes]] = {
    "a zero word": lambda code: code + b"\0\0\0\0",
    "nothing but a zero word": lambda _: b"\0\0\0\0\0",
    "nothing": lambda _: b"",
    "more than 64 bits": lambda _: b"\x0a" + b"\xff" * 9 + b"\x7f",
    "a length beyond its end": lambda code: b"\x7f" + code[1:],
    "three bytes more": lambda code: code + b"abc",
}


@pytest.mark.parametrize("what", HOSTILE_CODES)
def test_a_code_that_no_encoder_writes_is_refused(what: str, coded: tuple[Codec, Tables, bytes]) -> None:
    codec, tables, code = coded
    with pytest.raises(UserError, match=r"^f: the code"):
        unpack_examples(codec, tables, file_of(ARRAY, 2, HOSTILE_CODES[what](code)), "f")


@pytest.mark.parametrize("value", [-1, 10**6, 2**63 - 1])
def test_codes_outside_the_codebook_never_reach_the_model(value: int, coded: tuple[Codec, Tables, bytes]) -> None:
    codec, tables, code = coded
    streams = decode(code, [2] * len(tables.tables), tables.tables)
    streams[0][0] = value
    header, found = unpack_examples(codec, tables, file_of(ARRAY, 2, tables.encode(streams)), "f")
    with pytest.raises(UserError, match=r"none of the .* of this model's codebook"):
        rebuild_examples(codec, header, found)


def test_latents_beyond_floats_are_refused() -> None:
    net = model(bottleneck=BOTTLENECKS["deterministic"]).eval()
    data = Rows({"train": batch(net.spec, net.spec.size)}, batch_size=7, kind=net.spec.kind)
    fit = Fitted(Codec(net), None, lambda: data)  # type: ignore[arg-type, return-value]
    tables = Tables(fit.model, 1e300, fit.tables(0.5).tables)
    streams = [np.full(2, 2**40) for _ in tables.tables]
    with pytest.raises(UserError, match="gives no finite numbers"):
        fit.codec.rebuild(streams, 2, (1, 8, 8), tables.step)


def test_compress_refuses_what_decompress_would(coded: tuple[Codec, Tables, bytes]) -> None:
    codec, tables, _ = coded
    examples = Examples(ARRAY | {"key": "a/b"}, [batch(n=2).x])
    with pytest.raises(UserError, match="cannot be restored: rename it"):
        pack_examples(tables, quantise(codec, examples, None), examples)


@pytest.mark.parametrize("step", [-1.0, 0.0, float("nan"), True, "1.0", [1]])
def test_tables_of_no_step_are_damaged(step: Any, tmp_path: Path) -> None:
    tables = Tables(b"m" * 8, step, (Table(0, (2**24 - 1, 1)),))
    store(tables, tmp_path)
    (file,) = tmp_path.iterdir()
    file.rename(tmp_path / "step_0.5.json")
    with pytest.raises(UserError, match="is damaged"):
        load_tables(tmp_path, b"m" * 8, 0.5)


@pytest.mark.parametrize("low", [10**30, -(10**30)])
def test_a_table_begins_at_a_number_that_can_be_counted_with(low: int) -> None:
    with pytest.raises(UserError, match="cannot begin at"):
        Table(low, (2**24 - 1, 1))


@pytest.mark.parametrize("default", ["[]", "3", "null", '{"step": -1}', '{"step": "a"}', '{"step": null}', "{}"])
def test_a_damaged_default_step_is_refused_by_name(default: str, tmp_path: Path) -> None:
    net = model(bottleneck=BOTTLENECKS["deterministic"]).eval()
    fit = Fitted(Codec(net), tmp_path, lambda: pytest.fail("there is no need for data"))
    values = json.loads(default)
    (tmp_path / "default.json").write_text(
        json.dumps(values | {"model": fit.model.hex()} if isinstance(values, dict) else values)
    )
    with pytest.raises(UserError, match=r"default\.json is damaged"):
        fit.step()


def test_a_step_that_the_model_does_not_read_is_refused(coded: tuple[Codec, Tables, bytes], tmp_path: Path) -> None:
    codec, tables, code = coded
    store(Tables(tables.model, 0.5, tables.tables), tmp_path)
    with pytest.raises(UserError, match=r"^f: .*latents are codes already"):
        find_tables(codec, tmp_path, file_of(ARRAY, 2, code, step=0.5, model=tables.model), "f")


def test_tables_of_another_number_of_streams_are_refused(coded: tuple[Codec, Tables, bytes]) -> None:
    codec, tables, code = coded
    fewer = Tables(tables.model, None, tables.tables[:-1])
    with pytest.raises(UserError, match="the coding tables are of"):
        unpack_examples(codec, fewer, file_of(ARRAY, 2, code), "f")
