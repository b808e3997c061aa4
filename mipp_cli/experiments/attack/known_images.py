"""The true codes of the images in an upload, to compare with, if the images are given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mipp_cli.descriptors.describer import BuiltIn, codes_of
from mipp_cli.errors import errors_at
from mipp_cli.experiments.attack.keyless_reading import ImageReading, Numbers
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.images.collection import ImageFile
from mipp_cli.images.pictures import open_picture
from mipp_cli.scheme.parameters import Parameters


@dataclass(frozen=True)
class KnownImages:
    """The true codes by name of the images in an upload, if these are given.

    ``vectors`` counts the occurrences of each vector of codes.
    """

    by_name: Mapping[str, Numbers]
    vectors: Counter[bytes]

    @classmethod
    def of(cls, files: Sequence[ImageFile], parameters: Parameters) -> KnownImages:
        """Describe images by a built-in descriptor; raises UnreadableImageError."""
        describer = BuiltIn(parameters.descriptor)
        by_name = {}
        for file in files:
            with errors_at(file.path):
                codes = codes_of(describer, open_picture(file.read(), path=str(file.path)).eight_bits())
            by_name[file.name] = codes.astype(np.int64)
        return cls(by_name, Counter(codes.tobytes() for codes in by_name.values()))

    @classmethod
    def of_dataset(cls, dataset: DataSet) -> KnownImages:
        """Use the codes of a data set, by whatever descriptor."""
        wide = dataset.features.astype(np.int64)
        return cls(dict(zip(dataset.names, wide, strict=True)), Counter(codes.tobytes() for codes in wide))

    def codes_of(self, reading: ImageReading) -> Numbers | None:
        """Return the true codes of an image: by name if that is a path, else the codes read if an image has
        them.

        Wire names are hashed unless the owner chose otherwise.
        """
        if reading.name in self.by_name:
            return self.by_name[reading.name]
        return reading.codes.values if self.vectors[reading.codes.values.tobytes()] else None

    def likeness(self, values: Numbers) -> list[float] | None:
        """Return for each position the share of the images with this value; None without images."""
        if not self.by_name:
            return None
        matrix = np.stack(list(self.by_name.values()))
        shares: list[float] = (matrix == values).mean(axis=0).tolist()
        return shares

    def found_in(self, readings: Sequence[ImageReading]) -> int:
        """Return how many of the vectors read belong to given images, counting duplicates."""
        return (Counter(reading.codes.values.tobytes() for reading in readings) & self.vectors).total()

    def examples(self, count: int, parameters: Parameters) -> list[Numbers]:
        """Return codes to encrypt as in the paper: those of ``count`` images, or every code in turn."""
        if self.by_name:
            return list(self.by_name.values())[:count]
        return [np.arange(parameters.l, dtype=np.int64) % parameters.levels]
