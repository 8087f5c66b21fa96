"""Training: the LightningModule, its Trainer, and a whole experiment from config to recorded figures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
