"""Sound as a model codes it: any length, piece by piece, in windows where it must, and levels of its quantiser."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from instances import SOUND, batch, model
from tasks.standins import Rows

from narrows.bottlenecks import FSQ, Deterministic, ResidualVQ
from narrows.coding import pieces as in_pieces
from narrows.coding.coding_tables import Fitted
from narrows.coding.example_files import Examples
from narrows.coding.model_codec import Codec
from narrows.coding.packing import pack_examples, quantise, rebuild_examples, unpack_examples
from narrows.coding.pieces import pieces
from narrows.coding.sound_examples import examples_of, layout_of, sounds_of
from narrows.decoders import LappedDecoder, MLPDecoder
from narrows.encoders import LappedEncoder, MLPEncoder
from narrows.errors import UserError
from narrows.likelihoods import GaussianLikelihood
from narrows.models.autoencoder import Autoencoder
from narrows.types import CodebookLatent

HOP, LEVELS = 8, 3
LAPPED = {
    "encoder": partial(LappedEncoder, hop=HOP, width=6, units=1),
    "decoder": partial(LappedDecoder, hop=HOP, width=6, units=1),
}
DENSE = {"encoder": partial(MLPEncoder, widths=[16]), "decoder": partial(MLPDecoder, widths=[16])}
RESIDUAL = partial(ResidualVQ, dim=HOP, codes=6, levels=LEVELS, identity=True)


def network(bottleneck: Any = RESIDUAL, **stages: Any) -> Autoencoder:
    """With codes where frames of its data are, and networks that add something."""
    torch.manual_seed(0)
    net = model(SOUND, bottleneck=bottleneck, likelihood=GaussianLikelihood, **(stages or LAPPED))
    for half in (net.encoder, net.decoder):
        if hasattr(half, "between"):
            torch.nn.init.normal_(half.between.change[-1].weight, std=0.1)
    if isinstance(net.bottleneck, ResidualVQ):
        latent = net.encode(batch(SOUND, 20))
        assert isinstance(latent, CodebookLatent)
        net.bottleneck.start(latent)
    return net.eval()


def fitted(net: Autoencoder) -> Fitted:
    torch.manual_seed(1)
    data = Rows({"train": batch(net.spec, net.spec.size)}, batch_size=7, kind=net.spec.kind)
    return Fitted(Codec(net), None, lambda: data)  # type: ignore[arg-type, return-value]


def noise(*lengths: int) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.uniform(-0.5, 0.5, (1, steps)).astype(np.float32) for steps in lengths]


def there_and_back(net: Autoencoder, sounds: list[np.ndarray], codebooks: int | None = None) -> tuple[int, list[Any]]:
    """Bytes of the file, and the sounds that come out of it."""
    fit, codec = fitted(net), Codec(net, codebooks)
    assert SOUND.rate is not None
    layout = layout_of([x.shape[1] for x in sounds], [SOUND.rate] * len(sounds), SOUND, whole=codec.any_size)
    layout |= {"names": [f"{number}.wav" for number in range(len(sounds))]} if len(sounds) > 1 else {}
    layout |= {} if codebooks is None else {"codebooks": codebooks}
    step = fit.step(0.1 if codec.alphabets is None else None)
    examples = Examples(layout, examples_of(sounds, layout))
    data = pack_examples(fit.tables(step), quantise(codec, examples, step), examples)
    header, streams = unpack_examples(codec, fit.tables(step), data, "f")
    return len(data), list(sounds_of(header.layout, rebuild_examples(codec, header, streams)))


def test_sounds_of_any_length_come_back_as_the_model_rebuilds_them_whole() -> None:
    net, sounds = network(), noise(96, 40, 40, 7, 1, 333)
    assert Codec(net).any_size
    _, back = there_and_back(net, sounds)
    for sound, found in zip(sounds, back, strict=True):
        padded = torch.from_numpy(np.pad(sound, ((0, 0), (0, -sound.shape[1] % HOP))))[None]
        wanted = net.point_at(net.encode(padded).point)[0, :, : sound.shape[1]].detach()
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("bottleneck", [Deterministic, FSQ])
def test_a_model_of_one_length_codes_windows_side_by_side(bottleneck: Any) -> None:
    net, sounds = network(bottleneck, **DENSE), noise(300, 96, 97)
    assert not Codec(net).any_size
    _, back = there_and_back(net, sounds)
    assert [found.shape for found in back] == [(1, 300), (1, 96), (1, 97)]
    alone = there_and_back(net, [sounds[0][:, 96:192]])[1]
    np.testing.assert_allclose(back[0][:, 96:192], alone[0], atol=1e-6)


def test_long_sounds_go_piece_by_piece_and_nothing_shows_where_they_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    net, sounds = network(), noise(1001)
    whole = there_and_back(net, sounds)
    monkeypatch.setattr(in_pieces, "LONGEST", 203)
    found = there_and_back(net, sounds)
    assert found[0] == whole[0]
    np.testing.assert_allclose(found[1][0], whole[1][0], atol=1e-5)


@pytest.mark.parametrize(("steps", "hop", "around"), [(8, 8, 5), (640, 8, 20), (203 * 8, 8, 96), (6, 2, 0)])
def test_pieces_tile_a_sound_and_read_around_themselves(
    steps: int, hop: int, around: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_pieces, "LONGEST", 50)
    found = list(pieces(steps, hop, around))
    assert [piece.start for piece in found] == [0, *(piece.stop for piece in found[:-1])]
    assert found[-1].stop == steps
    for piece in found:
        assert piece.read.start <= max(0, piece.start - around)
        assert piece.read.stop >= min(steps, piece.stop + around)
        values = np.arange(steps)[piece.read][::hop]
        assert values[piece.kept(hop)].tolist() == list(range(piece.start, piece.stop, hop))


def test_fewer_codebooks_are_smaller_and_are_the_first_levels() -> None:
    net, sounds = network(), noise(400)
    sizes = []
    for levels in range(1, LEVELS + 1):
        size, (back,) = there_and_back(net, sounds, levels)
        codes = net.encode(torch.from_numpy(sounds[0])[None]).codes[:, :levels]  # type: ignore[attr-defined]
        wanted = net.point_at(net.bottleneck.decode_codes(codes))[0].detach()
        np.testing.assert_allclose(back, wanted, atol=1e-5)
        sizes.append(size)
    assert sizes == sorted(set(sizes))
    assert there_and_back(net, sounds)[0] <= sizes[-1]


@pytest.mark.parametrize(
    ("bottleneck", "codebooks", "sentence"),
    [(RESIDUAL, 0, "from 1 to this run's 3, not 0"), (RESIDUAL, 4, "not 4"), (Deterministic, 1, "is Deterministic")],
)
def test_codebooks_that_are_not_there_are_refused(bottleneck: Any, codebooks: int, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Codec(network(bottleneck), codebooks)
