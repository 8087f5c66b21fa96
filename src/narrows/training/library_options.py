"""The ranges of options of torch's and Lightning's own classes, which take nonsense without a word or fail late."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, ListConfig

from narrows.errors import require
from narrows.launching import started

LEAST: dict[str, dict[str, int]] = {
    "trainer": {"log_every_n_steps": 1, "num_sanity_val_steps": -1, "check_val_every_n_epoch": 1},
    "ConstantLR": {"total_iters": 0},
    "LinearLR": {"total_iters": 1},
    "PolynomialLR": {"total_iters": 1},
    "CosineAnnealingLR": {"T_max": 1},
    "CosineAnnealingWarmRestarts": {"T_0": 1, "T_mult": 1},
    "WarmUpCosine": {"epochs": 1},
    "StepLR": {"step_size": 1},
}
"""The least whole number of each option, of the Trainer and by class of scheduler."""
OPTIONAL = ("check_val_every_n_epoch", "num_sanity_val_steps", "log_every_n_steps")
"""Those that may be null."""


def check_trainer_options(trainer: DictConfig) -> None:
    """Refuse options of the Trainer that mean nothing, or other numbers of processes than were started.

    Raises:
        UserError: names the option.
    """
    _check_least("trainer", trainer, LEAST["trainer"])
    as_started(trainer)


def as_started(trainer: DictConfig) -> dict[str, int]:
    """The devices and nodes that torchrun or srun has decided by starting a process for each, where the options leave
    them open; empty where neither has.

    Raises:
        UserError: the options ask for other numbers of them.
    """
    processes = started()
    if processes is None:
        return {}
    devices, nodes = trainer.get("devices", "auto"), trainer.get("num_nodes", 1)
    is_open = devices in ("auto", -1, "-1")
    count = str(len(devices) if isinstance(devices, ListConfig) else devices)
    told = f"{processes.by} has started {processes.each} processes on each of {processes.nodes} nodes"
    require(
        is_open or count == str(processes.each),
        f"{told}, and trainer.devices={devices} is another number: trainer=ddp and trainer=fsdp take those started",
    )
    require(nodes in (1, processes.nodes), f"{told}, and trainer.num_nodes={nodes} is another number")
    return {"num_nodes": processes.nodes} | ({"devices": processes.each} if is_open else {})


def check_scheduler_options(scheduler: DictConfig) -> None:
    """Refuse options of torch's schedulers with which the learning rate would never change, or could not be computed.

    Raises:
        UserError: names the option.
    """
    name = str(scheduler.get("_target_")).rpartition(".")[2]
    _check_least("scheduler", scheduler, LEAST.get(name, {}))
    if name == "MultiStepLR":
        _check_milestones(scheduler.get("milestones"))


def _check_least(where: str, node: DictConfig, least: dict[str, int]) -> None:
    for option, bound in least.items():
        value = node.get(option, bound)
        if value is None and option in OPTIONAL:
            continue
        require(_is_whole(value), f"{where}.{option} must be a whole number, not {'null' if value is None else value}")
        require(value >= bound, f"{where}.{option} must be at least {bound}, not {value}")


def _check_milestones(epochs: Any) -> None:
    right = isinstance(epochs, ListConfig) and len(epochs) > 0 and all(_is_whole(each) and each >= 1 for each in epochs)
    right = right and list(epochs) == sorted(set(epochs))
    require(right, f"scheduler.milestones must be a list of epochs that increase, such as [30, 40], not {epochs}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def late_milestones(config: DictConfig) -> list[str]:
    """A line that names the milestones of the scheduler that the run does not reach; none if it reaches all."""
    last, epochs = config.trainer.get("max_epochs"), config.scheduler.get("milestones")
    if not _is_whole(last) or last < 0 or not isinstance(epochs, ListConfig):
        return []
    late = [epoch for epoch in epochs if epoch >= last]
    named = f"scheduler.milestones {', '.join(map(str, late))}"
    return [f"{named}: never reached, the run ends after trainer.max_epochs={last} epochs"] if late else []


def fast_dev_run(config: DictConfig) -> list[str]:
    """A line that says what the figures of a `fast_dev_run` are worth; none for any other run."""
    asked = config.trainer.get("fast_dev_run")
    if not asked:
        return []
    few = "one batch" if int(asked) == 1 else f"{int(asked)} batches"
    given = str(asked).lower()
    return [f"trainer.fast_dev_run={given}: everything once, on {few} of each split; the figures mean nothing"]
