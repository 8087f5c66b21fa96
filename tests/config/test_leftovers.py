"""A later choice of a group wins whole: of what a recipe set for the earlier one, nothing is left."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from command import TINY, run_in_process
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from narrows.config.compose_in_process import Composition, bases_of, composed, plain_choice
from narrows.config.composition import checked, choice_files, config_dir, register_resolvers
from narrows.config.leftovers import clear
from narrows.config.plain_yaml import flatten
from narrows.config.quoting import quoted
from narrows.errors import UserError
from narrows.training.fit_in_memory import composition

OTHERS = {
    "loss": ("iwae", "sparse"),
    "bottleneck": ("ladder", "gated_sae"),
    "likelihood": ("laplace", "bernoulli"),
    "corruption": ("speckle", "masking"),
    "encoder": ("conv", "resnet"),
    "decoder": ("conv", "resnet"),
    "model": ("autoencoder", "vamp"),
    "density": ("flow", "mixture"),
}
"""Of every group that variants choose from two choices, at least one of which a variant has not made."""


def cleared(line: str) -> tuple[Composition, str]:
    """What the command line composes once leftovers are out, and what is said of them."""
    register_resolvers()
    found = clear(line.split())
    return composed("train", (*found.overrides, *line.split())), "\n".join(found.notes)


def alone(group: str, choice: str) -> dict[str, Any]:
    return composed(None, (f"+{group}={choice}",)).of(group)


@pytest.mark.parametrize("variant", choice_files("variant"))
def test_of_every_variant_nothing_is_left_in_groups_that_are_chosen_anew(variant: str) -> None:
    before = composed("train", (f"variant={variant}",))
    now = {group: next(c for c in two if c != before.choices.get(group)) for group, two in OTHERS.items()}
    config, _ = cleared(" ".join([f"variant={variant}", *(f"{group}={choice}" for group, choice in now.items())]))
    for group, choice in now.items():
        assert config.of(group) == alone(group, choice), group
    checked(OmegaConf.create(config.values))
    for group in ("optimizer", "scheduler", "trainer", "callbacks"):
        assert config.of(group) == before.of(group)


def test_what_all_datamodules_share_is_no_kinship() -> None:
    # The recipe's batch size was for its own data.
    recipe = composed("train", ("experiment=vae_binarized_mnist",))
    assert recipe.values["datamodule"]["batch_size"] != plain_choice("datamodule", "digits")["batch_size"]
    config, said = cleared("experiment=vae_binarized_mnist datamodule=digits")
    assert config.values["datamodule"] == plain_choice("datamodule", "digits")
    assert "left out: datamodule.batch_size" in said


def test_datamodules_differ_in_what_they_say_and_share_the_rest() -> None:
    shared = OmegaConf.to_container(OmegaConf.load(config_dir() / "datamodule_defaults.yaml"))["datamodule"]  # type: ignore[index,call-overload]
    files = choice_files("datamodule")
    for name in files:
        said: dict[str, Any] = {}
        for built_on in (*bases_of("datamodule", name), name):
            said |= OmegaConf.to_container(OmegaConf.load(files[built_on]))["datamodule"]  # type: ignore[index,call-overload,operator]
        values = plain_choice("datamodule", name)
        assert list(values) == list(shared), name
        for key in shared.keys() - {"source", "loading"}:
            assert values[key] == said.get(key, shared[key]), f"{name}: {key}"
            assert said.get(key) != shared[key] or key not in said, f"{name} repeats {key}"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("variant=beta_vae loss=iwae", "left out: loss.kl.weight=4.0, which variant=beta_vae set for loss=elbo"),
        ("variant=jumprelu loss=sparse", "loss.l0.weight.end=0.3"),
        ("variant=gated_sae loss=l1", "loss=l1 takes its place"),
        ("variant=vae_gan loss=elbo", "loss.adversary.critic.spectral_norm=true"),
        ("experiment=sparse_mnist bottleneck=gaussian", "bottleneck.k=32"),
        ("experiment=denoising_mnist encoder=conv", "encoder.widths=[512]"),
        ("experiment=denoising_mnist callbacks=none", "callbacks.pictures"),
        ("experiment=imputation_tables datamodule=mnist", "datamodule.source.share=0.5"),
        ("variant=masked encoder=conv decoder=conv corruption=block", "decoder.patch='${encoder.patch}'"),
        ("variant=beta_vae loss=elbo", ""),
        ("variant=vae encoder=conv decoder=conv", ""),
        ("experiment=denoising_mnist trainer=gpu", ""),
    ],
)
def test_what_is_left_out_is_said(line: str, said: str) -> None:
    config, notes = cleared(line)
    if "denoising_mnist callbacks=none" not in line:
        assert (said in notes) if said else not notes
    group, _, choice = line.split()[-1].partition("=")
    data = config.values["datamodule"] | {"source": {"_target_": "narrows.data.sources.digits.Digits"}}
    checked(OmegaConf.create(config.values | {"datamodule": data}))  # the composition itself is kept for others
    if said:
        wanted = alone(group, choice) if group != "datamodule" else {}
        assert all(config.of(group)[key] == value for key, value in wanted.items())


def test_an_equal_choice_keeps_the_recipe_s_values() -> None:
    assert cleared("variant=beta_vae loss=elbo")[0].of("loss")["loss.kl.weight"] == 4.0


def test_values_of_the_command_line_stay() -> None:
    config, notes = cleared("variant=aae bottleneck=topk bottleneck.dim=99 loss=elbo +schedule@loss.kl.weight=linear")
    assert config.of("bottleneck")["bottleneck.dim"] == 99
    assert config.of("loss")["loss.kl.weight._target_"] == "narrows.schedules.Linear"
    assert "dim" not in notes
    config, _ = cleared("variant=info_vae loss=elbo +term@loss.mmd=mmd")
    assert config.of("loss")["loss.mmd.kernel"] == alone("term@mmd", "mmd").get("kernel", "imq")


def test_what_choices_inherit_from_a_common_one_stays() -> None:
    config, _ = cleared("experiment=denoising_mnist trainer=gpu")
    assert config.of("trainer")["trainer.max_epochs"] == 7
    assert config.of("trainer")["trainer.accelerator"] == "gpu"
    config, notes = cleared("experiment=sparse_mnist callbacks=resample")
    assert config.of("callbacks")["callbacks.pictures.every_n_epochs"] is None
    assert "callbacks.start._target_" not in config.of("callbacks")
    assert "callbacks start of callbacks=start_at_mean" in notes
    assert "(callbacks=[start_at_mean,resample] is both)" in notes
    config, notes = cleared("experiment=sparse_mnist callbacks=[start_at_mean,resample]")
    assert {"callbacks.start._target_", "callbacks.resample._target_"} <= config.of("callbacks").keys()
    assert not notes
    config, _ = cleared("experiment=vamp_binarized_mnist callbacks=resample")
    assert config.of("callbacks")["callbacks.pictures.every_n_epochs"] == 100
    assert not any("early_stopping" in key for key in config.of("callbacks"))


def test_a_reference_to_what_was_replaced_is_refused_by_its_cause() -> None:
    with pytest.raises(UserError) as refused:
        clear(["variant=masked", "encoder=conv"])
    assert "decoder.patch and corruption.size of variant=masked are encoder.patch, left over from" in str(refused.value)
    assert "choose decoder= corruption= too" in str(refused.value)
    config, _ = cleared("variant=masked encoder=conv decoder=conv corruption.size=7")
    assert config.of("corruption")["corruption.size"] == 7
    with pytest.raises(UserError, match=r"density.width=32.* would be left without a density: choose another density="):
        clear(["experiment=zoo/codes", "~density"])


@pytest.mark.parametrize(
    "value", [None, True, 1, -2.5, 1e-30, "a b", "it's", "${encoder.patch}", "", [1, "x y"], {}, {"a": [None]}]
)
def test_values_are_written_so_that_hydra_reads_them_back(value: Any) -> None:
    read = OverridesParser.create().parse_override(f"key={quoted(value, bare=True)}").value()
    assert read == value or (isinstance(value, float) and math.isclose(read, value))  # type: ignore[arg-type]


def test_leaves_are_dotted_and_an_empty_mapping_is_one() -> None:
    assert flatten({"a": {"b": 1, "c": {}}, "d": [{}]}) == {"a.b": 1, "a.c": {}, "d": [{}]}


def test_the_command_shows_the_same_everywhere(tmp_path: Path) -> None:
    line = ("variant=beta_vae", "loss=iwae")
    shown = run_in_process(*line, "--cfg", "job", cwd=tmp_path)
    assert "bound:" in shown.out
    assert "weight: 4.0" not in shown.out
    assert "left out: loss.kl.weight=4.0" in shown.err
    assert "kl" not in composition(line)[0].loss
    done = run_in_process("-m", "variant=beta_vae,jumprelu", "loss=nosuch", cwd=tmp_path)
    assert done.code == 2
    assert done.complaints[0].startswith("narrows: there is no loss 'nosuch'")


@pytest.mark.slow
def test_a_sweep_composes_its_jobs_so(tmp_path: Path) -> None:
    small = (*TINY, "~tasks.reconstruction", "~tasks.latent", "encoder.widths=[8]", "decoder.widths=[8]")
    done = run_in_process("-m", "variant=beta_vae,factor_vae", "loss=iwae", *small, cwd=tmp_path)
    assert done.code == 0, done.err
