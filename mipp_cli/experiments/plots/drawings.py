"""Which results are drawn, and under which file names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mipp_cli.experiments.base.result import Result
from mipp_cli.experiments.plots.accuracy import plot_accuracy, plot_f1, plot_positions
from mipp_cli.experiments.plots.cost import TIMING_DRAWINGS, plot_storage
from mipp_cli.experiments.plots.leakage import LEAKAGE_DRAWINGS

PAD_SHEET = "two-time-pad.png"
"""Pictures of the attack on one key stream for two images; drawn by the attack itself."""

Draw = Callable[[Result, Path], None]

_DRAWINGS: dict[str, tuple[tuple[str, Draw], ...]] = {
    "accuracy": (("accuracy.png", plot_accuracy), ("accuracy-f1.png", plot_f1)),
    "positions": (("positions.png", plot_positions),),
    "storage": (("storage.png", plot_storage),),
    **LEAKAGE_DRAWINGS,
    **TIMING_DRAWINGS,
}

# the sheet is made once, by the first of several attacks
_PAD_RESULTS = ("attack", "attack-paper")


def drawing_names(result: Result) -> list[str]:
    """Return the file names of a result's plots; those that could not be drawn are not there."""
    names = [name for name, _ in _DRAWINGS.get(result.name, ()) if result.observations]
    return [*names, PAD_SHEET] if result.name in _PAD_RESULTS else names


def draw(results: Sequence[Result], folder: Path) -> list[Path]:
    """Draw the plots of some results into ``folder`` and return their paths; needs matplotlib."""
    written = []
    for result in results:
        for name, plot in _DRAWINGS.get(result.name, ()):
            if result.observations:
                plot(result, folder / name)
                written.append(folder / name)
    return written
