"""`narrows compare --cka`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from narrows.commands.compare import main
from narrows.runs import checkpoint_files


@pytest.fixture
def twins(real_run: Path, tmp_path: Path) -> Path:
    """A run, its copy, and a copy whose encoder has other weights."""
    for name in ("a", "b", "c"):
        shutil.copytree(real_run, tmp_path / "runs" / name)
    for file in (tmp_path / "runs" / "c" / "checkpoints").glob("*.ckpt"):
        saved = checkpoint_files.read(file)
        source = torch.Generator().manual_seed(0)
        for key, values in saved["state_dict"].items():
            if ".encoder." in f".{key}" and values.is_floating_point():
                values.copy_(torch.randn(values.shape, generator=source))
        checkpoint_files.save_as(saved, file)
    return tmp_path / "runs"


def test_a_copy_is_alike_and_other_weights_are_less(twins: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    main([str(twins), "--cka", str(tmp_path / "alike.png")])
    said = capfd.readouterr().err
    assert "most alike, at 1.000, are b and a" in said
    assert "least alike" in said
    with Image.open(tmp_path / "alike.png") as picture:
        assert picture.size[0] > 300


def test_runs_that_hold_out_other_examples_are_refused(
    twins: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = yaml.safe_load((twins / "b" / "config.yaml").read_text())
    config["datamodule"]["split_seed"] = 7
    (twins / "b" / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(SystemExit) as end:
        main([str(twins), "--cka", str(tmp_path / "alike.png")])
    assert end.value.code == 2
    assert "hold out different ones" in capsys.readouterr().err
    assert not (tmp_path / "alike.png").exists()


def test_the_picture_is_a_png_outside_of_runs(twins: Path, capsys: pytest.CaptureFixture) -> None:
    for target, said in (("alike.pdf", "ends in .png"), (str(twins / "a" / "config.yaml"), "config.yaml")):
        with pytest.raises(SystemExit):
            main([str(twins), "--cka", target])
        assert said in capsys.readouterr().err
