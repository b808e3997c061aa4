"""The cloud's store checked against its index: every block and every image, and every sum if asked."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from mipp_cli.cloud.cloud import INDEX_FILE, Cloud
from mipp_cli.cloud.store.summing import Sums
from mipp_cli.containers.base.container import read_header
from mipp_cli.containers.base.header import Header
from mipp_cli.containers.base.source import check_digest
from mipp_cli.containers.base.stored import open_stored
from mipp_cli.containers.messages.upload import UploadReader
from mipp_cli.containers.store.index import Index, Part, Segment
from mipp_cli.containers.store.segment import Origin, deleted_in, origin_of
from mipp_cli.errors import MalformedError, errors_at
from mipp_cli.progress import Progress
from mipp_cli.scheme.encoding import length_prefixed
from mipp_cli.workdir.findings import Findings
from mipp_cli.workdir.replay import check_pinned_key

SumsOf = Callable[[Segment, UploadReader], Sums]


@dataclass(frozen=True)
class _Bags:
    """What two lists of images have in common, whatever their order, in no memory.

    Of each list the sum of the SHA-256 of all its entries, modulo 2^256: ``rows`` of (name, row), ``sums``
    of (name, Σx, Σx²). It tells damage apart, not malice: only the cloud itself writes what is compared.
    """

    rows: int = 0
    sums: int = 0

    def __add__(self, other: _Bags) -> _Bags:
        return _Bags((self.rows + other.rows) % 2**256, (self.sums + other.sums) % 2**256)


def _bag(entries: Iterable[tuple[bytes | int, ...]]) -> int:
    digests = (hashlib.sha256(length_prefixed(*entry)).digest() for entry in entries)
    return sum(int.from_bytes(digest, "big") for digest in digests) % 2**256


@dataclass(frozen=True)
class StoreCheck:
    """A check of the store; what is wrong is taken down in ``findings``.

    ``owners`` are those enrolled, with their keys, or None for a key whose file is damaged. ``sums_of``
    computes Eq. 5 and 6 of a segment again; without it sums are not compared.
    """

    cloud: Cloud
    findings: Findings
    owners: Mapping[str, bytes | None]
    sums_of: SumsOf | None
    progress: Progress

    def check(self, index: Index) -> None:
        """Check every segment and part that the index lists."""
        store = self.cloud.store
        self._check_lists(index)
        bases = _bases(index)
        bags: dict[int, _Bags] = {}
        with self.progress("checking", len(index.segments) + len(index.parts), "file") as advance:
            for place, segment in enumerate(index.segments):
                with self.findings.of(store.segment_path(segment), "segments"):
                    bags[place] = self._segment(segment, bases.get(place, 0))
                advance(1)
            for part in index.parts:
                with self.findings.of(store.part_path(part), "parts"):
                    self._part(part, [bags.get(place) for place in part.segments])
                advance(1)

    def _check_lists(self, index: Index) -> None:
        """Check that every image is in one part, with images of its owner alone."""
        listed = Counter(place for part in index.parts for place in part.segments)
        counts = [listed[place] == (segment.rows > 0) for place, segment in enumerate(index.segments)]
        owners = [{index.segments[place].owner for place in part.segments} for part in index.parts]
        if not all(counts) or any(len(each) != 1 for each in owners):
            path = self.cloud.directory.file(INDEX_FILE)
            self.findings.add(path, "lists images in no part, in several, or with another owner's")

    def _segment(self, segment: Segment, base: int) -> _Bags:
        """Check a segment: whose it is, every byte, every column. Rows are counted from ``base``."""
        own = self.cloud.directory.sender
        kind, sender, key = "segment", own.name, own.signing_key.public
        if not segment.revision:
            kind, sender, key = "upload", segment.owner, self.owners.get(segment.owner) or b""
        if segment.owner not in self.owners:
            raise MalformedError(f"is of {segment.owner!r}, who is not enrolled")

        def check(header: Header) -> None:
            if (header.sender, header.sequence_number) != (sender, segment.number):
                raise MalformedError("is not what the index says")
            if not segment.revision and header.digest != segment.digest.hex():
                raise MalformedError("is not the upload that was applied")
            if key:
                check_pinned_key(header, key)

        self._check_bytes(self.cloud.store.segment_path(segment), segment.root, kind, check)
        with self.cloud.store.segment(segment) as upload:
            return self._images(segment, upload, base)

    def _images(self, segment: Segment, upload: UploadReader, base: int) -> _Bags:
        if segment.revision:
            found = origin_of(upload.container)
            key = self.owners.get(segment.owner) or found.key
            if found != Origin(segment.owner, key, segment.number, segment.digest, found.earlier):
                raise MalformedError("is left of another message than the index says, or of another owner's")
        deleted = sum(1 for _ in deleted_in(upload.container)) if segment.revision else 0
        if (len(upload), upload.key_id, deleted) != (segment.rows, segment.key_id, segment.deleted):
            raise MalformedError("has other images, deletions or another key than the index says")
        if not set(segment.earlier) <= set(upload.earlier()):
            raise MalformedError("lists other earlier messages than the index says")
        upload.check_images()
        names = [name.encode() for name in upload.names()]
        rows = _bag((name, row) for row, name in enumerate(names, base))
        self.findings.counts["images"] += len(names)
        if self.sums_of is None:
            return _Bags(rows)
        return _Bags(rows, _bag(zip(names, *self.sums_of(segment, upload), strict=True)))

    def _part(self, part: Part, bags: list[_Bags | None]) -> None:
        """Check a part: every byte, and that it is of the images of its segments, if these are sound."""
        path, own = self.cloud.store.part_path(part), self.cloud.directory.sender.signing_key.public

        def check(header: Header) -> None:
            check_pinned_key(header, own)
            if header.sequence_number != part.number:
                raise MalformedError("is not the part that the index lists")

        self._check_bytes(path, part.root, "part", check)
        with self.cloud.store.part(part) as reader:
            last = b""
            rows = 0
            for names, numbers in reader.names():
                if [last, *names] != sorted([last, *names]):
                    raise MalformedError("its names are out of order")
                last = names[-1]
                rows = (rows + _bag(zip(names, numbers.tolist(), strict=True))) % 2**256
            sound = [bag for bag in bags if bag is not None]
            if len(sound) < len(bags):
                return  # what a damaged segment holds is not to be compared with
            expected = sum(sound, start=_Bags())
            if rows != expected.rows:
                raise MalformedError("its images are not those of its segments")
            if self.sums_of is not None and _bag(reader.table()) != expected.sums:
                raise MalformedError("its sums are not those of the encrypted features")

    def _check_bytes(self, path: Path, root: bytes, kind: str, check: Callable[[Header], None]) -> None:
        with errors_at(path):
            source = open_stored(path, root)
            try:
                header = read_header(source, kind=kind, deployment=self.cloud.directory.sender.deployment)
                check(header)
                check_digest(source, header)
            finally:
                source.close()


def _bases(index: Index) -> dict[int, int]:
    """Return at which row of its part each segment begins."""
    bases: dict[int, int] = {}
    for part in index.parts:
        rows = [index.segments[place].rows for place in part.segments]
        bases.update(zip(part.segments, accumulate(rows, initial=0), strict=False))
    return bases
