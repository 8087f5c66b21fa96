"""Imports without the garbage collector."""

from __future__ import annotations

import gc
import sys

import pytest

from narrows.training.heavy_imports import uncollected


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Grows by one whenever what exists would be kept for good, which would hold the other tests' garbage."""
    calls: list[bool] = []
    monkeypatch.setattr(gc, "freeze", lambda: calls.append(gc.isenabled()))
    return calls


@pytest.fixture
def unimported(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if torch had not been imported yet."""
    monkeypatch.delitem(sys.modules, "torch")


@pytest.mark.usefixtures("unimported")
def test_nothing_is_collected_while_modules_are_imported(kept: list[bool]) -> None:
    with uncollected():
        assert not gc.isenabled()
        assert kept == []
    assert gc.isenabled()
    assert kept == [False]


@pytest.mark.usefixtures("unimported")
def test_a_failed_import_leaves_the_collector_on(kept: list[bool]) -> None:
    with pytest.raises(ImportError), uncollected():
        raise ImportError
    assert gc.isenabled()


def test_a_process_that_has_imported_torch_keeps_no_garbage(kept: list[bool]) -> None:
    with uncollected():
        assert gc.isenabled()
    assert kept == []


@pytest.mark.usefixtures("unimported")
def test_a_collector_that_is_off_stays_off(kept: list[bool]) -> None:
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
    assert kept == []
