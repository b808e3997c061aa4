"""Computes Eq. 5 and 6 over an upload, in batches on several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mipp_cli.compute.processes import ONE_JOB, Parallelism, open_workers, start_early
from mipp_cli.containers.messages.upload import Ciphertexts, UploadReader
from mipp_cli.progress import Progress
from mipp_cli.scheme.parameters import Parameters
from mipp_cli.scheme.retrieval_index import check_sums

if TYPE_CHECKING:
    from mipp_cli.scheme.feature_cipher import FeatureCipher

_BATCH_BYTES = 1 << 21
_PROCESS_BYTES = 1 << 24  # so many take less time than starting a process

Sums = tuple[list[int], list[int]]
Opening = Callable[[], AbstractContextManager[UploadReader]]


def expect_sums(parameters: Parameters, upload_bytes: int, parallelism: Parallelism) -> None:
    """Start processes for :func:`sums_of` early, as this takes about as long as verifying the upload."""
    if parameters.protocol.upload_columns:
        start_early(__name__, _worthwhile(parameters, upload_bytes, parallelism))


def sums_of(upload: UploadReader, opening: Opening, parallelism: Parallelism, progress: Progress) -> Sums:
    """Return (all Σx, all Σx²) of the images of an upload (Eq. 5 and 6), each range-checked.

    In a scheme without features at the cloud all sums are 0. Processes on this machine read EF and EFF
    themselves, from the upload that ``opening`` opens; those of a cluster get them sent.
    """
    parameters, rows = upload.parameters, len(upload)
    if not parameters.protocol.upload_columns:
        return [0] * rows, [0] * rows
    row_bytes = 2 * parameters.l * parameters.cipher.number_bytes
    parallelism = _worthwhile(parameters, rows * row_bytes, parallelism)
    size = max(1, _BATCH_BYTES // row_bytes)
    batches = (range(begin, min(begin + size, rows)) for begin in range(0, rows, size))
    tasks: Iterator[range | Ciphertexts] = batches
    if parallelism.scheduler or parallelism.count == 1:
        tasks = (upload.encrypted_features(batch.start, batch.stop) for batch in batches)

    sum1: list[int] = []
    sum2: list[int] = []
    summing = _Summing(parameters.cipher, opening)
    with open_workers(summing, parallelism) as workers, progress("indexing", rows, "image") as advance:
        for _, (first, second) in workers.in_order(tasks, under_way=2 * workers.count):
            for pair in zip(first, second, strict=True):
                check_sums(*pair, parameters.l, parameters.levels)
            sum1 += first
            sum2 += second
            advance(len(first))
    return sum1, sum2


def _worthwhile(parameters: Parameters, size: int, parallelism: Parallelism) -> Parallelism:
    """Return as many processes as have enough to do with ciphertexts of ``size`` bytes."""
    if size <= _BATCH_BYTES or not parameters.cipher.sums_take_long:
        return ONE_JOB
    return parallelism.at_most(size // _PROCESS_BYTES)


@dataclass(frozen=True)
class _Summing:
    """Computes the sums of ciphertexts, given as such or as rows of the upload that ``opening`` opens."""

    cipher: FeatureCipher
    opening: Opening

    def __call__(self, task: range | Ciphertexts) -> Sums:
        if isinstance(task, range):
            task = self._opened[1].encrypted_features(task.start, task.stop)
        ef, eff = task
        return self.cipher.sums(ef), self.cipher.sums(eff)

    @cached_property
    def _opened(self) -> tuple[AbstractContextManager[UploadReader], UploadReader]:
        """The upload, opened once in each process and left open until the process ends."""
        opened = self.opening()
        return opened, opened.__enter__()
