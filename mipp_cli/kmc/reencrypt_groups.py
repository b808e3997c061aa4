"""Re-encryption in scheme `exact`: turns the groups that the cloud returned into the user's answer.

The answer has a fixed shape: for each selected group in order, one image per match, each of the length
recorded for that group. Corrupted, missing and withdrawn images are replaced by random bytes of that length;
only the sealed manifest says which images are real.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from mipp_cli.containers.base.header import Header
from mipp_cli.containers.messages.manifest import Manifest, ManifestMatch, SearchedOwner
from mipp_cli.containers.messages.reencrypted import AnswerCipher
from mipp_cli.containers.messages.searched import missing_at_cloud
from mipp_cli.containers.messages.selection import GroupsReader, open_groups
from mipp_cli.containers.messages.upload import UploadCipher
from mipp_cli.errors import MalformedError, MippError, NotAuthorisedError, TamperedError
from mipp_cli.kmc.kmc import EnrolledOwner, Kmc
from mipp_cli.kmc.ranking import RANKINGS_FOLDER, RankedGroup, Ranking, read_ranking
from mipp_cli.kmc.store import FeatureStore
from mipp_cli.kmc.store_index import StoreIndex
from mipp_cli.progress import Advance
from mipp_cli.report import Output, Report
from mipp_cli.scheme.encoding import length_prefixed, name_digest


@contextmanager
def opened_groups(kmc: Kmc, results: Path) -> Iterator[GroupsAnswer]:
    """Open ``results``, to re-encrypt its matching rows for the user who sent the query.

    Raises NotAuthorisedError for a cloud that is not enrolled or that the selection was not for;
    MalformedError for an unknown selection, or for rows outside it.
    """
    deployment, rankings = kmc.directory.deployment.fingerprint, list[Ranking]()
    reader = open_groups(results, deployment, lambda header: rankings.append(_ranking(kmc, header)))
    with reader.container:
        ranking = rankings[0]
        if len(reader.places) and int(reader.places[-1]) >= len(ranking.groups):
            raise MalformedError("contains images of groups that were not selected")
        usk = kmc.sealing_keys.open(ranking.sealed_usk, ranking.sealing)
        cipher = AnswerCipher(usk, deployment, ranking.user, ranking.query_id)
        yield GroupsAnswer(kmc, ranking, reader, cipher)


def _ranking(kmc: Kmc, header: Header) -> Ranking:
    """Return the stored ranking of the selection that is answered, checking the cloud it was for."""
    kmc.check_cloud(header)
    ranking = read_ranking(kmc.directory, header.number)
    if ranking is None:
        raise MalformedError(
            "answers a selection that this KMC did not make",
            hint="rank the query here first: mipp kmc rank KMC query.h5 -o selection.h5",
        )
    if not hmac.compare_digest(ranking.cloud, header.sender_key):
        raise NotAuthorisedError(
            "comes from another cloud than the selection was for", hint="give the selection to that cloud"
        )
    return ranking


@dataclass
class _OwnerState:
    """An owner whose groups were selected, as the KMC knows it now.

    ``owner`` is None if the user is no longer authorised. ``unread`` is set if the owner's records are
    damaged; ``damaged`` are the uploads with damaged blocks.
    """

    owner: EnrolledOwner | None = None
    store: FeatureStore | None = None
    index: StoreIndex = field(default_factory=StoreIndex)
    unread: bool = False
    bad: int = 0
    missing: int = 0
    withdrawn: int = 0
    uploads: set[int] = field(default_factory=set)
    damaged: set[int] = field(default_factory=set)

    def key(self, upload: int) -> bytes | None:
        """Return the SK of an upload, or None if the KMC lacks it."""
        message = self.index.message(upload)
        return self.owner.image_keys.get(message.key_id) if self.owner and message else None

    def live(self, group: RankedGroup) -> dict[bytes, bytes] | None:
        """Return the live images of a group, by SHA-256 of their names; None if the record is damaged."""
        if self.unread:
            return None
        if self.store is None:
            return {}
        try:
            table = self.store.group(self.index, group.ref.upload, group.ref.group)
        except MippError:
            self.damaged.add(group.ref.upload)
            return None
        return {row["name"].tobytes(): row["image"].tobytes() for row in table}


@dataclass
class GroupsAnswer:
    """The rows of one answer on their way from SK to USK.

    Authorisation and liveness are checked again, row by row. Every row of every group is compared with the
    owner's digest and decrypted, whether it matches or not: the counts of corrupted and missing rows that the
    user gets must not depend on that.
    """

    kmc: Kmc
    ranking: Ranking
    reader: GroupsReader
    cipher: AnswerCipher
    _seen: hashlib._Hash = field(default_factory=hashlib.sha256)
    _real: dict[int, str] = field(default_factory=dict)  # owner of each real image, by place in the answer
    _owners: dict[str, _OwnerState] = field(default_factory=dict)

    @property
    def brought(self) -> int:
        """The number of images that the cloud returned."""
        return len(self.reader.places)

    def images(self, advance: Advance) -> Iterator[bytes]:
        """Yield NER of each match of each group, or random bytes of its length."""
        for place, group in enumerate(self.ranking.groups):
            yield from self._group(place, group, advance)

    def _group(self, place: int, group: RankedGroup, advance: Advance) -> Iterator[bytes]:
        """Yield the matches of a group, sorted by SHA-256 of their names, one in memory at a time."""
        state, rows = self._state(group.ref.owner), self.reader.rows_at(place)
        if len(rows) >= 2 * self.kmc.directory.deployment.parameters.protocol.group_size:
            raise MalformedError("contains more rows of a group than the group has")
        live, names = state.live(group), self.reader.names(rows) if len(rows) else []
        brought = {name_digest(name): (row, name) for row, name in zip(rows, names, strict=True)}
        positions = {
            bytes.fromhex(name): self.ranking.places[place] + n for n, name in enumerate(group.matched)
        }
        for digest in sorted({*(live or {}), *brought, *positions}):
            row, name = brought.get(digest, (None, ""))
            ew = image = None
            if row is not None:
                ew = self.reader.encrypted_image(row)
                image = hashlib.sha256(ew).digest()
                self._seen.update(length_prefixed(place, name, image))
                advance(1)
            position, plaintext = positions.get(digest), None
            if live is None:
                pass  # its record is damaged: counted neither as corrupted nor as missing
            elif digest not in live or (ew is not None and state.key(group.ref.upload) is None):
                state.withdrawn += position is not None  # or the owner dropped the key meanwhile
            elif ew is None:
                state.missing += 1
                state.uploads.add(group.ref.upload)
            else:
                as_sent = image == live[digest] and len(ew) == group.length
                plaintext = self._plaintext(state, group, name, ew) if as_sent else None
                state.bad += plaintext is None
            del ew
            if position is not None and plaintext is not None:
                self._real[position] = group.ref.owner
                yield self.cipher.encrypt_image(plaintext, position)
            elif position is not None:
                yield os.urandom(group.length)

    def _plaintext(self, state: _OwnerState, group: RankedGroup, name: str, ew: bytes) -> bytes | None:
        """Return the padded plaintext of a row; None if it cannot be decrypted."""
        key, deployment = state.key(group.ref.upload), self.kmc.directory.deployment.fingerprint
        if key is not None:
            with suppress(TamperedError):
                return UploadCipher(key, deployment, group.ref.owner, group.ref.upload).decrypt(ew, name)
        return None

    def _state(self, name: str) -> _OwnerState:
        if name not in self._owners:
            self._owners[name] = self._found(name)
        return self._owners[name]

    def _found(self, name: str) -> _OwnerState:
        """Return an owner as the KMC knows it; damage of one owner must not spoil the answers of others."""
        user = (self.ranking.user, self.ranking.user_key)
        try:
            owner = self.kmc.owner(name) if self.kmc.authorises(name, user) else None
            if owner is None:
                return _OwnerState()
            store = FeatureStore.of(self.kmc, owner)
            return _OwnerState(owner, store, store.index())
        except MippError:
            return _OwnerState(unread=True)

    def manifest(self) -> bytes:
        """Return the manifest of the answer after all images, and record it; raises ReplayedError."""
        ranking = self.ranking
        self.kmc.remember_answer(RANKINGS_FOLDER, f"{ranking.number}.answer", self._seen.hexdigest())
        matches = tuple(
            ManifestMatch(match.query, match.image, self._real[match.image], match.distance)
            for match in ranking.matches
            if match.image in self._real
        )
        owners = tuple(map(self._searched, ranking.owners))
        manifest = Manifest(ranking.query_digest, ranking.places[-1], owners, matches, ranking.left_out)
        return manifest.pack(*ranking.room)

    def _searched(self, owner: SearchedOwner) -> SearchedOwner:
        if (state := self._owners.get(owner.name)) is not None:
            owner = replace(
                owner,
                bad=state.bad,
                missing=state.missing,
                withdrawn=state.withdrawn,
                uploads=tuple(sorted(state.uploads)),
                gaps=tuple(sorted({*owner.gaps, *state.damaged})),
                unread=owner.unread or state.unread,
            )
        return owner.shortened()

    def report(self, output: Path) -> Report:
        """Return the report for the KMC's operator; only the user learns the number of matches."""
        states = self._owners.values()
        counts = {
            "groups": len(self.ranking.groups),
            "images received": self.brought,
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
                warnings.append(
                    f"{state.bad} images of {name} do not match the owner's digests and are left out"
                )
            if state.unread or state.damaged:
                warnings.append(
                    f"the records of {name} are damaged, and some of its images are left out: repair them "
                    "(mipp kmc check says how), and run this command again"
                )
        return Report((Output(output, "reencrypted"),), counts, tuple(warnings))
