"""The decoder of a model without a latent: a language model, which a latent must beat to be of use."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from torch import Tensor

from narrows.data.batch_loader import scaled
from narrows.models.autoencoder import Autoencoder
from narrows.random import generator, seed_default
from narrows.tasks.base import TaskContext
from narrows.types import Batch, log_prob_of, row_sums

log = logging.getLogger(__name__)

RATE, CLIP = 2e-3, 5.0


class DecoderAlone:
    """A run's decoder, drawn anew and trained on the training split with a latent of zeros, so that it knows nothing of
    an example but its own earlier steps; nothing that it is fed is dropped.

    By Adam at 2e-3, annealed by a cosine, gradients clipped at 5.

    Args:
        steps: optimiser steps.
        rows: of a batch.
    """

    def __init__(self, context: TaskContext, steps: int, rows: int) -> None:
        assert context.untrained is not None
        self.model: Autoencoder = context.untrained(context.seed).to(context.device)
        decoder: Any = self.model.decoder
        if hasattr(decoder, "input_dropout"):
            decoder.input_dropout = 0.0
        seed_default(context.seed, "decoder alone")
        with torch.enable_grad():
            self._train(context, steps, rows)
        self.model.eval()

    def zeros(self, n: int) -> Tensor:
        """`n` latents of zeros."""
        return torch.zeros(n, *self.model.latent_shape, device=next(self.model.parameters()).device)

    def nats(self, batch: Batch) -> Tensor:
        """`-log p(x)` of each example, `[B]`."""
        p_x = self.model.decode(self.zeros(len(batch)), batch)
        return -row_sums(log_prob_of(p_x, batch.truth, batch.judged))

    def sample(self, n: int) -> Tensor:
        """`n` samples, drawn step by step."""
        return self.model.point_at(self.zeros(n), draw=True).cpu()

    def _train(self, context: TaskContext, steps: int, rows: int) -> None:
        store = context.everything.part("train").x
        weights = list(self.model.decoder.parameters())
        optimiser = torch.optim.Adam(weights, RATE)
        self.model.train()
        log.info("the decoder is trained without a latent: %d steps", steps)
        for step in range(steps):
            order = generator(context.seed, "decoder alone", step)
            chosen = torch.randint(len(store), (min(rows, len(store)),), generator=order)
            x = scaled(store.take(chosen.to(store.device)), context.spec.kind)
            batch = Batch(x, length=store.lengths(chosen.to(store.device))).to(context.device)
            loss = self.nats(batch).mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, CLIP)
            optimiser.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * step / steps)) / 2
            optimiser.step()
