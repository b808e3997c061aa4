"""Which of an owner's messages have not come to the cloud, by what its index and segments list."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress

from mipp_cli.cloud.store import Store
from mipp_cli.containers.store.index import Index
from mipp_cli.errors import MippError
from mipp_cli.workdir.completeness import Completeness, completeness_of
from mipp_cli.workdir.directory import RoleDirectory
from mipp_cli.workdir.floors import floor_of

AGAIN_AT_CLOUD = (
    "bring these files, or the owner makes them again with --again NUMBER (mipp owner encrypt, or for a "
    "deletion mipp owner delete)"
)


def completeness(store: Store | None, index: Index, owner: str) -> Completeness:
    """Say how much of what an owner sent has come to the cloud; what a removal took is not missing.

    Without the store it is only as much as the index itself knows, by the owner's newest message.
    """
    removed = floor_of(RoleDirectory(store.folder, "cloud"), owner).removed if store else 0
    rows = {segment.number: segment.rows for segment in index.of_owner(owner)}
    return completeness_of(rows, _lists(store, index, owner), removed)


def _lists(store: Store | None, index: Index, owner: str) -> Iterator[tuple[int, Collection[int]]]:
    newest = index.newest(owner)
    if newest is not None:
        yield newest.number, newest.earlier
    for segment in sorted(index.of_owner(owner), key=lambda each: each.number, reverse=True)[1:]:
        if store is not None:
            # what a damaged one knows of is not known: mipp cloud check says so
            with suppress(MippError), store.segment(segment) as upload:
                yield segment.number, upload.earlier()


def gap_warnings(index: Index) -> list[str]:
    """Say of each owner which messages the cloud misses, and which the owner's own record lacks."""
    found = ((owner, completeness(None, index, owner)) for owner in index.owners())
    return [warning for owner, each in found for warning in each.warnings(owner, AGAIN_AT_CLOUD)]
