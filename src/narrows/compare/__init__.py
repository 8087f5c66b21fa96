"""Comparing runs by their recorded files alone: tables, differences, verdicts, an HTML page. Imports no torch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
