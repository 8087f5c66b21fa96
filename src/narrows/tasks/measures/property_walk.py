"""Walks through a latent space along which a property of molecules rises: a direction fitted by ridge regression."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from narrows.tasks.measures.molecule_figures import read_molecule

Matrix = NDArray[np.floating]


def properties() -> dict[str, Callable[[str], float]]:
    """Of valid SMILES, by RDKit: logP, the logarithm of how much better a molecule dissolves in octanol than in water
    ("Prediction of Physicochemical Parameters by Atomic Contributions", Wildman and Crippen, 1999), and QED, how much
    it is like a drug ("Quantifying the chemical beauty of drugs", Bickerton et al., 2012).

    Raises:
        UserError: RDKit is not installed.
    """
    read_molecule("C")
    from rdkit.Chem import QED
    from rdkit.Chem.rdMolDescriptors import CalcCrippenDescriptors

    return {
        "logp": lambda smiles: float(CalcCrippenDescriptors(read_molecule(smiles))[0]),
        "qed": lambda smiles: float(QED.qed(read_molecule(smiles))),
    }


@dataclass
class Direction:
    """A linear prediction `w z` of a property from codes `[N, K]`, and the way through the codes along which it rises.

    The way is `S w`, S the covariance of the codes, and not w: so codes move together as those of molecules with a
    higher property do, and latents that hardly vary, which the decoder does not read, hardly move.
    """

    weights: Matrix
    """w, `[K]`."""
    way: Matrix
    """`[K]`, along which the prediction rises by one standard deviation of its values at training codes."""
    r2: float
    """Share of the property's variance that it tells, of codes that it was not fitted to."""

    @classmethod
    def fit(cls, codes: Matrix, values: Matrix, held_codes: Matrix, held_values: Matrix) -> Direction:
        """By ridge regression on standardised codes, with a penalty of 1."""
        scale = np.maximum(codes.std(0), 1e-6)
        ridge = Ridge(alpha=1.0).fit(codes / scale, values)
        weights = ridge.coef_ / scale
        way = np.cov(codes.T).reshape(len(weights), -1) @ weights
        deviation = max(float(np.sqrt(weights @ way)), 1e-12)
        return cls(weights, way / deviation, float(ridge.score(held_codes / scale, held_values)))

    def walk(self, start: Matrix, steps: Matrix) -> Matrix:
        """Codes at `steps [S]` deviations from `start [N, K]`, `[N, S, K]`; the predicted property rises evenly."""
        return start[:, None] + steps[None, :, None] * self.way
