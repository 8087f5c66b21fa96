"""Where a config comes from that `from=` names, as the composition itself says it: `from={path: .., sha256: ..}`.

What the source stands for are overrides before this one; what the user asked for stands behind it. So a composition, a
sweep and a relaunched process all know which is which.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser

from narrows.config.plain_schema import require_fits
from narrows.config.quoting import quoted
from narrows.errors import require

MARK = "from={"
STAMP = re.compile(r"(?:.+_)?\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_(?P<id>[0-9a-f]{8})")
"""The end of the name that narrows gives a run's directory."""


@dataclass(frozen=True)
class Origin:
    """The source that `from=` names, and what its user vouches for."""

    path: str
    """Of the config file."""
    sha256: str
    allow: Sequence[str] = ()
    """Packages that the config may use."""
    keep_loggers: bool = False

    def override(self) -> str:
        """The override that says so in a composition."""
        return f"from={quoted(asdict(self) | {'allow': list(self.allow)})}"

    def arguments(self) -> list[str]:
        """What a user types for it; a source that has changed since is refused."""
        allow = [f"allow={quoted(','.join(self.allow))}"] if self.allow else []
        keep = ["keep_loggers=true"] if self.keep_loggers else []
        return [f"from={quoted(self.path)}", f"sha256={quoted(self.sha256)}", *allow, *keep]

    @property
    def name(self) -> str:
        """A word for it: the file's name, or of a run its variant and the end of its directory's name."""
        path = Path(self.path)
        name = path.parent.name if path.stem == "config" else path.stem
        stamped = STAMP.fullmatch(name)
        return name if stamped is None else f"{path.parent.parent.name}-{stamped['id']}"


def split_origin(overrides: Sequence[str]) -> tuple[Origin | None, list[str]]:
    """The origin that a composition's overrides name, and what the user asked for beside it.

    Raises:
        UserError: a mapping that no origin has written.
    """
    place = next((i for i, text in enumerate(overrides) if text.startswith(MARK)), None)
    if place is None:
        return None, list(overrides)
    value: Any = OverridesParser.create().parse_override(overrides[place]).value()
    hints = get_type_hints(Origin)
    written = isinstance(value, dict) and value.keys() == hints.keys()
    require(written, f"{overrides[place]}: from= names a run, a directory or a file")
    for key, hint in hints.items():
        require_fits(hint, value[key], f"{overrides[place]}: from")
    return Origin(**value), list(overrides[place + 1 :])
