"""Figures of generated molecules by their definitions, with RDKit: validity, uniqueness, novelty, internal diversity,
and the Fréchet ChemNet distance."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from narrows.data.molecule_notation import EXTRA
from narrows.errors import UserError
from narrows.tasks.measures.frechet_distance import frechet

RADIUS, BITS = 2, 1024
"""Of Morgan fingerprints, as MOSES has them."""
DIVERSE = 2000
"""Most molecules whose pairs are compared."""
LEAST = 2
"""Fewest molecules of which there is a covariance, or a pair."""


def require_packages() -> None:
    """Refuse to go on without RDKit and fcd.

    Raises:
        UserError: one of them is not installed.
    """
    _chemistry()
    _fcd()


def canonical(smiles: str) -> str | None:
    """The one SMILES that RDKit writes for this molecule; None where it is empty or no molecule (a wrong valence, a
    ring that does not close, no syntax).

    Raises:
        UserError: RDKit is not installed.
    """
    molecule = read_molecule(smiles)
    return None if molecule is None else str(_chemistry().MolToSmiles(molecule))


def read_molecule(smiles: str) -> Any:
    """RDKit's molecule, sanitised; None where the text is empty or describes none.

    Raises:
        UserError: RDKit is not installed.
    """
    chemistry = _chemistry()
    from rdkit.rdBase import BlockLogs

    with BlockLogs():
        molecule = chemistry.MolFromSmiles(smiles)
    return molecule if molecule is not None and molecule.GetNumAtoms() > 0 else None


def generated_figures(samples: Sequence[str], known: set[str]) -> dict[str, float]:
    """Of samples in SMILES, as "Molecular Sets (MOSES)" (Polykovskiy et al., 2020, https://arxiv.org/abs/1811.12823)
    defines them; NaN where there is nothing to count.

    - validity: share of samples that are molecules (`canonical`);
    - uniqueness: different molecules, as a share of the valid samples;
    - novelty: share of the different valid molecules that are not `known`;
    - diversity: see `internal_diversity`, of the valid samples.

    Args:
        known: the training molecules, canonical.

    Raises:
        UserError: RDKit is not installed.
    """
    valid = [found for found in map(canonical, samples) if found is not None]
    different = dict.fromkeys(valid)
    return {
        "validity": _share(len(valid), len(samples)),
        "uniqueness": _share(len(different), len(valid)),
        "novelty": _share(sum(molecule not in known for molecule in different), len(different)),
        "diversity": internal_diversity(valid),
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def internal_diversity(molecules: Sequence[str]) -> float:
    """One minus the mean Tanimoto similarity of Morgan fingerprints (radius 2, 1,024 bits) over all ordered pairs of
    the first 2,000 molecules, each with itself included: MOSES' IntDiv_1. NaN of fewer than two.

    Raises:
        UserError: RDKit is not installed.
    """
    rows = fingerprints(molecules[:DIVERSE])
    return 1 - float(tanimoto(rows, rows).mean()) if len(rows) >= LEAST else float("nan")


def tanimoto(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shared bits over bits of either, `[N, D], [M, D] -> [N, M]`; 0 where neither has a bit."""
    shared = first @ second.T
    either = first.sum(1)[:, None] + second.sum(1) - shared
    return np.divide(shared, either, out=np.zeros_like(shared), where=either > 0)


def fingerprints(molecules: Sequence[str]) -> NDArray[np.float32]:
    """Morgan fingerprints, `[N, 1024]` of 0 and 1: which neighbourhoods of two bonds a molecule has.

    "Extended-Connectivity Fingerprints" (Rogers and Hahn, 2010).

    Raises:
        UserError: RDKit is not installed.
    """
    _chemistry()
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    made = GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    rows = [made.GetFingerprintAsNumPy(read_molecule(molecule)) for molecule in molecules]
    return np.array(rows, np.float32).reshape(len(rows), BITS)


def chemnet_distance(samples: Sequence[str], reference: NDArray[np.float64]) -> float:
    """Squared Fréchet distance of Gaussians fitted to ChemNet's activations of valid molecules and to others
    `[M, 512]`; NaN where one has fewer than two. It falls with their number, so compare at equal numbers only.

    "Fréchet ChemNet Distance" (Preuer et al., 2018, https://arxiv.org/abs/1803.09518), by the package fcd, which brings
    the network.

    Raises:
        UserError: fcd is not installed.
    """
    if min(len(samples), len(reference)) < LEAST:
        return float("nan")
    # Rounding may take the distance of few molecules below 0.
    return max(0.0, frechet(torch.from_numpy(activations(samples)), torch.from_numpy(reference)))


def activations(molecules: Sequence[str]) -> NDArray[np.float64]:
    """ChemNet's, of valid molecules, `[N, 512]`.

    Raises:
        UserError: fcd is not installed.
    """
    fcd = _fcd()
    smiles = [found for found in map(canonical, molecules) if found is not None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        rows = fcd.get_predictions(_network(), smiles, n_jobs=0, device="cpu")
    return np.asarray(rows, np.float64)


@cache
def _network() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of a temporary directory that fcd does not close
        return _fcd().load_ref_model()


@cache
def _chemistry() -> Any:
    try:
        from rdkit import Chem  # an extra, and slow to import
    except ImportError as error:
        raise UserError(f"figures of molecules need the package rdkit: {EXTRA}") from error
    return Chem


@cache
def _fcd() -> Any:
    try:
        import fcd  # an extra, and slow to import
    except ImportError as error:
        raise UserError(f"the Fréchet ChemNet distance needs the package fcd: {EXTRA}") from error
    return fcd
