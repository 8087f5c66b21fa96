"""A trained model as a codec: it quantises examples to whole numbers, and turns these back into examples.

Legend: B examples, S streams, one for every codebook or entry of the latent's axis 1; a stream's values are those of
one example after another, each flattened, int64 `[B * positions]`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.bottlenecks.base import Bottleneck
from narrows.bottlenecks.discrete import ResidualVQ
from narrows.bottlenecks.hyperprior import ScaleHyperprior
from narrows.coding.ans_entropy_coder import Whole
from narrows.coding.pieces import pieces
from narrows.coding.side_information import SideInformation
from narrows.errors import UserError, require
from narrows.models.any_size import padded_to_multiples, side_multiples
from narrows.models.autoencoder import Autoencoder
from narrows.types import PIXELS, DataSpec, HyperpriorLatent, Latent, QuantizedLatent, Shape

Source = NDArray[np.floating] | Whole
"""One stream before rounding: codes, or values of the latent."""
MOST_VALUES = 4_000_000
"""Most values that pass through the model together."""
WORDS = 2.0**53
"""Number of multiples of the step that a double can tell apart."""


class Codec:
    """Encoder, quantiser and decoder of a model in evaluation mode.

    A discrete latent is coded as its codes; any other as `latent.point`, divided by a step and rounded to whole
    numbers, entry by entry, or, where side information tells their scales, scale by scale behind it
    (`narrows.coding.side_information`). If all stages are convolutions, pictures, volumes and clips may have other
    sizes than those of training: they are padded at the far end of every side, by repeating the last values, to a size
    that the encoder can halve evenly, and cropped after decoding. Sound may likewise be of any length, and passes
    through the model piece by piece (`narrows.coding.pieces`).

    Args:
        codebooks: of a residual quantiser, how many of its levels are coded; null: all.

    Raises:
        UserError: data or a model that cannot be coded, or codebooks that it does not have.
    """

    def __init__(self, model: Autoencoder, codebooks: int | None = None) -> None:
        reason = unfit(model)
        require(reason is None, f"this run cannot compress: {reason}")
        self.model = model
        bottleneck = model.bottleneck
        _require_codebooks(bottleneck, codebooks)
        self.codebooks = codebooks
        self.told = SideInformation(bottleneck) if isinstance(bottleneck, ScaleHyperprior) else None
        """What tells the scales of latents; None where nothing does."""
        self._multiple = side_multiples(model)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def sources(self, x: Tensor) -> list[Source]:
        """Encode `[B, *shape]` as S streams that are not yet rounded.

        Raises:
            UserError: a size that the model cannot read, or latents that are not finite.
        """
        padded = self._padded(x)
        rows = max(1, MOST_VALUES // math.prod(padded.shape[1:]))
        parts = [self._read(part) for part in padded.split(rows)]
        return [np.concatenate(stream) for stream in zip(*parts, strict=True)]

    @torch.no_grad()
    def _read(self, x: Tensor) -> list[Source]:
        if self.told is not None:
            latent = self.model.encode(x.to(self.device))
            assert isinstance(latent, HyperpriorLatent)
            _require_finite(latent)
            return self.told.split(latent)
        hop = self._hop
        if hop is None:
            return [part.flatten().numpy() for part in self._maps(x)]
        parts = [
            [codes[..., piece.kept(hop)] for codes in self._maps(x[..., piece.read])]
            for piece in pieces(x.shape[-1], hop, self.model.spec.shape[-1])
        ]
        return [torch.cat(stream, -1).flatten().numpy() for stream in zip(*parts, strict=True)]

    def _maps(self, x: Tensor) -> list[Tensor]:
        """Encode `[B, *shape]` as S streams of codes or values, `[B, *positions]` each."""
        latent = self.model.encode(x.to(self.device))
        if isinstance(latent, QuantizedLatent):
            return [codes.cpu() for _, codes in self._books(latent)]
        _require_finite(latent)
        return [values.cpu() for values in latent.point.unbind(1)]

    def _books(self, latent: QuantizedLatent) -> list[tuple[int, Tensor]]:
        """Size and codes of the codebooks that are coded."""
        return list(latent.books.values())[: self.codebooks]

    @property
    def _hop(self) -> int | None:
        """Samples of a position of the latent map, where sounds of any length are coded."""
        return self._multiple[0] if self._multiple is not None and self.model.spec.kind == "audio" else None

    @property
    def any_size(self) -> bool:
        """Whether all stages are convolutions, so that pictures, volumes and clips may have other sizes than the
        model's, and sounds other lengths."""
        return self._multiple is not None

    @property
    def streams(self) -> int:
        """How many there are."""
        return len(self._positions(tuple(self.model.spec.shape))) if self.told is None else self.told.streams

    def lengths(self, count: int, shape: Shape) -> list[int]:
        """The lengths of the streams of `count` examples of that shape; of side information alone, where there is
        some."""
        if self.told is not None:
            return self.told.lengths(count, self._positions(shape)[0])
        return [count * math.prod(positions) for positions in self._positions(shape)]

    def later_values(self, count: int, shape: Shape) -> int:
        """How many values the other streams have together."""
        return 0 if self.told is None else count * sum(map(math.prod, self._positions(shape)))

    def later_lengths(self, streams: Sequence[Whole], count: int, shape: Shape) -> list[int]:
        """The lengths of the other streams, which the first decide."""
        return [] if self.told is None else self.told.later_lengths(streams, count, self._positions(shape)[0])

    def by_example(self, values: Sequence[NDArray[Any]], streams: Sequence[Whole], count: int, shape: Shape) -> Any:
        """Values that belong to those of the streams, in the order of the examples: `[count, N]`.

        Args:
            values: in one array for every stream.
            streams: what is coded, of `count` examples of that shape.
        """
        if self.told is None:
            return np.concatenate([each.reshape(count, -1) for each in values], axis=1)
        own, places = self.told.own, self.told.places(streams, count, self._positions(shape)[0])
        told = [each.reshape(count, -1) for each in values[:own]]
        return np.concatenate([*told, self.told.joined(values[own:], places).reshape(count, -1)], axis=1)

    @torch.no_grad()
    def rebuild(self, streams: Sequence[Whole], count: int, shape: Shape, step: float | None) -> Tensor:
        """Decode S streams to the means of p(x|z), `[count, *shape]`, on the CPU.

        Raises:
            UserError: codes that no codebook has, or means that are not finite.
        """
        for values, size in zip(streams, self.alphabets or (), strict=bool(self.alphabets)):
            inside = not len(values) or (values.min() >= 0 and values.max() < size)
            require(inside, f"a code is none of the {size} of this model's codebook")
        parts = self._parts(streams, count, shape)
        rows = max(1, MOST_VALUES // math.prod(shape))
        chunks = ([part[start : start + rows] for part in parts] for start in range(0, count, rows))
        found = torch.cat([self._decode(chunk, step) for chunk in chunks])
        require(bool(found.isfinite().all()), "the latents are so far from 0 that the model gives no finite numbers")
        inside = tuple(slice(0, side) for side in shape[1:])
        return found[(..., *inside)]

    def _decode(self, parts: list[Tensor], step: float | None) -> Tensor:
        """The means of p(x|z) at streams `[B, *positions]`."""
        hop = self._hop
        if hop is None:
            return self.model.point_at(self._latent(parts, step)).cpu()
        found = []
        for piece in pieces(parts[0].shape[-1] * hop, hop, self.model.spec.shape[-1]):
            read = slice(piece.read.start // hop, piece.read.stop // hop)
            rebuilt = self.model.point_at(self._latent([part[..., read] for part in parts], step))
            found.append(rebuilt[..., piece.kept(1)].cpu())
        return torch.cat(found, -1)

    def _parts(self, streams: Sequence[Whole], count: int, shape: Shape) -> list[Tensor]:
        """What the decoder reads of the streams, each `[count, *positions]`."""
        positions = self._positions(shape)
        if self.told is not None:
            places = self.told.places(streams, count, positions[0])
            return [*torch.from_numpy(self.told.joined(streams[self.told.own :], places)).unbind(1)]
        return [
            torch.from_numpy(values).reshape(count, *place) for values, place in zip(streams, positions, strict=True)
        ]

    def _latent(self, parts: list[Tensor], step: float | None) -> Tensor:
        """The latent that the decoder reads."""
        if step is not None:
            return (torch.stack(parts, dim=1).double() * step).float().to(self.device)
        probe = self._probe
        assert isinstance(probe, QuantizedLatent)
        codes = torch.stack(parts, dim=1) if probe.maps is None else torch.cat([part.flatten(1) for part in parts], 1)
        return self.model.bottleneck.decode_codes(codes.to(self.device))

    @property
    def alphabets(self) -> list[int] | None:
        """The number of values of every stream; None if the values are unbounded."""
        probe = self._probe
        return [size for size, _ in self._books(probe)] if isinstance(probe, QuantizedLatent) else None

    def _positions(self, shape: Shape) -> list[Shape]:
        """The shape of one example of that shape in every stream.

        Raises:
            UserError: a shape that the model does not read.
        """
        steps = self._require_fits(shape)
        if isinstance(self._probe, QuantizedLatent):
            own = [tuple(codes.shape[1:]) for _, codes in self._books(self._probe)]
        else:
            own = [tuple(self._probe.point.shape[2:])] * self._probe.point.shape[1]
        return own if steps is None else [(*place[: -len(steps)], *steps) for place in own]

    @cached_property
    @torch.no_grad()
    def _probe(self) -> Latent:
        """The latent of one example of zeros, which shows how many numbers are coded."""
        return self.model.encode(torch.zeros(1, *self.model.spec.shape, device=self.device))

    def _require_fits(self, shape: Shape) -> Shape | None:
        """The positions of an example of another size than the model's own; None for one of its own shape."""
        own = tuple(self.model.spec.shape)
        if shape == own:
            return None
        if self._multiple is None or len(shape) != len(own) or shape[0] != own[0]:
            raise UserError(_refusal(shape, own, self._multiple is not None))
        return tuple(-(-side // each) for side, each in zip(shape[1:], self._multiple, strict=True))

    def _padded(self, x: Tensor) -> Tensor:
        shape = tuple(x.shape[1:])
        if self._require_fits(shape) is None or self._multiple is None:
            return x
        return padded_to_multiples(x, self._multiple)


def _require_finite(latent: Latent) -> None:
    require(bool(latent.point.isfinite().all()), "the model gives latents that are not finite numbers")


def _refusal(shape: Shape, own: Shape, convolutional: bool) -> str:
    found, wanted = " x ".join(map(str, shape)), " x ".join(map(str, own))
    if convolutional:
        what = {2: "sounds of any length", 3: "pictures of any size"}.get(len(own), "volumes and clips of any size")
        return f"examples of shape {found} do not fit a model of {own[0]}-channel {what}"
    hint = (
        "; only one of convolutions alone (encoder=conv encoder.flatten=false decoder=conv) takes other sizes"
        if len(own) in (3, 4)
        else ""
    )
    return f"examples of shape {found} do not fit a model of {wanted}{hint}"


def _require_codebooks(bottleneck: Bottleneck, codebooks: int | None) -> None:
    """Refuse a number of levels that a bottleneck does not have.

    Raises:
        UserError: says how many it has, or that it has none in turn.
    """
    if codebooks is None:
        return
    levels = len(bottleneck.sizes) if isinstance(bottleneck, ResidualVQ) else 0
    require(
        levels > 0,
        f"codebooks={codebooks} leaves out the last levels of a residual quantiser (variant=residual_vq), and this "
        f"run's bottleneck is {type(bottleneck).__name__}",
    )
    require(1 <= codebooks <= levels, f"codebooks must be from 1 to this run's {levels}, not {codebooks}")


def rounded(sources: Sequence[Source], step: float | None) -> list[Whole]:
    """Values rounded to the nearest multiples of the step; whole numbers (codes, side information) unchanged.

    Raises:
        UserError: the step is too small for the values.
    """
    return [_rounded(source, step) for source in sources]


def _rounded(source: Source, step: float | None) -> Whole:
    if step is None or source.dtype == np.int64:
        return source.astype(np.int64)
    scaled = source.astype(np.float64) / step
    largest = float(np.abs(scaled).max(initial=0))
    require(largest < WORDS, f"step={step:g} is too small: a latent is {largest:.3g} steps from 0; choose a larger one")
    return np.rint(scaled).astype(np.int64)


def check_step(model: Autoencoder, step: float | None) -> None:
    """Refuse a step that does not fit this model's latents.

    Raises:
        UserError: a step for discrete latents, none for continuous ones, or one not above 0.
    """
    if discrete(model):
        require(step is None, f"step={step} quantises continuous latents, but this run's latents are codes already")
    else:
        require(step is not None and math.isfinite(step) and step > 0, f"step must be a number above 0, not {step}")


def discrete(model: Autoencoder) -> bool:
    """Whether the model's latents are discrete codes."""
    return issubclass(model.latent_kind, QuantizedLatent)


def unfit(model: Autoencoder) -> str | None:
    """The reason why this model cannot compress; None if it can."""
    if model.spec.kind not in (*PIXELS, "vector", "series", "audio"):
        return f"its data are {model.spec.kind}, and pictures, scans, films, vectors, series and sound can be coded"
    if model.spec.parts is not None:
        return "its data are multi-modal, and a compressed file holds examples of one kind"
    if model.spec.variable:
        return "its examples differ in length: train on windows (datamodule.source.window=4096)"
    if model.needs_input:
        return f"what it rebuilds depends on x too, and not on the latent alone (model {type(model).__name__})"
    if model.classes(1) is not None:
        return "it reads the class of every example, which a compressed file does not hold"
    return None


def unit_range(spec: DataSpec) -> bool:
    """Whether the data are grey or colour pictures, scans or films in [0, 1], which eight-bit files can hold."""
    return spec.kind in PIXELS and spec.value_range == (0.0, 1.0) and spec.shape[0] in (1, 3)


def fingerprint(model: Autoencoder) -> bytes:
    """An 8-byte fingerprint of all weights and buffers except those of a density fitted afterwards."""
    found = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(model.state_dict().items()):
        if not name.startswith("density."):
            values = tensor.detach().cpu().contiguous()
            found.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
            found.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.digest()
