"""Leakage (c): linking the same picture of two owners by its sums, and how often links are false."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mipp_cli.cloud.cloud import INDEX_FILE
from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.base.bootstrap import mean_interval
from mipp_cli.experiments.base.conclusions import CONFIRMED
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.methods import Order, both_sums
from mipp_cli.experiments.base.result import Claim, Observation, Result, column, table, where
from mipp_cli.experiments.base.seeds import Purpose, generator
from mipp_cli.experiments.base.trial_deployment import SchemeSetting, TrialDeployment, trial_deployment
from mipp_cli.inspection.files import inspect_file
from mipp_cli.owner.owner import Owner
from mipp_cli.progress import Progress
from mipp_cli.scheme.parameters import DEFAULT_MODULUS_BITS

LINKS, FALSE_LINKS = "leakage-links", "leakage-false-links"
_OWNERS = ("first", "second")
_PRIVACY = "sections 1, 4.3 and 6.2"
_CLAIMED = "the image privacy of an owner is not leaked; the cloud obtains no similarity relation of images"

Pair = tuple[int, int]


@dataclass(frozen=True)
class LinkTrial:
    """Two owners with ``shared`` pictures in common and as many of their own, encrypted."""

    shared: int = 20
    setting: SchemeSetting = field(default=SchemeSetting("dcr", DEFAULT_MODULUS_BITS))

    def __post_init__(self) -> None:
        if self.shared < 1:
            raise InvalidRequestError("the two owners must share at least one picture", hint="give 1 or more")


def link_pictures(
    dataset: DataSet, trial: LinkTrial, seed: int, parallelism: Parallelism = LOCAL, *, progress: Progress
) -> Result:
    """Encrypt pictures under two owners, index both uploads, and compare the pairs in the cloud's index.

    Raises InvalidRequestError if the data set has too few images.
    """
    if len(dataset) < 3 * trial.shared:
        raise InvalidRequestError(
            f"{len(dataset)} images are too few for two owners with {trial.shared} in common",
            path=dataset.folder,
            hint=f"use {len(dataset) // 3} shared pictures or fewer",
        )
    drawn = generator(seed, Purpose.LINKED_PICTURES).permutation(len(dataset))[: 3 * trial.shared]
    common, own, other = np.split(drawn, 3)
    held = {"first": np.concatenate([common, own]), "second": np.concatenate([common, other])}
    with trial_deployment(trial.setting, dataset, parallelism, progress, owners=_OWNERS) as made:
        lines = _index_of_two(dataset, held, made)
    first, second = (lines[owner] for owner in _OWNERS)
    times = Counter(second.values())
    observations = [
        {
            "picture": name,
            "given_by_both": int(name in second),
            "sum1": pair[0],
            "sum2": pair[1],
            "linked": int(second.get(name) == pair),
            "false_links": times[pair] - int(second.get(name) == pair),
        }
        for name, pair in sorted(first.items())
    ]
    notes = (
        f"Two owners with different keys share {trial.shared} pictures and have {trial.shared} more each; "
        f"scheme {trial.setting.label}, encrypted and indexed by the code of the commands, with hashed "
        "names. The cloud links pictures with the same (Σx, Σx²) in its index.",
    )
    title = "Pictures of two owners linked by the cloud"
    return Result(LINKS, title, observations, (_links_claim(observations),), notes)


def _index_of_two(
    dataset: DataSet, held: dict[str, Order], made: TrialDeployment
) -> dict[str, dict[str, Pair]]:
    """Return, by owner, the cloud's index entry of each image, under the image's true name."""
    uploads: list[Path] = []
    true_name: dict[tuple[str, str], str] = {}
    for name, positions in held.items():
        images = dataset.files(positions)
        uploads.append(made.encrypt(name, images, name))
        owner = Owner.open(made.owner(name))
        true_name |= {(name, owner.name_on_the_wire(image.name)): image.name for image in images}
    index = inspect_file(made.new_cloud("links", uploads) / INDEX_FILE).table
    rows: Iterable[Sequence[str | int | float]] = index.rows() if index else ()
    lines: dict[str, dict[str, Pair]] = {name: {} for name in held}
    for owned_by, image, sum1, sum2 in rows:
        lines[str(owned_by)][true_name[str(owned_by), str(image)]] = (int(sum1), int(sum2))
    return lines


def _links_claim(observations: Sequence[Observation]) -> Claim:
    both = where(observations, given_by_both=1)
    linked = len(where(both, linked=1))
    wrong = np.count_nonzero(column(observations, "false_links"))
    if linked == len(both):
        follows = "The sums of a picture do not depend on the owner's key: every shared picture is linked."
        conclusion = "not confirmed: every shared picture is linked"
    elif linked:
        follows = "Some pictures are linked across owners; different keys do not prevent it."
        conclusion = f"not confirmed: {linked} of {len(both)} shared pictures are linked"
    else:
        follows = "No picture is linked."
        conclusion = CONFIRMED
    return Claim(
        _PRIVACY,
        _CLAIMED,
        f"{linked} of {len(both)} shared pictures have the same pair in the index and are linked; {wrong} "
        f"of {len(observations)} pictures of the first owner are also linked to a different picture of the "
        f"second. {follows}",
        conclusion,
    )


def collection_sizes(images: int) -> list[int]:
    """Return the collection sizes to compute: 1, 2, 5 times powers of 10 from 50, and all images."""
    steps = [base * 10**power for power in range(1, 7) for base in (1, 2, 5)]
    return [size for size in steps if 50 <= size < images] + [images]


def false_link_shares(pairs: np.ndarray[tuple[int, int], np.dtype[np.int64]], size: int) -> list[float]:
    """Return for each image the probability that a different one of ``size`` drawn has the same sums.

    Computed exactly: of the n−1 others t have the same sums; the probability that none of them is among the
    ``size`` − 1 drawn is ∏ (n − size − j) / (n − 1 − j) over j < t.
    """
    n = len(pairs)
    _, pair_of, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    by_twins = {}
    for twins in np.unique(counts - 1).tolist():
        j = np.arange(twins)
        by_twins[twins] = float(1 - np.prod(np.clip(n - size - j, 0, None) / (n - 1 - j)))
    return [by_twins[twins] for twins in (counts[pair_of.ravel()] - 1).tolist()]


def measure_false_links(dataset: DataSet, seed: int) -> Result:
    """Measure how often different pictures have the same (Σx, Σx²), by collection size."""
    pairs = both_sums(dataset.features)
    observations: list[Observation] = []
    for size in collection_sizes(len(dataset)):
        observations += table(images=size, image=dataset.names, false_link=false_link_shares(pairs, size))
    alike = len(dataset) - len(np.unique(dataset.features, axis=0))
    notes = (
        "false_link: the probability that a picture has the same sums as a different picture in a "
        "collection of this size drawn from the data set; computed exactly.",
        f"{alike} of {len(dataset)} pictures have the same codes as an earlier one.",
    )
    claim = _false_links_claim(observations, len(dataset), seed)
    return Result(FALSE_LINKS, "False links by collection size", observations, (claim,), notes)


def _false_links_claim(observations: Sequence[Observation], images: int, seed: int) -> Claim:
    found = mean_interval(column(where(observations, images=images), "false_link"), seed)
    if found.high < 0.5:
        follows = "For most pictures the pair is a fingerprint at this size, whatever the key."
        conclusion = "not confirmed: for most pictures a link is right"
    elif found.low > 0.5:
        follows = "At this size most pictures share their pair with another: a link is a hint, not a proof."
        conclusion = "not refuted: most links would be false"
    else:
        follows = "At this size about half of the links are unambiguous."
        conclusion = "not confirmed: about half of the links are right"
    return Claim(
        _PRIVACY,
        _CLAIMED,
        f"among {images} pictures {found.percent} share (Σx, Σx²) with a different one. {follows}",
        conclusion,
    )
