"""Which rows are served, in which order, to which process."""

from __future__ import annotations

import pytest
import torch

from narrows.data.batch_plans import Ordered, Process, Shuffled


def test_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        plan = Shuffled(size=30, batch_size=8, seed=seed, processed=lambda: 4 * epoch)
        return torch.cat([step.rows for step in plan.steps()]).tolist()  # type: ignore[misc]

    assert order(0, 2) == order(0, 2)
    assert sorted(order(0, 2)) == list(range(30))
    assert len({tuple(order(seed, epoch)) for seed in range(2) for epoch in range(3)}) == 6


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [5, 7, 23, 24, 100])
@pytest.mark.parametrize("batch", [1, 4, 10])
def test_evaluation_serves_the_chunks_of_one_process_whole_and_each_once(world: int, size: int, batch: int) -> None:
    alone = Ordered(size, batch).steps()
    shared = [Ordered(size, batch, Process(rank, world)).steps() for rank in range(world)]
    assert max(step.total for step in alone) - min(step.total for step in alone) <= 1
    for number, step in enumerate(alone):
        parts = [torch.arange(size)[steps[number].rows].tolist() for steps in shared]
        assert sorted(map(len, parts)) == [0] * (world - 1) + [step.total]
        assert [row for part in parts for row in part] == torch.arange(size)[step.rows].tolist()
    assert torch.cat([torch.arange(size)[step.rows] for step in alone]).tolist() == list(range(size))
