"""`candidates` and `selection`: what cloud and KMC hand each other in scheme `exact`."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.containers.candidates import OwnerFeatures, open_candidates, write_candidates
from mipp_cli.containers.selection import SelectedRow, Selection, read_selection, write_selection
from mipp_cli.errors import MalformedError, NotAuthorisedError, WrongDeploymentError
from mipp_cli.scheme.feature_chunks import ChunkPlace
from tests.containers.conftest import (
    ALICE,
    DEPLOYMENT,
    OTHER_DEPLOYMENT,
    QUERY_ID,
    Fill,
    forge,
    open_descriptors,
)

identifiers = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
words = st.integers(0, 2**32 - 1)
numbers = st.integers(0, 2**64 - 1)
rows = st.builds(SelectedRow, identifiers, st.builds(ChunkPlace, numbers, words), words, numbers)


def refuse(header: object) -> None:
    raise NotAuthorisedError("no")


def owner_features(owner: str, manifest: bytes, chunks: list[bytes]) -> OwnerFeatures:
    return OwnerFeatures(owner, manifest, [len(chunk) for chunk in chunks], lambda: iter(chunks))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.dictionaries(
        identifiers, st.tuples(st.binary(max_size=40), st.lists(st.binary(max_size=90))), max_size=4
    ),
    st.binary(max_size=2000),
)
def test_candidates_come_back_as_they_were_written_the_owners_sorted(
    place: Path, owners: dict[str, tuple[bytes, list[bytes]]], query: bytes
) -> None:
    done: list[int] = []
    given_owners = [owner_features(owner, *features) for owner, features in owners.items()]
    write_candidates(place, ALICE, QUERY_ID, query, given_owners, force=True, advance=done.append)
    candidates = open_candidates(place, DEPLOYMENT)
    with candidates.container:
        assert candidates.query_octets == query
        assert list(candidates.manifests()) == [(owner, owners[owner][0]) for owner in sorted(owners)]
        chunks = [chunk for owner in sorted(owners) for chunk in owners[owner][1]]
        assert [candidates.chunk(number) for number in range(len(candidates))] == chunks
        assert sum(done) == sum(map(len, chunks))


def put_ragged(file: h5py.File, name: str, values: list[bytes]) -> None:
    group = file.create_group(name)
    group["offsets"] = np.cumsum([0, *map(len, values)]).astype("<u8")
    group["bytes"] = np.frombuffer(b"".join(values), np.uint8)


def fill_candidates(owners: list[bytes], manifests: int) -> Fill:
    def fill(file: h5py.File) -> None:
        file["query"] = np.zeros(5, np.uint8)
        put_ragged(file, "owners", owners)
        put_ragged(file, "manifests", [b"m"] * manifests)
        put_ragged(file, "chunks", [b"c"])

    return fill


@pytest.mark.parametrize(
    ("owners", "manifests"),
    [
        ([b"north", b"lake"], 2),
        ([b"north", b"north"], 2),
        ([b".north"], 1),
        ([b""], 1),
        ([b"n" * 65], 1),
        ([b"lake", b"north"], 1),
        ([b"lake"], 2),
    ],
)
def test_owners_twice_out_of_order_without_a_manifest_or_no_identifiers_are_malformed(
    tmp_path: Path, owners: list[bytes], manifests: int
) -> None:
    path = forge(tmp_path / "a", fill_candidates(owners, manifests), kind="candidates", number=QUERY_ID)
    with pytest.raises(MalformedError):
        open_candidates(path, DEPLOYMENT)
    assert not any(str(path) in each for each in open_descriptors())


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(rows, max_size=6, unique_by=lambda row: (row.owner, row.chunk, row.row)),
    st.binary(max_size=2000),
)
def test_a_selection_comes_back_sorted_by_place_whatever_its_order_was(
    place: Path, images: list[SelectedRow], query: bytes
) -> None:
    write_selection(place, ALICE, QUERY_ID, query, images, force=True)
    selection = read_selection(place, DEPLOYMENT)
    assert selection.images == tuple(sorted(images))
    assert (selection.query_octets, selection.header.number) == (query, QUERY_ID)


LINES = [
    ("lake", 7, 0, 3, 7),
    ("lake", 7, 1, 0, 9),
    ("north", 2, 0, 0, 2),
]  # owner, upload, chunk, row, version


def selected(path: Path, lines: list[tuple[str, int, int, int, int]], *, lost: str = "") -> Selection:
    def fill(file: h5py.File) -> None:
        file["query"] = np.zeros(5, np.uint8)
        put_ragged(file, "owners", [line[0].encode() for line in lines])
        columns = (("uploads", "<u8"), ("chunk_numbers", "<u4"), ("rows", "<u4"), ("chunk_versions", "<u8"))
        for column, (name, dtype) in enumerate(columns, 1):
            values = [line[column] for line in lines]
            file[name] = np.array(values[: -1 if name == lost else None], dtype=dtype)

    return read_selection(forge(path, fill, kind="selection", number=QUERY_ID), DEPLOYMENT)


def test_a_selection_made_by_hand_is_read(tmp_path: Path) -> None:
    assert selected(tmp_path / "a", LINES).images == tuple(
        SelectedRow(owner, ChunkPlace(upload, number), row, version)
        for owner, upload, number, row, version in LINES
    )


@pytest.mark.parametrize(
    "lines",
    [
        [LINES[1], LINES[0]],
        [LINES[0], LINES[0]],
        [LINES[0], ("lake", 7, 0, 3, 8)],
        [("a/b", 7, 0, 3, 7)],
        [("", 7, 0, 3, 7)],
    ],
    ids=["out of order", "a line twice", "a row twice", "no identifier", "no owner"],
)
def test_a_selection_that_cannot_be_is_malformed(
    tmp_path: Path, lines: list[tuple[str, int, int, int, int]]
) -> None:
    with pytest.raises(MalformedError):
        selected(tmp_path / "a", lines)


@pytest.mark.parametrize("column", ["uploads", "chunk_numbers", "rows", "chunk_versions"])
def test_columns_of_different_lengths_are_malformed(tmp_path: Path, column: str) -> None:
    with pytest.raises(MalformedError, match="different lengths"):
        selected(tmp_path / "a", LINES, lost=column)


def test_another_deployment_and_a_refused_sender_are_refused(tmp_path: Path) -> None:
    write_selection(tmp_path / "s", ALICE, QUERY_ID, b"query", [])
    write_candidates(tmp_path / "c", ALICE, QUERY_ID, b"query", [])
    for path, read in ((tmp_path / "s", read_selection), (tmp_path / "c", open_candidates)):
        with pytest.raises(WrongDeploymentError):
            read(path, OTHER_DEPLOYMENT)
        with pytest.raises(NotAuthorisedError):
            read(path, DEPLOYMENT, refuse)
