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
from run_copies import MakeRun, write_sweep

pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install 'narrows[test]'")
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 120
TITLES = """
    const inside = (box) => box.width > 0 && box.top >= 0 && box.bottom <= window.innerHeight;
    return [...document.querySelectorAll("card-view tb-truncated-path")]
        .filter((title) => inside(title.getBoundingClientRect()))
        .map((title) => title.getAttribute("title") || title.textContent.trim());
"""


def four(place: Path, real_run: Path, make_run: MakeRun) -> str:
    """Four single runs that differ in variant and size."""
    for asked in (["variant=vae", "bottleneck.dim=2"], ["variant=vae"], ["variant=undercomplete"], ["variant=topk"]):
        done = run_in_process(*asked, *TINY, *NARROW, cwd=place)
        assert done.code == 0, done.err
    return "variant=vae,dim=2"


def twelve(place: Path, real_run: Path, make_run: MakeRun) -> str:
    """A sweep over learning rates, widths and seeds, each run with the real one's curves."""
    write_sweep(place / "sweep", make_run)
    _give_curves(place, real_run)
    return "dim=2,lr=0.001,seed=0"


def two_hundred(place: Path, real_run: Path, make_run: MakeRun) -> str:
    for number in range(200):
        make_run(place / str(number), {"bottleneck.dim": number + 1})
    _give_curves(place, real_run)
    return "dim=1"


def _give_curves(place: Path, real_run: Path) -> None:
    events = next(real_run.glob("events.*"))
    for config in place.rglob("config.yaml"):
        os.link(events, config.parent / events.name)


MADE = {4: four, 12: twelve, 200: two_hundred}


@pytest.fixture(scope="module", params=MADE)
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, real_run: Path, make_run: MakeRun
) -> Iterator[tuple[str, str]]:
    """Where `narrows tensorboard` serves so many runs, and the name of one; it must end cleanly and leave nothing."""
    runs, temporary = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("temporary")
    name = MADE[request.param](runs, real_run, make_run)
    command = [sys.executable, "-m", "narrows.commands.tensorboard", str(runs), "--port", "0"]
    environment = os.environ | {"TMPDIR": str(temporary)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.fullmatch(rf"{request.param} runs at (http://\S+)\n", said)
        assert found, said
        yield found[1], name
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
    assert not list(temporary.glob("narrows-tensorboard-*"))


def test_the_first_screen_shows_the_losses(browser: Any, served: tuple[str, str]) -> None:
    address, name = served
    browser.get(f"{address}#timeseries")
    WebDriverWait(browser, PATIENCE).until(lambda page: len(page.execute_script(TITLES)) >= 2)
    assert browser.execute_script(TITLES)[:2] == ["loss/train", "loss/val"]
    WebDriverWait(browser, PATIENCE).until(
        lambda page: name in page.execute_script("return document.body.innerText").splitlines()
    )
