"""Lightning can be imported once narrows has mended torchvision."""

import narrows  # noqa: F401
