"""`manifest` lists the live chunks of an owner's features, ascending, and none that cannot be."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.containers.manifest import FeatureManifest, parse_manifest, write_manifest
from mipp_cli.errors import MalformedError, NotAuthorisedError, TamperedError, WrongDeploymentError
from mipp_cli.scheme.feature_chunks import ChunkPlace, LiveChunk
from tests.containers.conftest import ALICE, DEPLOYMENT, EXACT, OTHER_DEPLOYMENT, forge

NEWEST = 2**63 - 1
LINES = [(3, 0, 5, 7, 4096), (3, 1, 3, 7, 1), (5, 0, 5, 8, 9)]  # upload, number, version, key, rows
COLUMNS = (
    ("chunk_uploads", "<u8"),
    ("chunk_numbers", "<u4"),
    ("chunk_versions", "<u8"),
    ("chunk_keys", "<u8"),
    ("chunk_rows", "<u4"),
)

places = st.builds(ChunkPlace, st.integers(0, 1000), st.integers(0, 2**32 - 1))
chunks = st.builds(
    LiveChunk, places, st.integers(1000, NEWEST), st.integers(0, 2**64 - 1), st.integers(1, 4096)
)


def parsed(path: Path, lines: list[tuple[int, ...]], *, number: int = 5) -> FeatureManifest:
    def fill(file: h5py.File) -> None:
        for column, (name, dtype) in enumerate(COLUMNS):
            file[name] = np.array([line[column] for line in lines], dtype=dtype)

    octets = forge(path, fill, kind="manifest", number=str(number)).read_bytes()
    return parse_manifest(octets, EXACT, DEPLOYMENT)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(chunks, max_size=8, unique_by=lambda chunk: chunk.place))
def test_a_manifest_comes_back_as_it_was_written_in_the_order_of_places(
    place: Path, live: list[LiveChunk]
) -> None:
    write_manifest(place, ALICE, NEWEST, live, force=True)
    manifest = parse_manifest(place.read_bytes(), EXACT, DEPLOYMENT)
    assert manifest.chunks == tuple(sorted(live, key=lambda chunk: chunk.place))
    assert (manifest.owner, manifest.number) == ("alice", NEWEST)
    assert manifest.rows == sum(chunk.rows for chunk in live)
    assert manifest.octets == place.read_bytes()


def test_a_manifest_made_by_hand_is_read(tmp_path: Path) -> None:
    assert parsed(tmp_path / "a", LINES).chunks == tuple(
        LiveChunk(ChunkPlace(upload, number), version, key, rows)
        for upload, number, version, key, rows in LINES
    )


@pytest.mark.parametrize(
    "lines",
    [
        [LINES[1], LINES[0]],
        [LINES[2], LINES[0]],
        [LINES[0], LINES[0]],
        [LINES[0], (3, 0, 4, 7, 10)],
        [(3, 0, 6, 7, 10)],
        [(6, 0, 6, 7, 10)],
        [(4, 0, 3, 7, 10)],
        [(3, 0, 3, 7, 0)],
        [(3, 0, 3, 7, 4097)],
    ],
    ids=[
        "numbers descend",
        "uploads descend",
        "a line twice",
        "a place twice",
        "a version after the message",
        "an upload after the message",
        "a version before its upload",
        "no rows",
        "too many rows",
    ],
)
def test_chunks_that_cannot_be_are_malformed(tmp_path: Path, lines: list[tuple[int, ...]]) -> None:
    with pytest.raises(MalformedError, match="lists"):
        parsed(tmp_path / "a", lines)


def test_columns_of_different_lengths_are_malformed(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        for rows, (name, dtype) in enumerate(COLUMNS, 1):
            file[name] = np.ones(min(rows, 2), dtype=dtype)

    octets = forge(tmp_path / "a", fill, kind="manifest").read_bytes()
    with pytest.raises(MalformedError, match="different lengths"):
        parse_manifest(octets, EXACT, DEPLOYMENT)


def test_a_changed_byte_another_deployment_and_a_refused_sender_are_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path / "a", ALICE, 5, [])
    octets = (tmp_path / "a").read_bytes()
    with pytest.raises(TamperedError):
        parse_manifest(octets[:-1] + bytes([octets[-1] ^ 1]), EXACT, DEPLOYMENT)
    with pytest.raises(WrongDeploymentError):
        parse_manifest(octets, EXACT, OTHER_DEPLOYMENT)
    with pytest.raises(MalformedError, match="not a MIPP container"):
        parse_manifest(octets[:1000], EXACT, DEPLOYMENT)

    def refuse(header: object) -> None:
        raise NotAuthorisedError("no")

    with pytest.raises(NotAuthorisedError):
        parse_manifest(octets, EXACT, DEPLOYMENT, refuse)
