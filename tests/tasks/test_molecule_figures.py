"""Figures of molecules on cases whose values are known, and the n-gram sampler."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings

import numpy as np
import pytest

from narrows.data.molecule_notation import split_tokens, to_selfies, to_smiles
from narrows.errors import UserError
from narrows.tasks.classics.ngrams import NGramSampler
from narrows.tasks.measures.molecule_figures import (
    activations,
    canonical,
    chemnet_distance,
    fingerprints,
    generated_figures,
    internal_diversity,
    tanimoto,
)

pytest.importorskip("rdkit")
pytest.importorskip("selfies")
MOLECULES = ["CCO", "c1ccccc1", "CC(=O)O", "C#N", "CC(C)Cl", "N#CC1CC1", "OCC1CO1", "CN1CC1=O"]


def test_a_molecule_has_one_canonical_form_and_others_none() -> None:
    assert canonical("OCC") == canonical("C(O)C") == "CCO"
    # Five bonds of carbon, a ring that does not close, no syntax, nothing.
    assert [canonical(text) for text in ("C(C)(C)(C)(C)C", "C1CC", "C(", "")] == [None] * 4


def test_figures_of_samples_are_the_shares_that_were_put_in() -> None:
    samples = ["CCO", "OCC", "CCN", "C1CC", "", "c1ccccc1"]
    found = generated_figures(samples, known={"CCO"})
    assert found["validity"] == pytest.approx(4 / 6)
    assert found["uniqueness"] == pytest.approx(3 / 4)
    assert found["novelty"] == pytest.approx(2 / 3)


def test_of_no_valid_sample_the_other_shares_are_not_defined() -> None:
    found = generated_figures(["C(", ""], known=set())
    assert found["validity"] == 0
    assert all(math.isnan(found[name]) for name in ("uniqueness", "novelty", "diversity"))


def test_diversity_is_that_of_the_similarities() -> None:
    assert internal_diversity(["CCO"] * 5) == pytest.approx(0, abs=1e-6)
    from rdkit import Chem, DataStructs
    from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

    made = GetMorganGenerator(radius=2, fpSize=1024)
    prints = [made.GetFingerprint(Chem.MolFromSmiles(smiles)) for smiles in MOLECULES]
    slow = [DataStructs.TanimotoSimilarity(a, b) for a in prints for b in prints]
    assert internal_diversity(MOLECULES) == pytest.approx(1 - float(np.mean(slow)), abs=1e-6)
    rows = fingerprints(MOLECULES)
    assert np.diag(tanimoto(rows, rows)) == pytest.approx(np.ones(len(rows)))


def test_the_chemnet_distance_is_0_of_the_same_set_and_grows_with_what_differs() -> None:
    fcd = pytest.importorskip("fcd")
    alcohols, chlorides = [f"{'C' * n}O" for n in range(1, 9)], [f"{'C' * n}(Cl)(Cl)Cl" for n in range(1, 9)]
    assert chemnet_distance(alcohols, activations(alcohols[::-1])) == pytest.approx(0, abs=1e-3)
    near = chemnet_distance(alcohols[:7], activations(alcohols))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert near == pytest.approx(fcd.get_fcd(alcohols[:7], alcohols), rel=1e-2, abs=1e-3)
    assert 0 < near < chemnet_distance(chlorides, activations(alcohols)) / 4
    assert math.isnan(chemnet_distance(["C"], activations(alcohols)))


def test_tokens_joined_are_the_molecule() -> None:
    assert split_tokens("C[C@H](Cl)BrN%12", "smiles") == ["C", "[C@H]", "(", "Cl", ")", "Br", "N", "%12"]
    assert split_tokens("CCl", "smiles", "characters") == ["C", "C", "l"]
    for smiles in MOLECULES:
        for notation, text in (("smiles", smiles), ("selfies", to_selfies(smiles))):
            assert "".join(split_tokens(text, notation)) == text
    with pytest.raises(UserError, match=r"no SELFIES.*\[C\]"):
        split_tokens("CCO", "selfies")


def test_selfies_are_the_same_molecule_and_valid_whatever_their_symbols() -> None:
    for smiles in MOLECULES:
        assert canonical(to_smiles(to_selfies(smiles), "selfies")) == canonical(smiles)
    symbols = sorted({symbol for smiles in MOLECULES for symbol in split_tokens(to_selfies(smiles), "selfies")})
    source = np.random.default_rng(0)
    made = [to_smiles("[C]" + "".join(source.choice(symbols, 12)), "selfies") for _ in range(50)]
    assert generated_figures(made, set())["validity"] == 1
    with pytest.raises(UserError, match="cannot be written in SELFIES"):
        to_selfies("C1CC")


def test_an_n_gram_sampler_draws_what_followed_as_often_as_it_did() -> None:
    sampler = NGramSampler(["ab", "ab", "ab", "ac"], order=2)
    drawn = ["".join(made) for made in sampler.sample(4000, np.random.default_rng(0))]
    assert set(drawn) == {"ab", "ac"}
    assert drawn.count("ab") / 4000 == pytest.approx(0.75, abs=0.03)
    assert sampler.log_probability("ab") == pytest.approx(math.log(0.75))
    assert sampler.log_probability("ba") == -math.inf


def test_an_n_gram_s_probabilities_are_those_of_its_samples() -> None:
    # Runs of two cross: "xa" + "ay" make "xay", which was never there.
    sampler = NGramSampler(["xay", "xay", "zaw"], order=2)
    drawn = ["".join(made) for made in sampler.sample(6000, np.random.default_rng(1))]
    for text in set(drawn):
        assert drawn.count(text) / 6000 == pytest.approx(math.exp(sampler.log_probability(text)), abs=0.03)
    assert "xaw" in drawn
    assert sum(math.exp(sampler.log_probability(text)) for text in set(drawn)) == pytest.approx(1)


def test_samples_of_long_runs_are_the_training_sequences() -> None:
    texts = ["abcab", "bcabb"]
    drawn = NGramSampler(texts, order=6).sample(50, np.random.default_rng(0))
    assert {"".join(made) for made in drawn} == set(texts)


@pytest.mark.parametrize(
    ("package", "code"),
    [
        ("rdkit", "from narrows.tasks.measures.molecule_figures import canonical; canonical('C')"),
        ("fcd", "from narrows.tasks.measures.molecule_figures import chemnet_distance as f; f(['C']*2, ['C']*2)"),
        ("fcd", "from narrows.tasks.measures.molecule_figures import require_packages as f; f()"),
        ("mido", "from narrows.data.midi_files import import_mido; import_mido()"),
        ("selfies", "from narrows.data.molecule_notation import to_selfies; to_selfies('C')"),
    ],
)
def test_a_package_that_is_absent_is_named_in_one_sentence(package: str, code: str) -> None:
    absent = (
        f"import sys; sys.modules[{package!r}] = None\nfrom narrows.errors import explained\nwith explained():\n {code}"
    )
    done = subprocess.run([sys.executable, "-c", absent], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("narrows: ")
    extra = "music" if package == "mido" else "molecules"
    assert f"package {package}: pip install 'narrows[{extra}]'" in done.stderr
    assert done.stderr.count("\n") == 1
