"""Fig. 5–8: how long indexing and retrieval take against the number of images, and the paper's ratios."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.dataset import DataSet
from mipp_cli.experiments.result import Claim, Observation, Result
from mipp_cli.experiments.timed_runs import (
    INDEX,
    ONE_IMAGE,
    PLAIN,
    WITH_INDEX,
    WITHOUT_INDEX,
    Collection,
    Timed,
    plain_runs,
    timed_deployment,
)
from mipp_cli.roles.progress import Progress, silent
from mipp_cli.roles.workers import LOCAL, Workplace
from mipp_cli.scheme.parameters import DEFAULT_MODULUS_BITS, SCHEMES

INDEX_NAME, RETRIEVAL_NAME = "timing-index", "timing-retrieval"
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
_EVERY_IMAGE = (INDEX, WITHOUT_INDEX)


@dataclass(frozen=True)
class TimingOptions:
    """What is timed: each of ``sizes`` ``repeats`` times, in each scheme and (but `mask`) modulus."""

    sizes: tuple[int, ...] = (100, 250, 500, 1000)
    repeats: int = 5
    schemes: tuple[str, ...] = ("dcr", "mask")
    modulus_bits: tuple[int, ...] = (DEFAULT_MODULUS_BITS,)
    candidates: int = 100
    seed: int = 1
    workplace: Workplace = LOCAL

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1 or self.repeats < 1 or self.candidates < 1:
            raise InvalidRequestError("sizes, repeats and candidates begin at 1", hint="give 1 or more")
        unknown = [scheme for scheme in self.schemes if scheme not in SCHEMES]
        if unknown or not self.schemes:
            raise InvalidRequestError(
                f"there is no scheme {', '.join(unknown)!r} to time",
                hint="schemes are: " + ", ".join(SCHEMES),
            )
        if self.seed < 0:
            raise InvalidRequestError("a seed is not negative", hint="give 0 or more")

    @property
    def ascending(self) -> tuple[int, ...]:
        """The sizes, each once, ascending."""
        return tuple(sorted(set(self.sizes)))

    @property
    def settings(self) -> list[tuple[str, int | None]]:
        """Each scheme with each modulus; `mask` has none."""
        every = ((s, None if s == "mask" else bits) for s in self.schemes for bits in self.modulus_bits)
        return list(dict.fromkeys(every))


def run_timing(dataset: DataSet, options: TimingOptions, progress: Progress = silent) -> list[Result]:
    """Time Fig. 5 (index construction) and Fig. 6–8 (retrieval); nothing is extrapolated.

    Raises InvalidRequestError for a scheme and modulus that do not go together.
    """
    collection, sizes = Collection(dataset, options.seed), options.ascending
    observations: list[Observation] = []
    encrypted: list[str] = []
    points = len(sizes) * options.repeats * 4
    with tempfile.TemporaryDirectory(prefix="mipp-") as name:
        folder = Path(name)
        plain = plain_runs(folder, collection, sizes, options.repeats, options.candidates)
        observations += _rows(plain, PLAIN, None, dataset)
        for scheme, bits in options.settings:
            timed = timed_deployment(
                folder / f"{scheme}-{bits}",
                scheme,
                bits,
                collection,
                sizes,
                options.repeats,
                options.candidates,
                options.workplace,
                progress,
            )
            encrypted.append(f"{setting_label(scheme, bits)}: {timed.encrypting:.1f} s")
            with progress(f"timing {scheme}", points, "run") as advance:
                for row in _rows(timed.runs(), scheme, bits, dataset):
                    observations.append(row)
                    advance(1)
            timed.remove()
    notes = [*_notes(dataset, options), f"Encrypting {sizes[-1]} images, once: " + "; ".join(encrypted) + "."]
    index = [row for row in observations if row["step"] == INDEX]
    retrieval = [row for row in observations if row["step"] != INDEX]
    return [
        Result(INDEX_NAME, "Fig. 5: index construction time", index, _time_claims(index), notes),
        Result(
            RETRIEVAL_NAME,
            "Fig. 6–8: retrieval time",
            retrieval,
            [*_time_claims(retrieval), *_ratio_claims(retrieval)],
            notes,
        ),
    ]


def _rows(timed: Iterable[Timed], scheme: str, bits: int | None, dataset: DataSet) -> Iterator[Observation]:
    for images, step, repeat, taken in timed:
        yield {
            "scheme": scheme,
            "modulus_bits": bits,
            "step": step,
            "images": images,
            "pictures_repeat": int(images > len(dataset)),
            "repeat": repeat + 1,
            "seconds": taken,
        }


def _notes(dataset: DataSet, options: TimingOptions) -> list[str]:
    jobs = options.workplace.jobs or "as many as processors"
    notes = [
        "The commands' own code on real containers, from verifying the input to the output in its place, in "
        f"one warm process (jobs for the sums of many images: {jobs}); the start of Python is not counted.",
        "Index: `cloud index` of all uploads into an empty cloud. With and without index: `cloud search` of "
        f"one query for {options.candidates} candidates; it checks signatures, reads the encrypted images of "
        "the answer and writes them into results.h5. The same queries for one image show what it takes "
        "to find, without the images.",
        "Plain: the features (80 bytes an image) are read from a file, EucDis to all of them with numpy, and "
        f"the {options.candidates} nearest in order; no image is read. A fair plain implementation, and less "
        "work than the encrypted search does.",
        f"Every point {options.repeats} times, each with another query; median, and smallest to largest. A "
        "collection of a size is the first uploads of its owner, who encrypted once.",
    ]
    if max(options.sizes) > len(dataset):
        notes.append(
            f"Above {len(dataset)} images the same pictures come again under new names, encrypted again."
        )
    return notes


@dataclass(frozen=True)
class Spread:
    """Seconds of a point: median, smallest and largest."""

    middle: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """The spread as it stands in a sentence."""
        scale, unit = (1000, "ms") if self.middle < 1 else (1, "s")
        return f"{self.middle * scale:.3g} {unit} ({self.low * scale:.3g}–{self.high * scale:.3g})"


def setting_label(scheme: str, bits: object) -> str:
    """Return what legends call a scheme with its modulus."""
    return f"{scheme} {bits} bits" if bits else scheme


def spreads(observations: Sequence[Observation], step: str) -> dict[str, dict[int, Spread]]:
    """Return by setting, then by number of images, how long a step took."""
    taken: dict[str, dict[int, list[float]]] = {}
    for row in observations:
        if row["step"] == step:
            label = setting_label(str(row["scheme"]), row["modulus_bits"])
            sizes = taken.setdefault(label, {})
            sizes.setdefault(int(row["images"] or 0), []).append(float(row["seconds"] or 0))
    return {
        label: {size: Spread(median(times), min(times), max(times)) for size, times in sizes.items()}
        for label, sizes in taken.items()
    }


def _time_claims(observations: Sequence[Observation]) -> list[Claim]:
    claims = []
    for step in [step for step in _FIGURES if any(row["step"] == step for row in observations)]:
        parts = []
        for label, sizes in spreads(observations, step).items():
            size = max(sizes)
            part = f"{label}: {sizes[size].text} for {size} images"
            if step in _EVERY_IMAGE:
                each, paper = sizes[size].middle / size, PAPER_SECONDS[step] / PAPER_IMAGES
                part += f", {1000 * each:.3g} ms an image (the paper's is {1000 * paper:.3g} ms)"
            parts.append(part)
        what = "index construction" if step == INDEX else f"retrieval, {step}"
        claimed = f"{what}: {_duration(PAPER_SECONDS[step])} for {PAPER_IMAGES:,} images"
        claims.append(Claim(_FIGURES[step], claimed, "; ".join(parts) + "."))
    return claims


def _duration(taken: float) -> str:
    return f"{taken / 60:g} min" if taken >= 60 else f"{taken:g} s" if taken >= 1 else f"{1000 * taken:g} ms"


def _ratio_claims(observations: Sequence[Observation]) -> list[Claim]:
    return [_ratio_claim(observations, step, claimed) for step, claimed in PAPER_RATIOS.items()]


def _ratio_claim(observations: Sequence[Observation], step: str, claimed: int) -> Claim:
    """Set a ratio of the paper beside the measured one, and beside what its own times give."""
    indexed, others = spreads(observations, WITH_INDEX), spreads(observations, step)
    parts = []
    for label, sizes in indexed.items():
        size = max(sizes)
        other = others[PLAIN if step == PLAIN else label][size]
        ratio = other.middle / sizes[size].middle
        comparison = f"{ratio:.3g} × faster" if ratio >= 1 else f"{1 / ratio:.3g} × slower"
        parts.append(f"{label}, {size} images: {sizes[size].text} against {other.text}, {comparison}")
    own = PAPER_SECONDS[step] / PAPER_SECONDS[WITH_INDEX]
    said = f"with the index {claimed:,} × faster than {'plain retrieval' if step == PLAIN else step}"
    if round(own) != claimed:
        said += (
            f"; the paper contradicts itself: its own times, {_duration(PAPER_SECONDS[step])} against "
            f"{_duration(PAPER_SECONDS[WITH_INDEX])}, are {own:g} ×"
        )
    return Claim("section 7.3", said, "; ".join(parts) + ".")
