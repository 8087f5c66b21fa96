"""Task likelihood: the log-evidence of the test split by importance sampling."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from narrows.errors import require, require_at_least
from narrows.losses.importance import log_weights
from narrows.models.autoencoder import Autoencoder
from narrows.tasks.base import Task, TaskContext
from narrows.tasks.figure_table import FigureTable, declared
from narrows.tasks.measures import chosen_rows
from narrows.types import Batch, DataSpec, VariationalLatent

MAX_VALUES = 2**26
"""Most decoder outputs at once (256 MB), which bounds memory if a value needs many parameters."""


class Likelihood(Task):
    """Negative log-likelihood in nats per example, an upper bound that tightens with K = `samples`.

    `-log p(x) <= -E log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x)`, z_k ~ q(z|x), summed over observed values.
    K = 1 is the negative ELBO. Reports `test/nll` and `test/nll_stderr`, the standard error of the mean
    over examples (not of the K draws).

    "Importance Weighted Autoencoders" (Burda et al., 2016), equation 8; the estimator is that of
    "Stochastic Backpropagation" (Rezende et al., 2014), appendix E.

    Args:
        samples: K, draws from the posterior per example.
        chunk: draws decoded at once.
        rows: examples decoded at once.
        max_examples: a seeded subset of the test split; null for all of it.

    Raises:
        UserError: an argument below 1.
    """

    name = "likelihood"
    figures = declared(("nll", "nll_stderr"))

    def __init__(
        self, *, samples: int = 500, chunk: int = 50, rows: int = 100, max_examples: int | None = None
    ) -> None:
        require_at_least(1, "task likelihood:", samples=samples, chunk=chunk, rows=rows, max_examples=max_examples)
        self.samples, self.chunk, self.rows, self.max_examples = samples, chunk, rows, max_examples

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        if model.needs_input:
            return f"p(x|z) of {type(model).__name__} is told x itself"
        if model.prior_reads_input:
            return f"the prior of {type(model).__name__} has read x, and bounds no p(x)"
        if model.bounds_evidence:
            return None
        return f"bottleneck {type(model.bottleneck).__name__} has no posterior and prior"

    def run(self, context: TaskContext) -> FigureTable:
        found = [
            self.negative_log_likelihood(context.model, part)
            for batch in chosen_rows.sampled(context, "test", self.max_examples, "likelihood rows")
            for part in chosen_rows.parts(batch, self.rows)
        ]
        require(bool(found), "task likelihood: the test split is empty")
        nll = torch.cat(found)
        error = float(nll.std()) / math.sqrt(len(nll)) if len(nll) > 1 else math.nan
        table = FigureTable()
        table.add({"nll": float(nll.mean()), "nll_stderr": error})
        return table

    def negative_log_likelihood(self, model: Autoencoder, batch: Batch) -> Tensor:
        """`[B]`, float64 on the CPU, from exactly `samples` draws per example."""
        latent = model.encode(batch)
        assert isinstance(latent, VariationalLatent)
        at_once = max(1, MAX_VALUES // (len(batch) * math.prod(model.decoder.out_shape)))
        step = min(self.chunk, at_once)
        evidence = torch.full((len(batch),), -math.inf, dtype=torch.float64)
        for start in range(0, self.samples, step):
            draws = min(step, self.samples - start)
            weights = log_weights(model, batch, latent, draws)
            evidence = torch.logaddexp(evidence, weights.logsumexp(0))
        return math.log(self.samples) - evidence
