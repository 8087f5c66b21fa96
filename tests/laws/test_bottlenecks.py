"""What each bottleneck promises, on vectors, maps and sequences alike."""

from __future__ import annotations

import pytest
import torch
from instances import BOTTLENECKS, batch, model

from narrows.bottlenecks.sparse import TopK
from narrows.errors import UserError
from narrows.types import VariationalLatent

SHAPES = [(7,), (7, 4), (7, 3, 5)]


@pytest.mark.parametrize("name", BOTTLENECKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_it_returns_what_it_says(name: str, shape: tuple[int, ...]) -> None:
    bottleneck = BOTTLENECKS[name](shape)
    latent = bottleneck(torch.randn(3, *shape))
    assert type(latent) is bottleneck.returns
    assert latent.z.shape == latent.point.shape == (3, *bottleneck.out_shape)
    assert bottleneck.out_shape[1:] == shape[1:]


@pytest.mark.parametrize("name", BOTTLENECKS)
@pytest.mark.parametrize("shape", SHAPES[1:])
def test_it_treats_every_position_alike(name: str, shape: tuple[int, ...]) -> None:
    # One that normalises over the batch does so over its positions too, in training.
    bottleneck = BOTTLENECKS[name](shape).train(name != "logistic_normal")
    h = torch.randn(2, *shape)
    point = bottleneck(h).point.flatten(2)
    for i in range(point.shape[2]):
        alone = BOTTLENECKS[name]((7,)).train(bottleneck.training)
        # The hyperprior's side information has weights of another shape, and the point does not know it.
        own = {key: value.shape for key, value in alone.state_dict().items()}
        same = {key: value for key, value in bottleneck.state_dict().items() if value.shape == own.get(key)}
        assert same.keys() == own.keys() or name == "scale_hyperprior"
        alone.load_state_dict(same, strict=False)
        torch.testing.assert_close(alone(h.flatten(2)[:, :, i]).point, point[:, :, i])


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_the_point_is_free_of_noise(name: str) -> None:
    bottleneck, h = BOTTLENECKS[name]((7,)), torch.randn(3, 7)
    assert torch.equal(bottleneck(h).point, bottleneck(h).point)
    net, x = model(bottleneck=BOTTLENECKS[name]).eval(), batch().x
    assert torch.equal(net.embed(x), net.embed(x))
    assert torch.equal(net.reconstruct(x), net.reconstruct(x))


@pytest.mark.parametrize("k", [1, 3, 9])
def test_topk_keeps_exactly_the_k_largest(k: int) -> None:
    bottleneck = TopK((7, 4), dim=9, k=k)
    latent = bottleneck(torch.randn(5, 7, 4))
    assert ((latent.z != 0).sum(1) == k).all()
    for pre, z in zip(latent.pre.movedim(1, -1).flatten(0, 1), latent.z.movedim(1, -1).flatten(0, 1), strict=True):
        kept = set(pre.sort(descending=True).indices[:k].tolist())
        assert kept == set(z.nonzero().flatten().tolist())
        assert torch.equal(z[z != 0], pre[z != 0])


def test_topk_breaks_ties_so_that_k_stay() -> None:
    bottleneck = TopK((3,), dim=6, k=2)
    torch.nn.init.zeros_(bottleneck.projection.weight)
    torch.nn.init.ones_(bottleneck.projection.bias)
    assert ((bottleneck(torch.randn(4, 3)).z != 0).sum(1) == 2).all()


def test_gaussian_samples_follow_the_posterior_in_evaluation_too() -> None:
    bottleneck = BOTTLENECKS["gaussian"]((7,)).eval()
    h = torch.randn(1, 7)
    draws = torch.cat([bottleneck(h).z for _ in range(4000)])
    posterior = bottleneck(h).posterior
    torch.testing.assert_close(draws.mean(0, keepdim=True), posterior.loc, atol=0.1, rtol=0)
    torch.testing.assert_close(draws.std(0, keepdim=True), posterior.scale, atol=0.1, rtol=0)


def test_samples_of_the_prior_need_a_prior() -> None:
    assert model().sample(3).shape == (3, 1, 8, 8)
    for name in ("deterministic", "topk"):
        with pytest.raises(UserError, match="no prior to sample from"):
            model(bottleneck=BOTTLENECKS[name]).sample(3)


@pytest.mark.parametrize(("k", "dim"), [(0, 5), (6, 5), (-1, 5), (1, 0)])
def test_topk_refuses_what_it_cannot_keep(k: int, dim: int) -> None:
    with pytest.raises(UserError, match=r"bottleneck topk: (k|dim) must be"):
        TopK((7,), dim=dim, k=k)


@pytest.mark.parametrize("name", [name for name, made in BOTTLENECKS.items() if model(bottleneck=made).generative])
def test_the_prior_is_drawn_in_the_precision_of_the_weights(name: str) -> None:
    net = model(bottleneck=BOTTLENECKS[name]).double()
    z = net.draw(3)
    assert z.dtype == torch.float64
    assert net.decode(z).mean.isfinite().all()


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_no_width_below_one(name: str) -> None:
    with pytest.raises(UserError, match=r"must be|whole positive"):
        BOTTLENECKS[name].func((7,), **{"fsq": {"levels": []}, "ladder": {"dims": [0]}}.get(name, {"dim": 0}))


def test_these_are_variational() -> None:
    variational = {n for n, b in BOTTLENECKS.items() if issubclass(b((4,)).returns, VariationalLatent)}
    flows = {name for name in BOTTLENECKS if name.startswith(("flow_", "logistic_normal"))}
    others = {"gaussian", "gaussian_mixture", "categorical", "categorical_hard", "joint", "hyperspherical", "ladder"}
    assert variational == others | flows | {"entropy", "scale_hyperprior"}
