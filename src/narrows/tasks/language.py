"""Task language: what texts cost, and how they are told again, beside language models without a latent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from narrows.data.tokenisers import Tokeniser
from narrows.errors import UserError, nearest, require, require_at_least
from narrows.models.autoencoder import Autoencoder
from narrows.tasks.base import Task, TaskContext
from narrows.tasks.classics.kneser_ney import KneserNey
from narrows.tasks.classics.plain_language_model import PlainLanguageModel
from narrows.tasks.figure_table import FigureTable, declared
from narrows.tasks.likelihood import Likelihood
from narrows.tasks.measures import chosen_rows, language_examples
from narrows.tasks.measures.token_figures import agreement, bleu, ended, per_token
from narrows.types import Batch, DataSpec

CLASSICS = ("kneser_ney", "no_latent")
COSTS = ("nll", "nll_stderr", "nats_per_token", "perplexity", "bits_per_character")


class Language(Task):
    """Negative log-likelihood of test texts, and free-running reconstruction of them.

    - `test/language/nll`: nats per text by importance samples (task likelihood), the end mark counted where texts have
      one; `nats_per_token`, `perplexity` and `bits_per_character` are the same sum by tokens (end marks counted) and by
      characters of the texts as they are read back (an end mark counts as one). For models with a posterior and prior.
    - `token_accuracy`, `exact_match` and `bleu`: the text that the decoder tells of the noise-free latent, free
      running (`tasks.measures.token_figures`); BLEU is of the tokens without their end marks.

    Beside it, on the same texts: `kneser_ney`, an n-gram model, and `no_latent`, the same decoder trained without a
    latent for `epochs` passes. Writes `language`: texts told again, samples, the way between two texts, and texts
    whose latents are nearest.

    Args:
        samples: draws from the posterior per text.
        max_examples: a seeded subset of the test texts; null for all.
        shown: texts of each kind that are written.
        order: n of the n-gram model.
        epochs: of the decoder without a latent.
        classics: kneser_ney, no_latent.

    Raises:
        UserError: a number below 1, or an unknown classic.
    """

    name = "language"

    def __init__(
        self,
        *,
        samples: int = 50,
        max_examples: int | None = 1000,
        shown: int = 8,
        order: int = 5,
        epochs: int = 5,
        classics: Sequence[str] = ("kneser_ney",),
    ) -> None:
        numbers = {"samples": samples, "max_examples": max_examples, "shown": shown, "order": order, "epochs": epochs}
        require_at_least(1, "task language:", **numbers)
        for name in classics:
            require(name in CLASSICS, f"task language: no classic '{name}': {nearest(name, CLASSICS)}")
        self.samples, self.max_examples, self.shown = samples, max_examples, shown
        self.order, self.epochs, self.classics = order, epochs, list(classics)
        self.figures = declared(("token_accuracy", "exact_match", "bleu"), heading=self.name)

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        if spec.kind != "tokens" or not spec.vocabulary:
            return f"data of kind {spec.kind} are no tokens of a vocabulary"
        return None

    def run(self, context: TaskContext) -> FigureTable:
        chosen = list(chosen_rows.sampled(context, "test", self.max_examples, "language rows"))
        require(bool(chosen), "task language: the test split is empty")
        reader, table = _reader(context), FigureTable(self.name)
        truth = [row for batch in chosen for row in rows_of(batch)]
        tokens = sum(map(len, truth))
        characters = sum(len(reader.decode(row.tolist())) for row in truth)
        characters += len(truth) if context.spec.end is not None else 0
        if context.model.bounds_evidence:
            judge = Likelihood(samples=self.samples)
            parts = chosen_rows.of_near_length(chosen, judge.rows)
            nats = torch.cat([judge.negative_log_likelihood(context.model, part) for part in parts])
            table.add(per_token(nats.numpy(), tokens, characters))
        for name, costs in self._classics(context, chosen, truth):
            table.add(per_token(costs, tokens, characters), name)
        told = [row for batch in chosen for row in self._told(context, batch)]
        table.add(agreement(truth, told))
        try:
            table.add({"bleu": bleu(truth, told, context.spec.end)})
        except UserError as absent:
            context.warn(f"task language: {absent}")
        context.write("language", language_examples.page(context, reader, chosen, (truth, told), self.shown))
        return table

    def _told(self, context: TaskContext, batch: Batch) -> list[NDArray[np.int64]]:
        found = [context.model.reconstruct(part).cpu() for part in chosen_rows.parts(batch)]
        return [ended(row.numpy(), context.spec.end) for part in found for row in part]

    def _classics(
        self, context: TaskContext, chosen: Sequence[Batch], truth: Sequence[NDArray[np.int64]]
    ) -> Iterable[tuple[str, NDArray[np.float64]]]:
        if "kneser_ney" in self.classics:
            words = len(context.spec.vocabulary or [])
            train = [row for batch in context.datamodule.ordered_loader("train") for row in rows_of(batch)]
            yield "kneser_ney", KneserNey(self.order, words).fit(train).nats(truth)
        if "no_latent" not in self.classics:
            return
        if context.untrained is None or not context.model.decoder.autoregressive:
            context.warn("task language: no_latent is left out: it needs a run whose decoder reads the steps before")
            return
        train_split, validation = (Batch.cat(context.datamodule.ordered_loader(of)) for of in ("train", "validation"))
        plain = PlainLanguageModel(
            context.untrained(context.seed).to(context.device), epochs=self.epochs, seed=context.seed
        )
        plain.fit(train_split, validation)
        yield "no_latent", torch.cat([plain.nats(batch) for batch in chosen]).numpy()


def rows_of(batch: Batch) -> list[NDArray[np.int64]]:
    """The ids of each text without padding, `[T]`."""
    lengths = [batch.x.shape[1]] * len(batch) if batch.length is None else batch.length.tolist()
    return [row[:steps].numpy() for row, steps in zip(batch.x.cpu(), lengths, strict=True)]


def _reader(context: TaskContext) -> Any:
    """What turns ids into text: the data's tokeniser, or the vocabulary alone."""
    found = getattr(context.everything, "tokeniser", None)
    return found if found is not None else Tokeniser("words", list(context.spec.vocabulary or []))
