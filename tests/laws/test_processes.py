"""Several processes that share a batch are one process with all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from noise import SameNoise
from small_variants import VARIANTS, Case, case
from torch import Tensor, distributed, multiprocessing

from narrows.types import Batch

ROWS = 13
# What they compute of a batch is no sum over its rows.
OF_BATCHES = [
    *("beta_tcvae", "dip_vae_i", "dip_vae_ii", "wae_mmd", "info_vae", "free_bits_vae", "capacity_vae"),
    *("sparse_kl", "lfq", "batch_topk", "vq_vae", "sigma_vae", "prodlda"),
]


class OneOrder(SameNoise):
    """Permutations leave all rows where they are, so that they do not depend on how many there are."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        return result.copy_(torch.arange(len(result))) if "randperm" in func.name() else result


def part_of(found: Case, step: int, rank: int, world: int) -> Batch:
    """This process' rows of the batch of a step."""
    whole = found.batch(3 * ROWS)
    rows = ((5 * step + torch.arange(ROWS)) % len(whole))[rank::world]
    label = None if whole.label is None else whole.label[rows]
    # In double precision no rounding decides which of two codes is nearer.
    return Batch(x=whole.x[rows].double(), label=label, index=rows, share=len(rows) * world / ROWS)


def after(found: Case, steps: int, rank: int = 0, world: int = 1) -> dict[str, Tensor]:
    """What the model and its terms hold after `steps` steps on batches of which this process has a part."""
    found.model.double()
    found.objective.double()
    players = [p for p in found.parameters().values() if p.requires_grad]
    optimizer = torch.optim.SGD(players, lr=0.01)
    for step in range(steps):
        optimizer.zero_grad()
        data = part_of(found, step, rank, world)
        # A process draws noise of its own; here it is the same, so that nothing but the rows differs.
        with OneOrder():
            (found.loss(data, step=step) * data.share).backward()
        for parameter in players:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            if world > 1:
                distributed.all_reduce(gradient)
            parameter.grad = gradient / world
        torch.nn.utils.clip_grad_norm_(players, 1.0)
        optimizer.step()
    return found.model.state_dict() | {f"objective.{name}": v for name, v in found.objective.state_dict().items()}


def _process(rank: int, world: int, folder: str, variants: list[str], steps: int) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    for variant in variants:
        torch.save(after(case(variant), steps, rank, world), f"{folder}/{variant}_{rank}")
    distributed.destroy_process_group()


def hold(variants: list[str], world: int, steps: int, folder: Path) -> None:
    multiprocessing.start_processes(
        _process, args=(world, str(folder), variants, steps), nprocs=world, start_method="fork"
    )
    wrong = []
    for variant in variants:
        expected = after(case(variant), steps)
        for rank in range(world):
            found = torch.load(folder / f"{variant}_{rank}", weights_only=True)
            assert found.keys() == expected.keys()
            for name, value in expected.items():
                gap = (found[name].double() - value.double()).abs().amax() if value.numel() else torch.zeros(())
                if not gap < 1e-6:
                    wrong.append(f"{variant}, process {rank}: {name} differs by {gap:.1e}")
    assert not wrong, "\n".join(wrong)


def test_what_is_of_a_batch_is_of_all_its_processes(tmp_path: Path) -> None:
    hold(OF_BATCHES, 3, 3, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_every_variant_learns_the_same_in_any_number_of_processes(world: int, tmp_path: Path) -> None:
    hold(VARIANTS, world, 20, tmp_path)
