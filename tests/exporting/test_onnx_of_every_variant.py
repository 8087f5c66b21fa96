"""ONNX gives what torch gives, for every variant in configs/variant/ but those in a table with their reasons."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from hydra.core.global_hydra import GlobalHydra
from small_variants import VARIANTS, trained
from torch.onnx._internal.exporter._registration import ONNXRegistry

from narrows.commands.export import TOLERANCE
from narrows.exporting.export_run import Exported, tried
from narrows.exporting.formats import Onnx
from narrows.exporting.model_parts import PARTS

pytest.importorskip("onnxruntime")

UNEXPORTED = {
    "hamiltonian_vae": "its encoder follows gradients of the decoder",
}
"""Variants whose reconstruction has no ONNX graph, and why; README's table in configs/ says the same."""
FAST = ("vae", "vq_vae")
"""The others are exported in the slow suite: each takes seconds."""
CONFIGS = Path(__file__).parents[2] / "configs" / "README.md"


@pytest.fixture(autouse=True, scope="module")
def _translations_are_read_once() -> Iterator[None]:
    """torch reads its table of 500 translations anew for each export, which takes half of the time."""
    read = functools.cache(ONNXRegistry.from_torchlib)
    with patch.object(ONNXRegistry, "from_torchlib", staticmethod(lambda opset_version: read(opset_version))):
        yield
    GlobalHydra.instance().clear()


@pytest.mark.parametrize(
    "variant",
    [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in VARIANTS if name not in UNEXPORTED],
)
def test_onnx_gives_the_model_s_reconstruction(variant: str) -> None:
    """Through encoder, bottleneck, decoder and likelihood, for a batch of another size too."""
    one = trained(variant)
    made = tried(PARTS["reconstruction"](one.model), Onnx(), one.batch(), {})
    assert isinstance(made, Exported), made
    assert made.relative <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("variant", UNEXPORTED)
def test_a_variant_that_has_a_graph_stands_in_no_table(variant: str) -> None:
    one = trained(variant)
    assert isinstance(tried(PARTS["reconstruction"](one.model), Onnx(), one.batch(), {}), str)


def test_the_users_table_is_this_one() -> None:
    section = CONFIGS.read_text().partition("## Export")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE))
    assert rows == UNEXPORTED
    assert set(rows) <= set(VARIANTS)
