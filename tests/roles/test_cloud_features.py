"""Scheme `exact` at the cloud: messages change exactly the features that they should, or nothing changes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mipp_cli.containers.candidates import open_candidates
from mipp_cli.containers.container import header_of, open_container
from mipp_cli.containers.feature_columns import FeatureChange
from mipp_cli.containers.header import BLOCK_BYTES
from mipp_cli.containers.manifest import parse_manifest, write_manifest
from mipp_cli.containers.segment import segment_schema
from mipp_cli.containers.upload import upload_schema
from mipp_cli.scheme import feature_chunks
from mipp_cli.scheme.feature_chunks import ChunkPlace, LiveChunk
from tests.deployment import done, refused, snapshot
from tests.roles.exact_deployment import NORTH, Exact
from tests.roles.exact_owner import ExactOwner, features_of
from tests.roles.forgery import stranger

QUERY = np.random.default_rng(7).integers(0, 8, (1, 80), dtype=np.uint8)


def check_refused(exact: Exact, code: int, message: Path) -> str:
    """Demand that the cloud refuses a message and changes nothing."""
    before = snapshot(exact / "cloud")
    outcome = refused(code, "cloud", "index", exact / "cloud", message)
    assert snapshot(exact / "cloud") == before
    assert f"{message}: " in outcome.err  # and not its copy at the cloud, which is gone
    return outcome.err


def spoil(owner: ExactOwner, change: Callable[[int, FeatureChange], FeatureChange]) -> None:
    """Let an owner's messages bring something else than they should."""
    true = owner.change

    def spoiled(number: int, places: Iterable[ChunkPlace]) -> FeatureChange:
        return change(number, true(number, places))

    owner.change = spoiled  # type: ignore[method-assign]


def manifest(owner: ExactOwner, number: int, chunks: list[LiveChunk]) -> bytes:
    path = owner.deployment / "manifest"
    write_manifest(path, owner.role.directory.sender, number, chunks, force=True)
    return path.read_bytes()


def listing(owner: ExactOwner, change: Callable[[list[LiveChunk]], list[LiveChunk]]) -> None:
    """Let an owner's manifests list something else."""
    spoil(
        owner,
        lambda number, true: replace(true, manifest=manifest(owner, number, change(list(owner.chunks)))),
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda chunks: chunks[1:],
        lambda chunks: chunks[:-1],
        lambda chunks: [*chunks, replace(chunks[0], place=ChunkPlace(chunks[0].place.upload, 9))],
        lambda chunks: [replace(chunks[0], rows=2), *chunks[1:]],
        lambda chunks: [replace(chunks[0], version=chunks[0].version + 1), *chunks[1:]],
        lambda chunks: [replace(chunks[0], key_id=1), *chunks[1:]],
        lambda chunks: [*chunks[:-1], replace(chunks[-1], rows=2)],
        lambda chunks: [*chunks[:-1], replace(chunks[-1], key_id=1)],
    ],
)
def test_an_upload_whose_manifest_is_not_what_comes_of_it_is_refused(
    exact: Exact, change: Callable[[list[LiveChunk]], list[LiveChunk]]
) -> None:
    listing(exact.north, change)
    assert "mipp owner withdraw" in check_refused(exact, 9, exact.north.upload(features_of(["new"])))


def test_a_deletion_whose_manifest_keeps_what_it_deletes_is_refused(exact: Exact) -> None:
    before = list(exact.north.chunks)
    listing(exact.north, lambda _: before)
    check_refused(exact, 9, exact.north.delete(NORTH[:1]))


def test_a_message_after_one_that_never_came_is_refused_and_both_in_order_are_taken(exact: Exact) -> None:
    first, second = exact.north.upload(features_of(["new"])), exact.north.delete(NORTH[:1])
    assert "earlier message" in check_refused(exact, 9, second)
    exact.index(first, second)


@pytest.mark.parametrize(
    "change",
    [
        lambda _number, true: replace(true, chunks=true.chunks[:-1]),
        lambda _number, true: replace(true, chunks=true.chunks[1:]),
        lambda _number, true: replace(true, chunks=[(place, each[:-1]) for place, each in true.chunks]),
        lambda _number, true: replace(true, chunks=[(place, each + b"x") for place, each in true.chunks]),
        lambda _number, true: replace(true, chunks=[(ChunkPlace(1, 0), b"x"), *true.chunks]),
        lambda _number, true: replace(true, manifest=b"x" * 2000),
    ],
    ids=["without its own", "without the rest", "cut", "longer", "one more", "no manifest"],
)
def test_a_message_with_other_chunks_than_it_changes_is_refused(
    exact: Exact, change: Callable[[int, FeatureChange], FeatureChange]
) -> None:
    spoil(exact.north, change)
    check_refused(exact, 3, exact.north.upload(features_of(NORTH[:1], seed=1), replace_images=True))


def test_a_manifest_of_another_message_or_key_is_refused(exact: Exact) -> None:
    owner = exact.north
    spoil(owner, lambda number, true: replace(true, manifest=manifest(owner, number + 1, owner.chunks)))
    check_refused(exact, 3, owner.upload(features_of(["new"])))
    fake = stranger(exact.deployment, "north")

    def forged(number: int, true: FeatureChange) -> FeatureChange:
        write_manifest(exact / "fake", fake, number, owner.chunks, force=True)
        return replace(true, manifest=(exact / "fake").read_bytes())

    del owner.change  # type: ignore[method-assign]
    owner.live.popitem()
    owner.chunks.pop()
    spoil(owner, forged)
    check_refused(exact, 3, owner.upload(features_of(["new"])))


def test_a_message_of_another_scheme_is_refused(exact: Exact) -> None:
    from mipp_cli.containers.delete import write_delete

    write_delete(exact / "delete.h5", exact.deployment.sender("north"), 2**62, NORTH[:1])
    check_refused(exact, 3, exact / "delete.h5")


def answer(exact: Exact) -> set[tuple[str, str]]:
    """Return who is found, and demand that it is everybody who is live."""
    asked = exact.ask(QUERY, candidates=50)
    (matches,), _, left_out = asked.read(asked.answered())
    assert left_out == 0
    assert matches == set(exact.images())
    return matches


@pytest.mark.parametrize("kept", ["north-*.h5", "north-*.[0-9]*.h5"])
def test_a_change_that_a_crash_cut_short_is_finished_by_a_rebuild(exact: Exact, kept: str) -> None:
    """Files of before the change lie beside those that it wrote, some or none of them."""
    before = exact / "before"
    shutil.copytree(exact / "cloud" / "segments", before)
    message = exact.north.upload(features_of(NORTH[2:4], seed=1), replace_images=True)
    exact.index(message)
    written = set((exact / "cloud" / "segments").iterdir())
    number = message.name.removeprefix("north-").removesuffix(".h5")
    for path in written:
        if kept == "north-*.h5" and "." in path.name.removesuffix(".blocks").removesuffix(".h5"):
            path.unlink()  # none of what it wrote
        elif kept != "north-*.h5" and path.name.startswith(f"north-{number}."):
            path.unlink()  # the rest of the older upload, but not the message's own
    shutil.copy(message, exact / "cloud" / "segments" / message.name)
    shutil.copytree(before, exact / "cloud" / "segments", dirs_exist_ok=True)
    done("cloud", "index", exact / "cloud", "--rebuild")
    answer(exact)
    done("cloud", "check", exact / "cloud")


def test_features_that_are_missing_are_found_by_rebuild_and_check(exact: Exact) -> None:
    second = exact.north.upload(features_of(["new"]))
    exact.index(second)
    first = next(
        path for path in (exact / "cloud" / "segments").glob("north-*.h5") if path.name != second.name
    )
    first.unlink()
    (exact / "cloud" / "index.h5").unlink()  # which would tell what is missing
    assert "lacks features of 'north'" in refused(3, "cloud", "index", exact / "cloud", "--rebuild").err
    report = done("cloud", "index", exact / "cloud", "--rebuild", "--drop-damaged", "--json").json
    assert "mipp cloud remove" in " ".join(report["warnings"])
    assert "lacks features of 'north'" in refused(3, "cloud", "check", exact / "cloud").err
    asked = exact.ask(QUERY)
    words = (exact / "cloud", asked.path, "-o", exact / "x.h5")
    assert "lacks features of 'north'" in refused(3, "cloud", "search", *words).err
    done("cloud", "remove", exact / "cloud", "north")
    asked.search()


def test_features_take_82_bytes_an_image_at_the_most_at_the_cloud(
    exact: Exact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_chunks, "_MOST_ROWS", 4096)
    lake = ExactOwner(exact.deployment, "lake")
    features = np.random.default_rng(1).integers(0, 8, (6000, 80), dtype=np.uint8)
    names = [f"{number}" for number in range(len(features))]
    exact.index(lake.upload(dict(zip(names, features, strict=True))))
    assert bytes_of_features(exact, "lake") <= 82 * len(features)
    exact.index(lake.delete(names[4090:4100]))  # of both chunks
    assert bytes_of_features(exact, "lake") <= 82 * (len(features) - 10)


def bytes_of_features(exact: Exact, owner: str) -> int:
    """Return how many bytes of an owner's segments are for features: chunks, where they are, manifests."""
    schemas = {"upload": upload_schema, "segment": segment_schema}
    total = 0
    for path in (exact / "cloud" / "segments").glob(f"{owner}-*.h5"):
        schema = schemas[header_of(path).kind](exact.deployment.public.parameters)
        with open_container(path, schema) as container:
            total += container.ragged("chunks").total_bytes + 8 * (1 + len(container.ragged("chunks")))
            matrices = map(container.matrix, ("chunk_uploads", "chunk_numbers", "manifest"))
            total += sum(len(matrix) * matrix.row_bytes for matrix in matrices)
    return total


def offered(exact: Exact) -> dict[str, list[bytes]]:
    """Return what the cloud offers of each owner: the signed block of the manifest, and the chunks."""
    fingerprint = exact.deployment.public.fingerprint
    reader = open_candidates(exact.ask(QUERY).search(), fingerprint)
    with reader.container:
        chunks = iter([reader.chunk(number) for number in range(len(reader))])
        found = {}
        for owner, octets in reader.manifests():
            manifest = parse_manifest(octets, exact.deployment.public.parameters, fingerprint)
            found[owner] = [octets[:BLOCK_BYTES], *(next(chunks) for _ in manifest.chunks)]
    return found


def stored(exact: Exact) -> bytes:
    """Return all that the cloud's store holds."""
    folders = [exact / "cloud" / name for name in ("segments", "parts")]
    return b"".join(path.read_bytes() for folder in folders for path in folder.iterdir())


def test_nothing_of_the_features_of_an_owner_who_was_removed_stays(exact: Exact) -> None:
    exact.index(exact.north.delete(NORTH[:1]))
    before = offered(exact)
    assert all(piece in stored(exact) for pieces in before.values() for piece in pieces)
    done("cloud", "remove", exact / "cloud", "north")
    assert not any(piece in stored(exact) for piece in before["north"])
    assert offered(exact) == {"south": before["south"]}


def test_an_owner_who_was_removed_and_came_back_begins_anew(exact: Exact) -> None:
    done("cloud", "remove", exact / "cloud", "north")
    done("owner", "authorize", exact / "north", exact / "alice" / "user.pub")
    done("cloud", "enroll", exact / "cloud", exact / "north" / "members.h5")
    said = check_refused(exact, 9, exact.north.upload(features_of(["new"])))
    assert "if the cloud removed it meanwhile" in said
    exact.north.live, exact.north.chunks = {}, []  # as withdrawing the first message leaves it
    exact.index(exact.north.upload(features_of([*NORTH, "new"])))
    answer(exact)
