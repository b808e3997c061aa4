"""Eq. 5 and 6 over an upload, in batches that workers do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mipp_cli.compute.processes import Parallelism, open_workers
from mipp_cli.containers.messages.upload import UploadReader
from mipp_cli.progress import Progress
from mipp_cli.scheme.retrieval_index import check_sums

if TYPE_CHECKING:
    from mipp_cli.scheme.feature_cipher import FeatureCipher

_BATCH_BYTES = 1 << 23

Sums = tuple[list[int], list[int]]
Ciphertexts = tuple[NDArray[np.uint8], NDArray[np.uint8]]
_Task = Callable[[], Ciphertexts] | Ciphertexts


def sums_of(
    upload: UploadReader,
    parallelism: Parallelism,
    progress: Progress,
    read: Callable[[int, int], Ciphertexts] | None = None,
) -> Sums:
    """Eq. 5 and 6 for every image of an upload: (all Σx, all Σx²), each checked to be possible.

    Where the cloud holds no features there are none, and all are 0. Workers on this machine may ``read``
    EF and EFF of some rows themselves; to others, or without it, the rows travel.
    """
    parameters, rows = upload.parameters, len(upload)
    if not parameters.protocol.upload_columns:
        return [0] * rows, [0] * rows
    size = max(1, _BATCH_BYTES // (2 * parameters.l * parameters.cipher.number_bytes))
    if rows <= size:
        parallelism = Parallelism(jobs=1)  # one batch: workers would only cost
    parallelism = parallelism.at_most(-(-rows // size) // 2)  # two take less time than to start a process

    def tasks() -> Iterator[_Task]:
        for begin in range(0, rows, size):
            end = min(begin + size, rows)
            if read is None or parallelism.scheduler:
                yield upload.encrypted_features(begin, end)
            else:
                yield partial(read, begin, end)

    sum1: list[int] = []
    sum2: list[int] = []
    decrypt = partial(_decrypt_sums, parameters.cipher)
    with open_workers(decrypt, parallelism) as workers, progress("indexing", rows, "image") as advance:
        for _, (first, second) in workers.in_order(tasks(), under_way=2 * workers.count):
            for pair in zip(first, second, strict=True):
                check_sums(*pair, parameters.l, parameters.levels)
            sum1 += first
            sum2 += second
            advance(len(first))
    return sum1, sum2


def _decrypt_sums(cipher: FeatureCipher, rows: _Task) -> Sums:
    ef, eff = rows() if callable(rows) else rows
    return cipher.sums(ef), cipher.sums(eff)
