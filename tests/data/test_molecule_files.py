"""Molecules read from files, as tokens of SMILES and SELFIES."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from piano_and_molecule_files import MOLECULES, write_molecules

from narrows.data import DataModule, Molecules
from narrows.data.molecule_notation import notation_of, token_pattern
from narrows.errors import UserError

pytest.importorskip("selfies")


def texts(source: Molecules) -> list[str]:
    """The training molecules, decoded from their ids."""
    contents = source.load()
    assert contents.tokeniser is not None
    store = contents.train.x
    return [contents.tokeniser.decode(store.row(row).tolist()) for row in range(len(store))]


@pytest.mark.parametrize("tokens", ["atoms", "characters"])
def test_ids_are_the_molecules_whatever_their_tokens(tmp_path: Path, tokens: Any) -> None:
    source = Molecules(str(write_molecules(tmp_path / "m.csv", 1)), tokens=tokens)
    assert texts(source) == MOLECULES
    tokeniser = source.load().tokeniser
    assert tokeniser is not None
    assert tokeniser.vocabulary[0] == "<end>"
    assert ("Cl" in tokeniser.vocabulary) == (tokens == "atoms")
    for text in MOLECULES:
        assert tokeniser.decode(tokeniser.encode(text)) == text
        assert tokeniser.encode(text)[-1] == 0


def test_selfies_are_made_of_smiles_and_read_as_they_are(tmp_path: Path) -> None:
    from rdkit import Chem
    from selfies import decoder

    path = write_molecules(tmp_path / "m.csv", 1)
    found = texts(Molecules(str(path), notation="selfies"))
    assert [Chem.CanonSmiles(decoder(text)) for text in found] == [Chem.CanonSmiles(text) for text in MOLECULES]
    (tmp_path / "m.selfies").write_text("\n".join(found))
    assert texts(Molecules(str(tmp_path / "m.selfies"), notation="selfies", written="selfies")) == found
    back = texts(Molecules(str(tmp_path / "m.selfies"), written="selfies"))
    assert [Chem.CanonSmiles(text) for text in back] == [Chem.CanonSmiles(text) for text in MOLECULES]


def test_a_line_is_a_molecule_and_perhaps_its_name(tmp_path: Path) -> None:
    path = tmp_path / "m.smi.gz"
    path.write_bytes(gzip.compress(b"CCO ethanol\n\nC[NH3+]\tmethylammonium\n"))
    assert texts(Molecules(str(path))) == ["CCO", "C[NH3+]"]


def test_what_selfies_cannot_say_is_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "m.smi"
    path.write_text("CCO\nC1CC\n")
    contents = Molecules(str(path), notation="selfies").load()
    assert len(contents.train) == 1
    assert "1 that cannot be told in it left out" in contents.reading[0]
    assert "valid by construction" in contents.reading[0]
    assert "valid by construction" not in Molecules(str(path)).load().reading[0]


def test_parts_of_their_own_files_share_an_alphabet(tmp_path: Path) -> None:
    for name, text in {"train": "CCO", "valid": "CCN", "test": "CBr"}.items():
        (tmp_path / f"{name}.smi").write_text(text)
    from narrows.data import HeldOutMolecules

    source = Molecules(
        str(tmp_path / "train.smi"),
        validation_path=str(tmp_path / "valid.smi"),
        test=HeldOutMolecules(path=str(tmp_path / "test.smi")),
    )
    data = DataModule(source, validation="auto")
    data.setup()
    assert data.spec.vocabulary == ["<end>", "C", "Br", "N", "O"]
    assert (data.spec.kind, data.spec.shape, data.spec.end, data.spec.variable) == ("tokens", (4,), 0, True)
    (batch,) = data.ordered_loader("test")
    assert batch.x.tolist() == [[1, 2, 0]]
    assert data.tokeniser is not None
    assert data.part("test").names == ["CBr"]


def test_the_notation_is_seen_in_the_tokens() -> None:
    assert notation_of(["<end>", "[C]", "[=O]", "."]) == "selfies"
    assert notation_of(["<end>", "C", "[NH3+]"]) == "smiles"
    assert token_pattern("smiles") != token_pattern("selfies")


BROKEN = {
    "notation": ({"notation": "smile"}, "did you mean 'smiles'"),
    "tokens": ({"tokens": "atom"}, "did you mean 'atoms'"),
    "column": ({"column": "smile"}, "has no 'smile': did you mean 'smiles'"),
    "symbols": ({"notation": "selfies", "written": "selfies"}, "is no SELFIES"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_mistakes_are_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    options, said = BROKEN[name]
    with pytest.raises(UserError, match=said):
        Molecules(str(write_molecules(tmp_path / "m.csv", 1)), **options).load()


def test_a_symbol_that_selfies_does_not_know_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("selfies")
    (tmp_path / "m.selfies").write_text("[C][O].[C]\n[C][Foo][Foo]\n")
    with pytest.raises(UserError, match=r"molecule 1 of .*m.selfies has the symbol '\[Foo\]', which is no SELFIES"):
        Molecules(str(tmp_path / "m.selfies"), notation="selfies", written="selfies").load()


def test_a_file_without_molecules_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.smi").write_text("\n")
    with pytest.raises(UserError, match="holds no molecule"):
        Molecules(str(tmp_path / "m.smi")).load()


def test_texts_that_are_no_molecules_are_said_and_a_file_of_them_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("rdkit")
    path = tmp_path / "m.smi"
    path.write_text("CCO\n  \nC1CC\nCC\nc1ccccc1\n")
    assert len(Molecules(str(path)).load().train) == 4
    assert "of 4 texts of" in caplog.text
    assert "1 are no SMILES of a molecule, such as 'C1CC'" in caplog.text
    path.write_text("hello there\nworld\n")
    with pytest.raises(UserError, match=r"2 are no SMILES of a molecule, such as 'hello': is another column"):
        Molecules(str(path)).load()
    path.write_text("\n \n")
    with pytest.raises(UserError, match="holds no molecules"):
        Molecules(str(path)).load()
