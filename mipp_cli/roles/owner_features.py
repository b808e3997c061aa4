"""What an owner's messages say of features: a row of EF and EFF each, or chunks and a manifest (`exact`)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain

from mipp_cli.containers.feature_columns import EncryptedChunk, FeatureChange
from mipp_cli.containers.upload import UploadWriter
from mipp_cli.errors import ConflictError, InvalidRequestError, MalformedError, MissingKeyError
from mipp_cli.roles.feature_ledger import FeatureLedger
from mipp_cli.roles.owner import Owner
from mipp_cli.roles.partial import Record
from mipp_cli.scheme.feature_chunks import ChunkPlace, FeatureChunkCipher, LiveChunk, chunk_bytes, chunk_rows
from mipp_cli.scheme.image_cipher import key_id
from mipp_cli.scheme.live_chunks import chunks_of_upload

_CHUNKS_AT_ONCE = 32  # whose images are looked up in the ledger in one pass

Append = Callable[[Record], None]


def feature_ledger(owner: Owner) -> FeatureLedger:
    """Return the files of features beside the owner's ledger."""
    return FeatureLedger(owner.ledger, owner.directory.deployment.parameters, owner.directory.sender)


@contextmanager
def appending(owner: Owner, upload: UploadWriter, number: int, *, replaces: bool) -> Iterator[Append]:
    """Give a function that appends an image to an upload; features are complete when the block ends.

    In scheme `exact` the codes are kept in the owner's directory first, then go out in chunks; with
    ``replaces``, what is left of the chunks that the images leave goes with them. To be left before the
    upload's ledger is in place.
    """
    parameters = owner.directory.deployment.parameters
    if not parameters.ranks_at_kmc:
        yield lambda record: upload.append(record.name, record.ew, record.ef, record.eff)
        return
    features = feature_ledger(owner)
    features.sweep()
    paths: list[str] = []

    def append(record: Record) -> None:
        upload.append_image(record.name, record.ew)
        codes.append(record.ef)
        if replaces:
            paths.append(record.path)

    with features.writing(number) as codes:
        yield append
    left = _without(owner, features, paths, number)
    own = chunks_of_upload(parameters, number, key_id(owner.image_key), codes.rows)
    manifest = features.write_manifest(number, [*left.chunks, *own])
    encrypted = chain(left.encrypted(), _encrypted_upload(owner, features, own))
    sizes = [chunk_bytes(parameters, chunk.rows) for chunk in (*left.touched, *own)]
    upload.write_features(FeatureChange(manifest, encrypted, sizes))


def refuse_unlisted(owner: Owner) -> None:
    """Refuse, in scheme `exact`, to name images that the ledger does not list; InvalidRequestError.

    Which chunk of features such an image is in, and what else is in it, is not known here.
    """
    if owner.directory.deployment.parameters.ranks_at_kmc:
        raise InvalidRequestError(
            "in scheme exact only images that the ledger lists can be deleted or replaced",
            path=owner.directory.path,
            hint="restore the newest backup of this directory; or the cloud removes the owner (mipp cloud "
            "remove), who comes back and sends everything again",
        )


def forget_features(owner: Owner, number: int) -> None:
    """Forget what was kept of features for a message that never got out."""
    if owner.directory.deployment.parameters.ranks_at_kmc:
        feature_ledger(owner).remove(number)


def refuse_out_of_order(owner: Owner, number: int) -> None:
    """Refuse, in scheme `exact`, to let a withdrawn message count again beside others; ConflictError.

    The cloud has applied it only where it applied what it was made on, and nothing that was made without it.
    """
    if not owner.directory.deployment.parameters.ranks_at_kmc:
        return
    features, messages = feature_ledger(owner), owner.ledger.messages()
    in_force = owner.ledger.in_force()
    if in_force and in_force[-1].number > number:
        raise ConflictError(
            f"{in_force[-1].number} was made without {number}: the cloud cannot have applied both",
            path=owner.directory.path,
            hint="withdraw first what was made without it",
        )
    most, again = chunk_rows(features.parameters), [each for each in messages if each.number == number]
    rows = Counter(
        ChunkPlace(image.upload, image.row // most) for image in owner.ledger.live([*in_force, *again])
    )
    if rows != {chunk.place: chunk.rows for chunk in features.chunks_after(number)}:
        raise ConflictError(
            f"{number} was made on other messages than those that count now",
            path=owner.directory.path,
            hint="take back the withdrawals of those before it first, the oldest first",
        )


def features_without(owner: Owner, paths: Collection[str], number: int) -> FeatureChange | None:
    """Return what deletion ``number`` changes of features, and keep its manifest; None but for `exact`."""
    parameters = owner.directory.deployment.parameters
    if not parameters.ranks_at_kmc:
        return None
    features = feature_ledger(owner)
    features.sweep()
    left = _without(owner, features, paths, number)
    manifest = features.write_manifest(number, left.chunks)
    sizes = [chunk_bytes(parameters, chunk.rows) for chunk in left.touched]
    return FeatureChange(manifest, left.encrypted(), sizes)


@dataclass(frozen=True)
class _Left:
    """What is left of an owner's chunks once images leave: all live ones, and those that change."""

    owner: Owner
    features: FeatureLedger
    chunks: list[LiveChunk]
    touched: list[LiveChunk]
    lost: dict[ChunkPlace, set[int]]

    def encrypted(self) -> Iterator[EncryptedChunk]:
        """Yield the chunks that change, encrypted anew under the SK of their upload."""
        for begin in range(0, len(self.touched), _CHUNKS_AT_ONCE):
            chunks = self.touched[begin : begin + _CHUNKS_AT_ONCE]
            for chunk, rows in zip(chunks, self._live_rows(chunks), strict=True):
                yield chunk.place, self._encrypt(chunk, rows)

    def _live_rows(self, chunks: Sequence[LiveChunk]) -> list[list[int]]:
        """Return for each chunk which rows of its upload are live and stay, ascending."""
        ledger, most = self.owner.ledger, chunk_rows(self.features.parameters)
        wanted: dict[int, dict[int, list[int]]] = defaultdict(dict)
        for chunk in chunks:
            wanted[chunk.place.upload][chunk.place.number] = []
        for upload, numbers in wanted.items():
            paths = [
                (row, path)
                for row, (_, path) in enumerate(ledger.rows(upload))
                if row // most in numbers and row not in self.lost[ChunkPlace(upload, row // most)]
            ]
            live = ledger.live_among({path for _, path in paths})
            for row, path in paths:
                if path in live and (live[path].upload, live[path].row) == (upload, row):
                    numbers[row // most].append(row)
        return [wanted[chunk.place.upload][chunk.place.number] for chunk in chunks]

    def _encrypt(self, chunk: LiveChunk, rows: Sequence[int]) -> bytes:
        place, parameters = chunk.place, self.features.parameters
        if len(rows) != chunk.rows:
            raise MalformedError(
                f"lists {len(rows)} images of a chunk of features that has {chunk.rows}",
                path=self.owner.ledger.file(place.upload),
                hint="restore the owner's directory as a whole from a backup",
            )
        first = place.number * chunk_rows(parameters)
        codes = self.features.codes(place.upload, place.number)[[row - first for row in rows]]
        return _cipher(self.owner, chunk, self.features).encrypt(codes, place.number, chunk.version)


def _without(owner: Owner, features: FeatureLedger, paths: Collection[str], number: int) -> _Left:
    most = chunk_rows(features.parameters)
    lost: dict[ChunkPlace, set[int]] = defaultdict(set)
    for image in owner.ledger.live_among(paths).values():
        lost[ChunkPlace(image.upload, image.row // most)].add(image.row)
    chunks: list[LiveChunk] = []
    touched: list[LiveChunk] = []
    for chunk in features.live_chunks():
        if chunk.place not in lost:
            chunks.append(chunk)
        elif chunk.rows > len(lost[chunk.place]):
            touched.append(replace(chunk, version=number, rows=chunk.rows - len(lost[chunk.place])))
            chunks.append(touched[-1])
    return _Left(owner, features, chunks, touched, lost)


def _encrypted_upload(
    owner: Owner, features: FeatureLedger, chunks: Sequence[LiveChunk]
) -> Iterator[EncryptedChunk]:
    for chunk in chunks:
        codes = features.codes(chunk.place.upload, chunk.place.number)
        cipher = _cipher(owner, chunk, features)
        yield chunk.place, cipher.encrypt(codes, chunk.place.number, chunk.version)


def _cipher(owner: Owner, chunk: LiveChunk, features: FeatureLedger) -> FeatureChunkCipher:
    keys = {**owner.former_image_keys, key_id(owner.image_key): owner.image_key}
    if chunk.key_id not in keys:
        raise MissingKeyError(
            f"lacks the image key {chunk.key_id:016x}, under which images are live",
            path=owner.directory.path,
            hint="restore the owner's directory from a backup that has it",
        )
    sender = features.sender
    return FeatureChunkCipher(
        keys[chunk.key_id], sender.deployment, sender.name, chunk.place.upload, features.parameters
    )
