"""Data: sources read files, the datamodule splits, checks and serves them as `Batch`es.

One file per kind of data. A source is a small class whose constructor does no input or output and whose
`load()` gives `Contents`; it knows nothing of batches, splits or processes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
