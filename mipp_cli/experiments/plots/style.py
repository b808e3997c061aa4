"""The style of plots: sizes, colours that work for colour-blind readers and in grey print, and output files.

matplotlib is an optional extra, imported only when a plot is drawn.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mipp_cli.errors import OutputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 160
FORMS = (".png", ".svg")
"""The file formats of each plot: for the report, and for a paper."""

CHANCE_STYLE: dict[str, Any] = {"color": "#777777", "linestyle": ":", "linewidth": 1.4}

Point = tuple[float, float, float]
"""A value, and the bounds of its interval."""

# Okabe and Ito's colours (Color Universal Design, 2008), dark ones first, so that neighbours differ in grey;
# line styles and markers tell them apart without any colour.
_COLOURS = ("#000000", "#D55E00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#E69F00")
_LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (6, 2)), (0, (3, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_FILLS = ("#A6A6A6", "#D55E00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#E69F00")
_HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++", "oo")
_SETTINGS: dict[Any, Any] = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "hatch.linewidth": 0.6,
    "svg.hashsalt": "mipp",  # makes ids inside an SVG reproducible
}


def plots_possible() -> bool:
    """Return whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def line_style(number: int) -> dict[str, Any]:
    """Return colour, line style and marker of the line with this number."""
    place = number % len(_COLOURS)
    return {"color": _COLOURS[place], "linestyle": _LINES[place], "marker": _MARKERS[place]}


def bar_style(number: int) -> dict[str, Any]:
    """Return colour and hatching of the bars with this number; black intervals are visible on all."""
    place = number % len(_FILLS)
    return {"color": _FILLS[place], "hatch": _HATCHES[place], "edgecolor": "black", "linewidth": 0.6}


@contextmanager
def drawing(
    path: Path,
    *,
    rows: int = 1,
    columns: int = 1,
    width: float = 6.0,
    height: float = 4.2,
    legend_columns: int = 3,
) -> Iterator[list[Axes]]:
    """Yield the panels of a figure, row by row, each ``width`` by ``height`` inches; then write it.

    ``path`` is the path of the files without their suffixes, which are :data:`FORMS`.

    All panels share one legend below the figure, where it covers no line. Raises OutputError if a file cannot
    be written.
    """
    import matplotlib as mpl  # noqa: PLC0415 -- an extra: imported only where plots are asked for
    from matplotlib.figure import Figure  # noqa: PLC0415 -- as above

    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(width * columns, height * rows), layout="constrained", dpi=DPI)
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        yield panels
        legends = [panel.get_legend_handles_labels() for panel in panels]
        lines = {label: handle for legend in legends for handle, label in zip(*legend, strict=True)}
        if lines:
            figure.legend(list(lines.values()), list(lines), loc="outside lower center", ncols=legend_columns)
        try:
            # without date and matplotlib version, so the same figures give the same file
            figure.savefig(path.with_name(f"{path.name}.png"), metadata={"Software": None})
            figure.savefig(path.with_name(f"{path.name}.svg"), metadata={"Date": None, "Creator": None})
        except OSError as error:
            raise OutputError(
                "cannot be written", path=error.filename, hint="check the folder and its permissions"
            ) from error


def draw_lines(
    panel: Axes,
    lines: Mapping[str, Mapping[Any, Point]],
    *,
    scale: float = 100,
    apart: float = 0.0,
    first: int = 0,
) -> None:
    """Draw a line with intervals for each label, the first in style ``first``; shares in per cent.

    Points are shifted ``apart``, so that intervals of similar lines do not hide each other.
    """
    for number, (label, points) in enumerate(lines.items()):
        if points:
            middle, errors = _errors(points.values(), scale)
            x = np.array(list(points)) + apart * (number - (len(lines) - 1) / 2)
            style = line_style(first + number)
            panel.errorbar(x, middle, yerr=errors, label=label, capsize=2.5, elinewidth=0.8, **style)


def draw_bars(
    panel: Axes, bars: Mapping[str, Mapping[Any, Point]], ticks: Sequence[Any] | None = None
) -> None:
    """Draw bars with intervals for each label, side by side at each tick; shares in per cent.

    A label without a point at a tick has no bar there, and the others are centred. ``ticks`` defaults to
    those of the points, in order of appearance.
    """
    width = 0.8 / len(bars)
    ticks = ticks or list(dict.fromkeys(tick for points in bars.values() for tick in points))
    there = {tick: [label for label, points in bars.items() if tick in points] for tick in ticks}
    for number, (label, points) in enumerate(bars.items()):
        middle, errors = _errors(points.values(), 100)
        sides = [there[tick].index(label) - (len(there[tick]) - 1) / 2 for tick in points]
        x = np.array([ticks.index(tick) for tick in points]) + width * np.array(sides)
        kept = {"elinewidth": 0.9, "ecolor": "black"}
        panel.bar(x, middle, width, yerr=errors, label=label, capsize=2.5, error_kw=kept, **bar_style(number))
    panel.set_xticks(range(len(ticks)), list(map(str, ticks)))
    panel.grid(visible=False, axis="x")


def whole_per_cent(panel: Axes) -> None:
    """Scale the y axis from 0 to 100 per cent, with room for marks at 100."""
    panel.set_ylim(0, 104)
    panel.set_yticks(range(0, 101, 20))


def draw_named_bars(panel: Axes, bars: Mapping[str, tuple[float, str]]) -> None:
    """Draw a horizontal bar per name, with its text at the end; the last one is highlighted."""
    for number, (size, text) in enumerate(bars.values()):
        panel.barh(number, size, height=0.6, **bar_style(int(number == len(bars) - 1)))
        panel.annotate(text, (size, number), (5, 0), textcoords="offset points", va="center")
    panel.set_yticks(range(len(bars)), list(bars))
    panel.invert_yaxis()
    panel.grid(visible=False, axis="y")


def draw_chance(panel: Axes, share: float, label: str = "chance") -> None:
    """Draw a line at the value of chance, in per cent."""
    panel.axhline(100 * share, label=label, **CHANCE_STYLE)


def logarithmic(panel: Axes, ticks: Sequence[int]) -> None:
    """Make the x axis logarithmic, with only these ticks."""
    panel.set_xscale("log")
    panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    panel.minorticks_off()


def _errors(points: Iterable[Point], scale: float) -> tuple[NDArray[np.float64], list[list[float]]]:
    """Return the values of points, and the lengths of their intervals below and above."""
    middle, low, high = scale * np.array(list(points)).T
    # lists, since matplotlib treats an array of one as a number, which older numpy warns about
    return middle, np.clip([middle - low, high - middle], 0, None).tolist()
