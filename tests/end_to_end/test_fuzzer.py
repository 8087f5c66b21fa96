"""No mistake ends in a traceback, a wrong exit code or a changed run: drawn at random, always the same ones."""

from __future__ import annotations

import random
from pathlib import Path

import fuzz_values
import pytest
from fuzz_cases import Case
from fuzzer import Found, fuzz, judge


def faults(root: Path, count: int, seed: int, everything: bool) -> list[str]:
    ended = list(fuzz(root, count, seed, everything))
    assert len(ended) == count
    return [str(case) for case in ended if isinstance(case, Found)]


@pytest.mark.parametrize(
    ("count", "seed", "everything"),
    [(30, 0, False), pytest.param(2000, 1, True, marks=pytest.mark.slow)],
    ids=["thirty", "two thousand"],
)
def test_mistakes_are_one_sentence_each(count: int, seed: int, everything: bool, tmp_path: Path) -> None:
    found = faults(tmp_path, count, seed, everything)
    assert not found, "\n\n".join(found)


def test_what_counts_as_a_fault(tmp_path: Path) -> None:
    case = Case("train bottleneck.dim=nan", "", [], tmp_path)
    sentence = "narrows: bottleneck.dim must be a whole number, not nan\n"
    assert judge(case, 2, sentence, []) is None
    assert judge(case, 0, "", []) is None
    assert judge(case, 142, "", []) == "no end"
    assert judge(case, 1, sentence, []) == "exit code 1"
    assert judge(case, 2, "Traceback (most recent call last)\nValueError: x\n", []) == "traceback ValueError: x"
    assert judge(case, 2, "", []) == "no sentence"
    assert judge(case, 2, sentence, ["metrics.csv"]) == "changed metrics.csv"
    case.nonsense = True
    assert judge(case, 0, "", []) == "accepted"


def test_the_same_seed_draws_the_same_mistakes(tmp_path: Path) -> None:
    def drawn(seed: int, folder: Path) -> list[str]:
        folder.mkdir()
        draw = random.Random(seed)
        said = [fuzz_values.override("bottleneck.dim", 8, draw)[1] for _ in range(20)]
        for number in range(20):
            file = folder / f"{number}.json"
            file.write_text('{"status": "completed", "data": {"shape": [1, 8, 8]}}')
            said.append(fuzz_values.damage(file, draw))
        return said

    first = drawn(0, tmp_path / "first")
    assert first == drawn(0, tmp_path / "again")
    assert first != drawn(1, tmp_path / "other")
