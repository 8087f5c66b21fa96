"""`init_from=RUN`, `init_parts=` and `freeze=`: what is set, what is said, what stays, and repeating it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from command import NARROW, NO_TASKS, TINY, Finished, manifest, reproduce_in_process, run_in_process
from resume_runs import equal, state
from torch import Tensor

from narrows.runs import checkpoint_files

QUICK = (*TINY, *NARROW, *NO_TASKS)
DEEPER = "decoder.widths=[16,16]"


def train(place: Path, *arguments: str) -> Finished:
    done = run_in_process(*arguments, cwd=place)
    assert done.code == 0, done.err
    return done


def weights(run: Path, name: str = "last") -> dict[str, Tensor]:
    return checkpoint_files.read(run / "checkpoints" / f"{name}.ckpt")["state_dict"]


def part(found: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: values for key, values in found.items() if key.startswith(f"model.{name}.")}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run `source`, and one `tuned` from it with a deeper decoder and a frozen encoder."""
    folder = tmp_path_factory.mktemp("warm")
    train(folder, *QUICK, "hydra.run.dir=source", "seed=1")
    train(folder, *QUICK, "hydra.run.dir=tuned", "init_from=source", "freeze=[encoder,bottleneck]", DEEPER)
    return folder


def test_a_model_that_ships_is_a_source_and_is_found_again(tmp_path: Path) -> None:
    train(tmp_path, *TINY, *NO_TASKS, "hydra.run.dir=run", "init_from=digits-vae")
    said = manifest(tmp_path / "run")["init_from"]
    assert said["path"].endswith("digits-vae.narrows")
    assert said["loaded"] > 4
    repeated = reproduce_in_process("run", "--into", "again", cwd=tmp_path)
    assert repeated.code == 0, repeated.err
    assert "bitwise equal" in repeated.out


def test_frozen_parts_have_the_weights_of_the_source_and_the_others_learn(place: Path) -> None:
    source, tuned = weights(place / "source", "best"), weights(place / "tuned")
    for name in ("encoder", "bottleneck"):
        assert part(source, name), name
        assert equal(part(source, name), part(tuned, name)), name
    shared = [key for key, own in part(tuned, "decoder").items() if key in source and own.shape == source[key].shape]
    assert shared
    assert all(not torch.equal(source[key], tuned[key]) for key in shared)


def test_the_record_says_what_was_loaded_and_from_which_bytes(place: Path) -> None:
    said = manifest(place / "tuned")["init_from"]
    best = place / "source" / "checkpoints" / "best.ckpt"
    assert said["path"] == str((place / "source").resolve())
    assert (said["checkpoint"], said["sha256"]) == ("best.ckpt", checkpoint_files.checksum(best))
    log = (place / "tuned" / "train.log").read_text()
    assert f"weights of {(place / 'source').resolve()} (best.ckpt):" in log
    assert "fresh" in log
    assert "model.decoder" not in log  # names are the model's own
    assert "decoder.blocks" in log


def test_it_is_repeated_to_the_bit_from_elsewhere_and_not_from_other_weights(place: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(place / "tuned", moved)
    train(tmp_path, f"replay={moved}/config.yaml", "into=again")
    assert equal(state(place / "tuned"), state(tmp_path / "again"))
    other = shutil.copytree(place / "tuned", tmp_path / "other")
    done = run_in_process(f"replay={moved}/config.yaml", "into=never", f"init_from={other}", cwd=tmp_path)
    assert done.code == 2
    assert "best.ckpt of " in done.complaints[0]
    assert not (tmp_path / "never").exists()


def test_chosen_parts_alone_are_loaded_and_start_there(place: Path) -> None:
    # As runs of a sweep are called, whose names Hydra would read as pairs.
    shutil.copytree(place / "source", place / "dim=4,seed=1")
    options = ("optimizer.lr=0", "callbacks.start_at_pca.when=never", "init_from=dim=4,seed=1")
    train(place, *QUICK, "hydra.run.dir=some", *options, "init_parts=[decoder]")
    train(place, *QUICK, "hydra.run.dir=all", *options)
    source, some, whole = (weights(place / name, "best") for name in ("source", "some", "all"))
    assert equal(part(source, "decoder"), part(some, "decoder"))
    assert not equal(part(source, "encoder"), part(some, "encoder"))
    # The likelihood's own spread follows the errors without an optimiser.
    assert all(equal(part(source, name), part(whole, name)) for name in ("encoder", "bottleneck", "decoder"))


def test_a_stopped_run_goes_on_without_the_source(place: Path, tmp_path: Path) -> None:
    for name in ("source", "tuned"):
        shutil.copytree(place / name, tmp_path / name)
    shutil.rmtree(tmp_path / "source")
    train(tmp_path, "resume=tuned", "trainer.max_epochs=2")
    assert equal(part(weights(place / "tuned"), "encoder"), part(weights(tmp_path / "tuned"), "encoder"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["init_from=nowhere"], "there is no run directory nowhere"),
        (["init_from=source", "init_parts=[encode]"], "has no weights in 'encode'; did you mean 'encoder'?"),
        (["freeze=[corruption]"], "has no weights in 'corruption'; valid: bottleneck, decoder, encoder, likelihood"),
        (["freeze=[encoder,bottleneck,decoder]"], "leaves nothing to learn"),
        (["init_parts=[encoder]"], "init_parts names the parts to load, and init_from=RUN the run: give both"),
        (
            ["init_from=source", "encoder.widths=[7]", "encoder.shortcut=false", "init_parts=[encoder]"],
            "init_from=source sets nothing",
        ),
        (["init_from=[a]"], "init_from must be the directory of a run, not ['a']"),
        (["freeze={a: 1}"], "freeze must be a list of parts of a model"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], message: str, place: Path, tmp_path: Path) -> None:
    done = run_in_process(*QUICK, f"hydra.run.dir={tmp_path}/run", *arguments, cwd=place)
    assert done.code == 2, done.err
    assert message in done.complaints[0]


def test_a_frozen_codebook_does_not_move(place: Path) -> None:
    common: tuple[Any, ...] = (*QUICK, "variant=vq_vae", "encoder=mlp", "decoder=mlp")
    train(place, *common, "hydra.run.dir=codes", "seed=2")
    train(place, *common, "hydra.run.dir=kept", "init_from=codes", "freeze=bottleneck")
    assert equal(part(weights(place / "codes", "best"), "bottleneck"), part(weights(place / "kept"), "bottleneck"))
