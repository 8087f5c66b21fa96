"""What every test relies on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("NARROWS_TEST_THREADS", "1"))
os.environ["NARROWS_CHECK_SHAPES"] = "1"

import torch

import narrows  # noqa: F401 (first: it lets torchvision, and with it lightning, import beside a CPU-only torch)

THREADS = int(os.environ.get("NARROWS_TEST_THREADS", "1"))
ROOT = Path(__file__).resolve().parents[1]


LONG = ("test_documents", "test_resume_exact", "test_scheduler", "test_ddp")
"""Files of few tests that take a minute; begun last, one of them would keep the other core waiting."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those first, and all else in its order."""
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """One thread, or as many as NARROWS_TEST_THREADS says, and one seed: no test depends on the one before it."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; tests on it are skipped where it is absent."""
    folder = Path(os.environ.get("NARROWS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data are not at hand: {folder} is missing (set NARROWS_DATA)")
    return folder
