"""`from=`: a record again, with other choices and values, equals the command that would have asked for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from command import NARROW, NO_TASKS, TINY, manifest, only_run, recorded_config, run_directories, run_in_process
from omegaconf import OmegaConf

from narrows.config.compose_in_process import composed
from narrows.config.composition import choice_files, register_resolvers, run_dir
from narrows.config.leftovers import clear
from narrows.config.origin import Origin, split_origin
from narrows.config.plain_yaml import flatten
from narrows.errors import UserError
from narrows.loading.start_from import expand

MINE = """\
defaults:
  - variant: undercomplete
  - override /encoder: conv
  - decoder: conv
bottleneck:
  dim: 6
optimizer:
  lr: 0.01
"""


def values(arguments: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a single run of these arguments composes, resolved and flat, and its choices."""
    register_resolvers()
    found = composed("train", (*clear(arguments).overrides, *arguments))
    plain = OmegaConf.create({key: value for key, value in found.values.items() if key not in ("sweep", "from")})
    return OmegaConf.to_container(plain, resolve=True), found.choices  # type: ignore[return-value]


def record(place: Path, arguments: Sequence[str], by_mail: bool) -> Path:
    """The record that a run of these arguments leaves; by mail comes its config alone."""
    place.mkdir(exist_ok=True)
    config, choices = values(arguments)
    (place / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config)))
    known = {key: str(choice) for key, choice in choices.items() if not key.startswith(("hydra", "sweep"))}
    told = {"status": "completed", "overrides": list(arguments), "choices": known}
    if not by_mail:
        (place / "manifest.json").write_text(json.dumps(told))
    return place


def without_places(config: dict[str, Any]) -> dict[str, Any]:
    """A recorded config downloads nothing."""
    return {key: repr(value) for key, value in flatten(config).items() if not key.endswith(".download")}


COMMANDS = (
    ("variant=vae",),
    ("variant=beta_vae", "loss=iwae"),
    ("variant=masked", "encoder.patch=2"),
    ("variant=info_vae", "likelihood=laplace", "trainer.max_epochs=3", "callbacks=[resample,start_at_mean]"),
    ("+schedule@loss.kl.weight=linear", "loss.kl.weight.steps=500", "+task@tasks.odd=anomaly", "~tasks.latent"),
    ("experiment=keras/conv",),
    # By mail nobody knows where the values come from, a record knows the choice within the choice.
    *[("feature_map@datamodule.features=frozen", "datamodule.features.network.size=32")] * 2,
)


@pytest.mark.parametrize(("command", "by_mail"), [(command, i % 2 == 0) for i, command in enumerate(COMMANDS)], ids=str)
def test_without_changes_it_is_the_record(command: tuple[str, ...], by_mail: bool, tmp_path: Path) -> None:
    place = record(tmp_path / "run", command, by_mail)
    again = values(expand([f"from={place}"]).overrides)[0]
    assert without_places(again) == without_places(values(command)[0])


@pytest.mark.slow
@pytest.mark.parametrize("by_mail", [False, True])
def test_every_variant_and_experiment_is_its_record(by_mail: bool, real_data: Path, tmp_path: Path) -> None:
    recipes = [f"variant={name}" for name in choice_files("variant")]
    recipes += [
        f"experiment={name}" for name in choice_files("experiment") if name not in ("pneumonia", "adbench", "tables")
    ]
    for number, recipe in enumerate(recipes):
        # Files that are named are looked for.
        asked = [recipe, f"data_dir={real_data}"]
        place = record(tmp_path / str(number), asked, by_mail)
        again = values(expand([f"from={place}", asked[1]]).overrides)[0]
        assert without_places(again) == without_places(values(asked)[0]), recipe


ASKED = (
    *("variant=undercomplete", "variant=vq_vae", "datamodule=mnist", "datamodule=table", "likelihood=bernoulli"),
    *("loss=iwae", "bottleneck=hyperspherical", "optimizer=sgd", "callbacks=early_stopping", "bottleneck.dim=3"),
    *("trainer=gpu", "+task@tasks.odd=anomaly", "+schedule@loss.kl.weight=linear"),
)
RECORDED = (
    # By mail, epochs may be those that followed from the data, and other data take their place.
    pytest.param(("variant=beta_vae", "seed=7"), True, marks=pytest.mark.slow),
    # Nor can it be known that an experiment chose the corruption, and a variant brings its own.
    (("experiment=denoising_mnist",), False),
)


@pytest.mark.parametrize(("command", "by_mail"), RECORDED, ids=str)
def test_with_a_change_it_is_the_command_with_that_change(
    command: tuple[str, ...], by_mail: bool, tmp_path: Path
) -> None:
    place = record(tmp_path / "run", command, by_mail)
    for asked in ASKED if by_mail else ASKED[:5]:
        again = values(expand([f"from={place}", asked]).overrides)[0]
        assert without_places(again) == without_places(values([*command, asked])[0]), asked


def test_a_replaced_group_takes_its_values_along_and_it_is_said(tmp_path: Path) -> None:
    place = record(tmp_path / "run", ["variant=vae", "bottleneck.dim=4", "encoder.widths=[8]"], False)
    found = expand([f"from={place}", "bottleneck=vq"])
    config = values(found.overrides)[0]
    assert config["bottleneck"] == values(["bottleneck=vq"])[0]["bottleneck"]
    assert config["encoder"]["widths"] == [8]
    assert found.notes == [f"left out: bottleneck.dim=4 of {place}/config.yaml; bottleneck=vq takes its place"]


def test_references_stay_references(tmp_path: Path) -> None:
    place = record(tmp_path / "run", ["variant=masked", "encoder.patch=2"], True)
    config = values(expand([f"from={place}", "encoder.patch=4"]).overrides)[0]
    assert (config["decoder"]["patch"], config["corruption"]["size"]) == (4, 4)


def test_a_yaml_of_one_s_own_is_as_an_experiment(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MINE)
    line = ["variant=undercomplete", "encoder=conv", "decoder=conv", "bottleneck.dim=6", "optimizer.lr=0.01"]
    mine = f"from={tmp_path / 'mine.yaml'}"
    assert without_places(values(expand([mine]).overrides)[0]) == without_places(values(line)[0])
    found = expand([mine, "bottleneck=topk"])
    without = [text for text in line if "dim" not in text]
    assert without_places(values(found.overrides)[0]) == without_places(values([*without, "bottleneck=topk"])[0])
    assert "left out: bottleneck.dim=6" in found.notes[0]


REFUSED = {
    "hydra: {job_logging: {}}": "sets 'hydra', which only the command line may",
    "sweep: {workers: {_target_: os.system}}": "sets 'sweep'",
    "notes: ${oc.env:HOME}": "only references to other keys",
    "defaults: [hydra/launcher: basic]": "no config group that a file may choose from",
    "defaults: [sweep: grid]": "no config group that a file may choose from",
    "defaults: [../x]": "is no choice of a group",
    "# @package encoder\nseed: 1": "must be _global_",
    "seed: [1": "is not valid YAML",
    "encoder: {_target_: os.system}": "encoder._target_: 'os.system' is no component",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_stranger_s_yaml_decides_nothing_but_the_config(text: str, tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text(text)
    done = run_in_process("from=theirs.yaml", *TINY, cwd=tmp_path)
    assert (done.code, len(done.complaints)) == (2, 1), done.err
    assert REFUSED[text] in done.complaints[0]
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("text", ["{a:1}", "{}", "{path:1,sha256:x,allow:[],keep_loggers:false}"])
def test_a_mapping_is_no_source(text: str, tmp_path: Path) -> None:
    done = run_in_process(f"from={text}", *TINY, cwd=tmp_path)
    assert (done.code, len(done.complaints)) == (2, 1), done.err
    assert done.complaints[0].startswith(f"narrows: from={text}: from")
    assert not (tmp_path / "outputs").exists()


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text("")
    with pytest.raises(UserError, match="is a sweep: name one of the runs in it"):
        expand([f"from={tmp_path}"])
    with pytest.raises(UserError, match="there is no such run, directory or file"):
        expand(["from=nowhere"])
    (tmp_path / "mine.yaml").write_text(MINE)
    with pytest.raises(UserError, match="has changed since the sweep began"):
        expand([f"from={tmp_path / 'mine.yaml'}", "sha256=0"])
    done = run_in_process("from_config=mine.yaml", cwd=tmp_path)
    assert done.complaints == [
        "narrows: 'from_config=mine.yaml' is what an earlier version called it: today it is 'from=mine.yaml'"
    ]


def test_an_origin_is_written_and_read_back() -> None:
    origin = Origin("/a b/it's=1,2/config.yaml", "12", ["mylab"], True)
    assert split_origin(["seed=1", origin.override(), "seed=2"]) == (origin, ["seed=2"])
    assert Origin("/o/vae/x=1_2026-11-29_07-32-21_9cead46c/config.yaml", "").name == "vae-9cead46c"
    assert Origin("/mail/mine.yaml", "").name == "mine"


def test_a_run_a_sweep_and_what_they_record(tmp_path: Path) -> None:
    small = (*TINY, *NARROW, *NO_TASKS, "bottleneck.dim=3")
    assert run_in_process(*small, "name=theirs", cwd=tmp_path).code == 0
    theirs = only_run(tmp_path)
    before = {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()}
    run_dir.cache_clear()
    done = run_in_process(f"from={theirs}", "likelihood=laplace", cwd=tmp_path)
    assert done.code == 0, done.err
    (mine,) = [run for run in run_directories(tmp_path) if run != theirs]
    assert mine.name.startswith(f"from=vae-{theirs.name[-8:]},likelihood=laplace_")
    told = manifest(mine)
    assert told["from"]["path"] == str(theirs / "config.yaml")
    assert len(told["from"]["sha256"]) == 64
    assert told["overrides"] == [f"from={theirs / 'config.yaml'}", "likelihood=laplace"]
    assert told["choices"]["likelihood"] == "laplace"
    config = recorded_config(mine)
    assert (config.bottleneck.dim, config.name, "from" in config) == (3, None, False)
    assert {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()} == before
    shown = run_in_process(f"from={theirs / 'config.yaml'}", "--cfg", "job", "loss=iwae", cwd=tmp_path)
    assert "ImportanceWeighted" in shown.out, shown.err
    wrong = run_in_process("-m", f"from={theirs}", "likelihood=laplace,nosuch", cwd=tmp_path)
    assert wrong.complaints[0].startswith("narrows: there is no likelihood 'nosuch'")


@pytest.mark.slow
def test_a_sweep_says_its_source_in_every_record(tmp_path: Path) -> None:
    assert run_in_process(*TINY, *NARROW, *NO_TASKS, "loss.kl.weight=2", cwd=tmp_path).code == 0
    theirs = only_run(tmp_path)
    done = run_in_process("-m", f"from={theirs / 'config.yaml'}", "loss=elbo,iwae", cwd=tmp_path)
    assert done.code == 0, done.err
    jobs = run_directories(tmp_path / "outputs" / "sweeps")
    assert [manifest(job)["from"]["path"] for job in jobs] == [str(theirs / "config.yaml")] * 2
    assert recorded_config(jobs[0]).loss.kl.weight == 2
    assert "kl" not in recorded_config(jobs[1]).loss
    again = run_in_process("-m", f"from={theirs / 'config.yaml'}", "loss=elbo,iwae", "sweep.resume=true", cwd=tmp_path)
    assert again.code == 0, again.err
    assert len(run_directories(tmp_path / "outputs" / "sweeps")) == 2
