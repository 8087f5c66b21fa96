"""The search space of a sweep: the values that each key may take, in Hydra's override grammar."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    RangeSweep,
    Transformer,
)

from narrows.config.old_words import refuse_old_words
from narrows.errors import UserError, require


def counter_seed(seed: int, *counters: int | str) -> int:
    """A 32-bit seed from counters, like `narrows.random.derive` but without importing torch."""
    text = "\x1f".join(map(repr, (seed, *counters))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big")


@dataclass(frozen=True)
class Parameter:
    """One key of the search space with the values that it may take.

    `a,b`, `choice(..)`, `glob(..)` and `range(..)` can be enumerated: `values` holds their values as overrides write
    them. `interval(low, high)` cannot be enumerated; `int(interval(low, high))` holds whole numbers including both
    ends, and `tag(log, ..)` puts an interval on a logarithmic scale.
    """

    key: str
    """The key as the override writes it, with `+` and `@package`."""
    text: str
    values: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    whole: bool = False

    @property
    def name(self) -> str:
        """The key in the composed config."""
        return self.key.lstrip("+")

    @property
    def numeric(self) -> bool:
        """Whether the values are ordered numbers, which a sampler can use."""
        return not self.values or self.step is not None

    def probes(self) -> tuple[str, ...]:
        """Representative values: all of them, or the ends of an interval."""
        return self.values or tuple(dict.fromkeys((self.written(self.low), self.written(self.high))))

    def written(self, value: Any) -> str:
        """A sampled value as an override writes it."""
        if self.numeric:
            return str(round(value)) if self.whole else repr(float(value))
        return str(value)

    def override(self, value: Any) -> str:
        return f"{self.key}={self.written(value)}"


def parse(lines: Iterable[str], loader: ConfigLoader | None = None) -> list[Override]:
    """The overrides of a command line.

    Raises:
        HydraException: a line does not follow the grammar.
        UserError: a line holds an old word.
    """
    lines = list(lines)
    for line in lines:
        refuse_old_words(line)
    return OverridesParser.create(config_loader=loader).parse_overrides(lines)


def parameter(override: Override, seed: int = 0) -> Parameter:
    """The parameter that a sweep override describes.

    Raises:
        UserError: it holds no value, one value twice, or an empty interval.
    """
    key, sweep = override.get_key_element(), override._value
    text = override.get_value_string()
    where = f"sweep: {key}={text}"
    if isinstance(sweep, IntervalSweep):
        return _interval(key, text, sweep, where)
    values = _values(override, where)
    require(len(values) > 0, f"{where} holds no value")
    twice = [value for value in values if values.count(value) > 1]
    require(not twice, f"{where} lists {twice[0] if twice else ''} twice: no job is run twice")
    if getattr(sweep, "shuffle", False):
        random.Random(counter_seed(seed, "shuffle", key)).shuffle(values)
    elif isinstance(sweep, RangeSweep) and sweep.step > 0:
        ends = float(values[0]), float(values[-1])
        whole = all(isinstance(n, int) for n in (sweep.start, sweep.stop, sweep.step))
        _check_log(sweep.tags, ends[0], where)
        return Parameter(key, text, tuple(values), *ends, float(sweep.step), "log" in sweep.tags, whole)
    return Parameter(key, text, tuple(values))


def _values(override: Override, where: str) -> list[str]:
    sweep = override._value
    if isinstance(sweep, RangeSweep):
        require(sweep.step != 0, f"{where} has a step of 0")
        # Hydra's own iterator can be read only once, and shuffles with an unknown seed.
        return [Transformer.str(value) for value in RangeSweep(sweep.tags, sweep.start, sweep.stop, sweep.step).range()]
    if isinstance(sweep, ChoiceSweep):
        return [Transformer.str(value) for value in sweep.list]
    return list(override.sweep_string_iterator())


def _interval(key: str, text: str, sweep: IntervalSweep, where: str) -> Parameter:
    low, high = sweep.start, sweep.end
    assert low is not None
    assert high is not None
    require(low < high, f"{where} is empty: its first end must be below its second")
    _check_log(sweep.tags, low, where)
    whole = isinstance(low, int) and isinstance(high, int)
    return Parameter(key, text, (), low, high, 1 if whole else None, "log" in sweep.tags, whole)


def _check_log(tags: set[str], low: float, where: str) -> None:
    unknown = sorted(tags - {"log"})
    require(not unknown, f"{where} has the tag '{unknown[0] if unknown else ''}': the only tag with a meaning is log")
    require("log" not in tags or low > 0, f"{where}: a logarithmic scale must begin above 0, not at {low}")


def grid(parameters: Sequence[Parameter]) -> Iterator[tuple[str, ...]]:
    """Every combination, the last parameter changing fastest.

    Raises:
        UserError: a parameter has infinitely many values.
    """
    for item in parameters:
        if not item.values:
            raise UserError(
                f"sweep: a grid cannot enumerate {item.key}={item.text}; list its values, or choose sweep=random or "
                "sweep=optuna"
            )
    for values in itertools.product(*(item.values for item in parameters)):
        yield tuple(
            item.override(value) if not item.numeric else f"{item.key}={value}"
            for item, value in zip(parameters, values, strict=True)
        )
