"""Eq. 5 and 6 over an upload, in batches that workers do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mipp_cli.cloud.store.store import Store
from mipp_cli.compute.processes import Parallelism, open_executor, ordered_results
from mipp_cli.containers.messages.upload import UploadReader
from mipp_cli.containers.store.index import Segment
from mipp_cli.progress import Progress
from mipp_cli.scheme.retrieval_index import check_sums

if TYPE_CHECKING:
    from mipp_cli.scheme.feature_cipher import FeatureCipher

_BATCH_BYTES = 1 << 23

Ciphertexts = NDArray[np.uint8]
Sums = tuple[list[int], list[int]]


class Rows(Protocol):
    """Where a worker gets encrypted features from."""

    def read(self, begin: int, end: int) -> tuple[Ciphertexts, Ciphertexts]:
        """Return EF and EFF of rows ``begin`` to ``end``."""


@dataclass(frozen=True)
class StoredRows:
    """Rows of a segment on this machine, verified a moment ago; a worker reads them itself."""

    store: Store
    segment: Segment

    def read(self, begin: int, end: int) -> tuple[Ciphertexts, Ciphertexts]:
        """Read from the segment's file."""
        with self.store.new_segment(self.segment) as upload:
            return upload.encrypted_features(begin, end)


@dataclass(frozen=True)
class _LoadedRows:
    """Rows that go to the worker with its task."""

    ef: Ciphertexts
    eff: Ciphertexts

    def read(self, begin: int, end: int) -> tuple[Ciphertexts, Ciphertexts]:
        return self.ef, self.eff


@dataclass(frozen=True)
class _Task:
    cipher: FeatureCipher
    rows: Rows
    begin: int
    end: int


def sums_of(
    upload: UploadReader, parallelism: Parallelism, progress: Progress, rows: Rows | None = None
) -> Sums:
    """Eq. 5 and 6 for every image of an upload: (all Σx, all Σx²), each checked to be possible.

    Where the cloud holds no features there are none, and all are 0. ``rows`` lets workers on this machine
    read for themselves; without it the rows travel to them.
    """
    parameters = upload.parameters
    if not parameters.protocol.upload_columns:
        return [0] * len(upload), [0] * len(upload)
    if len(upload) <= _batch_rows(upload):
        parallelism = Parallelism(jobs=1)  # one batch: workers would only cost
    sum1: list[int] = []
    sum2: list[int] = []
    with (
        open_executor(parallelism) as (executor, count),
        progress("indexing", len(upload), "image") as advance,
    ):
        tasks = _tasks(upload, rows)
        for _, (first, second) in ordered_results(executor, _decrypt_sums, tasks, under_way=2 * count):
            for pair in zip(first, second, strict=True):
                check_sums(*pair, parameters.l, parameters.levels)
            sum1 += first
            sum2 += second
            advance(len(first))
    return sum1, sum2


def _batch_rows(upload: UploadReader) -> int:
    parameters = upload.parameters
    return max(1, _BATCH_BYTES // (2 * parameters.l * parameters.cipher.number_bytes))


def _tasks(upload: UploadReader, rows: Rows | None) -> Iterator[_Task]:
    parameters = upload.parameters
    size = _batch_rows(upload)
    for begin in range(0, len(upload), size):
        end = min(begin + size, len(upload))
        source = _LoadedRows(*upload.encrypted_features(begin, end)) if rows is None else rows
        yield _Task(parameters.cipher, source, begin, end)


def _decrypt_sums(task: _Task) -> Sums:
    ef, eff = task.rows.read(task.begin, task.end)
    return task.cipher.sums(ef), task.cipher.sums(eff)
