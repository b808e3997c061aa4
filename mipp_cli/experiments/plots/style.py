"""How plots look: sizes, colours that survive colour blindness and grey print, and where they are written.

matplotlib is an extra, imported only when a plot is drawn.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mipp_cli.errors import OutputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 160
PANEL_WIDTH = 6.0
PANEL_HEIGHT = 4.2

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
}


def plots_possible() -> bool:
    """Say whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def line_style(number: int) -> dict[str, Any]:
    """Return colour, line style and marker of the line with this number."""
    place = number % len(_COLOURS)
    return {"color": _COLOURS[place], "linestyle": _LINES[place], "marker": _MARKERS[place]}


def bar_style(number: int) -> dict[str, Any]:
    """Return colour and hatching of the bars with this number; black intervals show on all of them."""
    place = number % len(_FILLS)
    return {"color": _FILLS[place], "hatch": _HATCHES[place], "edgecolor": "black", "linewidth": 0.6}


@contextmanager
def drawing(
    path: Path, *, rows: int = 1, columns: int = 1, width: float = PANEL_WIDTH, height: float = PANEL_HEIGHT
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Give a figure and its panels, row by row, each ``width`` by ``height`` inches; then write ``path``.

    Raises OutputError if the PNG cannot be written.
    """
    import matplotlib as mpl  # noqa: PLC0415 -- an extra: imported only where plots are asked for
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(width * columns, height * rows), layout="constrained", dpi=DPI)
        panels = figure.subplots(rows, columns, squeeze=False)
        yield figure, list(panels.flat)
        try:
            # without a date or version of matplotlib inside, the same figures give the same file
            figure.savefig(path, format="png", metadata={"Software": None})
        except OSError as error:
            raise OutputError(
                "cannot be written", path=path, hint="check the folder and its rights"
            ) from error


def legend_below(figure: Figure, panel: Axes, *, columns: int = 3) -> None:
    """Put the legend of ``panel`` under the whole figure, where it covers no line."""
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)
