"""Whether the stages of a model go together in what their shapes do not tell."""

from __future__ import annotations

from narrows.corruptions import Corruption
from narrows.errors import require
from narrows.inputs import Input
from narrows.layers.stages import Decoder, Encoder
from narrows.likelihoods.counts import CountLikelihood
from narrows.likelihoods.elementwise import Likelihood


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
