"""The figures that a task returns, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from narrows.compare.figure_names import MODEL, figure_name


class FigureTable:
    """A task's figures: a row for every method (the model, and the classics beside it) under every condition.

    The only place that spells their names: `test/<heading>/<condition>/<method>/<figure>`, without what is empty, and
    without the method where it is the model.

        >>> found = FigureTable("denoising")
        >>> found.add({"psnr": 19.1}, condition="gaussian_0.5")
        >>> found.add({"psnr": 17.7}, "ridge", "gaussian_0.5")
        >>> found.named()
        {'test/denoising/gaussian_0.5/psnr': 19.1, 'test/denoising/gaussian_0.5/ridge/psnr': 17.7}

    Args:
        heading: common to all figures of the task; empty for those that stand under `test/` itself.
    """

    def __init__(self, heading: str = "") -> None:
        self.heading = heading
        self._rows: dict[tuple[str, str], dict[str, float]] = {}

    def add(self, figures: Mapping[str, float], method: str = MODEL, condition: str = "") -> None:
        """Put figures, by name, into the row of this method under this condition."""
        self._rows.setdefault((method, condition), {}).update(figures)

    def row(self, method: str = MODEL, condition: str = "") -> dict[str, float]:
        """The figures of a method under a condition, by name; KeyError where there is no such row."""
        return self._rows[method, condition]

    def named(self) -> dict[str, float]:
        """Every figure under its full name, row by row."""
        return {
            figure_name(figure, method, self.heading, condition): value
            for (method, condition), figures in self._rows.items()
            for figure, value in figures.items()
        }


def declared(
    figures: Iterable[str], methods: Iterable[str] = (MODEL,), heading: str = "", condition: str = ""
) -> tuple[str, ...]:
    """The full names of figures that a task reports of each of these methods under a condition, for `Task.figures`."""
    wanted = list(figures)
    return tuple(figure_name(figure, method, heading, condition) for method in methods for figure in wanted)
