"""Whether the stages of a model go together in what their shapes do not tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from narrows.corruptions import Corruption
from narrows.errors import require
from narrows.inputs import Input
from narrows.layers.stages import Decoder, Encoder
from narrows.likelihoods.counts import CountLikelihood
from narrows.likelihoods.elementwise import Likelihood
from narrows.types import DataSpec, Shape


def require_topics(decoder: Decoder, likelihood: Likelihood, latent_alone: bool, model: str) -> None:
    """Refuse a decoder of topics where its logits are not read as shares, or what it reads are not topics.

    Args:
        decoder: that `writes_shares`.
        likelihood: what reads them.
        latent_alone: whether the decoder reads the latent and nothing beside it.
        model: the name of the model's class.

    Raises:
        UserError: says what would go together.
    """
    name = type(decoder).__name__
    require(
        isinstance(likelihood, CountLikelihood) and likelihood.parameters_per_value == 1,
        f"decoder {name} writes one logit for every word, whose softmax are shares of a document, which likelihood "
        f"{type(likelihood).__name__} does not read; use likelihood=multinomial on counts, or decoder=mlp",
    )
    require(
        latent_alone,
        f"decoder {name} takes every value that it reads for a topic, and model {model} puts others beside the latent; "
        "use decoder=mlp, or model=autoencoder",
    )


def reads_parts(builder: Callable[..., Any]) -> bool:
    """Whether a builder is of a stage of multi-modal data."""
    return bool(getattr(getattr(builder, "func", builder), "reads_parts", False))


def layout_of(spec: DataSpec) -> dict[str, Shape] | None:
    """The shape of each part of an example, by name; None where the data have no parts."""
    return None if spec.parts is None else {part.name: tuple(part.shape) for part in spec.parts}


def require_experts(encoder: Encoder, bottleneck: Callable[..., Any]) -> None:
    """Refuse an encoder and a bottleneck of which only one is of parts.

    Raises:
        UserError: names both.
    """
    name = getattr(getattr(bottleneck, "func", bottleneck), "__name__", "")
    require(
        encoder.reads_parts == reads_parts(bottleneck),
        f"bottleneck {name} and encoder {type(encoder).__name__} do not go together: an expert for each part is what "
        "encoder=parts gives, and what bottleneck=poe, moe and mopoe read",
    )


def refuse_fixed_length(
    corruption: Corruption, input: Input, encoder: Encoder, decoder: Decoder, likelihood: Likelihood
) -> None:
    """Refuse a stage that takes examples of one length, of a model whose examples differ.

    Raises:
        UserError: names it.
    """
    takers = {
        "corruption": (corruption, corruption.takes_variable),
        "input": (input, input.takes_variable),
        "encoder": (encoder, encoder.reads_length),
        "decoder": (decoder, decoder.reads_length),
        "likelihood": (likelihood, likelihood.takes_variable),
    }
    for kind, (stage, takes) in takers.items():
        require(
            takes,
            f"{kind} {type(stage).__name__} takes examples of one length, but those of these data differ; use another "
            f"{kind}, or data whose examples are cut or padded to one length",
        )
