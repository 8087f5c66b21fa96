"""The options that a config may leave to the data: `auto`, until the data are loaded.

A config is checked before any data are loaded, so until then each such option is checked as what stands in
for it. A scheduler that refers to one (`T_max: ${trainer.max_epochs}`) holds the same word.
"""

from __future__ import annotations

from collections.abc import Mapping

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


def open_keys(config: DictConfig) -> list[str]:
    """The keys of `STAND_INS` that are still `auto`."""
    return [key for key in STAND_INS if OmegaConf.select(config, key) == AUTO]


def decided(config: DictConfig, values: Mapping[str, Value] = STAND_INS) -> DictConfig:
    """A copy of a config without references, with these values, or else their stand-ins, in the place of `auto`."""
    values = STAND_INS | dict(values)
    done, keys = config.copy(), open_keys(config)
    for key in keys:
        OmegaConf.update(done, key, values[key])
    if EPOCHS in keys:
        scheduler = done.get("scheduler") or {}
        for option in [option for option in scheduler if scheduler[option] == AUTO]:
            scheduler[option] = values[EPOCHS]
    return done
