from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from forks import Server
from resume_runs import SETTINGS


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    server = Server("narrows.training.experiment")  # or every run of a child would import it: half of a small one
    yield server
    server.close()


@pytest.fixture(scope="session")
def whole(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    ended = server.run(*SETTINGS, "hydra.run.dir=run", cwd=folder)
    assert ended.code == 0, ended.out
    return folder / "run"
