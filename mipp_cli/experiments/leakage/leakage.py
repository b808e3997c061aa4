"""What the honest-but-curious cloud can infer, compared with the claims of section 6.2 of the paper."""

from __future__ import annotations

from dataclasses import dataclass, field

from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.result import Result
from mipp_cli.experiments.base.sampling import draw_sample
from mipp_cli.experiments.base.seeds import Purpose
from mipp_cli.experiments.leakage.groups.leaks import measure_groups
from mipp_cli.experiments.leakage.groups.partition import GroupTrial, file_sizes
from mipp_cli.experiments.leakage.linking import LinkTrial, link_pictures, measure_false_links
from mipp_cli.experiments.leakage.reordering import PARTS, measure_positions
from mipp_cli.experiments.leakage.selections import measure_selections
from mipp_cli.experiments.leakage.two_sums import measure_categories, measure_ranking
from mipp_cli.progress import Progress, silent


@dataclass(frozen=True)
class LeakageOptions:
    """Options of the leakage experiment.

    ``queries`` is the maximum number of images to guess or to query with; ``returned`` the length of the
    answer of Fig. 2; ``candidates`` and ``watched`` the sizes of answers and the numbers of queries observed
    where the cloud ranks; ``links`` the trial with two owners; ``groups`` the trial with selections of
    groups, where the KMC ranks.
    """

    seed: int = 1
    queries: int = 1000
    returned: int = 100
    candidates: tuple[int, ...] = (10, 100)
    watched: tuple[int, ...] = (10, 30, 100, 300, 1000)
    links: LinkTrial = field(default_factory=LinkTrial)
    groups: GroupTrial = field(default_factory=GroupTrial)
    parallelism: Parallelism = LOCAL

    def __post_init__(self) -> None:
        if self.queries < 1 or self.returned < PARTS:
            raise InvalidRequestError(
                f"at least one query and {PARTS} images returned are required", hint="give larger numbers"
            )
        if not self.candidates or not self.watched or min(*self.candidates, *self.watched) < 1:
            raise InvalidRequestError(
                "numbers of candidates and queries must be at least 1", hint="give 1 or more"
            )


def run_leakage(dataset: DataSet, options: LeakageOptions, progress: Progress = silent) -> list[Result]:
    """Measure every leak; the same seed gives the same figures."""
    if len(dataset) <= PARTS:
        raise InvalidRequestError(
            f"{len(dataset)} images are too few to measure leakage",
            path=dataset.folder,
            hint=f"use more than {PARTS} images",
        )
    seed = options.seed
    queries = draw_sample(dataset, options.queries, seed, Purpose.LEAKAGE_QUERIES)
    return [
        measure_categories(dataset, queries, seed, progress),
        measure_ranking(dataset, queries, seed, progress),
        link_pictures(dataset, options.links, seed, options.parallelism, progress=progress),
        measure_false_links(dataset, seed),
        measure_positions(dataset, queries, options.returned, seed, progress),
        measure_selections(dataset, options.candidates, options.watched, seed, progress),
        measure_groups(dataset, file_sizes(dataset), options.groups, seed, progress),
    ]
