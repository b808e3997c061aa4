"""ImageRetrieval in the sum schemes: candidates among the images of the owners who authorised the user."""

from __future__ import annotations

import heapq
import hmac
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from mipp_cli.cloud.cloud import Cloud
from mipp_cli.cloud.store import Store
from mipp_cli.cloud.summing import sums_of
from mipp_cli.compute.processes import Parallelism
from mipp_cli.containers.base.container import read_header
from mipp_cli.containers.base.header import Header
from mipp_cli.containers.base.source import FileSource
from mipp_cli.containers.messages.query import QUERY_BYTES_LIMIT, Query, parse_query
from mipp_cli.containers.messages.results import ImageRef, Match, write_results
from mipp_cli.containers.store.index import Index, Part
from mipp_cli.containers.store.part import PartReader
from mipp_cli.errors import MalformedError, NotAuthorisedError, ReplayedError, errors_at
from mipp_cli.log import timed
from mipp_cli.progress import Progress
from mipp_cli.report import Output, Report
from mipp_cli.scheme.retrieval_index import check_sums, ids_of, nearest_pairs
from mipp_cli.scheme.similarity import sim, sim_numerators
from mipp_cli.workdir.replay import query_record

QUERIES_FOLDER = "queries"


@dataclass(frozen=True, order=True)
class Candidate:
    """An image as ranked by the search: by Sim, ties by owner and id; ``segment`` and ``row`` locate it."""

    numerator: int
    owner: str
    id: bytes
    segment: int
    row: int


def search_sums(
    cloud: Cloud,
    index: Index,
    query_file: Path,
    output: Path,
    *,
    scan: Parallelism | None,
    force: bool,
    progress: Progress,
) -> Report:
    """Answer a query: per query image, the nearest images by Sim (Eq. 9), as many as it asks for.

    With ``scan`` (where to compute), the sums of every image are decrypted again, the paper's "without
    index". Raises NotAuthorisedError if no owner authorised the user, ReplayedError for different content
    under a known query id.
    """
    with errors_at(query_file):
        query, owners = _authorised_query(cloud, query_file)
        sums = _query_sums(query, cloud)
    if scan is None:
        found = _look_up(cloud.store, index, owners, sums, query.candidates)
    else:
        found = _scan(cloud.store, index, owners, sums, query.candidates, scan, progress)
    searched = {owner: sum(segment.rows for segment in index.of_owner(owner)) for owner in owners}
    places = sorted({(each.segment, each.row) for candidates in found for each in candidates})
    matches = _matches(found, places, cloud.store.parameters.l)
    images = _encrypted_images(cloud.store, index, places)
    sender, query_id = cloud.directory.sender, query.query_id
    # record the query before the answer is written; the same query may be answered again
    cloud.directory.record(QUERIES_FOLDER, query_record(query.header), query.digest.hex())
    write_results(output, sender, query_id, query.data, images, matches, searched, force=force)
    counts = {
        "query images": len(sums),
        "owners": len(owners),
        "images searched": sum(searched.values()),
        "matches": len(matches),
        "images": len(places),
    }
    warnings = [
        f"{owner} was not searched: no such owner is enrolled, or this owner did not authorise the user"
        for owner in sorted(query.owners - set(owners))
    ]
    all_warnings = (*cloud.store.parameters.warnings, *warnings)
    return Report((Output(output, "results"),), counts, all_warnings)


def _authorised_query(cloud: Cloud, file: Path) -> tuple[Query, list[str]]:
    """Return the verified query, and the owners who authorised its user."""
    deployment = cloud.directory.deployment
    owners: list[str] = []

    def check(header: Header) -> None:
        owners[:] = _owners_of_user(cloud, header)

    with closing(FileSource(file)) as source:
        # check the user before allocating memory for the query
        check(read_header(source, kind="query", deployment=deployment.fingerprint))
        if source.size > QUERY_BYTES_LIMIT:
            raise MalformedError("is larger than any valid query")
        data = source.read_at(0, source.size)
    query = parse_query(data, deployment.parameters, deployment.fingerprint, check)
    named = [owner for owner in owners if query.names_owner(owner)]
    if not named:
        raise query.no_named_owner(owners)
    recorded = cloud.directory.recorded(QUERIES_FOLDER, query_record(query.header))
    if recorded is not None and not hmac.compare_digest(recorded, query.digest.hex()):
        raise ReplayedError(
            "reuses the id of another query of this user", hint="ask the user to make a new query"
        )
    return query, named


def _owners_of_user(cloud: Cloud, header: Header) -> list[str]:
    user = (header.sender, header.sender_key)
    owners = [member.owner for member in cloud.members() if user in member.users]
    if not owners:
        raise NotAuthorisedError(
            f"no enrolled owner authorised the user {header.sender!r} with this key",
            hint="the owner must run mipp owner authorize, then the cloud mipp cloud enroll",
        )
    return owners


def _encrypted_images(
    store: Store, index: Index, places: Sequence[tuple[int, int]]
) -> Iterator[tuple[ImageRef, bytes]]:
    """Yield the reference and EW of each place (segment, row); sorted, so one segment is open at a time."""
    for number, group in groupby(places, key=itemgetter(0)):
        segment = index.segments[number]
        with store.segment(segment) as upload:
            for _, row in group:
                ref = ImageRef(segment.owner, upload.name(row), segment.number, segment.key_id)
                yield ref, upload.encrypted_image(row)


def _query_sums(query: Query, cloud: Cloud) -> list[tuple[int, int]]:
    """Return (Σy, Σy²) of each query image (Eq. 5 and 6), range-checked."""
    parameters = cloud.directory.deployment.parameters
    cipher = parameters.cipher
    shape = (query.images, parameters.l, cipher.number_bytes)
    first, second = (cipher.sums(column.reshape(shape)) for column in query.features)
    sums = list(zip(first, second, strict=True))
    for pair in sums:
        check_sums(*pair, parameters.l, parameters.levels)
    return sums


@timed("ranking by the index")
def _look_up(
    store: Store, index: Index, owners: Sequence[str], sums: Sequence[tuple[int, int]], count: int
) -> list[list[Candidate]]:
    """Return the candidates of each query image from the index; only their rows are read."""
    found: list[list[Candidate]] = [[] for _ in sums]
    for part in (part for owner in owners for part in index.parts_of(owner)):
        with store.part(part) as reader:
            for number, pair in enumerate(sums):
                candidates = _nearest_in_part(store, index, part, reader, pair, count)
                found[number] = heapq.nsmallest(count, chain(found[number], candidates))
    return found


def _nearest_in_part(
    store: Store, index: Index, part: Part, reader: PartReader, query: tuple[int, int], count: int
) -> Iterator[Candidate]:
    """Yield the nearest images of a part; within a pair in order of id, which breaks ties."""
    pairs, numerators = nearest_pairs(reader.pairs, *query, store.parameters.l, count)
    begins = reader.pairs.starts[pairs]
    ends = np.minimum(begins + np.uint64(count), reader.pairs.starts[pairs + 1])
    bounds = [*zip(begins.tolist(), ends.tolist(), strict=True)]
    ids = np.concatenate([reader.ids(*each) for each in bounds])
    segments, rows = index.located(part, np.concatenate([reader.images(*each) for each in bounds]))
    numerators = np.repeat(numerators, (ends - begins).astype(np.int64))
    fields = zip(*(column.tolist() for column in (numerators, ids, segments, rows)), strict=True)
    for numerator, *each in fields:
        yield Candidate(numerator, index.owner_of(part), *each)


@timed("ranking without the index")
def _scan(
    store: Store,
    index: Index,
    owners: Sequence[str],
    sums: Sequence[tuple[int, int]],
    count: int,
    parallelism: Parallelism,
    progress: Progress,
) -> list[list[Candidate]]:
    """Return the candidates of each query image, computed from the ciphertexts."""
    found: list[list[Candidate]] = [[] for _ in sums]
    for position, segment in enumerate(index.segments):
        if segment.owner not in owners or not segment.rows:
            continue
        opening = partial(store.segment, segment)
        with opening() as upload:
            ids = ids_of(name.encode() for name in upload.names()).tolist()
            columns = sums_of(upload, opening, parallelism, progress)
        sum1, sum2 = (np.array(column, dtype=np.int64) for column in columns)
        for number, pair in enumerate(sums):
            numerators = sim_numerators(sum1, sum2, *pair, store.parameters.l)
            rows = zip(numerators.tolist(), ids, range(len(ids)), strict=True)
            candidates = (Candidate(n, segment.owner, each, position, row) for n, each, row in rows)
            found[number] = heapq.nsmallest(count, chain(found[number], candidates))
    return found


def _matches(found: Sequence[Sequence[Candidate]], places: Sequence[tuple[int, int]], l: int) -> list[Match]:
    """Return the matches, with images numbered by their place in the answer."""
    number_of = {place: number for number, place in enumerate(places)}
    matches = []
    for query, candidates in enumerate(found):
        sims = sim([each.numerator for each in candidates], l).tolist()
        images = (number_of[each.segment, each.row] for each in candidates)
        matches += [Match(query, image, value) for image, value in zip(images, sims, strict=True)]
    return matches
