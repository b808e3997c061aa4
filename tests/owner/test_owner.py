"""The owner's directory: keys, who may search, and what the KMC and the cloud hear of it."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

import pytest

from mipp_cli.containers.messages.membership import parse_members, read_enrolment
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.owner import owner as owner_role
from mipp_cli.owner.authorize import authorize_users, revoke_users
from mipp_cli.owner.ledger import Message
from mipp_cli.owner.owner import Owner
from mipp_cli.scheme.secret_keys import key_id
from mipp_cli.workdir import replay as sequence
from tests.support.deployment import Deployment, done, refused, secrets_of, snapshot


def users_sent(deployment: Deployment, owner: str) -> tuple[set[str], set[str]]:
    """Return the users that the owner's two files name: to the KMC, to the cloud."""
    fingerprint, key = deployment.public.fingerprint, Kmc.open(deployment / "kmc").sealing_key
    enrolment = read_enrolment(deployment / owner / "enrolment.h5", fingerprint, key).membership
    members = parse_members((deployment / owner / "members.h5").read_bytes(), fingerprint)
    assert enrolment.number == members.number
    return {name for name, _ in enrolment.users}, {name for name, _ in members.users}


def refuse(deployment: Deployment, code: int, words: str, *command: object) -> None:
    before = snapshot(deployment / "north")
    assert words in refused(code, "owner", *command).err
    assert snapshot(deployment / "north") == before


def test_both_files_name_the_users_that_were_authorised(deployment: Deployment) -> None:
    assert users_sent(deployment, "north") == ({"alice"}, {"alice"})
    assert users_sent(deployment, "south") == ({"alice", "bob"}, {"alice", "bob"})


def test_where_the_kmc_ranks_the_cloud_hears_of_no_user(exact: Deployment) -> None:
    assert users_sent(exact, "south") == ({"alice", "bob"}, set())


def test_the_image_key_goes_to_the_kmc_and_nowhere_else(deployment: Deployment) -> None:
    image_key = Owner.open(deployment / "north").image_key
    enrolment = read_enrolment(
        deployment / "north" / "enrolment.h5",
        deployment.public.fingerprint,
        Kmc.open(deployment / "kmc").sealing_key,
    )
    assert enrolment.image_keys == {key_id(image_key): image_key}
    for path in deployment.root.rglob("*"):
        if path.is_file() and path.name != "secrets.json" and path.parent.name != "owners":
            content = path.read_bytes()
            assert image_key not in content, path
            assert image_key.hex().encode() not in content, path


def test_authorize_adds_users_to_both_files(changeable: Deployment) -> None:
    outcome = done("owner", "authorize", changeable / "north", changeable / "eve" / "user.pub")
    assert users_sent(changeable, "north") == ({"alice", "eve"}, {"alice", "eve"})
    assert "takes effect when the KMC has enrolled enrolment.h5 and the cloud members.h5" in outcome.out


def test_authorizing_again_changes_nothing_but_the_number(changeable: Deployment) -> None:
    done("owner", "authorize", changeable / "north", changeable / "alice" / "user.pub")
    assert users_sent(changeable, "north") == ({"alice"}, {"alice"})


def test_revoke_takes_users_off_both_files(changeable: Deployment) -> None:
    done("owner", "revoke", changeable / "south", "alice", "bob")
    assert users_sent(changeable, "south") == (set(), set())


def test_a_user_who_is_not_on_the_list_cannot_be_revoked(changeable: Deployment) -> None:
    refuse(changeable, 2, "hint: authorised users: alice", "revoke", changeable / "north", "alice", "bob")


def test_a_user_with_another_key_is_a_conflict(changeable: Deployment, tmp_path: Path) -> None:
    done("user", "init", tmp_path / "alice2", "--id", "alice", "--kmc", changeable / "kmc" / "kmc.pub")
    public = tmp_path / "alice2" / "user.pub"
    refuse(changeable, 9, "is authorised with another key", "authorize", changeable / "north", public)
    done("owner", "revoke", changeable / "north", "alice")
    done("owner", "authorize", changeable / "north", public)


def test_a_user_of_another_deployment_is_refused(changeable: Deployment, tmp_path: Path) -> None:
    done("kmc", "init", tmp_path / "kmc", "--scheme", "mask")
    done("user", "init", tmp_path / "u", "--id", "u", "--kmc", tmp_path / "kmc" / "kmc.pub")
    words = ("authorize", changeable / "north", changeable / "eve" / "user.pub", tmp_path / "u" / "user.pub")
    refuse(changeable, 8, "belongs to another deployment", *words)


def test_a_cloud_is_no_user(changeable: Deployment) -> None:
    words = ("authorize", changeable / "north", changeable / "cloud" / "cloud.pub")
    refuse(changeable, 3, "is not a user.pub", *words)


def test_numbers_only_ever_grow(changeable: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = Owner.open(changeable / "north")
    last = json.loads((changeable / "north" / "state.json").read_bytes())["number"]
    assert owner.next_number() > last
    monkeypatch.setattr(sequence.time, "time_ns", lambda: 0)  # the clock was set back
    assert owner.next_number() == last + 1
    for number in (last + 1, last + 2):
        authorize_users(changeable / "north", [changeable / "eve" / "user.pub"])
        assert json.loads((changeable / "north" / "state.json").read_bytes())["number"] == number


def test_a_number_that_was_remembered_never_goes_back(changeable: Deployment) -> None:
    owner = Owner.open(changeable / "north")
    last = owner.next_number() + 10**6
    for number in (last, last - 5, 0):
        owner.remember(number)
        assert json.loads((changeable / "north" / "state.json").read_bytes())["number"] == last
        assert Owner.open(changeable / "north").next_number() == last + 1


def test_messages_are_unsure_until_they_are_confirmed_together(changeable: Deployment) -> None:
    owner = Owner.open(changeable / "north")
    numbers = owner.begin_messages(3)
    assert numbers == [*range(numbers[0], owner.last_number + 1)]
    for number in numbers[:2]:
        with owner.ledger.writing(Message(number)):
            pass
    (later,) = owner.begin_messages(1)
    assert Owner.open(changeable / "north").ledger.unsure == {*numbers, later}
    owner.confirm([later])  # and the last of the three was never written
    assert Owner.open(changeable / "north").ledger.unsure == {*numbers[:2]}
    owner.confirm(numbers)
    assert not Owner.open(changeable / "north").ledger.unsure


def test_a_message_stays_unsure_where_nothing_can_be_written(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    owner = Owner.open(changeable / "north")
    numbers = owner.begin_messages(1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        owner.confirm(numbers)
    assert owner.ledger.unsure == Owner.open(changeable / "north").ledger.unsure == {*numbers}


@pytest.mark.parametrize("step", ["write_enrolment", "write_members"])
def test_a_number_is_used_up_before_a_file_bears_it(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    used = []

    def interrupted(path: Path, sender: object, number: int, *_: object) -> None:
        used.append(number)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner_role, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            revoke_users(changeable / "north", ["alice"])
    owner = Owner.open(changeable / "north")
    assert owner.next_number() > used[0]
    assert json.loads((changeable / "north" / "state.json").read_bytes())["number"] == used[0]
    assert {name for name, _ in owner.users} == {"alice"}


def test_numbers_are_microseconds_since_1970(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    later = 10**19
    monkeypatch.setattr(sequence.time, "time_ns", lambda: later)
    assert Owner.open(deployment / "north").next_number() == later // 1000


def test_images_are_called_by_a_keyed_digest_of_their_path(deployment: Deployment) -> None:
    owner = Owner.open(deployment / "north")
    key = owner.directory.secret("identifier")
    expected = hmac.new(key, b"chest/a.jpg", hashlib.sha256).hexdigest()[:32]
    assert owner.name_on_the_wire("chest/a.jpg") == expected
    assert deployment.names("north")[expected] == "chest/a.jpg"


def test_rows_are_sorted_by_a_key_whatever_names_are(deployment: Deployment, tmp_path: Path) -> None:
    kmc = deployment / "kmc" / "kmc.pub"
    done("owner", "init", tmp_path / "o", "--id", "o", "--kmc", kmc, "--image-names", "path")
    owner = Owner.open(tmp_path / "o")
    key = owner.directory.secret("identifier")
    assert owner.row_key("chest/a.jpg") == hmac.new(key, b"chest/a.jpg", hashlib.sha256).digest()


def test_numbers_are_taken_back_only_where_told_so(changeable: Deployment) -> None:
    owner = Owner.open(changeable / "north")
    last = owner.last_number
    owner.take_back(last - 5)
    assert owner.last_number == Owner.open(changeable / "north").last_number == last - 5
    assert owner.next_number() > last  # the clock is above it all the same


def test_images_may_be_called_by_their_path(deployment: Deployment, tmp_path: Path) -> None:
    kmc = deployment / "kmc" / "kmc.pub"
    done("owner", "init", tmp_path / "o", "--id", "o", "--kmc", kmc, "--image-names", "path")
    assert Owner.open(tmp_path / "o").name_on_the_wire("chest/a.jpg") == "chest/a.jpg"


def test_a_change_that_came_in_between_is_not_lost(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = changeable / "south"
    opened = owner_role.Owner.open

    def open_late(given: Path) -> Owner:
        owner = opened(given)
        monkeypatch.setattr(owner_role.Owner, "open", opened)
        authorize_users(path, [changeable / "eve" / "user.pub"])
        return owner

    monkeypatch.setattr(owner_role.Owner, "open", open_late)
    revoke_users(path, ["bob"])
    assert users_sent(changeable, "south")[1] == {"alice", "eve"}


def test_two_owners_have_no_key_in_common(deployment: Deployment) -> None:
    keys = [
        value
        for role in ("north", "south", "lake", "alice", "bob", "kmc", "cloud")
        for value in deployment.role(role).read_json("secrets.json").values()
    ]
    assert len(set(keys)) == len(keys)
    assert set(keys) <= secrets_of(deployment.root)
