"""Fig. 5–8 and Table 3 as plots, the paper's own figures beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mipp_cli.experiments.base.result import Result
from mipp_cli.experiments.cost.claims import PAPER_IMAGES, PAPER_SECONDS, Spread, spreads
from mipp_cli.experiments.cost.storage import COLLECTION, FEATURES, KB, PAPER_FEATURES_KB
from mipp_cli.experiments.cost.timed_runs import INDEX, ONE_IMAGE, PLAIN, WITH_INDEX, WITHOUT_INDEX
from mipp_cli.experiments.cost.timing import INDEX_NAME, RETRIEVAL_NAME
from mipp_cli.experiments.plots.style import bar_style, drawing, legend_below, line_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_index_time(result: Result, path: Path) -> None:
    """Draw Fig. 5: index construction against the number of images."""
    with drawing(path, width=7.5, height=4.6) as (figure, panels):
        _step(panels[0], result, INDEX, 0)
        _finish(panels[0], result, INDEX, "Fig. 5: index construction")
        legend_below(figure, panels[0], columns=2)


def plot_retrieval_time(result: Result, path: Path) -> None:
    """Draw Fig. 6–8: plain retrieval, with index and without index, against the number of images."""
    with drawing(path, columns=3, width=4.6, height=4.8) as (figure, panels):
        plain, with_index, without_index = panels
        _step(plain, result, PLAIN, 0)
        _finish(plain, result, PLAIN, "Fig. 6: plain")
        settings = _step(with_index, result, WITH_INDEX, 1)
        _step(with_index, result, ONE_IMAGE, 1 + settings, suffix=", one image returned")
        _finish(with_index, result, WITH_INDEX, "Fig. 7: with index")
        _step(without_index, result, WITHOUT_INDEX, 1)
        _finish(without_index, result, WITHOUT_INDEX, "Fig. 8: without index")
        low = min(panel.get_ylim()[0] for panel in panels)
        high = max(panel.get_ylim()[1] for panel in panels)
        for panel in panels:
            panel.set_ylim(low, high)  # the same scale, so that the three compare
        # one legend: the panels of Fig. 6 and 7 have every line, and the paper's star twice
        lines = {
            label: handle
            for panel in (plain, with_index)
            for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
        }
        figure.legend(list(lines.values()), list(lines), loc="outside lower center", ncols=3)


def _step(panel: Axes, result: Result, step: str, number: int, suffix: str = "") -> int:
    """Draw a line for each setting, the first in style ``number``; return how many."""
    settings = spreads(result.observations, step)
    repeating = {int(row["images"] or 0) for row in result.observations if row["pictures_repeat"]}
    for place, (label, sizes) in enumerate(settings.items(), start=number):
        x = np.array(sorted(sizes))
        style = line_style(place)
        middle = _values(sizes, "middle")
        errors = np.array([middle - _values(sizes, "low"), _values(sizes, "high") - middle])
        panel.errorbar(x, middle, yerr=errors, label=label + suffix, capsize=2.5, elinewidth=0.8, **style)
        again = np.array([size in repeating for size in x])
        panel.plot(
            x[again],
            middle[again],
            linestyle="",
            marker=style["marker"],
            color="white",
            markersize=3,
            zorder=5,
        )
    return len(settings)


def _values(sizes: Mapping[int, Spread], which: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([getattr(sizes[size], which) for size in sorted(sizes)], dtype=np.float64)


def _finish(panel: Axes, result: Result, step: str, title: str) -> None:
    panel.plot(
        PAPER_IMAGES, PAPER_SECONDS[step], linestyle="", marker="*", markersize=12, color="#777777",
        label=f"the paper, {PAPER_IMAGES:,} images",
    )  # fmt: skip
    panel.set_xscale("log")
    panel.set_yscale("log")
    repeat = any(row["pictures_repeat"] for row in result.observations)
    hollow = "\nhollow: the same pictures again under new names" if repeat else ""
    panel.set(xlabel=f"images (logarithmic){hollow}", ylabel="seconds (logarithmic)")
    panel.set_title(f"{title}\nmedian, smallest to largest")


def plot_storage(result: Result, path: Path) -> None:
    """Draw Table 3: the encrypted features of 10,000 images under each scheme, the paper's figure beside."""
    rows = [row for row in result.observations if row["what"] == FEATURES and row["images"] == COLLECTION]
    names = [f"{row['scheme']} {row['modulus_bits'] or ''}".strip() for row in rows] + ["Table 3"]
    sizes = [float(row["bytes"] or 0) / KB for row in rows] + [float(PAPER_FEATURES_KB)]
    with drawing(path, width=7.5, height=1.6 + 0.36 * len(names)) as (_, panels):
        panel = panels[0]
        colours = [bar_style(0)] * len(rows) + [bar_style(1)]
        for place, (size, style) in enumerate(zip(sizes, colours, strict=True)):
            panel.barh(place, size, height=0.65, **style)
            panel.annotate(f"{size:,.0f} KB", (size, place), (4, 0), textcoords="offset points", va="center")
        panel.set_xscale("log")
        panel.set_xlim(min(sizes) / 4, max(sizes) * 6)
        panel.set_yticks(range(len(names)), names)
        panel.invert_yaxis()
        panel.grid(visible=False, axis="y")
        panel.set(xlabel=f"KB for {COLLECTION:,} images (logarithmic)")
        panel.set_title("Encrypted features (EF and EFF)")


_Draw = Callable[[Result, Path], None]
TIMING_DRAWINGS: Mapping[str, tuple[tuple[str, _Draw], ...]] = {
    INDEX_NAME: ((f"{INDEX_NAME}.png", plot_index_time),),
    RETRIEVAL_NAME: ((f"{RETRIEVAL_NAME}.png", plot_retrieval_time),),
}
"""Which file each result of `timing` is drawn into, and by what."""
