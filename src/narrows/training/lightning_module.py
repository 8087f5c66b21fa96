"""The only LightningModule, for all variants: it runs the model, the objective and the optimiser."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ParallelStrategy
from torch import Tensor

from narrows.compare.figure_names import figure_name
from narrows.distributed import gather_objects, share_running_statistics
from narrows.errors import require
from narrows.evaluation import by_label
from narrows.losses import Losses, Objective
from narrows.losses.critic import Critic
from narrows.losses.divergence import evidence_lower_bound
from narrows.models.autoencoder import Autoencoder
from narrows.random import seed_default
from narrows.runs.old_names import current_figures, current_term
from narrows.tasks.base import OTHER_LABELS
from narrows.training import gradients, memory_format
from narrows.training.alternation import Alternation, Unit
from narrows.training.learning_rate import end_epoch, require_followed
from narrows.training.step_history import StepHistory, as_row, names_of, refuse_non_finite
from narrows.types import FINAL_STEP, Batch, Output, at_least_single

TESTED = ("test", figure_name(OTHER_LABELS))
"""What figures of the trained labels stand under, and those of the others."""


class AutoencoderModule(L.LightningModule):
    """Trains `model` on `objective`.

    Optimisation is manual, because Lightning's automatic loop doubles the overhead of a small network; clipping and
    accumulation are therefore options here and not of the Trainer.

    Args:
        optimizer: `optimizer(params)`.
        scheduler: `scheduler(optimizer)`, stepped after each epoch.
        seed: of the run; every step's noise is seeded by `(seed, "step", batches processed, rank)`.
        clip_norm: largest joint gradient norm of the model's parameters, and of each critic's; None does not clip.
        accumulate: batches per optimiser step.
        compile: run the model through `torch.compile`.
        channels_last: lay channels last in memory, in pictures and the weights of convolutions; see `memory_format`.
        alternate: turns in which the encoder learns, then the decoder; see `Alternation`.
        alternate_in: `epochs` or `steps`, of which the turns are counted.
        alternate_until: the optimiser step, or share of the run, from which on both learn; None: never.

    Raises:
        UserError: `accumulate` below 1, `clip_norm` not above 0, turns that are refused, or `channels_last` of a model
            without convolutions over pictures.
    """

    def __init__(
        self,
        model: Autoencoder,
        objective: Objective,
        *,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., Any],
        seed: int = 0,
        clip_norm: float | None = None,
        accumulate: int = 1,
        compile: bool = False,
        alternate: Sequence[int] | None = None,
        alternate_in: Unit = "epochs",
        alternate_until: int | float | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        require(accumulate >= 1, f"module.accumulate must be at least 1, not {accumulate}")
        require(clip_norm is None or clip_norm > 0, f"module.clip_norm must be above 0 or null, not {clip_norm}")
        self.automatic_optimization = False
        self.model = model
        self.objective = objective
        self.seed = seed
        self.clip_norm = clip_norm
        self.accumulate = accumulate
        self._alternation = Alternation(model, alternate, alternate_in, alternate_until)
        self.latest: dict[str, float] = {}
        self.validated: dict[str, float] = {}
        self._make_optimizer, self._make_scheduler = optimizer, scheduler
        self._weight, self._first_rows = 0.0, 1
        self._run: int | None = None
        self._judged = False  # whether this epoch was validated, as yet
        self._history = StepHistory()
        self._sums: dict[str, Tensor] = {}
        self._names: list[str] = []
        seed_default(seed, "init", "terms")
        objective.attach(model)
        self.channels_last = channels_last
        if channels_last:
            memory_format.lay_channels_last(self, model)
        if compile:
            self.model.compile()

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning sets the name of the running hook some thirty times a step, and a module's own __setattr__,
        # which looks for parameters and buffers, is slow.
        if isinstance(value, (str, int, float, type(None))):
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def freeze_parts(self, names: Sequence[str]) -> None:
        """Keep the weights of these parts of the model as they are, and the parts in evaluation mode.

        Raises:
            UserError: one shares weights with another part, or nothing would be left to learn.
        """
        parts = dict(self.model.named_children())
        frozen = {name: parts.pop(name) for name in names}
        self._alternation.freeze(frozen, parts)
        learns = any(p.requires_grad for p in self.model.parameters())
        require(learns, f"freeze={list(names)} leaves nothing to learn: leave a part with weights out of it")

    # ── training ────────────────────────────────────────────────────────────────────────────────────────

    def configure_optimizers(self) -> Any:
        # Terms may have parameters of their own (critics), so all parameters of this module are optimised.
        groups = [{"params": player, **({} if lr is None else {"lr": lr})} for player, lr in self._players()]
        optimizer = self._make_optimizer(groups if len(groups) > 1 else groups[0]["params"])
        return [optimizer], [self._make_scheduler(optimizer)]

    def _players(self) -> list[tuple[list[torch.nn.Parameter], float | None]]:
        """The parameters of the model with its terms, then those of each critic, with their learning rates."""
        critics = [part for part in self.objective.modules() if isinstance(part, Critic)]
        theirs = {id(p) for critic in critics for p in critic.parameters()}
        ours = [p for p in self.parameters() if id(p) not in theirs]
        return [(ours, None), *((list(critic.parameters()), critic.lr) for critic in critics)]

    def on_train_start(self) -> None:
        self._history.interval = max(1, int(cast(Any, self.trainer).log_every_n_steps))
        self._clock, self._examples = time.perf_counter(), 0
        # A resumed run keeps the length that it began with, even if it was given more epochs since.
        self._run = self._run or self._planned_steps()
        self.objective.span(self._run)
        self._alternation.span(self._run)
        require_followed(self.lr_schedulers(), self.trainer.limit_val_batches != 0)

    def _planned_steps(self) -> int | None:
        """The number of optimiser steps that the trainer's limits allow; None if only time limits them."""
        trainer: Any = self.trainer
        limits = [trainer.max_steps] if trainer.max_steps > 0 else []
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            limits.append(trainer.max_epochs * math.ceil(trainer.num_training_batches / self.accumulate))
        return min(limits, default=None)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        share_running_statistics(self)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total
        seed_default(self.seed, "step", progress.processed, self.global_rank)
        step = self.global_step
        last = not self._accumulating(batch_idx)
        with nullcontext() if last else self._gradients_kept_local():
            total, _, losses = self(batch, step)
            scale = batch.share * self._weigh(batch)
            self.manual_backward(total if scale == 1.0 else total * scale)
        if last:
            self._optimise()
        self._examples += len(batch)
        self._history.record(step, losses, batch.share)
        if self._history.full:
            self.flush()

    def forward(self, batch: Batch, step: int) -> tuple[Tensor, Output, Losses]:
        """What a step minimises, the model's output and its losses.

        The total stands alone because a strategy that divides parameters looks for what gets a gradient in tuples.
        """
        turn = self._alternation.turn(self.current_epoch, step) if self.training else nullcontext()
        with turn:
            out = self.model(self._laid_out(batch))
        out.step = step
        losses = self.objective(out, self.model)
        return losses.total, out, losses

    def _laid_out(self, batch: Batch) -> Batch:
        return memory_format.channels_last(batch) if self.channels_last else batch

    def _accumulating(self, batch_idx: int) -> bool:
        """Whether the gradient of this batch waits for that of the next one."""
        return (batch_idx + 1) % self.accumulate != 0 and batch_idx + 1 < self.trainer.num_training_batches

    def _weigh(self, batch: Batch) -> float:
        """The number of rows of the global batch, divided by that of the first batch of this optimiser step.

        The gradients are summed with these weights and divided by the sum of the weights, which gives the gradient of
        one batch of all these rows, even if the last batches of an epoch are fewer or smaller.
        """
        if self.accumulate == 1:
            self._weight = 1.0
            return 1.0
        rows = round(len(batch) * self.trainer.world_size / batch.share)
        if self._weight == 0.0:
            self._first_rows = rows
        weight = rows / self._first_rows
        self._weight += weight
        return weight

    def _gradients_kept_local(self) -> AbstractContextManager[None]:
        strategy = self.trainer.strategy
        return strategy.block_backward_sync() if isinstance(strategy, ParallelStrategy) else nullcontext()

    @property
    def accumulating(self) -> bool:
        """Whether gradients of earlier batches wait for the optimiser's step: no checkpoint holds them."""
        return self._weight != 0.0

    # Figures that are recorded but not yet logged are kept in the checkpoint.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the recorded figures; raises `NonFiniteError`, so that nothing is saved, after a non-finite step."""
        checkpoint["unlogged"] = self._history.state(self._mean_over_processes)
        checkpoint["validated"], checkpoint["judged"] = self.validated, self._judged
        checkpoint["planned_steps"] = self._run

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        unlogged = checkpoint["unlogged"]
        self._history.restore(unlogged | {"names": [current_term(name) for name in unlogged["names"]]})
        self.validated, self._judged = current_figures(checkpoint["validated"]), checkpoint.get("judged", False)
        self._run = checkpoint["planned_steps"]

    @property
    def _optimizer(self) -> LightningOptimizer:
        return cast(LightningOptimizer, self.optimizers())

    def _optimise(self) -> None:
        optimizer, weight = self._optimizer, self._weight
        self._weight = 0.0
        self._alternation.hold(self.current_epoch, self.global_step)
        self.objective.hold(self.global_step)
        if weight != 1.0:
            gradients.divide(self.parameters(), weight)
        if self.clip_norm is not None:
            scaler = getattr(self.trainer.precision_plugin, "scaler", None)
            if scaler is not None:
                scaler.unscale_(optimizer.optimizer)
            # Clip model and critics separately: a critic's large gradient must not shorten the model's step.
            for player in optimizer.param_groups:
                gradients.clip(player["params"], self.clip_norm)
        optimizer.step()
        optimizer.zero_grad()

    def flush(self) -> None:
        """Log the mean of the steps since the last flush; only here does training wait for the device.

        Raises:
            NonFiniteError: one of those steps had a term that is not finite.
        """
        mean = self._history.take(self._mean_over_processes)
        if mean is None:
            return
        now = time.perf_counter()
        figures = {f"train/{name}": value for name, value in zip(self._history.names, mean.tolist(), strict=True)}
        figures |= self._scheduled()
        figures["lr"] = self._optimizer.param_groups[0]["lr"]
        figures["throughput/examples_per_s"] = self._examples * self.trainer.world_size / (now - self._clock)
        self._clock, self._examples = now, 0
        self.latest = figures
        self._log(figures)

    def _mean_over_processes(self, rows: Tensor) -> Tensor:
        if self.trainer.world_size == 1:
            return rows
        return cast(Tensor, self.trainer.strategy.reduce(rows, reduce_op="mean"))

    def _scheduled(self) -> dict[str, float]:
        now, end = self.objective.weights(self.global_step), self.objective.weights(FINAL_STEP)
        start = self.objective.weights(0)
        return {f"weight/{name}": now[name] for name in now if start[name] != end[name]}

    def _log(self, figures: dict[str, float]) -> None:
        for logger in self.trainer.loggers:
            logger.log_metrics(figures, step=self.global_step)

    def on_train_epoch_end(self) -> None:
        self.flush()
        end_epoch(self.lr_schedulers(), self.validated if self._judged else {})
        self._judged = False

    # ── validation and test ─────────────────────────────────────────────────────────────────────────────

    def _evaluate(self, stage: str, batch: Batch, batch_idx: int) -> None:
        if len(batch) == 0:
            return
        # Use the same noise each time, so that two evaluations differ only by the weights.
        seed_default(self.seed, stage, batch_idx, 0)
        # Evaluate schedules at their end, so that the monitored figure means the same throughout the run.
        _, out, losses = self(batch, FINAL_STEP)
        row, names = as_row(losses.monitored, losses), names_of(losses)
        if self.model.bounds_evidence:
            row, names = torch.cat([row, _mean_elbo(out)]), [*names, "elbo"]
        weighted = torch.cat([row * len(batch), row.new_tensor([len(batch)])])
        self._names = names
        self._sums[stage] = self._sums.get(stage, 0.0) + weighted.double()

    def _conclude(self, *stages: str) -> dict[str, float]:
        """Log the means of these stages, except stages without an example in any process."""
        figures: dict[str, float] = {}
        found = gather_objects((self._names, {stage: sums.cpu() for stage, sums in self._sums.items()}))
        self._names = next(names for names, _ in found if names)
        for stage in stages:
            shares = [sums[stage] for _, sums in found if stage in sums]
            if not shares:
                continue
            sums = torch.stack(shares).sum(0)
            mean = sums[:-1] / sums[-1]
            refuse_non_finite(mean[None], self._names, [f"in {stage} after step {self.global_step}"])
            figures |= {f"{stage}/{name}": value for name, value in zip(self._names, mean.tolist(), strict=True)}
        self._sums = {}
        self.log_dict(figures, logger=False, sync_dist=False)
        self._log(figures | {"epoch": self.current_epoch})
        return figures

    def on_validation_epoch_start(self) -> None:
        self._sums = {}
        share_running_statistics(self)
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self.flush()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate("val", batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        self.validated = self._conclude("val")
        self._judged = self.trainer.state.fn == "fit" and not self.trainer.sanity_checking

    def on_test_epoch_start(self) -> None:
        self._sums = {}
        share_running_statistics(self)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        for stage, part in zip(TESTED, by_label(batch, self.model.spec), strict=True):
            self._evaluate(stage, part, batch_idx)

    def on_test_epoch_end(self) -> None:
        self._conclude(*TESTED)


def _mean_elbo(out: Output) -> Tensor:
    return at_least_single(evidence_lower_bound(out).detach().mean()[None])
