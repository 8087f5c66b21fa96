"""The .nrwz file of `narrows compress`: a header, then the code, then a checksum.

| bytes | what |
|---|---|
| 4 | `NRWZ` |
| 1 | version of the format |
| 8 | fingerprint of the model |
| 8 | checksum of the coding tables |
| 8 | step, a double; 0 for codes |
| 4 | number of examples |
| 4 | length of the layout |
| n | layout: JSON, deflated: kind of file, shapes, names |
| m | code, see `narrows.coding.ans_entropy_coder` |
| 8 | BLAKE2b of all bytes before |
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any

from narrows.coding.file_layout import check_layout
from narrows.errors import UserError, require

MAGIC, VERSION = b"NRWZ", 1
_FIXED = struct.Struct("<4sB8s8sdII")
DIGEST = 8
LAYOUT = 2**20
"""Largest size of a layout in bytes, before it is deflated: about 20,000 pictures."""


@dataclass(frozen=True)
class Header:
    """The header of a file: the model, tables and step of the code, and the layout of the examples."""

    model: bytes
    """Fingerprint of the model, 8 bytes."""
    tables: bytes
    """Checksum of the coding tables, 8 bytes."""
    step: float | None
    """Step of the uniform quantiser; None for discrete latents."""
    count: int
    """Examples."""
    layout: dict[str, Any]
    """The layout of the examples; see `narrows.coding.file_layout`."""


def digest(*parts: bytes) -> bytes:
    """BLAKE2b of the parts, 8 bytes."""
    found = hashlib.blake2b(digest_size=DIGEST)
    for part in parts:
        found.update(part)
    return found.digest()


def pack(header: Header, code: bytes) -> bytes:
    """A whole file.

    Raises:
        UserError: `unpack` would refuse its layout.
    """
    check_layout(header.layout, header.count)
    text = json.dumps(header.layout, separators=(",", ":")).encode()
    require(
        len(text) <= LAYOUT,
        f"the names and sizes of {header.count} pictures take {len(text):,} bytes, and a file holds {LAYOUT:,}: "
        "compress them in several parts",
    )
    layout = zlib.compress(text, 9)
    fixed = _FIXED.pack(MAGIC, VERSION, header.model, header.tables, header.step or 0.0, header.count, len(layout))
    body = fixed + layout + code
    return body + digest(body)


def unpack(data: bytes, name: str) -> tuple[Header, bytes]:
    """Header and code of a file.

    Raises:
        UserError: it is another kind of file, of another version, cut short, or damaged, or its layout is none; `name`
            is used in the message.
    """
    require(data[: len(MAGIC)] == MAGIC, f"{name} was not written by narrows compress, or its first bytes are damaged")
    body, found = data[:-DIGEST], data[-DIGEST:]
    require(
        len(body) >= _FIXED.size and digest(body) == found, f"{name} is cut short or damaged: its checksum does not fit"
    )
    _, version, model, tables, step, count, length = _FIXED.unpack_from(body)
    require(
        version == VERSION,
        f"{name} is of version {version} of the format, but this narrows reads version {VERSION}: use the one that "
        "wrote it",
    )
    start = _FIXED.size + length
    layout = _layout(body[_FIXED.size : start], name)
    require(math.isfinite(step) and step >= 0, f"{name} has a header that cannot be read: its step is {step}")
    try:
        check_layout(layout, count)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    return Header(model, tables, step or None, count, layout), body[start:]


def _layout(packed: bytes, name: str) -> Any:
    """The values of a layout, of which no more is inflated than one may hold."""
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(packed, LAYOUT + 1)
        require(len(text) <= LAYOUT, f"{name} has a header of more than {LAYOUT:,} bytes, which no file has")
        require(inflater.eof, f"{name} has a header that is cut short")
        return json.loads(text)
    except UserError:
        raise
    except RecursionError as error:
        raise UserError(f"{name} has a header that is nested too deeply") from error
    except (zlib.error, ValueError) as error:
        raise UserError(f"{name} has a header that cannot be read ({error})") from error
