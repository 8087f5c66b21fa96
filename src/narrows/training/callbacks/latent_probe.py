"""What latents are worth while they are learnt: nearest neighbours, a linear probe, how many of them are in use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.errors import require_at_least
from narrows.evaluation import EvaluationData, evaluating, subset
from narrows.models.autoencoder import Autoencoder
from narrows.tasks.measures.chosen_rows import chosen
from narrows.tasks.measures.embeddings import neighbour_hits, probe_hits, told_the_label
from narrows.types import Batch

ACTIVE = 0.01
"""Variance over examples above which a latent is in use."""
FOLDER = "projector"
"""Below the run directory, for TensorBoard's projector."""


class LatentProbe(pl.Callback):
    """Logs figures of the noise-free latents after validation: in TensorBoard under `watch/probe`, in the history as
    `probe/*`.

    - `effective_rank`: the exponential of the entropy of the singular values' shares, of centred validation latents:
      between 1 and their number ("The Effective Rank", Roy and Vetterli, 2007).
    - `active_units`: the latents whose variance over validation examples is above 0.01.
    - `knn`, `linear`: where the data have classes, which the encoder is not told, how many validation examples the five
      nearest training latents tell, or a linear probe of them (`narrows.tasks.measures.embeddings`).

    It draws nothing from the random numbers of training, and looks at the same rows every time.

    Args:
        every_n_epochs: epochs from one look to the next; the last epoch is looked at too.
        rows: most rows of the training and of the validation split that are embedded.
        projector: whether validation latents, with labels and small pictures, are written for TensorBoard's projector
            when training ends, into `projector/` of the run directory.
        seed: of the choice of rows.

    Raises:
        UserError: an interval below 1 or fewer than 2 rows.
    """

    def __init__(self, every_n_epochs: int = 1, rows: int = 1000, projector: bool = False, seed: int = 0) -> None:
        super().__init__()
        require_at_least(1, "callbacks.probe:", every_n_epochs=every_n_epochs)
        require_at_least(2, "callbacks.probe:", rows=rows)
        self.every_n_epochs, self.rows, self.projector, self.seed = every_n_epochs, rows, projector, seed

    # Before the checkpoint is written, so that a resumed history has what it had then.
    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        epoch = trainer.current_epoch + 1
        due = epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs
        if trainer.sanity_checking or trainer.state.fn != "fit" or not due or not trainer.is_global_zero:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        found = probed(pl_module.model, data, pl_module.device, self.rows, self.seed)
        for logger in trainer.loggers:
            logger.log_metrics({f"probe/{name}": value for name, value in found.items()}, trainer.global_step)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self.projector and trainer.is_global_zero:
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            with evaluating(pl_module.model, self.seed, "projector"):
                held = _read(pl_module.model, data, "validation", pl_module.device, self.rows, self.seed)
            project(*held, Path(trainer.default_root_dir) / FOLDER)


def probed(
    model: Autoencoder, data: EvaluationData, device: torch.device, rows: int = 1000, seed: int = 0
) -> dict[str, float]:
    """The figures of `LatentProbe`, by name. Model and random generators are left unchanged."""
    with evaluating(model, seed, "latent probe"):
        codes, label, _ = _read(model, data, "validation", device, rows, seed)
        found = {
            "effective_rank": effective_rank(codes),
            "active_units": float((codes.var(0) > ACTIVE).sum()),
        }
        if label is None or label.ndim != 1 or told_the_label(model) is not None:
            return found
        known, known_label, _ = _read(model, data, "train", device, rows, seed)
    assert known_label is not None
    found["knn"] = float(neighbour_hits(known, known_label, codes, label).mean())
    found["linear"] = float(probe_hits(known, known_label, codes, label).mean())
    return found


def effective_rank(codes: NDArray[np.floating]) -> float:
    """Of latents `[N, D]`: the exponential of the entropy of the shares of their singular values, once centred; 0 where
    they do not vary."""
    singular = np.linalg.svd(codes - codes.mean(0), compute_uv=False).astype(np.float64)
    if not singular.sum() > 0:
        return 0.0
    shares = singular / singular.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _read(
    model: Autoencoder, data: EvaluationData, split: str, device: torch.device, rows: int, seed: int
) -> tuple[NDArray[np.floating], NDArray[Any] | None, Tensor]:
    """Latents `[N, D]`, labels `[N, ...]` if there are any, and examples of so many rows of a split."""
    places = chosen(data, split, rows, seed, "latent probe")
    parts, codes = [], []
    for batch in subset(data.ordered_loader(split), places):
        codes.append(model.embed(batch.to(device)).float().cpu())
        parts.append(batch.to("cpu"))
    whole = Batch.cat(parts)
    return torch.cat(codes).numpy(), None if whole.label is None else whole.label.numpy(), whole.x


def project(codes: NDArray[np.floating], label: NDArray[Any] | None, x: Tensor, directory: Path) -> None:
    """Write latents for TensorBoard's projector, with their labels, and small square pictures where examples are
    pictures of one or three channels."""
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    names = None if label is None or label.ndim != 1 else [str(value) for value in label.tolist()]
    shown = x if x.ndim == 4 and x.shape[1] in (1, 3) else None
    if shown is not None:
        side = min(max(shown.shape[2:]), 64)
        shown = torch.nn.functional.interpolate(shown.float(), (side, side), mode="area").clamp(0, 1)
        shown = shown.expand(-1, 3, -1, -1)
    with SummaryWriter(str(directory)) as writer:
        writer.add_embedding(torch.from_numpy(codes), metadata=names, label_img=shown, tag="latents")
