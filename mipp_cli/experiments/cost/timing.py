"""Fig. 5–8: how long indexing and retrieval take against the number of images, and the paper's ratios."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.result import Observation, Result, where
from mipp_cli.experiments.base.trial_deployment import SchemeSetting
from mipp_cli.experiments.cost.time_claims import ratio_claims, time_claims
from mipp_cli.experiments.cost.timed_runs import (
    ENCRYPTING,
    INDEX,
    PLAIN,
    Collection,
    Timed,
    TimingOptions,
    encrypted_runs,
    plain_runs,
)
from mipp_cli.progress import Progress, silent

INDEX_NAME, RETRIEVAL_NAME = "timing-index", "timing-retrieval"


def run_timing(dataset: DataSet, options: TimingOptions, progress: Progress = silent) -> list[Result]:
    """Time Fig. 5 (index construction) and Fig. 6–8 (retrieval); nothing is extrapolated.

    Raises InvalidRequestError for a scheme and modulus that do not go together.
    """
    collection = Collection(dataset, options.seed)
    rows = list(_rows(plain_runs(collection, options), SchemeSetting(PLAIN, None), dataset))
    for setting in options.settings:
        rows += _rows(encrypted_runs(setting, collection, options, progress), setting, dataset)
    index, encrypting = (where(rows, step=step) for step in (INDEX, ENCRYPTING))
    retrieval = [row for row in rows if row["step"] not in (INDEX, ENCRYPTING)]
    took = "; ".join(f"{SchemeSetting.of(row).label}: {row['seconds']:.1f} s" for row in encrypting)
    notes = [*_notes(dataset, options), f"Encrypting {options.ascending[-1]} images, once: {took}."]
    claims = [*time_claims(retrieval), *ratio_claims(retrieval)]
    return [
        Result(INDEX_NAME, "Fig. 5: index construction time", index, time_claims(index), notes),
        Result(RETRIEVAL_NAME, "Fig. 6–8: retrieval time", retrieval, claims, notes),
    ]


def _rows(timed: Iterable[Timed], setting: SchemeSetting, dataset: DataSet) -> Iterator[Observation]:
    for images, step, repeat, taken in timed:
        yield {
            **vars(setting),
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
