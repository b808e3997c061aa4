"""The KMC's main step in the sum schemes: ImageDec under the owners' SKs, ImageEnc under the user's USK."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mipp_cli.containers.base.header import Header
from mipp_cli.containers.messages.manifest import Manifest, ManifestMatch, SearchedOwner
from mipp_cli.containers.messages.query import Query, parse_query
from mipp_cli.containers.messages.reencrypted import AnswerCipher, write_reencrypted
from mipp_cli.containers.messages.results import ImageRef, ResultsReader, open_results
from mipp_cli.containers.messages.upload import UploadCipher
from mipp_cli.errors import (
    MalformedError,
    MippError,
    MissingKeyError,
    NotAuthorisedError,
    ReplayedError,
    TamperedError,
    errors_at,
)
from mipp_cli.kmc.kmc import EnrolledOwner, Kmc
from mipp_cli.progress import Advance, Progress, silent
from mipp_cli.report import Output, Report
from mipp_cli.workdir.replay import query_record

QUERIES_FOLDER = "queries"


def reencrypt_results(
    kmc: Kmc, results: Path, output: Path, *, force: bool = False, progress: Progress = silent
) -> Report:
    """Re-encrypt the images of ``results`` for the user who asked, and nobody else (NER).

    The authorisation is checked again here, image by image, whatever the cloud checked. The same
    results may be given again, but a query selects once: the cloud must not learn, nor the user get, more
    by answering it again with other images. An image that does not open under its owner's SK is left out
    with a warning: one hostile owner must not spoil the answers of all others.

    Raises NotAuthorisedError for a cloud that was not enrolled, for a user whom no owner enrolled, and
    for an image whose owner did not authorise the user; ReplayedError for another query, or another
    selection, under a known query id; TamperedError or MissingKeyError if not one of the images opens.
    """
    deployment = kmc.directory.deployment
    with kmc.directory.lock(shared=True), errors_at(results):
        reader = open_results(results, deployment.fingerprint, lambda header: check_known_cloud(kmc, header))
        with reader.container:
            query = parse_query(reader.query_octets, deployment.parameters, deployment.fingerprint)
            if query.query_id != reader.container.header.number:
                raise MalformedError("holds another query than the one it answers")
            check_matches(query, reader)
            check_record(kmc, query, reader)
            owners = check_authorisation(kmc, query, reader)
            usk = query.open_usk(kmc.sealing_keys)
            cipher = AnswerCipher(usk, deployment.fingerprint, query.header.sender, query.query_id)
            step = _Reencryption(query, reader, owners, cipher, deployment.fingerprint)
            with progress("re-encrypting", len(reader.images), "image") as advance:
                write_reencrypted(
                    output,
                    kmc.directory.sender,
                    query.query_id,
                    step.images(advance),
                    lambda: cipher.seal_manifest(step.manifest(query.digest)),
                    force=force,
                )
        content = f"{query.digest.hex()} {selection_digest(reader)}"
        kmc.directory.record(QUERIES_FOLDER, query_record(query.header), content, output)
    kept = set(step.kept)
    matches = sum(match.image in kept for match in reader.matches)
    counts = {"images": len(step.kept), "matches": matches, "left out": len(step.left_out)}
    warnings = (*deployment.parameters.warnings, *step.warnings())
    return Report((Output(output, "reencrypted"),), counts, warnings)


def check_known_cloud(kmc: Kmc, header: Header) -> None:
    """Refuse what comes from a cloud that was not enrolled; raises NotAuthorisedError."""
    if not kmc.knows_cloud(header.sender_key):
        raise NotAuthorisedError(
            "comes from a cloud that this KMC does not know",
            hint="enrol the cloud first: mipp kmc enroll KMC cloud.pub",
        )


def check_matches(query: Query, reader: ResultsReader) -> None:
    """Refuse matches that do not fit their query: too many, or of query images that there are not."""
    asked = [0] * query.images
    for match in reader.matches:
        if match.query >= len(asked):
            raise MalformedError("matches a query image that there is not")
        asked[match.query] += 1
    if any(count > query.candidates for count in asked):
        raise MalformedError(
            f"holds more matches than the {query.candidates} that the query asks for",
            hint="the cloud answered more than it was asked; nothing was re-encrypted",
        )
    if {match.image for match in reader.matches} != set(range(len(reader.images))):
        raise MalformedError("holds images that match nothing")


def check_record(kmc: Kmc, query: Query, reader: ResultsReader) -> None:
    """Refuse another query, or another answer, under an id that was answered; raises ReplayedError."""
    recorded = kmc.directory.recorded(QUERIES_FOLDER, query_record(query.header))
    if recorded is None:
        return
    known_query, _, known_selection = recorded.partition(" ")
    if not hmac.compare_digest(known_query.encode(), query.digest.hex().encode()):
        raise ReplayedError(
            "holds a query under an id that another query of the same user had",
            hint="ask the user for a new query",
        )
    if not hmac.compare_digest(known_selection.encode(), selection_digest(reader).encode()):
        raise ReplayedError(
            "answers a query that was answered with other images before",
            hint="a query is answered once: ask the user to make a new query",
        )


def selection_digest(reader: ResultsReader) -> str:
    """Return a digest of what results select: owner and name of each image, and what it matches."""
    images = [(ref.owner, ref.name) for ref in reader.images]
    matches = sorted((each.query, *images[each.image]) for each in reader.matches)
    return hashlib.sha256(json.dumps(matches).encode()).hexdigest()


class Authorising(NamedTuple):
    """The owners who authorised a user, and what is damaged of other owners, who cannot be asked.

    ``unread`` are those of the latter of whom the user is told: who did authorise the user, or are named.
    """

    owners: Mapping[str, EnrolledOwner]
    damaged: Mapping[str, MippError]
    unread: frozenset[str] = frozenset()


def check_user(kmc: Kmc, header: Header) -> tuple[list[str], dict[str, MippError]]:
    """Return the owners who authorised a user, and what is damaged of others, who cannot be asked.

    Raises NotAuthorisedError, or the damage if nobody else is left.
    """
    names, damaged = kmc.authorising((header.sender, header.sender_key))
    if not names and damaged:
        raise next(iter(damaged.values()))
    if not names:
        raise NotAuthorisedError(
            f"no enrolled owner authorised the user {header.sender!r} with this key",
            hint="the owner runs: mipp owner authorize, then the KMC: mipp kmc enroll",
        )
    return names, damaged


def authorising_owners(kmc: Kmc, query: Query) -> Authorising:
    """Return the owners who authorised the user who asks, of those whom the query names if it names some.

    Raises NotAuthorisedError if there is none.
    """
    user, (names, found) = query.header.sender, check_user(kmc, query.header)
    damaged = {name: error for name, error in found.items() if query.names_owner(name)}
    unread = query.owners & damaged.keys()
    owners: dict[str, EnrolledOwner] = {}
    for name in filter(query.names_owner, names):
        try:
            owner = kmc.owner(name)
        except MippError as error:
            damaged[name] = error
            unread |= {name}
            continue
        if owner is not None:
            owners[name] = owner
    if not owners and damaged:
        raise next(iter(damaged.values()))
    if not owners:
        raise NotAuthorisedError(
            f"none of the owners that the query names authorised the user {user!r}",
            hint="leave out --owner, or ask these owners to authorise the user",
        )
    return Authorising(owners, damaged, unread)


def not_searched(query: Query, searched: Collection[str]) -> tuple[SearchedOwner, ...]:
    """Return the owners whom a query names and who are not among those ``searched``."""
    return tuple(SearchedOwner(name) for name in sorted(query.owners) if name not in searched)


def check_authorisation(kmc: Kmc, query: Query, reader: ResultsReader) -> Mapping[str, EnrolledOwner]:
    """Return the owners who authorised the user; raises NotAuthorisedError if an image is of another."""
    (owners, damaged, _), user = authorising_owners(kmc, query), query.header.sender
    for ref in reader.images:
        if ref.owner in damaged:
            raise damaged[ref.owner]
        if ref.owner not in owners:
            raise NotAuthorisedError(
                f"holds an image of {ref.owner!r}, who did not authorise the user {user!r}",
                hint="was the user revoked, or does the cloud not know it yet? Search again",
            )
    return owners


@dataclass
class _Reencryption:
    """The images of one answer on their way from SK to USK: which were kept, and which did not open."""

    query: Query
    reader: ResultsReader
    owners: Mapping[str, EnrolledOwner]
    cipher: AnswerCipher
    deployment: str
    kept: list[int] = field(default_factory=list)
    left_out: list[tuple[str, MippError]] = field(default_factory=list)

    def images(self, advance: Advance) -> Iterator[bytes]:
        """Yield NER of each image that matches and opens; raises why the first did not if none does."""
        for number in sorted({match.image for match in self.reader.matches}):
            ref, encrypted = self.reader.images[number], self.reader.encrypted_image(number)
            try:
                plaintext = self._decrypted(encrypted, ref)
            except (TamperedError, MissingKeyError) as error:
                self.left_out.append((ref.owner, error))
            else:
                self.kept.append(number)
                yield self.cipher.encrypt_image(plaintext, len(self.kept) - 1)
            advance(1)
        if self.left_out and not self.kept:
            raise self.left_out[0][1]

    def _decrypted(self, encrypted: bytes, ref: ImageRef) -> bytes:
        image_key = _image_key(self.owners[ref.owner], ref)
        return UploadCipher(image_key, self.deployment, ref.owner, ref.upload).decrypt(encrypted, ref.name)

    def manifest(self, query_digest: bytes) -> bytes:
        """Return what the answer consists of, once all images went by."""
        places = {number: place for place, number in enumerate(self.kept)}
        refs = self.reader.images
        matches = tuple(
            ManifestMatch(each.query, places[each.image], refs[each.image].owner)
            for each in self.reader.matches
            if each.image in places
        )
        bad = Counter(owner for owner, _ in self.left_out)
        searched = {**dict.fromkeys(sorted({ref.owner for ref in refs})), **self.reader.searched}
        owners = tuple(
            SearchedOwner(owner, images or 0, bad=bad[owner])
            for owner, images in searched.items()
            if owner in self.owners
        )
        owners += not_searched(self.query, self.owners)
        manifest = Manifest(query_digest.hex(), len(self.kept), owners, matches)
        return manifest.pack(len(matches), len(owners))

    def warnings(self) -> list[str]:
        """Say of each owner how many images were left out, and why the first was."""
        first: dict[str, MippError] = {}
        for owner, error in self.left_out:
            first.setdefault(owner, error)
        counts = Counter(owner for owner, _ in self.left_out)
        return [f"left out images of {owner} ({counts[owner]}): {first[owner].message}" for owner in first]


def _image_key(owner: EnrolledOwner, ref: ImageRef) -> bytes:
    if ref.key_id not in owner.image_keys:
        raise MissingKeyError(
            f"holds an image of {ref.owner!r} under a key that was not enrolled",
            hint="the owner sends a new enrolment.h5: mipp kmc enroll KMC enrolment.h5",
        )
    return owner.image_keys[ref.key_id]
