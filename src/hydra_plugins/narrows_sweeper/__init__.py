"""How Hydra finds the sweeps of narrows. Hydra imports this at every start: nothing heavy may stand here."""

from __future__ import annotations

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class NarrowsSweeper(Sweeper):
    """`narrows train -m`: hands the composed config and the overrides to `narrows.sweeps`."""

    def __init__(self, **options: Any) -> None:
        """Options of Hydra's own sweepers have no meaning here; `sweep.params` is their place."""
        self.options = {key: value for key, value in options.items() if value is not None}
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config

    def sweep(self, arguments: list[str]) -> Any:
        from narrows.sweeps.sweep_command import sweep

        assert self.hydra_context is not None
        assert self.config is not None
        return sweep(self.hydra_context.config_loader, self.config, arguments, self.options)
