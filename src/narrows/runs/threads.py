"""Work on a finished run as it was done at first: the last digits of a sum depend on threads, processor and torch."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from narrows.files import read_json
from narrows.runs.file_names import MANIFEST

log = logging.getLogger(__name__)


def recorded_threads(manifest: Mapping[str, Any]) -> int | None:
    """The number of threads of a run; None where its manifest, which may be a stranger's, does not say."""
    threads = _recorded(manifest, "hardware").get("threads")
    return threads if isinstance(threads, int) and 0 < threads <= 1024 else None


@contextmanager
def as_recorded(run: Path) -> Iterator[None]:
    """The run's number of threads inside, the one of before afterwards.

    Where figures may differ in their last digits all the same, one sentence of the log says why.

    Raises:
        UserError: the directory is no run's.
    """
    import torch

    manifest = read_json(run / MANIFEST)
    manifest = manifest if isinstance(manifest, dict) else {}
    before, recorded = torch.get_num_threads(), recorded_threads(manifest)
    torch.set_num_threads(min(recorded or before, max(before, os.cpu_count() or 1)))
    try:
        changed = _changed(manifest)
        if changed:
            log.warning("figures may differ from those of %s in their last digits: %s", run, "; ".join(changed))
        yield
    finally:
        torch.set_num_threads(before)


def _changed(manifest: Mapping[str, Any]) -> list[str]:
    """What the last digits depend on and is another here."""
    from importlib import metadata

    from narrows.runs.manifest import hardware

    here, recorded = hardware(), _recorded(manifest, "hardware")
    pairs = {
        "processor": (recorded.get("cpu"), here["cpu"]),
        "instruction set": (recorded.get("instructions"), here["instructions"]),
        "threads": (recorded.get("threads"), here["threads"]),
        "GPUs": (recorded.get("gpus"), here["gpus"]),
        "torch": (_recorded(manifest, "versions").get("torch"), metadata.version("torch")),
    }
    # Quoted, because a stranger's text may hold what moves a terminal's cursor.
    return [f"{name} {was!r:.60}, now {now!r:.60}" for name, (was, now) in pairs.items() if was not in (None, now)]


def _recorded(manifest: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = manifest.get(name)
    return found if isinstance(found, dict) else {}
