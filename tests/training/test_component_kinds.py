"""A component of another kind is refused by name, before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import composed, run_in_process
from omegaconf import DictConfig
from torch import nn
from torch.utils.data import Dataset

from narrows.config.building import build
from narrows.config.composition import checked
from narrows.data.contents import Contents
from narrows.data.datamodule import DataModule
from narrows.errors import UserError
from narrows.layers import Encoder
from narrows.training.component_kinds import NAMED, ONE, check_kinds

HERE = __name__


class Plain(nn.Module):
    """A module as in any PyTorch project."""


class WrongCall(Encoder):
    """Of the right kind, but with another constructor."""

    def __init__(self) -> None:
        super().__init__()


class Rows(Dataset):
    """A data set as in any PyTorch project."""

    def load(self) -> list[int]:
        return [1, 2]


@pytest.fixture(scope="module")
def config() -> DictConfig:
    return checked(composed())


def with_component(config: DictConfig, path: str, name: str, partial: bool) -> DictConfig:
    changed = DictConfig({**config})
    key, _, below = path.partition(".")
    node = {"_target_": f"{HERE}.{name}"} | ({"_partial_": True} if partial else {})
    changed[key] = {below: node} if below else node
    return changed


@pytest.mark.parametrize("path", [*ONE, *(f"{key}.mine" for key in NAMED)])
@pytest.mark.parametrize("partial", [False, True])
def test_a_plain_module_is_none_of_them(config: DictConfig, path: str, partial: bool) -> None:
    key = path.partition(".")[0]
    kind = ONE.get(key) or NAMED[key]
    with pytest.raises(UserError) as refusal:
        check_kinds(with_component(config, path, "Plain", partial))
    told = str(refusal.value)
    assert told.startswith(f"{path}: '{HERE}.Plain' cannot stand here")
    assert kind.base.__name__ in told
    assert ", ".join(kind.called_with) in told
    assert "CONTRIBUTING.md" in told


def test_a_component_that_cannot_be_called_so_is_refused(config: DictConfig) -> None:
    with pytest.raises(UserError, match=r"called with \(in_shape\).*too many positional arguments"):
        check_kinds(with_component(config, "encoder", "WrongCall", True))


def test_what_narrows_ships_is_of_its_kind(config: DictConfig) -> None:
    check_kinds(config)


def test_a_source_loads_contents() -> None:
    with pytest.raises(UserError, match=r"datamodule.source: Plain has no load\(\).*narrows.data.Contents"):
        DataModule(Plain())  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"load\(\) of Rows returns list, where narrows.data.Contents are due"):
        DataModule(Rows()).setup()  # type: ignore[arg-type]
    assert build({"_target_": "narrows.data.sources.digits.Digits"}, "source").load().__class__ is Contents


def test_the_command_says_it_in_one_sentence(tmp_path: Path) -> None:
    ended = run_in_process("+encoder@encoder=mlp", f"encoder._target_={HERE}.Plain", cwd=tmp_path)
    assert ended.code == 2
    assert len(ended.complaints) == 1


@pytest.mark.parametrize("option", ["--experimental-rerun", "--experimental-rerun=x", "--exp"])
def test_a_rerun_from_a_pickle_is_refused(tmp_path: Path, option: str) -> None:
    (told,) = run_in_process(option, cwd=tmp_path).complaints
    assert "narrows reproduce RUN" in told
