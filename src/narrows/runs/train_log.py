"""The log of a run, `train.log`."""

from __future__ import annotations

import logging
import os

from narrows.errors import naming


class TrainLog(logging.FileHandler):
    """Appends messages to a file, which is made by the first of them.

    Raises:
        OSError: (when a message is logged) it cannot be written; `logging` itself would print a traceback and go on.
    """

    def __init__(self, filename: str | os.PathLike[str]) -> None:
        # What no encoding has, such as a file name that is not UTF-8, is written as its escape sequence.
        super().__init__(filename, encoding="utf-8", errors="backslashreplace", delay=True)

    def handleError(self, record: logging.LogRecord) -> None:
        with naming(self.baseFilename):
            raise
