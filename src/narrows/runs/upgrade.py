"""A config that an earlier narrows recorded, in the structure of today's."""

from __future__ import annotations

from typing import Any

IDENTITY = {"_target_": "narrows.inputs.identity.Identity", "_partial_": True}
INDICATOR = {"_target_": "narrows.inputs.missing_indicator.MissingIndicator", "_partial_": True}
PLAIN_MODEL = "narrows.models.autoencoder.Autoencoder"
INDICATOR_MODEL = "narrows.models.missing_indicator.MissingIndicatorAutoencoder"


def upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """The config, whose encoder reads an input; what is no config of a run is left as it is.

    Before there were inputs an encoder read x itself, and that of the model `missing_indicator` also which values it
    sees.
    """
    model = values.get("model")
    if "input" in values or "encoder" not in values or not isinstance(model, dict):
        return values
    if model.get("_target_") != INDICATOR_MODEL:
        return values | {"input": dict(IDENTITY)}
    return values | {"model": model | {"_target_": PLAIN_MODEL}, "input": dict(INDICATOR)}
