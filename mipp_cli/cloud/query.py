"""What the cloud's answers share: who may ask, the index that is in force, and the images themselves."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from mipp_cli.cloud.cloud import Cloud
from mipp_cli.cloud.store.store import Store
from mipp_cli.containers.base.container import read_header
from mipp_cli.containers.base.header import Header
from mipp_cli.containers.base.source import FileSource
from mipp_cli.containers.messages.query import QUERY_BYTES_LIMIT, Query, parse_query
from mipp_cli.containers.messages.results import ImageRef
from mipp_cli.containers.store.index import Index
from mipp_cli.errors import MalformedError, MippError, NotAuthorisedError, ReplayedError
from mipp_cli.workdir.replay import query_record

QUERIES_FOLDER = "queries"


def authorised_query(cloud: Cloud, file: Path) -> tuple[Query, list[str]]:
    """Return the verified query, and the owners who authorised its user."""
    deployment = cloud.directory.deployment

    source = FileSource(file)
    try:
        # who asks is checked before memory is taken for what they ask
        _owners_of_user(cloud, read_header(source, kind="query", deployment=deployment.fingerprint))
        if source.size > QUERY_BYTES_LIMIT:
            raise MalformedError("is larger than a query can be")
        data = source.read_at(0, source.size)
    finally:
        source.close()
    return query_of(cloud, data)


def query_of(cloud: Cloud, data: bytes) -> tuple[Query, list[str]]:
    """Return the verified query that came as ``data``, and the owners who authorised its user."""
    deployment = cloud.directory.deployment
    owners: list[str] = []

    def check(header: Header) -> None:
        owners.extend(_owners_of_user(cloud, header))

    query = parse_query(data, deployment.parameters, deployment.fingerprint, check)
    named = [owner for owner in owners if query.names_owner(owner)]
    if not named:
        raise NotAuthorisedError(
            f"none of the owners that the query names authorised the user {query.header.sender!r}",
            hint="leave out --owner, or ask these owners to authorise the user",
        )
    recorded = cloud.directory.recorded(QUERIES_FOLDER, query_record(query.header))
    if recorded is not None and not hmac.compare_digest(recorded, query.digest.hex()):
        raise ReplayedError(
            "comes under an id that another query of the same user had", hint="make a new query"
        )
    return query, named


def _owners_of_user(cloud: Cloud, header: Header) -> list[str]:
    user = (header.sender, header.sender_key)
    owners = [member.owner for member in cloud.members() if user in member.users]
    if not owners:
        raise NotAuthorisedError(
            f"no enrolled owner authorised the user {header.sender!r} with this key",
            hint="the owner runs: mipp owner authorize, then the cloud: mipp cloud enroll",
        )
    return owners


def from_latest(cloud: Cloud, answer: Callable[[Index], dict[str, int]]) -> tuple[Index, dict[str, int]]:
    """Answer from the index, and all anew from the one that took its place if its files went meanwhile.

    Images may come and leave at any time; what an index lists is removed once another is in force.
    """
    index = cloud.index()
    while True:
        try:
            return index, answer(index)
        except MippError:
            latest = cloud.index()
            if latest == index:
                raise
            index = latest


def encrypted_images(
    store: Store, index: Index, places: Sequence[tuple[int, int]]
) -> Iterator[tuple[ImageRef, bytes]]:
    """Yield reference and EW of each place (segment, row), sorted, so that one segment is open at a time."""
    for number, group in groupby(places, key=itemgetter(0)):
        segment = index.segments[number]
        with store.segment(segment) as upload:
            for _, row in group:
                ref = ImageRef(segment.owner, upload.name(row), segment.number, segment.key_id)
                yield ref, upload.encrypted_image(row)
