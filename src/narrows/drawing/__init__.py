"""Drawing: every function returns one picture, `[H, W, 3]` uint8."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
