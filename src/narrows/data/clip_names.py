"""What the names of clips say: their labels, what belongs together, and which are test clips."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from narrows.data.image_tree import PARTS
from narrows.errors import nearest, require

FOLDER = "folder"
AUTO = "auto"
FIELD = re.compile(r"\{([A-Za-z_]\w*)\}")


@dataclass
class ClipNames:
    """How the names of clips are read.

    Args:
        pattern: of a file's name without its ending, such as `{digit}_{speaker}_{take}`; what stands in braces are its
            fields. null: names say nothing.
        label: the field whose values are the classes, or `folder` for the folder that a clip lies in; `auto` is the
            first field, without a pattern the folder where there are several; null: none.
        group: the field of what is held out as a whole, such as the speaker; null: each clip is by itself.
        test: by field, the values of the clips that are the test split, such as `{take: [0, 1]}`; null: `source.test`.
    """

    pattern: str | None = None
    label: str | None = AUTO
    group: str | None = None
    test: Mapping[str, Sequence[Any]] | None = None

    def __post_init__(self) -> None:
        self.fields = FIELD.findall(self.pattern or "")
        require(
            self.pattern is None or (bool(self.fields) and len(set(self.fields)) == len(self.fields)),
            f"names.pattern={self.pattern} must hold fields in braces, each once, such as {{digit}}_{{speaker}}",
        )
        known = [*self.fields, FOLDER]
        asked = {"label": self.label, "group": self.group} | {f"test.{name}": name for name in self.test or {}}
        for option, field in asked.items():
            require(
                field is None or field in known or (option == "label" and field == AUTO),
                f"names.{option}={field} is no field of names.pattern={self.pattern}: {nearest(str(field), known)}",
            )

    def read(self, name: str) -> dict[str, str]:
        """The fields of the clip of this name, `folder` among them (empty where it lies in none).

        Raises:
            UserError: a name that the pattern does not fit.
        """
        path = PurePosixPath(name)
        found = {FOLDER: path.parent.name}
        if self.pattern is None:
            return found
        pieces = FIELD.split(self.pattern)
        text = "".join(f"(?P<{piece}>.+?)" if place % 2 else re.escape(piece) for place, piece in enumerate(pieces))
        match = re.fullmatch(text, path.stem)
        require(match is not None, f"the file name {name} does not fit source.names.pattern={self.pattern}")
        assert match is not None
        return found | match.groupdict()

    def label_field(self, clips: Sequence[Mapping[str, str]]) -> str | None:
        """The field whose values are the classes of these clips; None where they have none."""
        if self.label != AUTO:
            return self.label
        folders = {clip[FOLDER] for clip in clips}
        if self.fields:
            return self.fields[0]
        of_splits = any(folder.lower() in PARTS for folder in folders)
        return FOLDER if len(folders) > 1 and "" not in folders and not of_splits else None

    def is_test(self, clip: Mapping[str, str]) -> bool:
        """Whether a clip of these fields is of the test split."""
        wanted = {field: {str(value) for value in values} for field, values in (self.test or {}).items()}
        return bool(wanted) and all(clip[field] in values for field, values in wanted.items())
