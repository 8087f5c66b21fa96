"""The parts of a model that are exported, each a module from tensors to tensors.

Legend for shapes: B examples, T steps; `*shape` is the shape of one example, without the batch axis.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from narrows.inputs import MissingIndicator
from narrows.likelihoods.counts import CountLikelihood
from narrows.models import ConditionalAutoencoder
from narrows.models.autoencoder import Autoencoder
from narrows.types import Batch, Given

MOST_STEPS = 64
"""An autoregressive decoder of more steps is not exported: a graph holds as many copies of it."""
MEANINGS = {
    "x": "examples, scaled as the spec's value_range says and encoded as the run's data",
    "label": "the class of each example",
    "observed": "whether each value of x is there",
    "length": "the steps of each example, behind which x is padding",
    "covariates": "signals beside x that are not rebuilt",
    "total": "the library size of each example",
    "z": "the latent, without noise",
    "point": "what people look at: the mean of p(x|z), of tokens the likeliest",
    "parameters": "the likelihood's parameters, as the decoder gives them",
}
"""What the inputs and outputs of parts are."""


class Part(nn.Module):
    """A part of a model, called with what `examples` gives of a batch, by name.

    Args:
        model: in evaluation mode.
    """

    name: ClassVar[str]
    reads_z: ClassVar[bool] = False
    outputs: tuple[str, ...]

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model

    def examples(self, batch: Batch) -> dict[str, Tensor]:
        """The inputs for a batch of examples, by name."""
        model = self.model
        told: dict[str, Tensor | None] = {"z": model.encode(batch).point} if self.reads_z else {"x": batch.x}
        if isinstance(model, ConditionalAutoencoder):
            told["label"] = batch.label
        if model.spec.variable and not (self.reads_z and model.decoder.autoregressive):
            told["length"] = batch.length
        if self.reads_z:
            told["total"] = batch.total if isinstance(model.likelihood, CountLikelihood) else None
        else:
            told["covariates"] = batch.covariates if model.spec.covariates else None
            told["observed"] = self._observed(batch)
        # Copies, because of a view the graph would remember what it is a view of.
        return {name: tensor.clone() for name, tensor in told.items() if tensor is not None}

    def expected(self, batch: Batch) -> dict[str, Tensor]:
        """What the model itself gives for a batch of examples, by name."""
        raise NotImplementedError

    def obstacle(self) -> str | None:
        """Why it cannot be exported, if that is known before it is tried."""
        return None

    def _observed(self, batch: Batch) -> Tensor | None:
        if batch.observed is None and isinstance(self.model.input, MissingIndicator):
            return torch.ones_like(batch.x, dtype=torch.bool)
        return batch.observed

    def _loop(self) -> str | None:
        """Why a decoder that runs free cannot be exported."""
        decoder = self.model.decoder
        if not decoder.autoregressive:
            return None
        if self.model.spec.end is not None:
            return "its decoder feeds back its own tokens until the end mark, a loop whose length the data decide"
        steps = decoder.out_shape[-1]
        if steps > MOST_STEPS:
            return f"its decoder feeds back its own {steps:,} steps, of which a graph would hold a copy each"
        return None


class EncoderPart(Part):
    """`x [B, *shape]` to the noise-free latent, `[B, *latent_shape]`."""

    name = "encoder"
    outputs = ("z",)

    def forward(self, x: Tensor, **told: Any) -> Tensor:
        return self.model.encode(Batch(x, **told)).point

    def expected(self, batch: Batch) -> dict[str, Tensor]:
        return {"z": self.model.encode(batch).point}


class DecoderPart(Part):
    """`z [B, *latent_shape]` to the point of p(x|z), `[B, *shape]`, and the likelihood's parameters where all steps are
    decoded at once."""

    name, reads_z = "decoder", True

    def __init__(self, model: Autoencoder) -> None:
        super().__init__(model)
        self.outputs = ("point",) if model.decoder.autoregressive else ("point", "parameters")

    def forward(self, z: Tensor, **told: Any) -> Tensor | tuple[Tensor, Tensor]:
        given = Given(**told)
        if self.model.decoder.autoregressive:
            return self.model.point_at(z, given)
        parameters = self.model.params(z, given)
        likelihood = self.model.likelihood
        return likelihood.point(likelihood(parameters, given)), parameters

    def expected(self, batch: Batch) -> dict[str, Tensor]:
        z = self.model.encode(batch).point
        told = {"point": self.model.point_at(z, batch.given)}
        return told if self.model.decoder.autoregressive else told | {"parameters": self.model.params(z, batch.given)}

    def obstacle(self) -> str | None:
        if self.model.needs_input:
            return f"{type(self.model).__name__} needs its input besides the latent"
        return self._loop()


class ReconstructionPart(Part):
    """`x [B, *shape]` to its reconstruction, `[B, *shape]`: the point of p(x|z) at the noise-free latent."""

    name = "reconstruction"
    outputs = ("point",)

    def forward(self, x: Tensor, **told: Any) -> Tensor:
        batch = Batch(x, **told)
        return self.model.point_at(self.model.encode(batch).point, batch.given)

    def expected(self, batch: Batch) -> dict[str, Tensor]:
        return {"point": self.model.reconstruct(batch)}

    def obstacle(self) -> str | None:
        return self._loop()


PARTS: dict[str, type[Part]] = {part.name: part for part in (EncoderPart, DecoderPart, ReconstructionPart)}
