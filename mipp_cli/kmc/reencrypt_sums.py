"""Re-encryption in the sum schemes: ImageDec under the owners' SKs, ImageEnc under the user's USK."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mipp_cli.containers.messages.manifest import Manifest, ManifestMatch, SearchedOwner
from mipp_cli.containers.messages.query import Query, parse_query
from mipp_cli.containers.messages.reencrypted import AnswerCipher
from mipp_cli.containers.messages.results import ImageRef, ResultsReader, open_results
from mipp_cli.containers.messages.upload import UploadCipher
from mipp_cli.errors import MalformedError, MippError, MissingKeyError, NotAuthorisedError, TamperedError
from mipp_cli.kmc.kmc import EnrolledOwner, Kmc
from mipp_cli.kmc.users import authorising_owners, not_searched
from mipp_cli.progress import Advance
from mipp_cli.report import Output, Report
from mipp_cli.workdir.replay import query_record

QUERIES_FOLDER = "queries"


@contextmanager
def opened_results(kmc: Kmc, results: Path) -> Iterator[ResultsAnswer]:
    """Open ``results``, to re-encrypt it for the user who sent the query (NER).

    Authorisation is checked again, image by image, independently of the cloud. Raises NotAuthorisedError for
    a cloud that is not enrolled, for a user whom no owner authorised, and for an image whose owner did not
    authorise the user.
    """
    deployment = kmc.directory.deployment
    reader = open_results(results, deployment.fingerprint, kmc.check_cloud)
    with reader.container:
        query = parse_query(reader.query_data, deployment.parameters, deployment.fingerprint)
        if query.query_id != reader.container.header.number:
            raise MalformedError("contains another query than the one it answers")
        _check_matches(query, reader)
        owners = _check_authorisation(kmc, query, reader)
        usk = query.open_usk(kmc.sealing_keys)
        cipher = AnswerCipher(usk, deployment.fingerprint, query.header.sender, query.query_id)
        yield ResultsAnswer(kmc, query, reader, owners, cipher)


def _check_matches(query: Query, reader: ResultsReader) -> None:
    """Refuse matches that do not fit their query: too many, or for query images that do not exist."""
    asked = Counter(match.query for match in reader.matches)
    if any(number >= query.images for number in asked):
        raise MalformedError("contains a match for a query image that does not exist")
    if any(count > query.candidates for count in asked.values()):
        raise MalformedError(
            f"contains more matches than the {query.candidates} that the query asks for",
            hint="ask the cloud to search again; nothing was re-encrypted",
        )
    if {match.image for match in reader.matches} != set(range(len(reader.images))):
        raise MalformedError("contains images without a match")


def _check_authorisation(kmc: Kmc, query: Query, reader: ResultsReader) -> Mapping[str, EnrolledOwner]:
    """Return the owners who authorised the user; raises NotAuthorisedError for an image of any other."""
    (owners, damaged, _), user = authorising_owners(kmc, query), query.header.sender
    for ref in reader.images:
        if ref.owner in damaged:
            raise damaged[ref.owner]
        if ref.owner not in owners:
            raise NotAuthorisedError(
                f"contains an image of {ref.owner!r}, who has not authorised the user {user!r}",
                hint="if the owner revoked the user, enrol the new members.h5 at the cloud, and search again",
            )
    return owners


@dataclass
class ResultsAnswer:
    """The images of one answer on their way from SK to USK: those kept, and those that could not be
    decrypted.

    An image that cannot be decrypted under its owner's SK is left out with a warning: one hostile owner must
    not spoil the answers of all others.
    """

    kmc: Kmc
    query: Query
    reader: ResultsReader
    owners: Mapping[str, EnrolledOwner]
    cipher: AnswerCipher
    kept: list[int] = field(default_factory=list)
    left_out: list[tuple[str, MippError]] = field(default_factory=list)

    @property
    def brought(self) -> int:
        """The number of images that the cloud returned."""
        return len(self.reader.images)

    def images(self, advance: Advance) -> Iterator[bytes]:
        """Yield NER of each image that can be decrypted; if there is none, raise the error of the first."""
        for number, ref in enumerate(self.reader.images):
            try:
                plaintext = self._decrypted(self.reader.encrypted_image(number), ref)
            except (TamperedError, MissingKeyError) as error:
                self.left_out.append((ref.owner, error))
            else:
                self.kept.append(number)
                yield self.cipher.encrypt_image(plaintext, len(self.kept) - 1)
            advance(1)
        if self.left_out and not self.kept:
            raise self.left_out[0][1]

    def _decrypted(self, encrypted: bytes, ref: ImageRef) -> bytes:
        keys = self.owners[ref.owner].image_keys
        if ref.key_id not in keys:
            raise MissingKeyError(
                f"contains an image of {ref.owner!r} under a key that is not enrolled",
                hint="ask the owner for a new enrolment.h5, and run: mipp kmc enroll KMC enrolment.h5",
            )
        deployment = self.kmc.directory.deployment.fingerprint
        return UploadCipher(keys[ref.key_id], deployment, ref.owner, ref.upload).decrypt(encrypted, ref.name)

    def manifest(self) -> bytes:
        """Return the manifest of the answer after all images, and record it; raises ReplayedError."""
        refs = self.reader.images
        selected = sorted(
            (each.query, refs[each.image].owner, refs[each.image].name) for each in self.reader.matches
        )
        digest = hashlib.sha256(self.query.digest + json.dumps(selected).encode()).hexdigest()
        self.kmc.remember_answer(QUERIES_FOLDER, query_record(self.query.header), digest)
        places = {number: place for place, number in enumerate(self.kept)}
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
        manifest = Manifest(self.query.digest.hex(), len(self.kept), owners, matches)
        return manifest.pack(len(matches), len(owners))

    def report(self, output: Path) -> Report:
        """Return the report for the KMC's operator: per owner, how many images were left out and why."""
        kept, counts = set(self.kept), Counter(owner for owner, _ in self.left_out)
        first = dict(reversed(self.left_out))
        warnings = [f"left out images of {name} ({counts[name]}): {first[name].message}" for name in counts]
        matches = sum(match.image in kept for match in self.reader.matches)
        return Report(
            (Output(output, "reencrypted"),),
            {"images": len(kept), "matches": matches, "left out": len(self.left_out)},
            (*self.kmc.directory.warnings, *warnings),
        )
