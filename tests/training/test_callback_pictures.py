"""Pictures are valid files, of the expected size, and leave training as it was."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import instances
import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from PIL import Image
from tasks.standins import Rows
from torch.utils.data import DataLoader

from narrows.bottlenecks.gaussian import Gaussian
from narrows.drawing import canvas
from narrows.encoders.mlp import MLPEncoder
from narrows.errors import UserError
from narrows.models.autoencoder import Autoencoder
from narrows.tasks.measures.principal_axes import principal
from narrows.training.callbacks.pictures import Pictures, draw
from narrows.types import Batch, DataSpec

CPU = torch.device("cpu")
GAUSSIAN = instances.LIKELIHOODS["gaussian_fixed"]
KINDS = {
    "image": DataSpec((1, 8, 8), "image", 40, value_range=(0.0, 1.0)),
    "colour": DataSpec((3, 6, 9), "image", 40),
    "series": DataSpec((2, 12), "series", 40),
    "roll": DataSpec((9, 12), "series", 40, value_range=(0.0, 1.0)),
    "vector": DataSpec((5,), "vector", 40, feature_names=["a", "b", "c", "d", "a very long name indeed"]),
}


def _data(spec: DataSpec, n: int = 40) -> Rows:
    split = Batch(torch.rand(n, *spec.shape), label=torch.arange(n) % 3)
    return Rows(
        {"train": split, "validation": split},
        kind=spec.kind,
        value_range=spec.value_range,
        feature_names=spec.feature_names,
    )


def _model(spec: DataSpec, bottleneck: str = "gaussian", corruption: str = "none") -> Autoencoder:
    parts = {"bottleneck": instances.BOTTLENECKS[bottleneck], "corruption": instances.CORRUPTIONS[corruption]}
    return instances.model(spec, likelihood=GAUSSIAN, **parts)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_data_has_pictures(kind: str) -> None:
    pictures = draw(_model(KINDS[kind], corruption="gaussian"), _data(KINDS[kind]), CPU)
    assert pictures.keys() == {"latent_map", "reconstruction", "samples", "traversal"}
    for picture in pictures.values():
        assert picture.dtype == np.uint8
        assert picture.shape[2] == 3
        assert picture.std() > 1


def test_models_without_a_prior_have_neither_samples_nor_traversal() -> None:
    assert draw(_model(KINDS["image"], "topk"), _data(KINDS["image"]), CPU).keys() == {"latent_map", "reconstruction"}


@pytest.mark.parametrize("dim", [1, 2])
def test_latents_of_few_dimensions_and_few_examples(dim: int) -> None:
    spec = KINDS["vector"]
    model = instances.model(spec, likelihood=GAUSSIAN, bottleneck=partial(Gaussian, dim=dim))
    assert draw(model, _data(spec, 1), CPU)["latent_map"].std() > 1


def test_a_collapsed_latent_is_drawn() -> None:
    model = _model(KINDS["image"])
    torch.nn.init.zeros_(model.bottleneck.projection.weight)
    assert "latent_map" in draw(model, _data(KINDS["image"]), CPU)


class _ToMap(MLPEncoder):
    """Ends in a map `[2, 2, 2]`."""

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape, widths=[8])
        self.out_shape = (2, 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).unflatten(1, (2, 2, 2))


def test_maps_of_latents_are_traversed_along_principal_directions() -> None:
    model = instances.model(KINDS["image"], encoder=_ToMap, bottleneck=partial(Gaussian, dim=3))
    assert draw(model, _data(KINDS["image"]), CPU)["traversal"].std() > 1


def test_image_grids_show_each_pixel_enlarged_and_unsmoothed() -> None:
    x = torch.rand(5, 1, 8, 8).numpy()
    picture = canvas.image_grid([("input", x), ("model", 1 - x)], "t", (0, 1))
    scale, gap = round(canvas.TILE / 8), 6
    side = 20 + round(10.5 * len("input")) + 16
    assert picture.shape == (58 + 2 * 8 * scale + gap + 20, side + 5 * 8 * scale + 4 * gap + 20, 3)
    tile = picture[58 : 58 + 8 * scale, side : side + 8 * scale]
    expected = np.rint(x[0, 0] * 255).astype(np.uint8).repeat(scale, 0).repeat(scale, 1)
    np.testing.assert_array_equal(tile, np.broadcast_to(expected[..., None], tile.shape))


def test_drawing_leaves_the_random_stream_and_the_mode_alone() -> None:
    model, data = _model(KINDS["image"], corruption="gaussian").train(), _data(KINDS["image"])
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = draw(model, data, CPU)
    assert torch.equal(torch.rand(3), expected)
    assert model.training
    for name, picture in draw(model, data, CPU).items():
        np.testing.assert_array_equal(picture, first[name])


def test_principal_axes_are_those_of_pca_in_both_sizes() -> None:
    for shape in ((300, 12), (400, 300)):
        codes = torch.randn(shape) * torch.linspace(3, 0.1, shape[1])
        codes[:, 0] *= 9
        axes, deviations, shares = principal(codes, 2)
        centred = codes - codes.mean(0)
        values = torch.linalg.svdvals(centred)
        torch.testing.assert_close(deviations, values[:2] / (len(codes) - 1) ** 0.5, rtol=0.02, atol=0)
        torch.testing.assert_close(shares, values[:2].square() / values.square().sum(), rtol=0.04, atol=0)
        torch.testing.assert_close((axes @ axes.T), torch.eye(2), rtol=0, atol=1e-4)


class _Gallery(pl.loggers.Logger):
    """Takes images, as TensorBoard does."""

    name, version = "gallery", 0

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[tuple[str, int, str]] = []
        self.experiment = SimpleNamespace(add_image=self._add)

    def _add(self, tag: str, picture: np.ndarray, step: int, dataformats: str) -> None:
        self.shown.append((tag, step, dataformats))

    def log_metrics(self, *args: object, **kwargs: object) -> None:
        pass

    def log_hyperparams(self, *args: object, **kwargs: object) -> None:
        pass


class _Module(pl.LightningModule):
    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model

    def training_step(self, batch: Batch, index: int) -> None:
        optimizer = self.optimizers()
        self.manual_backward(-self.model(batch).p_x.log_prob(batch.x).mean())
        optimizer.step()
        optimizer.zero_grad()

    def validation_step(self, batch: Batch, index: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


class _Data(pl.LightningDataModule):
    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.rows, self.spec, self.ordered_loader = rows, rows.spec, rows.ordered_loader

    def train_dataloader(self) -> DataLoader:
        return DataLoader(list(self.rows.ordered_loader("train")), batch_size=None)

    val_dataloader = train_dataloader


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*", "ignore:.*batch_size.*", "ignore:.*many workers.*")
def test_the_callback_draws_every_n_epochs_and_at_the_end(tmp_path: Path) -> None:
    gallery = _Gallery()
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=[gallery],
        callbacks=[Pictures(every_n_epochs=2, examples=4)],
        default_root_dir=str(tmp_path),
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(_Module(_model(KINDS["image"])), datamodule=_Data(_data(KINDS["image"])))
    assert [step for tag, step, _ in gallery.shown if tag == "views/samples"] == [20, 30]
    assert {form for *_, form in gallery.shown} == {"HWC"}
    files = sorted((tmp_path / "figures").iterdir())
    assert [file.name for file in files] == ["latent_map.png", "reconstruction.png", "samples.png", "traversal.png"]
    for file in files:
        with Image.open(file) as image:
            image.verify()
        assert np.asarray(Image.open(file)).std() > 1


def test_senseless_arguments() -> None:
    with pytest.raises(UserError, match="every_n_epochs must be at least 1"):
        Pictures(every_n_epochs=0)
