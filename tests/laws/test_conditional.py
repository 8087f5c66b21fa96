"""A conditional model is told the class, in both halves; every other model is not."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from instances import BOTTLENECKS, CORRUPTIONS, DECODER, ENCODER, IMAGE, LIKELIHOODS, LOSSES, SERIES, batch, model

from narrows.decoders.conv import ConvDecoder
from narrows.encoders.conv import ConvEncoder
from narrows.errors import UserError
from narrows.evaluation import select
from narrows.losses.importance import log_joint
from narrows.models.conditional import ConditionalAutoencoder
from narrows.models.stages import Stages
from narrows.types import DataSpec, Given, VariationalLatent

CLASSES = replace(IMAGE, num_classes=3)


def conditional(spec: DataSpec = CLASSES, convolutional: bool = False) -> ConditionalAutoencoder:
    conv = partial(ConvEncoder, channels=[4, 6], flatten=False), partial(ConvDecoder, channels=[6, 4])
    encoder, decoder = conv if convolutional else (ENCODER, DECODER)
    return ConditionalAutoencoder(
        spec,
        Stages(
            encoder=encoder,
            bottleneck=BOTTLENECKS["gaussian"],
            decoder=decoder,
            likelihood=LIKELIHOODS["gaussian_fixed"],
            corruption=CORRUPTIONS["none"],
        ),
    )


@pytest.mark.parametrize("convolutional", [False, True])
@pytest.mark.parametrize("spec", [CLASSES, replace(SERIES, num_classes=3)])
def test_both_halves_read_the_class_and_nothing_mixes_examples(spec: DataSpec, convolutional: bool) -> None:
    net, examples = conditional(spec, convolutional).eval(), batch(spec)
    with torch.no_grad():
        others = replace(examples, label=examples.label + 1 & 1)
        point, other = (net.encode(each).point for each in (examples, others))
        assert not torch.isclose(point, other).all()
        here, there = (net.decode(point, Given(torch.full((6,), k))).mean for k in (0, 1))
        assert not torch.isclose(here, there).all()
        torch.testing.assert_close(net.encode(select(examples, slice(2, 3))).point, point[2:3])


def test_every_parameter_learns_and_the_class_needs_no_room_in_z() -> None:
    net, examples = conditional(), batch(CLASSES)
    LOSSES["elbo"]()(net(examples), net).total.backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())
    assert net.latent_shape == (5,)
    assert net.encode(examples).z.shape == (6, 5)


def test_the_joint_density_is_that_of_the_examples_own_class() -> None:
    net, examples = conditional().eval(), batch(CLASSES)
    latent = net.encode(examples)
    assert isinstance(latent, VariationalLatent)
    z = latent.posterior.sample((4,))
    found = log_joint(net, examples, latent, z)
    for draw, row in zip(z, found, strict=True):
        p_x = net.decode(draw, examples.given).log_prob(examples.x).flatten(1).sum(1)
        torch.testing.assert_close(row, p_x + latent.prior.log_prob(draw).sum(1))


def test_samples_are_of_the_class_that_is_asked_for() -> None:
    net = conditional().eval()
    asked = torch.tensor([2, 2, 0])
    torch.manual_seed(0)
    found = net.sample(3, Given(asked))
    torch.manual_seed(0)
    torch.testing.assert_close(found, net.decode(net.draw(3), Given(asked)).mean)
    assert net.classes(5).tolist() == [0, 1, 2, 0, 1]
    assert net.sample(5).shape == (5, 1, 8, 8)


def test_an_unconditional_model_does_not_see_the_class() -> None:
    net, examples = model().eval(), batch()
    assert torch.equal(net.embed(examples), net.embed(examples.x))
    assert net.classes(4) is None


def test_what_it_cannot_be_told_is_refused() -> None:
    with pytest.raises(UserError, match="model conditional needs data with classes"):
        conditional(IMAGE)
    with pytest.raises(UserError, match="needs a label for every example"):
        conditional().encode(batch().x)
