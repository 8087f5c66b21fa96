"""A density over the codes of a quantised latent."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.densities.base import Density
from narrows.densities.gradient_fit import Budget
from narrows.errors import require
from narrows.layers.attention import Block, Cache
from narrows.models.autoencoder import Autoencoder
from narrows.types import Latent, QuantizedLatent

LARGEST, LONGEST = 2**16, 2**12


class AutoregressiveCodes(Density):
    """`p(c) = prod_i p(c_i | c_1, ..., c_{i-1})` by a causal transformer over the codes in raster order, at every
    position the code of each alphabet in turn; its maximum-likelihood fit. Samples are z looked up at drawn codes.

    Its values are the codes `[B, Q, *positions]`, of Q alphabets of their own sizes, so that `log_prob` is a
    logarithm of probabilities. Of a stochastic quantiser they are the likeliest codes.

    "Neural Discrete Representation Learning" (van den Oord et al., 2017, https://arxiv.org/abs/1711.00937),
    section 3.3, where it is a PixelCNN; the blocks are those of "Language Models are Unsupervised Multitask Learners"
    (Radford et al., 2019).

    Legend: B examples, P positions, L = P Q codes of an example, W `width`, S the largest alphabet.

    Args:
        width: of a code's vector.
        layers: attention and multilayer perceptron, after one another.
        heads: of the attention; must divide `width`.
        epochs: at most.
        batch_size: examples per step.
        lr: of Adam.
        patience: epochs without a better log-probability of the validation split after which it ends.

    Raises:
        UserError: a value out of its range, a latent without codes, an alphabet of more than 65,536 codes, or more
            than 4,096 codes for an example.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> stages = Stages(MLPEncoder, VectorQuantizer, MLPDecoder, BernoulliLikelihood, NoCorruption)
        >>> model = Autoencoder(spec, stages)
        >>> density = AutoregressiveCodes(model, width=8, layers=1, heads=2)
        >>> density.sample_codes(3).shape, density.log_prob(torch.zeros(2, 1, dtype=torch.long)).shape
        (torch.Size([3, 1]), torch.Size([2]))
    """

    requires = QuantizedLatent
    starts: Tensor

    def __init__(
        self,
        model: Autoencoder,
        *,
        width: int = 96,
        layers: int = 3,
        heads: int = 4,
        epochs: int = 50,
        batch_size: int = 128,
        lr: float = 1e-3,
        patience: int = 5,
    ) -> None:
        require(layers >= 1, f"density autoregressive: layers must be at least 1, not {layers}")
        right = heads >= 1 and width >= 1 and width % heads == 0
        require(right, f"density autoregressive: heads must be at least 1 and divide width={width}, not {heads}")
        super().__init__(model)
        self.sizes = model.bottleneck.sizes
        self.positions = model.bottleneck.code_positions
        self.length = math.prod(self.positions) * len(self.sizes)
        _refuse_large(self.sizes, self.length)
        self.budget = Budget("autoregressive", epochs, batch_size, lr, patience)
        self._decode_codes = model.bottleneck.decode_codes
        starts = torch.tensor([0, *self.sizes[:-1]]).cumsum(0)
        self.register_buffer("starts", starts.repeat(math.prod(self.positions)), persistent=False)
        self.first = nn.Parameter(torch.zeros(width))
        self.vectors = nn.Embedding(sum(self.sizes), width)
        self.places = nn.Parameter(torch.zeros(self.length, width))
        self.blocks = nn.ModuleList(Block(width, heads, causal=True, fused=True) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleList(nn.Linear(width, size) for size in self.sizes)
        for table in (self.vectors.weight, self.places, self.first):
            nn.init.normal_(table, std=0.02)

    def read(self, latent: Latent) -> Tensor:
        assert isinstance(latent, QuantizedLatent)
        return latent.codes

    def learn(self, train: Tensor, held: Tensor) -> None:
        self.budget.spend(self, self.log_prob, train, held)

    def log_prob(self, values: Tensor) -> Tensor:
        sequence = self.in_order(values)
        found = self.log_probs(sequence).gather(2, sequence[:, :, None])
        return found.squeeze(2).sum(1)

    def in_order(self, codes: Tensor) -> Tensor:
        """`[B, Q, *positions] -> [B, L]`."""
        return codes.flatten(2).transpose(1, 2).flatten(1) if self.positions else codes

    def in_place(self, sequence: Tensor) -> Tensor:
        """`[B, L] -> [B, Q, *positions]`."""
        apart: Tensor = sequence.unflatten(1, (-1, len(self.sizes))).transpose(1, 2)
        return apart.reshape(len(sequence), len(self.sizes), *self.positions)

    def log_probs(self, sequence: Tensor) -> Tensor:
        """`log p(c_i = s | c_1, ..., c_{i-1})`, `[B, L] -> [B, L, S]`; minus infinity beyond an alphabet's end."""
        known = self.vectors(sequence[:, :-1] + self.starts[:-1])
        first = self.first.expand(len(sequence), 1, -1)
        h = torch.cat([first, known], 1) + self.places
        for block in self.blocks:
            h = block(h)
        return torch.stack([self._read_out(i, part) for i, part in self._by_alphabet(h)], 2).flatten(1, 2)

    def _by_alphabet(self, h: Tensor) -> list[tuple[int, Tensor]]:
        """`[B, L, W]` to `[B, P, W]` of every alphabet."""
        return list(enumerate(h.unflatten(1, (-1, len(self.sizes))).unbind(2)))

    def _read_out(self, alphabet: int, h: Tensor) -> Tensor:
        """`[..., W] -> [..., S]`."""
        log_probs: Tensor = self.heads[alphabet](self.norm(h)).log_softmax(-1)
        return F.pad(log_probs, (0, max(self.sizes) - self.sizes[alphabet]), value=-math.inf)

    @torch.no_grad()
    def sample_codes(self, n: int) -> Tensor:
        """`n` draws, `[n, Q, *positions]`, one code after another; what was computed for those before is kept."""
        caches = [Cache() for _ in self.blocks]
        h, drawn = self.first.expand(n, 1, -1), []
        for i in range(self.length):
            h = h + self.places[i]
            for block, cache in zip(self.blocks, caches, strict=True):
                h = block(h, cache=cache)
            probs = self._read_out(i % len(self.sizes), h.squeeze(1)).exp()
            drawn.append(torch.multinomial(probs, 1))
            h = self.vectors(drawn[-1] + self.starts[i])
        return self.in_place(torch.cat(drawn, 1))

    def sample(self, n: int) -> Tensor:
        return self._decode_codes(self.sample_codes(n))


def _refuse_large(sizes: tuple[int, ...], length: int) -> None:
    require(
        max(sizes) <= LARGEST,
        f"density autoregressive: an alphabet of {max(sizes):,} codes is too large, at most {LARGEST:,}; split it "
        "(bottleneck.groups) or use fewer levels",
    )
    require(
        length <= LONGEST,
        f"density autoregressive: {length:,} codes for an example are too many, at most {LONGEST:,}; use a smaller map "
        "of codes",
    )
