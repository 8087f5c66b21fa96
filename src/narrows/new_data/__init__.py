"""A trained run on new data: read as its own data were, embedded, rebuilt and scored, and written in their own form.

Every form of data is one class: it says how new examples are read with what the run recorded, and how reconstructions
of them are written (`narrows.new_data.NewData`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
