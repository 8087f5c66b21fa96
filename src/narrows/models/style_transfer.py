"""Pictures in the style of others: a trained model's features of one take the statistics that another's have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from narrows.errors import nearest, require
from narrows.layers.feature_statistics import matching
from narrows.layers.recomputing import Staged
from narrows.models.any_size import padded_to_multiples, side_multiples
from narrows.models.autoencoder import Autoencoder

LATENT = "latent"


class StyleTransfer:
    """What a model's decoder makes of a picture whose features have the statistics of another's.

    A *layer* is a place between encoder and decoder: `encoder1` is the encoder's map after its first halving and all
    that follows at that size, `encoder2` after the second, ..., `latent` what the decoder reads, `decoder1` the
    decoder's map of the smallest size, `decoder2` of the next. What encoders and decoders of other shapes than stages
    in turn (`conv`, `resnet`) compute within is not matched. At each of the layers, in the order of flow, the map h of
    the content becomes `(1 - strength) h + strength match(h, h_style)`, where the style's own map is that of the style
    alone. At strength 0 the result is the plain reconstruction, and so it is at any strength where both pictures are
    the same.

    Args:
        model: a trained model of pictures whose latent is a map, in evaluation mode.
        method: `adain`, `wct` or `transport` (see `narrows.layers.feature_statistics`).
        layers: their names; None for the latent alone.

    Raises:
        UserError: a model whose latent is no map, an unknown method, or a layer that the model does not have.

    Example:
        >>> down, up = partial(ConvEncoder, channels=[8], flatten=False), partial(ConvDecoder, channels=[8])
        >>> stages = Stages(down, partial(Deterministic, dim=4), up, GaussianLikelihood, NoCorruption)
        >>> model = Autoencoder(DataSpec((3, 16, 16), "image", 10, value_range=(0.0, 1.0)), stages).eval()
        >>> StyleTransfer(model)(torch.rand(2, 3, 16, 16), torch.rand(1, 3, 20, 20), 0.5).shape
        torch.Size([2, 3, 16, 16])
    """

    def __init__(self, model: Autoencoder, method: str = "adain", layers: Sequence[str] | None = None) -> None:
        reason = without_style(model)
        require(reason is None, f"this run cannot transfer style: {reason}")
        self.model, self.match = model, matching(method)
        self.multiples = side_multiples(model)
        """Of which the sides of pictures are multiples; None where the model reads pictures of its own size alone."""
        self._places = _places(model)
        known = [*self._places, LATENT]
        self.layers = [LATENT] if layers is None else list(layers)
        for name in self.layers:
            require(name in known, f"this run has no layer '{name}' to match: {nearest(str(name), sorted(known))}")
        require(bool(self.layers), f"no layer is named to be matched: {nearest('', sorted(known))}")

    def __call__(self, content: Tensor, style: Tensor, strength: float) -> Tensor:
        """The pictures `[B, C, H, W]` in the style of others, `[B, C, h, w]` or `[1, C, h, w]`, as means of p(x|z)."""
        return next(iter(self.at_strengths(content, style, [strength])))

    def at_strengths(self, content: Tensor, style: Tensor, strengths: Sequence[float]) -> Iterator[Tensor]:
        """The same at several strengths, one after another.

        Raises:
            UserError: pictures of a size that the model does not read.
        """
        self._require_size(content)
        self._require_size(style)
        own = self.features(style)
        for strength in strengths:
            yield self._styled(content, own, strength)

    @torch.no_grad()
    def features(self, x: Tensor) -> dict[str, Tensor]:
        """The maps of pictures at all of the layers, by name, as the model makes them of these alone."""
        found: dict[str, Tensor] = {}

        def keep(name: str, h: Tensor) -> Tensor:
            found[name] = h
            return h

        self._rebuilt(x, keep)
        return found

    @torch.no_grad()
    def _styled(self, content: Tensor, own: dict[str, Tensor], strength: float) -> Tensor:
        def mix(name: str, h: Tensor) -> Tensor:
            return h if strength == 0 else torch.lerp(h, self.match(h, own[name]), strength)

        return self._rebuilt(content, mix)

    def _rebuilt(self, x: Tensor, at: Any) -> Tensor:
        """The reconstruction, whose maps are replaced by `at(name, map)`."""
        height, width = x.shape[2:]
        x = x if self.multiples is None else padded_to_multiples(x, self.multiples)
        with self._hooked(at):
            z = self.model.encode(x).point
            z = at(LATENT, z) if LATENT in self.layers else z
            return self.model.point_at(z)[..., :height, :width]

    @contextmanager
    def _hooked(self, at: Any) -> Iterator[None]:
        def hook(name: str, module: nn.Module, given: Any, h: Tensor) -> Tensor:
            changed: Tensor = at(name, h)
            return changed

        named = [name for name in self._places if name in self.layers]
        handles = [self._places[name].register_forward_hook(partial(hook, name)) for name in named]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _require_size(self, x: Tensor) -> None:
        own, found = tuple(self.model.spec.shape), tuple(x.shape[1:])
        right = found == own or (self.multiples is not None and len(found) == 3 and found[0] == own[0])
        require(right, f"pictures of shape {list(found)} do not fit a run of {list(own)}")


def without_style(model: Autoencoder) -> str | None:
    """The reason why no style can be transferred by this model; None if it can."""
    if model.spec.kind != "image":
        return f"its data are {model.spec.kind}, and style is of pictures"
    if len(model.latent_shape) != 3:
        return (
            f"its latent is a vector, {list(model.latent_shape)}, which has no statistics over positions; train one "
            "whose latent is a map: encoder=conv decoder=conv encoder.flatten=false"
        )
    if model.needs_input or model.classes(1) is not None:
        return f"model {type(model).__name__} decodes with more than the latent"
    return None


@torch.no_grad()
def _places(model: Autoencoder) -> dict[str, nn.Module]:
    """The modules whose outputs are the layers of encoder and decoder, by name, in the order of flow."""
    sizes: dict[nn.Module, tuple[int, ...]] = {}

    def measure(module: nn.Module, given: Any, h: Tensor) -> None:
        sizes[module] = tuple(h.shape[2:])

    stacks = {name: getattr(half, "layers", None) for name, half in _halves(model).items()}
    parts = {name: list(stack) if isinstance(stack, Staged) else [] for name, stack in stacks.items()}
    handles = [part.register_forward_hook(measure) for several in parts.values() for part in several]
    try:
        device = next(model.parameters()).device
        model.point_at(model.encode(torch.zeros(1, *model.spec.shape, device=device)).point)
    finally:
        for handle in handles:
            handle.remove()
    found: dict[str, nn.Module] = {}
    for name, several in parts.items():
        last = {sizes[part]: part for part in several if len(sizes[part]) == 2}
        last.pop(tuple(model.spec.shape[1:]), None)  # the decoder's is the picture itself
        found |= {f"{name}{number}": part for number, part in enumerate(last.values(), 1)}
    return found


def _halves(model: Autoencoder) -> dict[str, nn.Module]:
    return {"encoder": model.encoder, "decoder": model.decoder}
