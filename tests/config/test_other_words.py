"""Words of other frameworks are answered by those of narrows, and so is every argument of Lightning's Trainer."""

from __future__ import annotations

import csv
import inspect
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from command import TINY, composed, manifest, only_run, recorded_config, run_in_process
from hydra.errors import HydraException
from omegaconf import OmegaConf

from narrows.compare.run_records import LATER, read_runs
from narrows.config.composition import config_dir, group_names, known_keys
from narrows.config.other_words import ANSWERS, NAMED, REPLACED, WORDS, hint
from narrows.config.overrides import explain
from narrows.runs.file_names import HISTORY

TABLE = {
    "data=mnist": "datamodule=",
    "dataset=mnist": "datamodule=",
    "latent_dim=16": "bottleneck.dim=",
    "bottleneck.latent_dim=16": "bottleneck.dim=",
    "model.latent_dim=16": "bottleneck.dim=",
    "lr=0.1": "optimizer.lr=",
    "model.lr=0.1": "optimizer.lr=",
    "optimizer.learning_rate=0.1": "optimizer.lr=",
    "batch_size=8": "datamodule.batch_size=",
    "data.batch_size=8": "datamodule=",
    "max_epochs=3": "trainer.max_epochs=",
    "epochs=3": "trainer.max_epochs=",
    "trainer.epochs=3": "trainer.max_epochs=",
    "ckpt_path=last.ckpt": "resume=RUN",
    "hparams_search=mnist_optuna": "narrows train -m sweep=optuna",
    "train=False": "narrows evaluate RUN",
    "test=True": "narrows evaluate RUN",
    "gpus=1": "trainer=gpu",
    "trainer.gpus=1": "trainer=gpu",
    "devices=2": "trainer.devices=",
    "num_workers=4": "datamodule.loading.num_workers=",
    "datamodule.num_workers=4": "datamodule.loading.num_workers=",
    "hidden_dims=[64,32]": "encoder.widths=",
    "encoder.hidden_dims=[64,32]": "encoder.widths=",
    "beta=4": "loss.kl.weight=",
    "precision=16": "trainer.precision=",
    "patience=3": "callbacks.early_stopping.patience=",
    "codebook_size=32": "bottleneck.codes=",
    "in_channels=1": "read from the data",
    "free_bits=0.1": "loss.kl.free_bits",
    "batch_sise=8": "datamodule.batch_size=",
    "trainer.gradient_clip_val=1": "module.clip_norm=",
    "trainer.accumulate_grad_batches=2": "module.accumulate=",
    "trainer.logger=false": "logger=",
    "trainer.default_root_dir=x": "output_dir=",
    "trainer.enable_checkpointing=false": "callbacks.checkpoint",
}


@pytest.mark.parametrize("word", TABLE)
def test_a_word_of_other_frameworks_is_answered(word: str) -> None:
    with pytest.raises(HydraException) as refused:
        composed(word)
    assert TABLE[word] in explain(refused.value)


def test_an_argument_of_the_trainer_that_narrows_gives_is_refused_however_it_is_added(tmp_path: Path) -> None:
    done = run_in_process("+trainer.gradient_clip_val=1", cwd=tmp_path)
    assert (done.code, len(done.complaints)) == (2, 1)
    assert "module.clip_norm=" in done.err


def test_what_narrows_does_is_named_only_where_the_trainer_would_have_done_it() -> None:
    assert "early_stopping" in hint("patience", ["lr"], "optimizer")
    assert hint("mdel", ["model", "module"]).startswith("did you mean 'model'?")


def test_every_word_has_one_answer_and_is_no_key() -> None:
    assert sum(len(words.split()) for words in ANSWERS.values()) == len(WORDS)
    keys = {str(key) for key in composed()} - {"trainer"}
    assert not keys & set(WORDS)


def test_every_key_that_an_answer_names_exists() -> None:
    everything = ("callbacks=[default,early_stopping]", "encoder=mlp", "sweep=optuna")
    known = set(known_keys(composed(*everything))) | set(known_keys(composed("variant=vq_vae", "encoder=conv")))
    known |= set(known_keys(composed("datamodule=image_folder", "corruption=gaussian")))
    known |= {*group_names(), "resume", "output_dir"}
    for answer in [*ANSWERS, *REPLACED.values()]:
        for name in NAMED.findall(answer):
            key = name.lstrip("+").rstrip("=").partition("@")[0]
            assert key in known, answer


def test_every_argument_of_lightnings_trainer_is_an_option_or_has_its_replacement() -> None:
    arguments = {name: p.default for name, p in inspect.signature(L.Trainer).parameters.items()}
    listed: Any = OmegaConf.to_container(OmegaConf.load(config_dir() / "trainer" / "auto.yaml"))
    assert set(listed) - {"_target_", "_partial_"} == set(arguments) - set(REPLACED)
    for name, value in LATER.items():
        assert listed[name.removeprefix("trainer.")] == value == arguments[name.removeprefix("trainer.")]


def without_limits() -> list[str]:
    return [text for text in TINY if "limit_" not in text and "max_epochs" not in text]


@pytest.fixture(scope="module", params=["fdr", "overfit", "limit", "profiler"])
def debugged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    shorter = ["trainer.max_epochs=2"] if request.param in ("overfit", "profiler") else []
    done = run_in_process(
        f"debug={request.param}", *without_limits(), *shorter, "datamodule.batch_size=256", cwd=folder
    )
    assert done.code == 0, done.err
    return request.param, only_run(folder)


def test_a_run_that_tries_things_leaves_an_honest_record(debugged: tuple[str, Path]) -> None:
    choice, run = debugged
    record, config = manifest(run), recorded_config(run)
    assert (record["status"], record["choices"]["debug"]) == ("completed", choice)
    (found,) = read_runs([run])
    assert "val/loss" in found.metrics
    assert "test/loss" in found.metrics
    steps = {"fdr": 1, "overfit": 6, "limit": 18, "profiler": 12}[choice]
    with (run / HISTORY).open() as file:
        assert max(int(row["step"]) for row in csv.DictReader(file)) == steps
    assert found.config["trainer.fast_dev_run"] is (choice == "fdr")
    if choice == "fdr":
        assert "the figures mean nothing" in (run / "train.log").read_text()
        assert config.trainer.fast_dev_run is True
    if choice == "overfit":
        assert config.trainer.overfit_batches == 3
    assert (run / "fit-profile.txt").exists() is (choice == "profiler")
