"""The language model without latent: a decoder of the same build, trained alone."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from narrows.data.batch_plans import Shuffled
from narrows.models.autoencoder import Autoencoder
from narrows.models.feedback import teacher_forced
from narrows.random import seed_default
from narrows.tasks.measures.chosen_rows import trimmed
from narrows.types import Batch, log_prob_of, row_sums

CLIP = 5.0
"""The largest norm of the gradient."""


class PlainLanguageModel:
    """`p(x)` by the decoder of an untrained model, of which the latent is always 0.

    Adam trains it on the training texts, with a rate that falls to 0 along half a cosine; the weights of the epoch with
    the least loss on the validation texts are kept.

    Args:
        model: untrained, of which the decoder and the likelihood are taken.
        epochs: passes over the training texts.
        rate: of learning, at the start.
        batch_size: of training, at most.
        seed: of the order and of what is dropped.
    """

    def __init__(
        self, model: Autoencoder, *, epochs: int, rate: float = 2e-3, batch_size: int = 64, seed: int = 0
    ) -> None:
        self.model, self.epochs, self.rate, self.batch_size, self.seed = model, epochs, rate, batch_size, seed
        self.width = model.read_shape

    def fit(self, train: Batch, validation: Batch) -> PlainLanguageModel:
        """Train on whole splits, each as one batch; it changes torch's default generators."""
        parameters = [*self.model.decoder.parameters(), *self.model.likelihood.parameters()]
        optimizer = torch.optim.Adam(parameters, self.rate)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.epochs)
        best, kept = torch.inf, copy.deepcopy(self.model.state_dict())
        with torch.enable_grad():
            for epoch in range(self.epochs):
                self._pass(train, epoch, parameters, optimizer)
                falling.step()
                loss = float(self.nats(validation).mean())
                if loss < best:
                    best, kept = loss, copy.deepcopy(self.model.state_dict())
        self.model.load_state_dict(kept)
        return self

    def nats(self, batch: Batch, rows: int = 64) -> Tensor:
        """`-log p(x)` of each text, `[B]`, float64 on the CPU."""
        self.model.eval()
        with torch.no_grad():
            found = [self._nats(trimmed(batch, slice(at, at + rows))).cpu() for at in range(0, len(batch), rows)]
        return torch.cat(found).double()

    def _pass(
        self, train: Batch, epoch: int, parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer
    ) -> None:
        self.model.train()
        # Of few texts smaller batches, so that an epoch has some steps.
        size = min(self.batch_size, max(8, len(train) // 20), len(train))
        plan = Shuffled(len(train), size, self.seed, lengths=train.length)
        order = plan.order(epoch)
        for number in range(len(plan)):
            seed_default(self.seed, "plain language model", epoch, number)
            batch = trimmed(train, order[number * size : (number + 1) * size])
            optimizer.zero_grad()
            self._nats(batch).mean().backward()
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()

    def _nats(self, batch: Batch) -> Tensor:
        device = next(self.model.decoder.parameters()).device
        batch = batch.to(device)
        nothing = torch.zeros(len(batch), *self.width, device=device)
        params = teacher_forced(self.model.decoder, self.model.likelihood, nothing, batch)
        return -row_sums(log_prob_of(self.model.likelihood(params, batch.given), batch.truth, batch.judged))
