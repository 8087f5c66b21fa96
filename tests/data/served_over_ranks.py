"""The law of sources that read files: over all ranks and loader workers every row is served once in an epoch."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from narrows.data import DataModule, Loading, Source


def every_row_once_in_an_epoch(
    source: Callable[[], Source], expected: Callable[[int], Tensor], count: int, world: int, workers: int
) -> None:
    """Two epochs of `count` rows, of which three validate, served to `world` ranks in batches of 4.

    Args:
        expected: uint8 pixels, or numbers, of a row of the source.
        workers: of the first epoch; the second one reads in its own process.
    """
    orders = []
    for epoch in range(2):
        seen: list[int] = []
        for rank in range(world):
            progress = SimpleNamespace(total=SimpleNamespace(processed=5 * epoch))
            trainer: Any = SimpleNamespace(
                global_rank=rank,
                world_size=world,
                limit_train_batches=1.0,
                overfit_batches=0,
                fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
                strategy=SimpleNamespace(root_device=torch.device("cpu")),
            )
            loading = Loading(num_workers=workers if epoch == 0 else 0)
            data = DataModule(source(), batch_size=4, validation=3, loading=loading)
            data.trainer = trainer
            data.setup("fit")
            for batch in data.train_dataloader():
                assert batch.index is not None
                for x, row in zip(batch.x, batch.index.tolist(), strict=True):
                    wanted = expected(row)
                    served = (x * 255).round().to(torch.uint8) if wanted.dtype == torch.uint8 else x
                    assert torch.equal(served, wanted)
                    seen.append(row)
        assert len(seen) == len(set(seen)) == count - 3
        orders.append(seen)
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]
