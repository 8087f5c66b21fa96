"""The examples on which an exported part is compared with the model."""

from __future__ import annotations

import torch
from torch import Tensor

from narrows.errors import UserError
from narrows.evaluation import select
from narrows.loading.open_run import OpenRun
from narrows.types import COUNTED, Batch, DataSpec

ROWS = 32
"""Examples on which a part is compared."""
VALUES = 2**22
"""Most values of these together; of large examples fewer are taken."""


def tried_examples(run: OpenRun) -> tuple[Batch, str]:
    """Some examples, and what they are: of the validation split, or drawn where the data are not at hand.

    Raises:
        UserError: the data found are not those that the run was trained on.
    """
    try:
        run.find_data()
    except UserError as error:
        return drawn(run.model.spec), f"examples drawn in the data's range, because {error}"
    split = "validation" if run.data.has("validation") else "train"
    batch = next(iter(run.data.ordered_loader(split)))
    rows = _rows(run.model.spec)
    return select(batch, slice(0, rows)), f"{min(rows, len(batch))} examples of the {split} split"


def drawn(spec: DataSpec, seed: int = 0) -> Batch:
    """Examples of the spec's kind, shape and range, of which nothing else is true."""
    source = torch.Generator().manual_seed(seed)
    rows = _rows(spec)
    length = torch.randint(1, spec.shape[-1] + 1, (rows,), generator=source) if spec.variable else None
    signals = torch.randn(rows, len(spec.covariates), spec.shape[-1], generator=source) if spec.covariates else None
    label = torch.arange(rows) % spec.num_classes if spec.num_classes else None
    return Batch(_values(spec, rows, source), label=label, length=length, covariates=signals)


def _rows(spec: DataSpec) -> int:
    return max(2, min(ROWS, VALUES // spec_values(spec)))


def spec_values(spec: DataSpec) -> int:
    """The number of values of one example."""
    return int(torch.Size(spec.shape).numel())


def _values(spec: DataSpec, rows: int, source: torch.Generator) -> Tensor:
    shape = (rows, *spec.shape)
    if spec.kind == "tokens":
        return torch.randint(0, len(spec.vocabulary or []), shape, generator=source)
    if spec.kind in COUNTED:
        return (4 * torch.rand(shape, generator=source) - 2).round().clamp_min(0)
    if spec.bounds is None:
        return torch.randn(shape, generator=source)
    low, high = spec.bounds
    return low + (high - low) * torch.rand(shape, generator=source)
