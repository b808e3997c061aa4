"""Which of an owner's messages have not come to the cloud, by what its index and segments list."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from mipp_cli.cloud.store.store import Store
from mipp_cli.containers.store.index import Index
from mipp_cli.errors import MippError
from mipp_cli.workdir.completeness import Completeness, completeness_of
from mipp_cli.workdir.directory import RoleDirectory
from mipp_cli.workdir.floors import floor_of

AGAIN_AT_CLOUD = (
    "bring these files, or the owner makes them again with --again NUMBER (mipp owner encrypt, or for a "
    "deletion mipp owner delete)"
)


def completeness(store: Store, index: Index, owner: str) -> Completeness:
    """Say how much of what an owner sent has come to the cloud; what a removal took is not missing."""
    removed = floor_of(RoleDirectory(store.folder, "cloud"), owner).removed
    rows = {segment.number: segment.rows for segment in index.of_owner(owner)}
    return completeness_of(rows, _lists(store, index, owner), removed)


def _lists(store: Store, index: Index, owner: str) -> Iterator[tuple[int, Collection[int]]]:
    newest = index.newest(owner)
    for segment in sorted(index.of_owner(owner), key=lambda each: each.number, reverse=True):
        earlier: Collection[int] = segment.earlier
        if segment != newest:
            try:
                with store.segment(segment) as upload:
                    earlier = upload.earlier()
            except MippError:  # it is damaged, so what it knows of is not known: mipp cloud check says so
                continue
        yield segment.number, earlier


def gap_warnings(index: Index) -> list[str]:
    """Say of each owner which messages the cloud misses, and which the owner's own record lacks."""
    warnings = []
    for owner in index.owners():
        newest = index.newest(owner)
        if newest is not None:
            unlisted = index.unlisted(newest, newest.earlier)
            newest_of_all = Completeness(0, index.gaps(owner), unlisted)
            warnings += newest_of_all.warnings(owner, AGAIN_AT_CLOUD)
    return warnings
