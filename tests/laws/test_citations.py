"""A paper that the maths cites can be opened from where it is cited."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import narrows

HOUSE = Path(narrows.__file__).parent
ROOMS = (
    *("types.py", "batches.py", "corruptions", "schedules.py", "layers", "inputs", "encoders", "decoders"),
    *("models", "bottlenecks", "losses", "likelihoods", "densities"),
)
CITED = re.compile(r'"([^"]+)"(?:,| \()\s?[A-Za-z][^()"]*?\d{4}')
"""A title in quotation marks, its authors and a year; the authors in brackets unless all of it is."""
WITHOUT_ADDRESS = {
    "Adaptive Deconvolutional Networks for Mid and High Level Feature Learning",
    "Contractive Auto-Encoders: Explicit Invariance During Feature Extraction",
    "Extracting and Composing Robust Features with Denoising Autoencoders",
    "Image Quality Assessment: From Error Visibility to Structural Similarity",
    "Language Models are Unsupervised Multitask Learners",
    "Learning Structured Output Representation using Deep Conditional Generative Models",
    "Multi-Scale Structural Similarity for Image Quality Assessment",
    "Product Quantization for Nearest Neighbor Search",
    "Reducing the Dimensionality of Data with Neural Networks",
    "Simulation of the von Mises Fisher distribution",
    "Some fundamental properties of speckle",
    "Sparse autoencoder",
    "Stacked Convolutional Auto-Encoders for Hierarchical Feature Extraction",
    "Stacked Denoising Autoencoders",
    "Understanding the difficulty of training deep feedforward neural networks",
    "VIME: Extending the Success of Self- and Semi-supervised Learning to Tabular Domain",
}
"""They are on no preprint server."""


def docstrings() -> Iterator[str]:
    for room in ROOMS:
        for path in [HOUSE / room] if room.endswith(".py") else sorted((HOUSE / room).glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                    yield " ".join(str(node.value.value).split())


def citations() -> Iterator[tuple[str, bool]]:
    """Every title, and whether an address stands beside its year (at most a section or an equation between)."""
    for text in docstrings():
        for match in CITED.finditer(text):
            yield match[1], "https://" in text[match.end() : match.end() + 40]


def test_every_citation_has_an_address_or_is_known_to_have_none() -> None:
    without = {title for title, addressed in citations() if not addressed}
    assert without == WITHOUT_ADDRESS


def test_citations_are_found() -> None:
    assert len(list(citations())) > 90
