"""Nothing is forgotten: every component has an instance and a config, and every composition steps or is refused."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import backbone_instances
import pytest
import torch
from backbone_instances import awake
from command import composed
from hydra.utils import get_object
from instances import (
    BOTTLENECKS,
    COLUMN_LIKELIHOODS,
    CORRUPTIONS,
    COUNT_LIKELIHOODS,
    DENSITIES,
    IMAGE,
    INPUTS,
    LIKELIHOODS,
    LOSSES,
    MAP_BOTTLENECKS,
    OF_PARTS,
    PART_BOTTLENECKS,
    PART_LIKELIHOODS,
    PART_TERMS,
    SCHEDULES,
    SERIES,
    SOUND_CORRUPTIONS,
    SOUND_INPUTS,
    SOUND_TERMS,
    TERMS,
    TOKEN_CORRUPTIONS,
    TOKEN_INPUTS,
    batch,
    model,
)
from omegaconf import OmegaConf
from torch import Tensor

import narrows
from narrows import schedules
from narrows.bottlenecks.base import Bottleneck
from narrows.config.composition import choice_files, config_dir, targets
from narrows.config.option_types import type_hints
from narrows.corruptions import Corruption
from narrows.decoders.autoregressive import AutoregressiveDecoder
from narrows.decoders.conv import ConvDecoder
from narrows.decoders.lapped import LappedDecoder
from narrows.decoders.lstm import AutoregressiveLSTMDecoder, LSTMDecoder
from narrows.decoders.mlp import MLPDecoder
from narrows.decoders.parts import PartsDecoder
from narrows.decoders.recurrent import AutoregressiveRecurrentDecoder, RecurrentDecoder
from narrows.decoders.tcn import TCNDecoder
from narrows.decoders.transformer import AutoregressiveTransformerDecoder
from narrows.decoders.vit import ViTDecoder
from narrows.densities.base import Density, StandardisedDensity
from narrows.encoders.conv import ConvEncoder
from narrows.encoders.lapped import LappedEncoder
from narrows.encoders.lstm import LSTMEncoder
from narrows.encoders.mlp import MLPEncoder
from narrows.encoders.parts import PartsEncoder
from narrows.encoders.recurrent import RecurrentEncoder
from narrows.encoders.tcn import TCNEncoder
from narrows.encoders.transformer import TransformerEncoder
from narrows.encoders.vit import ViTEncoder
from narrows.errors import UserError
from narrows.inputs import Input
from narrows.layers.stages import Decoder, Encoder
from narrows.likelihoods.counts import CountLikelihood
from narrows.likelihoods.elementwise import Likelihood
from narrows.losses import Objective, Term
from narrows.models.autoencoder import Autoencoder
from narrows.tasks.base import Task
from narrows.training.learning_rate import WarmUpCosine
from narrows.training.lightning_module import AutoencoderModule
from narrows.types import Batch, DataSpec

# What has no config, and why; an entry that is not needed any more fails.
WITHOUT_YAML = {schedules.Constant: "a plain number in a config"}
# Options whose value in the config is another than the constructor's, and why.
OTHER_DEFAULTS = {
    ("encoder/features.yaml", "network"): "the network that comes in a package; the constructor needs one",
    ("decoder/frames.yaml", "shortcut"): "runs recorded before this option have none",
    ("task/style.yaml", "features"): "the constructor's network and layers, written out",
    ("term/capacity.yaml", "capacity"): "rises, where the constructor's stays",
    ("task/anomaly.yaml", "points"): "judges time steps where there are some, the constructor's windows",
    ("task/anomaly.yaml", "frames"): "judges frames where masks mark them, the constructor's whole clips",
    ("task/anomaly.yaml", "maps"): "judges pixels where there are masks, the constructor's whole pictures",
    **{(f"{stage}/parts.yaml", "each"): "empty, so that parts can be added" for stage in ("encoder", "decoder")},
    **{(f"{stage}/parts.yaml", "default"): "options of a choice" for stage in ("encoder", "decoder")},
    ("likelihood/parts.yaml", "each"): "empty, so that parts can be added",
    **{
        ("term/patch_adversary.yaml", option): "VQGAN's choice"
        for option in ("weight", "match", "reconstructions", "adaptive")
    },
    **{
        (f"{stage}/mlp.yaml", option): "left to the data"
        for stage in ("encoder", "decoder")
        for option in ("dropout", "shortcut")
    },
}
# What code, not a config, gives.
FROM_CODE = {"self", "in_shape", "out_shape", "spec", "save_dir"}
FROM_CODE_OF: dict[type, set[str]] = {
    Autoencoder: {"stages"},
    Density: {"model"},
    PartsEncoder: {"layout"},
    PartsDecoder: {"layout"},
    WarmUpCosine: {"optimizer"},
    AutoencoderModule: {"model", "objective", "optimizer", "scheduler", "seed"},
}
# These groups describe the constructor's own defaults; the others are somebody's choice.
PLAIN_GROUPS = (
    *("model", "corruption", "input", "encoder", "bottleneck", "decoder", "likelihood"),
    *("term", "schedule", "task", "density"),
)


# ── (a) components, instances, configs ──────────────────────────────────────────────────────────────────


def public_classes() -> Iterator[type]:
    for module in pkgutil.walk_packages(narrows.__path__, "narrows."):
        if not module.name.rpartition(".")[2].startswith("_"):
            found = vars(importlib.import_module(module.name)).values()
            yield from (
                c for c in found if isinstance(c, type) and c.__module__ == module.name and c.__name__[0] != "_"
            )


def components(base: type) -> set[type]:
    return {found for found in public_classes() if issubclass(found, base) and found is not base}


def schedule_classes() -> set[type]:
    return {found for found in public_classes() if found.__module__ == schedules.__name__} - {
        schedules.Schedule,
        schedules.Timed,
    }


def sources() -> set[type]:
    rooms = ("narrows.data.", "narrows.new_data.")
    found = {c for c in public_classes() if c.__module__.startswith(rooms) and hasattr(c, "load")}
    return {c for c in found if not getattr(c, "_is_protocol", False)}


def built(table: dict[str, Any]) -> set[type]:
    """What the entries build; of those that something is done to, the class is the first argument."""
    entries = [entry[0] if isinstance(entry, tuple) else entry for entry in table.values()]
    found = {getattr(entry, "func", entry) for entry in entries}
    return found | {entry.args[0] for entry in entries if getattr(entry, "args", ())}


def with_yaml() -> set[Any]:
    return {get_object(node._target_) for _, _, node in YAML_TARGETS}


def yaml_targets() -> Iterator[tuple[str, str, Any]]:
    """File, place in the file, and node."""
    for file in sorted(config_dir().rglob("*.yaml")):
        for place, node in targets(OmegaConf.load(file)):
            yield file.relative_to(config_dir()).as_posix(), place, node


YAML_TARGETS = list(yaml_targets())


SHARED_DECODERS = {AutoregressiveDecoder, RecurrentDecoder, AutoregressiveRecurrentDecoder}
KINDS: dict[str, tuple[Callable[[], set[type]], dict[str, Any] | None]] = {
    "input": (lambda: components(Input), INPUTS | TOKEN_INPUTS | SOUND_INPUTS),
    "encoder": (lambda: components(Encoder) - {RecurrentEncoder}, backbone_instances.ENCODERS),
    "decoder": (lambda: components(Decoder) - SHARED_DECODERS, backbone_instances.DECODERS),
    "bottleneck": (lambda: components(Bottleneck), BOTTLENECKS | MAP_BOTTLENECKS | PART_BOTTLENECKS),
    "model": (lambda: components(Autoencoder) | {Autoencoder}, None),
    "likelihood": (
        lambda: components(Likelihood) - {CountLikelihood},
        LIKELIHOODS | COLUMN_LIKELIHOODS | COUNT_LIKELIHOODS | PART_LIKELIHOODS,
    ),
    "corruption": (lambda: components(Corruption), CORRUPTIONS | TOKEN_CORRUPTIONS | SOUND_CORRUPTIONS),
    "term": (lambda: components(Term), TERMS | SOUND_TERMS | PART_TERMS),
    "schedule": (schedule_classes, SCHEDULES),
    "density": (lambda: components(Density) - {StandardisedDensity}, DENSITIES),
    "task": (lambda: components(Task), None),
    "source": (sources, None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_component_has_an_instance_and_a_config(kind: str) -> None:
    find, table = KINDS[kind]
    classes = find()
    assert classes, f"no {kind} found: the search is broken"
    if table is not None:
        assert classes - built(table) == set(), "without an instance in the tables of tests/"
    assert classes - with_yaml() - set(WITHOUT_YAML) == set(), "without a YAML in configs/"


def test_no_model_s_own_prior_hides_a_fitted_density() -> None:
    """A model with a prior of its own says `draw_own`; `draw` prefers the density."""
    assert not [found for found in components(Autoencoder) if "draw" in vars(found) or "generative" in vars(found)]


def test_excuses_are_not_stale() -> None:
    assert with_yaml().isdisjoint(WITHOUT_YAML)
    existing = {(name, str(key)) for name, _, node in YAML_TARGETS for key in node}
    assert set(OTHER_DEFAULTS) <= existing


def test_every_corruption_has_an_instance_of_its_name() -> None:
    assert set(choice_files("corruption")) == {*CORRUPTIONS, *TOKEN_CORRUPTIONS, *SOUND_CORRUPTIONS}


# ── (b) a config lists every option with its default ────────────────────────────────────────────────────

OURS = [entry for entry in YAML_TARGETS if str(entry[2]._target_).startswith("narrows.")]


def plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


@pytest.mark.parametrize(("name", "place", "node"), OURS, ids=[f"{name}:{place}" for name, place, _ in OURS])
def test_a_config_lists_every_option_with_its_default(name: str, place: str, node: Any) -> None:
    target = get_object(node._target_)
    parameters = inspect.signature(target).parameters
    given = [names for kind, names in FROM_CODE_OF.items() if isinstance(target, type) and issubclass(target, kind)]
    options = set(parameters) - FROM_CODE.union(*given)
    raw: Any = OmegaConf.to_container(node, resolve=False)
    choices = [choice for choice in raw.pop("defaults", []) if choice != "_self_"]
    chosen = {place.partition("@")[2] for choice in choices for place in choice}
    written = {key: value for key, value in raw.items() if not key.startswith("_")}
    assert set(written) | chosen == options
    if place or name.split("/")[0] not in PLAIN_GROUPS:
        return
    for key, value in written.items():
        default = parameters[key].default
        if (name, key) in OTHER_DEFAULTS:
            assert plain(value) != plain(default), f"stale excuse for {key}"
        else:
            assert plain(value) == plain(default), key


def test_every_option_has_a_type_that_is_checked() -> None:
    for target in {get_object(node._target_) for _, _, node in OURS}:
        called = target.__init__ if isinstance(target, type) else target
        written = getattr(called, "__annotations__", {})
        assert type_hints(target).keys() == written.keys(), f"{target} imports a type for type checkers alone"


# ── (c) every bottleneck with every loss and corruption ─────────────────────────────────────────────────

GAUSSIAN = {"gaussian", "logistic_normal", "logistic_normal_plain"}
LEARNT_PRIOR = {"gaussian_mixture", "flow_prior", "flow_prior_nsf", "flow_prior_planar", "entropy"}
FLOWS = {f"flow_posterior{flow}" for flow in ("", "_maf", "_nsf", "_planar")}
REPARAMETERISED = GAUSSIAN | LEARNT_PRIOR | FLOWS | {"hyperspherical", "ladder"}
VARIATIONAL = REPARAMETERISED | {"categorical", "categorical_hard", "joint", "scale_hyperprior"}
SPARSE = {"topk", "batch_topk", "jumprelu", "gated_sae"}
CODEBOOKS = {"vq", "vq_gradient", "vq_rotate", "product_vq", "residual_vq", "lfq"}
# The bottlenecks that a loss can read; a loss that is not here reads all.
READERS: dict[str, set[str]] = {
    **dict.fromkeys(
        ("elbo", "capacity", "info", "factor", "msssim", "output_adversarial", "kl_perceptual"), VARIATIONAL
    ),
    **dict.fromkeys(("beta_tc", "dip"), GAUSSIAN),
    "iwae": REPARAMETERISED,
    "joint": {"joint"},
    "hyperprior": {"scale_hyperprior"},
    **dict.fromkeys(("sparse", "matryoshka"), SPARSE),
    "l0": {"jumprelu"},
    "gated_sae": {"gated_sae"},
    **dict.fromkeys(("vq", "vq_sound", "vqgan"), CODEBOOKS),
    "vq_gradient": {"vq_gradient"},
    "lfq": {"lfq"},
    "gumbel_vq": {"gumbel_vq"},
    "sparse_kl": {"deterministic_sigmoid"},
    **{key: set() for key in OF_PARTS},
}
ANY_VARIATIONAL = {loss for loss, read in READERS.items() if read == VARIATIONAL}
# The only losses that train all of a bottleneck.
ONLY = {
    "scale_hyperprior": ANY_VARIATIONAL | {"hyperprior"},
    "gated_sae": {"gated_sae"},
    "vq_gradient": {"vq_gradient"},
    **{name: ANY_VARIATIONAL | {"iwae"} for name in LEARNT_PRIOR},
}


def expected_refusals() -> set[tuple[str, str, str]]:
    refused = {(b, loss, c) for loss, read in READERS.items() for b in set(BOTTLENECKS) - read for c in COMPOSED}
    refused |= {(b, loss, c) for b, only in ONLY.items() for loss in set(LOSSES) - only for c in COMPOSED}
    return refused | {(b, "masked", "none") for b in BOTTLENECKS}


def objective_for(bottleneck: str) -> Objective:
    """One that trains every parameter of the bottleneck."""
    return LOSSES["elbo" if bottleneck in VARIATIONAL else min(ONLY.get(bottleneck, {"reconstruction"}))]()


COMPOSED = ("none", "masking")


def step_once(network: Autoencoder, objective: Objective, examples: Batch) -> Tensor:
    """One optimiser step; every parameter must have a finite gradient that is not zero throughout."""
    objective.attach(network)
    parameters = {**dict(network.named_parameters()), **dict(objective.named_parameters())}
    optimizer = torch.optim.SGD(parameters.values(), lr=1e-3)
    total = objective(network(examples), network).total
    total.backward()
    assert torch.isfinite(total)
    for name, parameter in parameters.items():
        assert parameter.grad is not None, f"{name} gets no gradient"
        assert torch.isfinite(parameter.grad).all(), name
        # Inside both margins of a hinge the last bias moves the losses of real and fake by the same, up and down.
        balanced = name.endswith("critic.head.0.bias")
        assert balanced or parameter.grad.any(), f"the gradient of {name} is zero"
    optimizer.step()
    return total


def refusal_of(objective: Objective, network: Autoencoder) -> str | None:
    try:
        objective.check(type(network), network.bottleneck, type(network.corruption))
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_every_pair_trains_or_is_refused_by_name(bottleneck: str) -> None:
    refused = set()
    for loss in LOSSES:
        for corruption in COMPOSED:
            objective = LOSSES[loss]()
            network = model(bottleneck=BOTTLENECKS[bottleneck], corruption=CORRUPTIONS[corruption])
            refusal = refusal_of(objective, network)
            if refusal is None:
                step_once(network, objective, batch())
                continue
            refused.add((bottleneck, loss, corruption))
            assert any(f"'{name}'" in refusal for name in objective)
            hidden_asked = loss == "masked" and corruption == "none"
            assert type(network.corruption if hidden_asked else network.bottleneck).__name__ in refusal
    assert refused == {triple for triple in expected_refusals() if triple[0] == bottleneck}


# ── (d) every bottleneck with every likelihood and backbone ─────────────────────────────────────────────

LSTM = partial(LSTMEncoder, hidden=8)
TOKENS = {"width": 8, "heads": 2, "depth": 1}
BACKBONES: dict[str, tuple[DataSpec, Any, Any]] = {
    "mlp": (IMAGE, partial(MLPEncoder, widths=[16]), partial(MLPDecoder, widths=[16])),
    "conv": (IMAGE, partial(ConvEncoder, channels=[4, 6]), partial(ConvDecoder, channels=[6, 4])),
    "vit": (IMAGE, partial(ViTEncoder, patch=4, **TOKENS), partial(ViTDecoder, patch=4, **TOKENS)),
    "lstm": (SERIES, LSTM, partial(LSTMDecoder, hidden=8)),
    "lstm_ar": (SERIES, LSTM, partial(AutoregressiveLSTMDecoder, hidden=8)),
    "lapped": (SERIES, partial(awake, LappedEncoder, hop=4, width=8), partial(awake, LappedDecoder, hop=4, width=8)),
    "tcn": (SERIES, partial(TCNEncoder, channels=[8]), partial(TCNDecoder, channels=[8], time_features=2)),
    "transformer_ar": (
        SERIES,
        partial(TransformerEncoder, **TOKENS, checkpointing=True),
        partial(AutoregressiveTransformerDecoder, **TOKENS),
    ),
}


def network_of(backbone: str, bottleneck: str, likelihood: str) -> Autoencoder:
    spec, encoder, decoder = BACKBONES[backbone]
    return model(
        spec,
        bottleneck=BOTTLENECKS[bottleneck],
        likelihood=LIKELIHOODS[likelihood],
        encoder=encoder,
        decoder=decoder,
    )


def fits(backbone: str, likelihood: str) -> bool:
    """The series has no range; some likelihoods need one."""
    return BACKBONES[backbone][0].kind == "image" or likelihood.startswith(("gaussian", "laplace"))


def loss_at_the_point(network: Autoencoder, examples: Batch) -> Tensor:
    point = network.encode(examples).point
    return -network.decode(point, examples).log_prob(examples.truth).flatten(1).sum(1).mean()


def compositions() -> Iterator[tuple[str, str, str]]:
    """Every pair of the three that fits is in one of these; all triples would be four times as many."""
    for i, bottleneck in enumerate(BOTTLENECKS):
        for j, likelihood in enumerate(LIKELIHOODS):
            fitting = [backbone for backbone in BACKBONES if fits(backbone, likelihood)]
            yield bottleneck, likelihood, fitting[(i + j) % len(fitting)]


UNFIT = [
    (backbone, likelihood) for backbone in BACKBONES for likelihood in LIKELIHOODS if not fits(backbone, likelihood)
]


@pytest.mark.parametrize(("backbone", "likelihood"), UNFIT)
def test_data_without_a_range_are_refused_where_one_is_needed(backbone: str, likelihood: str) -> None:
    with pytest.raises(UserError, match=r"needs data (inside \[0, 1\]|with a smallest and a largest value)"):
        network_of(backbone, "gaussian", likelihood)


def test_three_likelihoods_need_a_range() -> None:
    assert {likelihood for _, likelihood in UNFIT} == {"bernoulli", "continuous_bernoulli", "categorical"}


@pytest.mark.parametrize(("bottleneck", "likelihood", "backbone"), list(compositions()))
def test_every_composition(bottleneck: str, likelihood: str, backbone: str) -> None:
    spec = BACKBONES[backbone][0]
    network = network_of(backbone, bottleneck, likelihood)
    examples = batch(spec)
    objective = objective_for(bottleneck)
    step_once(network, objective, examples)
    step_once(network_of(backbone, bottleneck, likelihood), objective, batch(spec, n=1))

    network.eval()
    with torch.no_grad():
        assert torch.equal(network.embed(examples.x), network.embed(examples.x))
        whole = loss_at_the_point(network, examples)
        alone = [loss_at_the_point(network, Batch(x=examples.x[i : i + 1])) for i in range(len(examples))]
        torch.testing.assert_close(torch.stack(alone).mean(), whole, rtol=1e-5, atol=1e-4)
        assert network.reconstruct(examples.x).shape == examples.x.shape
        again = network_of(backbone, bottleneck, likelihood).eval()
        again.load_state_dict(network.state_dict())
        assert torch.equal(again.reconstruct(examples.x), network.reconstruct(examples.x))
        assert torch.equal(again.embed(examples.x), network.embed(examples.x))


# ── (e) what a component may cost ───────────────────────────────────────────────────────────────────────

MOST_OPTIONS = 8
MORE = {
    "source Arrays": 9,
    "source HuggingFace": 11,
    "source Series": 12,
    "source MovingDigits": 9,
    "task Anomaly": 11,
    "decoder AutoregressiveLSTMDecoder": 9,
    "decoder AutoregressiveGRUDecoder": 9,
    "encoder ViTEncoder": 9,
    "bottleneck ResidualVQ": 9,
    "task Probe": 9,
}
"""Files of arrays say nothing of themselves: their keys, layout, labels, test rows and place are all told. Series lie
in arrays, which have a layout, or in tables, which have a format, an order and signals. A column of a Hugging Face data
set holds pictures or numbers, which have options of their own. Generated films have what is
seen, where, how fast, how often, and how often it is odd. Anomalies are examples, time steps of series, pixels of
pictures or frames of clips, which have options of their own. Decoders that read the steps before have a size,
and what is done against a posterior that collapses. A ViT has a
transformer's sizes, and tokens that may be pooled, placed or learnt. A residual quantiser has its sizes, and how its
codebooks learn; the probe the labels that it is told, and the networks and rows that it makes of them."""


def test_no_component_has_more_options_than_one_can_keep_in_mind() -> None:
    """Options of one's own: what code gives (shapes, the stages of a model) does not count."""
    counted = {}
    for kind, (find, _) in KINDS.items():
        for found in find():
            given = FROM_CODE.union(*(names for base, names in FROM_CODE_OF.items() if issubclass(found, base)))
            counted[f"{kind} {found.__name__}"] = len(set(inspect.signature(found).parameters) - given)
    assert {name: count for name, count in counted.items() if count > MOST_OPTIONS} == MORE


# ── (f) what a yaml sets is what is composed ────────────────────────────────────────────────────────────


def test_a_variant_and_an_experiment_may_set_what_stands_in_train_yaml() -> None:
    own = set(OmegaConf.load(config_dir() / "train.yaml")) - {"defaults", "hydra"}
    found = 0
    for group in ("variant", "experiment"):
        for file in sorted((config_dir() / group).rglob("*.yaml")):
            asked = OmegaConf.load(file)
            name = file.relative_to(config_dir() / group).with_suffix("").as_posix()
            for key in own & set(asked):
                given = asked[key]
                values = (
                    {f"{key}.{name}": value for name, value in given.items()}
                    if OmegaConf.is_dict(given)
                    else {key: given}
                )
                config = composed(f"{group}={name}")
                for place, value in values.items():
                    assert OmegaConf.select(config, place) == value, f"{group}={name} sets {place}"
                    found += 1
    assert found >= 2
