"""`members` and `enrolment` name users once, and SKs travel sealed to the KMC and to one file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.containers.base.columns import Ragged
from mipp_cli.containers.base.container import Schema, open_container
from mipp_cli.containers.base.writer import Sender
from mipp_cli.containers.messages.membership import (
    ENROLMENT,
    MEMBERS,
    parse_members,
    read_enrolment,
    write_enrolment,
    write_members,
)
from mipp_cli.errors import MalformedError, NotAuthorisedError, TamperedError, WrongDeploymentError
from mipp_cli.scheme.keys import SealingKey, SigningKey
from mipp_cli.scheme.secret_keys import key_id
from tests.containers.conftest import (
    ALICE,
    DEPLOYMENT,
    KEY,
    KMC,
    MALLORY,
    OTHER_DEPLOYMENT,
    OTHER_KEY,
    OTHER_KMC,
    forge,
)
from tests.support.examples import KEY_OF_ALL

identifiers = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}", fullmatch=True)
public_keys = st.binary(min_size=32, max_size=32).map(lambda seed: SigningKey(seed).public)
user_lists = st.dictionaries(identifiers, public_keys, max_size=6)
IMAGE_KEYS = [bytes([number]) * 32 for number in (1, 2, 3)]
USERS = frozenset({("bob", OTHER_KEY.public), ("carol", KEY.public)})


def rows_of(*keys: bytes) -> np.ndarray:
    return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32)


def fill_users(names: list[bytes], keys: np.ndarray | None = None) -> Callable[[h5py.File], None]:
    def fill(file: h5py.File) -> None:
        group = file.create_group("user_ids")
        group["offsets"] = np.cumsum([0, *map(len, names)]).astype("<u8")
        group["bytes"] = np.frombuffer(b"".join(names), np.uint8)
        file["user_keys"] = rows_of(*[KEY.public] * len(names)) if keys is None else keys

    return fill


def forge_enrolment(path: Path, sealed: bytes, sender: Sender = ALICE, number: int = 5) -> Path:
    """Sign an enrolment with any sealed part."""

    def fill(file: h5py.File) -> None:
        fill_users([b"bob"])(file)
        file["sealed_keys"] = np.frombuffer(sealed, np.uint8)
        file["forgotten_keys"] = np.zeros(0, "<u8")

    return forge(path, fill, kind="enrolment", number=str(number), sender=sender)


def sealed_in(path: Path) -> bytes:
    with open_container(path, ENROLMENT) as container:
        return container.data("sealed_keys", 1 << 20)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(user_lists, st.integers(0, 2**63 - 1))
def test_members_come_back_as_they_were_written(place: Path, users: dict[str, bytes], number: int) -> None:
    write_members(place, ALICE, number, frozenset(users.items()))
    membership = parse_members(place.read_bytes(), DEPLOYMENT)
    assert membership.users == frozenset(users.items())
    assert (membership.owner, membership.number, membership.key) == ("alice", number, KEY.public)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    user_lists,
    st.integers(0, 2**63 - 1),
    st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=4, unique=True),
    st.frozensets(st.integers(0, 2**64 - 1), max_size=4),
)
def test_an_enrolment_comes_back_as_it_was_written(
    place: Path, users: dict[str, bytes], number: int, image_keys: list[bytes], forgotten: frozenset[int]
) -> None:
    write_enrolment(place, ALICE, number, frozenset(users.items()), image_keys, KMC.public, forgotten)
    enrolment = read_enrolment(place, DEPLOYMENT, KMC)
    membership = enrolment.membership
    assert membership.users == frozenset(users.items())
    assert (membership.owner, membership.number, membership.key) == ("alice", number, KEY.public)
    assert enrolment.image_keys == {key_id(key): key for key in image_keys}
    assert enrolment.forgotten == forgotten


def test_an_older_file_is_replaced(tmp_path: Path) -> None:
    write_members(tmp_path / "a", ALICE, 1, frozenset())
    write_members(tmp_path / "a", ALICE, 2, USERS)
    assert parse_members((tmp_path / "a").read_bytes(), DEPLOYMENT).number == 2


def test_image_keys_do_not_stand_in_the_file(tmp_path: Path) -> None:
    write_enrolment(tmp_path / "a", ALICE, 5, USERS, IMAGE_KEYS, KMC.public)
    assert all(key not in (tmp_path / "a").read_bytes() for key in IMAGE_KEYS)


def test_the_check_of_the_sender_is_asked_and_obeyed(tmp_path: Path) -> None:
    def refuse(header: object) -> None:
        raise NotAuthorisedError("no")

    write_members(tmp_path / "a", ALICE, 5, USERS)
    write_enrolment(tmp_path / "b", ALICE, 5, USERS, IMAGE_KEYS, KMC.public)
    with pytest.raises(NotAuthorisedError):
        parse_members((tmp_path / "a").read_bytes(), DEPLOYMENT, refuse)
    with pytest.raises(NotAuthorisedError):
        read_enrolment(tmp_path / "b", DEPLOYMENT, KMC, refuse)


def test_another_deployment_is_refused_as_such(tmp_path: Path) -> None:
    write_members(tmp_path / "a", ALICE, 5, USERS)
    with pytest.raises(WrongDeploymentError):
        parse_members((tmp_path / "a").read_bytes(), OTHER_DEPLOYMENT)


def test_an_enrolment_is_no_members_file(tmp_path: Path) -> None:
    write_enrolment(tmp_path / "a", ALICE, 5, USERS, IMAGE_KEYS, KMC.public)
    with pytest.raises(MalformedError, match="is of kind enrolment"):
        parse_members((tmp_path / "a").read_bytes(), DEPLOYMENT)


def test_a_changed_byte_is_tampering(tmp_path: Path) -> None:
    write_members(tmp_path / "a", ALICE, 5, USERS)
    data = bytearray((tmp_path / "a").read_bytes())
    data[-20] ^= 1
    with pytest.raises(TamperedError):
        parse_members(bytes(data), DEPLOYMENT)


@pytest.mark.parametrize(
    "names",
    [
        [b""],
        [b".bob"],
        [b"../bob"],
        [b"bob", b"bob"],
        [b"bob\n"],
        [b"bob\0"],
        [b"b" * 65],
        [b"bo b"],
        ["bób".encode()],
        [b"\xff\xfe"],
        [b"bob", b""],
    ],
    ids=str,
)
def test_users_that_are_none_or_come_twice_are_malformed(tmp_path: Path, names: list[bytes]) -> None:
    path = forge(tmp_path / "a", fill_users(names))
    with pytest.raises(MalformedError):
        parse_members(path.read_bytes(), DEPLOYMENT)


@pytest.mark.parametrize("keys", [0, 1, 3])
def test_users_without_a_key_each_are_malformed(tmp_path: Path, keys: int) -> None:
    path = forge(tmp_path / "a", fill_users([b"bob", b"carol"], rows_of(*[KEY.public] * keys)))
    with pytest.raises(MalformedError):
        parse_members(path.read_bytes(), DEPLOYMENT)


@pytest.mark.parametrize(("key", "words"), [(KEY_OF_ALL, "small order"), (b"\xff" * 32, "not a point")])
def test_a_user_whose_key_is_none_is_malformed(tmp_path: Path, key: bytes, words: str) -> None:
    path = forge(tmp_path / "a", fill_users([b"bob", b"carol"], rows_of(KEY.public, key)))
    with pytest.raises(MalformedError, match=words):
        parse_members(path.read_bytes(), DEPLOYMENT)


def test_too_many_users_are_malformed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mipp_cli.containers.messages import membership

    path = forge(tmp_path / "a", fill_users([b"bob", b"carol"]))
    assert len(parse_members(path.read_bytes(), DEPLOYMENT).users) == 2
    monkeypatch.setattr(membership, "_USERS_LIMIT", 1)
    with pytest.raises(MalformedError, match="more than 1 users"):
        parse_members(path.read_bytes(), DEPLOYMENT)


@pytest.mark.parametrize("size", [0, 1, 31, 33, 63, 95])
def test_sealed_keys_of_another_length_are_malformed(tmp_path: Path, size: int) -> None:
    sealed = ALICE.seal(bytes(size), KMC.public, "enrolment", "5")
    with pytest.raises(MalformedError, match="invalid length"):
        read_enrolment(forge_enrolment(tmp_path / "a", sealed), DEPLOYMENT, KMC)


@pytest.mark.parametrize("size", [0, 1, 16, 32, 1119, 1120, 1121, 1135, 1136, 1200, 1 << 20])
def test_a_sealed_part_that_is_none_does_not_open(tmp_path: Path, size: int) -> None:
    path = forge_enrolment(tmp_path / "a", bytes(size))
    with pytest.raises(WrongDeploymentError) as caught:
        read_enrolment(path, DEPLOYMENT, KMC)
    assert caught.value.path == str(path)


def test_a_sealed_part_over_its_limit_is_malformed(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="too long"):
        read_enrolment(forge_enrolment(tmp_path / "a", bytes((1 << 20) + 1)), DEPLOYMENT, KMC)


def test_a_changed_byte_of_the_sealed_part_does_not_open(tmp_path: Path) -> None:
    sealed = ALICE.seal(IMAGE_KEYS[0], KMC.public, "enrolment", "5")
    assert read_enrolment(forge_enrolment(tmp_path / "a", sealed), DEPLOYMENT, KMC).image_keys
    for position in (0, 500, 1100, 1119, 1120, len(sealed) - 1):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(WrongDeploymentError):
            read_enrolment(forge_enrolment(tmp_path / "a", bytes(changed)), DEPLOYMENT, KMC)


@pytest.mark.parametrize(
    ("sender", "number"),
    [
        (MALLORY, 5),
        (replace(MALLORY, name="alice"), 5),
        (replace(ALICE, name="mallory"), 5),
        (ALICE, 6),
    ],
    ids=["another party", "another key", "another name", "another number"],
)
def test_a_sealed_part_does_not_open_in_another_enrolment(
    tmp_path: Path, sender: Sender, number: int
) -> None:
    write_enrolment(tmp_path / "a", ALICE, 5, USERS, IMAGE_KEYS, KMC.public)
    assert read_enrolment(tmp_path / "a", DEPLOYMENT, KMC).image_keys
    path = forge_enrolment(tmp_path / "b", sealed_in(tmp_path / "a"), sender, number)
    with pytest.raises(WrongDeploymentError):
        read_enrolment(path, DEPLOYMENT, KMC)


def test_a_sealed_part_does_not_open_in_another_deployment(tmp_path: Path) -> None:
    write_enrolment(tmp_path / "a", ALICE, 5, USERS, IMAGE_KEYS, KMC.public)
    elsewhere = replace(ALICE, deployment=OTHER_DEPLOYMENT)
    path = forge_enrolment(tmp_path / "b", sealed_in(tmp_path / "a"), elsewhere)
    with pytest.raises(WrongDeploymentError):
        read_enrolment(path, OTHER_DEPLOYMENT, KMC)


def test_a_sealed_part_of_another_kind_does_not_open(tmp_path: Path) -> None:
    sealed = ALICE.seal(IMAGE_KEYS[0], KMC.public, "query", "5")
    with pytest.raises(WrongDeploymentError):
        read_enrolment(forge_enrolment(tmp_path / "a", sealed), DEPLOYMENT, KMC)


@pytest.mark.parametrize("key", [OTHER_KMC, SealingKey(KMC.seeds[:64] + OTHER_KMC.seeds[64:])])
def test_another_centre_cannot_open_an_enrolment(tmp_path: Path, key: SealingKey) -> None:
    write_enrolment(tmp_path / "a", ALICE, 5, USERS, IMAGE_KEYS, KMC.public)
    with pytest.raises(WrongDeploymentError):
        read_enrolment(tmp_path / "a", DEPLOYMENT, key)


def test_members_name_the_columns_that_the_format_names() -> None:
    assert (MEMBERS.kind, ENROLMENT.kind) == ("members", "enrolment")
    assert sorted(MEMBERS.columns) == ["user_ids", "user_keys"]
    assert sorted(ENROLMENT.columns) == ["forgotten_keys", "sealed_keys", "user_ids", "user_keys"]


def test_no_identifier_is_longer_than_64_characters(tmp_path: Path) -> None:
    wider = Schema("members", {**MEMBERS.columns, "user_ids": Ragged()})
    path = forge(tmp_path / "a", fill_users([b"b" * 65]))
    with open_container(path, wider) as container:
        assert container.ragged("user_ids").row(0) == b"b" * 65
    with pytest.raises(MalformedError, match="invalid length"):
        parse_members(path.read_bytes(), DEPLOYMENT)
