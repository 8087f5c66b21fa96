"""Stages of multi-modal data: each part by its own, side by side."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from instances import IMAGE, model
from part_models import PARTS, examples, network, spec_of

from narrows.bottlenecks.experts import ProductOfExperts
from narrows.bottlenecks.gaussian import Gaussian
from narrows.decoders.gru import AutoregressiveGRUDecoder
from narrows.decoders.mlp import MLPDecoder
from narrows.decoders.parts import PartsDecoder
from narrows.encoders.mlp import MLPEncoder
from narrows.encoders.parts import PartsEncoder
from narrows.encoders.vit import ViTEncoder
from narrows.errors import UserError
from narrows.inputs import MissingIndicator
from narrows.likelihoods.elementwise import BernoulliLikelihood, CategoricalLikelihood
from narrows.likelihoods.normal import GaussianLikelihood, OptimalGaussianLikelihood
from narrows.likelihoods.parts import PartsLikelihood
from narrows.types import DataSpec

EACH = {"image": BernoulliLikelihood, "words": partial(GaussianLikelihood, scope="value")}


def test_a_likelihood_of_parts_is_each_part_s_own() -> None:
    spec = spec_of()
    likelihood = PartsLikelihood(spec, each=EACH)
    assert likelihood.layout == {"image": (1, 4, 4), "sound": (2, 6), "words": (6,)}
    assert likelihood.out_shape == (34,)
    likelihood.eval()
    params, x = torch.randn(5, 34), torch.rand(5, 31)
    p_x = likelihood(params)
    own = [
        BernoulliLikelihood(spec.of_part("image"))(params[:, :16].unflatten(1, (1, 4, 4))),
        OptimalGaussianLikelihood(spec.of_part("sound")).eval()(params[:, 16:28].unflatten(1, (2, 6))),
        GaussianLikelihood(spec.of_part("words"), scope="value")(params[:, 28:]),
    ]
    pieces = [x[:, :16].unflatten(1, (1, 4, 4)), x[:, 16:28].unflatten(1, (2, 6)), x[:, 28:]]
    nats = torch.cat([law.log_prob(piece).flatten(1) for law, piece in zip(own, pieces, strict=True)], 1)
    assert torch.equal(p_x.log_prob(x), nats)
    assert torch.equal(p_x.mean, torch.cat([law.mean.flatten(1) for law in own], 1))
    assert p_x.sample((7,)).shape == (7, 5, 31)
    drawn = likelihood.draw(params)
    assert drawn.shape == (5, 31)
    assert set(drawn[:, :16].unique().tolist()) <= {0.0, 1.0}


def test_a_part_is_fitted_to_its_judged_values_alone() -> None:
    """Its sigma, where it is the optimal one: another part's errors do not move it."""
    likelihood = PartsLikelihood(spec_of())
    x, judged = torch.zeros(4, 31), torch.ones(4, 31, dtype=torch.bool)
    x[:, 16:28] = 3.0
    judged[:, 28:] = False
    p_x: Any = likelihood(torch.zeros(4, 31))
    before = {name: float(one.sigma) for name, one in likelihood.parts.items()}  # type: ignore[operator, arg-type]
    p_x.log_prob_judged(x, judged)
    moved = {name: float(one.sigma) - before[name] for name, one in likelihood.parts.items()}  # type: ignore[operator, arg-type]
    assert moved["image"] < 0 < moved["sound"]
    assert moved["words"] == 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PartsLikelihood(IMAGE), "datamodule=multimodal"),
        (lambda: PartsLikelihood(spec_of(), each={"imag": BernoulliLikelihood}), "no part 'imag'.*image"),
        (lambda: PartsLikelihood(spec_of(), each={"sound": BernoulliLikelihood}), r"inside \[0, 1\]"),
        (lambda: PartsEncoder((64,)), "needs data made of named parts"),
        (lambda: network(input=MissingIndicator), "use input=identity"),
        (lambda: network(likelihood=partial(GaussianLikelihood, scope="value")), "use likelihood=parts"),
        (lambda: network(bottleneck=partial(Gaussian, dim=3)), "do not go together.*encoder=parts"),
        (lambda: network(encoder=MLPEncoder), "do not go together.*encoder=parts"),
        (lambda: model(bottleneck=partial(ProductOfExperts, dim=3)), "do not go together"),
        (
            lambda: network(encoder=partial(PartsEncoder, each={"image": partial(ViTEncoder, patch=2)})),
            "told what is missing",
        ),
        (
            lambda: network(decoder=partial(PartsDecoder, each={"sound": AutoregressiveGRUDecoder})),
            "fed its own values",
        ),
        (lambda: network(decoder=partial(PartsDecoder, default=partial(MLPDecoder, tied=True))), "is tied"),
    ],
)
def test_what_does_not_fit_is_refused(build: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()


def test_parts_may_be_categorical_of_levels() -> None:
    likelihood = PartsLikelihood(spec_of(), each={"image": partial(CategoricalLikelihood, levels=5)})
    assert likelihood.layout["image"] == (5, 4, 4)
    assert likelihood(torch.zeros(2, 95)).mean.shape == (2, 31)


def test_a_plain_model_reads_parts_as_one_vector() -> None:
    """With `decoder=parts` or without, and any likelihood of vectors."""
    whole = {"encoder": MLPEncoder, "bottleneck": partial(Gaussian, dim=3), "likelihood": OptimalGaussianLikelihood}
    for decoder in (MLPDecoder, PartsDecoder):
        batch = examples(spec_of())
        assert network(decoder=decoder, **whole)(batch).p_x.mean.shape == (6, 31)


def test_a_spec_of_parts_survives_its_record() -> None:
    spec = spec_of()
    assert DataSpec.from_dict(spec.to_dict()) == spec
    assert spec.slices == {"image": slice(0, 16), "sound": slice(16, 28), "words": slice(28, 31)}
    assert spec.of_part("sound").shape == (2, 6)
    values = spec.to_dict() | {"parts": spec.to_dict()["parts"][:2]}
    with pytest.raises(UserError, match="do not fill examples"):
        DataSpec.from_dict(values)
    assert [part.name for part in PARTS] == list(spec.slices)
