"""The rate-distortion curve of compressed files. See `narrows.drawing.canvas`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from narrows.compare.figure_names import CLASSICS
from narrows.drawing.canvas import CLASSES, MODEL, _render, _single
from narrows.drawing.labels import MUTED, Picture

Points = Sequence[tuple[float, float]]
STYLES = ("-", "--", "-.", ":")
LETTERS, LINE = 28, 0.19
"""Most of a run's name beside the panel, and inches of a line below it."""


def rate_distortion(
    runs: Mapping[str, Points],
    classics: Mapping[str, Points],
    title: str,
    labels: tuple[str, str] = ("bits per pixel, from bytes on disk", "PSNR (dB)"),
) -> Picture:
    """Quality over rate, by default PSNR over bits per pixel, on a logarithmic axis: a thick line per run, with a point
    for each step, and a thin line per classic codec. A codec whose files cannot be as small as the runs' starts further
    to the right."""
    figure, axis = _single((7.4, 4.6), title, labels, "")
    axis.grid(color=MUTED, lw=0.4, alpha=0.3)
    axis.set_xscale("log")
    colours = [colour for colour in CLASSES if colour != MODEL]
    for number, (name, points) in enumerate(classics.items()):
        if points:
            rate, psnr = zip(*points, strict=True)
            axis.plot(rate, psnr, color=colours[number], lw=1.1, marker="s", ms=3, label=CLASSICS[name])
    for number, (name, points) in enumerate(runs.items()):
        rate, psnr = zip(*points, strict=True)
        style = STYLES[number % len(STYLES)]
        axis.plot(rate, psnr, color=MODEL, lw=2.2, ls=style, marker="o", ms=5, label=name, zorder=3)
    axis.xaxis.set_major_locator(LogLocator(10, subs=(1, 1.5, 2, 3, 5, 7)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.tick_params(which="minor", length=0)
    _explain(figure, [*runs])
    return _render(figure)


def _explain(figure: Figure, runs: Sequence[str]) -> None:
    """A legend beside the panel, or below it where the names of runs would leave the panel no room."""
    if max(map(len, runs), default=0) <= LETTERS:
        figure.legend(loc="outside right center", frameon=False, fontsize=8)
        return
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.set_figheight(figure.get_figheight() + LINE * len(names))
    figure.legend(handles, names, loc="outside lower left", ncols=1, frameon=False, fontsize=8)
