"""Tasks: one file for each use of a trained model, which judges how good the model is at it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
