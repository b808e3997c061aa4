"""ImageRetrieval in the sum schemes: candidates among the images of the owners who authorised the user."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from mipp_cli.cloud.cloud import Cloud
from mipp_cli.cloud.query import QUERIES_FOLDER, authorised_query, encrypted_images, from_latest
from mipp_cli.cloud.store.store import Store
from mipp_cli.cloud.store.summing import sums_of
from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.containers.messages.query import Query
from mipp_cli.containers.messages.results import Match, write_results
from mipp_cli.containers.store.index import Index, Part
from mipp_cli.containers.store.part import PartReader
from mipp_cli.errors import MalformedError, errors_at
from mipp_cli.progress import Progress, silent
from mipp_cli.report import Output, Report
from mipp_cli.scheme.retrieval_index import check_sums, nearest_pairs
from mipp_cli.scheme.similarity import sim, sim_numerators
from mipp_cli.workdir.replay import query_record


@dataclass(frozen=True, order=True)
class Candidate:
    """An image as the search ranks it: by Sim, ties by owner and name; ``segment`` and ``row`` find it."""

    numerator: int
    owner: str
    name: bytes
    segment: int
    row: int


def search_sums(
    cloud: Cloud,
    query_file: Path,
    output: Path,
    *,
    without_index: bool = False,
    parallelism: Parallelism = LOCAL,
    force: bool = False,
    progress: Progress = silent,
) -> Report:
    """Answer a query: the nearest images by Sim (Eq. 9), per query image as many as the query asks for.

    ``without_index`` decrypts the sums of every image again, as the paper compares. Raises
    NotAuthorisedError if no owner authorised the user, ReplayedError for other content under a known
    query id.
    """
    parameters = cloud.directory.deployment.parameters
    with errors_at(query_file):
        query, owners = authorised_query(cloud, query_file)
        sums = _query_sums(query, cloud)

    def answer(index: Index) -> dict[str, int]:
        if without_index:
            found = _scan(cloud.store, index, owners, sums, query.candidates, parallelism, progress)
        else:
            found = _look_up(cloud.store, index, owners, sums, query.candidates)
        return _write_answer(cloud, index, query, found, _searched(index, owners), output, force=force)

    index, counts = from_latest(cloud, answer)
    cloud.directory.record(QUERIES_FOLDER, query_record(query.header), query.digest.hex(), output)
    searched = sum(_searched(index, owners).values())
    counts = {"query images": len(sums), "owners": len(owners), "images searched": searched} | counts
    warnings = [*parameters.warnings]
    warnings += [
        f"{owner} was not searched: this owner did not authorise the user"
        for owner in sorted(query.owners - set(owners))
    ]
    return Report((Output(output, "results"),), counts, tuple(warnings))


def _searched(index: Index, owners: Sequence[str]) -> dict[str, int]:
    """Return how many images of each owner are ranked."""
    return {owner: sum(segment.rows for segment in index.of_owner(owner)) for owner in owners}


def _write_answer(
    cloud: Cloud,
    index: Index,
    query: Query,
    found: Sequence[Sequence[Candidate]],
    searched: Mapping[str, int],
    output: Path,
    *,
    force: bool,
) -> dict[str, int]:
    """Write the matches and their images; return how many there are."""
    places = sorted({(each.segment, each.row) for candidates in found for each in candidates})
    matches = _matches(found, places, cloud.store.parameters.l)
    images = encrypted_images(cloud.store, index, places)
    sender, query_id = cloud.directory.sender, query.query_id
    write_results(output, sender, query_id, query.data, images, matches, searched, force=force)
    return {"matches": len(matches), "images": len(places)}


def _query_sums(query: Query, cloud: Cloud) -> list[tuple[int, int]]:
    """Eq. 5 and 6 for the query images: (Σy, Σy²) of each, checked to be possible."""
    parameters = cloud.directory.deployment.parameters
    cipher = parameters.cipher
    shape = (query.images, parameters.l, cipher.number_bytes)
    first, second = (cipher.sums(column.reshape(shape)) for column in query.features)
    sums = list(zip(first, second, strict=True))
    for pair in sums:
        check_sums(*pair, parameters.l, parameters.levels)
    return sums


def _look_up(
    store: Store, index: Index, owners: Sequence[str], sums: Sequence[tuple[int, int]], count: int
) -> list[list[Candidate]]:
    """The candidates of each query image, from the index: only what they are made of is read."""
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
    """Yield the nearest images of a part; of each pair the first by name, which is how ties are broken."""
    bounds = store.bounds(index, part)
    owner = index.segments[part.segments[0]].owner
    pairs, numerators = nearest_pairs(reader.pairs, *query, store.parameters.l, count)
    begins, ends = reader.pairs.starts[pairs].tolist(), reader.pairs.starts[pairs + 1].tolist()
    for begin, end, numerator in zip(begins, ends, numerators.tolist(), strict=True):
        for position in reader.positions(begin, min(begin + count, end)).tolist():
            name, row = reader.image(position)
            place = bisect_right(bounds, row)
            if place == len(bounds):
                raise MalformedError("the index points outside its segments")
            before = bounds[place - 1] if place else 0
            yield Candidate(numerator, owner, name, part.segments[place], row - before)


def _scan(
    store: Store,
    index: Index,
    owners: Sequence[str],
    sums: Sequence[tuple[int, int]],
    count: int,
    parallelism: Parallelism,
    progress: Progress,
) -> list[list[Candidate]]:
    """The candidates of each query image, from the ciphertexts themselves."""
    found: list[list[Candidate]] = [[] for _ in sums]
    for position, segment in enumerate(index.segments):
        if segment.owner not in owners or not segment.rows:
            continue
        with store.segment(segment) as upload:
            names = [name.encode() for name in upload.names()]
            columns = sums_of(upload, parallelism, progress)
        sum1, sum2 = (np.array(column, dtype=np.int64) for column in columns)
        for number, pair in enumerate(sums):
            numerators = sim_numerators(sum1, sum2, *pair, store.parameters.l)
            rows = zip(numerators.tolist(), names, range(len(names)), strict=True)
            candidates = (Candidate(n, segment.owner, name, position, row) for n, name, row in rows)
            found[number] = heapq.nsmallest(count, chain(found[number], candidates))
    return found


def _matches(found: Sequence[Sequence[Candidate]], places: Sequence[tuple[int, int]], l: int) -> list[Match]:
    """Return who matches what, the images numbered by their place."""
    number_of = {place: number for number, place in enumerate(places)}
    matches = []
    for query, candidates in enumerate(found):
        sims = sim([each.numerator for each in candidates], l).tolist()
        images = (number_of[each.segment, each.row] for each in candidates)
        matches += [Match(query, image, value) for image, value in zip(images, sims, strict=True)]
    return matches
