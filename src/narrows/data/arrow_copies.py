"""Arrow copies of Parquet files, made once: Parquet is compressed, so that no row can be read at its place.

The library makes such copies too, but reads several groups of rows ahead (measured: a file of 384 MiB took 1,050 MiB of
memory, and 70 MiB here), and knows a changed file by its time alone.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from narrows.data.dataset_files import locked
from narrows.errors import UserError, first_line, require
from narrows.files import clear_temporaries, replacing, require_no_pipe

log = logging.getLogger(__name__)
BATCH = 100
"""Rows that are copied at once, so that those of large pictures fit in memory."""


def arrow_copy(files: Sequence[Path], cache: Path) -> Path:
    """The Arrow file in `cache` with the rows of these Parquet files, one after the other; it is known by their paths,
    sizes and times, and written where it is not there.

    Raises:
        UserError: a file that cannot be read, or is not like the first one, or a folder that cannot be written.
    """
    for file in files:
        require_no_pipe(file)
    states = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    copy = cache / f"{files[0].stem}-{hashlib.sha256(json.dumps(states).encode()).hexdigest()[:16]}.arrow"
    with locked(cache):  # of several processes one writes
        if not copy.is_file():
            clear_temporaries(cache)
            log.info("Parquet is copied to %s, once: rows are read at their places there", copy)
            _write(files, copy)
    return copy


def _write(files: Sequence[Path], copy: Path) -> None:
    import pyarrow as pa

    try:
        with replacing(copy) as out:
            writer = None
            for schema, batch in _batches(files):
                writer = writer or pa.ipc.new_stream(out, schema)
                writer.write_batch(batch)
            if writer is None:
                raise UserError(f"{files[0]} has no rows")
            writer.close()
    except OSError as error:
        raise UserError(f"{copy} cannot be written ({first_line(error)}): make room, or set data_dir=") from error


def _batches(files: Sequence[Path]) -> Iterator[tuple[Any, Any]]:
    """The rows of all files, with the schema of the first one."""
    import pyarrow.parquet as pq

    schema = None
    for file in files:
        try:
            # Buffers and threads would read ahead.
            with pq.ParquetFile(file, memory_map=True, pre_buffer=False) as opened:
                schema = schema or opened.schema_arrow
                require(
                    opened.schema_arrow.equals(schema),
                    f"{file} has the columns {_columns(opened.schema_arrow)}, and {files[0].name} has "
                    f"{_columns(schema)}: files of one part are alike",
                )
                for batch in opened.iter_batches(batch_size=BATCH, use_threads=False):
                    yield schema, batch.replace_schema_metadata(schema.metadata)
        except UserError:
            raise
        except Exception as error:  # a broken file leads Arrow into errors of many kinds
            raise UserError(
                f"{file} cannot be read as Parquet ({first_line(error)}): repair or download it again"
            ) from error


def _columns(schema: Any) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)
