"""The options that a config may leave to the data: `auto`, until the data are loaded.

A config is checked before any data are loaded, so until then each such option is checked as what stands in
for it. A scheduler that refers to one (`T_max: ${trainer.max_epochs}`) holds the same word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

AUTO = "auto"
Value = float | str
LENGTHS: dict[str, float] = {
    (BATCH := "datamodule.batch_size"): 128,
    (EPOCHS := "trainer.max_epochs"): 50,
    (VALIDATED := "trainer.check_val_every_n_epoch"): 1,
    (SAVED := "callbacks.checkpoint.every_n_epochs"): 1,
    (DRAWN := "callbacks.pictures.every_n_epochs"): 10,
}
"""How long a run trains, and how often it does the rest."""
STAND_INS: dict[str, Value] = {
    **LENGTHS,
    "encoder.dropout": 0.0,
    "decoder.dropout": 0.0,
    "encoder.shortcut": False,
    "decoder.shortcut": False,
    (PCA := "callbacks.start_at_pca.when"): "never",
}
"""By key, what stands in for `auto`: what a run has whose data are not small."""


NETWORKS = ("dropout", "shortcut")
"""Options of perceptrons that may be `auto`, also of those that are the parts of another encoder or decoder."""


def open_keys(config: DictConfig) -> list[str]:
    """The keys that are still `auto`: those of `STAND_INS`, and of perceptrons within an encoder or decoder."""
    within = (key for stage in ("encoder", "decoder") for key in _inner_keys(config.get(stage), stage))
    return [key for key in (*STAND_INS, *within) if OmegaConf.select(config, key) == AUTO]


def _inner_keys(node: Any, path: str) -> Iterator[str]:
    """The options of `NETWORKS` of components below this one."""
    for key in node if isinstance(node, DictConfig) else ():
        inner = node._get_node(key)
        if isinstance(inner, DictConfig):
            yield from (f"{path}.{key!s}.{option}" for option in NETWORKS if option in inner)
            yield from _inner_keys(inner, f"{path}.{key!s}")


def decided(config: DictConfig, values: Mapping[str, Value] = STAND_INS) -> DictConfig:
    """A copy of a config without references, with these values, or else their stand-ins, in the place of `auto`."""
    values = STAND_INS | dict(values)
    done, keys = config.copy(), open_keys(config)
    for key in keys:
        # Of a perceptron within another stage, what is usual: it is not the whole of a small model.
        usual = f"{key.partition('.')[0]}.{key.rpartition('.')[2]}"
        OmegaConf.update(done, key, values[key] if key in values else STAND_INS[usual])
    if EPOCHS in keys:
        scheduler = done.get("scheduler") or {}
        for option in [option for option in scheduler if scheduler[option] == AUTO]:
            scheduler[option] = values[EPOCHS]
    return done
