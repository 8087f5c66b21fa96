"""A run is a function of its command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command import NARROW, Finished, composed, only_run, run_command, run_in_process
from PIL import Image

from narrows.config.auto_values import decided
from narrows.loading.model_from_config import build_model, read_weights
from narrows.types import DataSpec

RUN = (*NARROW, "trainer=cpu", "trainer.max_epochs=2", "callbacks=none", "corruption=gaussian")


def left(place: Path, done: Finished) -> tuple[bytes, dict[str, torch.Tensor]]:
    """The final figures, as written, and the last weights."""
    assert done.code == 0, done.err
    run = only_run(place)
    return (run / "metrics.json").read_bytes(), read_weights(run / "checkpoints" / "last.ckpt")


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    assert one.keys() == two.keys()
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[str, torch.Tensor]]:
    place = tmp_path_factory.mktemp("first")
    return left(place, run_in_process(*RUN, cwd=place))


def test_the_same_command_in_another_process_gives_the_same_bytes(
    first: tuple[bytes, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    figures, weights = left(tmp_path, run_command("train", *RUN, cwd=tmp_path, env={"PYTHONHASHSEED": "7"}))
    assert figures == first[0]
    assert same(weights, first[1])


def test_the_state_of_the_process_does_not_matter(first: tuple[bytes, dict[str, torch.Tensor]], tmp_path: Path) -> None:
    torch.manual_seed(4711)
    torch.rand(3)
    figures, weights = left(tmp_path, run_in_process(*RUN, "datamodule.loading.num_workers=2", cwd=tmp_path))
    assert figures == first[0]
    assert same(weights, first[1])


def test_another_seed_is_another_run_on_the_same_split(
    first: tuple[bytes, dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    figures, weights = left(tmp_path, run_in_process(*RUN, "seed=1", cwd=tmp_path))
    assert not any(torch.equal(weights[name], first[1][name]) for name in weights if name.endswith("weight"))
    one, two = json.loads(first[0]), json.loads(figures)
    assert one["test/elbo"] != two["test/elbo"]
    # The classics have no seed: they differ where the rows do.
    assert one["test/pca/mse"] == two["test/pca/mse"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_loader_workers_change_nothing(tmp_path: Path) -> None:
    """Of images that are read from their files as they are needed: others need no workers."""
    (tmp_path / "images").mkdir()
    for number in range(60):
        pixels = torch.randint(0, 256, (16, 16), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(tmp_path / "images" / f"{number:02}.png")
    found = []
    for workers in (0, 2):
        place = tmp_path / str(workers)
        place.mkdir()
        source = f"datamodule.source.path={tmp_path / 'images'}"
        shape = ("datamodule.source.size=16", "datamodule.source.channels=1", "datamodule.source.memory_limit_mb=0")
        loading = ("datamodule.batch_size=16", f"datamodule.loading.num_workers={workers}")
        done = run_in_process(*RUN, "datamodule=image_folder", source, *shape, *loading, cwd=place)
        found.append(left(place, done))
    assert found[0][0] == found[1][0]
    assert same(found[0][1], found[1][1])


def initial(*overrides: str) -> dict[str, torch.Tensor]:
    return build_model(
        decided(composed(*overrides)), DataSpec(shape=(1, 8, 8), kind="image", size=9, value_range=(0.0, 1.0))
    ).state_dict()


def test_initial_weights_are_a_function_of_the_seed() -> None:
    weights = initial()
    torch.rand(11)
    others = ("optimizer.lr=0.1", "datamodule.batch_size=7", "datamodule.split_seed=3", "trainer.max_epochs=1")
    assert same(weights, initial(*others))
    changed = initial("seed=1")
    assert not any(torch.equal(weights[name], changed[name]) for name in weights if name.endswith("weight"))
