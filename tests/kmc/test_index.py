"""`mipp kmc index`: an owner's messages commute, nothing stays that does not decide, and damage is filled."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mipp_cli.containers.base.writer import Sender
from mipp_cli.errors import (
    AlreadyAppliedError,
    ClockError,
    ConflictError,
    DamagedError,
    InvalidRequestError,
    MalformedError,
    MippError,
    MissingKeyError,
    NotAuthorisedError,
    OutputError,
    ReplayedError,
    TamperedError,
    WrongDeploymentError,
)
from mipp_cli.files.json_state import read_state
from mipp_cli.kmc import applying
from mipp_cli.kmc.check import check_kmc
from mipp_cli.kmc.enroll import enroll_at_kmc
from mipp_cli.kmc.index import index_at_kmc
from mipp_cli.kmc.init import init_kmc
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.kmc.remove import remove_from_kmc
from mipp_cli.kmc.status import kmc_status
from mipp_cli.kmc.store import FeatureStore
from mipp_cli.owner.init import init_owner
from mipp_cli.owner.keys import forget_keys, rotate_key
from mipp_cli.scheme import passphrase as primitive
from mipp_cli.scheme.encoding import name_digest
from mipp_cli.scheme.keys import SigningKey
from mipp_cli.scheme.secret_keys import generate_key, key_id
from mipp_cli.workdir.floors import Floor, floor_of
from mipp_cli.workdir.protect import protect_directory
from mipp_cli.workdir.secrets_file import Passphrases, passphrases_from
from tests.support.deployment import snapshot
from tests.support.kmc_stores import Row, State, World, codes_of, digest, image_digest, make_world

A_DAY = 86_400 * 10**6
NAMES = "abcdef"


def ago(days: float) -> int:
    return time.time_ns() // 1000 - int(days * A_DAY)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("kmc") / "made", ("north", "south"))


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    return made.copy(tmp_path / "world")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a block have two rows or a few more, so that a small upload has several."""
    monkeypatch.setattr(applying, "block_rows", lambda _: 2)


@dataclass(frozen=True)
class Message:
    """A message as its owner made it."""

    number: int
    deletes: bool
    names: tuple[str, ...]
    earlier: tuple[int, ...]
    path: Path


def history(world: World, steps: Sequence[tuple[bool, Sequence[str]]]) -> list[Message]:
    """Make messages one after the other, days apart, each with the list that its owner would write."""
    decides, made = dict[str, int](), list[Message]()
    now = time.time_ns() // 1000
    for place, (deletes, names) in enumerate(steps):
        number = now - (len(steps) - place) * 9 * A_DAY
        decides |= dict.fromkeys(names, number)
        earlier = tuple(sorted(set(decides.values()) - {number}))
        make = world.deletion if deletes else world.features
        made.append(Message(number, deletes, tuple(names), earlier, make(number, names, earlier=earlier)))
    return made


def expected(world: World, messages: Sequence[Message]) -> State:
    """Return the state after ``messages``: the highest number that mentions a name decides."""
    state = State(applied={each.number for each in messages})
    for message in sorted(messages, key=lambda each: each.number):
        for name in message.names:
            state.rows.pop(digest(name), None)
        if message.deletes:
            state.deleted[message.number] = frozenset(map(digest, message.names))
        else:
            for group, names in enumerate(world.groups(message.names)):
                for name in names:
                    number = message.number
                    row = Row(codes_of(number, name), image_digest(number, name), group, 1000 + group)
                    state.rows[digest(name)] = (number, row)
        state.missing = tuple(each for each in message.earlier if each not in state.applied)
        if not state.missing:
            state.complete = message.number
    return state


def sizes(world: World) -> int:
    """Return the bytes of all blocks: more of them would hold more rows."""
    return sum(path.stat().st_size for path in world.folder().glob("*-*"))


STEPS = st.tuples(st.booleans(), st.sets(st.sampled_from(NAMES), min_size=1).map(sorted))


@pytest.mark.slow
@pytest.mark.usefixtures("small_blocks")
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(STEPS, min_size=1, max_size=7), data=st.data())
def test_any_order_doubled_and_in_any_batches_gives_the_same(
    made: World, tmp_path: Path, steps: list[tuple[bool, list[str]]], data: st.DataObject
) -> None:
    world = made.copy(tmp_path / "fresh")
    messages = history(world, steps)
    lost = data.draw(st.sets(st.sampled_from(messages), max_size=2)) if len(messages) > 1 else set()
    came = [message for message in messages if message not in lost]
    twice = data.draw(st.lists(st.sampled_from(came), max_size=2)) if came else []
    order = data.draw(st.permutations([*came, *twice]))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(order)), max_size=3)))
    for begin, end in zip([0, *cuts], [*cuts, len(order)], strict=True):
        with suppress(AlreadyAppliedError):
            if begin < end:
                index_at_kmc(world.kmc, [message.path for message in order[begin:end]])
    state = expected(world, came)
    assert world.state() == state
    check_kmc(world.kmc)
    store = world.store()
    blocks = [block.rows * (4 + 76) + 56 for block in store.index().blocks]
    assert sizes(world) == sum(blocks)
    assert sum(block.rows for block in store.index().blocks) == len(state.rows)


@pytest.mark.usefixtures("small_blocks")
def test_every_order_of_three_messages_gives_the_same(made: World, tmp_path: Path) -> None:
    messages = history(made, [(False, "abcdef"), (True, "abc"), (False, "bdg")])
    for order in permutations(messages):
        world = made.copy(tmp_path / "fresh")
        for message in order:
            index_at_kmc(world.kmc, [message.path])
        assert world.state() == expected(world, messages)


def test_what_was_done_is_counted(world: World) -> None:
    first, second, third = ago(3), ago(2), ago(1)
    index_at_kmc(world.kmc, [world.features(second, "abcd")])
    report = index_at_kmc(
        world.kmc, [world.features(first, "cdef"), world.deletion(third, "afx", earlier=[first, second])]
    )
    assert report.counts == {
        "uploads": 1,
        "deletions": 1,
        "images": 1,  # e: the deletion of the same run is newer than f
        "images replaced": 0,
        "images deleted": 1,
        "superseded": 3,
        "repaired": 0,
        "already applied": 0,
        "images of these owners": 4,
    }
    assert report.details == {"owners": {"north": {"complete": third, "missing": []}}}
    with pytest.raises(AlreadyAppliedError):
        index_at_kmc(world.kmc, [world.root / f"north-{second}.features.h5"])
    report = index_at_kmc(
        world.kmc, [world.root / f"north-{second}.features.h5", world.features(ago(0.5), "b")]
    )
    assert (report.counts["already applied"], report.counts["images replaced"]) == (1, 1)


def test_gaps_are_told_with_what_to_do(world: World) -> None:
    first, second = ago(3), ago(2)
    report = index_at_kmc(world.kmc, [world.features(second, "ab", earlier=[first])])
    assert report.details == {"owners": {"north": {"complete": 0, "missing": [first]}}}
    (warning,) = report.warnings
    assert str(first) in warning
    assert "mipp owner features" in warning
    assert "--again" in warning
    assert warning in check_kmc(world.kmc).warnings
    assert kmc_status(world.kmc)[1]["owners"]["north"]["features"]["missing"] == [first]
    report = index_at_kmc(world.kmc, [world.features(first, "c")])
    assert report.details == {"owners": {"north": {"complete": second, "missing": []}}}


def test_a_record_that_lost_an_upload_is_told(world: World) -> None:
    report = index_at_kmc(world.kmc, [world.features(ago(3), "a"), world.features(ago(2), "b")])
    assert "the record of north does not list" in report.warnings[0]


def test_owners_are_mixed_and_all_or_none_of_them_applied(world: World) -> None:
    north, south = world.features(ago(2), "abc"), world.features(ago(1), "abx", owner="south")
    broken = world.features(ago(0.5), "q", owner="south", codes=lambda number, name: bytes([0, 0, 0, 8]))
    before = snapshot(world.kmc / "owners")
    with pytest.raises(MalformedError, match="not below 8"):
        index_at_kmc(world.kmc, [north, broken, south])
    assert not list(world.kmc.glob("features/*/*-*"))
    assert snapshot(world.kmc / "owners") == before
    report = index_at_kmc(world.kmc, [north, south])
    assert report.counts["images of these owners"] == 6
    assert sorted(report.details["owners"]) == ["north", "south"]
    assert len(world.state("south").rows) == 3


# Refusals


def refused(world: World, error: type[MippError], match: str, *files: Path) -> MippError:
    before = snapshot(world.kmc)
    with pytest.raises(error, match=match) as caught:
        index_at_kmc(world.kmc, files)
    assert snapshot(world.kmc) == before
    assert caught.value.path
    return caught.value


def test_an_unknown_owner_is_refused(world: World) -> None:
    init_owner(world.root / "lake", "lake", world.kmc / "kmc.pub")
    error = refused(world, NotAuthorisedError, "not enrolled", world.features(ago(1), "a", owner="lake"))
    assert "mipp kmc enroll" in str(error.hint)


def test_another_key_under_an_owners_name_is_refused(world: World) -> None:
    sender = world.owner().directory.sender
    forged = Sender("north", SigningKey.generate(), sender.deployment)
    refused(world, ConflictError, "is not signed with the key", world.features(ago(1), "a", sender=forged))


def test_features_of_another_owner_are_refused(world: World) -> None:
    north, south = world.owner(), world.owner("south")
    key = north.image_key
    file = world.features(ago(1), "abcd", owner="south", image_key=key)
    refused(world, MissingKeyError, "never enrolled", file)
    assert south.image_key != key


def test_codes_of_another_upload_are_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from mipp_cli.containers.messages import features

    real = features.FeatureCipher

    def other(key: bytes, deployment: str, owner: str, number: int) -> object:
        return real(key, deployment, owner, number + 1)

    monkeypatch.setattr(features, "FeatureCipher", other)
    file = world.features(ago(1), "abcd")
    monkeypatch.undo()
    refused(world, TamperedError, "could not be decrypted", file)


def test_another_deployments_file_is_refused(world: World, tmp_path: Path) -> None:
    other = make_world(tmp_path / "other")
    refused(world, WrongDeploymentError, "belongs to the deployment", other.features(ago(1), "a"))


def test_an_unknown_key_is_refused_and_says_what_to_bring(world: World) -> None:
    error = refused(
        world, MissingKeyError, "never enrolled", world.features(ago(1), "a", image_key=generate_key())
    )
    assert "enrolment.h5" in str(error.hint)


@pytest.mark.parametrize(
    ("groups", "length", "match"),
    [
        ([list("abcd")], 1000, "more than 3 images"),
        ([["a", "b"], ["a"]], 1000, "two images with the same name"),
        ([["a"]], 27, "a length"),
        ([["a"]], 2**40, "a length"),
    ],
)
def test_what_no_owner_writes_is_refused(
    world: World, groups: list[list[str]], length: int, match: str
) -> None:
    file = world.features(ago(1), "", groups=groups, length=lambda _: length)
    refused(world, MalformedError, match, file)


def test_codes_out_of_range_are_refused(world: World) -> None:
    file = world.features(ago(1), "ab", codes=lambda number, name: bytes([0, 7, 8, 0]))
    refused(world, MalformedError, "not below 8", file)


def test_another_file_under_a_known_number_is_refused(world: World) -> None:
    number = ago(1)
    index_at_kmc(world.kmc, [world.features(number, "ab")])
    refused(world, ReplayedError, "another file", world.features(number, "ac"))
    refused(world, ReplayedError, "another file", world.deletion(number, "a"))


def test_two_files_of_one_number_in_one_run_are_refused(world: World) -> None:
    number = ago(1)
    files = world.features(number, "ab"), world.deletion(number, "a")
    refused(world, ReplayedError, "another file", *files)


def test_a_number_of_a_time_to_come_is_refused(world: World) -> None:
    refused(world, ClockError, "a day ahead", world.features(ago(-1.1), "a"))
    files = world.features(ago(-0.9), "a"), world.features(ago(-1.8), "b")
    assert index_at_kmc(world.kmc, files[::-1]).counts["uploads"] == 2


def test_an_upload_is_for_the_cloud(world: World) -> None:
    refused(world, MalformedError, "not features or delete", world.root / "north" / "enrolment.h5")


def test_the_other_schemes_hold_no_features(tmp_path: Path) -> None:
    init_kmc(tmp_path / "kmc", scheme="mask")
    with pytest.raises(InvalidRequestError, match="the cloud ranks"):
        index_at_kmc(tmp_path / "kmc", [tmp_path / "x.h5"])


# Forgotten keys


def forget_the_key(world: World) -> None:
    rotate_key(world.root / "north")
    forget_keys(world.root / "north", applied=world.owner().last_number)
    enroll_at_kmc(world.kmc, [world.root / "north" / "enrolment.h5"])


def test_features_under_a_forgotten_key_decide_without_codes(world: World) -> None:
    old = world.owner().image_key
    numbers = ago(3), ago(2), ago(1)
    index_at_kmc(world.kmc, [world.features(numbers[0], "abcd")])
    late = world.features(numbers[1], "bcx", image_key=old)
    forget_the_key(world)
    assert key_id(old) in world.enrolled().forgotten
    report = index_at_kmc(world.kmc, [late])
    assert (report.counts["images"], report.counts["images replaced"]) == (3, 2)
    assert "stored without features" in report.warnings[0]
    state = world.state()
    assert [name for name, (_, row) in state.rows.items() if row.codes is None] == [*map(digest, "bcx")]
    status = kmc_status(world.kmc)[1]["owners"]["north"]["features"]
    assert (status["images_ranked"], status["images_under_forgotten_keys"]) == (0, 5)
    report = index_at_kmc(world.kmc, [world.features(numbers[2], "ab")])
    assert len(world.state().rows) == 5
    status = kmc_status(world.kmc)[1]["owners"]["north"]["features"]
    assert (status["images_ranked"], status["images_under_forgotten_keys"]) == (2, 3)
    check_kmc(world.kmc)


@pytest.mark.usefixtures("small_blocks")
def test_a_repair_under_a_forgotten_key_restores_no_codes(world: World) -> None:
    file = world.features(ago(3), "abcdef")
    index_at_kmc(world.kmc, [file])
    forget_the_key(world)
    sorted(world.folder().glob("*-1.*"))[0].unlink()
    assert index_at_kmc(world.kmc, [file]).counts["repaired"] == 1
    check_kmc(world.kmc)
    state = world.state()
    assert len(state.rows) == 6
    assert {row.codes for _, row in state.rows.values()} == {None}


# Damage


def with_history(world: World) -> list[Message]:
    """Apply uploads of several blocks, and deletions that leave some of each."""
    steps = [(False, "abcdefgh"), (True, "ax"), (False, "cij"), (True, "i"), (False, "k")]
    messages = history(world, steps)
    index_at_kmc(world.kmc, [message.path for message in messages])
    return messages


def damaged_files(world: World) -> set[str]:
    with pytest.raises(DamagedError) as caught:
        check_kmc(world.kmc)
    assert "features" in str(caught.value.hint)
    return {Path(problem.path).name for problem in caught.value.problems}


def only(world: World, name: str) -> Path:
    """Return the file of a block, whatever its generation, or of a deletion."""
    (file,) = world.folder().glob(f"{name}.*")
    return file


@pytest.mark.slow
@pytest.mark.usefixtures("small_blocks")
def test_every_changed_byte_is_found_and_filled_from_the_files(world: World) -> None:
    messages = with_history(world)
    before = world.state()
    names = [path.name.split(".")[0] for path in world.folder().iterdir() if path.name != "index"]
    assert len(names) >= 6
    for name in names:
        file = only(world, name)
        content = file.read_bytes()
        for place in range(len(content)):
            changed = bytearray(content)
            changed[place] ^= 1
            file.write_bytes(changed)
            if place % 40 == 0:
                assert damaged_files(world) == {file.name}
            with pytest.raises(MalformedError):
                world.state()
        for damage in (content[:-1], b"", content + b"x", None):
            file.unlink(missing_ok=True)
            if damage is not None:
                file.write_bytes(damage)
            assert damaged_files(world) == {file.name}
            report = index_at_kmc(world.kmc, [message.path for message in messages])
            assert (report.counts["repaired"], report.counts["already applied"]) == (1, 4)
            assert world.state() == before
            check_kmc(world.kmc)
            file = only(world, name)


@pytest.mark.usefixtures("small_blocks")
def test_all_blocks_lost_at_once_are_filled(world: World) -> None:
    messages = with_history(world)
    before = world.state()
    for path in world.folder().iterdir():
        if path.name != "index":
            path.unlink()
    report = index_at_kmc(world.kmc, [message.path for message in messages])
    assert report.counts["repaired"] == 5
    assert world.state() == before


@pytest.mark.usefixtures("small_blocks")
def test_a_repair_that_needs_a_newer_message_says_which(world: World) -> None:
    messages = with_history(world)
    before = world.state()
    for path in world.folder().iterdir():
        if path.name != "index":
            path.unlink()
    with pytest.raises(MalformedError) as caught:
        index_at_kmc(world.kmc, [messages[0].path])
    newer = {str(message.number) for message in messages[1:]}
    assert any(number in str(caught.value.hint) for number in newer)
    for message in reversed(messages):
        index_at_kmc(world.kmc, [message.path])
    assert world.state() == before


@pytest.mark.usefixtures("small_blocks")
def test_what_is_new_does_not_go_around_damage(world: World) -> None:
    messages = with_history(world)
    (block,) = world.folder().glob(f"{messages[0].number}-2.*")
    block.unlink()
    new = world.features(ago(1), "z")
    with pytest.raises(MalformedError, match="is missing") as caught:
        index_at_kmc(world.kmc, [new])
    assert Path(str(caught.value.path)).name == block.name
    assert str(messages[0].number) in str(caught.value.hint)
    report = index_at_kmc(world.kmc, [new, messages[0].path])
    assert (report.counts["repaired"], report.counts["uploads"]) == (1, 1)


def test_a_changed_byte_of_the_index_is_found(world: World) -> None:
    with_history(world)
    index = world.folder() / "index"
    content, new = index.read_bytes(), world.features(ago(0.1), "q")
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 0x10
        index.write_bytes(changed)
        with pytest.raises(MalformedError) as caught:
            index_at_kmc(world.kmc, [new])
        assert caught.value.path == str(index)
        assert "restore" in str(caught.value.hint)
    assert "index" in damaged_files(world)
    index.unlink()
    with pytest.raises(MalformedError, match="is missing"):
        world.store().index()
    assert "index" in damaged_files(world)


def test_another_owners_files_are_not_taken_for_ones_own(world: World) -> None:
    number = ago(1)
    files = [world.features(number, "ab", owner=owner) for owner in ("north", "south")]
    index_at_kmc(world.kmc, files)
    (block,) = world.folder().glob("*-0.*")
    shutil.copy(world.folder("south") / block.name, block)
    assert damaged_files(world) == {block.name}
    shutil.copy(world.folder("south") / "index", world.folder() / "index")
    assert "index" in damaged_files(world)


# Crashes


def test_a_run_that_fails_before_the_index_leaves_all_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.features(ago(3), "abcdef")
    index_at_kmc(world.kmc, [first])
    before = snapshot(world.kmc)
    second = world.features(ago(2), "bcx")

    def full(self: FeatureStore, index: object) -> None:
        raise OutputError("no space", path=self.index_file)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "write_index", full)
        with pytest.raises(OutputError):
            index_at_kmc(world.kmc, [second])
    assert snapshot(world.kmc) == before
    assert index_at_kmc(world.kmc, [second]).counts["images replaced"] == 2


def test_a_run_killed_before_the_index_leaves_the_old_state(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_at_kmc(world.kmc, [world.features(ago(3), "abcdef")])
    before = world.state()
    second = world.features(ago(2), "bcx")
    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "write_index", lambda self, index: 1 / 0)
        patch.setattr(FeatureStore, "remove_unlisted", lambda self, index: None)
        with pytest.raises(ZeroDivisionError):
            index_at_kmc(world.kmc, [second])
    store = world.store()
    assert len(store.unlisted(store.index())) == 2
    assert any("not listed in the index" in warning for warning in check_kmc(world.kmc).warnings)
    store.remove_unlisted(store.index())
    assert world.state() == before
    index_at_kmc(world.kmc, [second])
    assert len(world.state().rows) == 7


def test_a_first_run_that_is_killed_is_run_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = world.features(ago(3), "abcdef")
    real = FeatureStore.write_block

    def killed(self: FeatureStore, *arguments: object) -> None:
        real(self, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "write_block", killed)
        patch.setattr(FeatureStore, "remove_unlisted", lambda self, index: None)
        with pytest.raises(KeyboardInterrupt):
            index_at_kmc(world.kmc, [first])
    assert list(world.folder().glob("*-0.*"))
    check_kmc(world.kmc)
    assert index_at_kmc(world.kmc, [first]).counts["images"] == 6


def test_a_full_disk_is_told_and_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    index_at_kmc(world.kmc, [world.features(ago(3), "abcdef")])
    before = snapshot(world.kmc)

    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match="No space"):
            index_at_kmc(world.kmc, [world.features(ago(2), "bcx")])
    assert snapshot(world.kmc) == before


# Removal


def enrol_anew(world: World, name: str = "north") -> None:
    world.owner(name).write_membership(frozenset())
    enroll_at_kmc(world.kmc, [world.root / name / "enrolment.h5"])


def test_nothing_of_a_removed_owner_stays_or_comes_back(world: World) -> None:
    old = world.features(ago(2), "abcd")
    late = world.features(ago(1.5), "xy")
    index_at_kmc(world.kmc, [old])
    key = world.enrolled().storage_key
    assert remove_from_kmc(world.kmc, "north").counts["images"] == 4
    assert not world.folder().exists()
    assert not list((world.kmc / "users").glob("north*"))
    assert floor_of(Kmc.open(world.kmc).directory, "north").removed >= ago(2) - A_DAY
    check_kmc(world.kmc)
    with pytest.raises(NotAuthorisedError):
        index_at_kmc(world.kmc, [old])
    with pytest.raises(AlreadyAppliedError):
        remove_from_kmc(world.kmc, "north")
    enrol_anew(world)
    number = world.owner().last_number
    assert world.enrolled().storage_key != key
    assert floor_of(Kmc.open(world.kmc).directory, "north") == Floor(number, number)
    for file in (old, late):
        with pytest.raises(ReplayedError, match="because the owner was removed"):
            index_at_kmc(world.kmc, [file])
    report = index_at_kmc(world.kmc, [world.features(number + 1, "ab", earlier=[ago(2)])])
    assert report.details == {"owners": {"north": {"complete": number + 1, "missing": []}}}
    check_kmc(world.kmc)


def test_the_storage_key_outlives_enrolments(world: World) -> None:
    index_at_kmc(world.kmc, [world.features(ago(2), "abcd")])
    enrol_anew(world)
    assert len(world.state().rows) == 4


def test_an_heir_of_the_name_begins_without_a_floor(world: World) -> None:
    index_at_kmc(world.kmc, [world.features(ago(2), "abcd")])
    remove_from_kmc(world.kmc, "north", release_name=True)
    shutil.rmtree(world.root / "north")
    init_owner(world.root / "north", "north", world.kmc / "kmc.pub")
    enroll_at_kmc(world.kmc, [world.root / "north" / "enrolment.h5"])
    assert index_at_kmc(world.kmc, [world.features(ago(3), "ab")]).counts["images of these owners"] == 2


@pytest.mark.parametrize("step", ["floor", "owner", "features"])
def test_a_removal_that_is_interrupted_is_finished_first(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from mipp_cli.files import atomic
    from mipp_cli.kmc import remove as removal

    number = ago(2)
    index_at_kmc(world.kmc, [world.features(number, "abcdef"), world.deletion(ago(1), "a")])
    remove = removal.remove

    def stop(path: Path, *, for_good: bool = False) -> None:
        if path.parent.name == {"floor": "owners", "owner": "users"}.get(step):
            raise KeyboardInterrupt
        remove(path, for_good=for_good)
        if step == "features" and path.parent == world.folder():
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        for module in (removal, atomic):
            patch.setattr(module, "remove", stop)
        with pytest.raises(KeyboardInterrupt):
            remove_from_kmc(world.kmc, "north")
    if step != "floor":
        check_kmc(world.kmc)
        with pytest.raises(ConflictError, match="was interrupted"):
            enrol_anew(world)
    remove_from_kmc(world.kmc, "north")
    assert not world.folder().exists()
    check_kmc(world.kmc)
    enrol_anew(world)
    with pytest.raises(ReplayedError):
        index_at_kmc(world.kmc, [world.root / f"north-{number}.features.h5"])


def test_a_removal_goes_on_where_a_file_cannot_be_deleted(world: World) -> None:
    index_at_kmc(world.kmc, [world.features(ago(2), "abcdef"), world.deletion(ago(1), "a")])
    (stays := world.folder() / "1-0.0").mkdir()
    with pytest.raises(OutputError, match="'north' is removed, but some of the owner's files may be left"):
        remove_from_kmc(world.kmc, "north")
    assert Kmc.open(world.kmc).owner("north") is None
    assert [*world.folder().iterdir()] == [stays]
    stays.rmdir()
    remove_from_kmc(world.kmc, "north")
    assert not world.folder().exists()


def test_a_removal_is_refused_where_a_folder_cannot_be_listed(world: World) -> None:
    """Which messages came before the removal would be forgotten, and could be applied again."""
    world.folder().parent.mkdir(exist_ok=True)
    world.folder().write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be listed: Not a directory") as caught:
        remove_from_kmc(world.kmc, "north")
    assert caught.value.path == str(world.folder())
    assert Kmc.open(world.kmc).owner("north") is not None


def test_an_owner_whose_store_is_damaged_can_be_removed(world: World) -> None:
    number = ago(2)
    index_at_kmc(world.kmc, [world.features(number, "abcdef")])
    (world.folder() / "index").write_bytes(b"x" * 100)
    remove_from_kmc(world.kmc, "north")
    assert floor_of(Kmc.open(world.kmc).directory, "north").removed == number
    assert not world.folder().exists()


# What the directory tells


@pytest.mark.usefixtures("small_blocks")
def test_nothing_of_the_features_stands_in_plain(world: World) -> None:
    names = [f"picture {number}" for number in range(20)]
    rng = np.random.default_rng(5)
    codes = {name: rng.integers(0, 8, 4, dtype=np.uint8).tobytes() for name in names}
    number = ago(2)
    files = [world.features(number, names, codes=lambda _, name: codes[name])]
    files.append(world.deletion(ago(1), names[:3]))
    index_at_kmc(world.kmc, files)
    traces = [digest(name) for name in names] + [image_digest(number, name) for name in names]
    traces += [b"".join(codes[name] for name in names[3:5]), *(name.encode() for name in names)]
    traces += [trace.hex().encode() for trace in traces]
    held = [path for path in world.kmc.rglob("*") if path.is_file()]
    assert len(held) > 15
    for path in held:
        content = path.read_bytes()
        assert not [trace for trace in traces if trace in content], path
        assert path.stat().st_mode & 0o077 == 0 or path.name == "kmc.pub", path


def test_many_rows_make_few_blocks_and_no_group_lies_in_two(world: World) -> None:
    names = [f"{number:07d}" for number in range(140_001)]
    number = ago(1)
    groups = [names[begin : begin + 3] for begin in range(0, len(names), 3)]
    index_at_kmc(world.kmc, [world.features(number, (), groups=groups)])
    message = world.store().index().messages[0]
    assert [block.rows for block in message.blocks] == [65_538, 65_538, 8_925]
    assert [block.first_group for block in message.blocks] == [0, 21_846, 43_692]
    index_at_kmc(world.kmc, [world.deletion(ago(0.5), names[65_536:65_545])])
    message = world.store().index().messages[0]
    assert [block.rows for block in message.blocks] == [65_536, 65_531, 8_925]
    assert [block.generation for block in message.blocks] == [2, 2, 1]
    assert list(world.store().group(world.store().index(), number, 21_845)["name"][0]) == list(
        digest(names[65_535])
    )


def test_a_protected_directory_seals_keys_and_users_and_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(primitive, "STRETCHING", primitive.Stretching(16, 8, 1))
    index_at_kmc(world.kmc, [world.features(ago(2), "abc")])
    key = world.enrolled().storage_key.hex().encode()
    protect_directory(world.kmc, lambda: b"a long passphrase")
    owners_and_users = [*world.kmc.glob("owners/*.json"), *world.kmc.glob("users/*.json")]
    assert len(owners_and_users) == 4
    for path in owners_and_users:
        assert key not in path.read_bytes()
        assert set(read_state(path)) == {"sealed"}
    with passphrases_from(Passphrases(lambda _: b"a long passphrase")):
        index_at_kmc(world.kmc, [world.features(ago(1), "cd")])
        assert len(world.state().rows) == 4
        enrol_anew(world)
        check_kmc(world.kmc)


def test_digests_that_begin_alike_are_told_apart(world: World) -> None:
    """An owner may choose digests, and not names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "mipp_cli.containers.messages.features.name_digest",
            lambda name: bytes(29) + name_digest(name)[:2] + bytes(1),
        )
        files = [world.features(ago(2), "abcdefghij"), world.features(ago(1), "bdx")]
    assert index_at_kmc(world.kmc, files[:1]).counts["images"] == 10
    assert index_at_kmc(world.kmc, files[1:]).counts["images replaced"] == 2
