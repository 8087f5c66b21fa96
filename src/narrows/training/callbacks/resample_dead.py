"""Resampling dead latents, which are never active, during training."""

from __future__ import annotations

from typing import Any, cast

import lightning as L
import torch
from torch import Tensor, nn

from narrows.distributed import of_first_process
from narrows.errors import UserError, require
from narrows.random import seed_default
from narrows.training.lightning_module import AutoencoderModule
from narrows.types import Batch


class ResampleDead(L.Callback):
    """Periodically points dead latents of a sparse bottleneck at badly reconstructed examples.

    A latent that was 0 for `dead_after` training passes gets a new encoder row: in the direction of the encoder's
    centred output for an example drawn in proportion to its squared loss, `scale` times the mean length of the living
    rows, with bias 0. If a linear decoder layer reads the latent, its column becomes a random direction of the mean
    length of the living columns. The optimiser's state of both is reset. The draws depend on the module's seed and the
    step alone; under DDP those of the first process are used.

    "Towards Monosemanticity: Decomposing Language Models With Dictionary Learning" (Bricken et al., 2023), section
    "Neuron resampling".

    Args:
        every_n_steps: optimiser steps from one resampling to the next.
        dead_after: training passes without activity after which a latent counts as dead.
        scale: length of a new encoder row, relative to the living ones.

    Raises:
        UserError: an interval below 1, `scale` not above 0, or a bottleneck that does not count idle passes.
    """

    def __init__(self, every_n_steps: int = 1000, dead_after: int = 500, scale: float = 0.2) -> None:
        require(every_n_steps >= 1, f"callbacks.resample.every_n_steps must be at least 1, not {every_n_steps}")
        require(dead_after >= 1, f"callbacks.resample.dead_after must be at least 1, not {dead_after}")
        require(scale > 0, f"callbacks.resample.scale must be above 0, not {scale}")
        self.every_n_steps, self.dead_after, self.scale = every_n_steps, dead_after, scale

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        bottleneck: Any = cast(AutoencoderModule, pl_module).model.bottleneck
        if not isinstance(getattr(bottleneck, "idle", None), Tensor):
            raise UserError(
                f"callbacks.resample needs a bottleneck that counts idle passes (bottleneck=topk), not "
                f"{type(bottleneck).__name__}"
            )

    # Before the step: a checkpoint written after the step but before a resampling would resume without it.
    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        module, step = cast(AutoencoderModule, pl_module), trainer.global_step
        if step == 0 or step % self.every_n_steps != 0 or module.accumulating:
            return
        bottleneck: Any = module.model.bottleneck
        dead = (bottleneck.idle >= self.dead_after).nonzero().flatten()
        if len(dead) == 0 or len(dead) == len(bottleneck.idle):
            return
        seed_default(module.seed, "resample", step)
        self._renew(module, batch, dead)

    @torch.no_grad()
    def _renew(self, module: AutoencoderModule, batch: Batch, dead: Tensor) -> None:
        bottleneck: Any = module.model.bottleneck
        projection = bottleneck.projection
        living = bottleneck.idle < self.dead_after
        rows = of_first_process(self._directions(module, batch, len(dead)))
        weight = projection.weight
        weight[dead] = rows * self.scale * weight[living].norm(dim=1).mean()
        resets = [(weight, 0)]
        for name, parameter in bottleneck.named_parameters():
            if name.endswith("bias"):
                parameter[dead] = 0.0
                resets.append((parameter, 0))
        resets += self._renew_columns(module, dead, living)
        bottleneck.idle[dead] = 0
        for parameter, axis in resets:
            _forget(cast(Any, module.optimizers()).optimizer, parameter, dead, axis)

    def _directions(self, module: AutoencoderModule, batch: Batch, count: int) -> Tensor:
        """Directions `[count, C]` of norm 1: the projection's input at one position of badly reconstructed examples."""
        model = module.model
        training = model.training
        model.eval()
        out = model(batch)
        h = model.features(out.seen)
        model.train(training)
        loss = -out.log_likelihood
        chosen = torch.multinomial((loss - loss.min() + 1e-6).square(), count, replacement=True)
        h = h[chosen].flatten(2) if h.ndim > 2 else h[chosen].unsqueeze(2)
        place = torch.randint(h.shape[2], (count, 1, 1), device=h.device).expand(-1, h.shape[1], 1)
        bottleneck: Any = model.bottleneck
        return nn.functional.normalize(h.gather(2, place).squeeze(2) - bottleneck.centre, dim=1)

    def _renew_columns(self, module: AutoencoderModule, dead: Tensor, living: Tensor) -> list[tuple[Tensor, int]]:
        reader = next((layer for layer in module.model.decoder.modules() if isinstance(layer, nn.Linear)), None)
        if reader is None or reader.in_features != len(living):
            return []
        weight = reader.weight
        columns = nn.functional.normalize(torch.randn_like(weight[:, dead]), dim=0)
        weight[:, dead] = of_first_process(columns) * weight[:, living].norm(dim=0).mean()
        return [(weight, 1)]


def _forget(optimizer: torch.optim.Optimizer, parameter: Tensor, index: Tensor, axis: int) -> None:
    """Set the optimiser's state of these rows or columns to 0, as before its first step."""
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value.index_fill_(axis, index, 0.0)
