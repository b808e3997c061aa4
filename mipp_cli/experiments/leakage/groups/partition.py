"""Fixed groups of images, as scheme `exact` has them, and what the cloud counts in them.

The KMC ranks, and tells the cloud which groups hold a match; the answer shows how many each of them holds.
All rows of a group are as long as its largest. Decoys, drawn anew for every query, are what groups stand
in the place of.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.scheme.envelope import padme

_AT_A_TIME = 1000  # queries whose decoys are drawn together: each takes eight bytes an image

Selected = NDArray[np.int64]


@dataclass(frozen=True)
class GroupTrial:
    """What the cloud watches: sizes of groups, numbers of queries, matches of each query.

    ``decoys`` stand beside each match, in groups of one. Images are cut into groups ``partitions`` times,
    and figures are means over these: which images are mates is chance, and tells much in small collections.
    """

    groups: tuple[int, ...] = (1, 4, 8, 16)
    queries: tuple[int, ...] = (1000, 5000, 20_000)
    matches: int = 10
    decoys: int = 10
    partitions: int = 5

    def __post_init__(self) -> None:
        numbers = (*self.groups, *self.queries, self.matches, self.partitions)
        if not self.groups or not self.queries or min(numbers) < 1 or self.decoys < 0:
            raise InvalidRequestError(
                "groups, queries, matches and partitions begin at 1, decoys at 0", hint="give larger numbers"
            )

    def settings(self, images: int) -> list[tuple[int, int]]:
        """Return (size of groups, decoys a match): decoys, if there are images for them, then groups."""
        room = self.decoys > 0 and (self.decoys + 1) * self.matches < images
        return [*([(1, self.decoys)] if room else []), *((size, 0) for size in sorted(self.groups))]


@dataclass(frozen=True)
class Partition:
    """A cut into groups, in the order in which the cloud has them.

    ``group_of`` says in which group each image is, shape (n,); ``lengths`` is what each group's rows are
    padded to, shape (g,).
    """

    group_of: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """How many images each group has, shape (g,)."""
        return np.bincount(self.group_of, minlength=len(self))

    def mixtures(
        self, labels: NDArray[np.int64], images: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        """Return how many images of each category each group has, shape (g, c), of ``images`` or of all."""
        among = np.arange(len(labels)) if images is None else images
        categories = int(labels.max()) + 1
        places = self.group_of[among] * categories + labels[among]
        counts = np.bincount(places, minlength=len(self) * categories)
        return counts.reshape(len(self), categories).astype(np.float64)

    def counts(self, selected: Selected) -> NDArray[np.float32]:
        """Return how many images of each group each query selects, shape (g, queries)."""
        queries = len(selected)
        places = self.group_of[selected] * queries + np.arange(queries)[:, np.newaxis]
        counts = np.bincount(places.ravel(), minlength=len(self) * queries)
        return counts.reshape(len(self), queries).astype(np.float32)


def file_sizes(dataset: DataSet) -> NDArray[np.int64]:
    """Return the size in bytes of each image's file, shape (n,); raises InvalidRequestError."""
    sizes = []
    for image in dataset.images:
        try:
            sizes.append(image.path.stat().st_size)
        except OSError as error:
            raise InvalidRequestError(
                f"cannot be read: {error.strerror}", path=image.path, hint="check the path and the rights"
            ) from error
    return np.array(sizes, dtype=np.int64)


def cut(sizes: NDArray[np.int64], group_size: int, random: np.random.Generator) -> Partition:
    """Cut images into groups: by size class (factors of 16), at random within it, the rest to the last.

    A name's keyed digest is as good as random to whoever lacks the key.
    """
    images = len(sizes)
    classes = np.array([(size.bit_length() - 1) // 4 for size in sizes.tolist()])
    order = np.lexsort((random.random(images), classes))
    groups = max(1, images // group_size)
    group_of = np.empty(images, dtype=np.int64)
    group_of[order] = np.minimum(np.arange(images) // group_size, groups - 1)
    largest = np.zeros(groups, dtype=np.int64)
    np.maximum.at(largest, group_of, sizes)
    return Partition(group_of, np.array([padme(size) for size in largest.tolist()], dtype=np.int64))


def with_decoys(matches: Selected, count: int, images: int, random: np.random.Generator) -> Selected:
    """Return matches with ``count`` images each beside them, drawn at random from those that do not match.

    They are drawn anew for every query.
    """
    if not count:
        return matches
    drawn = []
    for begin in range(0, len(matches), _AT_A_TIME):
        some = matches[begin : begin + _AT_A_TIME]
        scores = random.random((len(some), images))
        scores[np.arange(len(some))[:, np.newaxis], some] = 2  # never among the lowest
        drawn.append(np.argpartition(scores, count - 1, axis=1)[:, :count])
    return np.concatenate((matches, np.concatenate(drawn)), axis=1)
