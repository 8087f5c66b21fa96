"""A frozen network as an encoder: nothing moves in it, no checkpoint holds it, and another one is noticed."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from instances import LIKELIHOODS, LOSSES, model

from narrows.bottlenecks import Deterministic
from narrows.decoders import ResNetDecoder
from narrows.encoders import FeatureEncoder
from narrows.errors import UserError
from narrows.layers import FeatureNetwork
from narrows.runs import checkpoint_files
from narrows.types import Batch, DataSpec

SPEC = DataSpec((3, 18, 12), "image", 10, value_range=(0.0, 1.0))


def encoder(layers: Any = ("stem", "stage2"), shape: tuple[int, ...] = SPEC.shape, **options: Any) -> FeatureEncoder:
    return FeatureEncoder(shape, network=partial(FeatureNetwork, layers=layers), **options)


def test_each_position_of_each_layer_is_normalised_and_stacked() -> None:
    x = torch.rand(2, *SPEC.shape)
    first, second = FeatureNetwork(layers=["stem", "stage2"])(x)
    found = encoder(halvings=1)(x)
    assert found.shape == (2, 32 + 24, 9, 6)
    torch.testing.assert_close(encoder(("stem",), halvings=1, normalise=False)(x), first)
    own = (first - first.mean(1, keepdim=True)) / (first.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(found[:, :32], own, atol=1e-5, rtol=1e-4)
    assert second.shape[2:] == (5, 3)
    assert encoder(halvings=2).out_shape == (56, 5, 3)


def test_nothing_in_it_moves_and_no_checkpoint_holds_it(tmp_path: Path) -> None:
    def built(layers: Any = ("stage1",)) -> Any:
        torch.manual_seed(0)
        return model(
            SPEC,
            encoder=partial(FeatureEncoder, network=partial(FeatureNetwork, layers=layers), halvings=1),
            bottleneck=partial(Deterministic, dim=None, noise=0.3),
            decoder=partial(ResNetDecoder, channels=[4], blocks=1),
            likelihood=LIKELIHOODS["gaussian_optimal"],
        )

    network = built().train()
    assert {name.partition(".")[0] for name, _ in network.named_parameters()} == {"decoder"}
    assert network.latent_shape == network.encoder.out_shape
    batch = Batch(torch.rand(6, *SPEC.shape))
    kept = [values.clone() for values in network.encoder.network.tensors()]
    seen = network.encode(batch).point
    objective = LOSSES["reconstruction"]()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        losses.append(objective(network(batch), network).total)
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert all(map(torch.equal, network.encoder.network.tensors(), kept)), "no running statistic either"
    assert torch.equal(network.encode(batch).point, seen)
    state = network.state_dict()
    assert [name for name in state if name.startswith("encoder")] == ["encoder._extra_state"]
    checkpoint_files.restore(built(), state, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt does not fit .* the weights of efficientnet_lite0 here are not"):
        checkpoint_files.restore(built(("stem",)), {**state}, tmp_path / "last.ckpt")
    other = built(("stem",)).encoder.get_extra_state()
    with torch.no_grad():
        for name, own in network.state_dict().items():  # as another run's weights are taken over
            own.copy_(other if name.startswith("encoder") else own)
    assert torch.equal(network.encoder.get_extra_state(), state["encoder._extra_state"])
    x = batch.x.clone().requires_grad_()
    network.encode(Batch(x)).point.square().sum().backward()
    assert x.grad is not None
    assert x.grad.any()


def test_noise_is_of_training_alone_and_of_one_strength_in_an_example() -> None:
    bottleneck = Deterministic((8, 40, 40), dim=None, noise=0.5).train()
    h = torch.zeros(400, 8, 40, 40)
    torch.manual_seed(0)
    latent = bottleneck(h)
    assert torch.equal(latent.point, h)
    spreads = latent.z.flatten(1).std(1)
    # The mean of |N(0, 0.5^2)| is 0.5 sqrt(2 / pi), its standard error here 0.015.
    assert abs(float(spreads.mean()) - 0.5 * (2 / torch.pi) ** 0.5) < 0.06
    assert spreads.min() < 0.05
    assert spreads.max() > 1
    assert torch.equal(bottleneck.eval()(h[:2]).z, h[:2])


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: encoder(shape=(12,)), r"reads pictures of one or three channels, not data of shape \[12\]"),
        (lambda: encoder(shape=(4, 8, 8)), r"not data of shape \[4, 8, 8\]"),
        (lambda: encoder(halvings=-1), "needs halvings of at least 0, not -1"),
        (lambda: Deterministic((3,), noise=-1.0), "noise must be at least 0"),
        (lambda: Deterministic((3,), dim=0), "dim must be at least 1, or null, not 0"),
    ],
)
def test_what_does_not_fit_is_refused(build: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        build()
