"""Pictures of molecules, drawn by RDKit. See `narrows.drawing.canvas`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from narrows.drawing.canvas import INK, MUTED, Picture, _panels, _render

SIDE = 260


def molecule_grid(
    rows: Sequence[Sequence[str | None]], title: str, notes: Sequence[Sequence[str]], heads: Sequence[str] = ()
) -> Picture:
    """A grid of molecules in SMILES, with a note below each; None is an empty place, where there is no molecule."""
    columns = max(map(len, rows))
    figure, axes = _panels(len(rows), columns, (1.35, 1.5), title)
    for number, axis in enumerate(axes):
        line, place = divmod(number, columns)
        for spine in axis.spines.values():
            spine.set_visible(False)
        axis.set_xticks([])
        axis.set_yticks([])
        smiles = rows[line][place] if place < len(rows[line]) else None
        if smiles is not None:
            axis.imshow(_drawn(smiles), extent=(0, 1, 0, 1), interpolation="lanczos")
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1)
        axis.set_xlabel(notes[line][place] if place < len(notes[line]) else "", fontsize=6, color=MUTED)
        if line == 0 and place < len(heads):
            axis.set_title(heads[place], fontsize=7, color=INK)
    return _render(figure)


def _drawn(smiles: str) -> np.ndarray:
    from rdkit import Chem  # an extra, and slow to import
    from rdkit.Chem.Draw import rdMolDraw2D

    canvas: Any = rdMolDraw2D.MolDraw2DCairo(SIDE, SIDE)
    canvas.drawOptions().bondLineWidth = 2
    rdMolDraw2D.PrepareAndDrawMolecule(canvas, Chem.MolFromSmiles(smiles))
    canvas.FinishDrawing()
    return np.asarray(Image.open(io.BytesIO(canvas.GetDrawingText())).convert("RGB"))
