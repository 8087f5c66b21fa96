"""A model that starts at PCA's solution: which solution, on which models, and when."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from instances import BOTTLENECKS, INPUTS, LIKELIHOODS, model
from sklearn.decomposition import PCA
from torch import Tensor
from training.module_helpers import SPEC, SaveAt, adam, datamodule, fit, module, quiet, weights

from narrows.bottlenecks.deterministic import Deterministic
from narrows.bottlenecks.gaussian import Gaussian
from narrows.data.contents import Contents, Part
from narrows.data.datamodule import DataModule
from narrows.decoders.mlp import MLPDecoder
from narrows.encoders.mlp import MLPEncoder
from narrows.errors import UserError
from narrows.likelihoods.normal import GaussianLikelihood
from narrows.losses.divergence import evidence_lower_bound
from narrows.models.autoencoder import Autoencoder
from narrows.runs import checkpoint_files
from narrows.training.callbacks.start_at_pca import StartAtPCA, lacking
from narrows.training.callbacks.write_checkpoints import Checkpoint
from narrows.training.lightning_module import AutoencoderModule
from narrows.types import Batch

pytestmark = quiet
LINEAR = {"encoder": partial(MLPEncoder, widths=[16], shortcut=True)}
LINEAR |= {"decoder": partial(MLPDecoder, widths=[16], shortcut=True)}  # type: ignore[dict-item]


def made(bottleneck: Any, likelihood: Any = LIKELIHOODS["gaussian_optimal"], **stages: Any) -> AutoencoderModule:
    torch.manual_seed(3)
    return module(model(SPEC, bottleneck=bottleneck, likelihood=likelihood, **(LINEAR | stages)), optimizer=adam)


def rows(data: DataModule) -> Tensor:
    return torch.cat([batch.truth for batch in data.ordered_loader("train")])


class First(L.Callback):
    """What the model says of rows before the first step of a fit."""

    def __init__(self, look: Any) -> None:
        self.look, self.seen = look, None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        if self.seen is None:
            with torch.no_grad():
                self.seen = self.look(pl_module.model)


def at_start(trained: AutoencoderModule, look: Any, data: DataModule | None = None, when: str = "always") -> Any:
    first = First(look)
    fit(trained, data or datamodule(), callbacks=[StartAtPCA(when), first], max_epochs=1)
    return first.seen


@pytest.mark.parametrize(("dim", "train"), [(1, 50), (4, 50), (12, 50), (20, 50), (4, 8)])
def test_deterministic_latents_start_as_principal_components(dim: int, train: int) -> None:
    """Of fewer rows than values too, whose components are found otherwise."""
    data = datamodule(train=train)
    x = rows(data)
    latents, rebuilt = at_start(
        made(partial(Deterministic, dim=dim)), lambda net: (net.embed(x).double(), net.reconstruct(x)), data
    )
    pca = PCA(min(dim, 12)).fit(x.double())
    np.testing.assert_allclose(rebuilt, pca.inverse_transform(pca.transform(x.double())), atol=1e-4)
    kept = latents[:, : min(dim, 12)]
    torch.testing.assert_close(
        kept.T.cov().reshape(kept.shape[1], -1), torch.eye(kept.shape[1]).double(), atol=1e-3, rtol=0
    )


def test_gaussian_latents_start_as_the_posterior_of_probabilistic_pca() -> None:
    """So at the noise of probabilistic PCA the evidence lower bound is the evidence."""
    x = rows(datamodule())
    pca = PCA(4).fit(x.double())
    likelihood = partial(GaussianLikelihood, sigma=math.sqrt(pca.noise_variance_))

    def bound(net: Autoencoder) -> Tensor:
        torch.manual_seed(0)
        return torch.stack([evidence_lower_bound(net(Batch(x))) for _ in range(400)]).mean(0)

    found = at_start(made(partial(Gaussian, dim=4), likelihood), bound)
    np.testing.assert_allclose(found, pca.score_samples(x.double()), atol=0.5)
    assert float(found.mean()) == pytest.approx(pca.score(x.double()), abs=0.05)


def test_every_latent_learns_even_where_there_are_more_of_them_than_components() -> None:
    trained = made(partial(Deterministic, dim=20))
    fit(trained, callbacks=[StartAtPCA("always")], max_epochs=2)
    assert bool((trained.model.decoder.shortcut.linear.weight.norm(dim=0) > 0).all())  # type: ignore[union-attr]


class Holed:
    """Rows of which some values are missing, and stand as 100."""

    def load(self) -> Contents:
        made = torch.Generator().manual_seed(7)
        x = torch.rand(60, *SPEC.shape, generator=made)
        observed = torch.rand(x.shape, generator=made) > 0.2
        parts = [Part(x.where(observed, 100.0)[part], observed=observed[part]) for part in (slice(40), slice(40, 60))]
        return Contents("vector", parts[0], validation=parts[1], test=parts[1])


def test_missing_values_are_put_at_the_mean() -> None:
    data = DataModule(Holed(), batch_size=10, validation="official")
    trained = made(partial(Deterministic, dim=4), LIKELIHOODS["gaussian_fixed"])
    mean = at_start(trained, lambda net: net.point_at(torch.zeros(1, 4))[0], data)
    batches = list(data.ordered_loader("train"))
    x, observed = (torch.cat([getattr(b, name) for b in batches]) for name in ("truth", "observed"))
    # Decoded at 0 lies the mean of what was observed.
    torch.testing.assert_close(mean, x.where(observed, 0).sum(0) / observed.sum(0), atol=1e-5, rtol=1e-4)


def test_a_resumed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    whole, first, second = (made(partial(Gaussian, dim=4)) for _ in range(3))
    start = StartAtPCA()
    fit(whole, callbacks=[start], max_epochs=4)
    fit(first, callbacks=[start, SaveAt(5, tmp_path / "at.ckpt")], max_epochs=1)
    fit(second, callbacks=[start], max_epochs=4, checkpoint=tmp_path / "last.ckpt")
    assert torch.equal(weights(whole), weights(second))


OTHERS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no shortcut": (
        BOTTLENECKS["gaussian"],
        {"decoder": partial(MLPDecoder, widths=[16])},
        "decoder.shortcut=true",
    ),
    "an activation": (
        partial(Deterministic, dim=4, activation="sigmoid"),
        {},
        "bottleneck=deterministic without an activation",
    ),
    "codes": (BOTTLENECKS["vq"], {}, "bottleneck=gaussian"),
    "another input": (BOTTLENECKS["gaussian"], {"input": INPUTS["log1p"]}, "input=identity"),
    "logits": (BOTTLENECKS["gaussian"], {"likelihood": LIKELIHOODS["bernoulli"]}, "likelihood=gaussian_optimal"),
    "two parameters": (
        BOTTLENECKS["gaussian"],
        {"likelihood": LIKELIHOODS["gaussian_value"]},
        "likelihood=gaussian_optimal",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_start_as_drawn_or_are_refused(name: str) -> None:
    bottleneck, stages, needed = OTHERS[name]
    refused = made(bottleneck, **stages)
    said = lacking(refused.model)
    assert said is not None
    assert needed in said
    before = weights(refused)
    assert torch.equal(before, at_start(refused, lambda net: weights(refused), when="possible"))
    with pytest.raises(UserError, match=r"callbacks\.start_at_pca\.when=always needs "):
        fit(made(bottleneck, **stages), callbacks=[StartAtPCA("always")])


def test_the_start_is_the_best_where_training_makes_it_worse(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained, best = made(partial(Gaussian, dim=4)), Checkpoint()
    trained._make_optimizer = partial(torch.optim.SGD, lr=0.1)
    own = {"enable_checkpointing": True, "default_root_dir": tmp_path}
    _, recorder = fit(trained, callbacks=[StartAtPCA(), best], max_epochs=2, **own)
    judged = recorder.series("val/loss")
    assert [step for step, _ in judged] == [0, 5, 10]
    assert best.best == pytest.approx(judged[0][1])
    assert judged[0][1] < min(loss for _, loss in judged[1:])
    held = checkpoint_files.read(tmp_path / "checkpoints" / "best.ckpt")
    assert held["global_step"] == 0
    assert "no step of training improved val/loss: the best checkpoint is the start" in caplog.text


def test_never_is_never() -> None:
    trained = made(partial(Deterministic, dim=4))
    before = weights(trained)
    assert torch.equal(before, at_start(trained, lambda net: weights(trained), when="never"))
    with pytest.raises(UserError, match=r"callbacks\.start_at_pca\.when must be never, possible or always, not 'yes'"):
        StartAtPCA("yes")


class Alike:
    def load(self) -> Contents:
        parts = [Part(torch.full((count, *SPEC.shape), 0.5)) for count in (20, 5)]
        return Contents("vector", parts[0], validation=parts[1], test=parts[1])


def test_rows_that_are_all_alike_have_no_components() -> None:
    trained = made(partial(Deterministic, dim=4), LIKELIHOODS["gaussian_fixed"])
    data = DataModule(Alike(), batch_size=10, validation="official")
    before = weights(trained)
    assert torch.equal(before, at_start(trained, lambda net: weights(trained), data))
