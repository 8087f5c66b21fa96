"""Using the recorded number of threads on a finished run, because the last digits of sums depend on it."""

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
    """The recorded number of threads of a run; None if the manifest, which may come from a stranger, has none."""
    threads = _recorded(manifest, "hardware").get("threads")
    return threads if isinstance(threads, int) and 0 < threads <= 1024 else None


@contextmanager
def as_recorded(run: Path) -> Iterator[None]:
    """Use the run's number of threads inside this context.

    If figures may still differ in their last digits, one sentence in the log says why.

    Raises:
        UserError: the directory is not that of a run.
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
    """Properties of this machine that change the last digits and differ from the recorded ones."""
    from importlib import metadata

    from narrows.runs.provenance import hardware

    here, recorded = hardware(), _recorded(manifest, "hardware")
    pairs = {
        "processor": (recorded.get("cpu"), here["cpu"]),
        "instruction set": (recorded.get("instructions"), here["instructions"]),
        "threads": (recorded.get("threads"), here["threads"]),
        "GPUs": (recorded.get("gpus"), here["gpus"]),
        "torch": (_recorded(manifest, "versions").get("torch"), metadata.version("torch")),
    }
    # Quoted, because a stranger's text may hold control characters.
    return [f"{name} {was!r:.60}, now {now!r:.60}" for name, (was, now) in pairs.items() if was not in (None, now)]


def _recorded(manifest: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = manifest.get(name)
    return found if isinstance(found, dict) else {}
