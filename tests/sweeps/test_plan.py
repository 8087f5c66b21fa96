"""What a sweep is asked to do: parameters, fixed overrides, names and identity."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import composed

from narrows.config.composition import config_dir
from narrows.errors import UserError
from narrows.sweeps import sweep_directory as directories
from narrows.sweeps.composition_check import samples
from narrows.sweeps.job_table import job_name, outcome
from narrows.sweeps.proposals import State, dominated, ranked
from narrows.sweeps.search_space import grid, parameter, parse
from narrows.sweeps.sweep_plan import make_plan


def test_the_command_line_wins_and_the_sweeps_own_overrides_stay_out_of_the_jobs() -> None:
    arguments = ["sweep=folds", "datamodule.fold=1,3", "sweep.workers.jobs=2", "bottleneck.dim=4", "~tasks.latent"]
    plan = make_plan(composed("sweep=folds").sweep, arguments)
    assert plan.fixed == ("datamodule.folds=5", "bottleneck.dim=4", "~tasks.latent")
    assert list(grid(plan.parameters)) == [("datamodule.fold=1",), ("datamodule.fold=3",)]
    assert make_plan(composed("sweep=folds").sweep, ["datamodule.fold=2"]).size == 1


def test_the_zoo_has_every_variant() -> None:
    plan = make_plan(composed("sweep=zoo").sweep, [])
    assert set(plan.recipes) == {path.stem for path in (config_dir() / "variant").glob("*.yaml")}
    for name, lines in plan.recipes.items():
        assert f"variant={name}" in lines


@pytest.mark.parametrize(
    "choice", ["grid", "random", "folds", "seeds_x_variants", "optuna", "pareto", "zoo", "disentangling"]
)
def test_every_sweep_has_a_plan(choice: str) -> None:
    plan = make_plan(composed(f"sweep={choice}").sweep, ["seed=0,1"] if choice == "grid" else [])
    assert plan.size >= 2
    assert json.dumps(plan.identity())


def test_disentangling_is_two_variants_over_three_seeds() -> None:
    jobs = list(make_plan(composed("sweep=disentangling").sweep, []).jobs())
    assert len(set(jobs)) == 6
    assert sum("variant=vae" in job for job in jobs) == 3
    assert {job[-1] for job in jobs} == {"seed=0", "seed=1", "seed=2"}


def test_recipes_are_run_under_every_combination() -> None:
    node = composed("sweep=grid").sweep
    node.recipes = {"dense": ["variant=vae", "encoder.widths=[32]"], "codes": ["variant=vq_vae", "~tasks.latent"]}
    plan = make_plan(node, ["seed=0,1", "trainer=cpu"])
    assert plan.size == 4
    assert list(plan.jobs())[1:3] == [
        ("variant=vae", "encoder.widths=[32]", "seed=1"),
        ("variant=vq_vae", "~tasks.latent", "seed=0"),
    ]
    assert plan.varied == ["variant", "encoder.widths", "tasks.latent", "seed"]
    assert "recipes" in plan.identity()
    assert "recipes" not in make_plan(composed("sweep=grid").sweep, ["seed=0,1"]).identity()
    # Too many to compose all: each recipe once, and every value once.
    large = make_plan(node, ["seed=range(0,40)"])
    found = list(samples(large))
    assert len(found) == 2 + 39
    assert {job[0] for job in found} == {"variant=vae", "variant=vq_vae"}


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ([], r"sweep.recipes.mine must be a list of overrides, not \[\]"),
        ("variant=vae", "sweep.recipes.mine must be a list of overrides"),
        (["seed=0,1"], "sweep.recipes.mine: seed=0,1 has several values"),
    ],
)
def test_a_recipe_without_sense(recipe: object, sentence: str) -> None:
    node = composed("sweep=grid").sweep
    node.recipes = {"mine": recipe}
    with pytest.raises(UserError, match=sentence):
        make_plan(node, [])


def test_recipes_are_for_grids() -> None:
    node = composed("sweep=random").sweep
    node.recipes = {"mine": ["variant=vae"]}
    with pytest.raises(UserError, match=r"sweep.recipes are for a grid, not for sweep.method=random"):
        make_plan(node, [])


def test_values_are_written_as_overrides() -> None:
    lines = ["a=1,x,[2,3]", "b=range(0,1,0.25)", "c=range(3,0,-1)", "+d=null,true", "e='q w',r"]
    found = {item.key: item.values for item in map(parameter, parse(lines))}
    assert found["a"] == ("1", "x", "[2,3]")
    assert found["b"] == ("0.0", "0.25", "0.5", "0.75")
    assert found["c"] == ("3", "2", "1")
    assert found["+d"] == ("null", "True")
    assert found["e"] == ("'q w'", "r")


def test_a_shuffled_choice_has_the_same_order_every_time() -> None:
    orders = {parameter(parse(["a=shuffle(range(0,20))"])[0], seed=3).values for _ in range(3)}
    assert len(orders) == 1
    assert orders != {tuple(map(str, range(20)))}


def test_directories_are_short_unique_and_safe() -> None:
    assert job_name(7, ["bottleneck.dim=8", "seed=1"]) == "007_dim=8_seed=1"
    assert job_name(0, ["encoder.lr=0.00123456", "decoder.lr=1"]) == "000_encoder.lr=0.001235_decoder.lr=1"
    assert job_name(1, ["+encoder.widths=[8, 4]", "a='x/../y'"]) == "001_widths=8-4_a=x-..-y"
    assert len(job_name(1, ["a=" + "x" * 500])) <= 100


def test_more_trials_are_the_same_sweep_and_another_seed_is_not() -> None:
    node = composed("sweep=random").sweep
    plans = [make_plan(node, [])]
    for key, value in (("trials", 99), ("seed", 1)):
        node[key] = value
        plans.append(make_plan(node, []))
    assert plans[0].identity() == plans[1].identity() != plans[2].identity()


def test_the_newest_sweep_of_the_same_plan_is_found(tmp_path: Path) -> None:
    plan = make_plan(composed("sweep=grid").sweep, ["seed=0,1"])
    other = make_plan(composed("sweep=grid").sweep, ["seed=0,1,2"])
    for name, asked in (("c", plan), ("b", plan), ("a", other)):
        held = directories.create(tmp_path / name)
        held.write(asked, [], [])
        held.release()
    assert directories.newest(iter(tmp_path.iterdir()), plan) == tmp_path / "b"
    assert directories.difference(tmp_path / "a", plan).startswith("parameters is")  # type: ignore[union-attr]


def test_the_front_of_two_objectives() -> None:
    values = {0: (1.0, 4.0), 1: (2.0, 2.0), 2: (2.0, 3.0), 3: (3.0, 1.0), 4: (2.0, 2.0)}
    assert dominated(values, ["minimize", "minimize"]) == {2}
    assert dominated(values, ["maximize", "maximize"]) == {1, 4}
    assert list(ranked(values, ["minimize", "minimize"])) == [0, 1, 4, 3, 2]
    assert list(ranked({0: [1.0], 1: [3.0]}, ["maximize"])) == [1, 0]


@pytest.mark.parametrize(
    ("status", "code", "state", "error"),
    [
        ("completed", 0, "completed", None),
        ("completed", -9, "completed", None),
        ("pruned", 0, "pruned", None),
        ("interrupted", 143, "interrupted", None),
        ("interrupted", 2, "failed", "seed must be a whole number"),
        ("failed", 1, "failed", "ValueError: no"),
        ("failed", None, "failed", "ValueError: no"),
        ("running", None, "interrupted", None),
        ("running", -9, "failed", "killed (exit code 137), probably because the machine was out of memory"),
        ("running", -15, "interrupted", None),
        (None, 2, "failed", "seed must be a whole number"),
        (None, None, "interrupted", None),
    ],
)
def test_how_a_run_ended(status: str | None, code: int | None, state: str, error: str | None, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "log").write_text("noise\nnarrows: seed must be a whole number\n")
    if status is not None:
        text = json.dumps({"status": status, "error": "ValueError: no" if status == "failed" else None})
        (run / "manifest.json").write_text(text)
    found = outcome(run, tmp_path / "log", code)
    assert (found.state, found.error) == (State(state), error)


def test_a_run_that_never_began_is_queued(tmp_path: Path) -> None:
    assert outcome(tmp_path / "none", tmp_path / "log", None).state is State.QUEUED
    failed = outcome(tmp_path / "none", tmp_path / "log", 1)
    assert failed.error == "exit code 1: it printed nothing"
