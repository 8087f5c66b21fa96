"""Every user's mistake with a backbone is one sentence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from backbone_instances import SENTENCES

from narrows.decoders.conv import ConvDecoder
from narrows.decoders.gru import AutoregressiveGRUDecoder
from narrows.decoders.lapped import LappedDecoder
from narrows.decoders.lstm import AutoregressiveLSTMDecoder, LSTMDecoder
from narrows.decoders.mlp import MLPDecoder
from narrows.decoders.resnet import ResNetDecoder
from narrows.decoders.tcn import AutoregressiveTCNDecoder, TCNDecoder
from narrows.decoders.transformer import AutoregressiveTransformerDecoder, TransformerDecoder
from narrows.decoders.unet import UNetDecoder
from narrows.decoders.vit import ViTDecoder
from narrows.encoders.conv import ConvEncoder
from narrows.encoders.gru import GRUEncoder
from narrows.encoders.lapped import LappedEncoder
from narrows.encoders.lstm import LSTMEncoder
from narrows.encoders.mlp import MLPEncoder
from narrows.encoders.resnet import ResNetEncoder
from narrows.encoders.tcn import TCNEncoder
from narrows.encoders.torchvision import TorchvisionEncoder
from narrows.encoders.transformer import TransformerEncoder
from narrows.encoders.unet import UNetEncoder
from narrows.encoders.vit import ViTEncoder
from narrows.errors import UserError
from narrows.types import DataSpec

IMAGE = (1, 28, 28)

MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "width of zero": (lambda: MLPEncoder(IMAGE, widths=[0]), r"encoder mlp needs widths .* not \[0\]"),
    "dropout of one": (lambda: MLPDecoder((2,), IMAGE, dropout=1.0), "decoder mlp needs dropout .* not 1.0"),
    "norm of maps on vectors": (lambda: MLPEncoder(IMAGE, norm="group"), "encoder mlp has no norm 'group'"),
    "norm of vectors on maps": (lambda: ConvEncoder(IMAGE, norm="layer"), "encoder conv has no norm 'layer'"),
    "misspelt norm": (lambda: ResNetDecoder((2,), IMAGE, norm="batsh"), "did you mean 'batch'"),
    "activation": (lambda: ConvDecoder((2,), IMAGE, activation="rellu"), "did you mean 'relu'"),
    "activation of an mlp": (lambda: MLPEncoder(IMAGE, activation="gate"), "encoder mlp has no .* mean 'gated'"),
    "gated maps": (lambda: ConvEncoder(IMAGE, activation="gated"), "encoder conv has no activation 'gated'"),
    "gated and tied": (
        lambda: MLPDecoder((2,), IMAGE, activation="gated", tied=True),
        "decoder mlp has a second weight per layer with activation gated",
    ),
    "gated and of unit norm": (
        lambda: MLPDecoder((2,), IMAGE, activation="gated", unit_norm=True),
        "decoder mlp has a second weight per layer with activation gated",
    ),
    "no channels": (lambda: ConvEncoder(IMAGE, channels=[]), "encoder conv needs channels .* at least one"),
    "one channel in groups": (
        lambda: ConvEncoder(IMAGE, channels=[1], norm="group"),
        "norm group over a single channel",
    ),
    "even kernel": (
        lambda: ConvEncoder(IMAGE, channels=[4, 8, 8], kernel_size=4),
        r"encoder conv needs an odd kernel_size, not 4: .* each of the 3 stages, and 28 x 28 does not",
    ),
    "even kernel, pooled": (
        lambda: ConvEncoder(IMAGE, downsample="maxpool", kernel_size=4),
        "encoder conv needs an odd kernel_size, not 4: an even one fits steps of two alone",
    ),
    "even kernel, nearest": (
        lambda: ConvDecoder((2,), IMAGE, upsample="nearest", kernel_size=4),
        "decoder conv needs an odd kernel_size, not 4: an even one fits steps of two alone",
    ),
    "kernel of one": (lambda: ConvDecoder((2,), IMAGE, kernel_size=1), "decoder conv needs an odd kernel"),
    "downsample": (lambda: ConvEncoder(IMAGE, downsample="pool"), "encoder conv has no downsample 'pool'"),
    "upsample": (lambda: ResNetDecoder((2,), IMAGE, upsample="near"), "decoder resnet has no upsample 'near'"),
    "no blocks": (lambda: ResNetEncoder(IMAGE, blocks=0), "encoder resnet needs blocks"),
    "vector for conv": (lambda: ConvEncoder((30,)), r"encoder conv works on images .* not on shape \[30\]"),
    "vector from resnet": (lambda: ResNetDecoder((2,), (30,)), r"decoder resnet works on .* shape \[30\]"),
    "too many stages": (
        lambda: ConvEncoder((1, 8, 12), channels=[4] * 4),
        "encoder conv has 4 stages .* 8 x 12 can be halved at most 3 times .* at most 3 entries",
    ),
    "map of another size": (
        lambda: ConvDecoder((8, 4, 4), IMAGE, channels=[64, 32]),
        r"the bottleneck gives \[8, 4, 4\], but decoder conv with 2 stages needs .*\['C', 7, 7\]",
    ),
    "series for an image": (
        lambda: ResNetDecoder((8, 7), IMAGE, channels=[64, 32]),
        r"the bottleneck gives \[8, 7\], but decoder resnet",
    ),
    "image for lstm": (lambda: LSTMEncoder(IMAGE), r"encoder lstm reads series .* not data of shape \[1, 28"),
    "image from lstm": (lambda: LSTMDecoder((2,), IMAGE), r"decoder lstm writes series"),
    "dropout in one layer": (lambda: LSTMEncoder((1, 9), dropout=0.1), "encoder lstm .* only one layer"),
    "odd clock": (lambda: LSTMDecoder((2,), (1, 9), time_features=3), "time_features to be even"),
    "steps": (
        lambda: AutoregressiveLSTMDecoder((2,), (1, 9), spec=DataSpec((1, 8), "series", 9)),
        r"decoder lstm_ar reads data of shape \[1, 8\].*\[1, 9\]",
    ),
    "stages of a u-net": (lambda: UNetEncoder((1, 4, 4), channels=[4] * 3), "encoder unet has 3 stages .* at most 2"),
    "vector from a u-net": (lambda: UNetDecoder((2,), (30,)), r"decoder unet works on .* shape \[30\]"),
    "map for a u-net": (lambda: UNetDecoder((8, 4, 4), IMAGE), r"the bottleneck gives \[8, 4, 4\], but decoder unet"),
    "patches that do not fit": (
        lambda: ViTEncoder(IMAGE, patch=5),
        "encoder vit has patches of side 5, which do not cover 28 x 28 evenly; use 1, 2, 4, 7, 14, 28",
    ),
    "patches of nothing": (lambda: ViTDecoder((2,), IMAGE, patch=0), "decoder vit has patches of side 0"),
    "patches of vectors": (lambda: ViTEncoder((30,)), r"encoder vit cuts images .* not data of shape \[30\]"),
    "heads": (lambda: ViTEncoder(IMAGE, width=16, heads=3), "width of 16, which 3 heads do not share evenly"),
    "width of positions": (lambda: ViTEncoder(IMAGE, width=6, heads=1), "width of 6; positions sincos .* of 4"),
    "positions": (lambda: ViTEncoder(IMAGE, positions="sincoss"), "encoder vit has no positions .* mean 'sincos'"),
    "pool": (lambda: ViTEncoder(IMAGE, pool="max"), "encoder vit has no pool 'max'"),
    "latents of other patches": (
        lambda: ViTDecoder((8, 14, 14), IMAGE, patch=4),
        r"the bottleneck gives \[8, 14, 14\], but decoder vit needs a vector or a latent for each of its 7 x 7 patches",
    ),
    "model": (lambda: TorchvisionEncoder(IMAGE, name="resnet19"), "no model 'resnet19': did you mean 'resnet1"),
    "series for torchvision": (lambda: TorchvisionEncoder((1, 9)), r"encoder torchvision reads images .* \[1, 9\]"),
    "images too small": (
        lambda: TorchvisionEncoder(IMAGE, name="alexnet"),
        r"alexnet cannot read images of shape \[1, 28, 28\]: .*too small; give larger images",
    ),
    "weights that are nowhere": (
        lambda: TorchvisionEncoder(IMAGE, weights="IMAGENET1K_V9"),
        "neither a file nor torchvision's name for weights of resnet18: did you mean 'IMAGENET1K_V1'",
    ),
    "frames of nothing": (lambda: GRUEncoder((1, 9), most_steps=0), r"encoder gru needs most_steps .* not \[0\]"),
    "image for lapped": (lambda: LappedEncoder(IMAGE), r"encoder lapped works on sound and series"),
    "odd hop": (lambda: LappedEncoder((1, 9), hop=3), "encoder lapped needs an even hop of at least 2, not 3"),
    "hop that does not fit": (lambda: LappedDecoder((2,), (1, 9), hop=4), "multiples of hop=4 samples, not on 9"),
    "units of lapped": (lambda: LappedEncoder((1, 8), hop=4, units=7), "encoder lapped needs units from 0 to 6, not 7"),
    "kernel of lapped": (
        lambda: LappedEncoder((1, 8), hop=4, kernel_size=4),
        "encoder lapped needs an odd kernel_size",
    ),
    "width of lapped": (lambda: LappedEncoder((1, 8), hop=4, width=0), "needs width of at least 1, not 0"),
    "frames of another hop": (lambda: LappedDecoder((4, 4), (1, 8), hop=4), r"of 2 frames, .* gives \[4, 4\]"),
    "image for tcn": (lambda: TCNEncoder(IMAGE), "encoder tcn reads series .* not data of shape"),
    "tokens as they are": (lambda: TransformerEncoder((9,)), "encoder transformer reads series .* input=embedding"),
    "even kernel of tcn": (lambda: TCNDecoder((2,), (1, 9), kernel_size=4), "decoder tcn needs an odd kernel_size"),
    "blocks of tcn": (lambda: TCNEncoder((1, 9), channels=[4] * 17), "encoder tcn has 17 blocks .* at most 16"),
    "pool of tcn": (lambda: TCNEncoder((1, 9), pool="max"), "encoder tcn has no pool 'max'"),
    "pooled heads": (lambda: TCNEncoder((1, 9), channels=[6]), "encoder tcn has a width of 6, which 4 heads"),
    "clock of tcn": (lambda: TCNDecoder((2,), (1, 9), time_features=3), "decoder tcn needs time_features to be even"),
    "odd width": (lambda: TransformerEncoder((1, 9), width=3, heads=1), "width of 3; sines and cosines"),
    "heads of steps": (lambda: TransformerDecoder((2,), (1, 9), width=8, heads=3), "which 3 heads do not share"),
    "end mark in reverse": (
        lambda: AutoregressiveGRUDecoder((2,), (5, 6), **SENTENCES, reverse=True),
        "decoder gru_ar cannot go from the last token to the first",
    ),
    "guesses": (
        lambda: AutoregressiveTCNDecoder((2,), (5, 6), **SENTENCES, scheduled_sampling=1.0),
        "decoder tcn_ar needs scheduled_sampling .* not 1.0",
    ),
    "no vocabulary": (
        lambda: AutoregressiveTransformerDecoder((2,), (5, 6), spec=DataSpec((6,), "tokens", 9)),
        "decoder transformer_ar reads tokens, but these data have no vocabulary",
    ),
    "input dropout": (
        lambda: AutoregressiveLSTMDecoder((2,), (1, 9), spec=DataSpec((1, 9), "series", 9), input_dropout=-0.1),
        "decoder lstm_ar needs input_dropout",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence(name: str) -> None:
    build, sentence = MISTAKES[name]
    with pytest.raises(UserError, match=sentence) as caught:
        build()
    assert "\n" not in str(caught.value)
