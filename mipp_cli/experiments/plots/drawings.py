"""The plots of each result, and their file names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mipp_cli.experiments.accuracy.coarser import BITS, DIMENSIONS
from mipp_cli.experiments.accuracy.descriptors import NAME
from mipp_cli.experiments.base.result import Result
from mipp_cli.experiments.cost.timing import INDEX_NAME, RETRIEVAL_NAME
from mipp_cli.experiments.leakage import co_selection, linking, reordering, selections, two_sums
from mipp_cli.experiments.leakage.groups import claims as groups
from mipp_cli.experiments.plots import descriptors, leakage, paper
from mipp_cli.experiments.plots.style import FORMS

PAD_SHEET = "two-time-pad.png"
"""Pictures of the attack on one key stream for two images; drawn by the attack itself."""

DRAWINGS: dict[str, dict[str, Callable[[Result, Path], None]]] = {
    "accuracy": {"": paper.plot_accuracy, "-f1": paper.plot_f1},
    "positions": {"": paper.plot_positions},
    NAME: {"": descriptors.plot_descriptors},
    BITS: {"": descriptors.plot_bits},
    DIMENSIONS: {"": descriptors.plot_dimensions},
    co_selection.NAME: {"": descriptors.plot_leakage},
    "storage": {"": paper.plot_storage},
    INDEX_NAME: {"": paper.plot_index_time},
    RETRIEVAL_NAME: {"": paper.plot_retrieval_time},
    two_sums.CATEGORY: {"": leakage.plot_category},
    two_sums.RANKING: {"": leakage.plot_ranking},
    linking.LINKS: {"": leakage.plot_links},
    linking.FALSE_LINKS: {"": leakage.plot_false_links},
    reordering.NAME: {"": leakage.plot_reordering},
    selections.NAME: {"": leakage.plot_selections},
    groups.NAME: {"": leakage.plot_groups},
}
"""The functions that draw each result, by the suffix of the file name."""

# the sheet is written once, by the first attack
_PAD_RESULTS = ("attack", "attack-paper")


def drawing_names(result: Result) -> list[str]:
    """Return the file names of a result's plots, whether or not they exist."""
    drawn = [f"{result.name}{suffix}" for suffix in DRAWINGS.get(result.name, ()) if result.observations]
    names = [f"{name}{form}" for name in drawn for form in FORMS]
    return [*names, PAD_SHEET] if result.name in _PAD_RESULTS else names


def draw(results: Sequence[Result], folder: Path) -> list[Path]:
    """Draw the plots of some results into ``folder`` and return their paths; needs matplotlib."""
    written = []
    for result in results:
        for suffix, plot in DRAWINGS.get(result.name, {}).items():
            if result.observations:
                path = folder / f"{result.name}{suffix}"
                plot(result, path)
                written += [folder / f"{path.name}{form}" for form in FORMS]
    return written
