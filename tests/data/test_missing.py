"""Values that are missing on purpose reach no model and no statistic."""

from __future__ import annotations

import instances
import pytest
import torch

from narrows.data.contents import Contents, Part
from narrows.data.datamodule import DataModule
from narrows.data.missing_completely_at_random import Missing
from narrows.data.sources.bundled import Bundled
from narrows.data.stores import Packed
from narrows.errors import UserError
from narrows.likelihoods.normal import OptimalGaussianLikelihood
from narrows.losses.reconstruction import NegativeLogLikelihood
from narrows.models.autoencoder import Autoencoder
from narrows.types import Batch, DataSpec

SPLITS = ("train", "validation", "test")


class Table:
    """30 rows; what is asked to be concealed is set to a value that would show."""

    def __init__(self, standardise: str = "none") -> None:
        self.standardise = standardise

    def load(self) -> Contents:
        x = torch.randn(200, 5, generator=torch.Generator().manual_seed(3)) * 3 + 7
        return Contents("vector", Part(x), test_fraction=0.2, standardise=self.standardise)  # type: ignore[arg-type]


def module(share: float, standardise: str = "none", seed: int = 0) -> DataModule:
    data = DataModule(Missing(Table(standardise), share, seed), batch_size=32)
    data.setup()
    return data


def whole(data: DataModule, split: str, revealed: bool = False) -> Batch:
    loader = data.revealed_loader(split) if revealed else data.ordered_loader(split)  # type: ignore[arg-type]
    (batch,) = list(loader)
    return batch


@pytest.mark.parametrize("split", SPLITS)
def test_what_is_missing_is_served_as_zero_and_can_be_revealed(split: str) -> None:
    served, revealed = whole(module(0.4), split), whole(module(0.4), split, revealed=True)
    truth = whole(module(0.0), split).x
    assert served.observed is not None
    assert revealed.observed is not None
    assert (served.x[~served.observed] == 0).all()
    assert torch.equal(served.x[served.observed], truth[served.observed])
    assert torch.equal(revealed.x, truth)
    assert revealed.observed.all()
    assert float((~served.observed).float().mean()) == pytest.approx(0.4, abs=0.1)


def test_training_batches_have_the_mask_and_not_the_values() -> None:
    data = module(0.5)
    for batch in data.train_dataloader():
        assert batch.observed is not None
        assert (batch.x[~batch.observed] == 0).all()
        assert (batch.x[batch.observed] != 0).all()


@pytest.mark.parametrize("how", ["standard", "minmax"])
def test_statistics_are_of_the_observed_values_alone(how: str) -> None:
    raw, scaled = whole(module(0.5), "train"), whole(module(0.5, how), "train")
    assert raw.observed is not None
    assert torch.equal(raw.observed, scaled.observed)  # type: ignore[arg-type]
    for column in range(5):
        seen = raw.observed[:, column]
        x, z = raw.x[seen, column], scaled.x[seen, column]
        shift, scale = (x.mean(), x.std(unbiased=False)) if how == "standard" else (x.min(), x.max() - x.min())
        expected = (x - shift) / scale
        torch.testing.assert_close(z, expected, rtol=1e-4, atol=1e-5)


def test_the_draw_is_the_seed_s_alone_and_part_of_the_fingerprint() -> None:
    first, again, other = module(0.5), module(0.5), module(0.5, seed=1)
    assert torch.equal(whole(first, "test").x, whole(again, "test").x)
    assert not torch.equal(whole(first, "test").x, whole(other, "test").x)
    prints = [data.spec.fingerprint for data in (first, again, other, module(0.0), module(0.3))]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


def test_refusals() -> None:
    with pytest.raises(UserError, match="share must be at least 0 and below 1"):
        Missing(Table(), share=1.0)
    with pytest.raises(UserError, match=r"no table 'vine'.*wine"):
        Bundled("vine").load()

    class Bits:
        def load(self) -> Contents:
            return Contents("image", Part(Packed(torch.zeros(4, 1, dtype=torch.uint8), (1, 2, 4))))

    with pytest.raises(UserError, match="held in memory as numbers"):
        Missing(Bits()).load()


@pytest.mark.parametrize(("name", "rows", "dims"), [("breast", 569, 30), ("wine", 178, 13), ("iris", 150, 4)])
def test_the_tables_are_the_known_ones(name: str, rows: int, dims: int) -> None:
    contents = Bundled(name).load()
    assert tuple(contents.train.x.shape) == (rows, dims)
    assert len(contents.feature_names or ()) == dims


def _model(likelihood: str) -> Autoencoder:
    return instances.model(
        DataSpec(shape=(5,), kind="vector", size=10),
        bottleneck=instances.BOTTLENECKS["deterministic"],
        likelihood=instances.LIKELIHOODS[likelihood],
        corruption=instances.CORRUPTIONS["masking"],
        input=instances.INPUTS["missing_indicator"],
    )


@pytest.mark.parametrize("likelihood", ["gaussian_fixed", "gaussian_optimal"])
def test_no_loss_depends_on_what_is_missing(likelihood: str) -> None:
    model = _model(likelihood)
    x, observed = torch.randn(8, 5), torch.rand(8, 5) < 0.5
    losses = []
    for fill in (0.0, 100.0):
        torch.manual_seed(1)
        batch = Batch(x.masked_fill(~observed, 0.0), target=x.masked_fill(~observed, fill), observed=observed)
        losses.append(NegativeLogLikelihood()(model(batch), model))
    torch.testing.assert_close(losses[0], losses[1])
    if isinstance(model.likelihood, OptimalGaussianLikelihood):
        assert model.likelihood.sigma < 5, "sigma was not fitted to the filling"


def test_the_encoder_tells_a_missing_value_from_a_zero() -> None:
    model = _model("gaussian_fixed").eval()
    x = torch.zeros(1, 5)
    hidden = torch.tensor([[True, False, False, False, False]])
    assert not torch.equal(model.reconstruct(x), model.reconstruct(Batch(x, hidden=hidden)))
    seen = model.encode(Batch(x, hidden=torch.zeros_like(hidden)))
    assert torch.equal(model.encode(x).point, seen.point)
    batch = Batch(x, observed=~hidden)
    model.corruption = instances.CORRUPTIONS["none"](model.spec)
    assert torch.equal(model(batch).latent.point, model.encode(Batch(x, hidden=hidden)).point)
