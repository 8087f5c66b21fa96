"""Decoders of topic models: from the weights of topics to the logits of words.

Legend for shapes: B documents, K topics, V words, L entries of an embedding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.errors import require
from narrows.layers.blocks import BatchNorm, probability
from narrows.layers.stages import Decoder, still
from narrows.types import Shape, at_least_single

LEAST = 1e-10
"""Added to a word's probability before its logarithm, which then has a gradient wherever float32 underflows."""
COMMON = 2.0
"""b at the start: with z about 0 and 50 topics, a background takes an eighth of a document's words."""


class TopicDecoder(Decoder):
    """A product of topics: `logits = theta beta (+ bias)`, `theta = softmax(z)`, one row of beta for each topic.

    The shares of words, softmax(logits), are a weighted product of the topics' own ("product of experts"). With `norm`
    the logits of each word are normalised over the batch, without a scale of their own.

    "Autoencoding Variational Inference for Topic Models" (Srivastava and Sutton, 2017,
    https://arxiv.org/abs/1703.01488), section 4 (ProdLDA).

    Args:
        in_shape: `(K,)`.
        out_shape: `(V,)`.
        norm: whether logits are normalised over the batch.
        dropout: probability of a topic's weight to be dropped in training.

    Raises:
        UserError: shapes that are no vectors, or a `dropout` outside [0, 1).

    Example:
        >>> decoder = TopicDecoder((3,), (7,))
        >>> decoder(torch.zeros(2, 3)).shape, decoder.topics().shape
        (torch.Size([2, 7]), torch.Size([3, 7]))
    """

    writes_shares = True

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        *,
        norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = _vectors(in_shape, out_shape, "decoder topics")
        self.dropout = nn.Dropout(probability(dropout, "dropout", "decoder topics"))
        self.beta = nn.Linear(self.in_shape[0], self.out_shape[0], bias=False)
        self.norm = BatchNorm(self.out_shape[0], affine=False) if norm else nn.Identity()
        self.bias = nn.Parameter(torch.zeros(self.out_shape))

    def forward(self, z: Tensor) -> Tensor:
        return self._logits(at_least_single(z).softmax(-1))

    def _logits(self, theta: Tensor) -> Tensor:
        logits: Tensor = self.norm(self.beta(self.dropout(theta)))
        return logits + self.bias

    @torch.no_grad()
    def topics(self) -> Tensor:
        """Shares of words, `[K, V]`, of a document whose only topic is each of them: rows add up to 1."""
        with still(self):
            return self._logits(torch.eye(self.in_shape[0]).to(self.bias)).softmax(-1)


class EmbeddedTopicDecoder(Decoder):
    """A mixture of topics that lie among the words: `p = theta beta`, `beta_k = softmax(rho alpha_k)`,
    `theta = softmax(z)`; the logits are log p.

    rho `[V, L]` are the embeddings of words and alpha `[K, L]` those of topics. "Topic Modeling in Embedding Spaces"
    (Dieng et al., 2020, https://arxiv.org/abs/1907.04907), section 4.

    With a `background` there is one more topic, which is no latent: `p = theta_0 f + sum_k theta_k beta_k`,
    `theta = softmax(z_1, ..., z_K, b)`, with theta_0 the last of them and b learnt. Its words f are all alike until a
    start (`narrows.training.callbacks.StartAtWordClusters`) puts them at their frequencies in the training documents,
    where they stay: the words that all documents share need no topic of their own. "Modeling General and Specific
    Aspects of Documents with a Probabilistic Topic Model" (Chemudugunta et al., 2006,
    https://proceedings.neurips.cc/paper/2006/hash/ec47a5de1ebd60f559fee4afd739d59b-Abstract.html), where documents have
    words of their own besides.

    Args:
        in_shape: `(K,)`.
        out_shape: `(V,)`.
        width: L.
        background: whether there is a topic of the frequencies of words besides.
        learn_words: whether rho is learnt; without, it stays where it starts.

    Raises:
        UserError: shapes that are no vectors, or a `width` below 1.

    Example:
        >>> decoder = EmbeddedTopicDecoder((3,), (7,), width=4)
        >>> decoder(torch.zeros(2, 3)).shape, decoder.topics().sum(1)
        (torch.Size([2, 7]), tensor([1., 1., 1.]))
    """

    writes_shares = True
    frequencies: Tensor

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        *,
        width: int = 300,
        background: bool = False,
        learn_words: bool = True,
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = _vectors(in_shape, out_shape, "decoder embedded_topics")
        require(width >= 1, f"decoder embedded_topics needs width of at least 1, not {width}")
        words = self.out_shape[0]
        self.rho = nn.Linear(width, words, bias=False)
        self.alpha = nn.Linear(width, self.in_shape[0], bias=False)
        self.rho.requires_grad_(learn_words)
        self.share = nn.Parameter(torch.tensor([COMMON])) if background else None
        if background:
            self.register_buffer("frequencies", torch.full((words,), 1 / words))

    def forward(self, z: Tensor) -> Tensor:
        z = at_least_single(z)
        if self.share is None:
            shares = z.softmax(-1) @ self._beta()
        else:
            theta = torch.cat([z, self.share.expand(z.shape[0], 1)], 1).softmax(-1)
            shares = theta[:, :-1] @ self._beta() + theta[:, -1:] * self.frequencies
        return (at_least_single(shares) + LEAST).log()

    def _beta(self) -> Tensor:
        return at_least_single(F.linear(self.alpha.weight, self.rho.weight)).softmax(-1)

    @torch.no_grad()
    def topics(self) -> Tensor:
        """beta, `[K, V]`: rows add up to 1."""
        return self._beta()


def _vectors(in_shape: Shape, out_shape: Shape, part: str) -> tuple[Shape, Shape]:
    shapes = tuple(in_shape), tuple(out_shape)
    require(
        all(len(shape) == 1 for shape in shapes),
        f"{part} turns a vector of topics into a vector of words, not {list(shapes[0])} into {list(shapes[1])}; use "
        "decoder=mlp, or encoder=mlp on counts",
    )
    return shapes
