"""`query` carries features of some images and names of owners, and USK sealed to the KMC and to it alone."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.containers.base.container import open_one_of
from mipp_cli.containers.base.writer import Sender
from mipp_cli.containers.messages.query import (
    CANDIDATES_LIMIT,
    IMAGES_LIMIT,
    OWNERS_LIMIT,
    Query,
    any_query_schemas,
    features_place,
    parse_query,
    write_query,
)
from mipp_cli.errors import (
    MalformedError,
    NotAuthorisedError,
    OutputError,
    TamperedError,
    WrongDeploymentError,
)
from mipp_cli.scheme.parameters import Parameters
from mipp_cli.scheme.protocol import ExactProtocol
from mipp_cli.scheme.sum_groups import PrimeGroup, standard_prime
from tests.containers.conftest import (
    ALICE,
    DEPLOYMENT,
    EXACT,
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


def codes_of(images: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 8, (images, 80), dtype=np.uint8)


def write(
    path: Path,
    *,
    codes: np.ndarray | None = None,
    query_id: str = QUERY_ID,
    candidates: int = 10,
    usk: bytes = USK,
    owners: tuple[str, ...] = (),
    parameters: Parameters = MASK,
    force: bool = True,
) -> Query:
    write_query(
        path,
        parameters,
        ALICE,
        query_id,
        codes=codes_of(2) if codes is None else codes,
        candidates=candidates,
        usk=usk,
        sealing_key=KMC.public,
        owners=owners,
        force=force,
    )
    return parse_query(path.read_bytes(), parameters, DEPLOYMENT)


def put_owners(file: h5py.File, owners: list[bytes]) -> None:
    group = file.create_group("owners")
    group["offsets"] = np.cumsum([0, *map(len, owners)]).astype("<u8")
    group["bytes"] = np.frombuffer(b"".join(owners), np.uint8)


def fill_query(
    sealed: bytes = b"x",
    *,
    eq: int = 1,
    eqq: int = 1,
    candidates: int = 10,
    owners: list[bytes] | None = None,
) -> Fill:
    def fill(file: h5py.File) -> None:
        file["EQ"] = np.zeros((eq, 320), np.uint8)
        file["EQQ"] = np.zeros((eqq, 320), np.uint8)
        file["sealed_usk"] = np.frombuffer(sealed, np.uint8)
        put_owners(file, owners or [])
        file.attrs.create("candidates", candidates, dtype="<u8")

    return fill


def fill_query_to_rank(*, images: int = 1, width: int = 108) -> Fill:
    def fill(file: h5py.File) -> None:
        fill_query()(file)
        del file["EQ"], file["EQQ"]
        file["codes"] = np.zeros((images, width), np.uint8)

    return fill


def parsed(
    path: Path,
    fill: Fill,
    sender: Sender = ALICE,
    number: str = QUERY_ID,
    parameters: Parameters = MASK,
) -> Query:
    data = forge(path, fill, kind="query", number=number, sender=sender).read_bytes()
    return parse_query(data, parameters, sender.deployment)


def exact_protocol() -> ExactProtocol:
    protocol = EXACT.protocol
    assert isinstance(protocol, ExactProtocol)
    return protocol


identifiers = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}", fullmatch=True)
queries = given(
    st.integers(1, 20),
    st.integers(1, CANDIDATES_LIMIT),
    st.binary(min_size=16, max_size=16).map(bytes.hex),
    st.binary(min_size=32, max_size=32),
    st.frozensets(identifiers, max_size=4),
    st.integers(0, 2**32 - 1),
)


@settings(max_examples=30, deadline=None, derandomize=True)
@queries
def test_a_query_comes_back_as_it_was_written(
    place: Path, images: int, candidates: int, query_id: str, usk: bytes, owners: frozenset[str], seed: int
) -> None:
    codes = codes_of(images, seed)
    query = write(place, codes=codes, query_id=query_id, candidates=candidates, usk=usk, owners=tuple(owners))
    assert (query.query_id, query.candidates, query.images) == (query_id, candidates, images)
    sums = [MASK.cipher.sums(column.reshape(images, 80, 4)) for column in query.features]
    squares = np.square(codes, dtype=np.uint32)
    assert sums == [codes.sum(axis=1).tolist(), squares.sum(axis=1).tolist()]
    assert query.owners == owners
    assert query.open_usk(KMC) == usk
    assert query.data == place.read_bytes()
    assert query.digest == hashlib.sha256(place.read_bytes()).digest()


@settings(max_examples=30, deadline=None, derandomize=True)
@queries
def test_a_query_to_rank_comes_back_as_it_was_written(
    place: Path, images: int, candidates: int, query_id: str, usk: bytes, owners: frozenset[str], seed: int
) -> None:
    codes = codes_of(images, seed)
    query = write(
        place,
        codes=codes,
        query_id=query_id,
        candidates=candidates,
        usk=usk,
        owners=tuple(owners),
        parameters=EXACT,
    )
    assert (query.query_id, query.candidates, query.images) == (query_id, candidates, images)
    bound_to = features_place(DEPLOYMENT, "alice", query_id)
    assert (exact_protocol().open_query(query.features[0], query.open_usk(KMC), bound_to) == codes).all()
    assert query.owners == owners


def test_a_query_that_names_no_owner_is_for_all_of_them(tmp_path: Path) -> None:
    query = write(tmp_path / "a")
    assert query.names_owner("north")


def test_a_query_that_names_owners_is_for_them_alone(tmp_path: Path) -> None:
    query = write(tmp_path / "a", owners=("south", "north"))
    assert [query.names_owner(owner) for owner in ("north", "south", "nort", "lake")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("owner", [b"", b".x", b"a/b", b"a\0", b"\xff", b"n" * 65, b"north\n"])
def test_an_owner_that_is_no_identifier_is_malformed(tmp_path: Path, owner: bytes) -> None:
    with pytest.raises(MalformedError):
        parsed(tmp_path / "a", fill_query(owners=[b"north", owner]))


def test_too_many_owners_are_malformed(tmp_path: Path) -> None:
    owners = [str(number).encode() for number in range(OWNERS_LIMIT + 1)]
    assert len(parsed(tmp_path / "a", fill_query(owners=owners[1:])).owners) == OWNERS_LIMIT
    with pytest.raises(MalformedError, match="names more than"):
        parsed(tmp_path / "a", fill_query(owners=owners))


def test_a_query_is_read_without_knowing_its_scheme(tmp_path: Path) -> None:
    for parameters, columns in ((MASK, {"EQ", "EQQ"}), (EXACT, {"codes"})):
        write(tmp_path / "a", parameters=parameters)
        opened, schema = open_one_of(tmp_path / "a", any_query_schemas())
        with opened:
            assert set(schema.columns) == columns | {"sealed_usk", "owners"}


def test_neither_codes_nor_usk_stand_in_a_query_to_rank(tmp_path: Path) -> None:
    codes = codes_of(2)
    data = write(tmp_path / "a", codes=codes, parameters=EXACT).data
    assert all(part not in data for part in (USK, *(row[:16].tobytes() for row in codes)))


@pytest.mark.parametrize("width", [0, 80, 107, 109])
def test_codes_of_another_width_are_malformed(tmp_path: Path, width: int) -> None:
    with pytest.raises(MalformedError, match="wrong type or shape"):
        parsed(tmp_path / "a", fill_query_to_rank(width=width), parameters=EXACT)


@pytest.mark.parametrize("images", [0, IMAGES_LIMIT + 1])
def test_an_impossible_number_of_images_to_rank_is_malformed(tmp_path: Path, images: int) -> None:
    with pytest.raises(MalformedError, match="invalid number"):
        parsed(tmp_path / "a", fill_query_to_rank(images=images), parameters=EXACT)


def test_the_query_key_does_not_stand_in_the_file(tmp_path: Path) -> None:
    assert USK not in write(tmp_path / "a").data


def test_an_existing_query_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(OutputError):
        write(tmp_path / "a", force=False)
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("candidates", [0, CANDIDATES_LIMIT + 1, 2**64 - 1])
def test_an_impossible_number_of_candidates_is_malformed(tmp_path: Path, candidates: int) -> None:
    with pytest.raises(MalformedError, match="invalid number"):
        parsed(tmp_path / "a", fill_query(candidates=candidates))


@pytest.mark.parametrize("images", [0, IMAGES_LIMIT + 1])
def test_an_impossible_number_of_images_is_malformed(tmp_path: Path, images: int) -> None:
    with pytest.raises(MalformedError, match="invalid number"):
        parsed(tmp_path / "a", fill_query(eq=images, eqq=images))


def test_the_largest_query_is_read(tmp_path: Path) -> None:
    query = parsed(tmp_path / "a", fill_query(eq=IMAGES_LIMIT, eqq=IMAGES_LIMIT, candidates=CANDIDATES_LIMIT))
    assert query.images == IMAGES_LIMIT
    assert [column.shape for column in query.features] == [(IMAGES_LIMIT, 320)] * 2


@pytest.mark.parametrize(("eq", "eqq"), [(1, 2), (2, 1), (0, 1)])
def test_features_without_their_squares_are_malformed(tmp_path: Path, eq: int, eqq: int) -> None:
    with pytest.raises(MalformedError, match="different lengths"):
        parsed(tmp_path / "a", fill_query(eq=eq, eqq=eqq))


def test_a_query_of_another_scheme_is_malformed(tmp_path: Path) -> None:
    paper = Parameters("paper", PrimeGroup(standard_prime(768), 2))
    with pytest.raises(MalformedError, match="wrong type or shape"):
        parse_query(write(tmp_path / "a").data, paper, DEPLOYMENT)
    with pytest.raises(MalformedError, match="does not have the parts"):
        parse_query(write(tmp_path / "a").data, EXACT, DEPLOYMENT)
    with pytest.raises(MalformedError, match="does not have the parts"):
        parse_query(write(tmp_path / "a", parameters=EXACT).data, MASK, DEPLOYMENT)


def test_another_deployment_is_refused_as_such(tmp_path: Path) -> None:
    with pytest.raises(WrongDeploymentError):
        parse_query(write(tmp_path / "a").data, MASK, OTHER_DEPLOYMENT)


@pytest.mark.parametrize("size", [0, 1, 1023])
def test_bytes_too_few_for_a_container_are_malformed(tmp_path: Path, size: int) -> None:
    with pytest.raises(MalformedError, match="not a MIPP container"):
        parse_query(write(tmp_path / "a").data[:size], MASK, DEPLOYMENT)


def test_a_changed_byte_is_tampering(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path / "a").data)
    data[1500] ^= 1
    with pytest.raises(TamperedError):
        parse_query(bytes(data), MASK, DEPLOYMENT)


def test_the_check_of_the_sender_is_asked_and_obeyed(tmp_path: Path) -> None:
    def refuse(header: object) -> None:
        raise NotAuthorisedError("no")

    with pytest.raises(NotAuthorisedError):
        parse_query(write(tmp_path / "a").data, MASK, DEPLOYMENT, refuse)


def test_a_sealed_key_over_its_limit_is_malformed(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="too long"):
        parsed(tmp_path / "a", fill_query(bytes((1 << 16) + 1)))


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_sealed_key_of_another_length_is_malformed(tmp_path: Path, size: int) -> None:
    sealed = ALICE.seal(bytes(size), KMC.public, "query", QUERY_ID)
    with pytest.raises(MalformedError, match="invalid length"):
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
    sealed = ALICE.seal(USK, KMC.public, kind, QUERY_ID)
    with pytest.raises(WrongDeploymentError):
        parsed(tmp_path / "a", fill_query(sealed)).open_usk(KMC)


def test_another_centre_cannot_open_a_query(tmp_path: Path) -> None:
    with pytest.raises(WrongDeploymentError):
        write(tmp_path / "a").open_usk(OTHER_KMC)


def test_the_same_query_twice_has_nothing_sealed_alike(tmp_path: Path) -> None:
    first, second = (write(tmp_path / name, parameters=EXACT) for name in ("a", "b"))
    assert first.sealed_usk != second.sealed_usk
    assert (first.features[0] != second.features[0]).any(axis=1).all()
