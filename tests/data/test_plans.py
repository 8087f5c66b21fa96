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
def test_evaluation_serves_each_example_once_in_equally_many_batches(world: int, size: int, batch: int) -> None:
    seen, lengths = [], set()
    for rank in range(world):
        plan = Ordered(size, batch, Process(rank, world))
        steps = plan.steps()
        assert len(plan) == len(steps)
        lengths.add(len(steps))
        for step in steps:
            found = torch.arange(size)[step.rows].tolist()
            assert found
            seen += found
    assert sorted(seen) == list(range(size))
    assert len(lengths) == 1
    totals = [step.total for step in Ordered(size, batch).steps()]
    assert max(totals) - min(totals) <= 1
