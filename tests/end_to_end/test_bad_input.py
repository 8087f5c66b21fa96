"""A user's mistake ends with exit code 2 and one sentence, and leaves no run that says `completed`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from command import NARROW, NO_TASKS, TINY, Finished, manifest, only_run, run_directories, run_in_process

import narrows
from narrows.runs import checkpoint_files

NO_DATA = ("datamodule=mnist", "data_dir=nowhere", "datamodule.source.download=false")
ARRAYS = ("datamodule=arrays", "datamodule.source.path")

NAMES: dict[str, tuple[tuple[str, ...], str]] = {
    "variant": (("variant=vaee",), "there is no variant 'vaee': did you mean 'vae'?"),
    "datamodule": (("datamodule=mnits",), "there is no datamodule 'mnits': did you mean 'mnist'?"),
    "trainer": (("trainer=gpuu",), "there is no trainer 'gpuu': did you mean 'gpu'?"),
    "task": (("+task@tasks.mine=anomoly",), "there is no task 'anomoly': did you mean 'anomaly'?"),
    "experiment": (("experiment=linear_minst",), "did you mean 'linear_mnist'?"),
    "group": (("encodre=conv",), "there is no config key 'encodre': did you mean 'encoder'?"),
    "added group": (("+encodre=conv",), "did you mean 'encoder'?"),
    "key": (("bottleneck.dimm=3",), "there is no config key 'dimm' in 'bottleneck': did you mean 'dim'?"),
    "added key": (("+bottleneck.dimm=3",), "bottleneck has no option 'dimm': did you mean 'dim'?"),
    "grammar": (
        ("optimizer.lr=a=b",),
        "'optimizer.lr=a=b' cannot be read, mismatched input '=' expecting <EOF>: write",
    ),
    "no value": (("foo",), "'foo' cannot be read, missing EQUAL at '<EOF>': write KEY=VALUE"),
    "term": (("loss.kll.weight=1",), "there is no config key 'kll' in 'loss': did you mean 'kl'?"),
    "added term": (("+loss.kll.weight=1",), "loss.kll is no component: it has no _target_; did you mean 'kl'?"),
    "term option": (("loss.kl.weigth=1",), "did you mean 'weight'?"),
    "trainer option": (("+trainer.max_epoch=1",), "trainer has no option 'max_epoch': did you mean 'max_epochs'?"),
    "top level": (("+batchsize=3",), "there is no config key 'batchsize'"),
    "elsewhere": (("+bottleneck@bottelneck=topk",), "did you mean 'bottleneck'?"),
    "class": (
        ("bottleneck._target_=narrows.bottlenecks.gaussian.Gausian",),
        "has no 'Gausian': did you mean 'Gaussian'?",
    ),
    "module": (("bottleneck._target_=nowhere.Gaussian",), "cannot import 'nowhere.Gaussian'"),
    "activation": (("encoder.activation=rellu",), "did you mean 'relu'?"),
    "checkpoint": (("checkpoint=bset",), "did you mean 'best'?"),
    "monitor": (("callbacks.checkpoint.monitor=val/los",), "val/loss"),
    "config dir": (("--config-dir=nowhere",), "nowhere' not found"),
    "interpolation": (
        ("bottleneck.dim=${nothing.here}",),
        "Interpolation key 'nothing.here' not found",
    ),
    "missing value": (("datamodule=arrays",), "datamodule.source.path"),
    "taken away": (("~optimizer",), "the config has no 'optimizer'"),
    "no checkpoint": (("~callbacks.checkpoint",), "callbacks has no 'checkpoint'"),
    "null": (("loss.kl=null",), "loss.kl is no component"),
    "no key": (("=3",), "'=3' names no key: write KEY=VALUE"),
    "number for a choice": (("datamodule=3",), "there is no datamodule '3': none of "),
    "null for a choice": (("variant=null",), "there is no variant 'null': "),
    "numbers for choices": (("callbacks=[1]",), "there is no callbacks '[1]': "),
}
VALUES: dict[str, tuple[tuple[str, ...], str]] = {
    "k": (("variant=topk", "bottleneck.dim=4", "bottleneck.k=9"), "k must be between 1 and dim=4, not 9"),
    "dim": (("bottleneck.dim=0",), "dim must be at least 1, not 0"),
    "weight": (("loss.kl.weight=-1",), "must not be negative, but it is -1"),
    "rho above": (("variant=sparse_kl", "loss.sparse_kl.rho=1.5"), "rho must be in (0, 1), not 1.5"),
    "rho at": (("variant=sparse_kl", "loss.sparse_kl.rho=0"), "rho must be in (0, 1), not 0"),
    "p": (("corruption=masking", "corruption.p=1.5"), "p must be in (0, 1), not 1.5"),
    "sigma": (("likelihood=gaussian", "likelihood.sigma=-1"), "sigma must be above 0, not -1"),
    "no batch": (("datamodule.batch_size=0",), "batch_size=0 must be at least 1"),
    "negative batch": (("datamodule.batch_size=-4",), "batch_size=-4 must be at least 1"),
    "epochs": (("trainer.max_epochs=-3",), "max_epochs"),
    "no limit": (("trainer.max_epochs=-1",), "-1 is for runs that max_steps or max_time ends"),
    "no device": (("trainer.devices=-1",), "trainer.devices must be at least 1, not -1"),
    "vast": (("bottleneck.dim=1000000000000",), "out of memory"),
    "no end of digits": (("bottleneck.dim=100000000000000000000",), "bottleneck.dim must hold finite numbers"),
    "infinite lr": (("optimizer.lr=inf",), "optimizer.lr must hold finite numbers below 2^63, not inf"),
    "one beta": (("optimizer.betas=[0.9]",), "optimizer.betas must be a list of 2 numbers, not [0.9]"),
    "mapping for int": (("bottleneck.dim={a:1}",), "bottleneck.dim must be a whole number, not {'a': 1}"),
    "schedule for int": (("+schedule@bottleneck.dim=linear",), "bottleneck.dim must be a whole number, not {"),
    "partial": (("bottleneck._partial_=abc",), "bottleneck._partial_ must be true or false"),
    "partial term": (("+loss.kl._partial_=true",), "loss.kl._partial_ must be false: there is nothing that it waits"),
    "arguments": (("+bottleneck._args_=3",), "bottleneck._args_ must be a list, not 3"),
    "no target": (("bottleneck._target_=null",), "bottleneck._target_ must be the name of a class, not None"),
    "number for checkpoint": (("checkpoint=1",), "no checkpoint '1': valid: best, last"),
    "accelerator": (("trainer.accelerator=tpu",), "trainer: "),
    "duration": (("trainer.max_time=banana",), "trainer: "),
    "stopping": (
        ("callbacks=early_stopping", "callbacks.early_stopping.monitor=nope"),
        "callbacks.early_stopping.monitor: there is no figure 'nope'",
    ),
    "no epoch": (("trainer.max_epochs=0",), "nothing was trained"),
    "no validation": (("trainer.check_val_every_n_epoch=0",), "must be at least 1, not 0"),
    "conversion": (("+bottleneck._convert_=foo",), "bottleneck._convert_: there is no 'foo': valid: all, none"),
    "recursion": (("+bottleneck._recursive_=foo",), "bottleneck._recursive_ must be true or false, not foo"),
    "letters as milestones": (
        ("scheduler=milestones", "scheduler.milestones=abc"),
        "must be a list of epochs that incre",
    ),
    "T_max": (("scheduler=cosine", "scheduler.T_max=0"), "scheduler.T_max must be at least 1, not 0"),
    "noise": (
        ("+task@tasks.denoising=denoising", "tasks.denoising.noises={gaussian: [-1]}"),
        "sigma must be above 0, not -1",
    ),
    "labels of a task": (
        ("+task@tasks.anomaly=anomaly", "tasks.anomaly.normal_labels=[77]"),
        "no example has the label 77: those of these data are 0 to 9",
    ),
    "labels of training": (
        ("datamodule.source.train_labels=[1,77]",),
        "no example has the label 77; the labels that exist are [0, 1, 2",
    ),
    "memory": (
        ("datamodule=image_folder", "datamodule.source.path=x", "datamodule.source.memory_limit_mb=-1"),
        "source.memory_limit_mb=-1 must be a number of at least 0",
    ),
    "fold without folds": (("datamodule.fold=-1",), "fold=-1 is read with folds alone: set folds too"),
    "package": (("--package=nope",), "--package is of a config that is shown: add --cfg=job"),
    "fold": (("datamodule.folds=5", "datamodule.fold=5"), "must lie in 0 to 4"),
    "accumulate": (("module.accumulate=0",), "module.accumulate must be at least 1, not 0"),
    "lr": (("optimizer.lr=-1",), "optimizer: Invalid learning rate: -1"),
    "text for int": (("bottleneck.dim=abc",), "bottleneck.dim must be a whole number, not 'abc'"),
    "fraction for int": (("bottleneck.dim=2.5",), "bottleneck.dim must be a whole number, not 2.5"),
    "null for int": (("bottleneck.dim=null",), "bottleneck.dim must be a whole number, not null"),
    "truth for int": (("bottleneck.dim=true",), "bottleneck.dim must be a whole number, not True"),
    "int for list": (("encoder.widths=5",), "encoder.widths must be a list of whole numbers, not 5"),
    "text for float": (("optimizer.lr=abc",), "optimizer.lr must be a number, not 'abc'"),
    "text for weight": (("loss.kl.weight=abc",), "must be a number or a schedule, not 'abc'"),
    "text for epochs": (("trainer.max_epochs=abc",), "trainer.max_epochs must be a whole number or null, not 'abc'"),
    "text for seed": (("seed=abc",), "seed must be a whole number"),
}
COMPOSITIONS: dict[str, tuple[tuple[str, ...], str]] = {
    # The missing data would be complained of, had they been looked for first.
    "loss": (
        ("variant=vae", "bottleneck=deterministic", *NO_DATA),
        "loss term 'kl' (KL) reads a VariationalLatent, but bottleneck Deterministic returns a Latent",
    ),
    "loss of a model's latent": (
        ("variant=hamiltonian_vae", "loss=beta_tc", *NO_DATA),
        "'total_correlation' (TotalCorrelation) reads a GaussianLatent, but model HamiltonianAutoencoder returns a "
        "MomentumLatent; use a Gaussian posterior",
    ),
    "loss of a model's prior": (
        ("variant=vamp_vae", "loss=dip", *NO_DATA),
        "loss term 'dip' (DIP) reads a GaussianLatent, but model VampAutoencoder returns a LearntPriorLatent",
    ),
    "model's prior": (
        ("variant=vamp_vae", "loss=reconstruction", *NO_DATA),
        "model VampAutoencoder has a prior that none of the loss terms 'reconstruction' trains; use loss=elbo",
    ),
    "model's bottleneck": (
        ("variant=hamiltonian_vae", "bottleneck=ladder", *NO_DATA),
        "model hamiltonian: the posterior must be Gaussian, but bottleneck Ladder returns a HierarchicalLatent",
    ),
    "density of a model's latent": (
        ("variant=vamp_vae", "density=vamp", *NO_DATA),
        "density VampDensity reads a GaussianLatent, but model VampAutoencoder returns a LearntPriorLatent",
    ),
    "loss of a conditional model": (
        ("variant=conditional_vae", "bottleneck=topk", *NO_DATA),
        "reads a VariationalLatent, but bottleneck TopK returns a SparseLatent",
    ),
    "no model": (("model._partial_=false", *NO_DATA), "model names a class of kind Autoencoder, with _partial_: true"),
    "no bottleneck": (
        ("model._target_=narrows.encoders.mlp.MLPEncoder", "~model.init", *NO_DATA),
        "model: 'narrows.encoders.mlp.MLPEncoder' cannot stand here: model names a class of kind Autoencoder",
    ),
    "masked": (("loss=masked", *NO_DATA), "but corruption NoCorruption hides none; use corruption=masking"),
    "map": (
        ("encoder=conv", "encoder.flatten=false", "decoder=conv", "decoder.channels=[8]"),
        "the bottleneck gives [8, 2, 2], but decoder conv with 1 stages needs a vector or a map ['C', 4, 4]",
    ),
    "small for encoder": (
        ("encoder=conv", "encoder.channels=[4,4,4,4]"),
        "encoder conv has 4 stages (entries of channels), but a size of 8 x 8 can be halved at most 3 times",
    ),
    "small for decoder": (("decoder=resnet", "decoder.channels=[8,8,8,8]"), "halved at most 3 times"),
    "bernoulli": (
        ("datamodule=series", "likelihood=bernoulli"),
        "likelihood BernoulliLikelihood needs data inside [0, 1], but these lie in an unbounded range",
    ),
    "salt": (("datamodule=series", "corruption=salt_and_pepper"), "data with a smallest and a largest value"),
    "lstm encoder": (("encoder=lstm",), "encoder lstm reads series (C, T), not data of shape [1, 8, 8]"),
    "lstm decoder": (("decoder=lstm_ar",), "writes series (C, T), not data of shape [1, 8, 8]"),
    "tied": (
        ("variant=undercomplete", "decoder.tied=true", "encoder.widths=[9]"),
        "which must mirror the encoder's [9]",
    ),
    "a model that is an input now": (
        ("model=missing_indicator",),
        "'model=missing_indicator' is what an earlier version called it: today it is 'input=missing_indicator'",
    ),
    "gpu": (("trainer=gpu",), "finds no GPU here; use trainer=cpu"),
    "-m at the end": (("seed=1,2", "bottleneck.dm=3", "-m"), "there is no config key 'dm' in 'bottleneck'"),
    "wandb": (("logger=wandb",), "logger=wandb needs the extra: pip install 'narrows[wandb]'"),
    "mlflow": (("logger=mlflow",), "logger=mlflow needs the extra: pip install 'narrows[mlflow]'"),
}
DATA: dict[str, tuple[tuple[str, ...], str]] = {
    "not finite": ((ARRAYS[0], f"{ARRAYS[1]}=broken.npz"), "2 values that are NaN or infinite, the first in row 3"),
    "text": ((ARRAYS[0], f"{ARRAYS[1]}=text.npz"), "numbers or truth values are needed"),
    "no file": ((ARRAYS[0], f"{ARRAYS[1]}=nowhere.npz"), "nowhere.npz does not exist: set source.path"),
    "no folder": (NO_DATA, "data_dir= to the folder that holds it"),
    "output is a file": (("output_dir=occupied",), "cannot use occupied"),
    "run is a file": (("hydra.run.dir=occupied",), "cannot use occupied"),
    "sweep is a file": (("-m", "output_dir=occupied"), "cannot use occupied"),
}
ALL = {"name": NAMES, "value": VALUES, "composition": COMPOSITIONS, "data": DATA}
CASES = [pytest.param(*case, id=f"{kind}: {name}") for kind, cases in ALL.items() for name, case in cases.items()]
NEEDS_NO_GPU = {"trainer=gpu"}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("workplace")
    x = np.random.default_rng(0).normal(size=(40, 6))
    x[3, 2], x[7, 1] = np.nan, np.inf
    np.savez(folder / "broken.npz", x=x)
    np.savez(folder / "text.npz", x=np.array([["a"], ["b"]]))
    (folder / "occupied").write_text("somebody's file")
    return folder


def refused(done: Finished) -> str:
    """The one sentence; nothing else on stderr looks like trouble."""
    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    (sentence,) = done.complaints
    assert done.err.rstrip().splitlines()[-1] == sentence
    assert "Error executing job" not in done.err
    # What may stand before it is what the run says of its data and model.
    assert len(done.err.splitlines()) <= 6, done.err
    return sentence


@pytest.mark.parametrize(("arguments", "said"), CASES)
def test_a_mistake_is_one_sentence(arguments: tuple[str, ...], said: str, workplace: Path, tmp_path: Path) -> None:
    if NEEDS_NO_GPU & set(arguments) and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    place = () if any("occupied" in argument for argument in arguments) else (f"output_dir={tmp_path}",)
    assert said in refused(run_in_process(*TINY, *arguments, *place, cwd=workplace))
    assert (workplace / "occupied").read_text() == "somebody's file"
    for run in run_directories(tmp_path):
        record = manifest(run)
        assert record["status"] == "failed"
        assert said in record["error"]
        assert not (run / "metrics.json").exists()


def test_a_run_is_never_overwritten(tmp_path: Path) -> None:
    place = f"hydra.run.dir={tmp_path / 'run'}"
    first = run_in_process(*TINY, *NARROW, *NO_TASKS, place, cwd=tmp_path)
    assert first.code == 0, first.err
    before = {path: path.read_bytes() for path in sorted((tmp_path / "run").rglob("*")) if path.is_file()}
    assert "already holds a run" in refused(run_in_process(*TINY, *NARROW, "seed=1", place, cwd=tmp_path))
    after = {path: path.read_bytes() for path in sorted((tmp_path / "run").rglob("*")) if path.is_file()}
    assert after == before


def test_a_loss_that_turns_nan_stops_the_run(tmp_path: Path) -> None:
    arguments = ("likelihood=gaussian", "optimizer=sgd", "optimizer.lr=1e30", *NARROW)
    sentence = refused(run_in_process(*TINY, *arguments, cwd=tmp_path))
    assert "the term 'reconstruction' became nan at step 1" in sentence
    record = manifest(only_run(tmp_path))
    assert record["status"] == "failed"
    assert record["error"].endswith(sentence.removeprefix("narrows: "))
    kept = {path.name: checkpoint_files.read(path)["global_step"] for path in only_run(tmp_path).rglob("*.ckpt")}
    assert kept == {"best.ckpt": 0, "last.ckpt": 0}


def test_the_last_good_checkpoint_survives_a_nan(tmp_path: Path) -> None:
    # Fine for one epoch, absurd in the next.
    late = ("scheduler=milestones", "scheduler.milestones=[1]", "scheduler.gamma=1e30", "trainer.max_epochs=3")
    done = run_in_process(*TINY, *NARROW, *late, "optimizer=sgd", "optimizer.lr=1e-4", cwd=tmp_path)
    assert "became nan at step 3" in refused(done)
    run = only_run(tmp_path)
    assert manifest(run)["status"] == "failed"
    for which in ("best", "last"):
        saved = torch.load(run / "checkpoints" / f"{which}.ckpt", weights_only=True)
        assert saved["epoch"] == 0
        assert all(torch.isfinite(weight).all() for weight in saved["state_dict"].values())
        assert torch.isfinite(narrows.load(run, which).reconstruct(torch.rand(2, 1, 8, 8))).all()
