"""Fixed groups of images as in scheme `exact`, and what the cloud counts in them.

The KMC ranks, and tells the cloud which groups have a match; the answer shows how many each has. All rows of
a group are padded to its largest. The alternative to groups is decoys, drawn anew for every query.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.scheme.envelope import padme

_AT_A_TIME = 1000  # queries whose decoys are drawn at once: each takes eight bytes per image

Selected = NDArray[np.int64]


@dataclass(frozen=True)
class GroupTrial:
    """What the cloud observes: group sizes, numbers of queries, matches per query.

    ``decoys`` are added to each match, with groups of one. Images are divided into groups ``partitions``
    times, and figures are means over these, since a random partition matters much in small collections.
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
                "groups, queries, matches and partitions must be at least 1, decoys at least 0",
                hint="give larger numbers",
            )

    def settings(self, images: int) -> list[tuple[int, int]]:
        """Return (group size, decoys per match): decoys, if there are enough images, then groups."""
        room = self.decoys > 0 and (self.decoys + 1) * self.matches < images
        return [*([(1, self.decoys)] if room else []), *((size, 0) for size in sorted(self.groups))]


@dataclass(frozen=True)
class Partition:
    """A partition into groups, in the cloud's order.

    ``group_of``, shape (n,), is the group of each image; ``lengths``, shape (g,), the padded length of each
    group's rows.
    """

    group_of: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """The number of images of each group, shape (g,)."""
        return np.bincount(self.group_of, minlength=len(self))

    def mixtures(
        self, labels: NDArray[np.int64], images: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        """Return the number of images of each category per group, shape (g, c), of ``images`` or of all."""
        among = np.arange(len(labels)) if images is None else images
        categories = int(labels.max()) + 1
        places = self.group_of[among] * categories + labels[among]
        counts = np.bincount(places, minlength=len(self) * categories)
        return counts.reshape(len(self), categories).astype(np.float64)

    def counts(self, selected: Selected) -> NDArray[np.float32]:
        """Return the number of images of each group that each query selects, shape (g, queries)."""
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
                f"cannot be read: {error.strerror}",
                path=image.path,
                hint="check the path and its permissions",
            ) from error
    return np.array(sizes, dtype=np.int64)


def cut(sizes: NDArray[np.int64], group_size: int, random: np.random.Generator) -> Partition:
    """Divide images into groups: by size class (factors of 16), at random within it; the last takes the rest.

    Without the key, the keyed digest of a name is indistinguishable from random.
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
    """Return matches with ``count`` decoys each, drawn at random for every query from images that do not
    match.
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
