"""Task style: pictures in the style of others, beside classic transfers of colour at equal content error."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.compare.figure_names import MODEL
from narrows.errors import require, require_at_least
from narrows.layers.feature_networks import FeatureNetwork
from narrows.layers.feature_statistics import matching
from narrows.losses.perceptual import in_unit_range, require_pictures
from narrows.models.autoencoder import Autoencoder
from narrows.models.style_transfer import StyleTransfer, without_style
from narrows.random import generator
from narrows.tasks.base import Task, TaskContext
from narrows.tasks.classics.colour_transfers import COLOUR_TRANSFERS
from narrows.tasks.figure_table import FigureTable, declared
from narrows.tasks.measures.chosen_rows import CHUNK, sampled
from narrows.tasks.measures.standard_errors import bootstrap, with_error
from narrows.tasks.measures.style_figures import SeenStyle, Values, gram_at
from narrows.types import Batch, DataSpec

log = logging.getLogger(__name__)

OWN = "efficientnet_lite0"
"""The network whose figures have no suffix."""
USUAL = partial(FeatureNetwork, layers=("stage1", "stage2", "stage3", "stage5"))
"""Its layers at a half, a quarter, an eighth and a sixteenth of the side."""
SHOWN = 6
Judged = Mapping[str, Values]


class Style(Task):
    """Test examples in the style of other test examples (of another class, where there are classes), by matching the
    statistics of the run's features (`narrows.models.style_transfer`) at several strengths.

    - `test/style/gram_distance`: how far the result is from the style, in the Gram matrices of a pretrained network's
      layers (`tasks.measures.style_figures`); 0 is the style's own.
    - `test/style/content_mse`: how far it is from the content, in the last of the layers, relative to the content's
      square; the plain reconstruction, strength 0, has one too, which no strength can undo.
    - `test/style/artfid`: (1 + perceptual distance to the content) (1 + Fréchet distance to the styles).

    These stand at strength 1 and, under `test/style/strength_S/`, at every strength. Beside them stand histogram
    matching (`.../histogram/...`), colour transfer (`.../reinhard/...`) and the swap of Fourier amplitudes
    (`.../fourier/...`; `tasks.classics.colour_transfers`), and the content as it is (`.../content/gram_distance`).
    Classics keep every edge, and a network does not, so that figures side by side say little:
    `test/style/at_histogram/gram_distance` is the run's on its curve over strengths, between which it is linear, at a
    content error of at most that of histogram matching, and `.../lead` how much lower it is than the classic's; their
    standard errors are over pairs. Where the run's plain reconstruction has a larger error than the classic, there is
    no such figure, and a warning.

    Figures in other networks than EfficientNet-Lite0 at the pictures' own size end in the network's name
    (`gram_distance_vgg16`), because they are on another scale.

    Args:
        features: `features()`, the network that judges; its last layer is where the content is looked at.
        method: adain, wct or transport.
        layers: of the run, where statistics are matched; null for the latent alone.
        strengths: above 0, up to 1.
        max_examples: pairs.

    Raises:
        UserError: a value out of its range, an unknown method or layer, or data that are no pictures.
    """

    name = "style"
    figures = declared(("gram_distance", "content_mse"), (MODEL, *COLOUR_TRANSFERS), heading="style")

    def __init__(
        self,
        *,
        features: Callable[[], FeatureNetwork] = USUAL,
        method: str = "adain",
        layers: Sequence[str] | None = None,
        strengths: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
        max_examples: int = 60,
    ) -> None:
        matching(method)
        require_at_least(2, "task style:", max_examples=max_examples)
        right = bool(strengths) and all(0 < strength <= 1 for strength in strengths)
        require(right, f"task style: strengths must be above 0 and at most 1, not {list(strengths)}")
        self.features, self.method, self.layers = features, method, layers
        self.strengths, self.max_examples = sorted(set(strengths)), max_examples

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        return without_style(model)

    def check(self, spec: DataSpec) -> None:
        require_pictures(spec, "task style")

    def run(self, context: TaskContext) -> FigureTable:
        self.check(context.spec)
        transfer = StyleTransfer(context.model, self.method, self.layers)
        content, style = self._pairs(context)
        network = self.features().to(context.device)
        seen = SeenStyle(network, context.spec, content, style)
        own = dict(zip([0.0, *self.strengths], _styled(transfer, content, style, [0.0, *self.strengths]), strict=True))
        made = {name: _each(transform, context.spec, content, style) for name, transform in COLOUR_TRANSFERS.items()}
        curve = {strength: seen.values(pictures) for strength, pictures in own.items()}
        suffix = "" if network.label == OWN else f"_{network.label}"
        found = FigureTable(self.name)
        found.add(_figures(seen, own[self.strengths[-1]], curve[self.strengths[-1]], suffix))
        for strength, judged in curve.items():
            found.add(_figures(seen, own[strength], judged, suffix), condition=f"strength_{strength:g}")
        beside = {name: seen.values(pictures) for name, pictures in made.items()}
        for name, judged in beside.items():
            found.add(_figures(seen, made[name], judged, suffix), name)
            self._compare(context, found, (name, judged), list(curve.values()), suffix)
        found.add(with_error(f"gram_distance{suffix}", seen.values(content)["gram_distance"]), "content")
        _show(context, content, style, own, made, curve, beside)
        return found

    def _pairs(self, context: TaskContext) -> tuple[Tensor, Tensor]:
        """Contents and their styles, `[N, C, H, W]`."""
        batch = Batch.cat(list(sampled(context, "test", self.max_examples, "style rows")))
        require(len(batch) > 1, f"task style: the test split has {len(batch)} pictures, and a pair needs two")
        places = styles_of(None if batch.label is None else batch.label.cpu(), len(batch), context.seed)
        x = batch.truth.float()
        return x, x[places.to(x.device)]

    def _compare(
        self,
        context: TaskContext,
        found: FigureTable,
        classic: tuple[str, Judged],
        curve: Sequence[Judged],
        suffix: str,
    ) -> None:
        """The run's Gram distance at the classic's content error, and its lead."""
        name, judged = classic
        least = float(curve[0]["content_mse"].mean())

        def at(rows: NDArray[np.int_]) -> float:
            line = [(float(s["content_mse"][rows].mean()), float(s["gram_distance"][rows].mean())) for s in curve]
            return gram_at(float(judged["content_mse"][rows].mean()), line)

        def lead(rows: NDArray[np.int_]) -> float:
            return float(judged["gram_distance"][rows].mean()) - at(rows)

        every = np.arange(len(judged["content_mse"]))
        if np.isnan(at(every)):
            context.warn(
                f"task style: {name} has a content error of {judged['content_mse'].mean():.3f}, and the run's plain "
                f"reconstruction already {least:.3f}, so that no strength compares with it"
            )
            return
        figures = {f"gram_distance{suffix}": at, f"lead{suffix}": lead}
        errors = {f"{key}_stderr": bootstrap(value, every, seed=context.seed) for key, value in figures.items()}
        found.add({key: value(every) for key, value in figures.items()} | errors, condition=f"at_{name}")


def styles_of(label: Tensor | None, count: int, seed: int) -> Tensor:
    """`[N]`: for every row another one, of another label where there are several, drawn at random.

    Args:
        label: `[N]`; None where there is none.
    """
    source = generator(seed, "styles")
    kinds = torch.arange(count) if label is None or label.ndim > 1 or len(label.unique()) < 2 else label
    others = [(kinds != kind).nonzero().flatten() for kind in kinds]
    return torch.stack([rows[torch.randint(len(rows), (), generator=source)] for rows in others])


def _styled(transfer: StyleTransfer, content: Tensor, style: Tensor, strengths: Sequence[float]) -> list[Tensor]:
    """Pictures of each strength, on the data's device."""
    parts = [
        list(transfer.at_strengths(content[start : start + CHUNK], style[start : start + CHUNK], strengths))
        for start in range(0, len(content), CHUNK)
    ]
    return [torch.cat(pictures) for pictures in zip(*parts, strict=True)]


def _each(transform: Callable[..., NDArray[np.floating]], spec: DataSpec, content: Tensor, style: Tensor) -> Tensor:
    """The classic's answer to every pair, in the data's own range."""
    assert spec.bounds is not None
    low, high = spec.bounds
    pairs = zip(*(in_unit_range(x, spec).cpu().double().numpy() for x in (content, style)), strict=True)
    found = np.stack([transform(own, other) for own, other in pairs])
    return torch.from_numpy(found * (high - low) + low).to(content)


def _figures(seen: SeenStyle, pictures: Tensor, judged: Judged, suffix: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name in ("gram_distance", "content_mse"):
        found |= with_error(f"{name}{suffix}", judged[name])
    return found | {f"artfid{suffix}": seen.artfid(pictures, judged["perceptual"])}


def _show(
    context: TaskContext,
    content: Tensor,
    style: Tensor,
    own: Mapping[float, Tensor],
    made: Mapping[str, Tensor],
    curve: Mapping[float, Judged],
    beside: Mapping[str, Judged],
) -> None:
    if context.directory is None:
        return
    from narrows.drawing import restoration
    from narrows.drawing.style_pictures import trade_off

    rows = {"content": content, "style": style} | {f"strength {s:g}": x for s, x in own.items()} | dict(made)
    # Neighbours are often patches of one photograph.
    chosen = np.unique(np.linspace(0, len(content) - 1, SHOWN).astype(int)).tolist()
    shown = {name: x[chosen].float().cpu().numpy() for name, x in rows.items()}
    context.show("style", restoration.examples(shown, "Test pictures in the style of others", context.spec))
    points = {f"{s:g}": (judged["content_mse"].mean(), judged["gram_distance"].mean()) for s, judged in curve.items()}
    classics = {n: (judged["content_mse"].mean(), judged["gram_distance"].mean()) for n, judged in beside.items()}
    context.show("style_trade_off", trade_off(points, classics))
