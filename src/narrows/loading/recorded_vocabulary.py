"""Saving and loading the vocabulary of a run's documents, so that new texts are counted in exactly the same way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from narrows.config.plain_schema import require_fits
from narrows.errors import UserError, first_line, require
from narrows.files import read_json, write_json
from narrows.runs.file_names import VOCABULARY

if TYPE_CHECKING:
    from narrows.data.vocabulary import Vocabulary


def save(data: Any, run: Path) -> None:
    """Write the vocabulary that a datamodule chose; does nothing if it chose none."""
    vocabulary = getattr(data, "vocabulary", None)
    if vocabulary is not None:
        write_json(run / VOCABULARY, vocabulary.to_dict())


def load(run: Path) -> Vocabulary:
    """The vocabulary of a run's documents.

    Raises:
        UserError: the run was not trained on documents, or the file is damaged.
    """
    from narrows.data.vocabulary import Vocabulary, Words

    path = run / VOCABULARY
    if not path.is_file():
        raise UserError(f"{run} has no vocabulary: runs of datamodule=documents have one")
    try:
        values = read_json(path)
        require_fits(list[str], values["words"], f"{path}, words,")
        found = Vocabulary.from_dict(values)
        require_fits(Words, found.how, f"{path}, how,")
        require(len(set(found.words)) == len(found.words) > 0, f"{path} is damaged: its words must differ")
    except UserError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({first_line(error)}): it is written by narrows train") from error
    return found
