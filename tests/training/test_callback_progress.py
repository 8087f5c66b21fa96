"""One bar for the whole run."""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from narrows.errors import UserError
from narrows.training.callbacks import progress
from narrows.training.callbacks.progress import Progress

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec.*", "ignore:.*checkpoint directory.*", "ignore:.*batch_size.*", "ignore:.*many workers.*"
)


class _Module(pl.LightningModule):
    """Two optimisers, so that Lightning's global_step is not the number of batches."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.a, self.b = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
        self.latest: dict[str, float] = {}

    def training_step(self, batch: torch.Tensor, index: int) -> None:
        loss = self.a(batch).mean() + self.b(batch).mean()
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()
            optimizer.zero_grad()
        self.latest = {"train/loss": 1.25}

    def validation_step(self, batch: torch.Tensor, index: int) -> None:
        self.log("val/loss", torch.tensor(2.5), logger=False)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(part.parameters(), 0.1) for part in (self.a, self.b)]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class _Counted(progress._Bar):
    made: list[dict[str, Any]] = []  # noqa: RUF012
    redrawn = 0

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.made.append({"total": self.total, "initial": self.initial, "bar": self})

    def refresh(self, *args: Any, **kwargs: Any) -> Any:
        type(self).redrawn += 1
        return super().refresh(*args, **kwargs)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> _Terminal:
    monkeypatch.setattr(progress, "_Bar", _Counted)
    monkeypatch.setattr(_Counted, "made", [])
    monkeypatch.setattr(_Counted, "redrawn", 0)
    # Room for all of the line, however many digits the speed has.
    monkeypatch.setenv("COLUMNS", "200")
    return _Terminal()


def _shown(screen: _Terminal, *arguments: Any, **options: Any) -> pl.Trainer:
    # Not in the fixture: pytest puts its own stderr in place between a fixture and its test.
    with redirect_stderr(screen):
        return _fit(*arguments, **options)


def _fit(bar: Progress, where: Path, epochs: int = 3, resume: str | None = None, **options: Any) -> pl.Trainer:
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        callbacks=[bar],
        default_root_dir=str(where),
        enable_checkpointing=False,
        enable_model_summary=False,
        **options,
    )
    batches = DataLoader([torch.ones(4, 2)] * 10, batch_size=None)
    trainer.fit(_Module(), batches, DataLoader([torch.ones(4, 2)] * 2, batch_size=None), ckpt_path=resume)
    return trainer


def test_one_bar_counts_the_batches_of_the_whole_run(terminal: _Terminal, tmp_path: Path) -> None:
    _shown(terminal, Progress(refresh=5), tmp_path)
    (made,) = _Counted.made
    assert (made["total"], made["initial"], made["bar"].n) == (30, 0, 30)
    last = terminal.getvalue().rstrip("\n").split("\r")[-1]
    assert "epoch 3/3" in last
    assert "30/30" in last
    assert "train/loss 1.25" in last
    assert "val/loss 2.5" in last
    assert terminal.getvalue().endswith("\n")
    # Made, six times five batches, three validations, the end and the closing: not thirty.
    assert _Counted.redrawn <= 14


def test_a_resumed_run_goes_on_from_where_it_stopped(terminal: _Terminal, tmp_path: Path) -> None:
    trainer = _shown(terminal, Progress(), tmp_path, epochs=2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    _shown(terminal, Progress(), tmp_path, epochs=3, resume=str(tmp_path / "half.ckpt"))
    resumed = _Counted.made[1]
    assert (resumed["total"], resumed["initial"], resumed["bar"].n) == (30, 20, 30)


def test_max_steps_bounds_the_total(terminal: _Terminal, tmp_path: Path) -> None:
    # Two optimisers: 14 of Lightning's steps are 7 batches, so the total is an upper bound here.
    trainer = _shown(terminal, Progress(), tmp_path, max_steps=14)
    assert _Counted.made[0]["total"] == 14
    assert progress.processed(trainer) == 7


def test_a_file_gets_a_line_per_tenth(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _fit(Progress(refresh=1), tmp_path)
    shown = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch")]
    assert len(shown) == 10
    assert "step 3/30 (10%)" in shown[0]
    assert "step 30/30 (100%)" in shown[-1]
    assert "train/loss 1.25" in shown[-1]
    assert "\r" not in "".join(shown)


def test_disabled_shows_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _fit(Progress(enable=False), tmp_path)
    assert "epoch" not in capsys.readouterr().err


@pytest.mark.parametrize("refresh", [0, -1])
def test_a_bar_that_is_never_updated_is_refused(refresh: int) -> None:
    with pytest.raises(UserError, match="refresh must be at least 1 batch"):
        Progress(refresh=refresh)
