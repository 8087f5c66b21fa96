"""Which figures matter, and whether more or less of one is better."""

from __future__ import annotations

import fnmatch
import math
from collections import Counter
from collections.abc import Iterable, Sequence

from narrows.compare.figure_names import is_silent, named
from narrows.compare.run_records import Record
from narrows.errors import UserError, nearest

HIGHER = {
    *("elbo", "iwae", "psnr", "ssim", "auroc", "auprc", "average_precision", "accuracy", "recall", "precision"),
    *("f1", "r2", "nmi", "ari", "silhouette", "mig", "sap", "dci", "hit_rate", "ndcg", "log_likelihood", "validity"),
    *("uniqueness", "novelty", "purity", "trustworthiness", "modularity", "probe", "knn"),
    *("continuity", "explained_variance", "finetuned", "arithmetic", "gain", "lead", "si_sdr", "snr", "stoi"),
    *("vus_pr", "best_dice", "event_recall", "event_precision", "event_f1"),
    *("tstr", "trtr", "augmented", "coherence"),
    *("log_prob", "npmi", "diversity", "rouge", "overlap", "token_accuracy", "exact_match", "bleu"),
}
LOWER = {
    *("loss", "reconstruction", "kl", "nll", "mse", "rmse", "mae", "bce", "bpd", "fid", "kid", "lpips", "perplexity"),
    *("variance_unexplained", "false_alarm_rate", "dead_fraction", "error", "mmd", "tc", "regret", "chamfer", "wer"),
    *("bound", "bpp", "bytes", "bytes_per_example", "macs_per_pixel", "decoder_parameters", "bits_per_dim"),
    *("perceptual", "rfid", "nrmse", "fcd", "delay", "nats_per_token", "bits_per_character"),
    *("detection_auc", "marginals", "associations"),
}
REBUILT = "test/molecules/"
"""Under which a reconstruction is the share of examples that were rebuilt, not what they cost."""
HEADLINES = 6
"""Number of metrics shown when the user names none; more do not fit a terminal."""


def higher_is_better(metric: str) -> bool | None:
    """Whether higher is better, by the last part of the name; None if neither is, as for the number of active units."""
    name = metric.rpartition("/")[2].lower()
    if name in HIGHER or (metric.startswith(REBUILT) and name.startswith("reconstruction")):
        return True
    if name in LOWER:
        return False
    for words, better in ((HIGHER, True), (LOWER, False)):
        if any(name.startswith(f"{word}_") or name.endswith(f"_{word}") for word in words):
            return better
    return None


def metric_names(records: Iterable[Record]) -> list[str]:
    """The final figures of the runs except wall-clock ones, those with a row in reports first."""
    counts = Counter(name for record in records for name in record.metrics)
    first = dict.fromkeys(["val/loss", *named(counts), *(name for name in counts if is_headline(name)), *counts])
    return [name for name in first if name in counts and not name.startswith("throughput/") and name != "lr"]


def is_headline(metric: str) -> bool:
    """Whether it is a figure of the run on the test or validation split, and not that of a classic method."""
    return metric.startswith(("val/", "test/")) and metric.count("/") == 1


def headline_metrics(records: Sequence[Record], most: int = HEADLINES) -> list[str]:
    """The test and validation figures that most runs have, each once, even if it has two names or signs."""
    judged = [record for record in records if record.metrics]
    chosen: dict[tuple[float, ...], str] = {}
    for name in metric_names(judged):
        values = tuple(abs(record.metrics.get(name, math.inf)) for record in judged)
        shared = sum(name in record.metrics for record in judged) * 2 > len(judged)
        if is_headline(name) and (name == "test/loss" or not is_silent(name)) and shared:
            chosen.setdefault(values, name)
    return list(chosen.values())[:most]


def choose_metrics(patterns: Sequence[str], records: Sequence[Record]) -> list[str]:
    """The metrics that the names and globs in `patterns` mean, in their order.

    Raises:
        UserError: a pattern that matches no metric of the runs.
    """
    names = metric_names(records)
    chosen: list[str] = []
    for pattern in patterns:
        fitting = [pattern] if pattern in names else [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not fitting:
            raise UserError(f"no run has the metric '{pattern}': {nearest(pattern, names)}")
        chosen += fitting
    return list(dict.fromkeys(chosen))
