"""Pictures at several strengths of a style."""

from __future__ import annotations

import numpy as np

from narrows.drawing.style_pictures import LARGEST, NAME_WIDTH, strength_grid


def test_columns_are_wide_enough_for_their_names() -> None:
    """Those of pictures of 32 x 32 were written over one another."""
    for height, width in ((32, 32), (40, 48), (1, 1), (400, 1), (100, 700)):
        picture = np.zeros((3, height, width))
        drawn = strength_grid({"content": picture, "strength 0.5": picture, "style": np.ones((3, 7, 5))}, "A title")
        tall, wide = drawn.shape[:2]
        assert wide >= 3 * NAME_WIDTH or height * NAME_WIDTH > LARGEST * width
        assert tall < 2 * LARGEST + 200
