"""Terms on quantised latents."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from narrows.errors import require
from narrows.losses.objective import Term
from narrows.models.autoencoder import Autoencoder
from narrows.schedules import Schedule
from narrows.types import (
    BitLatent,
    CodebookLatent,
    LearnedCodebookLatent,
    Output,
    SoftCodeLatent,
    row_sums,
)


class Commitment(Term):
    """`sum ||u - sg[e]||^2` over the positions and the quantisers, `[B]`: what is quantised stays near its code.

    Summed, not averaged over values, as the equation is; its weight is beta.

    "Neural Discrete Representation Learning" (van den Oord et al., 2017, https://arxiv.org/abs/1711.00937), equation 3,
    third term.

    Example:
        >>> u, e = torch.zeros(1, 3), torch.ones(1, 3)
        >>> latent = CodebookLatent(e, e, codes=torch.tensor([[0]]), sizes=(4,), parts=[(u, e)])
        >>> Commitment()(Output(Batch(u), Batch(u), latent, p_x=None), None)
        tensor([3.])
    """

    requires = CodebookLatent

    def __init__(self, weight: float | Schedule = 0.25) -> None:
        super().__init__(weight)

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        return _squares([(given, code.detach()) for given, code in _parts(out)])


class CodebookDistance(Term):
    """`sum ||sg[u] - e||^2` over the positions and the quantisers, `[B]`: codes go where they are used.

    For codebooks that learn by gradient (`bottleneck.ema=null`).

    "Neural Discrete Representation Learning" (van den Oord et al., 2017, https://arxiv.org/abs/1711.00937), equation 3,
    second term.

    Example:
        >>> u, e = torch.zeros(1, 3), torch.ones(1, 3)
        >>> latent = CodebookLatent(e, e, codes=torch.tensor([[0]]), sizes=(4,), parts=[(u, e)])
        >>> CodebookDistance()(Output(Batch(u), Batch(u), latent, p_x=None), None)
        tensor([3.])
    """

    requires = LearnedCodebookLatent
    trains = "codebook"

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        return _squares([(given.detach(), code) for given, code in _parts(out)])


class CodeKL(Term):
    """`KL(q(k|x) || uniform) = log K - H(q)` in nats, summed over the positions, `[B]`.

    "Zero-Shot Text-to-Image Generation" (Ramesh et al., 2021, https://arxiv.org/abs/2102.12092), section 2.1; the
    weight is beta.

    Example:
        >>> z, log_probs = torch.zeros(1, 3), torch.tensor([[[0.75], [0.25]]]).log()
        >>> latent = SoftCodeLatent(z, z, codes=torch.tensor([[[0]]]), sizes=(2,), log_probs=log_probs)
        >>> CodeKL()(Output(Batch(z), Batch(z), latent, p_x=None), None)
        tensor([0.1308])
    """

    requires = SoftCodeLatent

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        assert isinstance(out.latent, SoftCodeLatent)
        log_probs = out.latent.log_probs
        return row_sums((log_probs.exp() * (log_probs + math.log(log_probs.shape[1]))).sum(1))


class LookupFreeEntropy(Term):
    """`P sum_groups (E[H(q(c|x))] - diversity H(E[q(c|x)]))` in nats, a scalar: every code sure, all codes used.

    `q(c|x) ~ exp(-||u - c||^2 / temperature)` over the corners c of {-1, 1}^bits, that is
    `P(bit = 1) = sigmoid(4 u / temperature)` for every bit on its own; the expectations are over the P positions
    and the batch, and in training over all processes. A batch of one vector has both entropies equal, so that with
    `diversity` 1 it costs nothing.

    "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation" (Yu et al., 2023,
    https://arxiv.org/abs/2310.05737), equation 4.

    Raises:
        UserError: `diversity` below 0 or `temperature` not above 0.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, LFQ, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> out = model(Batch(torch.rand(2, 4)))
        >>> LookupFreeEntropy()(out, model).shape
        torch.Size([])
    """

    requires = BitLatent

    def __init__(self, weight: float | Schedule = 1.0, diversity: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__(weight)
        require(diversity >= 0, f"term lfq_entropy: diversity must be at least 0, not {diversity}")
        require(temperature > 0, f"term lfq_entropy: temperature must be above 0, not {temperature}")
        self.diversity, self.temperature = diversity, temperature

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        total = torch.zeros((), device=out.latent.z.device)
        for given, _ in _parts(out):
            up = (4 / self.temperature * given).sigmoid().movedim(1, -1).flatten(0, -2)
            sure = (_entropy(up) + _entropy(1 - up)).sum(1).mean()
            spread = _entropy(self.over_batch(corners(up).mean(0), out)).sum()
            total = total + given[0, 0].numel() * (sure - self.diversity * spread)
        return total


def corners(up: Tensor) -> Tensor:
    """Probabilities of `d` independent bits `[N, d]` to those of their 2^d codes `[N, 2^d]`, first bit least."""
    codes = torch.ones_like(up[:, :1])
    for bit in up.unbind(1):
        codes = torch.cat([codes * (1 - bit)[:, None], codes * bit[:, None]], dim=1)
    return codes


def _entropy(probs: Tensor) -> Tensor:
    """`-p log p` elementwise, 0 at 0 with a finite gradient."""
    return -probs * probs.clamp_min(torch.finfo(probs.dtype).tiny).log()


def _squares(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    return torch.stack([row_sums((a - b).square()) for a, b in pairs]).sum(0)


def _parts(out: Output) -> list[tuple[Tensor, Tensor]]:
    assert isinstance(out.latent, CodebookLatent)
    return out.latent.parts
