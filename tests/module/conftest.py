"""Notices of Lightning's that `narrows.experiment.quieten` silences in a run."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            for message in (".*LeafSpec.*", ".*treespec.*", ".*does not have many workers.*"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore:{message}"))
