"""Configs: how they are composed, what an option may be, and what is refused before anything is built."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
