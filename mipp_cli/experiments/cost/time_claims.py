"""The paper's claims about time (Fig. 5–8, section 7.3), next to the measurements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from mipp_cli.experiments.base.conclusions import CONFIRMED, within_reach
from mipp_cli.experiments.base.result import Claim, Observation, where
from mipp_cli.experiments.base.trial_deployment import SchemeSetting

INDEX, PLAIN, WITH_INDEX, WITHOUT_INDEX = "index", "plain", "with index", "without index"
ONE_IMAGE = "with index, one image returned"
PAPER_IMAGES = 10_000
PAPER_SECONDS = {INDEX: 7 * 60.0, PLAIN: 1.0, WITH_INDEX: 0.05, ONE_IMAGE: 0.05, WITHOUT_INDEX: 6.8 * 60}
PAPER_RATIOS = {WITHOUT_INDEX: 8160, PLAIN: 1200}
_FIGURES = {
    INDEX: "Fig. 5",
    PLAIN: "Fig. 6",
    WITH_INDEX: "Fig. 7",
    ONE_IMAGE: "Fig. 7",
    WITHOUT_INDEX: "Fig. 8",
}
_ALIKE = 2.0  # machines differ: times within a factor of two count as equal
_EVERY_IMAGE = (INDEX, WITHOUT_INDEX)


class Spread(NamedTuple):
    """Seconds of a point: median, smallest and largest."""

    middle: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """The spread as text."""
        scale, unit = (1000, "ms") if self.middle < 1 else (1, "s")
        return f"{self.middle * scale:.3g} {unit} ({self.low * scale:.3g}–{self.high * scale:.3g})"


def spreads(observations: Sequence[Observation], step: str) -> dict[str, dict[int, Spread]]:
    """Return the times of a step, by setting and number of images."""
    taken: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in where(observations, step=step):
        taken[SchemeSetting.of(row).label][row["images"]].append(row["seconds"])
    return {
        label: {size: Spread(median(times), min(times), max(times)) for size, times in sizes.items()}
        for label, sizes in taken.items()
    }


def time_claims(observations: Sequence[Observation]) -> list[Claim]:
    """Compare each time of the paper with the one measured at the largest size; nothing is extrapolated."""
    claims = []
    for step, figure in _FIGURES.items():
        parts, taken = [], []
        for label, sizes in spreads(observations, step).items():
            size = max(sizes)
            taken.append(sizes[size].middle * (PAPER_IMAGES / size if step in _EVERY_IMAGE else 1))
            part = f"{label}: {sizes[size].text} for {size} images"
            if step in _EVERY_IMAGE:
                each, paper = sizes[size].middle / size, PAPER_SECONDS[step] / PAPER_IMAGES
                part += f", {1000 * each:.3g} ms per image (the paper: {1000 * paper:.3g} ms)"
            parts.append(part)
        if parts:
            what = "index construction" if step == INDEX else f"retrieval, {step}"
            claimed = f"{what}: {_duration(PAPER_SECONDS[step])} for {PAPER_IMAGES:,} images"
            faster = within_reach(max(taken), PAPER_SECONDS[step], _ALIKE)
            if step not in _EVERY_IMAGE and size != PAPER_IMAGES:
                faster = f"not comparable: {size:,} images here, {PAPER_IMAGES:,} in the paper"
            claims.append(Claim(figure, claimed, "; ".join(parts) + ".", faster))
    return claims


def _duration(taken: float) -> str:
    return f"{taken / 60:g} min" if taken >= 60 else f"{taken:g} s" if taken >= 1 else f"{1000 * taken:g} ms"


def ratio_claims(observations: Sequence[Observation]) -> list[Claim]:
    """Compare each ratio of the paper with the measured one, and with the ratio of its own times."""
    claims = []
    for step, claimed in PAPER_RATIOS.items():
        others, parts, ratios = spreads(observations, step), [], []
        for label, sizes in spreads(observations, WITH_INDEX).items():
            size = max(sizes)
            other = others[PLAIN if step == PLAIN else label][size]
            ratio = other.middle / sizes[size].middle
            ratios.append(ratio)
            comparison = f"{ratio:.3g} × faster" if ratio >= 1 else f"{1 / ratio:.3g} × slower"
            parts.append(f"{label}, {size} images: {sizes[size].text} against {other.text}, {comparison}")
        own = PAPER_SECONDS[step] / PAPER_SECONDS[WITH_INDEX]
        said = f"with the index {claimed:,} × faster than {'plain retrieval' if step == PLAIN else step}"
        if round(own) != claimed:
            said += (
                f"; the paper contradicts itself: its own times, {_duration(PAPER_SECONDS[step])} against "
                f"{_duration(PAPER_SECONDS[WITH_INDEX])}, are {own:g} ×"
            )
        claims.append(Claim("section 7.3", said, "; ".join(parts) + ".", _weighed(ratios, claimed)))
    return claims


def _weighed(ratios: Sequence[float], claimed: float) -> str:
    """Judge a claimed ratio by those of every setting, at the sizes measured."""
    low, high = min(ratios), max(ratios)
    span = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
    if low >= claimed / _ALIKE:
        return CONFIRMED
    if high < 1:
        return f"not confirmed: slower, {span} × instead of {claimed:,} ×"
    return f"not confirmed: {span} × instead of {claimed:,} ×"
