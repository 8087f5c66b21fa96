"""Starting embedded topics at clusters of words."""

from __future__ import annotations

from typing import Any, cast

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack
from sklearn.cluster import KMeans
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from narrows.data.datamodule import DataModule
from narrows.decoders.topics import EmbeddedTopicDecoder
from narrows.errors import require
from narrows.random import derive
from narrows.tasks.measures.observed_values import flat
from narrows.training.lightning_module import AutoencoderModule

Matrix = NDArray[np.float64]
STARTS = 2
"""Of k-means, of which the better is taken."""


class StartAtWordClusters(L.Callback):
    """Before the first step, sets the embeddings of words and topics of `decoder=embedded_topics` from the training
    documents, and the words of its background, where it has one, to their frequencies.

    Words get the leading left singular vectors of the matrix of shifted positive pointwise mutual information,
    `max(0, log(P(v, w) / (P(v) P(w))) - shift)`, each times the root of its singular value, and then the length 1: P is
    the share of documents in which the words stand, anywhere and however often. This is what skip-gram with negative
    sampling factorises, with a document for a window: "Neural Word Embedding as Implicit Matrix Factorization" (Levy
    and Goldberg, 2014,
    https://papers.nips.cc/paper_files/paper/2014/hash/feab05aa91085b7a8012516bc3533958-Abstract.html), whose shift is
    the logarithm of the number of negative samples. Topics get the centres of as many clusters of words, by k-means, at
    the length `scale`. The embedded topic model may have embeddings of words fitted before it ("Topic Modeling in
    Embedding Spaces", Dieng et al., 2020, https://arxiv.org/abs/1907.04907) and keep them: `decoder.learn_words=false`.

    Args:
        shift: above 0, words must stand together oftener than by chance.
        scale: of the topics' embeddings; the larger, the fewer words a topic has at the start.

    Raises:
        UserError: a negative `shift`, a `scale` that is not above 0, another decoder, or more topics than words.
    """

    def __init__(self, shift: float = 1.0, scale: float = 12.0) -> None:
        require(shift >= 0, f"callbacks.start.shift must be at least 0, not {shift}")
        require(scale > 0, f"callbacks.start.scale must be above 0, not {scale}")
        self.shift, self.scale = shift, scale

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        module = cast(AutoencoderModule, pl_module)
        decoder = module.model.decoder
        if not isinstance(decoder, EmbeddedTopicDecoder):
            require(False, f"callbacks.start needs decoder=embedded_topics, not {type(decoder).__name__}")
            return
        topics, words = decoder.in_shape[0], decoder.out_shape[0]
        require(
            topics <= words, f"callbacks.start cannot put {topics} topics among {words} words: lower bottleneck.dim"
        )
        if trainer.ckpt_path is not None:
            return
        counts = documents(cast(Any, trainer).datamodule)
        seed = derive(module.seed, "word clusters") % 2**32
        self._start(decoder, counts, seed)

    @torch.no_grad()
    def _start(self, decoder: EmbeddedTopicDecoder, counts: csr_matrix, seed: int) -> None:
        rho, alpha = decoder.rho.weight, decoder.alpha.weight
        words = embeddings(counts, rho.shape[1], self.shift, seed)
        centres = KMeans(len(alpha), n_init=STARTS, random_state=seed).fit(words).cluster_centers_
        rho.copy_(_as(words, rho))
        alpha.copy_(_as(self.scale * _unit(centres), alpha))
        if decoder.share is not None:
            frequencies = np.asarray(counts.sum(0), dtype=np.float64).ravel() + 0.5
            decoder.frequencies.copy_(_as(frequencies / frequencies.sum(), decoder.frequencies))


def documents(data: DataModule) -> csr_matrix:
    """The counts of the training documents, `[N, V]`."""
    return vstack([csr_matrix(flat(batch.x)) for batch in data.ordered_loader("train")], format="csr")


def embeddings(counts: csr_matrix, width: int, shift: float, seed: int) -> Matrix:
    """Embeddings of the words of documents `[N, V]`, `[V, width]`, as `StartAtWordClusters` says; of length 1, or 0 for
    a word that stands with no other."""
    information = positive_information(counts, shift)
    number = min(width, information.shape[0])
    vectors, values, _ = randomized_svd(information, number, random_state=seed)
    # What rounding leaves of a word without any company would grow to length 1.
    alone = np.asarray(information.sum(1)).ravel() == 0
    rows = np.where(alone[:, None], 0.0, vectors * np.sqrt(values))
    padded: Matrix = np.pad(_unit(rows), ((0, 0), (0, width - number)))
    return padded


def positive_information(counts: csr_matrix, shift: float) -> csr_matrix:
    """`max(0, log(P(v, w) / (P(v) P(w))) - shift)` of every pair of different words of documents `[N, V]`, `[V, V]`."""
    stands = (counts > 0).astype(np.float64)
    together = (stands.T @ stands).tocoo()
    alone = np.asarray(stands.sum(0)).ravel()
    pairs = together.row != together.col
    row, column, joint = together.row[pairs], together.col[pairs], together.data[pairs]
    found = np.log(joint * counts.shape[0] / (alone[row] * alone[column])) - shift
    kept = found > 0
    return csr_matrix((found[kept], (row[kept], column[kept])), shape=together.shape)


def _unit(rows: Matrix) -> Matrix:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    found: Matrix = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return found


def _as(values: Matrix, like: Tensor) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(like)
