"""The vision transformer: patches, positions, attention against torch's, and what it may see of hidden values."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from instances import BOTTLENECKS, IMAGE, LIKELIHOODS, LOSSES, SERIES, batch, model
from torch import Tensor, nn

from narrows import corruptions
from narrows.decoders.vit import ViTDecoder
from narrows.encoders.vit import ViTEncoder
from narrows.errors import UserError
from narrows.layers.attention import Block, SelfAttention, Transformer, sines_and_cosines
from narrows.layers.patches import from_patches, patch_grid, to_patches
from narrows.models.autoencoder import Autoencoder
from narrows.types import Batch, DataSpec

SHAPE = (2, 6, 9)
SMALL = {"width": 8, "heads": 2, "depth": 2}


def encoder(**options: object) -> ViTEncoder:
    return ViTEncoder(SHAPE, patch=3, **(SMALL | options)).double().eval()


def patch_mask(away: Tensor) -> Tensor:
    """bool `[B, 2, 3]` of patches to the mask of their values, `[B, *SHAPE]`."""
    return away.repeat_interleave(3, 1).repeat_interleave(3, 2)[:, None].expand(-1, 2, -1, -1)


def test_patches_are_pieces_in_reading_order_and_go_back() -> None:
    image, series = torch.randn(4, 2, 6, 9), torch.randn(4, 3, 8)
    patches = to_patches(image, patch_grid(SHAPE, 3, "it"))
    assert patches.shape == (4, 6, 18)
    for row in range(2):
        for column in range(3):
            piece = image[:, :, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
            assert torch.equal(patches[:, 3 * row + column], piece.flatten(1))
    assert torch.equal(from_patches(patches, (2, 3), SHAPE), image)
    patches = to_patches(series, (4,))
    assert torch.equal(patches[:, 2], series[:, :, 4:6].flatten(1))
    assert torch.equal(from_patches(patches, (4,), (3, 8)), series)


def test_positions_are_those_of_the_paper() -> None:
    """Written as in the published code: a quarter of the width each for sin and cos of row and column."""
    found = sines_and_cosines((2, 3), 8)
    for place in range(6):
        row, column = divmod(place, 3)
        angles = torch.tensor([axis / 10000 ** (i / 2) for axis in (row, column) for i in range(2)])
        (a, b) = angles[:2], angles[2:]
        torch.testing.assert_close(found[place], torch.cat([a.sin(), a.cos(), b.sin(), b.cos()]))
    assert len(found.unique(dim=0)) == 6


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_attention_is_torchs(padded: bool, causal: bool) -> None:
    ours, theirs = SelfAttention(8, 2, causal), nn.MultiheadAttention(8, 2, batch_first=True)
    theirs.load_state_dict(
        {
            **{f"in_proj_{key}": value for key, value in ours.inputs.state_dict().items()},
            **{f"out_proj.{key}": value for key, value in ours.output.state_dict().items()},
        }
    )
    x = torch.randn(3, 5, 8)
    padding = torch.arange(5) >= torch.tensor([[5], [3], [1]]) if padded else None
    later = torch.ones(5, 5, dtype=torch.bool).triu(1) if causal else None
    expected = theirs(x, x, x, key_padding_mask=padding, attn_mask=later, need_weights=False)[0]
    torch.testing.assert_close(ours(x, padding), expected)


def test_a_block_is_torchs_pre_norm_layer() -> None:
    ours = Block(8, 2, dropout=0.0)
    theirs = nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True)
    names = {
        **{"norm_attention": "norm1", "norm_mlp": "norm2", "attention.inputs.": "self_attn.in_proj_"},
        **{"attention.output": "self_attn.out_proj", "mlp.0": "linear1", "mlp.2": "linear2"},
    }
    state = {}
    for key, value in ours.state_dict().items():
        old = next(name for name in names if key.startswith(name))
        state[key.replace(old, names[old])] = value
    theirs.load_state_dict(state)
    x = torch.randn(3, 5, 8)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("pool", [None, "mean"])
@pytest.mark.parametrize("even", [True, False], ids=["equally many", "unequally many"])
def test_hidden_values_change_no_bit_and_visible_tokens_alone_give_the_same(even: bool, pool: str | None) -> None:
    net = encoder(pool=pool)
    away = torch.tensor([[1, 0, 1, 1, 0, 1], [0, 1, 1, 1, 1, 0], [1, 1, 0, 0, 1, 1]]).bool()
    if not even:
        away[1, 1], away[2, 2] = False, True
    hidden = patch_mask(away.unflatten(1, (2, 3)))
    x = torch.randn(3, *SHAPE, dtype=torch.float64)
    out = net(x, hidden)
    for other in (0.0, 1e6, torch.nan):
        assert torch.equal(net(x.masked_fill(hidden, other), hidden), out)
    tokens = net.positions(net.embedding(to_patches(x, net.grid)))
    for i in range(3):
        alone = net.transformer(tokens[i : i + 1, ~away[i]])[0]
        if pool:
            torch.testing.assert_close(out[i], alone.mean(0))
        else:
            torch.testing.assert_close(out[i].flatten(1).T[~away[i]], alone)
            assert not out[i].flatten(1).T[away[i]].any()


def test_one_hidden_value_hides_its_patch_and_none_hides_nothing() -> None:
    net, x = encoder(), torch.randn(2, *SHAPE, dtype=torch.float64)
    hidden = torch.zeros(2, *SHAPE, dtype=torch.bool)
    torch.testing.assert_close(net(x, hidden), net(x), rtol=0, atol=0)
    hidden[:, 1, 4, 8] = True
    away = torch.zeros(2, 2, 3, dtype=torch.bool)
    away[:, 1, 2] = True
    assert torch.equal(net(x, hidden), net(x, patch_mask(away)))


@pytest.mark.parametrize("pool", [None, "mean"])
def test_an_example_of_which_nothing_is_seen_is_zero_with_finite_gradients(pool: str | None) -> None:
    net, x = encoder(pool=pool), torch.randn(2, *SHAPE, dtype=torch.float64)
    hidden = torch.ones(2, *SHAPE, dtype=torch.bool)
    assert not net(x, hidden).any()
    hidden[1, :, :3, :3] = False
    out = net(x, hidden)
    assert not out[0].any()
    assert out[1].any()
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_the_sequence_is_really_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    forward = Transformer.forward

    def spy(self: Transformer, x: Tensor, padding: Tensor | None = None) -> Tensor:
        lengths.append(x.shape[1])
        return forward(self, x, padding)

    monkeypatch.setattr(Transformer, "forward", spy)
    net = masked(IMAGE)
    net(batch())
    assert lengths == [4, 16], "a quarter in the encoder, all in the decoder"
    lengths.clear()
    net.embed(batch().x)
    assert lengths == [16]


def masked(spec: DataSpec, **options: object) -> Autoencoder:
    parts = {"patch": 2, "width": 8, "heads": 2, "depth": 1}
    return model(
        spec,
        encoder=partial(ViTEncoder, **(parts | options)),
        decoder=partial(ViTDecoder, **parts),
        bottleneck=BOTTLENECKS["deterministic"],
        corruption=partial(corruptions.Patches, size=2),
        likelihood=LIKELIHOODS["gaussian_fixed"],
    )


@pytest.mark.parametrize("spec", [IMAGE, SERIES], ids=["image", "series"])
@pytest.mark.parametrize("pool", [None, "mean"])
def test_a_masked_autoencoder_sees_nothing_hidden_and_trains_throughout(spec: DataSpec, pool: str | None) -> None:
    net, examples = masked(spec, pool=pool), batch(spec)
    torch.manual_seed(5)
    out = net(examples)
    LOSSES["masked"]()(out, net).total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in net.parameters())
    guess = net.reconstruct(Batch(examples.x, hidden=out.seen.hidden))
    elsewhere = examples.x.where(~out.seen.hidden, torch.rand_like(examples.x))
    assert torch.equal(net.reconstruct(Batch(elsewhere, hidden=out.seen.hidden)), guess)
    assert not torch.equal(net.reconstruct(elsewhere), guess)


def test_a_grid_of_latents_may_come_flat() -> None:
    torch.manual_seed(1)
    grid = ViTDecoder((5, 2, 3), SHAPE, patch=3, **SMALL)
    torch.manual_seed(1)
    flat = ViTDecoder((5, 6), SHAPE, patch=3, **SMALL)
    z = torch.randn(2, 5, 2, 3)
    assert torch.equal(grid(z), flat(z.flatten(2)))


# ── learnt latents beside the patches ───────────────────────────────────────────────────────────────────


def test_latents_are_what_learnt_tokens_read_of_all_patches() -> None:
    network = encoder(latents=4)
    assert network.out_shape == (8, 4)
    x = torch.randn(3, *SHAPE).double()
    tokens = network.positions(network.embedding(to_patches(x, network.grid)))
    assert network.latents is not None
    both = torch.cat([tokens, network.latents.expand(3, -1, -1)], 1)
    torch.testing.assert_close(network(x), network.transformer(network.norm(both))[:, 6:].transpose(1, 2))
    x.requires_grad_()
    for latent in network(x).unbind(2):
        (slope,) = torch.autograd.grad(latent[:, 0].sum(), x, retain_graph=True)
        assert to_patches(slope, network.grid).abs().sum(2).gt(0).all(), "each is of every patch"


def test_latents_read_visible_patches_alone() -> None:
    network = encoder(latents=2)
    away = torch.tensor([[True, False, False], [False, True, False]]).expand(3, -1, -1).clone()
    away[1] = ~away[1]  # another number of visible patches: padding
    x = torch.randn(3, *SHAPE).double()
    hidden = patch_mask(away)
    found = network(x, hidden=hidden)
    torch.testing.assert_close(network(x.masked_fill(hidden, 7.0), hidden=hidden), found)
    torch.testing.assert_close(network(x[1:2], hidden=hidden[1:2]), found[1:2])


def test_masks_become_patches_by_what_they_read() -> None:
    decoder = ViTDecoder((5, 4), SHAPE, patch=3, masked=True, **SMALL).double().eval()
    z = torch.randn(3, 5, 4).double().requires_grad_()
    rebuilt = decoder(z)
    assert rebuilt.shape == (3, *SHAPE)
    (slope,) = torch.autograd.grad(rebuilt[:, :, :3, :3].sum(), z)
    assert slope.abs().sum(1).gt(0).all(), "every latent is read by the first patch"
    swapped = decoder(z[..., [1, 0, 2, 3]])
    assert (swapped - rebuilt).abs().max() > 1e-6, "a latent is told by its place"
    told = []
    decoder.transformer.register_forward_pre_hook(lambda _, given: told.append(given[0]))
    decoder(100 * z)
    torch.testing.assert_close(told[0].std(2, correction=0), torch.ones(3, 10).double(), rtol=0.01, atol=0)
    with pytest.raises(UserError, match="masked=true reads latents beside the patches"):
        ViTDecoder((5,), SHAPE, patch=3, masked=True, **SMALL)
    with pytest.raises(UserError, match="latents as a list of whole positive numbers"):
        encoder(latents=0)
    with pytest.raises(UserError, match="keeps its 3 latents as they are: set pool=null"):
        encoder(latents=3, pool="mean")
