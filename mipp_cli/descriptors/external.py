"""Features that owners and users supply in a file: the row of each image, and its codes."""

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
_MOST_STRANGERS = 1 << 20  # whose names are read: a small file may claim any number of rows


class OwnFeatures:
    """An open features file; every value was checked against the descriptor.

    ``clipped`` is the number of values outside the quantisation range.
    """

    def __init__(self, path: Path, file: FeatureFile, images: Sequence[ImageFile], descriptor: Descriptor):
        self._path, self._file, self._descriptor = path, file, descriptor
        if file.shape[1] != descriptor.l:
            raise InvalidRequestError(
                f"has features of {file.shape[1]} numbers; this deployment's have {descriptor.l}",
                hint=f"give features of the deployment's descriptor, {descriptor.name}",
            )
        names = file.names()
        self._row_of = (
            _rows_in_order(file.shape[0], images)
            if names is None
            else _rows_by_name(file.shape[0], names, images)
        )
        self.identity = self._identity(named=names is not None)
        rows, step = file.shape[0], max(1, _BATCH_BYTES // (8 * descriptor.l))
        self.clipped = 0
        for begin in range(0, rows, step):  # find bad values before any work is done
            self.clipped += self._read(begin, min(begin + step, rows))[1]

    def _identity(self, *, named: bool) -> str:
        """Return a digest, in hex, that changes with any image's features: of the file and the order of
        images.
        """
        identity = hashlib.sha256(self._file.digest())
        if not named:
            for name in self._row_of:  # one by one: there may be many
                identity.update(length_prefixed(name))
        return identity.hexdigest()

    @property
    def clipped_warning(self) -> str:
        """The warning that says how many numbers were clipped; empty if none."""
        total = self._file.shape[0] * self._file.shape[1]
        return f"{self.clipped:,} of {total:,} numbers in {self._path} were outside the range and clipped"

    def codes(self, image: ImageFile) -> Codes:
        """Return the feature of an image: codes, shape (l,)."""
        row = self._row_of[image.name]
        with errors_at(self._path):  # the file may have changed since it was checked
            codes: Codes = self._read(row, row + 1)[0][0]
            return codes

    def vectors(self) -> NDArray[np.float32] | None:
        """Return all rows before they are quantised, in the order of the images; None for codes.

        Under ``l2``, where only directions matter, rows of float64 are divided by their largest number.
        """
        if self._descriptor.quantisation is None:
            return None
        rows = self._file.rows(0, self._file.shape[0])[[*self._row_of.values()]]
        if self._descriptor.quantisation == L2 and rows.dtype.itemsize > 4:
            # float64 spans 1e-308 to 1e308: float32 would turn these into infinity and 0
            wide = rows.astype(np.float64)
            rows = wide / np.abs(wide).max(axis=1, keepdims=True)
        return rows.astype(np.float32)

    def _read(self, begin: int, end: int) -> tuple[Codes, int]:
        """Return rows as codes, and how many numbers were clipped; refuse values that cannot be quantised."""
        values, descriptor = self._file.rows(begin, end), self._descriptor
        of_codes = values.dtype == np.uint8 and descriptor.quantisation == L2
        if descriptor.quantisation is None or of_codes:
            if not (fits := _are_codes(values, descriptor)).all():
                row, column = np.argwhere(~fits)[0].tolist()
                raise self._bad(begin + row, f"column {column} is {values[row, column]}")
            return values.astype(np.uint8), 0
        if values.dtype.kind != "f" and descriptor.quantisation == L2:
            raise InvalidRequestError(
                f"contains integers ({values.dtype}), but features of {descriptor.name} are real numbers",
                hint="save them as floats, or save quantised codes as uint8",
            )
        if not (finite := np.isfinite(values)).all():
            row, column = np.argwhere(~finite)[0].tolist()
            raise self._bad(begin + row, f"column {column} is {values[row, column]}")
        if not (good := descriptor.quantisable(values)).all():
            raise self._bad(begin + int(np.argmin(good)), "it is all zeros, so it has no direction")
        codes, clipped = descriptor.quantised(values)
        return codes, int(clipped.sum())

    def _bad(self, row: int, what: str) -> InvalidRequestError:
        descriptor = self._descriptor
        name = next((name for name, number in self._row_of.items() if number == row), "")
        if descriptor.quantisation is None:
            hint = (
                f"integers must be codes, 0 to {descriptor.levels - 1}; for real numbers the descriptor must "
                "define the quantisation: mipp kmc init --descriptor NAME:DIMENSION:l2, or …:LOW..HIGH"
            )
        else:
            hint = "give finite numbers and, under l2, not all zeros"
        return InvalidRequestError(
            f"row {row}, of the image '{name}', is not a feature of {descriptor.name}: {what}",
            hint=f"{hint}; rows and columns are counted from 0",
        )


@contextmanager
def own_features(
    path: Path | None, images: Sequence[ImageFile], descriptor: Descriptor
) -> Iterator[OwnFeatures | None]:
    """Open the features of ``images``; None if no file is given and they can be computed.

    Raises InvalidRequestError if a file is required, if its rows or names do not match the images, or if a
    value does not fit the descriptor; MalformedError if the file is damaged or of another kind.
    """
    if path is None:
        if not descriptor.computed:
            raise InvalidRequestError(
                f"mipp cannot compute the features of this deployment ({descriptor.name})",
                hint=f"give them with --features FILE: {descriptor.l} numbers per image",
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
    """Return for each value whether it is a code: of an integer type, and below the levels."""
    if values.dtype.kind == "f":
        return np.zeros(values.shape, dtype=bool)
    return (values >= 0) & (values <= descriptor.levels - 1)


def _rows_in_order(rows: int, images: Sequence[ImageFile]) -> dict[str, int]:
    if rows != len(images):
        raise InvalidRequestError(
            f"has {rows} rows for {len(images)} images",
            hint="give one row per image, in the order of the images; for a folder, sorted by path",
        )
    return {image.name: row for row, image in enumerate(images)}


def _rows_by_name(rows: int, names: Iterator[str], images: Sequence[ImageFile]) -> dict[str, int]:
    if rows > len(images) + _MOST_STRANGERS:
        raise InvalidRequestError(
            f"has features of {rows} images, but {len(images)} were given",
            hint="give one row per image, and no others",
        )
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
                hint="give one row per image; rows are counted from 0",
            )
        else:
            row_of[name] = row
    missing = [name for name, row in row_of.items() if row < 0]
    if missing:
        wrong = f"lacks features of {len(missing)} of the {len(row_of)} images, the first '{missing[0]}'"
    elif strangers:
        wrong = f"has features of {strangers} images that were not given, the first '{first}'"
    else:
        return row_of
    hint = "names must be the images' paths relative to the folder given, or to --root"
    raise InvalidRequestError(wrong, hint=hint)
