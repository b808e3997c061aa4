"""The three shapes of data in a container.

A *matrix* has rows of one width, a *ragged* column has rows of bytes of any length (an offset table and
the bytes end to end), a *number* is an attribute. No other HDF5 feature is used, and none is accepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from mipp_cli.errors import MalformedError, MippError

CHUNK_BYTES = 1 << 16
ROW_LIMIT = 1 << 31


@dataclass(frozen=True)
class Matrix:
    """Rows of ``width`` items of ``dtype`` (numpy's name, little-endian); width 0 means a plain column.

    Width None stands for any width, for whoever reads without knowing the deployment.
    """

    dtype: str
    width: int | None = 0

    @property
    def tail(self) -> tuple[int, ...]:
        """The shape of a row."""
        return (self.width,) if self.width else ()

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return np.dtype(self.dtype).itemsize * (self.width or 1)


@dataclass(frozen=True)
class Ragged:
    """Rows of bytes, each at most ``limit`` long."""

    limit: int = ROW_LIMIT


@contextmanager
def hdf5_errors(where: str) -> Iterator[None]:
    """Turn whatever HDF5 raises on a bad file into a MalformedError that names the place."""
    try:
        yield
    except MippError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, MemoryError) as error:
        raise MalformedError(
            f"has no readable {where}", hint="the file is damaged, or was made to mislead"
        ) from error
