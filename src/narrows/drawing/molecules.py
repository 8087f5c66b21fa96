"""Pictures of molecules, drawn by RDKit. See `narrows.drawing.canvas`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from narrows.drawing.canvas import Array, image_grid
from narrows.drawing.labels import Picture

SIDE = 200


def molecule_grid(
    rows: Sequence[Sequence[str | None]], title: str, notes: Sequence[Sequence[str]], heads: Sequence[str] = ()
) -> Picture:
    """A grid of equally many molecules a row, in SMILES, with a note below each; None is an empty place, where there is
    no molecule."""
    strips = [
        ("", np.stack([_drawn(smiles, note) for smiles, note in zip(row, told, strict=True)]))
        for row, told in zip(rows, notes, strict=True)
    ]
    return image_grid(strips, title, (0.0, 1.0), heads=heads)


def _drawn(smiles: str | None, note: str) -> Array:
    """`[3, SIDE, SIDE]`, from 0 to 1."""
    if smiles is None:
        return np.ones((3, SIDE, SIDE), np.float32)
    from rdkit import Chem  # an extra, and slow to import
    from rdkit.Chem.Draw import rdMolDraw2D

    canvas: Any = rdMolDraw2D.MolDraw2DCairo(SIDE, SIDE)
    canvas.drawOptions().bondLineWidth = 2
    canvas.drawOptions().legendFontSize = 20
    rdMolDraw2D.PrepareAndDrawMolecule(canvas, Chem.MolFromSmiles(smiles), legend=note)
    canvas.FinishDrawing()
    pixels = np.asarray(Image.open(io.BytesIO(canvas.GetDrawingText())).convert("RGB"), np.float32)
    return pixels.transpose(2, 0, 1) / 255
