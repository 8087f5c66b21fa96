"""Sweeps: choosing jobs, running each as its own process, and a record that survives interruption."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
