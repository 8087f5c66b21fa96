"""Composing a command line's config once."""

from __future__ import annotations

import pytest
from hydra._internal.hydra import Hydra

from narrows.config.hydra_versions import composed_once


@pytest.mark.parametrize("arguments", [[], ["seed=1"], ["hydra.run.dir=run", "~tasks.latent"], ["-m", "seed=0,1"]])
def test_hydra_does_not_compose_to_learn_a_mode_that_nothing_sets(arguments: list[str]) -> None:
    before = Hydra.get_mode
    with composed_once(arguments):
        assert Hydra.get_mode(None, "train", arguments) is None  # type: ignore[arg-type]
    assert Hydra.get_mode is before


@pytest.mark.parametrize(
    "arguments",
    [
        *(["hydra.mode=MULTIRUN"], ["+hydra.mode=RUN"], ["hydra={mode: MULTIRUN}"]),
        *(["--config-dir=mine"], ["-cn", "mine"], ["hydra.searchpath=[file://mine]"]),
    ],
)
def test_hydra_asks_itself_where_something_may_set_it(arguments: list[str]) -> None:
    before = Hydra.get_mode
    with composed_once(arguments):
        assert Hydra.get_mode is before
