"""Two processes that divide the weights between them are one, with gloo on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command import NARROW, free_port, run_command, run_in_process

from narrows.runs import checkpoint_files

# Blocks that are gathered one by one, numbers that cannot be divided (the gates of shortcuts), a start at PCA, which
# writes to whole weights, and steps of several batches whose gradients are clipped together.
RUN = (
    *NARROW,
    *("variant=undercomplete", "encoder.dropout=0", "decoder.dropout=0", "datamodule=digits"),
    *("encoder.shortcut=true", "decoder.shortcut=true", "callbacks.start_at_pca.when=always"),
    *("datamodule.batch_size=121", "module.accumulate=2", "module.clip_norm=0.5"),
    *("optimizer=sgd", "optimizer.lr=0.001", "optimizer.momentum=0.9"),
    *("trainer.log_every_n_steps=5", "trainer.max_epochs=2", "~tasks.latent"),
    "hydra.run.dir=run",
)
DRAWN = {
    "while it trains": "callbacks.pictures.every_n_epochs=1",
    "at its end": "callbacks.pictures.every_n_epochs=null",
}
TWO = ("trainer=fsdp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_epochs=2")
SMALL = '''
import lightning
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from narrows.training import fully_sharded

fully_sharded.LARGE = 500


class Blocks(lightning.Callback):
    """Asks that blocks are divided apart from the whole, and how much a process holds."""

    def on_train_start(self, trainer, module):
        divided = [name for name, part in module.named_modules() if isinstance(part, FSDPModule)]
        assert divided[0] == "" and len(divided) > 2, divided

    def on_train_end(self, trainer, module):
        """Each process holds half of the momenta, and a row more where an odd number is divided."""
        momenta = [state["momentum_buffer"] for state in trainer.optimizers[0].state.values()]
        whole = sum(values.numel() for values in momenta)
        held = sum((values.to_local() if isinstance(values, DTensor) else values).numel() for values in momenta)
        assert 0.45 * whole < held < 0.55 * whole, (held, whole)
'''


@pytest.mark.slow
@pytest.mark.parametrize("drawn", DRAWN.values(), ids=DRAWN)
def test_two_processes_that_divide_the_weights_are_one(drawn: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "two" / "small.py").write_text(SMALL)
    done = run_in_process(*RUN, drawn, "trainer=cpu", "trainer.max_epochs=2", cwd=tmp_path / "one")
    assert done.code == 0, done.err
    blocks = "+callbacks.blocks._target_=small.Blocks"
    env = {"MASTER_PORT": free_port()}
    done = run_command("train", *RUN, drawn, *TWO, blocks, cwd=tmp_path / "two", env=env, timeout=200)
    assert done.code == 0, done.err
    one, two = tmp_path / "one" / "run", tmp_path / "two" / "run"
    then, now = (checkpoint_files.read(path / "checkpoints" / "last.ckpt") for path in (one, two))
    assert now["state_dict"].keys() == then["state_dict"].keys()
    for name, value in then["state_dict"].items():
        torch.testing.assert_close(now["state_dict"][name], value, rtol=0, atol=1e-5)
    expected, found = (json.loads((path / "metrics.json").read_text()) for path in (one, two))
    assert found == pytest.approx(expected, rel=1e-5)
    assert sorted(path.name for path in (two / "figures").iterdir()) == sorted(
        path.name for path in (one / "figures").iterdir()
    )


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("callbacks=ema",), "callbacks.averaged reads and writes them as a whole"),
        (("trainer.precision=16-mixed",), "takes neither trainer.precision=16-mixed"),
        (("module.compile=true",), "nor module.compile=true"),
    ],
)
def test_what_cannot_be_divided_is_refused(asked: tuple[str, ...], told: str, tmp_path: Path) -> None:
    done = run_in_process(*TWO, *asked, cwd=tmp_path)
    assert done.code == 2
    (complaint,) = done.complaints
    assert complaint.startswith("narrows: trainer.strategy=fsdp ")
    assert told in complaint
    assert not list(tmp_path.rglob("manifest.json")) or "failed" in next(tmp_path.rglob("manifest.json")).read_text()
