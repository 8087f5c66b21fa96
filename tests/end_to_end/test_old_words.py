"""What earlier versions called otherwise: refused where it is typed, read where it was recorded."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command import NARROW, TINY, composed, only_run, run_in_process
from hydra.utils import get_object
from omegaconf import OmegaConf

import narrows
from narrows.commands import compare, evaluate, reproduce, sample
from narrows.commands.diff import sections
from narrows.compare.run_records import read_history, read_run
from narrows.config.composition import choice_files
from narrows.config.old_words import CHOICES, FIGURES, KEYS, OPTIONS, current_figure, current_override
from narrows.config.overrides import check_overrides, override
from narrows.errors import UserError
from narrows.loading.model_from_config import checkpoint_path, read_weights
from narrows.runs import checkpoint_files
from narrows.runs.old_names import CLASSES, PACKAGES, current_sweep, current_target
from narrows.sweeps.search_space import parse
from narrows.training.fit_in_memory import composition

TYPED = [
    *(f"{group}={old}" for group, names in CHOICES.items() for old in names),
    *(f"{mark}{old}.option=1" for old in KEYS for mark in ("", "+")),
    *("prior=mixture", "~prior", "+term@loss.mine=dead_nll", "+task@tasks.mine=features", "corruption=masking,clean"),
    *("+term@loss.nested=matryoshka", "callbacks.checkpoint.monitor=val/dead", "sweep.objective=prior/log_prob_val"),
]
DOORS: dict[str, Callable[[str], Any]] = {
    "the command line": lambda word: check_overrides([word]),
    "a recorded config": lambda word: override(OmegaConf.create({"seed": 0}), word),
    "a sweep": lambda word: parse([word]),
    "a fit in memory": lambda word: composition((word,)),
}


@pytest.mark.parametrize("door", DOORS)
def test_an_old_word_is_refused_by_todays(door: str) -> None:
    for word in TYPED:
        today = current_override(word)
        assert today != word
        with pytest.raises(UserError, match=re.escape(f"'{word}' is what an earlier version called it: today it is")):
            DOORS[door](word)
        assert current_override(today) == today, "today's words are not refused"


@pytest.mark.parametrize(
    "word",
    ["encoder.activation=gated", "data_dir=prior/clean", "datamodule.source.path=test/nats", "bottleneck.dim=3", "--x"],
)
def test_the_same_word_elsewhere_is_let_through(word: str) -> None:
    assert current_override(word) == word


def test_commands_refuse_old_words(tmp_path: Path, capsys: Any) -> None:
    done = run_in_process("corruption=clean", cwd=tmp_path)
    assert done.code == 2, done.err
    assert done.complaints[0].endswith("today it is 'corruption=none'")
    for command, arguments, today in (
        (sample, (str(tmp_path), "--prior", "mixture"), "--density"),
        (sample, (str(tmp_path), "--prior=mixture"), "--density=mixture"),
        (evaluate, (str(tmp_path), "task=features"), "task=probe"),
        (compare, (str(tmp_path), "--sort", "test/nats"), "test/nll_at_point"),
        (compare, (str(tmp_path), "--metrics", "val/loss,prior/*"), "density/*"),
        (compare, (str(tmp_path), "--group-by", "prior"), "density"),
    ):
        with pytest.raises(SystemExit) as end:
            command.main(list(arguments))  # type: ignore[attr-defined]
        assert end.value.code == 2
        assert f"today it is '{today}'" in capsys.readouterr().err


def test_a_users_own_config_is_told_the_new_name(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\ndefaults:\n  - override /corruption: clean\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    done = run_in_process(f"--config-dir={tmp_path}", "experiment=mine", cwd=tmp_path)
    assert done.code == 2, done.err
    assert "there is no corruption 'clean': today it is 'none'" in done.complaints[0]


def test_the_new_names_are_there_and_the_old_ones_gone() -> None:
    for group, names in CHOICES.items():
        assert names.keys().isdisjoint(choice_files(group)), group
        assert set(names.values()) <= set(choice_files(group)), group
    config = composed("variant=matryoshka_sae", "density=gaussian", "+task@tasks.probe=probe")
    for old, new in KEYS.items():
        assert new in config or OmegaConf.select(config, new) is not None
        assert OmegaConf.select(config, old) is None
    for new in CLASSES.values():
        assert isinstance(get_object(new), type)
    assert all(option in sample.parser().format_help() for option in OPTIONS.values())


def test_names_of_files_and_of_classes_are_read() -> None:
    assert current_target("narrows.bottlenecks.uniform_noise.UniformNoise") == "narrows.bottlenecks.EntropyBottleneck"
    assert current_target("narrows.losses.sparsity.DeadReconstruction") == "narrows.losses.AuxK"
    assert current_target("narrows.priors.gaussians.MixtureDensity") == "narrows.densities.MixtureDensity"
    assert {new.rpartition(".")[0] for new in CLASSES.values()} <= {*PACKAGES, "narrows.corruptions"}


# ── a run whose record is rewritten into the old names ──────────────────────────────────────────────────

OLD_CHOICES = {group: {new: old for old, new in names.items()} for group, names in CHOICES.items()}
OLD_CLASSES = {new: old for old, new in CLASSES.items()}
OLD_PLACES = {"density": "prior", "loss.auxk": "loss.dead", "loss.matryoshka": "loss.nested"}
OLD_PLACES |= {"tasks.probe": "tasks.features"}
OLD_FIGURES = (
    *((r"(train|val|test)/auxk", r"\1/dead"), (r"(train|val|test)/matryoshka", r"\1/nested")),
    *((r"test/probe/(.*)", r"test/features/\1"), (r"density/(.*)", r"prior/\1")),
    (r"test/nll_at_point(.*)", r"test/nats\1"),
)


def old_figure(name: str) -> str:
    return next((re.sub(new, old, name) for new, old in OLD_FIGURES if re.fullmatch(new, name)), name)


def old_config(node: Any, place: str = "") -> Any:
    if isinstance(node, dict):
        inside = {key: f"{place}.{key}".removeprefix(".") for key in node}
        return {
            OLD_PLACES.get(inside[key], inside[key]).rpartition(".")[2]: old_config(value, inside[key])
            for key, value in node.items()
        }
    return OLD_CLASSES.get(node, node) if place.endswith("_target_") else node


def old_choice(key: str, choice: str) -> tuple[str, str]:
    group, at, place = key.partition("@")
    key = f"{group}@{OLD_PLACES.get(place, place)}" if at else OLD_PLACES.get(key, key)
    return key, OLD_CHOICES.get(group, {}).get(choice, choice)


def rewrite(run: Path) -> None:
    """The record of a run as an earlier version wrote it."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(old_config(config), sort_keys=False))
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({old_figure(name): value for name, value in metrics.items()}))
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["choices"] = dict(old_choice(*item) for item in manifest["choices"].items())
    manifest["overrides"] = [old_override(text) for text in manifest["overrides"]]
    (run / "manifest.json").write_text(json.dumps(manifest))
    # Bytes: checkpoints know how far the history had come, line ends and all.
    history = (run / "metrics.csv").read_bytes().decode()
    (run / "metrics.csv").write_bytes(old_history(history).encode())
    for path in (run / "checkpoints" / f"{name}.ckpt" for name in ("best", "last")):
        state = checkpoint_files.read(path)
        state["validated"] = {old_figure(name): value for name, value in state["validated"].items()}
        terms = state["unlogged"]["names"]
        state["unlogged"]["names"] = [old_figure(f"train/{term}").removeprefix("train/") for term in terms]
        state["histories"]["metrics.csv"] = len(old_history(history[: state["histories"]["metrics.csv"]]))
        checkpoint_files.save_as(state, path)
    (run / "checkpoints" / "density.ckpt").rename(run / "checkpoints" / "prior.ckpt")
    density = checkpoint_files.read(run / "checkpoints" / "prior.ckpt")
    density["fitted_to"] = checkpoint_files.checksum(checkpoint_path(run, "best"))
    density["config"]["_target_"] = "narrows.priors.gaussians.GaussianDensity"
    checkpoint_files.save_as(density, run / "checkpoints" / "prior.ckpt")


def old_override(text: str) -> str:
    key, _, value = text.partition("=")
    bare = key.lstrip("+~")
    return key[: len(key) - len(bare)] + "=".join(old_choice(bare, value))


def old_history(text: str) -> str:
    lines = [line.split(",") for line in text.splitlines(keepends=True)]
    return "".join(",".join([step, old_figure(metric), value]) for step, metric, value in lines)


SMALL = (*TINY, *NARROW, "logger=csv", "variant=matryoshka_sae", "bottleneck.dim=12", "bottleneck.k=3")
PROBE = ("+task@tasks.probe=probe", "tasks.probe.sizes=[]", "tasks.probe.networks=false")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("today")
    done = run_in_process(*SMALL, *PROBE, "corruption=none", "density=gaussian", cwd=root)
    assert done.code == 0, done.err
    return only_run(root)


@pytest.fixture
def old(run: Path, tmp_path: Path) -> Path:
    made = shutil.copytree(run, tmp_path / "old")
    rewrite(made)
    return made


def figures(run: Path) -> dict[str, float]:
    return untimed(json.loads((run / "metrics.json").read_text()))


def untimed(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if not name.startswith("throughput/")}


def test_every_renamed_figure_is_among_those_of_this_test(old: Path) -> None:
    names = {*json.loads((old / "metrics.json").read_text())}
    names |= {line.split(",")[1] for line in (old / "metrics.csv").read_text().splitlines()}
    for pattern in FIGURES:
        assert any(re.fullmatch(pattern, name) for name in names), pattern
    assert {old_figure(current_figure(name)) for name in names} == names
    text = (old / "config.yaml").read_text()
    assert all(word in text for word in ("prior:", "dead:", "nested:", "features:", "Clean", "DeadReconstruction"))


def test_an_old_run_is_loaded_and_compared(run: Path, old: Path) -> None:
    here, there = narrows.load(run), narrows.load(old)
    assert there.density is not None
    for name, tensor in here.state_dict().items():
        assert torch.equal(tensor, there.state_dict()[name]), name
    a, b = read_run(run), read_run(old)
    assert not b.notes
    assert a.choices == b.choices
    assert {name: found for name, found in sections(a, b).items() if found} == {}
    assert read_history(run) == read_history(old)


def test_an_old_run_is_reproduced(run: Path, old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(plan: reproduce.Plan) -> int:
        adapted = [f"{key}={value}" for key, value in plan.adapted.items()]
        return run_in_process(f"replay={plan.file}", f"into={plan.into}", *adapted, cwd=tmp_path).code

    monkeypatch.setattr(reproduce, "train", train)
    assert reproduce.reproduce([str(old), "--into", str(tmp_path / "again")]) == 0
    assert figures(tmp_path / "again") == figures(run)


def test_an_old_run_goes_on(run: Path, old: Path, tmp_path: Path) -> None:
    new = shutil.copytree(run, tmp_path / "new")
    for folder in (new, old):
        done = run_in_process(f"resume={folder}", "trainer.max_epochs=2", cwd=tmp_path)
        assert done.code == 0, done.err
    assert figures(new) == figures(old)
    assert untimed(read_history(old)) == untimed(read_history(new))
    here, there = (read_weights(checkpoint_path(folder, "last")) for folder in (new, old))
    assert all(torch.equal(tensor, there[name]) for name, tensor in here.items())
    assert (old / "checkpoints" / "density.ckpt").is_file()


def test_an_old_run_is_evaluated(run: Path, old: Path) -> None:
    evaluate.main([str(old), "task=probe"])
    assert figures(old) == figures(run)


def test_an_old_sweep_goes_on_with_todays_words() -> None:
    plan = {
        "parameters": ["corruption=clean,masking"],
        "fixed": ["prior=flow"],
        "objectives": {"test/nats": "minimize"},
    }
    found = current_sweep({"arguments": ["bottleneck=gated,topk"], "plan": plan | {"recipes": {"a": ["loss=gated"]}}})
    assert found["arguments"] == ["bottleneck=gated_sae,topk"]
    assert found["plan"] == {
        "parameters": ["corruption=none,masking"],
        "fixed": ["density=flow"],
        "objectives": {"test/nll_at_point": "minimize"},
        "recipes": {"a": ["loss=gated_sae"]},
    }
