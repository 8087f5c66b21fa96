"""Run directories to compare: one real run of two optimiser steps, and edited copies of its records. And a browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import NARROW, TINY, only_run, run_in_process
from run_copies import MakeRun, Template, write_sweep

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `narrows train` leaves behind."""
    folder = tmp_path_factory.mktemp("real")
    done = run_in_process("variant=vae", "bottleneck.dim=4", *TINY, *NARROW, cwd=folder)
    assert done.code == 0, done.err
    return only_run(folder)


@pytest.fixture(scope="session")
def make_run(real_run: Path) -> MakeRun:
    """`make_run(directory, {dotted key: value}, {metric: value}, **manifest)`: the real run with other values."""
    return Template(real_run).write


@pytest.fixture
def sweep(tmp_path: Path, make_run: MakeRun) -> Path:
    """Twelve jobs; see `write_sweep`."""
    return write_sweep(tmp_path / "sweep", make_run)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless browser; the test is skipped where there is none."""
    binary = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip(f"no browser at hand: needs one of {', '.join(BROWSERS)} and chromedriver on the PATH")
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="selenium is not installed: pip install 'narrows[test]'"
    )
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument("--window-size=1400,1000")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    session = webdriver.Chrome(options=options, service=Service(driver))
    yield session
    session.quit()
