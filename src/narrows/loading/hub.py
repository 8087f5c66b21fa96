"""Runs on the Hugging Face hub: `hf://OWNER/NAME`, `hf://OWNER/NAME@REVISION`, `hf://OWNER/NAME/FILE.narrows`.

A repository holds a packed run, as `narrows pack --to hf://OWNER/NAME` puts it there, or the files of a run's
directory. What was downloaded once is cached by `huggingface_hub`, and found again without a network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from narrows.errors import UserError, first_line, require
from narrows.runs.file_names import CONFIG

SCHEME = re.compile(r"hf:/{1,2}")
"""A path has one of the two slashes."""
WORD = r"[\w.-]+"
REFERENCE = re.compile(rf"hf:/{{1,2}}(?P<name>{WORD}/{WORD})(@(?P<revision>[\w./-]+?))?(/(?P<file>{WORD}\.narrows))?")
TAKEN = ["*.narrows", "*.json", "*.yaml", "*.md", "checkpoints/*", "coding/*.json"]
"""Files of a repository that are downloaded."""
EXTRA = "pip install 'narrows[hub]'"


@dataclass(frozen=True)
class Reference:
    """A run on the hub."""

    name: str
    """`OWNER/NAME`."""
    revision: str | None = None
    """A branch, a tag or a commit; None: the newest."""
    file: str | None = None
    """The packed run; None: the only one there is."""

    def __str__(self) -> str:
        at = "" if self.revision is None else f"@{self.revision}"
        return f"hf://{self.name}{at}{'' if self.file is None else f'/{self.file}'}"


def reference(place: str) -> Reference | None:
    """What a text that begins with `hf://` names; None of any other text.

    Raises:
        UserError: it is not of the form.
    """
    if not SCHEME.match(place):
        return None
    found = REFERENCE.fullmatch(place)
    if found is None:
        raise UserError(
            f"{place} is no run of the hub: write hf://OWNER/NAME, hf://OWNER/NAME@REVISION or add /FILE.narrows"
        )
    return Reference(found["name"], found["revision"], found["file"])


def fetched(run: Reference) -> Path:
    """The packed run, or the folder with a run's files, in the local cache; downloaded where it is not there.

    Raises:
        UserError: the extra is not installed, there is no such repository, revision or run, or no network.
    """
    with _explained(run):
        from huggingface_hub import snapshot_download

        taken = TAKEN if run.file is None else [run.file]
        # The addresses are read here, because huggingface_hub reads them as it is imported.
        folder = Path(
            snapshot_download(
                run.name,
                revision=run.revision,
                allow_patterns=taken,
                endpoint=os.environ.get("HF_ENDPOINT"),
                cache_dir=os.environ.get("HF_HUB_CACHE"),
            )
        )
    packed = sorted(folder.glob("*.narrows"))
    if run.file is not None:
        packed = [path for path in packed if path.name == run.file]
        require(bool(packed), f"{run}: the repository has no file {run.file}")
    if len(packed) == 1:
        return packed[0]
    require(
        not packed,
        f"{run} holds {len(packed)} runs: name one, such as hf://{run.name}/{packed[0].name if packed else ''}",
    )
    require((folder / CONFIG).is_file(), f"{run} holds no run: neither a file that ends in .narrows nor a {CONFIG}")
    return folder


def upload(run: Reference, packed: Path, card: str) -> str:
    """Put a packed run and its card into a repository, which is made, private, where there is none; its address.

    Raises:
        UserError: the extra is not installed, nobody is logged in, or the hub refuses.
    """
    require(run.file is None, f"{run}: name the repository alone, hf://{run.name}")
    with _explained(run):
        from huggingface_hub import CommitOperationAdd, HfApi

        hub = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        hub.create_repo(run.name, private=True, exist_ok=True)
        told = hub.create_commit(
            run.name,
            [CommitOperationAdd(packed.name, str(packed)), CommitOperationAdd("README.md", card.encode())],
            commit_message=f"{packed.name}, packed by narrows",
            revision=run.revision,
        )
        return str(told.commit_url)


@contextmanager
def _explained(run: Reference) -> Iterator[None]:
    """Say in one sentence what the hub answers.

    Raises:
        UserError: what that was.
    """
    try:
        from huggingface_hub import errors
    except ImportError as error:
        raise UserError(f"{run} needs huggingface_hub, which is not installed: {EXTRA}") from error
    try:
        yield
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{run}: the repository has no revision {run.revision or 'main'}") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"{run}: there is no such repository, or it is private and you are not logged in (hf auth login)"
        ) from error
    except (errors.LocalTokenNotFoundError, errors.HfHubHTTPError, errors.HFValidationError) as error:
        raise UserError(f"{run}: the hub refuses ({first_line(error)})") from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, ConnectionError) as error:
        raise UserError(
            f"{run} is not in the local cache, and the hub cannot be reached ({first_line(error)})"
        ) from error
