"""Which of an owner's messages have not arrived at the cloud, by the lists in its index and segments."""

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
    "apply these files with mipp cloud index, or ask the owner to write them again: mipp owner encrypt "
    "--again NUMBER, or mipp owner delete --again NUMBER for a deletion"
)


def completeness(store: Store | None, index: Index, owner: str) -> Completeness:
    """Return which messages of an owner have arrived; those dropped by a removal are not missing.

    Without ``store`` only the list of the owner's newest message is used, which the index has.
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
            # a damaged segment's list is unknown: mipp cloud check reports the damage
            with suppress(MippError), store.segment(segment) as upload:
                yield segment.number, upload.earlier()


def gap_warnings(index: Index) -> list[str]:
    """Return warnings, per owner, for messages missing here and for messages the owner's record lacks."""
    found = ((owner, completeness(None, index, owner)) for owner in index.owners())
    return [warning for owner, each in found for warning in each.warnings(owner, AGAIN_AT_CLOUD)]
