"""How to build every backbone, small, with each of its options away from the default at least once.

ENCODERS: name -> (builder, in_shape). DECODERS: name -> (builder, in_shape, out_shape, keywords).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from narrows.decoders.conv import ConvDecoder
from narrows.decoders.frames import FrameDecoder
from narrows.decoders.gru import AutoregressiveGRUDecoder, GRUDecoder
from narrows.decoders.lapped import LappedDecoder
from narrows.decoders.lstm import AutoregressiveLSTMDecoder, LSTMDecoder
from narrows.decoders.mlp import MLPDecoder
from narrows.decoders.parts import PartsDecoder
from narrows.decoders.resnet import ResNetDecoder
from narrows.decoders.tcn import AutoregressiveTCNDecoder, TCNDecoder
from narrows.decoders.topics import EmbeddedTopicDecoder, TopicDecoder
from narrows.decoders.transformer import AutoregressiveTransformerDecoder, TransformerDecoder
from narrows.decoders.unet import UNetDecoder
from narrows.decoders.vit import ViTDecoder
from narrows.encoders.conv import ConvEncoder
from narrows.encoders.features import FeatureEncoder
from narrows.encoders.frames import FrameEncoder
from narrows.encoders.gru import GRUEncoder
from narrows.encoders.lapped import LappedEncoder
from narrows.encoders.lstm import LSTMEncoder
from narrows.encoders.mlp import MLPEncoder
from narrows.encoders.parts import PartsEncoder
from narrows.encoders.resnet import ResNetEncoder
from narrows.encoders.tcn import TCNEncoder
from narrows.encoders.torchvision import TorchvisionEncoder
from narrows.encoders.transformer import TransformerEncoder
from narrows.encoders.unet import UNetEncoder
from narrows.encoders.vit import ViTEncoder
from narrows.layers.feature_networks import FeatureNetwork
from narrows.types import DataSpec, Shape

Build = Callable[..., Any]
IMAGE: Shape = (1, 9, 12)
EVEN: Shape = (2, 8, 12)
VOLUME: Shape = (1, 4, 5, 6)
"""Or video of four frames."""
SERIES: Shape = (2, 13)
SHORT: Shape = (2, 6)
SMALL = {"width": 8, "heads": 2, "depth": 1}
AR = {"spec": DataSpec(SHORT, "series", 9)}
WORDS = ["<end>", *"abcd"]
SENTENCES = {"spec": DataSpec((6,), "tokens", 9, vocabulary=WORDS, end=0, variable=True)}
RUNNING_TEXT = {"spec": DataSpec((6,), "tokens", 9, vocabulary=WORDS)}
OF_TOKENS: Shape = (len(WORDS), 6)


def half_open(stage: Build, *shapes: Any, **options: Any) -> Any:
    """A perceptron with a shortcut whose gate has left 0, where the layers behind it would learn nothing yet."""
    made = stage(*shapes, shortcut=True, **options)
    torch.nn.init.constant_(made.shortcut.gate, 0.5)
    return made


def awake(stage: Build, *shapes: Any, **options: Any) -> Any:
    """A lapped transform whose network has left 0, where what leads to its last layer would learn nothing yet."""
    made = stage(*shapes, **options)
    torch.nn.init.normal_(made.between.change[-1].weight, std=0.3)
    return made


ENCODERS: dict[str, tuple[Build, Shape]] = {
    "mlp": (partial(MLPEncoder, widths=[12, 8]), IMAGE),
    "mlp_batch": (partial(MLPEncoder, widths=[12, 8], norm="batch", activation="tanh"), SERIES),
    "mlp_layer": (partial(MLPEncoder, widths=[12], norm="layer", dropout=0.2, activation="elu"), (7,)),
    "mlp_flat": (partial(MLPEncoder, widths=[]), IMAGE),
    "mlp_gated": (partial(MLPEncoder, widths=[12, 8], activation="gated"), IMAGE),
    "mlp_gated_batch": (partial(MLPEncoder, widths=[12], activation="gated", norm="batch", dropout=0.2), SERIES),
    "mlp_shortcut": (partial(half_open, MLPEncoder, widths=[12, 8]), IMAGE),
    "conv": (partial(ConvEncoder, channels=[6, 8]), IMAGE),
    "conv_batch": (partial(ConvEncoder, channels=[6, 8], norm="batch", kernel_size=5), SERIES),
    "conv_even": (partial(ConvEncoder, channels=[6, 8], kernel_size=4), (2, 12, 16)),
    "conv_pool": (partial(ConvEncoder, channels=[6, 8], downsample="maxpool", flatten=False), IMAGE),
    "conv_group": (partial(ConvEncoder, channels=[8, 8], norm="group", downsample="maxpool"), SERIES),
    "conv_gdn": (partial(ConvEncoder, channels=[6, 8], activation="gdn", flatten=False), IMAGE),
    "conv_volume": (partial(ConvEncoder, channels=[6, 8], norm="group"), VOLUME),
    "frames": (
        partial(FrameEncoder, frame=partial(ConvEncoder, channels=[6]), time=partial(GRUEncoder, hidden=5)),
        VOLUME,
    ),
    "resnet": (partial(ResNetEncoder, channels=[8, 12], blocks=1), IMAGE),
    "resnet_gdn": (partial(ResNetEncoder, channels=[6], blocks=1, norm=None, activation="gdn"), SERIES),
    "resnet_past": (partial(ResNetEncoder, channels=[4, 8], blocks=1, space_to_channel=True), EVEN),
    "resnet_batch": (partial(ResNetEncoder, channels=[6, 8], blocks=2, norm="batch", flatten=False), SERIES),
    "resnet_plain": (partial(ResNetEncoder, channels=[6], blocks=1, norm=None, activation="silu"), SERIES),
    "lstm": (partial(LSTMEncoder, hidden=6), SERIES),
    "lstm_deep": (partial(LSTMEncoder, hidden=4, layers=2, bidirectional=True, dropout=0.3), SERIES),
    "gru": (partial(GRUEncoder, hidden=4, layers=2, bidirectional=True), SERIES),
    "gru_frames": (partial(GRUEncoder, hidden=4, bidirectional=True, most_steps=5), SERIES),
    "lapped": (partial(awake, LappedEncoder, hop=4, width=6, units=1), (2, 12)),
    "lapped_flat": (
        partial(awake, LappedEncoder, hop=2, width=5, units=2, kernel_size=5, activation="silu", flatten=True),
        SHORT,
    ),
    "tcn": (partial(TCNEncoder, channels=[6, 4], dropout=0.2), SERIES),
    "tcn_steps": (partial(TCNEncoder, channels=[6, 4], pool="steps"), SERIES),
    "tcn_causal": (
        partial(TCNEncoder, channels=[8], kernel_size=5, causal=True, time_features=0, pool="last", checkpointing=True),
        SERIES,
    ),
    "transformer": (partial(TransformerEncoder, **SMALL, dropout=0.2), SERIES),
    "transformer_mean": (
        partial(TransformerEncoder, width=4, heads=1, depth=2, pool="mean", checkpointing=True),
        SHORT,
    ),
    "unet": (partial(UNetEncoder, channels=[6, 8]), IMAGE),
    "unet_attention": (partial(UNetEncoder, channels=[8, 8], attention=True, flatten=False), SERIES),
    "unet_batch": (partial(UNetEncoder, channels=[6, 4], norm="batch", activation="relu", attention=True), IMAGE),
    "vit": (partial(ViTEncoder, patch=3, **SMALL), IMAGE),
    "vit_pooled": (partial(ViTEncoder, patch=3, **SMALL, dropout=0.2, positions="learnt", pool="mean"), IMAGE),
    "vit_latents": (partial(ViTEncoder, patch=3, **SMALL, latents=5), IMAGE),
    "vit_series": (partial(ViTEncoder, patch=2, width=4, heads=1, depth=2), SHORT),
    "parts": (
        partial(
            PartsEncoder,
            layout={"image": IMAGE, "words": (7,)},
            each={"image": partial(ConvEncoder, channels=[4, 5])},
            default=partial(MLPEncoder, widths=[6]),
        ),
        (115,),
    ),
    "torchvision": (partial(TorchvisionEncoder), (1, 9, 12)),
    "features": (partial(FeatureEncoder, network=partial(FeatureNetwork, layers=["stem"]), halvings=1), IMAGE),
    "torchvision_frozen": (partial(TorchvisionEncoder, freeze=True, normalise=True), (3, 9, 12)),
}

DECODERS: dict[str, tuple[Build, Shape, Shape, dict[str, Any]]] = {
    "mlp": (partial(MLPDecoder, widths=[8, 12]), (5,), IMAGE, {}),
    "mlp_batch": (partial(MLPDecoder, widths=[8, 12], norm="batch", activation="tanh"), (5, 3), SERIES, {}),
    "mlp_layer": (partial(MLPDecoder, widths=[12], norm="layer", dropout=0.2), (5,), (7,), {}),
    "mlp_flat": (partial(MLPDecoder, widths=[]), (5,), IMAGE, {}),
    "mlp_gated": (partial(MLPDecoder, widths=[8, 12], activation="gated", norm="layer"), (5,), IMAGE, {}),
    "mlp_shortcut": (partial(half_open, MLPDecoder, widths=[8, 12]), (5,), IMAGE, {}),
    "mlp_unit": (partial(MLPDecoder, widths=[8], unit_norm=True), (5,), IMAGE, {}),
    "topics": (partial(TopicDecoder), (5,), (7,), {}),
    "topics_plain": (partial(TopicDecoder, norm=False, dropout=0.2), (5,), (7,), {}),
    "embedded_topics": (partial(EmbeddedTopicDecoder, width=4), (5,), (7,), {}),
    "conv": (partial(ConvDecoder, channels=[8, 6]), (5,), IMAGE, {}),
    "conv_batch": (partial(ConvDecoder, channels=[8, 6], norm="batch", kernel_size=5), (5,), SERIES, {}),
    "conv_even": (partial(ConvDecoder, channels=[8, 6], kernel_size=4), (5,), (2, 12, 16), {}),
    "conv_map": (partial(ConvDecoder, channels=[8, 6], upsample="nearest"), (4, 3, 3), IMAGE, {}),
    "conv_group": (partial(ConvDecoder, channels=[8, 8], norm="group"), (4, 4), SERIES, {}),
    "conv_gdn": (partial(ConvDecoder, channels=[8, 6], activation="gdn"), (4, 3, 3), IMAGE, {}),
    "conv_volume": (partial(ConvDecoder, channels=[8, 6], norm="group"), (5,), VOLUME, {}),
    "frames": (
        partial(FrameDecoder, time=partial(GRUDecoder, hidden=5), frame=partial(ConvDecoder, channels=[6]), features=4),
        (5,),
        VOLUME,
        {},
    ),
    "frames_past": (
        partial(
            FrameDecoder,
            time=partial(GRUDecoder, hidden=5),
            frame=partial(ConvDecoder, channels=[6]),
            features=4,
            shortcut=True,
        ),
        (3, 2),
        VOLUME,
        {},
    ),
    "resnet": (partial(ResNetDecoder, channels=[12, 8], blocks=1), (5,), IMAGE, {}),
    "resnet_gdn": (partial(ResNetDecoder, channels=[6], blocks=1, norm=None, activation="gdn"), (5,), SERIES, {}),
    "resnet_past": (partial(ResNetDecoder, channels=[8, 4], blocks=1, channel_to_space=True), (5,), EVEN, {}),
    "resnet_batch": (
        partial(ResNetDecoder, channels=[8, 6], blocks=2, norm="batch", upsample="nearest"),
        (3, 4),
        SERIES,
        {},
    ),
    "resnet_plain": (partial(ResNetDecoder, channels=[6], blocks=1, norm=None), (5,), SERIES, {}),
    "unet": (partial(UNetDecoder, channels=[8, 6]), (5,), IMAGE, {}),
    "unet_attention": (
        partial(UNetDecoder, channels=[8, 8], attention=True, upsample="nearest"),
        (3, 4),
        SERIES,
        {},
    ),
    "unet_batch": (
        partial(UNetDecoder, channels=[6, 4], norm="batch", activation="relu", attention=True),
        (5, 3, 3),
        IMAGE,
        {},
    ),
    "parts": (
        partial(
            PartsDecoder,
            layout={"image": IMAGE, "words": (7,)},
            each={"image": partial(ConvDecoder, channels=[5, 4])},
            default=partial(MLPDecoder, widths=[6]),
        ),
        (5,),
        (115,),
        {},
    ),
    "vit": (partial(ViTDecoder, patch=3, **SMALL), (5, 3, 4), IMAGE, {}),
    "vit_vector": (partial(ViTDecoder, patch=3, **SMALL, dropout=0.2, positions="learnt"), (5,), (2, 9, 12), {}),
    "vit_masked": (partial(ViTDecoder, patch=3, **SMALL, masked=True), (5, 7), IMAGE, {}),
    "vit_series": (partial(ViTDecoder, patch=2, width=4, heads=1, depth=2), (5, 3), SHORT, {}),
    "lstm": (partial(LSTMDecoder, hidden=6), (5,), (4, 6), {}),
    "lstm_deep": (partial(LSTMDecoder, hidden=4, layers=2, dropout=0.3, reverse=True), (2, 3), SHORT, {}),
    "lstm_timeless": (partial(LSTMDecoder, hidden=4, time_features=0), (5,), SHORT, {}),
    "lstm_ar": (partial(AutoregressiveLSTMDecoder, hidden=6), (5,), (4, 6), AR),
    "lstm_ar_deep": (
        partial(AutoregressiveLSTMDecoder, hidden=4, layers=2, dropout=0.3, input_dropout=0.4, reverse=True),
        (2, 3),
        SHORT,
        AR,
    ),
    "lstm_ar_words": (partial(AutoregressiveLSTMDecoder, hidden=6, embedding=3), (5,), OF_TOKENS, SENTENCES),
    "gru": (partial(GRUDecoder, hidden=6), (5,), (4, 6), {}),
    "gru_frames": (partial(GRUDecoder, hidden=6, most_steps=4, reverse=True), (5,), (4, 11), {}),
    "gru_ar": (partial(AutoregressiveGRUDecoder, hidden=6, latent_every_step=False), (5,), (4, 6), AR),
    "gru_ar_share": (partial(AutoregressiveGRUDecoder, hidden=6, latent_every_step="share"), (3, 4), (4, 6), AR),
    "gru_ar_text": (
        partial(AutoregressiveGRUDecoder, hidden=4, layers=2, embedding=3, input_dropout=0.3, reverse=True),
        (2, 3),
        OF_TOKENS,
        RUNNING_TEXT,
    ),
    "lapped": (partial(awake, LappedDecoder, hop=4, width=6, units=1), (8, 3), (2, 12), {}),
    "lapped_mapped": (partial(awake, LappedDecoder, hop=2, width=5, units=0, kernel_size=5), (3, 3), SHORT, {}),
    "lapped_vector": (partial(awake, LappedDecoder, hop=2, width=5, activation="silu"), (5,), SHORT, {}),
    "tcn": (partial(TCNDecoder, channels=[6, 4], dropout=0.2, time_features=4), (5,), (4, 6), {}),
    "tcn_causal": (partial(TCNDecoder, channels=[6], causal=True, checkpointing=True), (2, 3), SHORT, {}),
    "tcn_ar": (partial(AutoregressiveTCNDecoder, channels=[6, 4]), (5,), (4, 6), AR),
    "tcn_ar_words": (
        partial(AutoregressiveTCNDecoder, channels=[8, 8], embedding=3, dropout=0.2, checkpointing=True),
        (2, 3),
        OF_TOKENS,
        SENTENCES,
    ),
    "transformer": (partial(TransformerDecoder, **SMALL, dropout=0.2), (5,), (4, 6), {}),
    "transformer_deep": (
        partial(TransformerDecoder, width=4, heads=1, depth=2, checkpointing=True),
        (2, 3),
        SHORT,
        {},
    ),
    "transformer_ar": (partial(AutoregressiveTransformerDecoder, **SMALL, latent_every_step=False), (5,), (4, 6), AR),
    "transformer_ar_words": (
        partial(AutoregressiveTransformerDecoder, width=8, heads=2, depth=2, dropout=0.2, checkpointing=True),
        (2, 3),
        OF_TOKENS,
        SENTENCES,
    ),
}
