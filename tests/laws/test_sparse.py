"""Sparse autoencoders: what is kept, what the pseudo-gradients are, and what becomes of dead latents."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from instances import BOTTLENECKS, IMAGE, LIKELIHOODS, TERMS, batch, model
from torch import Tensor

from narrows.bottlenecks.sparse import BatchTopK, GatedSAE, JumpReLU, TopK
from narrows.decoders.mlp import MLPDecoder
from narrows.encoders.mlp import MLPEncoder
from narrows.errors import UserError
from narrows.losses import Objective
from narrows.losses.reconstruction import NegativeLogLikelihood
from narrows.losses.sparsity import L0, AuxK, GateL1, GateReconstruction, MatryoshkaReconstruction
from narrows.models.autoencoder import Autoencoder
from narrows.types import Batch, DataSpec, Output

SPARSE = ("topk", "batch_topk", "jumprelu", "gated_sae")
VECTOR = DataSpec(shape=(12,), kind="vector", size=100)


def linear_sae(bottleneck: str, likelihood: str = "gaussian_fixed") -> Autoencoder:
    """x = W z + b, as the field has them."""
    plain = {"encoder": partial(MLPEncoder, widths=[]), "decoder": partial(MLPDecoder, widths=[])}
    return model(VECTOR, bottleneck=BOTTLENECKS[bottleneck], likelihood=LIKELIHOODS[likelihood], **plain)


def gradients(value: Tensor, net: Autoencoder) -> dict[str, Tensor]:
    names, parameters = zip(*net.named_parameters(), strict=True)
    found = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
    return {name: g for name, g in zip(names, found, strict=True) if g is not None and g.any()}


# ── what is projected ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize("positions", [(), (4,), (2, 3)])
def test_the_centre_is_the_mean_of_what_training_batches_read(name: str, positions: tuple[int, ...]) -> None:
    bottleneck = BOTTLENECKS[name]((7, *positions), centred=True).double()
    read = [torch.randn(5, 7, *positions, dtype=torch.float64) + 3 for _ in range(4)]
    for h in read:
        bottleneck.learn(bottleneck(h))
        bottleneck(h + 100)
    mean = torch.cat(read).transpose(0, 1).flatten(1).mean(1)
    torch.testing.assert_close(bottleneck.centre, mean)


@pytest.mark.parametrize("name", SPARSE)
def test_nothing_is_subtracted_unless_asked(name: str) -> None:
    bottleneck, h = BOTTLENECKS[name]((7,)), torch.randn(5, 7) + 3
    for _ in range(2):
        bottleneck.learn(bottleneck(h))
    assert torch.equal(bottleneck.project(h), bottleneck.projection(h))


@pytest.mark.parametrize("name", SPARSE)
def test_what_all_inputs_share_changes_no_code(name: str) -> None:
    """A dictionary spends no latent on a constant: the decoder's bias has it."""
    plain, shifted = (BOTTLENECKS[name]((7,), centred=True) for _ in range(2))
    shifted.load_state_dict(plain.state_dict())
    h, offset = torch.randn(64, 7), 10 * torch.randn(7)
    h = h - h.mean(0)
    for bottleneck, rows in ((plain, h), (shifted, h + offset)):
        for _ in range(2):
            bottleneck.learn(bottleneck(rows))
    torch.testing.assert_close(shifted.centre - plain.centre, offset, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(shifted.project(h + offset), plain.project(h), rtol=1e-4, atol=1e-4)


# ── batch top-k ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("positions", [(), (4,), (2, 3)])
def test_batch_topk_keeps_the_largest_of_the_whole_batch(positions: tuple[int, ...]) -> None:
    bottleneck = BatchTopK((7, *positions), dim=9, k=3)
    latent = bottleneck(torch.randn(5, 7, *positions))
    places = 5 * torch.Size(positions).numel()
    assert int((latent.z != 0).sum()) == 3 * places
    border = latent.pre.flatten().sort(descending=True).values[3 * places - 1]
    assert torch.equal(latent.z, latent.pre * (latent.pre >= border))


def test_batch_topk_spends_more_on_some_examples_than_on_others() -> None:
    bottleneck = BatchTopK((7,), dim=9, k=3)
    h = torch.randn(50, 7) * torch.linspace(0.1, 5, 50)[:, None]
    assert len((bottleneck(h).z != 0).sum(1).unique()) > 1


@pytest.mark.parametrize("drift", [1.0, 1.5])
def test_batch_topk_s_threshold_keeps_k_on_average(drift: float) -> None:
    """Asked for 32, a peer's threshold gave 22.7; here on fresh examples, also after the activations grew."""
    bottleneck = BatchTopK((20,), dim=128, k=16)
    for step in range(400):
        h = torch.randn(64, 20) * (1 if step < 200 else drift)
        bottleneck.learn(bottleneck(h))
    count = (bottleneck.eval()(torch.randn(5000, 20) * drift).z != 0).sum(1).float().mean()
    assert count.item() == pytest.approx(16, rel=0.03)


def test_batch_topk_s_threshold_lies_between_what_is_kept_and_what_is_dropped() -> None:
    bottleneck = BatchTopK((20,), dim=9, k=3)
    latent = bottleneck(torch.randn(2, 20))
    bottleneck.learn(latent)
    falling = latent.pre.flatten().sort(descending=True).values
    torch.testing.assert_close(bottleneck.threshold, (falling[5] + falling[6]) / 2)
    assert torch.equal(latent.z != 0, latent.pre > bottleneck.threshold)


@pytest.mark.parametrize("training", [True, False])
def test_a_code_never_depends_on_its_neighbours_in_evaluation(training: bool) -> None:
    net = linear_sae("batch_topk").train(training)
    x = torch.randn(8, 12)
    for _ in range(3):
        net(batch(VECTOR))
    alone = torch.cat([net.embed(row[None]) for row in x])
    torch.testing.assert_close(alone, net.embed(x))
    if not training:
        assert torch.equal(net.encode(x).z, net.encode(x).point)


def test_the_threshold_stays_where_it_is_in_evaluation_and_when_encoding_again() -> None:
    net = linear_sae("batch_topk")
    net(batch(VECTOR))
    before = net.bottleneck.threshold.clone()
    net.encode(torch.randn(5, 12))
    net.eval()(batch(VECTOR))
    assert torch.equal(net.bottleneck.threshold, before)
    assert net.bottleneck.passes == 1


# ── jumprelu ────────────────────────────────────────────────────────────────────────────────────────────


def smoothed(pre: Tensor, theta: Tensor, width: float) -> tuple[Tensor, Tensor]:
    """z and the count of active latents under a ramp of that width instead of the step, averaged over examples.

    The ramp's z is `relu`-like: it integrates the paper's kernel exactly, theta d(ramp)/dtheta."""
    ramp = ((pre - theta) / width + 0.5).clamp(0, 1)
    return (pre * ramp).mean(0), ramp.mean(0)


def test_jumprelu_is_a_jump() -> None:
    bottleneck = JumpReLU((7,), dim=9, threshold=0.3, bandwidth=0.5)
    latent = bottleneck(torch.randn(50, 7))
    assert torch.equal(latent.z, torch.where(latent.pre > 0.3, latent.pre, 0.0))
    assert torch.equal(latent.active, (latent.z != 0).float())


def test_jumprelu_s_threshold_and_kernel_are_in_units_of_the_activations() -> None:
    """Ten times the activations: the same latents are active, with the same gradient by log theta."""
    small, large = JumpReLU((7,), dim=9, threshold=0.8, bandwidth=0.7), JumpReLU((7,), dim=9)
    large.load_state_dict(small.state_dict())
    large.bandwidth = small.bandwidth
    with torch.no_grad():
        large.projection.bias.mul_(10)
    h, found = torch.randn(64, 7), []
    h = h - h.mean(0)
    for bottleneck, size in ((small, 1.0), (large, 10.0)):
        rows = h * size
        bottleneck.learn(bottleneck(rows))
        latent = bottleneck(rows)
        assert bottleneck.scale.item() == pytest.approx(latent.pre.square().mean().sqrt().item(), rel=1e-5)
        latent.active.sum().backward()
        found.append((latent.z != 0, bottleneck.log_threshold.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


def test_jumprelu_s_unit_is_an_average_over_training_batches_alone() -> None:
    net = linear_sae("jumprelu")
    sizes = [net(batch(VECTOR)).latent.pre.square().mean().sqrt() for _ in range(3)]
    torch.testing.assert_close(net.bottleneck.scale, torch.stack(sizes).mean())
    net.encode(torch.randn(5, 12))
    net.eval()(batch(VECTOR))
    torch.testing.assert_close(net.bottleneck.scale, torch.stack(sizes).mean())


def test_jumprelu_s_l0_pseudo_gradient_is_the_smoothed_loss_s_by_finite_differences() -> None:
    bottleneck = JumpReLU((7,), dim=9, threshold=0.2, bandwidth=0.3).double()
    h = torch.randn(500, 7, dtype=torch.float64)
    latent = bottleneck(h)
    latent.active.sum(1).mean().backward()
    got = bottleneck.log_threshold.grad / 0.2  # by theta instead of log theta
    e = 1e-7
    up, down = (smoothed(latent.pre.detach(), torch.tensor(0.2 + s, dtype=torch.float64), 0.3)[1] for s in (e, -e))
    torch.testing.assert_close(got, (up - down) / (2 * e), rtol=1e-4, atol=1e-6)
    assert all(p.grad is None for p in bottleneck.projection.parameters()), "the activations get none of the count's"


def test_jumprelu_s_z_pseudo_gradient_is_the_expected_loss_s_by_finite_differences() -> None:
    """The derivative of E[f(z)] is what counts: the kernel estimates the density at the jump."""
    width, theta, weights = 0.2, 0.5, torch.linspace(0.5, 2, 3, dtype=torch.float64)
    bottleneck = JumpReLU((3,), dim=3, threshold=theta, bandwidth=width).double()
    with torch.no_grad():
        bottleneck.projection.weight.copy_(torch.eye(3))
        bottleneck.projection.bias.zero_()
    h = torch.randn(400_000, 3, dtype=torch.float64)
    (bottleneck(h).z @ weights).mean().backward()
    e = 0.05
    jump = [torch.where(h > theta + s, h, 0.0).mean(0) * weights for s in (e, -e)]
    expected = (jump[0] - jump[1]) / (2 * e) * theta
    torch.testing.assert_close(bottleneck.log_threshold.grad, expected, rtol=0.03, atol=0)


def test_jumprelu_s_activations_get_the_plain_gradient() -> None:
    bottleneck = JumpReLU((7,), dim=9, threshold=0.3, bandwidth=2.0)
    latent = bottleneck(torch.randn(50, 7))
    (got,) = torch.autograd.grad(latent.z.sum(), latent.pre)
    assert torch.equal(got, latent.active.detach())


def test_l0_counts() -> None:
    net = linear_sae("jumprelu")
    out = net(batch(VECTOR))
    torch.testing.assert_close(L0()(out, net), (out.latent.z != 0).sum(1).float())


# ── gated ───────────────────────────────────────────────────────────────────────────────────────────────


def test_gated_is_gate_times_magnitude() -> None:
    bottleneck = GatedSAE((7,), dim=9)
    for p in bottleneck.parameters():
        torch.nn.init.normal_(p)
    h = torch.randn(6, 7)
    weight = bottleneck.projection.weight
    gate = h @ weight.T + bottleneck.gate_bias
    magnitude = (h @ (weight * bottleneck.log_scale.exp()[:, None]).T + bottleneck.magnitude_bias).relu()
    torch.testing.assert_close(bottleneck(h).z, (gate > 0) * magnitude)


def test_gated_s_three_losses_move_what_the_paper_says() -> None:
    net = linear_sae("gated_sae")
    out = net(batch(VECTOR))
    shared = {"bottleneck.projection.weight"}
    gate = shared | {"bottleneck.gate_bias"}
    magnitude = shared | {"bottleneck.magnitude_bias", "bottleneck.log_scale"}
    decoder = {name for name, _ in net.named_parameters() if name.startswith("decoder.")}
    assert set(gradients(NegativeLogLikelihood()(out, net).mean(), net)) == magnitude | decoder
    assert set(gradients(GateReconstruction()(out, net).mean(), net)) == gate
    assert set(gradients(GateL1()(out, net).mean(), net)) == gate
    torch.testing.assert_close(GateL1()(out, net), out.latent.pre.clamp_min(0).sum(1))
    expected = -net.decode(out.latent.pre.clamp_min(0)).log_prob(out.batch.x).sum(1)
    torch.testing.assert_close(GateReconstruction()(out, net), expected)


# ── dead latents ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", SPARSE)
def test_idle_counts_training_passes_since_the_last_activity(name: str) -> None:
    net = model(bottleneck=BOTTLENECKS[name])
    expected = torch.zeros(9, dtype=torch.long)
    for step in range(6):
        net.train(step != 3)
        out = net(batch())
        if step != 3:
            expected = torch.where((out.latent.z != 0).any(0), 0, expected + 1)
        net.embed(batch().x)
        assert torch.equal(net.bottleneck.idle, expected)
        assert torch.equal(out.latent.idle, expected)
    assert torch.equal(net.state_dict()["bottleneck.idle"], expected)


def killed(likelihood: str = "gaussian_fixed") -> tuple[Autoencoder, Output]:
    net = linear_sae("topk", likelihood)
    net.bottleneck.idle[[1, 4, 7]] = 100
    with torch.no_grad():
        net.bottleneck.projection.bias[[1, 4, 7]] = -10.0
    return net, net(batch(VECTOR))


def test_dead_latents_rebuild_the_detached_residual() -> None:
    """Gao et al., A.2: the squared error of the residual and of what the k_aux largest dead latents decode to."""
    net, out = killed()
    term = AuxK(k=2, dead_after=50)
    linear = net.decoder.blocks[0][0]
    residual = (out.batch.x - linear(out.latent.z)).detach()
    dead = out.latent.pre[:, [1, 4, 7]]
    kept = torch.stack([row * (row >= row.sort().values[1]) for row in dead])
    rebuilt = kept @ linear.weight[:, [1, 4, 7]].T
    sigma = 0.7
    expected = (residual - rebuilt).square().sum(1) / (2 * sigma**2)
    constant = 12 * (torch.tensor(sigma).log() + 0.5 * torch.tensor(2 * torch.pi).log())
    torch.testing.assert_close(term(out, net), expected + constant)
    got, want = gradients(term(out, net).mean(), net), gradients(expected.mean(), net)
    assert got.keys() == want.keys()
    for name in got:
        torch.testing.assert_close(got[name], want[name])
    rows = got["bottleneck.projection.weight"].any(1)
    assert not rows[[0, 2, 3, 5, 6, 8]].any(), "living latents are left alone"
    assert "decoder.blocks.0.0.bias" not in got


def test_dead_latents_cost_in_proportion_up_to_k() -> None:
    net, out = killed()
    whole = AuxK(k=3, dead_after=50)(out, net)
    torch.testing.assert_close(AuxK(k=6, dead_after=50)(out, net), whole / 2)
    assert not AuxK(k=3, dead_after=200)(out, net).any()


def test_dead_latents_are_half_the_width_at_most_and_choose_no_checkpoint() -> None:
    net, out = killed()
    assert net.bottleneck.in_shape == (12,)
    whole = AuxK(dead_after=50)(out, net)
    torch.testing.assert_close(whole, AuxK(k=6, dead_after=50)(out, net))
    assert whole.all()
    losses = Objective({"nll": NegativeLogLikelihood(), "auxk": AuxK(dead_after=50)})(out, net)
    assert torch.equal(losses.monitored, losses.terms["nll"])
    assert losses.total > losses.monitored


@pytest.mark.parametrize("likelihood", ["gaussian_shared", "gaussian_optimal"])
def test_side_losses_teach_the_likelihood_nothing(likelihood: str) -> None:
    net, out = killed(likelihood)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    terms = (AuxK(k=2, dead_after=50), MatryoshkaReconstruction(prefixes=[0.5]))
    sum(term(out, net).mean() for term in terms).backward()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.likelihood.parameters())


def test_batch_norm_in_the_decoder_is_left_alone_by_side_losses() -> None:
    net = model(bottleneck=BOTTLENECKS["topk"], decoder=partial(MLPDecoder, widths=[16], norm="batch"))
    out = net(batch())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    TERMS["auxk"]()(out, net)
    TERMS["matryoshka"]()(out, net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training
    assert all(part.training for part in net.modules())


# ── nested prefixes, decoder norm ───────────────────────────────────────────────────────────────────────


def test_prefixes_are_judged_one_by_one() -> None:
    net = linear_sae("batch_topk")
    out = net(batch(VECTOR))
    expected = torch.zeros(6)
    for size in (2, 4):
        z = out.latent.z.clone()
        z[:, size:] = 0
        expected = expected - net.decode(z).log_prob(out.batch.x).sum(1)
    torch.testing.assert_close(MatryoshkaReconstruction(prefixes=[0.45, 0.2])(out, net), expected)


@pytest.mark.parametrize("prefixes", [[], [0.0], [1.0], [0.5, 2.0]])
def test_prefixes_are_shares(prefixes: list[float]) -> None:
    with pytest.raises(UserError, match=r"term matryoshka: prefixes must be shares inside \(0, 1\)"):
        MatryoshkaReconstruction(prefixes=prefixes)


def test_decoder_columns_have_norm_one_and_their_gradient_no_part_along_them() -> None:
    decoder = MLPDecoder((9,), IMAGE.shape, widths=[], unit_norm=True)
    columns = torch.stack([decoder(row[None]) - decoder(torch.zeros(1, 9)) for row in torch.eye(9)]).flatten(1)
    torch.testing.assert_close(columns.norm(dim=1), torch.ones(9))
    decoder(torch.randn(4, 9)).square().sum().backward()
    weight = decoder.blocks[0][0].weight
    along = (weight * weight.grad).sum(0)
    torch.testing.assert_close(along, torch.zeros(9), atol=1e-4, rtol=0)


def test_tied_columns_are_the_encoder_s() -> None:
    with pytest.raises(UserError, match="can be tied or have unit_norm, not both"):
        MLPDecoder((9,), IMAGE.shape, widths=[], unit_norm=True, tied=True)


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: BatchTopK((4,), dim=5, k=5), "bottleneck batch_topk: k must be between 1 and dim - 1 = 4, not 5"),
        (lambda: BatchTopK((4,), dim=5, k=2, momentum=0.0), "momentum must be in"),
        (lambda: JumpReLU((4,), dim=5, threshold=0.0), "bottleneck jumprelu: threshold must be above 0"),
        (lambda: JumpReLU((4,), dim=5, bandwidth=-1.0), "bottleneck jumprelu: bandwidth must be above 0"),
        (lambda: AuxK(k=0), "term auxk: k must be at least 1"),
        (lambda: AuxK(dead_after=0), "term auxk: dead_after must be at least 1"),
    ],
)
def test_refusals(build: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        build()  # type: ignore[operator]


# ── the auxiliary loss revives ──────────────────────────────────────────────────────────────────────────


def _dead_after_training(weight: float) -> tuple[float, float]:
    """Share of dead latents, and of variance unexplained, after training a dictionary of which half began dead."""
    torch.manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(24, 12), dim=1)
    chosen = torch.rand(2000, 24) < 0.12
    x = (chosen * torch.rand(2000, 24)) @ directions
    plain = {"encoder": partial(MLPEncoder, widths=[]), "decoder": partial(MLPDecoder, widths=[])}
    net = model(VECTOR, bottleneck=partial(TopK, dim=24, k=3), likelihood=LIKELIHOODS["gaussian_fixed"], **plain)
    with torch.no_grad():
        # These are never among the largest: without help they stay as they are.
        net.bottleneck.projection.bias[12:] = -1.0
    terms = [NegativeLogLikelihood(), AuxK(weight=weight, dead_after=10)]
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for step in range(600):
        out = net(Batch(x=x[step % 10 * 200 :][:200]))
        loss = sum((term.weight(step) * term(out, net).mean() for term in terms), torch.tensor(0.0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        latent = net.eval().encode(x)
        left = (net.decode(latent.z).mean - x).square().sum() / (x - x.mean(0)).square().sum()
    return float((latent.z != 0).any(0).logical_not().float().mean()), float(left)


def test_the_auxiliary_loss_revives_dead_latents_and_reconstruction_gains() -> None:
    dead, unexplained = _dead_after_training(0.0)
    revived, better = _dead_after_training(1 / 32)
    assert dead >= 0.5
    assert revived < 0.1
    assert better < 0.8 * unexplained
