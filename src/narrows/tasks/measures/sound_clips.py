"""Clips of a split, whole: folded from their windows, made noisy, and restored by a model window by window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.corruptions.of_sound import NOISES, TALKERS, scaled_to
from narrows.data.sound_windows import cut_sound, fold_sound
from narrows.evaluation import select
from narrows.models.autoencoder import Autoencoder
from narrows.random import seed_default
from narrows.tasks.base import TaskContext
from narrows.tasks.measures.chosen_rows import drawn, reconstructed
from narrows.types import Batch

Sound = NDArray[np.float32]
"""`[C, T]`."""


@dataclass
class Clip:
    """A clip as the split has it."""

    name: str
    samples: Sound
    label: int | None = None


def clips_of(context: TaskContext, split: str, most: int | None = None) -> list[Clip]:
    """The clips of a split, or a seeded subset of `most` of them, in order. Silent ones, of which no ratio can be said,
    are left out."""
    data: Any = context.everything
    whole = Batch.cat(list(data.ordered_loader(split)))
    timeline = getattr(data, "timeline", None)
    found = _rows(whole) if timeline is None else _folded(whole, timeline, timeline.places[split])
    found = [clip for clip in found if clip.samples.any()]
    return [found[row] for row in drawn(len(found), most, context.seed, "sound clips").tolist()]


def _rows(whole: Batch) -> list[Clip]:
    steps = whole.x.shape[-1]
    lengths = [steps] * len(whole) if whole.length is None else whole.length.tolist()
    labels = _labels(whole)
    rows = zip(whole.x.float().cpu().numpy(), lengths, strict=True)
    return [Clip(str(number), row[:, :length], labels[number]) for number, (row, length) in enumerate(rows)]


def _folded(whole: Batch, timeline: Any, places: Tensor) -> list[Clip]:
    x, labels = whole.x.float().cpu().numpy(), _labels(whole)
    found = []
    for number in places[:, 0].unique().tolist():
        rows = (places[:, 0] == number).nonzero().flatten()
        samples = fold_sound(x[rows.numpy()], places[rows, 1].tolist(), timeline.lengths[number])
        found.append(Clip(timeline.names[number], samples, labels[int(rows[0])]))
    return found


def _labels(whole: Batch) -> Sequence[int | None]:
    return [None] * len(whole) if whole.label is None or whole.label.ndim != 1 else whole.label.tolist()


def noise_for(clips: Sequence[Clip], number: int, kind: str, snr: float, rate: int, *seeds: int | str) -> Sound:
    """The noise `[C, T]` of a kind that is added to a clip, whose energy is `snr` decibels below the clip's; the
    talkers of babble are other clips, said over and over."""
    clip = clips[number].samples
    seed_default(int(seeds[0]), *seeds[1:], kind, f"{snr:g}", number)
    others = [clips[(number + 1 + place) % len(clips)].samples for place in range(TALKERS)]
    rows = [clip, *(np.resize(other, clip.shape) for other in others if kind == "babble" and len(clips) > 1)]
    x = torch.from_numpy(np.stack(rows))
    return scaled_to(NOISES[kind](x, rate), x, torch.full((len(x),), snr))[0].numpy()


def restored(model: Autoencoder, sounds: Sequence[Sound], window: int | None) -> list[Sound]:
    """What the model makes of sounds `[C, T]`: of overlapping windows, folded together, or of whole ones."""
    device = next(model.parameters()).device
    if window is None:
        return [_whole(model, sound, device) for sound in sounds]
    cuts = [cut_sound(sound, window, max(1, window // 2)) for sound in sounds]
    x = torch.from_numpy(np.stack([part for cut in cuts for _, part in cut]))
    rebuilt = reconstructed(model, Batch(x.to(device))).numpy()
    ends = np.cumsum([len(cut) for cut in cuts])
    pieces = np.split(rebuilt, ends[:-1])
    return [
        fold_sound(piece, [start for start, _ in cut], sound.shape[1])
        for piece, cut, sound in zip(pieces, cuts, sounds, strict=True)
    ]


def _whole(model: Autoencoder, sound: Sound, device: torch.device) -> Sound:
    length = torch.tensor([sound.shape[1]]) if model.spec.variable else None
    batch = Batch(torch.from_numpy(sound)[None], length=length).to(device)
    return model.reconstruct(select(batch, slice(None))).float().cpu().numpy()[0, :, : sound.shape[1]]
