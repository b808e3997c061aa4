"""Computes Eq. 5 and 6 over an upload, in batches on several processes."""

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
    """Return (all Σx, all Σx²) of the images of an upload (Eq. 5 and 6), each range-checked.

    In a scheme without features at the cloud all sums are 0. Workers on this machine ``read`` their rows of
    EF and EFF themselves; remote workers, or all without ``read``, get the rows sent.
    """
    parameters, rows = upload.parameters, len(upload)
    if not parameters.protocol.upload_columns:
        return [0] * rows, [0] * rows
    size = max(1, _BATCH_BYTES // (2 * parameters.l * parameters.cipher.number_bytes))
    if rows <= size:
        parallelism = Parallelism(jobs=1)  # a single batch is faster without workers
    parallelism = parallelism.at_most(
        -(-rows // size) // 2
    )  # two batches take less time than starting a process

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
