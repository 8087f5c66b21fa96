"""Training: the LightningModule, its trainer, and one experiment from its config to its record."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
