"""The one table that ends a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROWS = {
    "test/elbo": "ELBO (nats)",
    "test/reconstruction": "reconstruction, -log p(x|z) (nats)",
    "test/kl": "KL(q(z|x) || p(z)) (nats)",
    "test/nll": "-log p(x), importance sampled (nats)",
    "prior/log_prob_val": "fitted prior: log p(z), validation (nats)",
    "prior/log_prob_bound_val": "fitted prior: bound on log p(z), validation (nats)",
    "test/mse": "MSE per value",
    "test/bce": "BCE per value (nats)",
    "test/psnr": "PSNR (dB)",
    "test/variance_unexplained": "variance unexplained",
    "test/corrupted/psnr": "corrupted input: PSNR (dB)",
    "test/denoised/mse": "denoised: MSE per value",
    "test/denoised/bce": "denoised: BCE per value (nats)",
    "test/denoised/psnr": "denoised: PSNR (dB)",
    "test/hidden/mse": "hidden values: MSE per value",
    "test/hidden/psnr": "hidden values: PSNR (dB)",
    "test/fid": "samples: Fréchet distance",
    "test/rfid": "reconstructions: Fréchet distance",
    "test/kid": "samples: kernel distance",
    "test/precision": "samples: precision",
    "test/recall": "samples: recall",
    "test/memorisation": "samples: distance to training rows, of test rows 1",
    "test/active_units": "active units",
    "test/l0": "L0, latents that are not zero",
    "test/dead_fraction": "dead latents, fraction",
    "test/codebook_usage": "codes used, fraction",
    "test/perplexity": "perplexity of the codes",
    "test/anomaly/auroc": "anomaly AUROC",
    "test/anomaly/false_alarm_rate": "anomaly: false alarms at the threshold",
    "test/anomaly/recall": "anomaly: recall at the threshold",
    "test/mig": "MIG, mutual information gap",
    "test/sap": "SAP, separated attribute predictability",
    "test/modularity": "modularity",
    "test/explicitness": "explicitness (AUROC)",
    "test/factor_vae": "FactorVAE score",
    "test/beta_vae": "BetaVAE score",
    "test/dci_forest_disentanglement": "DCI disentanglement (random forest)",
    "test/dci_forest_completeness": "DCI completeness (random forest)",
    "test/dci_forest_informativeness": "DCI informativeness (random forest)",
    "test/dci_boosting_disentanglement": "DCI disentanglement (gradient boosting)",
    "test/dci_boosting_completeness": "DCI completeness (gradient boosting)",
    "test/dci_boosting_informativeness": "DCI informativeness (gradient boosting)",
}
"""The figures worth a row, and what they are called."""

CLASSICS = {
    "pca": "PCA",
    "ica": "ICA",
    "mixture": "pixel mixture",
    "train": "training rows",
    "ridge": "ridge",
    "mahalanobis": "Mahalanobis",
    "mean": "mean",
}
"""Answers that are not neural, measured on the same split."""

SILENT = {"test/loss", "test/l0_fraction", "test/nll_stderr", "test/kid_std"}


def print_report(figures: dict[str, float], run_dir: Path, output_dir: Path) -> None:
    """Print the final figures, where the run lies, and how to look at it."""
    console = Console(width=None if os.isatty(1) else 120, highlight=False)
    console.print(figure_table(figures))
    console.print(f"run          {_shortest(run_dir)}", soft_wrap=True)
    console.print(f"TensorBoard  tensorboard --logdir {_shortest(output_dir)}", soft_wrap=True)


def print_figures(found: Mapping[str, dict[str, float]]) -> None:
    """Print the figures of one run beside the classics, or those of several side by side."""
    console = Console(width=None if os.isatty(1) else 160, highlight=False)
    console.print(figure_table(*found.values()) if len(found) == 1 else table_of_runs(found))


def table_of_runs(found: Mapping[str, dict[str, float]]) -> Table:
    """A column for every run; their classics stand in each run's own `tasks/NAME.json`."""
    rows = _named({name: value for figures in found.values() for name, value in figures.items()})
    table = Table(header_style="bold")
    table.add_column("on the test split")
    for run in found:
        table.add_column(run, justify="right", overflow="fold")
    for key, label in rows.items():
        table.add_row(label, *(_number(figures.get(key)) for figures in found.values()))
    return table


def figure_table(figures: dict[str, float]) -> Table:
    """The test figures of a run, the classic answers beside them."""
    rows = _named(figures)
    kinds = [kind for kind in CLASSICS if any(_classic(key, kind) in figures for key in rows)]
    table = Table(header_style="bold")
    table.add_column("on the test split")
    for heading in ("this run", *(CLASSICS[kind] for kind in kinds)):
        table.add_column(heading, justify="right")
    for key, label in rows.items():
        table.add_row(label, *(_number(figures.get(name)) for name in (key, *(_classic(key, k) for k in kinds))))
    return table


def _named(figures: dict[str, float]) -> dict[str, str]:
    """The figures to show with their labels; terms that have no label of ours under their own name."""
    dense = figures.get("test/l0_fraction") == 1
    rows = {key: label for key, label in ROWS.items() if key in figures and not (dense and key == "test/l0")}
    others = [key for key in figures if key.startswith("test/") and key.count("/") == 1]
    return rows | {key: key.removeprefix("test/") for key in others if key not in ROWS and key not in SILENT}


def _classic(key: str, kind: str) -> str:
    """Where a classic's value of the same figure stands: `test/psnr` and `test/pca/psnr`."""
    parent, _, name = key.rpartition("/")
    return f"{parent}/{kind}/{name}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"


def _shortest(path: Path) -> str:
    """Relative to where the user stands, when it lies below."""
    absolute = path.resolve()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)
