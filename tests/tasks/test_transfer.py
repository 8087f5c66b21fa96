"""Transfer: another set of the same shape, the same model, and errors that tell the two apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import instances
import numpy as np
import pytest
import torch
from tasks.standins import Rows, context

from narrows.errors import UserError
from narrows.tasks.base import run_tasks
from narrows.tasks.transfer import Transfer
from narrows.types import Batch


def _arrays(path: Path, x: np.ndarray) -> dict[str, Any]:
    np.savez(path, x=x.astype(np.float32))
    names = ("path", "x_key", "label_key")
    return {
        "_target_": "narrows.data.datamodule.DataModule",
        "source": {"_target_": "narrows.data.sources.arrays.Arrays", "path": str(path), "kind": "vector"}
        | {"test": {"_target_": "narrows.data.sources.arrays.HeldOut", "fraction": 0.5} | dict.fromkeys(names)},
    }


@pytest.fixture
def own() -> Rows:
    x = torch.randn(300, 2) @ torch.randn(2, 6)
    return Rows({"train": Batch(x), "validation": Batch(x[:50]), "test": Batch(x[:100])})


def _judge(own: Rows, others: list[Any], model: Any = None) -> dict[str, float]:
    if model is None:
        bottleneck = instances.partial(instances.Deterministic, dim=2)
        model = instances.model(own.spec, bottleneck=bottleneck, likelihood=instances.LIKELIHOODS["gaussian_fixed"])
    return Transfer(others=others).run(context(model.eval(), own)).named()


def test_foreign_data_off_the_plane_are_told_apart_and_rotated_own_data_are_not(own: Rows, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal((200, 6)) * 2
    same = torch.cat([own.splits["train"].x, -own.splits["train"].x]).numpy()
    with torch.no_grad():
        found = _judge(own, [_arrays(tmp_path / "a.npz", noise), _arrays(tmp_path / "b.npz", same)])
    at = "test/transfer"
    assert found[f"{at}/own/pca/mse"] < 1e-6
    assert found[f"{at}/other0/pca/variance_unexplained"] == pytest.approx(4 / 6, abs=0.1), "two of six directions"
    assert found[f"{at}/other0/pca/auroc"] == 1
    assert found[f"{at}/other1/pca/mse"] < 1e-6
    assert found[f"{at}/other0/mse_stderr"] > 0
    assert 0 < found[f"{at}/other1/auroc"] < 1
    assert found[f"{at}/other1/auroc_stderr"] > 0
    assert f"{at}/own/auroc" not in found


def test_data_of_another_shape_are_refused_in_one_sentence(own: Rows, tmp_path: Path) -> None:
    wide = _arrays(tmp_path / "a.npz", np.ones((20, 7)))
    with pytest.raises(UserError, match=r"other0 has examples of kind vector and shape \[7\], but the model reads"):
        _judge(own, [wide])
    with pytest.raises(UserError, match="digits has examples of kind image"):
        _judge(own, ["digits"])


def test_a_picture_of_all_sets_and_the_same_figures_again(tmp_path: Path) -> None:
    x = torch.rand(60, 1, 8, 8)
    data = Rows(
        {"train": Batch(x), "validation": Batch(x[:9]), "test": Batch(x[:30])}, kind="image", value_range=(0.0, 1.0)
    )
    task = {"t": Transfer(others=["digits"], max_examples=20)}
    judged = context(instances.model(data.spec), data)
    judged.directory = tmp_path
    found = run_tasks(task, judged)
    assert found == run_tasks(task, context(judged.model, data))
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["transfer.png"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"others": []}, "at least one datamodule"),
        ({"others": ["fashon_mnist"]}, "no datamodule 'fashon_mnist': did you mean 'fashion_mnist'"),
        ({"max_rows": 0}, "max_rows must be at least 1"),
    ],
)
def test_options_out_of_range_are_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Transfer(**options)
