"""Task summary: a document's sentences that lie nearest to it in the latent space, beside classic summarisers."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from narrows.compare.figure_names import MODEL, STDERR
from narrows.errors import UserError, nearest, require
from narrows.models.autoencoder import Autoencoder
from narrows.tasks.base import Task, TaskContext
from narrows.tasks.classics.summarisers import SUMMARISERS, read_documents
from narrows.tasks.figure_table import FigureTable
from narrows.tasks.measures.sentence_chooser import Counter, SentenceChooser, counter
from narrows.tasks.measures.sentences import sentences, word_number
from narrows.tasks.measures.sparse_splits import gives_shares, shares_at_the_point, unfit_for_rows
from narrows.tasks.measures.standard_errors import bootstrap, with_error
from narrows.tasks.measures.summary_figures import ROUGE, Matrix, rouge, shortened
from narrows.tasks.measures.word_perplexity import completion_nats, word_count
from narrows.types import DataSpec

log = logging.getLogger(__name__)


class Summary(Task):
    """Summaries made of a document's own sentences, those whose noise-free latents are nearest to the document's, or by
    maximal marginal relevance (`tasks.measures.summary_figures.nearest_first`).

    - `test/summary/rouge_1`, `rouge_2` and `rouge_l`: what a summary shares with the reference, cut to as many words
      as that has, so that all methods' are equally long.
    - `test/summary/rest_nll`: nats per word of what is not in the summary, by this model's probabilities of words given
      the summary alone; the same judge for all methods, and no reference is needed. A model of real numbers
      (`likelihood=gaussian`) has no such probabilities, and is not asked.

    Beside it stand `tasks.classics.summarisers`: the first sentences, random ones, tf-idf centroid, TextRank and LSA.
    Standard errors are over documents. Writes `summaries`, the first documents' by the model.

    Args:
        file: the texts, a JSON object a line (`.jsonl`, also `.jsonl.gz`); null leaves the task out.
        text: the key of a document, a text or a list of sentences.
        reference: the key of its summary, of the same form; where no line has it, there is no ROUGE.
        worth: of nearness to the document, against repeating what was chosen; 1 is by nearness alone.
        cosine: whether nearness is the cosine of latents; else it is their distance.
        share: of the document's words that a summary has, where there is no reference.
        classics: lead, random, centroid, text_rank, lsa.

    Raises:
        UserError: an option out of its range, or a file that has no such texts.
    """

    name = "summary"

    def __init__(
        self,
        *,
        file: str | None = None,
        text: str = "document",
        reference: str = "summary",
        worth: float = 1.0,
        cosine: bool = True,
        share: float = 0.3,
        classics: Sequence[str] = ("lead", "random", "centroid", "text_rank", "lsa"),
    ) -> None:
        for name in classics:
            require(name in SUMMARISERS, f"task summary: no classic '{name}': {nearest(name, SUMMARISERS)}")
        for option, value in {"worth": worth, "share": share}.items():
            require(0 < value <= 1, f"task summary: {option} must be above 0 and at most 1, not {value}")
        self.file, self.text, self.reference = file, text, reference
        self.worth, self.cosine, self.share, self.classics = worth, cosine, share, list(classics)

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        if self.file is None:
            return "task.file names no texts to be summarised"
        if _words(spec) is None:
            return "the features of the data have no names, so words cannot be told"
        return unfit_for_rows(spec, model, ("counts",))

    def run(self, context: TaskContext) -> FigureTable:
        texts = read_texts(Path(str(self.file)), self.text, self.reference)
        documents = [text.sentences for text in texts]
        words = _words(context.spec)
        assert words is not None
        count = counter(words, getattr(context.everything, "vocabulary", None))
        chooser = SentenceChooser(context.model, context.device, count, self.worth, self.cosine)
        orders, judge = {MODEL: chooser.orders(documents)}, Judge(context, count)
        read = read_documents(documents)
        for name in self.classics:
            orders[name] = [SUMMARISERS[name](document, context.seed) for document in read]
        found = FigureTable(self.name)
        for name, chosen in orders.items():
            made = [
                shortened(text.sentences, order, text.budget(self.share))
                for text, order in zip(texts, chosen, strict=True)
            ]
            rest = judge.rest(made, texts) if gives_shares(context.model) else {}
            found.add(_overlap(made, texts) | rest, name)
            if name == MODEL:
                _write(context, made, texts)
        return found


@dataclass
class Text:
    """A document as its sentences, and its reference summary, if there is one."""

    sentences: list[str]
    reference: str | None = None

    def budget(self, share: float) -> int:
        """The number of words of its summary."""
        if self.reference is not None:
            return word_number(self.reference)
        return max(1, round(share * sum(map(word_number, self.sentences))))


def read_texts(path: Path, text: str, reference: str) -> list[Text]:
    """The documents of a file with a JSON object a line; those without a word are left out, and logged.

    Raises:
        UserError: names the file and the line that is no such object, or says that only some have a reference.
    """
    opened: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    found = []
    with opened(path, "rt", encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    found.append(_text(line, f"{path}, line {number}", text, reference))
        except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
            raise UserError(f"{path} is no file of texts, a JSON object a line: {error}") from error
    kept = [item for item in found if item.sentences]
    require(bool(kept), f"{path} holds no text under the key '{text}'")
    if len(kept) < len(found):
        log.info("task summary: %d of %d documents are empty", len(found) - len(kept), len(found))
    some = {item.reference is None for item in kept}
    require(len(some) == 1, f"{path}: only some lines have a '{reference}': either all documents have one or none")
    return kept


def _text(line: str, place: str, text: str, reference: str) -> Text:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{place}: no JSON object: {error}") from error
    require(isinstance(values, dict), f"{place}: a JSON object is wanted, with the key '{text}'")
    require(text in values, f"{place}: no key '{text}': {nearest(text, values)}")
    parts = {}
    for key in (text, reference):
        value = values.get(key)
        listed = isinstance(value, list) and all(isinstance(part, str) for part in value)
        require(
            value is None or isinstance(value, str) or listed, f"{place}: '{key}' is neither a text nor a list of texts"
        )
        parts[key] = value
    whole = parts[text] or ""
    split = sentences(whole) if isinstance(whole, str) else [part.strip() for part in whole if part.strip()]
    told = parts[reference]
    return Text(split, " ".join(told) if isinstance(told, list) else told)


@dataclass
class Judge:
    """The model as a judge of summaries: what it knows of a document that has read its summary alone."""

    context: TaskContext
    count: Counter

    def rest(self, made: Sequence[Sequence[str]], texts: Sequence[Text]) -> dict[str, float]:
        """`rest_nll`, see `Summary`."""
        whole = self.count([" ".join(text.sentences) for text in texts])
        read = self.count([" ".join(summary) for summary in made])
        rest = (whole - read).maximum(0).tocsr()
        nats, words = completion_nats(partial(shares_at_the_point, self.context), read, rest), word_count(rest)

        def per_word(nats: Matrix, words: Matrix) -> float:
            return float(nats.sum() / words.sum()) if words.sum() else float("nan")

        error = bootstrap(per_word, nats, words, seed=self.context.seed)
        return {"rest_nll": per_word(nats, words), f"rest_nll{STDERR}": error}


def _words(spec: DataSpec) -> list[str] | None:
    return spec.vocabulary or spec.feature_names


def _overlap(made: Sequence[Sequence[str]], texts: Sequence[Text]) -> dict[str, float]:
    scores = [
        rouge(" ".join(summary), text.reference)
        for summary, text in zip(made, texts, strict=True)
        if text.reference is not None
    ]
    found: dict[str, float] = {}
    for figure in ROUGE if scores else ():
        found |= with_error(figure, np.array([score[figure] for score in scores]))
    return found


def _write(context: TaskContext, made: Sequence[Sequence[str]], texts: Sequence[Text], most: int = 3) -> None:
    parts: list[str] = []
    for summary, text in list(zip(made, texts, strict=True))[:most]:
        parts.append(f"### {text.sentences[0]}\n\n" + "\n".join(f"- {sentence}" for sentence in summary))
    context.write("summaries", "\n\n".join(parts))
