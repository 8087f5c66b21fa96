"""Bottlenecks: what the latent is, and nothing of what a loss wants of it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
