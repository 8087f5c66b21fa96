"""The report in a real headless browser, opened from disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from run_copies import MakeRun, picture, write_sweep

from narrows.commands import compare

pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install 'narrows[test]'")
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 60


def show(browser: Any, target: Path, *arguments: object) -> Any:
    """The browser with the report that `narrows compare ARGUMENTS` wrote."""
    compare.main([*map(str, arguments), "--html", str(target)])
    browser.get(target.as_uri())
    WebDriverWait(browser, PATIENCE).until(lambda page: page.execute_script("return document.body.dataset.ready"))
    return browser


@pytest.fixture(scope="module")
def report(browser: Any, tmp_path_factory: pytest.TempPathFactory, make_run: MakeRun) -> str:
    """The address of a sweep's report, written and opened once: plotly.js alone takes seconds to read."""
    folder = tmp_path_factory.mktemp("report")
    return show(
        browser, folder / "report.html", write_sweep(folder / "sweep", make_run), "--group-by", "seed"
    ).current_url


@pytest.fixture
def page(browser: Any, report: str) -> Any:
    """The sweep's report as it was opened."""
    if browser.current_url != report:
        browser.get(report)
    browser.execute_script("brushes.clear()")
    type_filter(browser, "")
    if browser.execute_script("return state.every"):
        browser.find_element(By.ID, "every").click()
    return browser


@pytest.fixture(autouse=True)
def _clean_console(browser: Any) -> Iterator[None]:
    """Nothing that a test does may put an error or a warning on the console."""
    yield
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def type_filter(page: Any, words: str) -> None:
    script = "const f = document.getElementById('filter'); f.value = arguments[0]; f.dispatchEvent(new Event('input'))"
    page.execute_script(script, words)


def choose(page: Any, selector: str, value: str) -> None:
    script = (
        "const s = document.querySelector(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('change'))"
    )
    page.execute_script(script, selector, value)


def column(page: Any, name: str) -> list[str]:
    script = """
        const table = document.querySelector("#runs table");
        const place = [...table.tHead.rows[0].cells].findIndex((cell) => cell.dataset.column === arguments[0]);
        return [...table.tBodies[0].rows].map((row) => row.cells[place].textContent);
    """
    return page.execute_script(script, name)


def heading(page: Any, name: str) -> Any:
    return page.find_element(By.CSS_SELECTOR, f'#runs th[data-column="{name}"]')


def numbers(page: Any, name: str) -> list[float]:
    return [float(text) for text in column(page, name)]


def drawn(page: Any, section: str) -> list[int]:
    """The number of points of each trace of a Plotly chart that stands on the page."""
    script = """
        const place = document.querySelector(`#${arguments[0]} .plot`);
        if (!place.querySelector(".main-svg")) return [];
        return place.data.map((trace) => trace.x.length);
    """
    return page.execute_script(script, section)


def test_sorts(page: Any) -> None:
    heading(page, "run").click()
    assert sorted(column(page, "run"), key=int) in (column(page, "run"), column(page, "run")[::-1])
    heading(page, "val/loss").click()
    assert numbers(page, "val/loss") == sorted(numbers(page, "val/loss"))
    heading(page, "val/loss").click()
    assert numbers(page, "val/loss") == sorted(numbers(page, "val/loss"), reverse=True)
    heading(page, "test/psnr").click()
    assert heading(page, "test/psnr").get_attribute("aria-sort") == "descending"
    assert len(page.find_elements(By.CSS_SELECTOR, "#groups tbody tr")) == 4


def test_draws_every_plot(page: Any) -> None:
    assert len(drawn(page, "curves")) == 12
    assert drawn(page, "scatter") == [12]
    assert drawn(page, "importance") == [3]
    assert len(page.find_elements(By.CSS_SELECTOR, "#parallel path.run")) == 12


def test_filters_the_table_and_the_plots(page: Any) -> None:
    heading(page, "run").click()
    page.find_element(By.ID, "filter").send_keys("dim=8 lr=0.01")
    assert sorted(column(page, "run"), key=int) == ["9", "10", "11"]
    assert page.find_element(By.ID, "count").text == "3 of 12 runs"
    assert len(drawn(page, "curves")) == 3
    assert drawn(page, "scatter") == [3]
    type_filter(page, "nothing holds this")
    assert column(page, "run") == []
    assert drawn(page, "scatter") == []
    type_filter(page, "")
    assert drawn(page, "scatter") == [12]


def test_controls_change_the_plots(page: Any) -> None:
    choose(page, "#scatter .x", "bottleneck.dim")
    axis = "return document.querySelector('#scatter .plot').layout.xaxis.title.text"
    assert page.execute_script(axis) == "bottleneck.dim"
    choose(page, "#curves select", "train/loss")
    assert len(drawn(page, "curves")) == 12
    choose(page, "#colour", "bottleneck.dim")
    colours = page.execute_script("return document.querySelector('#scatter .plot').data[0].marker.color")
    assert len(set(colours)) == 2
    before = page.execute_script("return document.querySelectorAll('#runs thead th').length")
    page.find_element(By.ID, "every").click()
    assert page.execute_script("return document.querySelectorAll('#runs thead th').length") > before


def test_a_range_on_an_axis_fades_the_other_runs(page: Any) -> None:
    handle = page.find_elements(By.CSS_SELECTOR, "#parallel .handle")[0]
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", handle)
    height = int(float(handle.get_attribute("height")))
    drag = ActionChains(page, duration=0).move_to_element_with_offset(handle, 0, -height // 2 + 2)
    drag.click_and_hold().move_by_offset(0, height // 4).release().perform()
    assert len(page.find_elements(By.CSS_SELECTOR, "#parallel path.run.out")) == 6
    ActionChains(page, duration=0).move_to_element(handle).click().perform()
    assert page.find_elements(By.CSS_SELECTOR, "#parallel path.run.out") == []


def test_pictures_stand_side_by_side_and_grow(page: Any) -> None:
    pictures = page.find_elements(By.CSS_SELECTOR, "#pictures img")
    assert [picture.get_property("naturalWidth") for picture in pictures] == [40] * 4
    for state in (True, False):
        page.execute_script("arguments[0].scrollIntoView({block: 'center'})", pictures[0])
        pictures[0].click()
        assert ("whole" in pictures[0].get_attribute("class")) is state


def test_nothing_leaves_the_machine(page: Any) -> None:
    fetched = page.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in fetched if not name.startswith(("data:", "blob:"))] == []


def test_one_run_without_figures_or_history(browser: Any, tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run(tmp_path / "run", status="failed")
    (run / "metrics.json").unlink()
    (run / "metrics.csv").unlink()
    page = show(browser, tmp_path / "report.html", run)
    assert column(page, "status") == ["failed"]
    assert drawn(page, "curves") == []
    assert not page.find_element(By.ID, "importance").is_displayed()


def test_a_strangers_run_executes_nothing(browser: Any, tmp_path: Path, make_run: MakeRun) -> None:
    evil = "</script><img src=x onerror='window.pwned=1'><script>window.pwned=1</script>"
    link = "<a href='javascript:window.pwned=1'>x</a>%{x}<b>"
    for i in range(2):
        run = make_run(
            tmp_path / "runs" / f"{i}<img src=x onerror=window.pwned=1>",
            {"encoder.activation": evil if i else link, "bottleneck.dim": 2 + i},
            {"val/loss": 1.0 + i, f"test/{link}": 2.0 + i},
            status=evil if i else "completed",
        )
        (run / "metrics.csv").write_text(f'step,metric,value\n1,"train/{link}",1.0\n2,"train/{link}",2.0\n')
        picture(run, "<img src=x onerror=window.pwned=1>")
    page = show(browser, tmp_path / "report.html", tmp_path / "runs")
    choose(page, "#scatter .x", "encoder.activation")
    choose(page, "#scatter .y", f"test/{link}")
    assert page.execute_script("return window.pwned") is None
    assert page.find_elements(By.CSS_SELECTOR, "img[src='x'], main a:not(.modebar-btn), main script") == []
    assert column(page, "run")[0].startswith("0<img")
    assert len(drawn(page, "curves")) == 2
    assert drawn(page, "scatter") == [2]
