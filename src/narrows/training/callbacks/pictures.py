"""Pictures of reconstructions, samples and latents during training, for TensorBoard and as files."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Normal

from narrows.compare.tensorboard_groups import VIEWS
from narrows.drawing import canvas, class_plots
from narrows.drawing.examples import array, features, layout_of, panels, paths, rolls, sheet
from narrows.drawing.labels import Picture
from narrows.drawing.parts import sheet_of_parts
from narrows.drawing.sounds import spectrograms
from narrows.errors import require_at_least
from narrows.evaluation import EvaluationData, evaluating, select, subset
from narrows.models.autoencoder import Autoencoder
from narrows.runs.file_names import FIGURES
from narrows.tasks.measures.principal_axes import principal
from narrows.training.elsewhere import Elsewhere
from narrows.training.films import write_films
from narrows.training.sounds import reconstructed_sounds, write_sounds
from narrows.training.tensorboard import TensorBoard
from narrows.types import Batch, DataSpec, VariationalLatent

log = logging.getLogger(__name__)

MAP_ROWS = 2000
MAP_VALUES = 20_000_000
TRAVERSED = 8
STEPS = np.linspace(-2.5, 2.5, 9)


class Pictures(pl.Callback):
    """Draws `reconstruction`, `latent_map` and, for models with a prior, `samples` and `traversal`.

    Each goes to TensorBoard's group `views`, where the first examples of sound can be heard too, and to
    `<trainer.default_root_dir>/figures/<name>.png`; samples of video also move, in `samples.gif`. They are drawn at the
    end of fitting, and after validation every `every_n_epochs` epochs; on rank zero only and with their own seeded
    random numbers, so that training draws the same numbers with and without pictures. The LightningModule must have the
    autoencoder as `model`, and the datamodule `spec` and `ordered_loader("validation")`.

    Args:
        every_n_epochs: epochs between drawings; null draws at the end only.
        examples: validation examples shown, evenly spaced over the split.
        seed: of the noise in corruptions and samples, the same at every drawing.

    Raises:
        UserError: `every_n_epochs` or `examples` below 1.
    """

    def __init__(self, *, every_n_epochs: int | None = 10, examples: int = 8, seed: int = 0) -> None:
        super().__init__()
        require_at_least(1, "callback pictures:", every_n_epochs=every_n_epochs, examples=examples)
        self.every_n_epochs, self.examples, self.seed = every_n_epochs, examples, seed
        self._drawn_at = -1

    def state_dict(self) -> dict[str, Any]:
        return {"drawn_at": self._drawn_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._drawn_at = state_dict["drawn_at"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        if self.every_n_epochs is not None and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._draw(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._drawn_at != trainer.global_step:
            self._draw(trainer, pl_module)

    def _draw(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if not trainer.is_global_zero:
            return
        self._drawn_at = trainer.global_step
        data: Any = getattr(trainer, "datamodule", None)
        pictures = draw(pl_module.model, data, pl_module.device, examples=self.examples, seed=self.seed)
        publish(pictures, Path(trainer.default_root_dir), trainer.loggers, trainer.global_step)
        write_films(pl_module.model, Path(trainer.default_root_dir), self.seed)
        sounds = reconstructed_sounds(pl_module.model, data, pl_module.device, self.seed)
        for logger in trainer.loggers:
            write_sounds(logger, sounds, trainer.global_step)


def publish(pictures: dict[str, Picture], directory: Path, loggers: Sequence[Any], step: int) -> None:
    """Write pictures to `<directory>/figures/*.png` and to every logger that takes pictures, in the group `views`."""
    for name, picture in pictures.items():
        png = canvas.as_png(picture)
        canvas.save(png, directory / FIGURES / f"{name}.png")
        for logger in loggers:
            if isinstance(logger, Elsewhere):
                logger.add_image(f"{VIEWS}/{name}", picture, step)
            elif isinstance(logger, TensorBoard):
                logger.add_png(f"{VIEWS}/{name}", png, picture.shape, step)
            else:
                add_image = getattr(getattr(logger, "experiment", None), "add_image", None)
                if add_image is not None:
                    add_image(f"{VIEWS}/{name}", picture, step, dataformats="HWC")


@dataclass
class _Scene:
    """The model and examples from which the pictures are drawn."""

    model: Autoencoder
    spec: DataSpec
    shown: Batch
    codes: Tensor
    """Noise-free latents of validation examples, `[N, D]`, on the CPU."""
    labels: NDArray[Any] | None


def draw(
    model: Autoencoder, data: EvaluationData, device: torch.device, *, examples: int = 8, seed: int = 0
) -> dict[str, Picture]:
    """All pictures that suit this model and its data, by name. Model and random generators are left unchanged."""
    with evaluating(model, seed, "pictures"):
        scene = _look(model, data, device, examples)
        if scene is None:
            log.warning("no pictures: the validation split is empty")
            return {}
        drawn = {"latent_map": _latent_map(scene)}
        if scene.spec.kind == "tokens":
            return drawn
        drawn["reconstruction"] = _reconstruction(scene)
        if model.generative and not model.needs_input:
            drawn["samples"] = _samples(scene)
        traversal = _traversal(scene) if model.variational else None
        if traversal is not None:
            drawn["traversal"] = traversal
        return drawn


def _look(model: Autoencoder, data: EvaluationData, device: torch.device, examples: int) -> _Scene | None:
    size = sum(len(batch) for batch in data.ordered_loader("validation"))
    if size == 0:
        return None
    rows = min(MAP_ROWS, max(MAP_VALUES // math.prod(model.latent_shape), 64))
    positions, few = _spread(size, rows), _spread(size, examples)
    codes: list[Tensor] = []
    labels: list[Tensor] = []
    for batch in subset(data.ordered_loader("validation"), positions):
        batch = batch.to(device)
        codes.append(model.embed(batch).float().cpu())
        if batch.label is not None:
            labels.append(batch.label.cpu())
    shown = Batch.cat(subset(data.ordered_loader("validation"), few)).to(device)
    marks = torch.cat(labels).numpy() if labels and labels[0].ndim == 1 else None
    return _Scene(model, data.spec, shown, torch.cat(codes), marks)


def _spread(size: int, count: int) -> Tensor:
    return torch.linspace(0, size - 1, min(size, count)).round().long()


def _reconstruction(scene: _Scene) -> Picture:
    shown = scene.shown
    rows = [("input", array(shown.x))]
    title = "Reconstruction of validation examples"
    if not getattr(scene.model.corruption, "identity", False):
        shown = scene.model.corrupted(shown)
        rows.append(("corrupted", array(shown.x)))
        title += " from the corrupted input"
    if scene.shown.target is not None:
        rows.append(("target", array(scene.shown.target)))
    rows.append(("model", array(scene.model.reconstruct(shown))))
    layout = layout_of(scene.spec)
    if scene.spec.parts is not None:
        return sheet_of_parts(rows, scene.spec, title)
    if scene.spec.rate is not None:
        return spectrograms({name: list(values) for name, values in rows}, title, scene.spec.rate)
    if layout == "image":
        return canvas.image_grid(rows, title, scene.spec.bounds)
    if layout == "roll":
        return canvas.image_grid(rolls(rows), title, scene.spec.bounds, heat=True)
    if layout == "lines":
        return canvas.lines(rows, title)
    drawn, names = features(rows, scene.spec)
    return canvas.heat_maps(drawn, title, names)


def density_samples(model: Autoencoder, seed: int) -> dict[str, Picture]:
    """The picture `density_samples` of the fitted density; none for tokens, and of a model that needs an input. Random
    generators are left unchanged."""
    if model.spec.kind == "tokens" or model.needs_input:
        return {}
    with evaluating(model, seed, "prior samples"):
        drawn = array(model.sample(panels(model.spec)))
    return {"density_samples": sheet(drawn, model.spec, "Samples: means of p(x|z), z drawn from the fitted density")}


def _samples(scene: _Scene) -> Picture:
    drawn = array(scene.model.sample(panels(scene.spec)))
    return sheet(drawn, scene.spec, "Samples: means of p(x|z), z drawn from the prior")


def _traversal(scene: _Scene) -> Picture | None:
    """Traversal along the latents that vary most over the data, or the principal directions of a latent map."""
    example = select(scene.shown, slice(0, 1))
    latent = scene.model.encode(example)
    assert isinstance(latent, VariationalLatent)
    if latent.prior.support is not None and latent.prior.support.is_discrete:
        return None
    if len(scene.model.latent_shape) == 1 and isinstance(latent.prior, Normal):
        start = latent.point.flatten().float().cpu()
        names, moves = _coordinates(scene.codes, start)
        title = "Traversal about one example: the latents that vary most, from -2.5 to 2.5"
    else:
        names, moves = _directions(scene.codes)
        title = "Traversal about the mean latent: principal directions, from -2.5 to 2.5 standard deviations"
    z = torch.stack(moves).flatten(0, 1).reshape(-1, *scene.model.latent_shape)
    drawn = scene.model.point_at(z.to(latent.z), example.repeat(len(z)).given)
    drawn_paths = [(name, array(part)) for name, part in zip(names, drawn.chunk(len(names)), strict=True)]
    return paths(drawn_paths, list(STEPS), scene.spec, title, "-2.5 to 2.5")


def _coordinates(codes: Tensor, start: Tensor) -> tuple[list[str], list[Tensor]]:
    spread = codes.var(0, unbiased=False)
    chosen = spread.topk(min(TRAVERSED, len(spread))).indices
    steps = torch.from_numpy(STEPS).float()
    moves = []
    for unit in chosen:
        path = start.repeat(len(steps), 1)
        path[:, unit] = steps
        moves.append(path)
    return [f"z{int(unit)}" for unit in chosen], moves


def _directions(codes: Tensor) -> tuple[list[str], list[Tensor]]:
    axes, deviations, _ = principal(codes, TRAVERSED)
    steps = torch.from_numpy(STEPS).float()[:, None]
    moves = [codes.mean(0) + steps * sd * axis for axis, sd in zip(axes, deviations, strict=True)]
    return [f"PC{number + 1}" for number in range(len(moves))], moves


def _latent_map(scene: _Scene) -> Picture:
    codes, count = scene.codes, scene.codes.shape[1]
    text = f"Latents of {len(codes)} validation examples"
    if count == 1:
        return class_plots.histogram(codes[:, 0].numpy(), scene.labels, text, "z0", scene.spec.class_names)
    if count == 2:
        return class_plots.scatter(codes.numpy(), scene.labels, text, ("z0", "z1"), classes=scene.spec.class_names)
    axes, _, shares = principal(codes, 2)
    points = ((codes - codes.mean(0)) @ axes.T).numpy()
    # A single example has no second direction.
    points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    note = f"first two of {count} principal components: {100 * float(shares.sum()):.0f}% of the variance"
    names = [f"PC{i + 1} ({100 * float(share):.0f}%)" for i, share in enumerate(shares)]
    return class_plots.scatter(points, scene.labels, text, (names[0], [*names, "-"][1]), note, scene.spec.class_names)
