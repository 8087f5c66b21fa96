"""Task molecules: figures of models that are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import run_in_process
from piano_and_molecule_files import MOLECULES, readme_command, write_molecules
from tasks.sequence_standins import context_of, copying

from narrows.bottlenecks import Gaussian
from narrows.corruptions import NoCorruption
from narrows.data import HeldOutMolecules
from narrows.data import Molecules as MoleculeSource
from narrows.decoders import AutoregressiveGRUDecoder
from narrows.encoders import GRUEncoder
from narrows.errors import UserError
from narrows.inputs import Embedding
from narrows.likelihoods import CategoricalLikelihood
from narrows.models.autoencoder import Autoencoder
from narrows.models.stages import Stages
from narrows.tasks.base import TaskContext, run_tasks
from narrows.tasks.measures.property_walk import Direction, properties
from narrows.tasks.molecules import Molecules
from narrows.types import Batch, DataSpec

pytest.importorskip("rdkit")
pytest.importorskip("fcd")


def recurrent(spec: DataSpec) -> Autoencoder:
    return Autoencoder(
        spec, Stages(GRUEncoder, Gaussian, AutoregressiveGRUDecoder, CategoricalLikelihood, NoCorruption, Embedding)
    )


def figures(context: TaskContext, **options: object) -> dict[str, float]:
    few = {"samples": 20, "importance": 2, "classics": ["ngram", "train"]}
    return run_tasks({"molecules": Molecules(**(few | options))}, context)


def test_a_model_that_copies_rebuilds_every_molecule(tmp_path: Path) -> None:
    context = context_of(MoleculeSource(str(write_molecules(tmp_path / "m.csv"))), copying, tmp_path)
    found = figures(context)
    assert context.warnings == []
    names = ("reconstruction", "reconstruction_teacher_forced", "same_molecule")
    assert [found[f"test/molecules/{name}"] for name in names] == [1, 1, 1]
    assert "test/molecules/validity" not in found, "a latent without a prior draws nothing"
    # The training molecules are molecules, and none of them is new.
    assert found["test/molecules/train/validity"] == 1
    assert found["test/molecules/train/novelty"] == 0
    assert found["test/molecules/ngram/validity"] > 0.5
    # Its latent has a value for every token at every place, which tell most of logP.
    assert found["test/molecules/logp_r2"] > 0.8
    written = (tmp_path / "figures" / "molecules_reconstructions.md").read_text()
    assert all(first.strip() == second.strip() for first, second in _cells(written))
    for name in ("logp", "qed"):
        assert (tmp_path / "figures" / f"molecules_{name}.png").is_file()


def _cells(table: str) -> list[list[str]]:
    return [line.strip("| ").split("|") for line in table.splitlines()[2:]]


def test_another_spelling_of_a_molecule_is_the_same_molecule_and_not_the_same_text(tmp_path: Path) -> None:
    (tmp_path / "m.smi").write_text("\n".join(["CCO", "OCC"] * 20))
    context = context_of(MoleculeSource(str(tmp_path / "m.smi")), copying)
    model, spec = context.model, context.spec
    assert spec.vocabulary is not None
    oxygen, carbon = spec.vocabulary.index("O"), spec.vocabulary.index("C")
    ways = torch.tensor([[carbon, carbon, oxygen, 0], [oxygen, carbon, carbon, 0]])
    plain = model.likelihood.point

    def spelt_otherwise(p_x):  # type: ignore[no-untyped-def]
        found = plain(p_x)
        return ways[(found[:, 0] == carbon).long()]

    model.likelihood.point = spelt_otherwise  # type: ignore[method-assign]
    found = figures(context, classics=[])
    assert found["test/molecules/reconstruction"] == 0
    assert found["test/molecules/same_molecule"] == 1


def test_a_direction_is_found_where_there_is_one_and_walked_evenly() -> None:
    source = np.random.default_rng(0)
    codes = source.normal(size=(500, 4)) * [1.0, 5.0, 0.1, 1.0]
    values = codes @ np.array([1.0, 0.0, 20.0, 0.0]) + 3
    direction = Direction.fit(codes[:400], values[:400], codes[400:], values[400:])
    assert direction.r2 > 0.99
    walked = direction.walk(codes[:3], np.array([-1.0, 0.0, 1.0]))
    np.testing.assert_allclose(walked[:, 1], codes[:3])
    predicted = walked @ np.array([1.0, 0.0, 20.0, 0.0])
    steps = np.diff(predicted, axis=1)
    assert (steps > 0).all()
    np.testing.assert_allclose(steps, steps.mean(), rtol=1e-6)
    np.testing.assert_allclose(steps.mean(), values.std(), rtol=0.05)
    # Nobody leaves the cloud of codes: a latent moves by its own deviation at most, however small that is.
    assert (np.abs(direction.way) <= 1.01 * codes.std(0)).all()
    none = Direction.fit(codes[:400], source.normal(size=400), codes[400:], source.normal(size=100))
    assert none.r2 < 0.1


def test_properties_are_those_of_rdkit() -> None:
    from rdkit import Chem
    from rdkit.Chem import QED, Crippen

    for smiles in MOLECULES:
        molecule = Chem.MolFromSmiles(smiles)
        assert properties()["logp"](smiles) == pytest.approx(Crippen.MolLogP(molecule))
        assert properties()["qed"](smiles) == pytest.approx(QED.qed(molecule))
    assert properties()["logp"]("CCCCCC") > properties()["logp"]("OCCO")


def test_the_decoder_without_a_latent_tells_the_shares_of_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "m.smi").write_text("\n".join(["CC", "CC", "CC", "CO"] * 10))
    context = context_of(MoleculeSource(str(tmp_path / "m.smi"), test=HeldOutMolecules(0.3)), recurrent)
    context.untrained = lambda seed: recurrent(context.spec)
    torch.manual_seed(0)
    found = figures(context, classics=["no_latent"], samples=300, epochs=25)
    twice = [len(set(row[:2].tolist())) == 1 for batch in context.batches("train") for row in batch.x]
    share = sum(twice) / len(twice)
    (batch,) = context.batches("test")
    told = np.array([share if row[0] == row[1] else 1 - share for row in batch.x])
    assert found["test/molecules/no_latent/nll"] == pytest.approx(-np.log(told).mean(), abs=0.2)
    assert found["test/molecules/no_latent/validity"] > 0.95


def test_other_data_are_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = DataSpec((5,), "tokens", 4, vocabulary=["a", "b"])
    assert "end mark" in str(Molecules().fits(plain, None))  # type: ignore[arg-type]
    words = DataSpec((5,), "tokens", 4, vocabulary=["<end>", "rose", "is"], end=0)
    assert "no parts of SMILES" in str(Molecules().fits(words, None))  # type: ignore[arg-type]
    monkeypatch.setattr(MoleculeSource, "_look_at", lambda *_: None)
    (tmp_path / "m.smi").write_text("\n".join(["Q%", "QQ"] * 20))
    context = context_of(MoleculeSource(str(tmp_path / "m.smi"), tokens="characters"), copying)
    assert figures(context) == {}
    assert "none of the first test examples is a molecule" in context.warnings[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"classics": ["grams"]}, "no classic 'grams'"),
        ({"decoding": "draw"}, "did you mean 'drawn'"),
        ({"ngram": 0}, "ngram"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Molecules(**options)


def test_one_s_own_molecules_are_trained_on_with_the_command_of_the_readme(tmp_path: Path) -> None:
    (tmp_path / "my.smi").write_text("\n".join(MOLECULES * 6))
    done = run_in_process(
        *readme_command("molecules"),
        *("datamodule.source.notation=selfies", "encoder.hidden=8", "decoder.hidden=8"),
        *("bottleneck.dim=2", "trainer.max_epochs=1", "callbacks=none", "~tasks.reconstruction", "~tasks.latent"),
        *("tasks.molecules.samples=10", "tasks.molecules.epochs=1"),
        *("tasks.molecules.importance=2", "density=gaussian", "hydra.run.dir=run"),
        cwd=tmp_path,
    )
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())
    names = {"reconstruction", "nll", "validity", "ngram/fcd", "no_latent/nll", "no_latent/validity", "logp_gain"}
    assert {f"test/molecules/{name}" for name in names} <= set(found)
    assert 0 <= found["test/molecules/validity"] <= 1


def test_a_batch_is_never_told_its_lengths_when_it_runs_free(tmp_path: Path) -> None:
    context = context_of(MoleculeSource(str(write_molecules(tmp_path / "m.csv"))), recurrent)
    (batch,) = context.batches("test")
    with torch.no_grad():
        context.model.eval()
        z = context.model.encode(batch).point
        free = context.model.point_at(z)
        same = context.model.point_at(z, Batch(batch.x, length=torch.ones_like(batch.length)).given)
    assert torch.equal(free, same)
