"""The options that a config may leave to the data: `auto`, until the data are loaded.

A config is checked before any data are loaded, so until then each such option is checked as what stands in
for it. A scheduler that refers to one (`T_max: ${trainer.max_epochs}`) holds the same word.
"""

from __future__ import annotations

from collections.abc import Mapping

from omegaconf import DictConfig, OmegaConf

AUTO = "auto"
STAND_INS: dict[str, float] = {
    "datamodule.batch_size": 128,
    "trainer.max_epochs": 50,
    "trainer.check_val_every_n_epoch": 1,
    "callbacks.checkpoint.every_n_epochs": 1,
    "callbacks.pictures.every_n_epochs": 10,
    "encoder.dropout": 0.0,
    "decoder.dropout": 0.0,
    "encoder.shortcut": False,
    "decoder.shortcut": False,
}
"""By key, what stands in for `auto`: what a run has whose data are not small."""
BATCH, EPOCHS, VALIDATED, SAVED, DRAWN = list(STAND_INS)[:5]


def open_keys(config: DictConfig) -> list[str]:
    """The keys of `STAND_INS` that are still `auto`."""
    return [key for key in STAND_INS if OmegaConf.select(config, key) == AUTO]


def decided(config: DictConfig, values: Mapping[str, float] = STAND_INS) -> DictConfig:
    """A copy of a config without references, with these values in the place of `auto`."""
    done, keys = config.copy(), open_keys(config)
    for key in keys:
        OmegaConf.update(done, key, values[key])
    if EPOCHS in keys:
        scheduler = done.get("scheduler") or {}
        for option in [option for option in scheduler if scheduler[option] == AUTO]:
            scheduler[option] = values[EPOCHS]
    return done
