"""The topics of a model of documents, and what its words cost."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from narrows.errors import require
from narrows.tasks.base import TaskContext
from narrows.tasks.measures.sparse_splits import CHUNK, codes, dense_batches, shares
from narrows.tasks.measures.word_perplexity import word_nats
from narrows.types import Batch, VariationalLatent, row_sums

Matrix = NDArray[np.floating]


def topics_of(context: TaskContext, train: csr_matrix) -> Matrix:
    """The worth of every word in each topic of the model, `[K, V]`: the greatest are its top words.

    A decoder that mixes topics has a method `topics()` that returns their probabilities of words, `[K, V]`. Of any
    other, topic k is what raising latent k says: `log p(w | m + s_k e_k) - log p(w | m)`, with m the mean and s the
    deviation of the noise-free latents of the `train` rows. Where the decoder is linear before its softmax, the words
    so come in the order of its weights, which is how topics of NVDM and ProdLDA are read.

    Raises:
        UserError: one of them is not finite.
    """
    mixed = getattr(context.model.decoder, "topics", None)
    found = mixed().double().cpu().numpy() if callable(mixed) else _raised(context, train)
    require(bool(np.isfinite(found).all()), "the model's topics are not finite: it has diverged")
    return found


def _raised(context: TaskContext, train: csr_matrix) -> Matrix:
    """What raising each latent by its deviation adds to the logarithms of the words' shares, `[K, V]`."""
    model = context.model
    latents = torch.from_numpy(codes(context, train)).to(context.device)
    mean, deviation = latents.mean(0), latents.std(0, correction=0)
    steps = mean + torch.diag(deviation.clamp_min(1e-6))
    # The library size is the same everywhere, and shares do not depend on it.
    at = torch.cat([mean[None], steps]).reshape(-1, *model.latent_shape)
    batch = Batch(torch.ones(len(at), *context.spec.shape, device=context.device))
    words = shares(model, at, batch).log()
    return (words[1:] - words[0]).cpu().numpy()


def bound_nats(context: TaskContext, documents: csr_matrix, draws: int) -> Matrix:
    """An upper bound on `-log p(words)` of each document, `[D]`: the mean over `draws` of z of the nats of its words,
    one after another, and `KL(q(z|x) || p(z))`. The model is variational."""
    found = []
    for start in range(0, documents.shape[0], CHUNK):
        rows = documents[start : start + CHUNK]
        nats = np.zeros(rows.shape[0])
        for batch in dense_batches(context, rows):
            for _ in range(draws):
                latent = context.model.encode(batch)
                assert isinstance(latent, VariationalLatent)
                words = word_nats(rows, shares(context.model, latent.z, batch).cpu().numpy())
                nats += (words + row_sums(latent.divergence()).double().cpu().numpy()) / draws
        found.append(nats)
    return np.concatenate(found)
