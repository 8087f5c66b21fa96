"""`narrows export`: files that other programs run, each compared with the model before it is written."""

from __future__ import annotations

import functools
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from safetensors import safe_open
from small_variants import config_of
from torch.onnx._internal.exporter._registration import ONNXRegistry

import narrows
from narrows.commands import export as command
from narrows.errors import UserError
from narrows.exporting.export_run import Exported, tried
from narrows.exporting.formats import TorchExport
from narrows.exporting.model_parts import DecoderPart, EncoderPart, ReconstructionPart
from narrows.exporting.tried_examples import drawn
from narrows.loading.model_from_config import build_model
from narrows.models.autoencoder import Autoencoder
from narrows.types import DataSpec

ROOT = Path(__file__).parents[2]
X = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def export(*arguments: str) -> None:
    command.export(command.parser().parse_args(list(arguments)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encoder and decoder of a model that ships with narrows, as ONNX."""
    pytest.importorskip("onnxruntime")
    place = tmp_path_factory.mktemp("exported")
    read = functools.cache(ONNXRegistry.from_torchlib)
    with patch.object(ONNXRegistry, "from_torchlib", staticmethod(lambda opset_version: read(opset_version))):
        export("digits-vae", "--to", "onnx", "--part", "encoder", "--part", "decoder", "-o", str(place / "digits.onnx"))
    return place


def test_onnxruntime_runs_the_readme_s_example_without_torch(folder: Path) -> None:
    (example,) = re.findall(r"```python\n(import onnxruntime.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(example.splitlines()) <= 12
    np.save(folder / "digits.npy", X.numpy())
    told = "\nimport sys\nassert not {'torch', 'narrows'} & set(sys.modules)\nnp.savez('out', z=z, point=point)\n"
    done = subprocess.run(
        [sys.executable, "-c", example + told], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    model = narrows.load("digits-vae")
    with np.load(folder / "out.npz") as found:
        z = torch.from_numpy(found["z"])
        torch.testing.assert_close(z, model.embed(X), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(torch.from_numpy(found["point"]), model.decode(z).mean, rtol=1e-4, atol=1e-4)


def test_the_file_says_what_it_reads_and_gives_and_nothing_of_this_machine(folder: Path) -> None:
    import onnx

    model = onnx.load(str(folder / "digits.decoder.onnx"))
    told = {prop.key: prop.value for prop in model.metadata_props}
    assert told["part"] == "decoder"
    assert json.loads(told["inputs"])["z"]["shape"] == ["batch", 8]
    assert set(json.loads(told["outputs"])) == {"point", "parameters"}
    assert json.loads(told["spec"])["value_range"] == [0.0, 1.0]
    assert "narrows.bottlenecks.Gaussian" in told["config"]
    for path in folder.glob("*.onnx"):
        content = path.read_bytes()
        assert str(ROOT).encode() not in content
        assert str(Path(torch.__file__).parent).encode() not in content


def test_what_is_not_as_the_model_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    """Weights that were rounded, as by a faulty exporter."""

    def rounded(_: TorchExport, part: EncoderPart, inputs: dict, told: dict) -> bytes:
        own = {name: value.clone() for name, value in part.model.state_dict().items()}
        for parameter in part.model.parameters():
            parameter.data = parameter.data.half().float()
        try:
            return write(TorchExport(), part, inputs, told)
        finally:
            part.model.load_state_dict(own)

    write = TorchExport.write
    target = tmp_path / "e.pt2"
    asked = ("digits-sae", "--to", "torch_export", "--part", "encoder", "-o", str(target))
    with patch.object(TorchExport, "write", rounded):
        with pytest.raises(UserError, match=r"encoder: what was exported differs .* nothing is written"):
            export(*asked)
        assert not list(tmp_path.iterdir())
        export(*asked, "--tolerance", "0.1")
    assert target.is_file()


def test_torch_runs_it_for_batches_of_any_size(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        export("digits-sae", "--to", "torch_export", "-o", str(tmp_path / "out"))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{part}.pt2" for part in ("encoder", "decoder", "reconstruction")
    }
    assert "decoder: differs from the model by at most" in caplog.text
    assert "32 examples of the validation split" in caplog.text
    model, extra = narrows.load("digits-sae"), {"spec": "", "inputs": ""}
    run = torch.export.load(tmp_path / "out" / "encoder.pt2", extra_files=extra).module()
    assert json.loads(extra["inputs"])["x"]["shape"] == ["batch", 1, 8, 8]
    for n in (1, 5):
        torch.testing.assert_close(run(X[:n]), model.embed(X[:n]), rtol=1e-4, atol=1e-4)


def test_safetensors_hold_the_weights_by_name(tmp_path: Path) -> None:
    export("digits-vq", "--to", "safetensors", "-o", str(tmp_path / "all.safetensors"))
    export("digits-vq", "--to", "safetensors", "--part", "decoder", "-o", str(tmp_path / "decoder.safetensors"))
    state = narrows.load("digits-vq").state_dict()
    with safe_open(tmp_path / "all.safetensors", "pt") as file:
        assert set(file.keys()) == set(state)
        assert all(torch.equal(file.get_tensor(name), value) for name, value in state.items())
        assert json.loads(file.metadata()["spec"])["shape"] == [1, 8, 8]
    with safe_open(tmp_path / "decoder.safetensors", "pt") as file:
        assert {name.partition(".")[0] for name in file.keys()} <= {"decoder", "likelihood"}  # noqa: SIM118


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digits-vae", "--to", "onnx", "-o", "x.pt2"], r"x\.pt2: a file of this format ends in \.onnx"),
        (["digits-vae", "--to", "onnx", "--tolerance", "-1"], "--tolerance must be at least 0, not -1"),
        (["digits-vae", "--to", "onnx", "--tolerance", "nan"], "--tolerance must be"),
        (["nowhere", "--to", "onnx"], "there is no run directory nowhere"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        export(*arguments)


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"needs onnxscript, which is not installed: pip install 'narrows\[export\]'"):
        export("digits-vae", "--to", "onnx")


# ── data whose examples differ in length ────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def of_texts() -> Iterator[Autoencoder]:
    words = ["<end>", *"abcdefg"]
    spec = DataSpec((6,), "tokens", 100, vocabulary=words, variable=True, end=0)
    config = config_of("text_vae").copy()
    config.input = {"_target_": "narrows.inputs.Embedding", "_partial_": True, "dim": 5}
    config.likelihood = {"_target_": "narrows.likelihoods.CategoricalLikelihood", "_partial_": True}
    yield build_model(config, spec).eval()
    GlobalHydra.instance().clear()


def test_a_loop_that_the_data_end_is_named_and_the_encoder_is_written(of_texts: Autoencoder) -> None:
    for part in (DecoderPart, ReconstructionPart):
        assert "until the end mark" in str(part(of_texts).obstacle())
    made = tried(EncoderPart(of_texts), TorchExport(), drawn(of_texts.spec), {})
    assert isinstance(made, Exported), made
    assert made.relative <= command.TOLERANCE
