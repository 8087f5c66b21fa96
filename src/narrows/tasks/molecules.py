"""Task molecules: what a model rebuilds, invents, and turns into molecules of another property."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.compare.figure_names import MODEL
from narrows.data.molecule_notation import Notation, may_be_molecules, notation_of, to_smiles
from narrows.errors import nearest, require, require_at_least
from narrows.models.autoencoder import Autoencoder
from narrows.random import derive, seed_default
from narrows.tasks.base import Task, TaskContext
from narrows.tasks.classics.ngrams import NGramSampler
from narrows.tasks.classics.plain_language_model import PlainLanguageModel
from narrows.tasks.figure_table import FigureTable, declared
from narrows.tasks.likelihood import Likelihood
from narrows.tasks.measures import chosen_rows
from narrows.tasks.measures.molecule_figures import (
    activations,
    canonical,
    chemnet_distance,
    generated_figures,
    require_packages,
)
from narrows.tasks.measures.property_walk import Direction, properties
from narrows.tasks.measures.standard_errors import with_error
from narrows.types import Batch, DataSpec

log = logging.getLogger(__name__)

Decoding = Literal["likeliest", "drawn"]
CLASSICS = ("ngram", "no_latent", "train")
ROWS = 1000
"""Molecules that run free together."""
WALK = np.linspace(-3, 3, 7)
"""Deviations along a property's direction."""
SHOWN = 6
LISTED = 40
Codes = NDArray[np.floating]


class Molecules(Task):
    """Judges a model of molecules, tokens of SMILES or SELFIES, on the test split, with RDKit.

    - `test/molecules/reconstruction`: the share of test molecules that come back token for token, **running free** from
      the noise-free latent; `reconstruction_teacher_forced`, where each token is told the true ones before it;
      `same_molecule`, those that come back as the same molecule, in whatever spelling.
    - `test/molecules/nll`: -log p(x) in nats per molecule, its end included, by importance samples; of variational
      models alone.
    - Of samples: `validity`, `uniqueness`, `novelty`, `diversity` and `fcd`, the Fréchet ChemNet distance of the valid
      ones to test molecules (`tasks.measures.molecule_figures`). SELFIES are valid by construction: their validity says
      nothing of the model, but that it wrote more than nothing.
    - `test/molecules/PROPERTY_r2`, `PROPERTY_gain`: a linear direction of the latent that tells logP or QED
      (`tasks.measures.property_walk`), and by how much the property rises from one end of it to the other, from -3 to 3
      deviations, in the mean over walks through test molecules whose ends are molecules.

    Beside it stand, with the same numbers of samples: an n-gram of tokens (`ngram`), the same decoder trained without a
    latent (`no_latent`), and training molecules themselves (`train`), the floor of the distance. Writes samples,
    reconstructions, and the picture `molecules_PROPERTY` of walks.

    Args:
        samples: how many.
        decoding: of a drawn latent, the likeliest token at every step, or a drawn one.
        max_rows: test molecules that are rebuilt; a seeded subset, null for all.
        importance: samples for each molecule's -log p(x), of at most 500 molecules.
        ngram: tokens that are counted together.
        classics: ngram, no_latent, train.
        epochs: of the training of `no_latent`, see `tasks.classics.plain_language_model`.

    Raises:
        UserError: an unknown word, or a number that is too small.
    """

    name = "molecules"
    figures = declared(("reconstruction",), heading="molecules")

    def __init__(
        self,
        *,
        samples: int = 5000,
        decoding: Decoding = "likeliest",
        max_rows: int | None = 5000,
        importance: int = 100,
        ngram: int = 6,
        classics: Sequence[str] = CLASSICS,
        epochs: int = 3,
    ) -> None:
        for name in classics:
            require(name in CLASSICS, f"task molecules: no classic '{name}': {nearest(name, CLASSICS)}")
        known = get_args(Decoding)
        require(decoding in known, f"task molecules: decoding={decoding!r}: {nearest(str(decoding), known)}")
        numbers = {"samples": samples, "max_rows": max_rows, "importance": importance, "ngram": ngram}
        require_at_least(1, "task molecules:", **numbers, epochs=epochs)
        self.samples, self.decoding, self.max_rows, self.importance = samples, decoding, max_rows, importance
        self.ngram, self.classics, self.epochs = ngram, list(classics), epochs

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        if spec.kind != "tokens" or spec.end is None:
            return "it judges molecules, tokens with an end mark (datamodule=molecules)"
        if not may_be_molecules(spec.vocabulary or []):
            return "these tokens are no parts of SMILES or SELFIES (datamodule=molecules)"
        return None

    def check(self, spec: DataSpec) -> None:
        """Refuse to judge molecules where a package is missing.

        Raises:
            UserError: says how to install it.
        """
        if spec.kind == "tokens":
            require_packages()

    def run(self, context: TaskContext) -> FigureTable:
        data = _Molecules(context, self.max_rows)
        require(
            any(canonical(data.smiles(text)) for text in data.test[:100]),
            "none of the first test examples is a molecule: the data must be SMILES or SELFIES (datamodule=molecules)",
        )
        found = FigureTable(self.name)
        found.add(self._rebuilt(context, data))
        if context.model.bounds_evidence:
            found.add(self._nll(context))
        samples = self._samples(context, data)
        for name, texts in samples.items():
            found.add(self._invented(texts, data), name)
        if "no_latent" in samples:
            found.add(self._alone_nats(context), "no_latent")
        found.add(self._walks(context, data))
        return found

    def _rebuilt(self, context: TaskContext, data: _Molecules) -> dict[str, float]:
        model, free, told = context.model, [], []
        for batch in data.batches():
            for part in chosen_rows.parts(batch, ROWS):
                z = model.encode(part).point
                free += data.texts(model.point_at(z))
                told += data.texts(model.likelihood.point(model.decode(z, part)))
        exact = np.array([made == text for made, text in zip(free, data.test, strict=True)], float)
        forced = np.array([made == text for made, text in zip(told, data.test, strict=True)], float)
        pairs = [(canonical(data.smiles(a)), canonical(data.smiles(b))) for a, b in zip(free, data.test, strict=True)]
        same = np.array([a is not None and a == b for a, b in pairs], float)
        lines = [f"| {text} | {made} |" for text, made in zip(data.test[:LISTED], free, strict=False)]
        table = ["| molecule | rebuilt, running free |", "|---|---|", *lines]
        context.write("molecules_reconstructions", "\n".join(table))
        return {
            **with_error("reconstruction", exact),
            "reconstruction_teacher_forced": float(forced.mean()),
            "same_molecule": float(same.mean()),
        }

    def _nll(self, context: TaskContext) -> dict[str, float]:
        judge = Likelihood(samples=self.importance)
        parts = [
            judge.negative_log_likelihood(context.model, part)
            for batch in chosen_rows.sampled(context, "test", chosen_rows.CHUNK, "molecules nll")
            for part in chosen_rows.parts(batch, 100)
        ]
        return with_error("nll", torch.cat(parts))

    def _samples(self, context: TaskContext, data: _Molecules) -> dict[str, list[str]]:
        """The samples of each method as texts; its own where the model has something to draw from."""
        found: dict[str, list[str]] = {}
        if context.model.generative:
            seed_default(context.seed, "molecules samples")
            model, draw = context.model, self.decoding == "drawn"
            found[MODEL] = data.drawn(lambda n: model.point_at(model.draw(n), draw=draw), self.samples)
            context.write("molecules_samples", "\n".join(f"- {text}" for text in found[MODEL][:LISTED]))
        source = np.random.default_rng(derive(context.seed, "molecules classics"))
        if "ngram" in self.classics:
            sampler = NGramSampler(data.train_tokens, self.ngram)
            found["ngram"] = ["".join(tokens) for tokens in sampler.sample(self.samples, source)]
        if "train" in self.classics:
            found["train"] = [data.train[row] for row in source.permutation(len(data.train))[: self.samples]]
        if "no_latent" in self.classics and context.model.decoder.autoregressive and context.untrained is not None:
            self._alone = _language_model(context, self.epochs)
            alone, zeros = self._alone.model, torch.zeros(ROWS, *self._alone.width, device=context.device)
            seed_default(context.seed, "molecules no latent")
            found["no_latent"] = data.drawn(lambda n: alone.point_at(zeros[:n], draw=True), self.samples)
        return found

    def _invented(self, texts: Sequence[str], data: _Molecules) -> dict[str, float]:
        smiles = [data.smiles(text) for text in texts]
        found = generated_figures(smiles, data.known)
        valid = [molecule for molecule in map(canonical, smiles) if molecule is not None]
        found["fcd"] = chemnet_distance(valid, data.reference)
        return found

    def _alone_nats(self, context: TaskContext) -> dict[str, float]:
        batches = chosen_rows.sampled(context, "test", chosen_rows.CHUNK, "molecules nll")
        return with_error("nll", torch.cat([self._alone.nats(batch) for batch in batches]))

    def _walks(self, context: TaskContext, data: _Molecules) -> dict[str, float]:
        codes, texts = data.codes("train", 4000)
        held, held_texts = data.codes("test", 1000)
        found: dict[str, float] = {}
        for name, measure in properties().items():
            values = [np.array([measure(data.smiles(text)) for text in part]) for part in (texts, held_texts)]
            direction = Direction.fit(codes, values[0], held, values[1])
            path = torch.from_numpy(direction.walk(held[:200], WALK)).to(context.device, torch.float32)
            latents = path.flatten(0, 1).unflatten(1, context.model.latent_shape)
            made = [canonical(data.smiles(text)) for text in data.texts(context.model.point_at(latents))]
            walks = [made[start : start + len(WALK)] for start in range(0, len(made), len(WALK))]
            gains = [measure(walk[-1]) - measure(walk[0]) for walk in walks if walk[0] and walk[-1]]
            found[f"{name}_r2"] = direction.r2
            found |= with_error(f"{name}_gain", np.array(gains)) if gains else {f"{name}_gain": float("nan")}
            _show(context, name, measure, walks)
        return found


def _language_model(context: TaskContext, epochs: int) -> PlainLanguageModel:
    """The decoder of a new model, trained on the training molecules without a latent."""
    assert context.untrained is not None
    train, validation = (Batch.cat(context.batches(split)) for split in ("train", "validation"))
    log.info("the decoder is trained without a latent, for %d epochs", epochs)
    model = context.untrained(context.seed).to(context.device)
    return PlainLanguageModel(model, epochs=epochs, seed=context.seed).fit(train, validation)


def _show(
    context: TaskContext, name: str, measure: Callable[[str], float], walks: Sequence[Sequence[str | None]]
) -> None:
    if context.directory is None:
        return
    from narrows.drawing.molecules import molecule_grid  # matplotlib is slow to import

    shown = sorted(walks, key=lambda walk: -sum(molecule is not None for molecule in walk))[:SHOWN]
    notes = [["" if molecule is None else f"{measure(molecule):.2f}" for molecule in walk] for walk in shown]
    heads = [f"{step:+.0f} sd" if step else "itself" for step in WALK]
    label = {"logp": "logP", "qed": "QED"}[name]
    context.show(f"molecules_{name}", molecule_grid(shown, f"Along the direction of {label}", notes, heads))


@dataclass
class _Molecules:
    """The molecules of each split as texts in the data's own notation."""

    context: TaskContext
    most: int | None

    @property
    def notation(self) -> Notation:
        return notation_of(self.context.spec.vocabulary or [])

    def smiles(self, text: str) -> str:
        return to_smiles(text, self.notation)

    def texts(self, ids: Tensor) -> list[str]:
        """The texts of token ids `[B, T]`, each up to its end mark; a row without one is read to its last token."""
        return ["".join(tokens) for tokens in self._cut(ids)]

    def _cut(self, ids: Tensor) -> list[list[str]]:
        vocabulary, end = self.context.spec.vocabulary or [], self.context.spec.end
        found = []
        for row in ids.tolist():
            stop = row.index(end) if end in row else len(row)
            found.append([vocabulary[number] for number in row[:stop]])
        return found

    def batches(self) -> Iterator[Batch]:
        return chosen_rows.sampled(self.context, "test", self.most, "molecules rows")

    def drawn(self, sampler: Callable[[int], Tensor], number: int) -> list[str]:
        parts = [min(ROWS, number - start) for start in range(0, number, ROWS)]
        return [text for part in parts for text in self.texts(sampler(part))]

    @cached_property
    def train_tokens(self) -> list[list[str]]:
        return [tokens for batch in self.context.batches("train") for tokens in self._cut(batch.truth)]

    @cached_property
    def train(self) -> list[str]:
        return ["".join(tokens) for tokens in self.train_tokens]

    @cached_property
    def test(self) -> list[str]:
        return [text for batch in self.batches() for text in self.texts(batch.truth)]

    @cached_property
    def known(self) -> set[str]:
        """The training molecules, canonical."""
        return {found for text in self.train if (found := canonical(self.smiles(text))) is not None}

    @cached_property
    def reference(self) -> NDArray[np.float64]:
        """ChemNet's activations of test molecules."""
        return activations([self.smiles(text) for text in self.test])

    def codes(self, split: str, most: int) -> tuple[Codes, list[str]]:
        """Noise-free latents `[N, K]` and the texts of a seeded subset of a split, whose molecules are valid."""
        codes, texts = [], []
        for batch in chosen_rows.sampled(self.context, split, most, "molecules codes"):
            codes.append(self.context.model.embed(batch).cpu().double().numpy())
            texts += self.texts(batch.truth)
        valid = np.array([canonical(self.smiles(text)) is not None for text in texts])
        return np.concatenate(codes)[valid], [text for text, right in zip(texts, valid, strict=True) if right]
