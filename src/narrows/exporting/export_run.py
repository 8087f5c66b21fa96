"""Exporting a run: each part is written into memory, compared with the model, and only then kept."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from narrows.errors import first_line, is_out_of_memory, require
from narrows.evaluation import evaluating, select
from narrows.exporting import metadata
from narrows.exporting.formats import Format
from narrows.exporting.model_parts import PARTS, Part
from narrows.exporting.tried_examples import tried_examples
from narrows.loading.open_run import OpenRun
from narrows.models.autoencoder import Autoencoder
from narrows.types import Batch

log = logging.getLogger(__name__)


@dataclass
class Exported:
    """One part, written and compared."""

    name: str
    content: bytes
    difference: float
    """Largest difference of a value from the model's own."""
    relative: float
    """That by the largest of these values."""


def export(run: OpenRun, form: Format, names: Sequence[str], tolerance: float) -> list[Exported]:
    """The parts of these names; those that cannot be exported are named with the reason, and left out.

    Raises:
        UserError: no part can be exported, or one differs from the model by more than `tolerance` of its largest value.
    """
    told = metadata.of_run(run)
    batch, what = tried_examples(run)
    found, reasons = [], []
    for name in names:
        part = PARTS[name](run.model)
        reason = part.obstacle() if form.graph else None
        made = tried(part, form, batch, told) if reason is None else reason
        if isinstance(made, str):
            reasons.append(f"{name}: {made}")
            continue
        require(
            made.relative <= tolerance,
            f"{name}: what was exported differs from the model by {made.relative:.3g} of its largest value on {what}, "
            f"more than --tolerance {tolerance:g}: nothing is written",
        )
        log.info(
            "%s: differs from the model by at most %.2g (%.2g of its largest value) on %s", name, *_figures(made), what
        )
        found.append(made)
    require(bool(found), f"nothing can be exported; {'; '.join(reasons)}")
    for reason in reasons:
        log.warning("not exported: %s", reason)
    return found


def tried(part: Part, form: Format, batch: Batch, told: dict[str, str]) -> Exported | str:
    """The part, written and compared on this batch and on one example alone; or why it cannot be written."""
    model: Autoencoder = part.model
    with evaluating(part, 0, "export"):
        inputs = part.examples(batch)
        described = metadata.of_part(part, inputs, part.expected(batch))
        try:
            content = form.write(part, inputs, told | described)
        except Exception as error:
            # Exporters raise errors of every kind at what has no graph.
            if is_out_of_memory(error) or isinstance(error, OSError):
                raise
            return f"{type(model).__name__} has no such graph ({type(error).__name__}: {first_line(error)})"
        return Exported(
            part.name, content, *form.largest_difference(content, part, [batch, select(batch, slice(0, 1))])
        )


def _figures(made: Exported) -> tuple[float, float]:
    return made.difference, made.relative
