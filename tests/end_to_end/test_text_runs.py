"""Text through the commands: trained, killed and resumed, reproduced, evaluated, sampled."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import manifest, replayed, run_in_process
from forks import KillAt, Server
from resume_runs import assert_same, figures
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

import narrows
from narrows.commands import evaluate, reproduce, sample

RUN = (
    *("datamodule=text", "variant=text_vae", "input.dim=5", "encoder.hidden=6", "decoder.hidden=6"),
    *("decoder.embedding=5", "bottleneck.dim=3", "datamodule.batch_size=32", "trainer.max_epochs=2"),
    *("trainer=cpu", "trainer.log_every_n_steps=4", "callbacks=none", "~tasks.reconstruction", "~tasks.latent"),
)
TASK = ("+task@tasks.language=language", "tasks.language.samples=3", "tasks.language.classics=[kneser_ney,no_latent]")


def letters(path: Path) -> str:
    """Lines of words, of 1 to 8; the override that names them."""
    source = np.random.default_rng(0)
    lines = [" ".join(source.choice(["a", "rose", "is", "red"], source.integers(1, 9))) for _ in range(300)]
    path.write_text("\n".join(lines))
    return f"datamodule.source.path={path}"


@pytest.fixture(scope="module")
def trained(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("text")
    place = letters(folder / "roses.txt")
    ended = server.run(*RUN, *TASK, "tasks.language.epochs=1", place, "hydra.run.dir=run", cwd=folder)
    assert ended.code == 0, ended.out
    assert "texts: 300 (lines of roses.txt)" in ended.out
    assert "tokens: words, 4 in the vocabulary of the training texts, beside <end> and <unk>" in ended.out
    return folder / "run"


def test_a_run_has_its_figures_its_page_and_its_tokeniser(trained: Path) -> None:
    found = figures(trained)
    for name in ("nll", "perplexity", "bits_per_character", "bleu", "kneser_ney/nll", "no_latent/nll"):
        assert np.isfinite(found[f"test/language/{name}"])
    assert "told again" in (trained / "figures" / "language.md").read_text()
    assert json.loads((trained / "tokeniser.json").read_text())["vocabulary"][:2] == ["<end>", "<unk>"]
    written = [
        value.tensor.string_val[0].decode()
        for path in trained.glob("events.out.tfevents.*")
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
        if "language" in value.tag and value.metadata.plugin_data.plugin_name == "text"
    ]
    assert any("told again" in text for text in written)
    model = narrows.load(trained)
    assert model.spec.vocabulary is not None
    assert (model.spec.end, model.spec.variable) == (0, True)


def test_killed_in_the_second_epoch_and_continued_it_never_stopped(
    trained: Path, server: Server, tmp_path: Path
) -> None:
    place = f"datamodule.source.path={trained.parent / 'roses.txt'}"
    step = KillAt("narrows.training.lightning_module:AutoencoderModule.training_step", 11)
    ended = server.run(*(*RUN, *TASK, "tasks.language.epochs=1", place, "hydra.run.dir=run"), cwd=tmp_path, kill=step)
    assert ended.code == 137, ended.out
    ended = server.run(f"resume={tmp_path / 'run'}", cwd=tmp_path)
    assert ended.code == 0, ended.out
    assert len(manifest(tmp_path / "run")["attempts"]) == 2
    assert_same(trained, tmp_path / "run")


def test_it_is_reproduced_evaluated_and_sampled(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reproduce, "train", replayed)
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    assert reproduce.reproduce([str(run)]) == 0
    assert capsys.readouterr().out.rstrip().endswith("verdict      bitwise equal")
    evaluate.main([str(run), "task=likelihood", "task.samples=2"])
    assert np.isfinite(figures(run)["test/nll"])
    sample.main([str(run), "-n", "5", "--temperature", "1"])
    ids, lines = np.load(run / "samples" / "samples.npy"), (run / "samples" / "samples.txt").read_text().splitlines()
    assert len(ids) == len(lines) == 5
    assert {word for line in lines for word in line.split()} <= {"a", "rose", "is", "red", "<unk>"}


def test_running_text_trains_and_what_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "play.txt").write_text("to be or not to be, that is the question\n" * 200)
    settings = [argument for argument in RUN if not argument.startswith("~")]
    short = ("trainer.max_epochs=1", "trainer.limit_train_batches=2", "hydra.run.dir=run")
    running = ("datamodule.source.tokens.level=characters", "datamodule.source.tokens.windows=16")
    place = "datamodule.source.path=play.txt"
    done = run_in_process(*settings, *short, *running, place, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "running text: 8,200 characters (play.txt)" in done.err
    assert "task reconstruction is left out: tokens have no squared error" in done.err
    (tmp_path / "bad.txt").write_bytes(b"caf\xe9\n")
    for given, said in (
        ("datamodule.source.path=absent.txt", "absent.txt"),
        ("datamodule.source.path=bad.txt", "bad.txt"),
        ("datamodule.source.path=play.txt encoder=mlp", "encoder MLPEncoder takes examples of one length"),
    ):
        own = [argument for argument in settings if not argument.startswith("encoder.")]
        done = run_in_process(*own, *given.split(), cwd=tmp_path)
        assert done.code == 2, done.err
        assert said in done.err
        assert "Traceback" not in done.err
