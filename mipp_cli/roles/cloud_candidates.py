"""Scheme `exact` at the cloud: encrypted features go to the KMC, and the images that it selects follow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from mipp_cli.containers.atomic import refuse_existing
from mipp_cli.containers.candidates import OwnerFeatures, write_candidates
from mipp_cli.containers.header import Header
from mipp_cli.containers.index import Index
from mipp_cli.containers.manifest import FeatureManifest
from mipp_cli.containers.results import ImageRef, write_results
from mipp_cli.containers.selection import SelectedRow, Selection, read_selection
from mipp_cli.errors import (
    ConflictError,
    InvalidRequestError,
    MalformedError,
    NotAuthorisedError,
    WrongDeploymentError,
    at_path,
)
from mipp_cli.roles.cloud import Cloud
from mipp_cli.roles.cloud_features import by_upload, incomplete, manifest_in_force
from mipp_cli.roles.cloud_query import (
    QUERIES_FOLDER,
    authorised_query,
    encrypted_images,
    from_latest,
    query_of,
)
from mipp_cli.roles.progress import Advance, Progress, silent
from mipp_cli.roles.report import Output, Report
from mipp_cli.roles.sequence import query_record
from mipp_cli.roles.store import Store
from mipp_cli.scheme.feature_chunks import chunk_bytes


def offer_candidates(
    cloud: Cloud, query_file: Path, output: Path, *, force: bool, progress: Progress
) -> Report:
    """Hand the KMC a query, and the encrypted features of all owners who authorised its user."""
    parameters = cloud.directory.deployment.parameters
    with at_path(query_file):
        query, owners = authorised_query(cloud, query_file)

    def answer(index: Index) -> dict[str, int]:
        manifests = [manifest_in_force(cloud.store, index, owner) for owner in owners]
        features = [_features(cloud.store, index, manifest) for manifest in manifests if manifest]
        size = sum(sum(each.sizes) for each in features)
        with progress("collecting features", size, "B") as advance:
            write_candidates(
                output,
                cloud.directory.sender,
                query.query_id,
                query.octets,
                features,
                force=force,
                advance=advance,
            )
        return {"candidates": sum(manifest.rows for manifest in manifests if manifest)}

    _, counts = from_latest(cloud, answer)
    cloud.directory.record(QUERIES_FOLDER, query_record(query.header), query.digest.hex(), output)
    counts = {"query images": query.images, "owners": len(owners)} | counts
    return Report((Output(output, "candidates"),), counts, tuple(parameters.warnings))


def _features(store: Store, index: Index, manifest: FeatureManifest) -> OwnerFeatures:
    """Return the live chunks of an owner, one segment open at a time."""
    segments = {segment.upload: segment for segment in index.of_owner(manifest.owner)}

    def chunks() -> Iterator[bytes]:
        for upload, own in by_upload(manifest.chunks).items():
            if upload not in segments:
                raise incomplete(manifest.owner)
            with store.features(segments[upload]) as features:
                numbers = {place: number for number, place in enumerate(features.places())}
                for chunk in own:
                    if chunk.place not in numbers:
                        raise incomplete(manifest.owner)
                    yield features.chunk(numbers[chunk.place])

    sizes = [chunk_bytes(store.parameters, chunk.rows) for chunk in manifest.chunks]
    return OwnerFeatures(manifest.owner, manifest.octets, sizes, chunks)


def collect(
    path: Path, selection_file: Path, output: Path, *, force: bool = False, progress: Progress = silent
) -> Report:
    """Answer the KMC's selection with the images that it names, in its order (`results` of scheme `exact`).

    Raises WrongDeploymentError for a selection that the deployment's KMC did not sign, NotAuthorisedError
    for a query that this cloud did not pass on or an owner who did not authorise its user, ConflictError
    if the collection changed since.
    """
    refuse_existing(output, force=force)
    cloud = Cloud.open(path)
    parameters = cloud.directory.deployment.parameters
    if not parameters.ranks_at_kmc:
        raise InvalidRequestError(
            f"scheme {parameters.scheme} has no selections", hint="its results come from: mipp cloud search"
        )
    with at_path(selection_file):
        selection = _verified_selection(cloud, selection_file)

        def answer(index: Index) -> dict[str, int]:
            places = _places(cloud.store, index, selection.images)
            with progress("collecting images", len(places), "image") as advance:
                write_results(
                    output,
                    cloud.directory.sender,
                    selection.header.number,
                    selection.query_octets,
                    _counted(encrypted_images(cloud.store, index, places), advance),
                    [],
                    force=force,
                )
            return {"images": len(places)}

        _, counts = from_latest(cloud, answer)
    counts["owners"] = len({image.owner for image in selection.images})
    return Report((Output(output, "results"),), counts, tuple(parameters.warnings))


def _verified_selection(cloud: Cloud, file: Path) -> Selection:
    deployment = cloud.directory.deployment

    def check(header: Header) -> None:
        if header.sender_key != deployment.signing_key:
            raise WrongDeploymentError(
                "is not signed by the KMC of this deployment", hint="ask the KMC for its selection"
            )

    selection = read_selection(file, deployment.fingerprint, check)
    query, owners = query_of(cloud, selection.query_octets)
    if query.query_id != selection.header.number:
        raise MalformedError("holds another query than the one it answers")
    if cloud.directory.recorded(QUERIES_FOLDER, query_record(query.header)) is None:
        raise NotAuthorisedError(
            "selects images for a query that this cloud did not pass on", hint="mipp cloud search comes first"
        )
    strangers = {image.owner for image in selection.images} - set(owners)
    if strangers:
        raise NotAuthorisedError(
            f"selects images of {min(strangers)!r}, who does not authorise the user {query.header.sender!r}",
            hint="was the user revoked since? Make a new query",
        )
    return selection


def _places(store: Store, index: Index, images: Sequence[SelectedRow]) -> list[tuple[int, int]]:
    """Return segment and row of each image; raises ConflictError if its chunk has another version by now."""
    places = []
    for owner, own in groupby(images, key=lambda image: image.owner):
        manifest = manifest_in_force(store, index, owner)
        numbers = {s.upload: number for number, s in enumerate(index.segments) if s.owner == owner}
        before: dict[
            tuple[int, int, int], tuple[int, int]
        ] = {}  # of each chunk: images before it, and its rows
        for upload, chunks in by_upload(manifest.chunks if manifest else ()).items():
            total = 0
            for chunk in chunks:
                before[upload, chunk.place.number, chunk.version] = total, chunk.rows
                total += chunk.rows
        for image in own:
            start, rows = before.get((image.chunk.upload, image.chunk.number, image.version), (0, 0))
            if image.row >= rows or image.chunk.upload not in numbers:
                raise ConflictError(
                    f"selects images of {owner!r} that were changed or deleted since",
                    hint="the user makes a new query",
                )
            places.append((numbers[image.chunk.upload], start + image.row))
    return places


def _counted(images: Iterator[tuple[ImageRef, bytes]], advance: Advance) -> Iterator[tuple[ImageRef, bytes]]:
    for image in images:
        yield image
        advance(1)
