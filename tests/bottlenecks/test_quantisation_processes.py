"""Quantisers under several processes learn what one process would; running statistics are those of the first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from instances import BOTTLENECKS, batch, model
from torch import Tensor, distributed, multiprocessing

from narrows.bottlenecks._quantizer import Codebook
from narrows.distributed import share_running_statistics
from narrows.losses.quantisation import LookupFreeEntropy
from narrows.types import Batch

ROWS = torch.arange(60.0).reshape(20, 3).sin() * 5
PARTS = ROWS.split([14, 6])


def learnt(parts: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """The state after a few batches; in a process, of its own rows."""
    torch.manual_seed(distributed.get_rank() if distributed.is_initialized() else 0)
    rows = parts[distributed.get_rank()] if distributed.is_initialized() else torch.cat(parts)
    book = Codebook(4, 3, ema=0.9, kmeans=0, revive_after=None)
    book.vectors.copy_(ROWS[:4] + 0.1)
    for _ in range(3):
        book.learn(rows, book(rows)[0])
    return book.state_dict()


def started(seed: int) -> dict[str, Tensor]:
    """With k-means and revival, whose rows are drawn at random, differently in every process."""
    torch.manual_seed(seed)
    book = Codebook(4, 3, ema=0.9, kmeans=3, revive_after=1)
    rows = PARTS[seed]
    book.start(rows)
    book.learn(rows, torch.zeros(len(rows), dtype=torch.long))
    return book.state_dict()


def entropy_gradients(data: Batch) -> dict[str, Tensor]:
    torch.manual_seed(3)
    net = model(bottleneck=BOTTLENECKS["lfq"])
    (LookupFreeEntropy()(net(data), net) * data.share).backward()
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def statistics(rank: int) -> list[dict[str, Tensor]]:
    """Those of torch's batch norm after a batch of one's own rows, and once they are shared."""
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    network(PARTS[rank])
    own = {name: value.clone() for name, value in network[1].state_dict().items()}
    share_running_statistics(network)
    return [own, network[1].state_dict()]


def _process(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(5)
    x = batch(n=8).x
    mine = Batch(x=x[:6], share=1.5) if rank == 0 else Batch(x=x[6:], share=0.5)
    found: dict[str, Any] = {"learnt": learnt(PARTS), "started": started(rank), "entropy": entropy_gradients(mine)}
    found["statistics"] = statistics(rank)
    torch.save(found, f"{folder}/{rank}")
    distributed.destroy_process_group()


def test_two_processes_learn_the_codebook_of_one(tmp_path: Path) -> None:
    multiprocessing.spawn(_process, args=(str(tmp_path),), nprocs=2)
    one, two = (torch.load(tmp_path / str(rank), weights_only=True) for rank in range(2))
    expected: dict[str, Any] = learnt(PARTS)
    for key, value in expected.items():
        torch.testing.assert_close(one["learnt"][key], value)
    for name in ("learnt", "started"):
        for key, value in one[name].items():
            assert torch.equal(two[name][key], value), f"{name}: {key} differs between processes"
    own, shared = zip(one["statistics"], two["statistics"], strict=True)
    assert not torch.equal(own[0]["running_mean"], own[1]["running_mean"])
    for key, value in own[0].items():
        assert torch.equal(shared[0][key], value)
        assert torch.equal(shared[1][key], value)
    # Averaged over the processes, the gradient of the batch's entropy is that of the global batch.
    torch.manual_seed(5)
    for key, value in entropy_gradients(Batch(x=batch(n=8).x)).items():
        torch.testing.assert_close((one["entropy"][key] + two["entropy"][key]) / 2, value)
