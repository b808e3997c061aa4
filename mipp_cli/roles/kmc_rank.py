"""The KMC's step of scheme `exact`: the nearest images by EucDis, among features that it alone decrypts."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.atomic import discard, refuse_existing
from mipp_cli.containers.candidates import CandidatesReader, open_candidates
from mipp_cli.containers.header import Header
from mipp_cli.containers.manifest import FeatureManifest, parse_manifest
from mipp_cli.containers.query import Query, parse_query
from mipp_cli.containers.selection import SelectedRow, write_selection
from mipp_cli.errors import (
    ConflictError,
    InvalidRequestError,
    MalformedError,
    MippError,
    MissingKeyError,
    NotAuthorisedError,
    ReplayedError,
    TamperedError,
    at_path,
)
from mipp_cli.roles.kmc import EnrolledOwner, Kmc
from mipp_cli.roles.kmc_reencrypt import authorising_owners, check_known_cloud
from mipp_cli.roles.progress import Progress, silent
from mipp_cli.roles.ranking import (
    RANKINGS_FOLDER,
    FeatureMac,
    RankedImage,
    Ranking,
    check_manifest,
    digest_of_manifests,
    recorded_ranking,
    remember_manifests,
    seen_manifest,
)
from mipp_cli.roles.report import Output, Report
from mipp_cli.roles.sequence import check_pinned_key, query_record
from mipp_cli.scheme.feature_chunks import FeatureChunkCipher, LiveChunk
from mipp_cli.scheme.nearest import Nearest
from mipp_cli.scheme.parameters import Parameters

Codes = NDArray[np.unsignedinteger]
DECOYS_LIMIT = 1_000_000


def rank(
    path: Path,
    candidates: Path,
    output: Path,
    *,
    decoys: int = 0,
    force: bool = False,
    progress: Progress = silent,
) -> Report:
    """Select the nearest images of a query by EucDis (Eq. 7), with ``decoys`` others drawn at random.

    The authorisation is checked again here. A query is ranked once: the same candidates give the same
    selection, others are refused, or answers to one query would tell the order of the whole collection.
    Images whose features do not open are left out, with a warning.

    Raises NotAuthorisedError for a cloud that was not enrolled or an owner who did not authorise the user,
    ConflictError for an owner who is missing, ReplayedError for an older manifest or another ranking of
    the same query, TamperedError or MissingKeyError if no chunk opens.
    """
    refuse_existing(output, force=force)
    kmc = Kmc.open(path)
    deployment = kmc.directory.deployment
    parameters = deployment.parameters
    if not parameters.ranks_at_kmc:
        raise InvalidRequestError(
            f"scheme {parameters.scheme} is ranked by the cloud", hint="the next step is: mipp kmc reencrypt"
        )
    if not 0 <= decoys <= DECOYS_LIMIT:
        raise InvalidRequestError(f"{decoys} decoys cannot be drawn", hint=f"0 to {DECOYS_LIMIT}")
    with kmc.directory.lock(shared=True), at_path(candidates):
        reader = open_candidates(
            candidates, deployment.fingerprint, lambda header: check_known_cloud(kmc, header)
        )
        with reader.container:
            cloud = reader.container.header
            query = parse_query(reader.query_octets, parameters, deployment.fingerprint)
            if query.query_id != cloud.number:
                raise MalformedError("holds another query than the one it is for")
            owners = authorising_owners(kmc, query)
            manifests = _manifests(kmc, reader, owners, cloud.key)
            ranking = _known(kmc, query, manifests, decoys)
            warnings: list[str] = []
            if ranking is None:
                step = _Ranking(kmc, reader, query, owners, manifests)
                ranking = step.rank(decoys, progress)
                warnings = step.warnings()
        write_selection(
            output,
            kmc.directory.sender,
            query.query_id,
            query.octets,
            [image.row for image in ranking.images],
            force=force,
        )
        kmc.directory.record(RANKINGS_FOLDER, query_record(query.header), ranking.to_text(), output)
        try:
            remember_manifests(kmc.directory, manifests, cloud.key)
        except BaseException:
            discard(output)  # an older manifest could take the place of one that is not remembered
            raise
    matching = sum(bool(image.matches) for image in ranking.images)
    counts = {
        "query images": query.images,
        "owners": len(manifests),
        "images ranked": sum(manifest.rows for manifest in manifests) - ranking.left_out,
        "images": matching,
        "decoys": len(ranking.images) - matching,
        "left out": ranking.left_out,
    }
    return Report((Output(output, "selection"),), counts, (*parameters.warnings, *warnings))


def _manifests(
    kmc: Kmc, reader: CandidatesReader, owners: Mapping[str, EnrolledOwner], cloud: str
) -> list[FeatureManifest]:
    """Return the manifests of all owners, each signed by its owner and none older than one seen."""
    directory = kmc.directory
    parameters, fingerprint = directory.deployment.parameters, directory.deployment.fingerprint
    manifests = []
    for owner, octets in reader.manifests():
        if owner not in owners:
            raise NotAuthorisedError(
                f"holds features of {owner!r}, who did not authorise the user",
                hint="was the user revoked, or does the cloud not know it yet? Search again",
            )

        def check(header: Header, owner: str = owner) -> None:
            if header.sender != owner:
                raise MalformedError(f"holds a manifest of {header.sender!r} as that of {owner!r}")
            check_pinned_key(header, owners[owner].membership.key)

        manifests.append(parse_manifest(octets, parameters, fingerprint, check))
        check_manifest(directory, manifests[-1])
    for owner in sorted(set(owners) - {manifest.owner for manifest in manifests}):
        seen = seen_manifest(directory, owner)
        if seen is not None and seen.cloud == cloud:
            raise ConflictError(
                f"lacks the features of {owner!r}, who authorised the user",
                hint="the cloud enrols the owner's latest members.h5, and searches again with all owners",
            )
    if sum(len(manifest.chunks) for manifest in manifests) != len(reader):
        raise MalformedError("does not hold the chunks that the manifests list: some were dropped or added")
    return manifests


def _known(kmc: Kmc, query: Query, manifests: Sequence[FeatureManifest], decoys: int) -> Ranking | None:
    """Return the ranking that the same candidates gave before; raises ReplayedError if others did."""
    ranking = recorded_ranking(kmc.directory, query)
    if ranking is None:
        return None
    if ranking.ranked != digest_of_manifests(manifests):
        raise ReplayedError(
            "holds other features than those that the query was ranked with before",
            hint="a query is ranked once: ask the user to make a new query",
        )
    if ranking.decoys != decoys:
        raise ReplayedError(
            f"was ranked with {ranking.decoys} decoys before", hint=f"give --decoys {ranking.decoys} again"
        )
    return ranking


@dataclass
class _Chunk:
    """A chunk that opened: its number in the container, its cipher, and the place of its first image."""

    owner: str
    chunk: LiveChunk
    number: int
    cipher: FeatureChunkCipher
    first: int


@dataclass
class _Ranking:
    """The chunks of one query on their way through the KMC: one in memory at a time."""

    kmc: Kmc
    reader: CandidatesReader
    query: Query
    owners: Mapping[str, EnrolledOwner]
    manifests: Sequence[FeatureManifest]
    memory: bytearray = field(default_factory=bytearray)  # of the chunk that is open
    opened: list[_Chunk] = field(default_factory=list)
    left_out: list[tuple[str, int, MippError]] = field(default_factory=list)

    @cached_property
    def _firsts(self) -> list[int]:
        return [chunk.first for chunk in self.opened]  # asked for once all chunks went by

    @property
    def _parameters(self) -> Parameters:
        return self.kmc.directory.deployment.parameters

    def rank(self, decoys: int, progress: Progress) -> Ranking:
        """Rank all images; raises why the first chunk did not open if none does."""
        usk = self.query.open_usk(self.kmc.sealing_keys)
        codes = self.query.open_features(self.kmc.sealing_keys, self._parameters)
        total = sum(manifest.rows for manifest in self.manifests)
        count = min(self.query.candidates, max(1, total))
        nearest = Nearest(codes, count, self._parameters.levels)
        with progress("ranking", total, "image") as advance:
            for columns, first in self._chunks():
                nearest.add(columns, first)
                advance(columns.shape[1])
        if self.left_out and not self.opened:
            raise self.left_out[0][2]
        matches: dict[int, list[int]] = {}
        for number, places in enumerate(nearest.places()):
            for place in places.tolist():
                matches.setdefault(place, []).append(number)
        mac = FeatureMac(usk, self.query.query_id, self._parameters)
        images = [*self._matching(matches, mac), *self._decoys(decoys, matches)]
        return Ranking(
            self.query.digest,
            digest_of_manifests(self.manifests),
            decoys,
            sum(rows for _, rows, _ in self.left_out),
            tuple(sorted(images, key=lambda image: image.row)),
        )

    def _chunks(self) -> Iterator[tuple[Codes, int]]:
        """Yield the codes of each chunk that opens, shape (l, rows), and the place of its first image."""
        number, first = 0, 0
        for manifest in self.manifests:
            for chunk in manifest.chunks:
                try:
                    opened = _Chunk(manifest.owner, chunk, number, self._cipher(manifest.owner, chunk), first)
                    columns = self._open(opened)
                except (TamperedError, MissingKeyError, MalformedError) as error:
                    self.left_out.append((manifest.owner, chunk.rows, error))
                else:
                    self.opened.append(opened)
                    yield columns, first
                    first += chunk.rows
                number += 1

    def _cipher(self, owner: str, chunk: LiveChunk) -> FeatureChunkCipher:
        keys = self.owners[owner].image_keys
        if chunk.key_id not in keys:
            raise MissingKeyError(
                f"holds features of {owner!r} under a key that was not enrolled",
                hint="the owner sends a new enrolment.h5: mipp kmc enroll KMC enrolment.h5",
            )
        deployment = self.kmc.directory.deployment
        return FeatureChunkCipher(
            keys[chunk.key_id], deployment.fingerprint, owner, chunk.place.upload, self._parameters
        )

    def _open(self, chunk: _Chunk) -> Codes:
        encrypted, live = self.reader.chunk(chunk.number), chunk.chunk
        if len(self.memory) < len(encrypted):
            self.memory = bytearray(len(encrypted))
        return chunk.cipher.decrypt(encrypted, live.place.number, live.version, live.rows, self.memory)

    def _matching(self, matches: Mapping[int, list[int]], mac: FeatureMac) -> Iterator[RankedImage]:
        """Yield the images that match, each chunk opened again once."""
        open_number, columns = -1, np.empty((0, 0), dtype=np.uint8)
        for place in sorted(matches):
            chunk, row = self._located(place)
            if chunk.number != open_number:
                open_number, columns = chunk.number, self._open(chunk)
            feature = mac.of(columns[:, place - chunk.first])
            yield RankedImage(row, chunk.chunk.key_id, tuple(matches[place]), feature)

    def _decoys(self, count: int, matches: Mapping[int, list[int]]) -> Iterator[RankedImage]:
        """Yield ``count`` images that match nothing, drawn evenly, or all if there are fewer."""
        total = self.opened[-1].first + self.opened[-1].chunk.rows if self.opened else 0
        drawn = secrets.SystemRandom().sample(range(total), min(total, count + len(matches)))
        for place in [place for place in drawn if place not in matches][:count]:
            chunk, row = self._located(place)
            yield RankedImage(row, chunk.chunk.key_id)

    def _located(self, place: int) -> tuple[_Chunk, SelectedRow]:
        chunk = self.opened[int(np.searchsorted(self._firsts, place, side="right")) - 1]
        live = chunk.chunk
        return chunk, SelectedRow(chunk.owner, live.place, place - chunk.first, live.version)

    def warnings(self) -> list[str]:
        """Say of each owner how many images had features that did not open, and why the first had."""
        counts: dict[str, int] = {}
        first: dict[str, MippError] = {}
        for owner, rows, error in self.left_out:
            counts[owner] = counts.get(owner, 0) + rows
            first.setdefault(owner, error)
        return [f"left out images of {owner} ({counts[owner]}): {first[owner].message}" for owner in first]
