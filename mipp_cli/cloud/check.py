"""`cloud check`: verifies a cloud's whole directory: keys, members, segments and index."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from mipp_cli.cloud.cloud import INDEX_FILE, MEMBERS_FOLDER, PUBLIC_FILE, Cloud
from mipp_cli.cloud.completeness import completeness, gap_warnings
from mipp_cli.cloud.search_sums import QUERIES_FOLDER
from mipp_cli.cloud.store import PARTS_FOLDER, SEGMENTS_FOLDER
from mipp_cli.cloud.summing import sums_of
from mipp_cli.compute.cluster import open_cluster
from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.containers.base.container import read_header
from mipp_cli.containers.base.header import Header
from mipp_cli.containers.base.source import check_digest, read_file
from mipp_cli.containers.base.stored import open_stored
from mipp_cli.containers.messages.membership import MEMBERS_BYTES_LIMIT, parse_members
from mipp_cli.containers.messages.public_files import CLOUD_NAME, load_party
from mipp_cli.containers.messages.upload import UploadReader
from mipp_cli.containers.store.index import Index, Part, Segment
from mipp_cli.containers.store.segment import Origin, deleted_in, origin_of
from mipp_cli.errors import MalformedError, errors_at
from mipp_cli.progress import Progress, silent
from mipp_cli.report import Report
from mipp_cli.scheme.keys import SigningKey
from mipp_cli.scheme.retrieval_index import Keys, Rows, ids_of, keys_of
from mipp_cli.workdir.completeness import details_of, notes_of
from mipp_cli.workdir.findings import Findings, check_key, check_query_record
from mipp_cli.workdir.floors import floor_in_force
from mipp_cli.workdir.replay import check_pinned_key
from mipp_cli.workdir.secrets_file import SECRETS_FILE

_STORED = re.compile(r"([^.].*-)?[0-9]+(\.[0-9]+)?\.h5(\.blocks)?")
_HINT = (
    "mipp cloud index CLOUD --rebuild rebuilds index.h5, parts/ and the lists of blocks; restore all other "
    "files from a backup"
)


def check_cloud(
    path: Path, *, with_sums: bool = False, parallelism: Parallelism = LOCAL, progress: Progress = silent
) -> Report:
    """Check every file in a cloud's directory and count them; ``with_sums`` recomputes all sums.

    Raises DamagedError, which lists all damage found.
    """
    findings = Findings.begin(path, "cloud")
    if with_sums and parallelism.scheduler:
        with open_cluster(parallelism.scheduler):
            pass  # fail first if the cluster does not answer, so that this is not reported as damage
    check = _Check(Cloud(findings.directory), findings, parallelism if with_sums else None, progress)
    with findings.locked():
        known = findings.check_common()
        known += [findings.directory.file(name) for name in (PUBLIC_FILE, INDEX_FILE)]
        check.keys()
        known += findings.check_each(MEMBERS_FOLDER, ".h5", "members", check.members)
        known += findings.check_each(
            QUERIES_FOLDER,
            ".json",
            "queries",
            partial(check_query_record, findings.directory, QUERIES_FOLDER),
        )
        findings.check_unknown([*known, *check.store()])
    return findings.report(_HINT)


@dataclass(frozen=True)
class _Check:
    """A check of a cloud's directory; damage is recorded in ``findings``.

    With ``sums`` (where to compute), Eq. 5 and 6 are recomputed; without it sums are not compared. ``owners``
    maps the enrolled owners to their keys, or to None if the file with the key is damaged.
    """

    cloud: Cloud
    findings: Findings
    sums: Parallelism | None
    progress: Progress
    owners: dict[str, bytes | None] = field(default_factory=dict)

    def keys(self) -> None:
        """Check the cloud's key."""
        directory = self.cloud.directory
        public = directory.file(PUBLIC_FILE)
        with self.findings.of(public, "files"):
            load_party(public, CLOUD_NAME, directory.deployment.fingerprint)
        with self.findings.of(directory.file(SECRETS_FILE), "files"):
            signing_key = SigningKey(directory.secret("signing"))
            party = load_party(public, CLOUD_NAME, directory.deployment.fingerprint)
            check_key(signing_key.public, party.key, PUBLIC_FILE)

    def members(self, name: str) -> None:
        """Check an owner's `members`."""
        self.owners[name] = None
        data = read_file(self.cloud.members_file(name), MEMBERS_BYTES_LIMIT)
        membership = parse_members(data, self.cloud.directory.deployment.fingerprint)
        if membership.owner != name:
            raise MalformedError("belongs to another owner than its file name says")
        self.owners[name] = membership.key
        floor_in_force(self.cloud.directory, name, membership.key)

    def store(self) -> list[Path]:
        """Check the index and what it lists; return the files that belong to the store."""
        findings, directory, index = self.findings, self.cloud.directory, None
        with findings.of(directory.file(INDEX_FILE), "files"):
            index = self.cloud.index()
        folders = map(directory.file, (SEGMENTS_FOLDER, PARTS_FOLDER))
        files = [path for folder in folders for path in findings.listed(folder)]
        stored = [path for path in files if _STORED.fullmatch(path.name)]
        if index is None:
            return stored
        store = self.cloud.store
        self._check_lists(index)
        found: dict[int, Keys] = {}
        with self.progress("checking", len(index.segments) + len(index.parts), "file") as advance:
            for place, segment in enumerate(index.segments):
                with findings.of(store.segment_path(segment), "segments"):
                    found[place] = self._segment(segment)
                advance(1)
            for part in index.parts:
                with findings.of(store.part_path(part), "parts"):
                    self._part(part, [found.get(place) for place in part.segments])
                advance(1)
        findings.warnings += gap_warnings(index)
        came = {}
        for owner in index.owners():
            with findings.of(store.segments_folder, "owners"):
                came[owner] = completeness(store, index, owner)
        findings.notes += notes_of(came)
        findings.details |= details_of(came)
        if left := sorted({*stored} - store.listed(index)):
            findings.warnings.append(
                f"{len(left)} files are not listed in index.h5, such as {left[0]}: the next `mipp cloud "
                "index` removes them. If index.h5 was restored from a backup, run it with --rebuild first"
            )
        return stored

    def _check_lists(self, index: Index) -> None:
        """Check that every image is in exactly one part, and every part belongs to one owner."""
        listed = Counter(place for part in index.parts for place in part.segments)
        counts = [listed[place] == (segment.rows > 0) for place, segment in enumerate(index.segments)]
        owners = [{index.segments[place].owner for place in part.segments} for part in index.parts]
        if not all(counts) or any(len(each) != 1 for each in owners):
            path = self.cloud.directory.file(INDEX_FILE)
            self.findings.add(
                path, "lists images in no part, in several parts, or in a part of another owner"
            )

    def _segment(self, segment: Segment) -> Keys:
        """Check a segment: its owner, every byte, every column. Returns the keys of its images, in order."""
        own = self.cloud.directory.sender
        kind, sender, key = "segment", own.name, own.signing_key.public
        if not segment.revision:
            kind, sender, key = "upload", segment.owner, self.owners.get(segment.owner) or b""
        if segment.owner not in self.owners:
            raise MalformedError(f"belongs to {segment.owner!r}, who is not enrolled")

        def check(header: Header) -> None:
            if (header.sender, header.sequence_number) != (sender, segment.number):
                raise MalformedError("is not the segment that the index lists")
            if not segment.revision and header.digest != segment.digest.hex():
                raise MalformedError("is not the upload that was applied")
            if key:
                check_pinned_key(header, key)

        self._check_bytes(self.cloud.store.segment_path(segment), segment.root, kind, check)
        with self.cloud.store.segment(segment) as upload:
            return self._images(segment, upload)

    def _images(self, segment: Segment, upload: UploadReader) -> Keys:
        if segment.revision:
            found = origin_of(upload.container)
            key = self.owners.get(segment.owner) or found.key
            if found != Origin(segment.owner, key, segment.number, segment.digest, found.earlier):
                raise MalformedError("is a revision of another message or another owner than the index says")
        deleted = len(deleted_in(upload.container)) if segment.revision else 0
        if (len(upload), upload.key_id, deleted) != (segment.rows, segment.key_id, segment.deleted):
            raise MalformedError("has other images, other deletions or another key id than the index says")
        if not set(segment.earlier) <= set(upload.earlier()):
            raise MalformedError("lists other earlier messages than the index does")
        upload.check_images()
        ids = ids_of(name.encode() for name in upload.names())
        self.findings.counts["images"] += len(ids)
        if self.sums is None:
            return keys_of([0] * len(ids), [0] * len(ids), ids)
        opening = partial(self.cloud.store.segment, segment, verified=True)
        return keys_of(*sums_of(upload, opening, self.sums, self.progress), ids)

    def _part(self, part: Part, segments: list[Keys | None]) -> None:
        """Check a part: every byte, and its images against its segments, unless these are damaged."""
        path, own = self.cloud.store.part_path(part), self.cloud.directory.sender.signing_key.public

        def check(header: Header) -> None:
            check_pinned_key(header, own)
            if header.sequence_number != part.number:
                raise MalformedError("is not the part that the index lists")

        self._check_bytes(path, part.root, "part", check)
        with self.cloud.store.part(part) as reader:
            sound = [each for each in segments if each is not None]
            # there is nothing to compare with in a damaged segment
            expected = np.concatenate(sound) if len(sound) == len(segments) else None
            came, last = np.zeros(len(reader), dtype=bool), b""
            for rows in reader.batches():
                if rows.keys[0] <= last or (rows.keys[1:] <= rows.keys[:-1]).any():
                    raise MalformedError("has rows that are not sorted")
                last = rows.keys[-1]
                if expected is not None:
                    self._compare(rows, expected)
                    came[rows.images] = True
            if expected is not None and not (came.all() and len(came) == len(expected)):
                raise MalformedError("has other images than its segments")

    def _compare(self, rows: Rows, expected: Keys) -> None:
        """Compare rows of a part with the keys of all its images, in their order."""
        if rows.images.max() >= len(expected):
            raise MalformedError("has other images than its segments")
        due = Rows(expected[rows.images], rows.images)
        if not np.array_equal(rows.ids, due.ids):
            raise MalformedError("has other images than its segments")
        if self.sums and not np.array_equal(rows.pairs, due.pairs):
            raise MalformedError("has sums that differ from those of the encrypted features")

    def _check_bytes(self, path: Path, root: bytes, kind: str, check: Callable[[Header], None]) -> None:
        with errors_at(path), closing(open_stored(path, root)) as source:
            header = read_header(source, kind=kind, deployment=self.cloud.directory.sender.deployment)
            check(header)
            check_digest(source, header)
