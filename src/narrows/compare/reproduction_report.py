"""The report that ends a reproduction: how equal the figures are, and what differs between the two machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from narrows.compare.bitwise_equality import Comparison, Judgement, Verdict
from narrows.compare.two_runs import Pair, surroundings_differences
from narrows.errors import printable

EXIT_CODES = {Verdict.EQUAL: 0, Verdict.CLOSE: 3}
EXIT_DIFFERENT = 4
ROWS = 20
"""Most unequal figures shown; `reproduction.json` has all."""
PAIRS = 12
"""Most differences shown of one section."""
CAUSES = ("data", "config", "code", "versions", "environment", "hardware")
"""Sections of differences, the likeliest cause first."""
ARITHMETIC = (
    *("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_CBWR", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA"),
    *("DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE"),
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
"""Environment variables on which floating-point sums depend."""
FIRST = ("python", "torch", "numpy", "lightning", "scikit-learn", "torchvision")


@dataclass
class Reproduction:
    """A run and its reproduction, judged."""

    run: str
    tolerance: float
    judgements: list[Judgement] = field(default_factory=list)
    differences: dict[str, dict[str, Pair]] = field(default_factory=dict)
    nondeterministic: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Sentences on what could not be compared or cannot be equal."""
    same_source: bool = False
    """Whether both runs recorded their source and it is the same, whatever git says."""

    @property
    def verdict(self) -> Verdict:
        return max((judgement.verdict for judgement in self.judgements), default=Verdict.EQUAL)

    @property
    def exit_code(self) -> int:
        return EXIT_CODES.get(self.verdict, EXIT_DIFFERENT)

    @property
    def words(self) -> str:
        words = Verdict(min(self.verdict, Verdict.DIFFERENT)).words
        return f"{words} of {self.tolerance:g}" if self.verdict is Verdict.CLOSE else words

    @property
    def causes(self) -> dict[str, dict[str, Pair]]:
        """The differences that can change a figure."""
        return {
            section: self.differences[section]
            for section in CAUSES
            if self.differences.get(section) and not (section == "code" and self.same_source)
        }

    def to_dict(self) -> dict[str, Any]:
        return {
            "reproduces": self.run,
            "verdict": self.words,
            "exit_code": self.exit_code,
            "tolerance": self.tolerance,
            **{judgement.kind.replace(" ", "_"): judgement.to_dict() for judgement in self.judgements},
            "notes": self.notes,
            "differences": {
                section: {name: [_plain(value) for value in pair] for name, pair in pairs.items()}
                for section, pairs in self.differences.items()
            },
            "nondeterministic": self.nondeterministic,
        }


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, list, type(None))) else str(value)


def differences(before: Mapping[str, Any], after: Mapping[str, Any], config: dict[str, Pair]) -> dict[str, Any]:
    """What differs between two manifests, by section, `config` among them."""
    found = surroundings_differences(before, after)
    # The name of the machine does not matter: the other keys hold what figures depend on.
    found["hardware"].pop("host", None)
    known = [manifest.get("environment") for manifest in (before, after)]
    a, b = (values if isinstance(values, dict) else {} for values in known)
    names = ARITHMETIC if all(isinstance(values, dict) for values in known) else ()
    environment = {name: (a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)}
    return found | {"config": config, "environment": environment}


def show(reproduction: Reproduction, console: Console) -> None:
    """Print the unequal figures, the counts, the differences, and a conclusion."""
    for judgement in reproduction.judgements:
        if judgement.verdict is not Verdict.EQUAL:
            _say(console, _table(judgement))
    _say(console, ", ".join(judgement.sentence() for judgement in reproduction.judgements))
    for sentence in reproduction.notes:
        _say(console, sentence)
    for section in CAUSES:
        if reproduction.differences.get(section):
            _say(console, f"{section} differs:" if section != "versions" else "versions differ:")
            _show_pairs(console, reproduction.differences[section])
    for sentence in _conclusion(reproduction):
        _say(console, sentence)
    _say(console, f"verdict      {reproduction.words}")


def _table(judgement: Judgement) -> Table:
    worst = judgement.worst(ROWS)
    table = Table(judgement.kind, "run", "reproduction", "relative difference", "", header_style="bold")
    for comparison in worst:
        table.add_row(*_cells(comparison))
    rest = sum(c.verdict is not Verdict.EQUAL for c in judgement.comparisons) - len(worst)
    if rest:
        table.add_row(f"and {rest:,} more")
    return table


def _cells(comparison: Comparison) -> list[str]:
    # All digits, because two figures may differ in their last bit.
    numbers = ["" if value is None else repr(value) for value in (comparison.before, comparison.after)]
    relative = "" if comparison.relative is None else f"{comparison.relative:.2g}"
    return [printable(comparison.name), *numbers, relative, comparison.verdict.words]


def _show_pairs(console: Console, pairs: Mapping[str, Pair]) -> None:
    ordered = sorted(pairs.items(), key=lambda item: item[0] not in FIRST)
    for name, (before, after) in ordered[:PAIRS]:
        _say(console, f"  {name}: {_value(before)} -> {_value(after)}")
    if len(ordered) > PAIRS:
        _say(console, f"  and {len(ordered) - PAIRS:,} more, listed in reproduction.json")


def _value(value: Any) -> str:
    text = printable(str(value))
    return text if len(text) <= 100 else text[:100] + "..."


def _conclusion(reproduction: Reproduction) -> list[str]:
    """Sentences that conclude how the differences may explain the figures, without claiming more than is known."""
    said = []
    causes = list(reproduction.causes)
    if reproduction.same_source and reproduction.differences.get("code"):
        said.append("git differs, but the source of narrows is the same")
    if not causes:
        said.append("code, versions, hardware, data and config are the same")
    elif reproduction.verdict is not Verdict.EQUAL:
        said.append(f"likely cause: what differs in {_listed(causes)}")
    operations = _listed(reproduction.nondeterministic)
    if operations:
        said.append(f"without a deterministic implementation on this device: {operations}")
    if reproduction.verdict is not Verdict.EQUAL and not causes:
        said.append(
            "these can give other figures in each run"
            if operations
            else "nothing that was recorded explains it; reproduce the reproduction to see whether it repeats"
        )
    return said


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _say(console: Console, what: Any) -> None:
    console.print(printable(what) if isinstance(what, str) else what, soft_wrap=isinstance(what, str))
