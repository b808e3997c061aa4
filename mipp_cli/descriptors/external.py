"""Features that owners and users bring themselves: which row is which image's, and its codes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.feature_file import FeatureFile, open_feature_file
from mipp_cli.errors import InvalidRequestError, errors_at
from mipp_cli.images.collection import ImageFile
from mipp_cli.names import composed
from mipp_cli.scheme.descriptor import L2, Descriptor
from mipp_cli.scheme.encoding import length_prefixed

Codes = NDArray[np.uint8]
_BATCH_BYTES = 1 << 20


class OwnFeatures:
    """An open file of features, every value of which was checked to fit the descriptor.

    ``clipped`` is how many numbers lie outside of the range that they are quantised in.
    """

    def __init__(self, path: Path, file: FeatureFile, images: Sequence[ImageFile], descriptor: Descriptor):
        self._path, self._file, self._descriptor = path, file, descriptor
        if file.shape[1] != descriptor.l:
            raise InvalidRequestError(
                f"has features of {file.shape[1]} numbers; this deployment's have {descriptor.l}",
                hint=f"its descriptor is {descriptor.name}",
            )
        names = file.names()
        self._row_of = (
            _rows_in_order(file.shape[0], images) if names is None else _rows_by_name(names, images)
        )
        self.identity = self._identity(named=names is not None)
        rows, step = file.shape[0], max(1, _BATCH_BYTES // (8 * descriptor.l))
        self.clipped = 0
        for begin in range(0, rows, step):  # a bad value is found before work is done, not in its midst
            self.clipped += self._read(begin, min(begin + step, rows))[1]

    def _identity(self, *, named: bool) -> str:
        """Return what changes with any image's features: a digest, in hex, of the file and what orders it."""
        identity = hashlib.sha256(self._file.digest())
        if not named:
            for name in self._row_of:  # one at a time: there may be many
                identity.update(length_prefixed(name))
        return identity.hexdigest()

    @property
    def clipped_warning(self) -> str:
        """Say how many of the file's numbers were clipped."""
        total = self._file.shape[0] * self._file.shape[1]
        return f"{self.clipped:,} of {total:,} numbers of {self._path} lie outside the range and were clipped"

    def codes(self, image: ImageFile) -> Codes:
        """Return the feature of an image: codes, shape (l,)."""
        row = self._row_of[image.name]
        with errors_at(self._path):  # somebody may have written into the file since it was checked
            codes: Codes = self._read(row, row + 1)[0][0]
            return codes

    def vectors(self) -> NDArray[np.float32] | None:
        """Return all rows before they are quantised, in the order of the images; None for codes.

        Under ``l2``, where directions alone count, rows of float64 are divided by their largest number.
        """
        if self._descriptor.quantisation is None:
            return None
        rows = self._file.rows(0, self._file.shape[0])[[*self._row_of.values()]]
        if self._descriptor.quantisation == L2 and rows.dtype.itemsize > 4:
            # float64 goes from 1e-308 to 1e308: float32 would make infinity of the ones, and 0 of the others
            wide = rows.astype(np.float64)
            rows = wide / np.abs(wide).max(axis=1, keepdims=True)
        return rows.astype(np.float32)

    def _read(self, begin: int, end: int) -> tuple[Codes, int]:
        """Return rows as codes, and how many numbers were clipped; refuse what cannot be made a code."""
        values, descriptor = self._file.rows(begin, end), self._descriptor
        of_codes = values.dtype == np.uint8 and descriptor.quantisation == L2
        if descriptor.quantisation is None or of_codes:
            if not (fits := _are_codes(values, descriptor)).all():
                row, column = np.argwhere(~fits)[0].tolist()
                raise self._bad(begin + row, f"column {column} is {values[row, column]}")
            return values.astype(np.uint8), 0
        if values.dtype.kind != "f" and descriptor.quantisation == L2:
            raise InvalidRequestError(
                f"holds whole numbers ({values.dtype}), and features of {descriptor.name} are real numbers",
                hint="save them as floats; codes that are quantised already, as numbers of type uint8",
            )
        if not (finite := np.isfinite(values)).all():
            row, column = np.argwhere(~finite)[0].tolist()
            raise self._bad(begin + row, f"column {column} is {values[row, column]}")
        if not (good := descriptor.quantisable(values)).all():
            raise self._bad(begin + int(np.argmin(good)), "it is all zeros, and has no direction")
        codes, clipped = descriptor.quantised(values)
        return codes, int(clipped.sum())

    def _bad(self, row: int, what: str) -> InvalidRequestError:
        descriptor = self._descriptor
        name = next((name for name, number in self._row_of.items() if number == row), "")
        if descriptor.quantisation is None:
            hint = (
                f"whole numbers are codes, 0 to {descriptor.levels - 1}; of real numbers the descriptor must "
                "say how they become codes: mipp kmc init --descriptor NAME:DIMENSION:l2, or …:LOW..HIGH"
            )
        else:
            hint = "give finite numbers, and under l2 not all zeros"
        return InvalidRequestError(
            f"row {row}, of the image '{name}', is no feature of {descriptor.name}: {what}",
            hint=f"{hint}; rows and columns are counted from 0",
        )


@contextmanager
def own_features(
    path: Path | None, images: Sequence[ImageFile], descriptor: Descriptor
) -> Iterator[OwnFeatures | None]:
    """Open the features of ``images``; None where none are given, and they will be computed.

    Raises InvalidRequestError if they must be given, if rows or names are not those of the images, or if a
    value does not fit; MalformedError if the file is damaged or of another kind.
    """
    if path is None:
        if not descriptor.computed:
            raise InvalidRequestError(
                f"features of this deployment ({descriptor.name}) are not computed here",
                hint=f"give them with --features FILE: {descriptor.l} numbers an image",
            )
        yield None
        return
    file = open_feature_file(path)
    try:
        with errors_at(path):
            features = OwnFeatures(path, file, images, descriptor)
        yield features
    finally:
        file.close()


def _are_codes(values: NDArray[np.number], descriptor: Descriptor) -> NDArray[np.bool_]:
    """Say of each value whether it is a code: a whole number below the levels, of a type of whole numbers."""
    if values.dtype.kind == "f":
        return np.zeros(values.shape, dtype=bool)
    return (values >= 0) & (values <= descriptor.levels - 1)


def _rows_in_order(rows: int, images: Sequence[ImageFile]) -> dict[str, int]:
    if rows != len(images):
        raise InvalidRequestError(
            f"has {rows} rows for {len(images)} images",
            hint="one row an image, in the order in which images are named; of a folder, sorted by path",
        )
    return {image.name: row for row, image in enumerate(images)}


def _rows_by_name(names: Iterator[str], images: Sequence[ImageFile]) -> dict[str, int]:
    row_of = {image.name: -1 for image in images}
    forms = Counter(map(composed, row_of))
    alone = {form: name for name in row_of if forms[form := composed(name)] == 1}
    strangers, first = 0, ""
    for row, given in enumerate(names):
        name = given if given in row_of else alone.get(composed(given), given)
        known = row_of.get(name)
        if known is None:
            first = name if not strangers else first
            strangers += 1
        elif known >= 0:
            raise InvalidRequestError(
                f"has features of the image '{name}' twice, in rows {known} and {row}",
                hint="one row an image; rows are counted from 0",
            )
        else:
            row_of[name] = row
    missing = [name for name, row in row_of.items() if row < 0]
    if missing:
        wrong = f"has no features of {len(missing)} of the {len(row_of)} images, the first '{missing[0]}'"
    elif strangers:
        wrong = f"has features of {strangers} images that were not named, the first '{first}'"
    else:
        return row_of
    hint = "names are paths as the command calls the images: below the folder named, or below --root"
    raise InvalidRequestError(wrong, hint=hint)
