"""Answers a selection of the KMC (scheme `exact`) with whole groups of rows."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from mipp_cli.cloud.cloud import Cloud
from mipp_cli.containers.base.header import Header
from mipp_cli.containers.messages.selection import (
    BroughtRow,
    GroupRef,
    Selection,
    read_selection,
    write_groups,
)
from mipp_cli.containers.store.index import Index, Segment
from mipp_cli.errors import MippError, WrongDeploymentError, errors_at
from mipp_cli.log import timed
from mipp_cli.progress import Advance, Progress
from mipp_cli.report import Output, Report


@timed("reading the groups of {selection_file}")
def bring_groups(
    cloud: Cloud, index: Index, selection_file: Path, output: Path, *, force: bool, progress: Progress
) -> Report:
    """Return every live row of each group of a selection; groups that this cloud lacks are left out.

    Raises WrongDeploymentError for a selection that is not signed by the KMC, or is for another cloud.
    """
    deployment = cloud.directory.deployment
    with errors_at(selection_file):
        selection = read_selection(selection_file, deployment.fingerprint, lambda h: _check_kmc(cloud, h))
        if not hmac.compare_digest(selection.cloud, cloud.directory.sender.signing_key.public):
            raise WrongDeploymentError(
                "is for another cloud",
                hint="give it to that cloud, or rank for this one: mipp kmc rank … --cloud cloud.pub",
            )
    step = _Bringing(cloud, index)
    with progress("reading", len(selection.groups), "group") as advance:
        rows = step.rows(selection, advance)
        count = write_groups(output, cloud.directory.sender, selection.number, rows, force=force)
    groups = len(selection.groups)
    missing = groups - len(step.found)
    counts = {"groups": groups, "images": count, "groups not here": missing}
    said = (
        f"rows are left out: {error.path}: {error.message}; run mipp cloud check" for error in step.damaged
    )
    warnings = [*deployment.parameters.warnings, *dict.fromkeys(said)]
    if missing:
        warnings.append(
            f"{missing} of the {groups} groups are missing here: apply the uploads whose features the KMC "
            "has (mipp cloud index)"
        )
    return Report((Output(output, "groups"),), counts, tuple(warnings))


def _check_kmc(cloud: Cloud, header: Header) -> None:
    if not hmac.compare_digest(header.sender_key, cloud.directory.deployment.signing_key):
        raise WrongDeploymentError(
            "is not signed by the KMC of this deployment", hint="ask the KMC for the selection again"
        )


class _Asked(NamedTuple):
    """A group of a selection: its place there, its place here, and the length of its rows."""

    place: int
    ref: GroupRef
    length: int


@dataclass
class _Bringing:
    """An answer from one index; a damaged or missing segment removes only its own rows from it.

    ``found`` are the places of groups with rows, ``damaged`` the errors of unreadable segments.
    """

    cloud: Cloud
    index: Index
    found: set[int] = field(default_factory=set)
    damaged: list[MippError] = field(default_factory=list)

    def rows(self, selection: Selection, advance: Advance) -> Iterator[BroughtRow]:
        """Yield the rows of each group in order."""
        segments = {(segment.owner, segment.number): segment for segment in self.index.segments}
        asked = map(_Asked, range(len(selection.groups)), selection.groups, selection.lengths)
        for key, groups in groupby(asked, key=lambda each: (each.ref.owner, each.ref.upload)):
            segment, places = segments.get(key), list(groups)
            if segment is not None and segment.rows:
                yield from self._rows_of(segment, places)
            advance(len(places))

    def _rows_of(self, segment: Segment, groups: list[_Asked]) -> Iterator[BroughtRow]:
        try:
            with self.cloud.store.segment(segment) as upload:
                for place, ref, length in groups:
                    for row in upload.group_rows(ref.group):
                        try:
                            if upload.image_bytes(row) != length:
                                continue  # the owner told the KMC another length
                            # not verified here: the KMC compares rows with the owner's digests
                            brought = BroughtRow(place, upload.name(row), upload.stored_image(row))
                        except MippError as error:
                            self._leave_out(segment, error)
                            continue
                        self.found.add(place)
                        yield brought
        except MippError as error:
            self._leave_out(segment, error)

    def _leave_out(self, segment: Segment, error: MippError) -> None:
        """Record the damage; raise if the index was replaced meanwhile, to answer from the new one."""
        if self.cloud.index() != self.index:
            raise error
        error.path = error.path or str(self.cloud.store.segment_path(segment))
        self.damaged.append(error)
