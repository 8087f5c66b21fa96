"""Counts through the command: what fits them, what is refused, and what is said of a likelihood that is not theirs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from command import NARROW, TINY, only_run, run_in_process
from count_source import COUNTS


def test_a_likelihood_of_real_numbers_is_not_put_on_counts_in_silence(tmp_path: Path) -> None:
    done = run_in_process(*TINY, *NARROW, "variant=sigma_vae", COUNTS, f"output_dir={tmp_path}", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "likelihood OptimalGaussianLikelihood judges counts as real numbers" in done.err


def test_figures_of_counts_have_no_decibels(tmp_path: Path) -> None:
    done = run_in_process(*TINY, *NARROW, "variant=nb_vae", COUNTS, f"output_dir={tmp_path}", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "judges counts" not in done.err
    figures = json.loads((only_run(tmp_path) / "metrics.json").read_text())
    assert not [name for name in figures if "psnr" in name or "bce" in name]
    assert np.isfinite(figures["test/mse"])
    assert figures["test/bits_per_dim"] > 0


def test_what_needs_counts_is_refused_on_pictures(tmp_path: Path) -> None:
    done = run_in_process(*TINY, "variant=mult_vae", f"output_dir={tmp_path}", cwd=tmp_path)
    assert done.code == 2
    assert "likelihood multinomial is of counts (documents, items, genes), but these data are of kind image" in done.err
