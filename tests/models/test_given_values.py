"""What a model is given in Python: other shapes, types and kinds are told in one sentence what would be right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from instances import model

from narrows.errors import UserError
from narrows.models.autoencoder import Autoencoder
from narrows.types import Batch, DataSpec

SPEC = DataSpec((1, 8, 8), "image", 10, value_range=(0.0, 1.0))
READS = r"does not fit this model, which reads \[B, "
REFUSED: dict[str, tuple[Callable[[Autoencoder], Any], str]] = {
    "list": (lambda m: m.embed([[1.0]]), r"x must be a tensor \[B, 1, 8, 8\], not a list"),  # type: ignore[arg-type]
    "text": (lambda m: m.reconstruct("abc"), r"x must be a tensor \[B, 1, 8, 8\], not a str"),  # type: ignore[arg-type]
    "nothing": (lambda m: m.encode(None), "not a NoneType"),  # type: ignore[arg-type]
    "one axis": (lambda m: m.embed(torch.zeros(64)), r"not of shape \[64\]"),
    "flat": (lambda m: m.embed(Batch(torch.zeros(2, 64))), r"not of shape \[2, 64\]"),
    "channels": (lambda m: m.embed(torch.zeros(2, 3, 8, 8)), r"not of shape \[2, 3, 8, 8\]"),
    "size": (lambda m: m.embed(torch.zeros(2, 1, 9, 9)), READS + "1, 8, 8"),
    "double": (lambda m: m.embed(torch.zeros(2, 1, 8, 8).double()), "type float64 " + READS),
    "bytes": (lambda m: m.reconstruct(torch.zeros(2, 1, 8, 8).byte()), "type uint8 " + READS),
    "latent": (lambda m: m.decode(torch.zeros(2, 99)), r"z of shape \[2, 99\]"),
    "latent list": (lambda m: m.decode([0.0]), "z must be a tensor"),  # type: ignore[arg-type]
    "negative": (lambda m: m.sample(-1), "whole number of at least 0, not -1"),
    "half": (lambda m: m.sample(1.5), "whole number of at least 0, not 1.5"),  # type: ignore[arg-type]
    "word": (lambda m: m.sample("all"), "whole number of at least 0, not 'all'"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("use", "said"), REFUSED.values(), ids=REFUSED)
def test_a_model_says_what_it_reads(use: Callable[[Autoencoder], Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        use(model(SPEC))


def test_an_error_within_the_model_is_not_blamed_on_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model(SPEC)

    def faulty(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(made.encoder, "forward", faulty)
    with pytest.raises(RuntimeError, match="a bug"):
        made.embed(torch.zeros(2, 1, 8, 8))


def test_a_model_in_double_precision_reads_values_in_single() -> None:
    made, x = model(SPEC).double().eval(), torch.rand(2, 1, 8, 8)
    z = torch.rand(2, *made.latent_shape)
    assert torch.equal(made.embed(Batch(x)), made.embed(x.double()))
    assert torch.equal(made.decode(z).mean, made.decode(z.double()).mean)
    with pytest.raises(UserError, match="type uint8 " + READS):
        made.embed(x.byte())
