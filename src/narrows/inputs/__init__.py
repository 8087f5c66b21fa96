"""Inputs: what the encoder sees of x."""

from narrows.inputs.base import Input
from narrows.inputs.identity import Identity
from narrows.inputs.missing_indicator import MissingIndicator

__all__ = ["Identity", "Input", "MissingIndicator"]
