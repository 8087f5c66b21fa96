"""The logger of Weights & Biases."""

from __future__ import annotations

import html
import json
import secrets
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from narrows.drawing.labels import Picture
from narrows.training.elsewhere import Described, Elsewhere

STEP = "trainer/global_step"
"""The axis of all charts, under the name that Lightning gives it."""
EXIT_CODES = {"completed": 0, "pruned": 0, "interrupted": 255, "failed": 1}
"""255 is what the service shows as killed."""
BLOCK, HEADER = 32768, 7


class WeightsAndBiases(Elsewhere):
    """Sends a run to Weights & Biases; jobs of a sweep are one group.

    Args:
        save_dir: the run directory, which holds its files in `wandb/`.
        project: where the run is shown.
        entity: the team or user whose project it is.
        offline: only write files, for `wandb sync`.
    """

    def __init__(self, save_dir: str | Path, *, project: str, entity: str | None, offline: bool) -> None:
        super().__init__(save_dir)
        self.project, self.entity, self.offline = project, entity, offline
        self._run: Any = None
        self._row = 0

    @property
    def name(self) -> str:
        return "wandb"

    @property
    def version(self) -> str:
        return "" if self._run is None else str(self._run.id)

    @property
    def experiment(self) -> Any:
        """The `wandb.Run`; None before the run has begun, and in processes that write nothing."""
        return self._run

    def _open(self, described: Described, known: Mapping[str, str] | None) -> dict[str, str]:
        import wandb  # here, because it takes a second

        config = described.config
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            id=secrets.token_hex(6) if known is None else known["id"],
            resume=None if known is None else "allow",
            name=described.name,
            group=None if described.sweep is None else described.sweep.name,
            tags=[str(tag) for tag in config.get("tags") or ()] or None,
            notes=config.get("notes"),
            dir=str(self.directory),
            mode="offline" if self.offline else None,
            # A record holds no links; and a run that is open in this notebook stays the notebook's.
            settings=wandb.Settings(symlink=False, reinit="create_new"),
        )
        chosen = {"choices": described.choices, "directory": str(described.directory)}
        self._run.config.update(config | chosen, allow_val_change=True)
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP, step_sync=True)
        return {"id": str(self._run.id), "project": self.project}

    def _points(self) -> set[tuple[str, int]]:
        logs = sorted(self.directory.glob(f"wandb/*run-*-{self._run.id}/run-{self._run.id}.wandb"))
        held = [row for log in logs for row in rows(log)]
        # Offline, a resumed run would number its rows from 0 again, below those of the files before.
        self._row = max([self._run.step, *(1 + int(json.loads(row.get("_step", "-1"))) for row in held)])
        steps = [(row, int(json.loads(row[STEP]))) for row in held if STEP in row]
        return {(name, step) for row, step in steps for name in row if name != STEP and not name.startswith("_")}

    def _write(self, values: dict[str, Any], step: int) -> None:
        self._run.log(values | {STEP: step}, step=self._row, commit=True)
        self._row += 1

    def _write_image(self, name: str, picture: Picture, step: int) -> None:
        import wandb

        self._write({name: wandb.Image(picture)}, step)

    def _write_text(self, name: str, text: str, step: int) -> None:
        import wandb

        self._write({name: wandb.Html(f"<pre>{html.escape(text)}</pre>")}, step)

    def _close(self, status: str) -> None:
        self._run.summary["status"] = status
        self._run.finish(exit_code=EXIT_CODES[status])


def rows(log: Path) -> Iterator[dict[str, str]]:
    """What a run's file holds of figures and pictures: rows of values by name, as JSON.

    A killed run's file lacks up to the last 15 seconds of what it was given, which wandb had not yet written.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    for payload in _records(log.read_bytes()):
        # A picture is several items, which have its name and their own.
        items = Record.FromString(payload).history.item
        if items:
            yield {item.key or item.nested_key[0]: item.value_json for item in items}


def _records(data: bytes) -> Iterator[bytes]:
    """The whole records of a file in LevelDB's log format behind wandb's seven bytes, up to where it was cut off.

    Blocks of 32 KiB hold parts: checksum, length, and a kind: 1 whole, 2 first, 3 middle, 4 last.
    """
    at, gathered = HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:  # too little of the block is left for another part
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        part = data[at + HEADER : at + HEADER + length]
        if kind not in (1, 2, 3, 4) or len(part) < length:
            return
        gathered = part if kind in (1, 2) else gathered + part
        if kind in (1, 4):
            yield gathered
        at += HEADER + length
