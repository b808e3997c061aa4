"""`query` carries EQ and EQQ of some images, and USK sealed to the KMC and to this query alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.containers.container import Sender
from mipp_cli.containers.query import (
    CANDIDATES_LIMIT,
    IMAGES_LIMIT,
    Query,
    parse_query,
    write_query,
)
from mipp_cli.containers.sealed import seal_to_kmc
from mipp_cli.errors import (
    MalformedError,
    NotAuthorisedError,
    OutputError,
    TamperedError,
    WrongDeploymentError,
)
from mipp_cli.scheme.feature_cipher import encrypt_features
from mipp_cli.scheme.image_cipher import sha256
from mipp_cli.scheme.parameters import Parameters
from mipp_cli.scheme.sum_groups import PrimeGroup, standard_prime
from tests.containers.conftest import (
    ALICE,
    DEPLOYMENT,
    KMC,
    MALLORY,
    MASK,
    OTHER_DEPLOYMENT,
    OTHER_KMC,
    QUERY_ID,
    Fill,
    forge,
)

USK = b"\7" * 32
OTHER_ID = "f" * 32


def features(images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    codes = np.random.default_rng(seed).integers(0, 8, (images, 80), dtype=np.uint8)
    return encrypt_features(MASK.cipher, codes)


def write(path: Path, *, images: int = 2, query_id: str = QUERY_ID, candidates: int = 10) -> Query:
    write_query(
        path,
        MASK,
        ALICE,
        query_id,
        features=features(images),
        candidates=candidates,
        usk=USK,
        sealing_key=KMC.public,
        force=True,
    )
    return parse_query(path.read_bytes(), MASK, DEPLOYMENT)


def fill_query(sealed: bytes = b"x", *, eq: int = 1, eqq: int = 1, candidates: int = 10) -> Fill:
    def fill(file: h5py.File) -> None:
        file["EQ"] = np.zeros((eq, 320), np.uint8)
        file["EQQ"] = np.zeros((eqq, 320), np.uint8)
        file["sealed_usk"] = np.frombuffer(sealed, np.uint8)
        file.attrs.create("candidates", candidates, dtype="<u8")

    return fill


def parsed(path: Path, fill: Fill, sender: Sender = ALICE, number: str = QUERY_ID) -> Query:
    octets = forge(path, fill, kind="query", number=number, sender=sender).read_bytes()
    return parse_query(octets, MASK, sender.deployment)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.integers(1, 20),
    st.integers(1, CANDIDATES_LIMIT),
    st.binary(min_size=16, max_size=16).map(bytes.hex),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**32 - 1),
)
def test_a_query_comes_back_as_it_was_written(
    place: Path, images: int, candidates: int, query_id: str, usk: bytes, seed: int
) -> None:
    eq, eqq = features(images, seed)
    write_query(
        place,
        MASK,
        ALICE,
        query_id,
        features=(eq, eqq),
        candidates=candidates,
        usk=usk,
        sealing_key=KMC.public,
        force=True,
    )
    query = parse_query(place.read_bytes(), MASK, DEPLOYMENT)
    assert (query.query_id, query.candidates) == (query_id, candidates)
    assert (query.eq == eq).all()
    assert (query.eqq == eqq).all()
    assert query.open_usk(KMC) == usk
    assert query.octets == place.read_bytes()
    assert query.digest == sha256(place.read_bytes())


def test_the_query_key_does_not_stand_in_the_file(tmp_path: Path) -> None:
    assert USK not in write(tmp_path / "a").octets


def test_an_existing_query_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(OutputError):
        write_query(
            tmp_path / "a",
            MASK,
            ALICE,
            QUERY_ID,
            features=features(1),
            candidates=1,
            usk=USK,
            sealing_key=KMC.public,
        )
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("candidates", [0, CANDIDATES_LIMIT + 1, 2**64 - 1])
def test_an_impossible_number_of_candidates_is_malformed(tmp_path: Path, candidates: int) -> None:
    with pytest.raises(MalformedError, match="impossible number"):
        parsed(tmp_path / "a", fill_query(candidates=candidates))


@pytest.mark.parametrize("images", [0, IMAGES_LIMIT + 1])
def test_an_impossible_number_of_images_is_malformed(tmp_path: Path, images: int) -> None:
    with pytest.raises(MalformedError, match="impossible number"):
        parsed(tmp_path / "a", fill_query(eq=images, eqq=images))


def test_the_largest_query_is_read(tmp_path: Path) -> None:
    query = parsed(tmp_path / "a", fill_query(eq=IMAGES_LIMIT, eqq=IMAGES_LIMIT, candidates=CANDIDATES_LIMIT))
    assert query.eq.shape == (IMAGES_LIMIT, 80, 4)


@pytest.mark.parametrize(("eq", "eqq"), [(1, 2), (2, 1), (0, 1)])
def test_features_without_their_squares_are_malformed(tmp_path: Path, eq: int, eqq: int) -> None:
    with pytest.raises(MalformedError, match="different lengths"):
        parsed(tmp_path / "a", fill_query(eq=eq, eqq=eqq))


def test_a_query_of_another_scheme_is_malformed(tmp_path: Path) -> None:
    paper = Parameters("paper", PrimeGroup(standard_prime(768), 2))
    with pytest.raises(MalformedError, match="another type or shape"):
        parse_query(write(tmp_path / "a").octets, paper, DEPLOYMENT)


def test_another_deployment_is_refused_as_such(tmp_path: Path) -> None:
    with pytest.raises(WrongDeploymentError):
        parse_query(write(tmp_path / "a").octets, MASK, OTHER_DEPLOYMENT)


@pytest.mark.parametrize("size", [0, 1, 1023])
def test_bytes_too_few_for_a_container_are_malformed(tmp_path: Path, size: int) -> None:
    with pytest.raises(MalformedError, match="not a MIPP container"):
        parse_query(write(tmp_path / "a").octets[:size], MASK, DEPLOYMENT)


def test_a_changed_byte_is_tampering(tmp_path: Path) -> None:
    octets = bytearray(write(tmp_path / "a").octets)
    octets[1500] ^= 1
    with pytest.raises(TamperedError):
        parse_query(bytes(octets), MASK, DEPLOYMENT)


def test_the_check_of_the_sender_is_asked_and_obeyed(tmp_path: Path) -> None:
    def refuse(header: object) -> None:
        raise NotAuthorisedError("no")

    with pytest.raises(NotAuthorisedError):
        parse_query(write(tmp_path / "a").octets, MASK, DEPLOYMENT, refuse)


def test_a_sealed_key_over_its_limit_is_malformed(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="too long"):
        parsed(tmp_path / "a", fill_query(bytes((1 << 16) + 1)))


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_sealed_key_of_another_length_is_malformed(tmp_path: Path, size: int) -> None:
    sealed = seal_to_kmc(bytes(size), KMC.public, "query", ALICE, QUERY_ID)
    with pytest.raises(MalformedError, match="impossible length"):
        parsed(tmp_path / "a", fill_query(sealed)).open_usk(KMC)


@pytest.mark.parametrize("size", [0, 1, 1120, 1168, 5000])
def test_a_sealed_key_that_is_none_does_not_open(tmp_path: Path, size: int) -> None:
    with pytest.raises(WrongDeploymentError):
        parsed(tmp_path / "a", fill_query(bytes(size))).open_usk(KMC)


@pytest.mark.parametrize(
    ("sender", "query_id"),
    [
        (MALLORY, QUERY_ID),
        (replace(MALLORY, name="alice"), QUERY_ID),
        (replace(ALICE, name="mallory"), QUERY_ID),
        (replace(ALICE, deployment=OTHER_DEPLOYMENT), QUERY_ID),
        (ALICE, OTHER_ID),
    ],
    ids=["another party", "another key", "another name", "another deployment", "another query"],
)
def test_a_sealed_key_lifted_into_another_query_does_not_open(
    tmp_path: Path, sender: Sender, query_id: str
) -> None:
    sealed = write(tmp_path / "a").sealed_usk
    assert parsed(tmp_path / "b", fill_query(sealed)).open_usk(KMC) == USK
    with pytest.raises(WrongDeploymentError):
        parsed(tmp_path / "b", fill_query(sealed), sender, query_id).open_usk(KMC)


@pytest.mark.parametrize("kind", ["enrolment", "results", "reencrypted", "upload"])
def test_a_sealed_part_of_another_kind_does_not_open(tmp_path: Path, kind: str) -> None:
    sealed = seal_to_kmc(USK, KMC.public, kind, ALICE, QUERY_ID)
    with pytest.raises(WrongDeploymentError):
        parsed(tmp_path / "a", fill_query(sealed)).open_usk(KMC)


def test_another_centre_cannot_open_a_query(tmp_path: Path) -> None:
    with pytest.raises(WrongDeploymentError):
        write(tmp_path / "a").open_usk(OTHER_KMC)


def test_the_same_query_twice_has_nothing_sealed_alike(tmp_path: Path) -> None:
    assert write(tmp_path / "a").sealed_usk != write(tmp_path / "b").sealed_usk
