"""How tasks are run."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import instances
import pytest
import torch
from tasks.standins import PPCA, Rows, context

from narrows.errors import UserError
from narrows.evaluation import subset
from narrows.tasks.base import Task, TaskContext, run_tasks
from narrows.tasks.figure_table import FigureTable
from narrows.training.experiment import write_texts
from narrows.types import Batch


class _Noise(Task):
    name = "noise"

    def run(self, context: TaskContext) -> FigureTable:
        assert not torch.is_grad_enabled()
        assert not any(module.training for module in context.model.modules())
        found = FigureTable()
        found.add({"noise": float(torch.rand(()))})
        return found


class _Mistaken(Task):
    name = "mistaken"

    def run(self, context: TaskContext) -> FigureTable:
        raise UserError("the labels are upside down")


class _Misfit(Task):
    name = "misfit"

    def fits(self, spec: object, model: object) -> str:
        return "it is Sunday"


def _context() -> TaskContext:
    truth = PPCA()
    split = Batch(truth.evidence.sample((5,)))
    return context(truth.model(), Rows({"train": split, "validation": split, "test": split}))


def test_modes_gradients_and_random_stream_are_as_before() -> None:
    judged = _context()
    judged.model.train()
    judged.model.decoder.dropout.eval()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = run_tasks({"noise": _Noise()}, judged)
    assert torch.equal(torch.rand(3), expected)
    assert judged.model.training
    assert not judged.model.decoder.dropout.training
    assert run_tasks({"noise": _Noise()}, judged) == first
    assert run_tasks({"other": _Noise()}, judged) != first


def test_a_misfit_is_passed_over_and_a_mistake_is_kept_as_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    judged = _context()
    with caplog.at_level(logging.INFO):
        found = run_tasks({"misfit": _Misfit(), "mistaken": _Mistaken(), "noise": _Noise()}, judged)
    assert found.keys() == {"test/noise"}
    assert "misfit is left out: it is Sunday" in caplog.text
    assert judged.warnings == ["task mistaken gave no figures: the labels are upside down"]


def test_subset_serves_the_named_rows_in_order() -> None:
    batches = [instances.batch(n=4), instances.batch(n=4), instances.batch(n=3)]
    chosen = list(subset(batches, torch.tensor([1, 2, 9])))
    whole = torch.cat([batch.x for batch in batches])
    assert torch.equal(torch.cat([part.x for part in chosen]), whole[[1, 2, 9]])


def test_what_a_task_writes_is_kept_saved_and_logged(tmp_path: Path) -> None:
    judged = _context()
    judged.write("table", "| a |")
    assert judged.texts == {"table": "| a |"}
    judged.directory = tmp_path
    judged.write("table", "| b |")
    assert (tmp_path / "figures" / "table.md").read_text() == "| b |\n"
    logged: list[tuple[str, str, int]] = []
    write_texts(
        SimpleNamespace(experiment=SimpleNamespace(add_text=lambda *told: logged.append(told))), judged.texts, 7
    )
    write_texts(SimpleNamespace(experiment=None), judged.texts, 7)
    write_texts(SimpleNamespace(), judged.texts, 7)
    assert logged == [("views/table", "| b |", 7)]
