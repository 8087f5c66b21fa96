"""What a user's own component raises is one sentence that names the config key or the line; the traceback is shown on
request, and a fault of narrows itself keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import NARROW, NO_TASKS, TINY, run_in_process

from narrows.errors import TRACEBACK
from narrows.training import lightning_module

MODULE = """
import torch
from narrows.encoders import MLPEncoder


class Broken(MLPEncoder):
    def __init__(self, in_shape, fault="none", **options):
        super().__init__(in_shape, **options)
        self.fault = fault
        if fault == "built":
            raise LookupError("no such table")

    def forward(self, x):
        if self.fault == "called":
            {}["missing"]
        return super().forward(x)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mylab.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def trained(place: Path, fault: str) -> tuple[int, str]:
    own = ("encoder._target_=mylab.Broken", f"+encoder.fault={fault}")
    done = run_in_process(*TINY, *NARROW, *NO_TASKS, *own, cwd=place)
    return done.code, done.err


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("built", "narrows: encoder: mylab.Broken raised LookupError: no such table"),
        ("called", "mylab.py, line 15, raised KeyError: 'missing'"),
    ],
)
def test_a_fault_of_a_users_component_is_one_sentence(
    fault: str, said: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, err = trained(place, fault)
    assert code == 2, err
    assert said in err.splitlines()[-1]
    assert "Traceback" not in err
    monkeypatch.setenv(TRACEBACK, "1")
    assert "Traceback" in trained(place, fault)[1]


def test_a_fault_of_narrows_keeps_its_traceback(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(lightning_module.AutoencoderModule, "_weigh", faulty)
    # The bug stands in this file here: as if it were the package's own.
    monkeypatch.setattr("narrows.errors.PACKAGE", str(Path(__file__).parents[2]))
    done = run_in_process(*TINY, *NARROW, *NO_TASKS, "hydra.run.dir=run", cwd=place)
    assert done.code == 1
    assert "KeyError: 'a bug'" in done.err
