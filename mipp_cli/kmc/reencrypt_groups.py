"""The KMC's main step in scheme `exact`: the groups that the cloud brought become the user's answer.

The answer has a fixed shape: for each selected group in order as many images as matched in it, each of the
length recorded for that group. What is bad, missing or withdrawn is random bytes of that length, and only
the sealed manifest says which are real.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from mipp_cli.containers.base.header import Header
from mipp_cli.containers.messages.manifest import Manifest, ManifestMatch, SearchedOwner
from mipp_cli.containers.messages.reencrypted import AnswerCipher, write_reencrypted
from mipp_cli.containers.messages.searched import missing_at_cloud
from mipp_cli.containers.messages.selection import GroupsReader, open_groups
from mipp_cli.containers.messages.upload import UploadCipher
from mipp_cli.errors import (
    MalformedError,
    MippError,
    NotAuthorisedError,
    ReplayedError,
    TamperedError,
    errors_at,
)
from mipp_cli.kmc.kmc import EnrolledOwner, Kmc
from mipp_cli.kmc.ranking import RANKINGS_FOLDER, RankedGroup, Ranking, read_ranking
from mipp_cli.kmc.reencrypt_sums import check_known_cloud
from mipp_cli.kmc.store.index import StoreIndex
from mipp_cli.kmc.store.store import FeatureStore
from mipp_cli.progress import Advance, Progress, silent
from mipp_cli.report import Output, Report
from mipp_cli.scheme.encoding import length_prefixed, name_digest


def reencrypt_groups(
    kmc: Kmc, results: Path, output: Path, *, force: bool = False, progress: Progress = silent
) -> Report:
    """Re-encrypt what matched among the groups of ``results`` for the user who asked, and nobody else.

    Authorisation and liveness are checked again, row by row. Every row of every group is compared with the
    digest that its owner gave, and decrypted, matched or not: what the user is told of bad and missing
    rows must not depend on that. Raises NotAuthorisedError for a cloud that was not enrolled, or that the
    selection was not for; MalformedError for a selection that was not made here, or rows outside it;
    ReplayedError for a second different answer to a selection.
    """
    deployment = kmc.directory.deployment
    with kmc.directory.lock(shared=True), errors_at(results):
        rankings: list[Ranking] = []
        reader = open_groups(
            results, deployment.fingerprint, lambda header: rankings.append(_ranking(kmc, header))
        )
        with reader.container:
            ranking = rankings[0]
            if len(reader.places) and int(reader.places[-1]) >= len(ranking.groups):
                raise MalformedError("holds images of groups that were not selected")
            cipher = AnswerCipher(
                ranking.open_usk(kmc), deployment.fingerprint, ranking.user, ranking.query_id
            )
            step = _Answer(kmc, ranking, reader, cipher)
            with progress("re-encrypting", len(reader.places), "image") as advance:
                write_reencrypted(
                    output,
                    kmc.directory.sender,
                    ranking.query_id,
                    step.images(advance),
                    step.sealed_manifest,
                    force=force,
                )
    return step.report(output)


def _ranking(kmc: Kmc, header: Header) -> Ranking:
    """Return what was remembered of the selection that is answered, from the cloud that it was for."""
    check_known_cloud(kmc, header)
    ranking = read_ranking(kmc.directory, header.number)
    if ranking is None:
        raise MalformedError(
            "answers a selection that this KMC did not make",
            hint="rank the query here first: mipp kmc rank KMC query.h5 -o selection.h5",
        )
    if not hmac.compare_digest(ranking.cloud, header.sender_key):
        raise NotAuthorisedError(
            "comes from another cloud than the one that was asked", hint="bring the selection to that cloud"
        )
    return ranking


def _answer_record(ranking: Ranking) -> str:
    return f"{ranking.number}.answer"


class _Row(NamedTuple):
    """A row of a group: SHA-256 of its name; its place in the answer, if it matches; and if it was brought,
    its number in the results and its name.
    """

    place: int
    name: bytes
    position: int | None
    number: int | None
    text: str


@dataclass
class _OwnerState:
    """An owner whose groups were selected, as the KMC knows it now.

    ``owner`` is None if the user is not authorised any more; ``unread`` says that what is kept of the owner
    is damaged, ``damaged`` of which uploads blocks are.
    """

    owner: EnrolledOwner | None = None
    store: FeatureStore | None = None
    index: StoreIndex | None = None
    unread: bool = False
    bad: int = 0
    missing: int = 0
    withdrawn: int = 0
    uploads: set[int] = field(default_factory=set)
    damaged: set[int] = field(default_factory=set)

    def key(self, upload: int) -> bytes | None:
        """Return the SK that an upload is under, if it is held."""
        message = self.index.message(upload) if self.index else None
        return self.owner.image_keys.get(message.key_id) if self.owner and message else None

    def live(self, group: RankedGroup) -> dict[bytes, bytes] | None:
        """Return what images of a group are live, by SHA-256 of their names; None if that is damaged."""
        if self.unread:
            return None
        if self.store is None or self.index is None:
            return {}
        try:
            table = self.store.group(self.index, group.ref.upload, group.ref.group)
        except MippError:
            self.damaged.add(group.ref.upload)
            return None
        return {row["name"].tobytes(): row["image"].tobytes() for row in table}


@dataclass
class _Answer:
    """The rows of one answer on their way from SK to USK."""

    kmc: Kmc
    ranking: Ranking
    reader: GroupsReader
    cipher: AnswerCipher
    digest: str = ""
    _real: set[int] = field(default_factory=set)
    _owners: dict[str, _OwnerState] = field(default_factory=dict)

    def images(self, advance: Advance) -> Iterator[bytes]:
        """Yield NER of each match of each group, or random bytes of its length."""
        seen = hashlib.sha256()
        for place, group in enumerate(self.ranking.groups):
            yield from self._group(place, group, seen, advance)
        self.digest = seen.hexdigest()

    def _group(
        self, place: int, group: RankedGroup, seen: hashlib._Hash, advance: Advance
    ) -> Iterator[bytes]:
        """Yield what matches of a group, after every row of it was looked at; by SHA-256 of the names."""
        state = self._state(group.ref.owner)
        live = state.live(group)
        rows = self.reader.rows_at(place)
        if len(rows) >= 2 * self.kmc.directory.deployment.parameters.protocol.group_size:
            raise MalformedError("holds more rows of a group than a group has")
        names = self.reader.names(rows) if len(rows) else []
        brought = {name_digest(name): (row, name) for row, name in zip(rows, names, strict=True)}
        positions = {name: self.ranking.places[place] + n for n, name in enumerate(group.matched)}
        for name in sorted({*(live or {}), *brought, *positions}):
            row = _Row(place, name, positions.get(name), *brought.get(name, (None, "")))
            ner = self._row(state, group, live, row, seen)
            if row.number is not None:
                advance(1)
            if ner is not None:
                yield ner

    def _row(
        self,
        state: _OwnerState,
        group: RankedGroup,
        live: dict[bytes, bytes] | None,
        row: _Row,
        seen: hashlib._Hash,
    ) -> bytes | None:
        """Return what the answer has of one row, None if it does not match.

        All rows are counted and decrypted alike. One image is in memory at a time.
        """
        ew = image = None
        if row.number is not None:
            ew = self.reader.encrypted_image(row.number)
            image = hashlib.sha256(ew).digest()
            seen.update(length_prefixed(row.place, row.text, image))
        plaintext = None
        if live is None:
            pass  # what it should be cannot be told: it is neither bad nor missing
        elif row.name not in live:
            state.withdrawn += row.position is not None
        elif ew is None:
            state.missing += 1
            state.uploads.add(group.ref.upload)
        else:
            as_sent = image == live[row.name] and len(ew) == group.length
            plaintext = self._plaintext(state, group, row, ew if as_sent else None)
        if row.position is None:
            return None
        if plaintext is None:
            return os.urandom(group.length)
        del ew
        self._real.add(row.position)
        return self.cipher.encrypt_image(plaintext, row.position)

    def _plaintext(self, state: _OwnerState, group: RankedGroup, row: _Row, ew: bytes | None) -> bytes | None:
        """Return the padded plaintext of a row, or None, counted as bad, if it is not what its owner sent."""
        key = state.key(group.ref.upload)
        if key is None:
            state.withdrawn += row.position is not None  # the owner forgot it since
            return None
        deployment = self.kmc.directory.deployment.fingerprint
        if ew is not None:
            with suppress(TamperedError):
                cipher = UploadCipher(key, deployment, group.ref.owner, group.ref.upload)
                return cipher.decrypt(ew, row.text)
        state.bad += 1
        return None

    def _state(self, name: str) -> _OwnerState:
        if name not in self._owners:
            self._owners[name] = self._found(name)
        return self._owners[name]

    def _found(self, name: str) -> _OwnerState:
        """Return an owner as the KMC knows it: damage of one must not spoil the answer of all others."""
        user = (self.ranking.user, self.ranking.user_key)
        try:
            owner = self.kmc.owner(name) if self.kmc.authorises(name, user) else None
            if owner is None:
                return _OwnerState()
            store = FeatureStore.of(self.kmc, owner)
            return _OwnerState(owner, store, store.index())
        except MippError:
            return _OwnerState(unread=True)

    def sealed_manifest(self) -> bytes:
        """Return the sealed manifest, once all images went by, and remember what was answered.

        Raises ReplayedError if the selection was answered with other rows before: nothing is written then.
        It is remembered before the answer is in place: whatever ends the command there, the same results
        can be given again, and others cannot.
        """
        directory = self.kmc.directory
        recorded = directory.recorded(RANKINGS_FOLDER, _answer_record(self.ranking))
        if recorded is not None and not hmac.compare_digest(recorded.encode(), self.digest.encode()):
            raise ReplayedError(
                "answers a selection that was answered with other images before",
                hint="a selection is answered once: ask the user to make a new query",
            )
        directory.record(RANKINGS_FOLDER, _answer_record(self.ranking), self.digest)
        ranking = self.ranking
        places = [ranking.places[match.group] + match.name for match in ranking.matches]
        matches = tuple(
            ManifestMatch(match.query, place, ranking.groups[match.group].ref.owner, match.distance)
            for match, place in zip(ranking.matches, places, strict=True)
            if place in self._real
        )
        manifest = Manifest(
            ranking.query_digest, ranking.places[-1], self._searched(), matches, ranking.left_out
        )
        return self.cipher.seal_manifest(manifest.pack(*ranking.room))

    def _searched(self) -> tuple[SearchedOwner, ...]:
        return tuple(
            replace(
                owner,
                bad=state.bad,
                missing=state.missing,
                withdrawn=state.withdrawn,
                uploads=tuple(sorted(state.uploads)),
                gaps=tuple(sorted({*owner.gaps, *state.damaged})),
                unread=owner.unread or state.unread,
            ).shortened()
            if (state := self._owners.get(owner.name)) is not None
            else owner.shortened()
            for owner in self.ranking.owners
        )

    def report(self, output: Path) -> Report:
        """Return what the KMC's operator is told; how many images matched is the user's to know."""
        states = self._owners.values()
        counts = {
            "groups": len(self.ranking.groups),
            "images brought": len(self.reader.places),
            "bad": sum(state.bad for state in states),
            "missing": sum(state.missing for state in states),
            "withdrawn": sum(state.withdrawn for state in states),
        }
        warnings = list(self.kmc.directory.warnings)
        for name, state in sorted(self._owners.items()):
            if state.missing:
                behind = any(owner.gaps for owner in self.ranking.owners if owner.name == name)
                uploads = sorted(state.uploads)
                warnings.append(missing_at_cloud(name, state.missing, uploads, kmc_is_behind=behind))
            if state.bad:
                warnings.append(f"{state.bad} images of {name} are not as the owner sent them")
            if state.unread or state.damaged:
                warnings.append(
                    f"what is kept of {name} is damaged, and images of it are left out: mipp kmc check says "
                    "what mends it; give these results again then"
                )
        return Report((Output(output, "reencrypted"),), counts, tuple(warnings))
