"""Data: sources read files; the datamodule checks and splits what they read and serves it as `Batch`es.

There is one file per kind of data. A source is a small class: its constructor reads and writes nothing, and its
`load()` returns `Contents`. It knows nothing of batches, splits or processes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
