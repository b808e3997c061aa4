"""`upload`, `delete` and `query` of scheme `exact`: chunks, a manifest, features sealed to the KMC."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from mipp_cli.containers.container import open_container
from mipp_cli.containers.delete import delete_schema, deleted_names, write_delete
from mipp_cli.containers.feature_columns import FeatureChange, FeatureReader
from mipp_cli.containers.query import IMAGES_LIMIT, parse_query, write_exact_query
from mipp_cli.containers.sealed import seal_to_kmc
from mipp_cli.containers.upload import UploadReader, UploadSize, upload_schema, write_upload
from mipp_cli.errors import MalformedError, WrongDeploymentError
from mipp_cli.scheme.feature_chunks import ChunkPlace
from tests.containers.conftest import (
    ALICE,
    DEPLOYMENT,
    EXACT,
    KMC,
    MASK,
    OTHER_KMC,
    QUERY_ID,
    Fill,
    forge,
)

CHUNKS = [(ChunkPlace(3, 1), b"an older chunk"), (ChunkPlace(7, 0), b"x" * 70_000), (ChunkPlace(7, 1), b"")]
CHANGE = FeatureChange(b"manifest", CHUNKS)
CODES = np.arange(160, dtype=np.uint8).reshape(2, 80) % 8
USK = b"\7" * 32


@contextmanager
def open_upload(path: Path) -> Iterator[UploadReader]:
    with open_container(path, upload_schema(EXACT), deployment=DEPLOYMENT) as container:
        yield UploadReader(container, EXACT)


@pytest.mark.parametrize("size", [None, UploadSize(2, 2, 80)])
def test_an_upload_comes_back_as_it_was_written(tmp_path: Path, size: UploadSize | None) -> None:
    with write_upload(tmp_path / "a", EXACT, ALICE, 7, 5, size=size) as writer:
        for name in ("x", "y"):
            writer.append_image(name, name.encode() * 40)
        writer.write_features(replace(CHANGE, sizes=size and [14, 70_000, 0]))
    with open_upload(tmp_path / "a") as upload:
        assert (len(upload), upload.names(), upload.encrypted_image(1)) == (2, ["x", "y"], b"y" * 40)
        assert list(upload.features.chunks()) == CHUNKS
        assert upload.features.sizes() == [14, 70_000, 0]
        assert upload.features.manifest_octets() == b"manifest"


def test_a_deletion_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_delete(tmp_path / "a", ALICE, 7, ["x", "y"], features=FeatureChange(b"manifest", CHUNKS[:1]))
    with open_container(tmp_path / "a", delete_schema(EXACT), deployment=DEPLOYMENT) as container:
        assert deleted_names(container) == [b"x", b"y"]
        assert list(FeatureReader(container).chunks()) == CHUNKS[:1]
        assert FeatureReader(container).manifest_octets() == b"manifest"


def test_a_deletion_that_touches_no_chunk_that_is_left_brings_none(tmp_path: Path) -> None:
    write_delete(tmp_path / "a", ALICE, 7, ["x"], features=FeatureChange(b"manifest", []))
    with open_container(tmp_path / "a", delete_schema(EXACT)) as container:
        assert (FeatureReader(container).places(), FeatureReader(container).sizes()) == ([], [])


def test_messages_of_other_schemes_are_malformed_here_and_ours_there(tmp_path: Path) -> None:
    write_delete(tmp_path / "a", ALICE, 7, ["x"])
    write_delete(tmp_path / "b", ALICE, 7, ["x"], features=CHANGE)
    for path, parameters in ((tmp_path / "a", EXACT), (tmp_path / "b", MASK)):
        with pytest.raises(MalformedError, match="other parts"):
            open_container(path, delete_schema(parameters))


def fill_features(places: list[tuple[int, int]], chunks: int) -> Fill:
    def fill(file: h5py.File) -> None:
        for name, rows in (("image_names", [b"x"]), ("chunks", [b"c"] * chunks)):
            group = file.create_group(name)
            group["offsets"] = np.cumsum([0, *map(len, rows)]).astype("<u8")
            group["bytes"] = np.frombuffer(b"".join(rows), np.uint8)
        file["chunk_uploads"] = np.array([upload for upload, _ in places], dtype="<u8")
        file["chunk_numbers"] = np.array([number for _, number in places], dtype="<u4")
        file["manifest"] = np.zeros(1, np.uint8)

    return fill


@pytest.mark.parametrize(
    ("places", "chunks"),
    [
        ([(7, 1), (7, 0)], 2),
        ([(7, 0), (3, 0)], 2),
        ([(7, 0), (7, 0)], 2),
        ([(7, 0), (7, 1)], 1),
        ([(7, 0)], 2),
    ],
)
def test_chunks_twice_out_of_order_or_without_a_place_are_malformed(
    tmp_path: Path, places: list[tuple[int, int]], chunks: int
) -> None:
    path = forge(tmp_path / "a", fill_features(places, chunks), kind="delete")
    with open_container(path, delete_schema(EXACT)) as container, pytest.raises(MalformedError):
        FeatureReader(container).places()


def write_query(path: Path) -> bytes:
    write_exact_query(
        path, EXACT, ALICE, QUERY_ID, features=CODES, candidates=3, usk=USK, sealing_key=KMC.public
    )
    return path.read_bytes()


def test_a_query_comes_back_as_it_was_written(tmp_path: Path) -> None:
    octets = write_query(tmp_path / "a")
    query = parse_query(octets, EXACT, DEPLOYMENT)
    assert (query.images, query.candidates, query.octets) == (2, 3, octets)
    assert query.open_usk(KMC) == USK
    assert query.open_features(KMC, EXACT).tolist() == CODES.tolist()


def test_the_features_of_a_query_stand_in_it_for_nobody_but_the_centre(tmp_path: Path) -> None:
    octets = write_query(tmp_path / "a")
    assert CODES.tobytes() not in octets
    with pytest.raises(WrongDeploymentError):
        parse_query(octets, EXACT, DEPLOYMENT).open_features(OTHER_KMC, EXACT)


def forged_query(path: Path, plaintext: bytes, *, images: int = 2, candidates: int = 3) -> bytes:
    sealed = seal_to_kmc(plaintext, KMC.public, "query", ALICE, QUERY_ID)

    def fill(file: h5py.File) -> None:
        file["sealed_usk"] = np.frombuffer(sealed, np.uint8)
        file.attrs.create("candidates", candidates, dtype="<u8")
        file.attrs.create("images", images, dtype="<u8")

    return forge(path, fill, kind="query", number=QUERY_ID).read_bytes()


@pytest.mark.parametrize("size", [0, 32, 32 + 80, 32 + 159, 32 + 161])
def test_features_of_another_length_than_the_images_have_are_malformed(tmp_path: Path, size: int) -> None:
    query = parse_query(forged_query(tmp_path / "a", bytes(size)), EXACT, DEPLOYMENT)
    for open_it in (query.open_usk, lambda key: query.open_features(key, EXACT)):
        with pytest.raises(MalformedError, match="impossible length"):
            open_it(KMC)


def test_codes_that_no_feature_has_are_malformed(tmp_path: Path) -> None:
    query = parse_query(forged_query(tmp_path / "a", USK + b"\x08" * 160), EXACT, DEPLOYMENT)
    with pytest.raises(MalformedError, match="below 8"):
        query.open_features(KMC, EXACT)


@pytest.mark.parametrize(("images", "candidates"), [(0, 3), (IMAGES_LIMIT + 1, 3), (2, 0), (2**64 - 1, 3)])
def test_an_impossible_number_of_images_or_candidates_is_malformed(
    tmp_path: Path, images: int, candidates: int
) -> None:
    octets = forged_query(tmp_path / "a", USK + bytes(160), images=images, candidates=candidates)
    with pytest.raises(MalformedError, match="impossible number"):
        parse_query(octets, EXACT, DEPLOYMENT)
