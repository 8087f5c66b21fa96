"""TensorBoard in a real headless browser, as `narrows tensorboard` opens it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import NARROW, TINY, run_in_process

pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install 'narrows[test]'")
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 120
TITLES = """
    const inside = (box) => box.width > 0 && box.top >= 0 && box.bottom <= window.innerHeight;
    return [...document.querySelectorAll("card-view tb-truncated-path")]
        .filter((title) => inside(title.getBoundingClientRect()))
        .map((title) => title.getAttribute("title") || title.textContent.trim());
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four single runs that differ in variant and size."""
    folder = tmp_path_factory.mktemp("runs")
    for asked in (["variant=vae", "bottleneck.dim=2"], ["variant=vae"], ["variant=undercomplete"], ["variant=topk"]):
        done = run_in_process(*asked, *TINY, *NARROW, cwd=folder)
        assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module")
def address(runs: Path) -> Iterator[str]:
    """Where `narrows tensorboard` serves them; it must end cleanly and leave nothing behind."""
    temporary = runs / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "narrows.commands.tensorboard", str(runs), "--port", "0"]
    environment = os.environ | {"TMPDIR": str(temporary)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.fullmatch(r"4 runs at (http://\S+)\n", said)
        assert found, said
        yield found[1]
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    assert not list(temporary.glob("narrows-tensorboard-*"))


def test_the_first_screen_shows_the_losses(browser: Any, address: str) -> None:
    browser.get(f"{address}#timeseries")
    WebDriverWait(browser, PATIENCE).until(lambda page: len(page.execute_script(TITLES)) >= 2)
    assert browser.execute_script(TITLES)[:2] == ["loss/train", "loss/val"]
    names = browser.execute_script("return document.body.innerText")
    assert "variant=vae,dim=2" in names
