"""The KMC's feature store as ranking reads it, its index, and the lists of users."""

from __future__ import annotations

import hashlib
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipp_cli.errors import ConflictError, DamagedError, MalformedError, OutputError
from mipp_cli.kmc.applying import NameSet
from mipp_cli.kmc.check import check_kmc
from mipp_cli.kmc.enroll import enroll_at_kmc
from mipp_cli.kmc.index import index_at_kmc
from mipp_cli.kmc.kmc import EnrolledOwner, Kmc
from mipp_cli.kmc.remove import remove_from_kmc
from mipp_cli.kmc.store_index import StoredBlock, StoredMessage, StoreIndex
from mipp_cli.scheme.keys import SigningKey
from mipp_cli.scheme.secret_keys import generate_key
from mipp_cli.workdir.directory import RoleDirectory
from tests.support.deployment import snapshot
from tests.support.kmc_stores import World, codes_of, digest, make_world

DIGEST = "ab" * 32


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world")


def test_a_store_of_an_owner_who_sent_nothing_is_empty(world: World) -> None:
    store = world.store()
    index = store.index()
    assert index == StoreIndex()
    assert not len(store.group(index, 7, 0))


def test_ranking_reads_codes_and_tables(world: World) -> None:
    number = time.time_ns() // 1000
    index_at_kmc(world.kmc, [world.features(number, "abcde"), world.deletion(number + 1, "b")])
    store = world.store()
    index = store.index()
    (block,) = index.blocks
    codes, table = store.codes(block), store.table(block)
    assert [row.tobytes() for row in codes] == [codes_of(number, name) for name in "acde"]
    assert [row.tobytes() for row in table["name"]] == [digest(name) for name in "acde"]
    assert table["group"].tolist() == [0, 1, 1, 2]
    assert table["length"].tolist() == [1000, 1001, 1001, 1002]
    assert [row.tobytes() for row in store.group(index, number, 1)["name"]] == [*map(digest, "cd")]
    assert [len(store.group_of_row(block, row)[0]) for row in range(4)] == [1, 2, 2, 1]
    assert [store.group_of_row(block, row)[1] for row in range(4)] == [0, 0, 1, 0]
    for upload, group in ((number, 3), (number, -1), (number + 1, 0), (5, 0)):
        assert not len(store.group(index, upload, group))


def test_a_block_replaced_by_a_newer_index_is_reported_missing(world: World) -> None:
    number = time.time_ns() // 1000
    index_at_kmc(world.kmc, [world.features(number, "abcde")])
    store = world.store()
    (before,) = store.index().blocks
    index_at_kmc(world.kmc, [world.deletion(number + 1, "b")])
    with pytest.raises(MalformedError, match="is missing") as caught:
        store.codes(before)
    assert "mipp owner features" in str(caught.value.hint)
    assert store.index().number > 1


# The index


def message(number: int, change: tuple[int, ...] = ()) -> StoredMessage:
    return StoredMessage(number, DIGEST, 7, 0, (StoredBlock(number, 0, 1, 3, True),), change)


@given(st.dictionaries(st.integers(1, 50), st.sets(st.integers(0, 60)), max_size=12), st.randoms())
def test_an_index_keeps_lists_that_arrive_in_any_order(lists: dict[int, set[int]], random: object) -> None:
    lists = {number: {each for each in earlier if each < number} for number, earlier in lists.items()}
    order = list(lists)
    random.shuffle(order)
    index = StoreIndex()
    for number in order:
        index = index.with_message(message(number), lists[number])
    assert index == StoreIndex.from_bytes(index.to_bytes())
    found = list(index.lists())
    assert [number for number, _ in found] == sorted(lists, reverse=True)
    assert dict(found) == lists


def test_an_index_is_small_however_many_messages_each_lists() -> None:
    index = StoreIndex()
    for number in range(1, 400):
        index = index.with_message(message(number), range(1, number))
    assert len(index.to_bytes()) < 400 * 130


# Names


@given(st.lists(st.integers(0, 30), min_size=1, unique=True), st.lists(st.integers(0, 30)), st.integers(1, 3))
def test_names_are_found_though_their_digests_begin_alike(
    here: list[int], sought: list[int], alike: int
) -> None:
    def rows(numbers: list[int]) -> np.ndarray:
        made = b"".join(bytes([n % alike] * 8) + hashlib.sha256(bytes([n])).digest()[8:] for n in numbers)
        return np.frombuffer(made, dtype=np.uint8).reshape(-1, 32)

    names = NameSet(rows(here))
    which, places = names.find(rows(sought))
    assert sorted(which.tolist()) == [place for place, each in enumerate(sought) if each in here]
    assert [here[place] for place in places] == [sought[place] for place in which]
    assert not names.has_twins()
    assert NameSet(rows([*here, here[0]])).has_twins()


# Users


def users_of(count: int) -> frozenset[tuple[str, bytes]]:
    return frozenset((f"user{n}", hashlib.sha256(str(n).encode()).digest()) for n in range(count))


def enrolled(kmc: Kmc, name: str, users: frozenset[tuple[str, bytes]]) -> None:
    owner = EnrolledOwner(name, 5, b"k" * 32, DIGEST, {7: b"s" * 32}, frozenset(), b"t" * 32, lambda: users)
    kmc.store_owner(owner)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 100])
def test_users_are_looked_up(world: World, count: int) -> None:
    kmc, users = Kmc.open(world.kmc), users_of(count)
    enrolled(kmc, "lake", users)
    assert all(kmc.authorises("lake", user) for user in users)
    for stranger in (("user0", b"x" * 32), ("nobody", hashlib.sha256(b"0").digest()), ("", b"")):
        assert not kmc.authorises("lake", stranger)
    found = kmc.owner("lake")
    assert found is not None
    assert found.membership.users == users
    assert not kmc.authorises("nobody", ("user0", b"x" * 32))


def test_a_list_of_100000_users_is_read_only_where_it_is_needed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    kmc, users = Kmc.open(world.kmc), users_of(100_000)
    enrolled(kmc, "lake", users)
    monkeypatch.setattr(Kmc, "listed_users", lambda self, name: 1 / 0)
    assert kmc.authorising(("user77", hashlib.sha256(b"77").digest()))[0] == ["lake"]
    assert kmc.authorising(("user77", hashlib.sha256(b"78").digest()))[0] == []
    assert kmc.owner("lake") is not None


def test_tags_say_nothing_of_users_to_whoever_has_no_key(world: World) -> None:
    kmc, user = Kmc.open(world.kmc), ("user1", b"x" * 32)
    enrolled(kmc, "lake", frozenset([user]))
    listed, tags = kmc.users_files("lake")
    assert len(tags.read_bytes()) == 16 + 32
    assert tags.read_bytes()[:16] != hashlib.sha256(b"user1" + b"x" * 32).digest()[:16]
    assert listed.stat().st_mode & 0o077 == tags.stat().st_mode & 0o077 == 0


def test_a_missing_or_cut_list_of_tags_is_damage(world: World) -> None:
    kmc = Kmc.open(world.kmc)
    enrolled(kmc, "north", users_of(3))
    tags = kmc.users_files("north")[1]
    content = tags.read_bytes()
    spoiled = [content[:-1], content[16:], bytes([content[0] ^ 1]) + content[1:], b"", None]
    for each in spoiled:
        tags.unlink() if each is None else tags.write_bytes(each)
        names, damaged = kmc.authorising(("user1", b"x" * 32))
        assert "north" not in names
        assert {name: error.path for name, error in damaged.items()} == {"north": str(tags)}
    with pytest.raises(DamagedError) as damage:
        check_kmc(world.kmc)
    assert str(tags) in [problem.path for problem in damage.value.problems]
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        tags.write_bytes(changed)
        with pytest.raises(DamagedError):
            check_kmc(world.kmc)


def test_an_enrolment_that_was_cut_short_is_told_and_run_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = ("alice", SigningKey.generate().public)
    world.owner().write_membership(frozenset([user]))
    kmc, file = Kmc.open(world.kmc), world.root / "north" / "enrolment.h5"
    real = RoleDirectory.write_json

    def killed(self: RoleDirectory, name: str, fields: dict[str, object]) -> None:
        if name.startswith("owners/"):
            raise KeyboardInterrupt
        real(self, name, fields)

    with monkeypatch.context() as patch:
        patch.setattr(RoleDirectory, "write_json", killed)
        # whoever is killed puts nothing back
        patch.setattr("mipp_cli.kmc.enroll.unchanged_on_failure", lambda *paths: nullcontext())
        with pytest.raises(KeyboardInterrupt):
            enroll_at_kmc(world.kmc, [file])
    assert any("interrupted enrolment" in warning for warning in check_kmc(world.kmc).warnings)
    enroll_at_kmc(world.kmc, [file])
    assert kmc.authorising(user)[0] == ["north"]
    assert check_kmc(world.kmc).warnings == ()


def test_a_failed_enrolment_changes_no_list_of_users(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.owner().write_membership(frozenset([("alice", SigningKey.generate().public)]))
    before, real = snapshot(world.kmc), RoleDirectory.write_json

    def full(self: RoleDirectory, name: str, fields: dict[str, object]) -> None:
        if name.startswith("owners/"):
            raise OutputError("no space", path=name)
        real(self, name, fields)

    monkeypatch.setattr(RoleDirectory, "write_json", full)
    with pytest.raises(OutputError):
        enroll_at_kmc(world.kmc, [world.root / "north" / "enrolment.h5"])
    assert snapshot(world.kmc) == before


def test_too_many_image_keys_are_refused(world: World) -> None:
    role, keys = world.owner(), [generate_key() for _ in range(4097)]
    role.write_enrolment(role.next_number(), frozenset(), keys, frozenset())
    with pytest.raises(MalformedError, match="more than 4096 image keys"):
        enroll_at_kmc(world.kmc, [world.root / "north" / "enrolment.h5"])


def test_removal_in_the_other_schemes_needs_no_store(tmp_path: Path) -> None:
    from mipp_cli.kmc.init import init_kmc
    from mipp_cli.owner.init import init_owner

    init_kmc(tmp_path / "kmc", scheme="mask")
    init_owner(tmp_path / "north", "north", tmp_path / "kmc" / "kmc.pub")
    enroll_at_kmc(tmp_path / "kmc", [tmp_path / "north" / "enrolment.h5"])
    assert remove_from_kmc(tmp_path / "kmc", "north").counts == {"owners": 1, "image keys": 1, "users": 0}
    assert not (tmp_path / "kmc" / "features").exists()
    assert not (tmp_path / "kmc" / "floors").exists()
    check_kmc(tmp_path / "kmc")
    with pytest.raises(ConflictError):
        init_owner(tmp_path / "other", "north", tmp_path / "kmc" / "kmc.pub")
        enroll_at_kmc(tmp_path / "kmc", [tmp_path / "other" / "enrolment.h5"])


def test_lists_of_invented_messages_are_bounded() -> None:
    """What an owner lists is kept, and read for every query of the users whom it lists."""
    index = StoreIndex()
    with pytest.raises(MalformedError, match="differ too much from those of the message before"):
        for number in range(1, 100):
            listed = range(number * 10**6, number * 10**6 + 16_000)
            index = index.with_message(StoredMessage(10**12 + number, "0" * 64), listed)
    assert len(index.messages) < 20


def test_lists_of_an_honest_owner_never_reach_the_bound() -> None:
    index, listed = StoreIndex(), []
    for number in range(1, 400):
        index = index.with_message(StoredMessage(number, "0" * 64), listed)
        listed.append(number)
    assert sum(len(each.earlier_change) for each in index.messages) == 0
