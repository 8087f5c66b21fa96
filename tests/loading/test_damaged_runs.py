"""`narrows.load` of a run whose files were damaged or exchanged is one sentence that names the file and the field."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command import NARROW, NO_TASKS, TINY, run_in_process

import narrows
from narrows.errors import UserError
from narrows.runs import checkpoint_files

Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("finished")
    done = run_in_process(*TINY, *NARROW, *NO_TASKS, "logger=csv", "hydra.run.dir=run", cwd=folder)
    assert done.code == 0, done.err
    return folder / "run"


def as_manifest(text: str) -> Change:
    def change(run: Path) -> None:
        (run / "manifest.json").write_text(text)

    return change


def in_manifest(**values: Any) -> Change:
    def change(run: Path) -> None:
        path = run / "manifest.json"
        content = json.loads(path.read_text())
        content["data"] |= values.pop("data", {})
        path.write_text(json.dumps(content | values))

    return change


def in_config(**values: Any) -> Change:
    def change(run: Path) -> None:
        path = run / "config.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))

    return change


def in_weights(edit: Callable[[dict[str, Any]], Any]) -> Change:
    def change(run: Path) -> None:
        path = run / "checkpoints" / "best.ckpt"
        checkpoint_files.save_as(edit(torch.load(path, weights_only=True)), path)

    return change


def first_weight(state: dict[str, Any], value: Any) -> dict[str, Any]:
    weights = dict(state["state_dict"])
    return state | {"state_dict": weights | {next(iter(weights)): value}}


CASES: dict[str, tuple[Change, str]] = {
    "list": (as_manifest("[]"), r"manifest.json is damaged: it must be names"),
    "digits": (as_manifest("9" * 5000), "is not valid JSON"),
    "nested": (as_manifest("[" * 100_000), "is not valid JSON"),
    "empty manifest": (as_manifest(""), "is not valid JSON"),
    "attempts": (in_manifest(attempts=3), "attempts must be a list of names and values"),
    "seconds": (in_manifest(seconds="abc"), "seconds must be a number"),
    "evaluated": (in_manifest(evaluated={"a": 1}), "evaluated must be a list of texts or null"),
    "no shape": (in_manifest(data={"shape": None}), "its data are no description of data"),
    "negative shape": (in_manifest(data={"shape": [-1, 8, 8]}), "must have axes of at least 1"),
    "vast shape": (in_manifest(data={"shape": [10**9] * 3}), "at most 2\\^40 values"),
    "text shape": (in_manifest(data={"shape": ["a", 8, 8]}), "its data are no description of data"),
    "a field more": (in_manifest(data={"bogus": 1}), "bogus"),
    "size": (in_manifest(data={"size": True}), "size must be a whole number"),
    "range": (in_manifest(data={"value_range": [1, 0]}), "value_range must go from the smallest"),
    "component": (in_config(encoder=3), "encoder is no component"),
    "bottleneck": (in_config(bottleneck=None), "bottleneck is no component"),
    "seed": (in_config(seed="abc"), "seed must be a whole number"),
    "no mapping": (in_weights(lambda state: [state]), "best.ckpt is damaged: it must be names and values"),
    "no weights": (in_weights(lambda state: {}), "best.ckpt, state_dict, is damaged: it must be names and values"),
    "no tensor": (in_weights(lambda state: first_weight(state, 3)), "must be a Tensor"),
    "shape": (in_weights(lambda state: first_weight(state, torch.zeros(3))), "does not fit its model"),
    "empty": (in_weights(lambda state: state | {"state_dict": {}}), "does not fit its model"),
}


@pytest.mark.parametrize(("change", "said"), CASES.values(), ids=CASES)
def test_a_damaged_run_is_refused_by_name(change: Change, said: str, finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    change(run)
    with pytest.raises(UserError, match=said):
        narrows.load(run)


def test_a_folder_in_place_of_the_manifest_names_it(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    (run / "manifest.json").unlink()
    (run / "manifest.json").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*manifest\.json: Is a directory"):
        narrows.load(run)


def test_other_keys_of_a_recorded_config_do_not_hinder(finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    in_config(width=5)(run)  # as `+width=5 'encoder.widths=[${width}]'` records it
    assert narrows.load(run).sample(2).shape == (2, 1, 8, 8)
