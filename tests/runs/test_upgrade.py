"""Configs that earlier versions recorded are read in today's structure."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from instances import IMAGE
from omegaconf import OmegaConf

from narrows.compare.run_records import read_run
from narrows.config.auto_values import decided
from narrows.config.composition import checked, config_dir, register_resolvers
from narrows.config.hydra_versions import VERSION_BASE
from narrows.inputs import Identity, Input, MissingIndicator
from narrows.loading.model_from_config import build_model, read_config
from narrows.loading.permitted_classes import require_trusted
from narrows.models.autoencoder import Autoencoder
from narrows.runs.old_names import current_config


def recorded(folder: Path, *overrides: str) -> dict:
    """As a version without inputs wrote it, in a run directory."""
    register_resolvers()
    with initialize_config_dir(str(config_dir()), **VERSION_BASE):
        values = OmegaConf.to_container(decided(checked(compose("train", [*overrides, "datamodule=digits"]))))
    assert isinstance(values, dict)
    del values["input"]
    if "input=missing_indicator" in overrides:
        values["model"]["_target_"] = "narrows.models.missing_indicator.MissingIndicatorAutoencoder"
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(values)))
    (folder / "manifest.json").write_text('{"status": "completed"}')
    return values


@pytest.mark.parametrize("kind", [Identity, MissingIndicator])
def test_a_model_recorded_without_an_input_is_built_with_the_one_it_had(kind: type[Input], tmp_path: Path) -> None:
    old = recorded(tmp_path, *(["input=missing_indicator"] if kind is MissingIndicator else []))
    config = read_config(tmp_path)
    require_trusted(config)
    checked(config)
    built = build_model(config, IMAGE)
    assert type(built) is Autoencoder
    assert type(built.input) is kind
    assert built.encoder.in_shape == ((2, 8, 8) if kind is MissingIndicator else (1, 8, 8))
    same = {key: value for key, value in OmegaConf.to_container(config).items() if key not in ("model", "input")}  # type: ignore[union-attr]
    assert same == {key: value for key, value in old.items() if key != "model"}, "nothing else is another"
    assert built.reconstruct(torch.rand(2, 1, 8, 8)).shape == (2, 1, 8, 8)


def test_old_and_new_records_differ_in_nothing_that_was_not_asked(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        recorded(tmp_path / name)
    new = read_config(tmp_path / "old")
    (tmp_path / "new" / "config.yaml").write_text(OmegaConf.to_yaml(new))
    assert read_run(tmp_path / "old").config == read_run(tmp_path / "new").config


def test_what_is_no_run_s_config_is_left_as_it_is() -> None:
    for values in ({"seed": 0}, {"encoder": {}, "model": 3}, {"encoder": {}, "model": {}, "input": None}):
        assert current_config(values) == values
