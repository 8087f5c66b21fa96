"""Real commands, as a user types them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from command import (
    COMMAND,
    NARROW,
    NO_TASKS,
    TINY,
    Finished,
    manifest,
    only_run,
    recorded_config,
    run_command,
    run_directories,
    run_in_process,
)
from omegaconf import OmegaConf

import narrows
from narrows.commands import evaluate
from narrows.config.composition import config_dir

# ── help and completion ─────────────────────────────────────────────────────────────────────────────────


def test_help_is_there_without_torch() -> None:
    program = "import sys; from narrows.cli import main; main(); assert not {'torch', 'hydra'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", program, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for line in ("narrows train variant=topk datamodule=mnist", "  train ", "  completion "):
        assert line in done.stdout


VALID = (
    "valid: compare, completion, compress, decompress, diff, embed, evaluate, export, pack, recommend, reconstruct, "
    "reproduce, sample, score, style, summarise, tensorboard, train"
)


def test_an_unknown_command_names_the_nearest(tmp_path: Path) -> None:
    done = run_command("trian", cwd=tmp_path)
    assert done.code == 2
    assert done.err == f"narrows: there is no command 'trian': did you mean 'train'? {VALID}\n"


def test_train_help_lists_every_group_and_choice(tmp_path: Path) -> None:
    done = run_command("train", "--help", cwd=tmp_path)
    assert done.code == 0, done.err
    for group in (path for path in config_dir().iterdir() if path.is_dir()):
        choices = ", ".join(sorted(path.stem for path in group.glob("*.yaml")))
        assert f"{group.name}: {choices}\n" in done.out
    assert list(tmp_path.iterdir()) == []


def test_the_composed_config_is_shown(tmp_path: Path) -> None:
    done = run_command("train", "--cfg", "job", "bottleneck.dim=7", cwd=tmp_path)
    assert done.code == 0, done.err
    config = OmegaConf.create(done.out)
    assert config.bottleneck.dim == 7
    assert list(tmp_path.iterdir()) == []


def complete(line: str, cwd: Path) -> list[str]:
    """What bash offers at the end of `line`."""
    program = f"""
        eval "$(narrows completion bash)"
        COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=($COMP_LINE)
        [[ $COMP_LINE == *" " ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _narrows
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environment = os.environ | {"PATH": f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", program], cwd=cwd, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("narrows tr", ["train"]),
        (
            "narrows train variant=s",
            [f"variant={name}" for name in sorted(path.stem for path in (config_dir() / "variant").glob("s*"))],
        ),
        ("narrows train datamodule=digits trainer=g", ["trainer=gpu"]),
        ("narrows train bottleneck.d", ["bottleneck.dim="]),
    ],
)
def test_completion_in_bash(line: str, offered: list[str], tmp_path: Path) -> None:
    assert sorted(complete(line, tmp_path)) == offered


# ── a run with a user's own config and class ────────────────────────────────────────────────────────────

OWN_CLASS = '''
import torch
from narrows.bottlenecks.base import Bottleneck
from narrows.layers.stages import AxisLinear
from narrows.types import Latent


class Mine(Bottleneck):
    """A bottleneck that squashes."""

    def __init__(self, in_shape, *, dim: int = 4) -> None:
        super().__init__(in_shape, dim)
        self.projection = AxisLinear(in_shape[0], dim)

    def forward(self, h):
        z = self.projection(h).tanh()
        return Latent(z=z, point=z)
'''
OWN_CONFIG = "_target_: my_classes.Mine\n_partial_: true\ndim: 4\n"


@pytest.fixture(scope="module")
def own_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished]:
    """One command in a directory that holds nothing but a user's class and its config."""
    folder: Path = tmp_path_factory.mktemp("own")
    (folder / "my_classes.py").write_text(OWN_CLASS)
    (folder / "conf" / "bottleneck").mkdir(parents=True)
    (folder / "conf" / "bottleneck" / "mine.yaml").write_text(OWN_CONFIG)
    own = ("--config-dir", "conf", "bottleneck=mine", "loss=reconstruction", "bottleneck.dim=3")
    done = run_command("train", *own, *TINY, *NARROW, cwd=folder)
    assert done.code == 0, done.err
    return folder, done


def test_the_command_says_what_it_did(own_run: tuple[Path, Finished]) -> None:
    folder, done = own_run
    run = only_run(folder)
    assert run.parent == folder / "outputs" / "vae"
    assert str(run.relative_to(folder)) in done.out
    assert "narrows tensorboard outputs" in done.out
    assert "MSE per value" in done.out
    assert "PCA" in done.out
    assert "1,455 training examples of shape [1, 8, 8]" in done.err


def test_a_users_own_class_trains_and_loads(own_run: tuple[Path, Finished], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = own_run
    monkeypatch.syspath_prepend(str(folder))
    model = narrows.load(only_run(folder), allow=["my_classes"])
    x = torch.rand(5, 1, 8, 8)
    assert type(model.bottleneck).__name__ == "Mine"
    assert model.latent_shape == (3,)
    assert model.encode(x).z.shape == (5, 3)
    assert model.embed(x).abs().max() <= 1
    assert model.decode(model.encode(x).z).mean.shape == x.shape
    assert torch.equal(model.reconstruct(x), model.reconstruct(x))
    with pytest.raises(narrows.errors.UserError, match="Mine has no prior to sample from"):
        model.sample(2)


def test_another_command_finds_it_in_the_working_directory_where_it_is_allowed(
    own_run: tuple[Path, Finished], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = own_run
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(folder))])
    monkeypatch.delitem(sys.modules, "my_classes", raising=False)
    (folder / "my_neighbour.py").write_text("raise SystemExit('imported')\n")
    run = str(only_run(folder))
    for allow in ((), ("--allow", "my_neighbour")):
        with pytest.raises(SystemExit) as end:
            evaluate.main([run, "task=reconstruction", *allow])
        assert end.value.code == 2
        assert "my_classes.Mine" in capsys.readouterr().err
    evaluate.main([run, "task=reconstruction", "--allow", "my_classes"])
    assert "MSE per value" in capsys.readouterr().out
    assert sys.modules.pop("my_classes").__file__ == str(folder / "my_classes.py")


# ── sweeps and interruptions ────────────────────────────────────────────────────────────────────────────


def test_a_run_in_double_precision_is_drawn_and_judged(tmp_path: Path) -> None:
    done = run_in_process(*NARROW, "trainer.precision=64-true", "trainer.max_steps=3", "callbacks=probe", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "gave no figures" not in done.err
    run = only_run(tmp_path)
    assert (run / "figures" / "reconstruction.png").exists()
    assert "MSE per value" in done.out


@pytest.mark.slow
def test_five_folds_in_one_command(tmp_path: Path) -> None:
    done = run_in_process("-m", "sweep=folds", "sweep.workers.jobs=2", *TINY, *NARROW, *NO_TASKS, cwd=tmp_path)
    assert done.code == 0, done.err
    runs = run_directories(tmp_path)
    assert len(runs) == 5
    assert len({run.parent for run in runs}) == 1
    held: list[int] = []
    for fold, run in enumerate(runs):
        assert manifest(run)["status"] == "completed"
        config = recorded_config(run)
        assert (config.datamodule.folds, config.datamodule.fold) == (5, fold)
        held += validation_rows(config)
    assert len(held) == len(set(held)) == 1617


def validation_rows(config: Any) -> list[int]:
    from narrows.config.hydra_versions import instantiate

    return torch.cat([batch.index for batch in instantiate(config.datamodule).ordered_loader("validation")]).tolist()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143)])
def test_a_killed_run_says_so(number: signal.Signals, code: int, tmp_path: Path) -> None:
    arguments = ("train", *NARROW, "callbacks=none", "trainer.max_epochs=-1", "trainer.max_steps=100000000")
    with open(tmp_path / "err", "w+") as err:
        process = subprocess.Popen([str(COMMAND), *arguments], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=err)
        try:
            wait_for_checkpoint(tmp_path, process)
            process.send_signal(number)
            assert process.wait(timeout=60) == code
        finally:
            process.kill()
            process.wait()
        err.seek(0)
        assert "Traceback" not in err.read()
    run = only_run(tmp_path)
    assert manifest(run)["status"] == "interrupted"
    assert not (run / "metrics.json").exists()
    assert torch.isfinite(narrows.load(run, "last").reconstruct(torch.rand(1, 1, 8, 8))).all()


def wait_for_checkpoint(folder: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while not list(folder.rglob("last.ckpt")):
        assert process.poll() is None, (folder / "err").read_text()
        assert time.monotonic() < deadline, "no checkpoint in 90 s"
        time.sleep(0.05)
