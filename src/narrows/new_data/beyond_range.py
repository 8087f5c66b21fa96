"""New examples that lie far outside the range of values that a run was trained on."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from narrows.types import DataSpec

FAR = 0.5
"""How far outside, as a share of the range's width, values are taken for ones of another scale."""


@dataclass
class BeyondRange:
    """What has been seen of new examples, by the range that they are of: of a part by its name, or of all of x."""

    spec: DataSpec
    counts: dict[str, int] = field(default_factory=dict)
    """Of the examples that lie far outside."""
    ends: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Their least and largest values."""

    def add(self, x: Tensor) -> None:
        """Look at examples `[M, *shape]`."""
        for name, spec, values in self._judged(x):
            if spec.bounds is None or not values.is_floating_point():
                continue
            low, high = spec.bounds
            rows = values.flatten(1)
            far = FAR * (high - low)
            outside = (rows.amin(1) < low - far) | (rows.amax(1) > high + far)
            if outside.any():
                least, most = self.ends.get(name, (low, high))
                self.counts[name] = self.counts.get(name, 0) + int(outside.sum())
                self.ends[name] = min(least, float(rows.amin())), max(most, float(rows.amax()))

    def _judged(self, x: Tensor) -> list[tuple[str, DataSpec, Tensor]]:
        if not self.spec.parts:
            return [("", self.spec, x)]
        flat = x.flatten(1)
        return [
            (part.name, self.spec.of_part(part.name), flat[:, self.spec.slices[part.name]]) for part in self.spec.parts
        ]

    def said(self, called: str) -> list[str]:
        """A line for each range that was left."""
        found = []
        for name, count in self.counts.items():
            spec = self.spec.of_part(name) if name else self.spec
            assert spec.bounds is not None
            where = f"part '{name}' of {called}" if name else called
            low, high = self.ends[name]
            found.append(
                f"{count:,} examples of {where} hold values from {low:g} to {high:g}, and those of training lay "
                f"between {spec.bounds[0]:g} and {spec.bounds[1]:g}: what a model makes of another scale means nothing"
            )
        return found
