"""Schemes and modulus sizes of a batch, and the sample of a data set that is really encrypted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipp_cli.errors import InvalidRequestError
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.seeds import SAMPLES, generator
from mipp_cli.images.collection import ImageFile
from mipp_cli.scheme.parameters import SUM_SCHEMES


@dataclass(frozen=True)
class SchemeSetting:
    """A scheme and the size of its modulus; None for `mask`, which has none."""

    scheme: str
    modulus_bits: int | None

    @property
    def label(self) -> str:
        """What tables and legends call it."""
        return self.scheme if self.modulus_bits is None else f"{self.scheme} {self.modulus_bits}"


def scheme_settings(schemes: Sequence[str], modulus_bits: Sequence[int]) -> list[SchemeSetting]:
    """Return every scheme with every modulus size; raises InvalidRequestError for an unknown scheme."""
    settings = []
    for scheme in schemes:
        if scheme not in SUM_SCHEMES:
            raise InvalidRequestError(
                f"there is no scheme {scheme!r} in which the cloud holds features",
                hint="those are " + ", ".join(SUM_SCHEMES),
            )
        sizes = [None] if scheme == "mask" else modulus_bits
        settings += [SchemeSetting(scheme, bits) for bits in sizes]
    return settings


def draw_sample(dataset: DataSet, images: int, seed: int) -> NDArray[np.int64]:
    """Draw images of a data set from a seed; all of them if it has no more. Positions, ascending."""
    count = min(images, len(dataset))
    drawn = generator(seed, SAMPLES).choice(len(dataset), size=count, replace=False)
    return np.sort(drawn).astype(np.int64)


def image_files(dataset: DataSet, positions: NDArray[np.int64]) -> list[ImageFile]:
    """Return images as the roles' steps take them."""
    return [ImageFile(dataset.images[each].path, dataset.names[each]) for each in positions.tolist()]
