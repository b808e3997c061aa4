"""Fig. 5–8: how long indexing and retrieval take against the number of images, and the paper's ratios."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.result import Observation, Result
from mipp_cli.experiments.cost.claims import ratio_claims, setting_label, time_claims
from mipp_cli.experiments.cost.timed_runs import (
    INDEX,
    PLAIN,
    Collection,
    Timed,
    plain_runs,
    timed_deployment,
)
from mipp_cli.progress import Progress, silent
from mipp_cli.scheme.parameters import DEFAULT_MODULUS_BITS, SUM_SCHEMES

INDEX_NAME, RETRIEVAL_NAME = "timing-index", "timing-retrieval"


@dataclass(frozen=True)
class TimingOptions:
    """What is timed: each of ``sizes`` ``repeats`` times, in each scheme and (but `mask`) modulus."""

    sizes: tuple[int, ...] = (100, 250, 500, 1000)
    repeats: int = 5
    schemes: tuple[str, ...] = ("dcr", "mask")
    modulus_bits: tuple[int, ...] = (DEFAULT_MODULUS_BITS,)
    candidates: int = 100
    seed: int = 1
    parallelism: Parallelism = LOCAL

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1 or self.repeats < 1 or self.candidates < 1:
            raise InvalidRequestError("sizes, repeats and candidates begin at 1", hint="give 1 or more")
        unknown = [scheme for scheme in self.schemes if scheme not in SUM_SCHEMES]
        if unknown or not self.schemes:
            raise InvalidRequestError(
                f"there is no scheme {', '.join(unknown)!r} to time",
                hint="schemes are: " + ", ".join(SUM_SCHEMES),
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
                options.parallelism,
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
        Result(INDEX_NAME, "Fig. 5: index construction time", index, time_claims(index), notes),
        Result(
            RETRIEVAL_NAME,
            "Fig. 6–8: retrieval time",
            retrieval,
            [*time_claims(retrieval), *ratio_claims(retrieval)],
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
    jobs = options.parallelism.jobs or "as many as processors"
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
