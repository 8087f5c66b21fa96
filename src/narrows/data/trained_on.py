"""What a checkpoint records of the batches that it was trained on, to which its position in the epoch refers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from narrows.data.batch_plans import batches_in_epoch
from narrows.errors import require
from narrows.types import DataSpec


def batches(spec: DataSpec, batch_size: int, by_length: bool, world: int) -> dict[str, Any]:
    """The settings that must not change between a checkpoint and the training that goes on from it.

    The number of processes may: as long as they make as many batches of an epoch, the same rows are in each of them.
    """
    state = {"batch_size": batch_size, "size": spec.size, "fingerprint": spec.fingerprint}
    state["batches"] = batches_in_epoch(spec.size, batch_size, world)
    return state | {"by_length": by_length} if spec.variable else state


def require_same(then: Mapping[str, Any], now: Mapping[str, Any], world: int) -> None:
    """Refuse the `batches` of a checkpoint that are not those that `world` processes would have now.

    Raises:
        UserError: names what differs.
    """
    for name, value in then.items():
        require(
            name == "batches" or now.get(name) == value,
            f"this checkpoint was trained with data of {name} {value}, but now it is {now.get(name)}: "
            "resume with the settings of the run, or start a new one",
        )
    before, after = then.get("batches", now["batches"]), now["batches"]
    last = now["size"] % now["batch_size"]
    require(
        before == after,
        f"the run has {before} batches in an epoch, and {world} processes would have {after}: the last one, of {last} "
        "examples, is trained on only where each process has a row of it; go on with trainer.devices of "
        f"{'at most' if after < before else 'more than'} {last}",
    )
