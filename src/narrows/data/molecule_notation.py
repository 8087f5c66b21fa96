"""Molecules as strings: SMILES and SELFIES, into each other and into tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any, Literal, get_args

from narrows.errors import UserError, nearest, require

Notation = Literal["smiles", "selfies"]
Units = Literal["characters", "atoms"]
EXTRA = "pip install 'narrows[molecules]'"
ATOMS = r"\[[^\]]*\]|Br|Cl|%\d{2}|."
"""A token of SMILES: an atom in brackets, an element of two letters, a ring number of two digits, or a character."""
POSSIBLE = r"\[[^\]]*\]|Br|Cl|%\d{2}|[A-Za-z0-9\[\]()=#$:/\\.+\-@%*]"
"""A token of SMILES or SELFIES, or a character of one."""
SYMBOLS = r"\[[^\]]*\]|\."
"""A token of SELFIES; a dot stands between two molecules."""


def require_notation(notation: str, units: str) -> None:
    """Refuse words that name no notation, or no tokens of one.

    Raises:
        UserError: names the option.
    """
    for option, value, choices in (("notation", notation, Notation), ("tokens", units, Units)):
        known = get_args(choices)
        require(value in known, f"source.{option}={value!r}: {nearest(str(value), known)}")


def first_word(text: str) -> str:
    """The molecule in a line or a cell: a name, or what CXSMILES add to it, stands behind a blank."""
    return (text.split(maxsplit=1) or [""])[0]


def split_tokens(text: str, notation: Notation, units: Units = "atoms") -> list[str]:
    """The tokens of a molecule, which joined give it back.

    Of SELFIES they are its symbols, whatever `units`: "Self-referencing embedded strings (SELFIES)" (Krenn et al.,
    2020, https://arxiv.org/abs/1905.13741). Of SMILES they are single `characters`, or the pieces that chemists read as
    one: `atoms` in brackets, Cl, Br, ring numbers of two digits, else characters.

    Raises:
        UserError: SELFIES with anything outside of brackets.
    """
    if notation == "selfies":
        symbols = re.findall(SYMBOLS, text)
        require("".join(symbols) == text, f"{text!r:.80} is no SELFIES: it is made of symbols in brackets, such as [C]")
        return symbols
    return list(text) if units == "characters" else re.findall(ATOMS, text)


def token_pattern(notation: Notation) -> str:
    """The regular expression of a token."""
    return SYMBOLS if notation == "selfies" else ATOMS


def notation_of(vocabulary: Sequence[str]) -> Notation:
    """The notation whose tokens these are: SELFIES where all stand in brackets."""
    tokens = [token for token in vocabulary if not token.startswith("<")]
    return "selfies" if all(re.fullmatch(SYMBOLS, token) for token in tokens) else "smiles"


def may_be_molecules(vocabulary: Sequence[str]) -> bool:
    """Whether these can be tokens of molecules, as far as their letters tell: no words, no blanks."""
    return all(re.fullmatch(POSSIBLE, token) for token in vocabulary if not token.startswith("<"))


def to_selfies(smiles: str) -> str:
    """The molecule in SELFIES.

    Raises:
        UserError: selfies is not installed, or this is a SMILES that it cannot write.
    """
    selfies = _selfies()
    try:
        return str(selfies.encoder(smiles))
    except selfies.EncoderError as error:
        raise UserError(f"{smiles!r:.80} cannot be written in SELFIES: {' '.join(str(error).split())}") from error


def to_smiles(text: str, notation: Notation) -> str:
    """The molecule in SMILES. Every string of SELFIES symbols is a molecule, perhaps an empty one.

    Raises:
        UserError: selfies is not installed, or the text is no SELFIES.
    """
    if notation == "smiles":
        return text
    selfies = _selfies()
    try:
        return str(selfies.decoder(text))
    except selfies.DecoderError as error:
        raise UserError(f"{text!r:.80} is no SELFIES: {' '.join(str(error).split())}") from error


def _selfies() -> Any:
    try:
        import selfies  # an extra, and slow to import
    except ImportError as error:
        raise UserError(f"SELFIES need the package selfies: {EXTRA}") from error
    return selfies


def no_molecules(smiles: Sequence[str]) -> list[str] | None:
    """Those of some texts that RDKit reads as no molecule; None where it is not installed."""
    if find_spec("rdkit") is None:
        return None
    from rdkit import Chem, rdBase  # an extra, and slow to import

    with rdBase.BlockLogs():
        return [text for text in smiles if Chem.MolFromSmiles(text) is None]


def no_symbols(symbols: Iterable[str]) -> list[str] | None:
    """Those of some symbols in brackets that SELFIES does not know; None where selfies is not installed."""
    if find_spec("selfies") is None:
        return None
    selfies = _selfies()
    found = []
    for symbol in symbols:
        try:
            selfies.decoder(symbol)
        except selfies.DecoderError:
            found.append(symbol)
    return found
