"""Laws of channels last: another layout, the same figures; exact under resume; refused where nothing has channels."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from instances import BOTTLENECKS, LIKELIHOODS, model
from training.module_helpers import Recorder, SaveAt, deterministic, fit, module, quiet, weights

from narrows.data import DataModule
from narrows.data.contents import Contents, Part
from narrows.decoders.conv import ConvDecoder
from narrows.encoders.conv import ConvEncoder
from narrows.errors import UserError
from narrows.training.lightning_module import AutoencoderModule
from narrows.types import DataSpec

pytestmark = quiet
PICTURES = DataSpec((3, 8, 8), "image", 40, value_range=(0.0, 1.0))


class Colours:
    """A source of small pictures."""

    def load(self) -> Contents:
        x = torch.rand(60, *PICTURES.shape, generator=torch.Generator().manual_seed(2))
        train, validation, test = (Part(part, target=part.flip(3)) for part in x.split((40, 10, 10)))
        return Contents("image", train, validation=validation, test=test)


def lies_last(values: Any) -> bool:
    return bool(values.is_contiguous(memory_format=torch.channels_last))


def fitted(
    seen: set[bool] | None = None, checkpoint: Path | None = None, callbacks: Any = (), **options: Any
) -> tuple[AutoencoderModule, Recorder]:
    torch.manual_seed(3)
    net = model(
        PICTURES,
        encoder=partial(ConvEncoder, channels=[4, 6], norm="batch", flatten=False),
        bottleneck=BOTTLENECKS["deterministic"],
        decoder=partial(ConvDecoder, channels=[6, 4]),
        likelihood=LIKELIHOODS["bernoulli"],
    )
    trained = module(net, **options)
    if seen is not None:  # whether channels lie last in what the encoder and the loss are given
        net.register_forward_pre_hook(lambda _, given: seen.update(map(lies_last, (given[0].x, given[0].target))))
        net.encoder.register_forward_pre_hook(lambda _, given: seen.add(lies_last(given[0])))
    data = DataModule(Colours(), batch_size=10, validation="official")
    _, recorder = fit(trained, data, checkpoint, max_epochs=2, callbacks=list(callbacks))
    return trained, recorder


def test_the_figures_are_those_of_the_usual_layout() -> None:
    found = {}
    for last in (False, True):
        seen: set[bool] = set()
        trained, recorder = fitted(seen, channels_last=last)
        assert seen == {last}
        kernels = [p for p in trained.parameters() if p.ndim == 4]
        assert all(lies_last(p) == last for p in kernels)
        found[last] = [[row.get("train/loss", row.get("val/loss", 0)) for _, row in recorder.rows], weights(trained)]
    torch.testing.assert_close(found[True], found[False], rtol=1e-3, atol=1e-4)


def test_a_run_goes_on_to_the_bit_and_may_be_compiled(tmp_path: Path) -> None:
    last = tmp_path / "last.ckpt"
    whole, _ = fitted(channels_last=True, callbacks=[SaveAt(3, last)])
    continued, _ = fitted(None, last, channels_last=True)
    assert torch.equal(weights(whole), weights(continued))
    with pytest.MonkeyPatch.context() as patch:
        # Without a compiler of C++: tracing is what can go wrong here.
        patch.setattr(torch.nn.Module, "compile", compile_without_cpp)
        compiled, _ = fitted(channels_last=True, compile=True)
    torch.testing.assert_close(weights(compiled), weights(whole), rtol=1e-3, atol=1e-4)


def compile_without_cpp(network: Any) -> None:
    network._compiled_call_impl = torch.compile(network._call_impl, backend="aot_eager")


def test_what_has_no_layout_is_refused() -> None:
    with pytest.raises(UserError, match=r"layout of pictures \(C, H, W\), not of data of shape \[12\]: set false"):
        module(deterministic(), channels_last=True)
    with pytest.raises(UserError, match=r"neither the encoder \(MLPEncoder\) nor the decoder \(MLPDecoder\) has one"):
        module(model(PICTURES), channels_last=True)
