"""What is timed: models that configs compose, on noise, whose content does not change what a step costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from narrows.config.auto_values import decided
from narrows.config.building import build
from narrows.config.composition import config_dir, register_resolvers
from narrows.config.hydra_versions import VERSION_BASE
from narrows.data.contents import Contents, Part
from narrows.data.datamodule import DataModule, Loading
from narrows.loading.model_from_config import build_model
from narrows.losses import Objective
from narrows.models.autoencoder import Autoencoder

Kind = Literal["image", "series"]


@dataclass(frozen=True)
class Case:
    """A model by its overrides, and how much of which data it is timed on."""

    overrides: Sequence[str]
    batch: int = 128
    rows: int = 6_400
    kind: Kind = "image"
    shape: tuple[int, ...] = (1, 28, 28)

    def smaller(self, rows: int) -> Case:
        return Case(self.overrides, self.batch, rows, self.kind, self.shape)

    def datamodule(self) -> DataModule:
        data = DataModule(_Noise(self), batch_size=self.batch, validation="official", loading=Loading())
        data.setup()
        return data

    def config(self) -> Any:
        register_resolvers()
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(config_dir()), **VERSION_BASE):
            return decided(compose("train", [*self.overrides, f"datamodule={_EXAMPLES[self.kind]}"]))

    def build(self, data: DataModule) -> tuple[Any, Autoencoder, Objective]:
        """Its config, and the model and objective that it describes."""
        config = self.config()
        return config, *built(config, data)


def built(config: Any, data: DataModule) -> tuple[Autoencoder, Objective]:
    """The model and the objective that a config describes."""
    objective = Objective({name: build(term, name) for name, term in config.loss.items()})
    return build_model(config, data.spec), objective


_EXAMPLES = {"image": "digits", "series": "series"}


class _Noise:
    def __init__(self, case: Case) -> None:
        self.case = case

    def load(self) -> Contents:
        rows = self.case.rows + self.case.rows // 9
        if self.case.kind == "image":
            x = torch.randint(0, 256, (rows, *self.case.shape), dtype=torch.uint8)
        else:
            x = torch.randn(rows, *self.case.shape)
        return Contents(kind=self.case.kind, train=Part(x[: self.case.rows]), validation=Part(x[self.case.rows :]))
