"""Decoders: the second half of each backbone, under the first half's file name."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
