"""Figures of texts: what a token and a character cost, and how nearly a text is told again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from narrows.errors import UserError

Rows = Sequence[NDArray[np.int64]]
"""Token ids of each text, `[T]`, with its end mark where it has one."""


def per_token(nats: NDArray[np.float64], tokens: int, characters: int) -> dict[str, float]:
    """What a text, a token and a character cost.

    Args:
        nats: of each text, `[N]`.
        tokens: of all texts, end marks counted.
        characters: of all texts as they are read back, an end mark counting as one.
    """
    total = float(nats.sum())
    error = float(nats.std(ddof=1)) / math.sqrt(len(nats)) if len(nats) > 1 else math.nan
    return {
        "nll": total / len(nats),
        "nll_stderr": error,
        "nats_per_token": total / tokens,
        "perplexity": math.exp(min(total / tokens, 700)),
        "bits_per_character": total / math.log(2) / characters,
    }


def agreement(truth: Rows, told: Rows) -> dict[str, float]:
    """How nearly texts are told again.

    - `token_accuracy`: the share of the truth's tokens, its end marks counted, that stand at the same place;
    - `exact_match`: the share of texts that are told token by token.
    """
    same = sum(int((one[: len(other)] == other[: len(one)]).sum()) for one, other in zip(truth, told, strict=True))
    exact = [np.array_equal(one, other) for one, other in zip(truth, told, strict=True)]
    return {"token_accuracy": same / sum(map(len, truth)), "exact_match": sum(exact) / len(exact)}


def bleu(truth: Rows, told: Rows, end: int | None = None) -> float:
    """BLEU of tokens, from 0 to 100, over all texts: "BLEU: a Method for Automatic Evaluation of Machine Translation"
    (Papineni et al., 2002), as "A Call for Clarity in Reporting BLEU Scores" (Post, 2018) computes it. A
    text's last token is left out where it is the end mark, which no text has when it is read.

    Args:
        end: the end mark; None where there is none.

    Raises:
        UserError: the sacrebleu package is not installed.
    """
    try:
        from sacrebleu.metrics import BLEU  # an extra
    except ImportError as error:
        raise UserError("BLEU needs the sacrebleu package, which is not installed: pip install 'narrows[text]'") from (
            error
        )
    # Ids in place of words, so that the package cuts nothing.
    lines = [[" ".join(map(str, _unmarked(row, end))) for row in rows] for rows in (told, truth)]
    return float(BLEU(tokenize="none", force=True).corpus_score(lines[0], [lines[1]]).score)


def ended(ids: NDArray[np.int64], end: int | None) -> NDArray[np.int64]:
    """The ids up to and with the first end mark."""
    found = np.flatnonzero(ids == end) if end is not None else np.zeros(0, np.int64)
    return ids[: found[0] + 1] if len(found) else ids


def _unmarked(ids: NDArray[np.int64], end: int | None) -> NDArray[np.int64]:
    return ids[:-1] if len(ids) and ids[-1] == end else ids
