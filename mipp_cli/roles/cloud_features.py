"""Scheme `exact` at the cloud: which chunks of features are live, as the owners' messages change them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby

from mipp_cli.containers.feature_columns import EncryptedChunk, FeatureChange, FeatureReader
from mipp_cli.containers.index import Index, Part, Segment
from mipp_cli.containers.manifest import FeatureManifest
from mipp_cli.errors import ConflictError, MalformedError
from mipp_cli.roles.store import Store
from mipp_cli.scheme.feature_chunks import ChunkPlace, LiveChunk, chunk_bytes
from mipp_cli.scheme.live_chunks import chunks_of_upload, places_of_rows, without_rows

_Source = tuple[Segment, int]
_HINT = (
    "an earlier message of this owner is missing here: bring it first; or the owner withdraws it "
    "(mipp owner withdraw), and makes this one again"
)
_HINT_OF_NOTHING = (
    "nothing of this owner is here: bring its earlier messages first; or, if the cloud removed it meanwhile, "
    "the owner withdraws the first of them (mipp owner withdraw), and all after it, and makes new ones"
)


def manifest_in_force(store: Store, index: Index, owner: str) -> FeatureManifest | None:
    """Return the manifest of an owner's latest message; None if there is no message of the owner."""
    segments = index.of_owner(owner)
    if not segments:
        return None
    latest = max(segments, key=lambda each: each.upload)
    with store.features(latest) as features:
        return manifest_of(store, latest, features)


def manifest_of(store: Store, segment: Segment, features: FeatureReader) -> FeatureManifest:
    """Return the manifest that came with a message."""
    manifest = features.manifest(store.parameters, store.deployment)
    if (manifest.owner, manifest.number) != (segment.owner, segment.upload):
        raise MalformedError("carries the manifest of another message")
    return manifest


def by_upload(chunks: Sequence[LiveChunk]) -> dict[int, list[LiveChunk]]:
    """Return live chunks, ascending, by the upload that they belong to."""
    return {upload: list(own) for upload, own in groupby(chunks, key=lambda chunk: chunk.place.upload)}


class FeatureChanges:
    """What the messages of one run change: the manifest of each owner, and where new ciphertexts are.

    Rebuilding from segments, rows may have left already: then only what comes out is checked.
    """

    def __init__(self, store: Store, index: Index, *, rebuilding: bool):
        self._store, self._before, self._rebuilding = store, index, rebuilding
        self._manifests: dict[str, FeatureManifest | None] = {}
        self._anew: dict[tuple[str, ChunkPlace], _Source] = {}

    def apply(self, segment: Segment, rows: int, leaving: Mapping[int, Sequence[int]]) -> bool:
        """Take in the message of a segment, of so many images; ``leaving`` are rows by upload.

        Returns whether the message brings chunks of other uploads. Raises ConflictError if its manifest is
        not what comes of the one before, MalformedError if it brings other chunks than it should.
        """
        with self._store.new_features(segment) as features:
            manifest = manifest_of(self._store, segment, features)
            if manifest.header.key != features.container.header.key and not segment.revision:
                raise MalformedError("carries a manifest that its sender did not sign")
            places, sizes = features.places(), features.sizes()
            key_id = features.container.number("key_id") if rows else 0
        if not self._rebuilding:
            own = chunks_of_upload(self._store.parameters, segment.upload, key_id, rows)
            self._check_message(segment, manifest, own, places, leaving)
            self._check_sizes(manifest, dict(zip(places, sizes, strict=True)))
        self._manifests[segment.owner] = manifest
        foreign = [number for number, place in enumerate(places) if place.upload != segment.upload]
        for number in foreign:
            self._anew[segment.owner, places[number]] = (segment, number)
        return bool(foreign)

    def _check_message(
        self,
        segment: Segment,
        manifest: FeatureManifest,
        own: list[LiveChunk],
        places: list[ChunkPlace],
        leaving: Mapping[int, Sequence[int]],
    ) -> None:
        before = self._manifest(segment.owner)
        left, anew = without_rows(before.chunks if before else (), leaving, segment.upload)
        if manifest.chunks != (*left, *own):
            raise ConflictError(
                "lists other features than this cloud has of its owner after it",
                hint=_HINT if before else _HINT_OF_NOTHING,
            )
        if places != sorted(anew | {chunk.place for chunk in own}):
            raise MalformedError("brings other chunks of features than those that it changes")

    def _check_sizes(self, manifest: FeatureManifest, sizes: Mapping[ChunkPlace, int]) -> None:
        rows = {chunk.place: chunk.rows for chunk in manifest.chunks}
        if any(size != chunk_bytes(self._store.parameters, rows[place]) for place, size in sizes.items()):
            raise MalformedError("brings a chunk of features of a length that does not fit its rows")

    def _manifest(self, owner: str) -> FeatureManifest | None:
        if owner not in self._manifests:
            self._manifests[owner] = manifest_in_force(self._store, self._before, owner)
        return self._manifests[owner]

    def of_segment(self, segment: Segment, stack: ExitStack) -> FeatureChange:
        """Return what a segment's next file is to keep of features; ``stack`` keeps the old one open."""
        features = stack.enter_context(self._store.features(segment))
        manifest = self._manifest(segment.owner)
        live = by_upload(manifest.chunks if manifest else ()).get(segment.upload, [])
        own = {place: number for number, place in enumerate(features.places())}
        # rebuilt without a message that was damaged, some may be missing: check_features tells
        live = [chunk for chunk in live if chunk.place in own or (segment.owner, chunk.place) in self._anew]

        def chunks() -> Iterator[EncryptedChunk]:
            with ExitStack() as opened:
                message, brought = segment, features  # one message is open beside the segment itself
                for chunk in live:
                    source = self._anew.get((segment.owner, chunk.place))
                    if source is None:
                        yield chunk.place, features.chunk(own[chunk.place])
                        continue
                    if source[0] != message:
                        opened.close()
                        message = source[0]
                        brought = opened.enter_context(self._store.features(message))
                    yield chunk.place, brought.chunk(source[1])

        sizes = [chunk_bytes(self._store.parameters, chunk.rows) for chunk in live]
        return FeatureChange(features.manifest_octets(), chunks(), sizes)


def image_places(store: Store, index: Index, part: Part) -> Iterator[tuple[bytes, ChunkPlace, int]]:
    """Yield name, chunk, and row within it, of every image of a part, by name."""
    owner = index.segments[part.segments[0]].owner
    manifest = manifest_in_force(store, index, owner)
    of_upload = by_upload(manifest.chunks if manifest else ())
    # the rows of a part are those of its segments, and these are in the order of their chunks
    chunks = [chunk for place in part.segments for chunk in of_upload.get(index.segments[place].upload, ())]
    if sum(chunk.rows for chunk in chunks) != index.rows_of(part):
        raise incomplete(owner)
    with store.part(part) as reader:
        for names, rows in reader.names():
            for name, (number, row) in zip(names, places_of_rows(chunks, rows.tolist()), strict=True):
                yield name, chunks[number].place, row


def check_features(store: Store, index: Index, owner: str) -> None:
    """Refuse a store that lacks live chunks of an owner, or images that they belong to; MalformedError."""
    manifest = manifest_in_force(store, index, owner)
    chunks = by_upload(manifest.chunks if manifest else ())
    segments = {segment.upload: segment for segment in index.of_owner(owner) if segment.rows}
    if set(chunks) != set(segments):
        raise incomplete(owner)
    for upload, live in chunks.items():
        with store.features(segments[upload]) as features:
            sizes = dict(zip(features.places(), features.sizes(), strict=True))
        whole = all(sizes.get(each.place) == chunk_bytes(store.parameters, each.rows) for each in live)
        if not whole or sum(each.rows for each in live) != segments[upload].rows:
            raise incomplete(owner)


def incomplete(owner: str) -> MalformedError:
    """Return the error of a store that lacks features of an owner."""
    return MalformedError(
        f"lacks features of {owner!r}, or images that they belong to",
        hint="restore its segments from a backup; or remove it (mipp cloud remove) until it uploads again",
    )
