"""Directories that were restored, copied or lost: what works, what does not, and the way back.

These are the claims of the README's section "Lost, moved, restored".
"""

from __future__ import annotations

import shutil
from itertools import count
from pathlib import Path

import pytest

from mipp_cli.roles.cloud import Cloud
from mipp_cli.roles.kmc import Kmc
from mipp_cli.roles.owner import Owner
from mipp_cli.scheme.image_cipher import key_id
from tests.deployment import JOBS, Deployment, done, refused, run

_numbers = count()
NORTH = {"chest/a.jpg", "chest/b.png", "chest/c.png", "hand/a.tif", "hand/d.bmp"}


def copied(deployment: Deployment, name: str, to: str) -> Path:
    """Copy a role's directory, as a backup or onto another workstation."""
    shutil.copytree(deployment / name, deployment / to)
    return deployment / to


def restore(deployment: Deployment, name: str, backup: Path) -> None:
    shutil.rmtree(deployment / name)
    backup.rename(deployment / name)


def encrypt(deployment: Deployment, owner: Path, *words: object) -> Path:
    upload = deployment / f"upload-{next(_numbers)}.h5"
    done("owner", "encrypt", owner, *words, "-o", upload, *JOBS)
    return upload


def index(deployment: Deployment, file: Path) -> None:
    done("cloud", "index", deployment / "cloud", file, *JOBS)


def enroll(deployment: Deployment, owner: Path) -> None:
    done("kmc", "enroll", deployment / "kmc", owner / "enrolment.h5")
    assert run("cloud", "enroll", deployment / "cloud", owner / "members.h5").code in (0, 5)


def found(deployment: Deployment, user: str = "alice", owner: str = "north") -> set[str]:
    """Return the images of an owner that a user finds and reads, out of all."""
    answer = deployment.answer(deployment.search(deployment.ask(user, candidates=100)))
    words = (deployment / user, answer, "-o", answer.with_suffix(".matches"), "--top", 100, "--json")
    matches = done("user", "decrypt", *words).json["matches"]
    return {match["name"] for match in matches if match["owner"] == owner}


def users_in_force(deployment: Deployment, owner: str = "north") -> tuple[set[str], set[str]]:
    """Return who may search an owner's images, by the KMC and by the cloud."""
    enrolled = Kmc.open(deployment / "kmc").owner(owner)
    (member,) = (each for each in Cloud.open(deployment / "cloud").members() if each.owner == owner)
    assert enrolled is not None
    return {name for name, _ in enrolled.membership.users}, {name for name, _ in member.users}


# A backup of an owner's directory


def test_a_restored_directory_goes_on_by_the_clock(changeable: Deployment) -> None:
    backup = copied(changeable, "north", "backup")
    index(changeable, encrypt(changeable, changeable / "north", changeable / "pictures" / "queries"))
    done("owner", "authorize", changeable / "north", changeable / "eve" / "user.pub")
    enroll(changeable, changeable / "north")
    restore(changeable, "north", backup)
    index(changeable, encrypt(changeable, changeable / "north", changeable / "pictures" / "lake"))
    done("owner", "authorize", changeable / "north", changeable / "bob" / "user.pub")
    enroll(changeable, changeable / "north")
    assert found(changeable) == {*NORTH, "q1.png", "q2.png", *changeable.pictures("lake")}


def test_images_that_a_restored_ledger_lacks_are_reached(changeable: Deployment) -> None:
    backup, queries = copied(changeable, "north", "backup"), changeable / "pictures" / "queries"
    index(changeable, encrypt(changeable, changeable / "north", queries))
    restore(changeable, "north", backup)
    north = changeable / "north"
    words = ("delete", north, "q1.png", "-o", changeable / "d.h5", "--json")
    assert done("owner", *words).json["counts"]["not in the ledger"] == 1
    index(changeable, changeable / "d.h5")
    index(changeable, encrypt(changeable, north, queries / "q2.png"))  # takes the place of the one there
    assert found(changeable) == {*NORTH, "q2.png"}


def test_what_was_deleted_since_the_backup_is_sent_again(changeable: Deployment) -> None:
    backup, pictures = copied(changeable, "north", "backup"), changeable / "pictures" / "north"
    done("owner", "delete", changeable / "north", "chest/a.jpg", "-o", changeable / "d.h5")
    index(changeable, changeable / "d.h5")
    restore(changeable, "north", backup)
    index(changeable, encrypt(changeable, changeable / "north", pictures, "--again"))
    assert found(changeable) == NORTH


def test_a_message_that_was_lost_is_a_gap_until_made_again(changeable: Deployment) -> None:
    north, queries = changeable / "north", changeable / "pictures" / "queries"
    encrypt(changeable, north, queries / "q1.png")  # and its file is lost
    lost = Owner.open(north).ledger.messages()[-1].number
    words = ("cloud", "index", changeable / "cloud", encrypt(changeable, north, queries / "q2.png"), *JOBS)
    assert done(*words, "--json").json["owners"]["north"]["missing"] == [lost]
    assert found(changeable) == {*NORTH, "q2.png"}
    words = ("cloud", "index", changeable / "cloud", encrypt(changeable, north, queries, "--again", lost))
    assert done(*words, "--json", *JOBS).json["owners"]["north"]["missing"] == []
    assert found(changeable) == {*NORTH, "q1.png", "q2.png"}


def test_the_list_of_users_sent_last_is_in_force(changeable: Deployment) -> None:
    backup = copied(changeable, "south", "backup")
    done("owner", "revoke", changeable / "south", "bob")
    enroll(changeable, changeable / "south")
    restore(changeable, "south", backup)
    assert "alice, bob" in done("inspect", changeable / "south").out
    done("owner", "authorize", changeable / "south", changeable / "eve" / "user.pub")
    enroll(changeable, changeable / "south")
    assert users_in_force(changeable, "south") == ({"alice", "bob", "eve"}, {"alice", "bob", "eve"})


def test_after_a_key_was_forgotten_a_backup_wants_a_new_one(changeable: Deployment) -> None:
    north, backup = changeable / "north", copied(changeable, "north", "backup")
    done("owner", "rotate", north)
    index(changeable, encrypt(changeable, north, changeable / "pictures" / "north", "--again"))
    done("owner", "forget-key", north, "--applied", Owner.open(north).last_number)
    enroll(changeable, north)
    restore(changeable, "north", backup)
    done("owner", "rotate", north)
    enroll(changeable, north)
    index(changeable, encrypt(changeable, north, changeable / "pictures" / "queries"))
    assert found(changeable) == {*NORTH, "q1.png", "q2.png"}


def test_images_under_a_key_newer_than_the_backup_stay_readable(changeable: Deployment) -> None:
    backup, north = copied(changeable, "north", "backup"), changeable / "north"
    done("owner", "rotate", north)
    newer = key_id(Owner.open(north).image_key)
    index(changeable, encrypt(changeable, north, changeable / "pictures" / "queries"))
    enroll(changeable, north)
    restore(changeable, "north", backup)
    assert key_id(Owner.open(north).image_key) != newer
    done("owner", "authorize", north, changeable / "eve" / "user.pub")
    enroll(changeable, north)
    assert found(changeable) == {*NORTH, "q1.png", "q2.png"}
    index(changeable, encrypt(changeable, north, changeable / "pictures" / "queries"))
    words = (f"{newer:016x}", "--applied", Owner.open(north).last_number, "--json")
    assert done("owner", "forget-key", north, *words).json["counts"]["not held here"] == 1
    enroll(changeable, north)
    assert found(changeable) == {*NORTH, "q1.png", "q2.png"}
    kmc = Kmc.open(changeable / "kmc").owner("north")
    assert kmc is not None
    assert newer not in kmc.image_keys


# A second workstation


def test_two_workstations_send_and_delete_by_turns(changeable: Deployment) -> None:
    here, there = changeable / "north", copied(changeable, "north", "there")
    queries = changeable / "pictures" / "queries"
    index(changeable, encrypt(changeable, here, queries / "q1.png"))
    index(changeable, encrypt(changeable, there, queries / "q2.png"))
    assert found(changeable) == {*NORTH, "q1.png", "q2.png"}
    words = ("owner", "delete", here, "q2.png", "-o", changeable / "d.h5", "--json")
    assert done(*words).json["counts"]["not in the ledger"] == 1
    index(changeable, changeable / "d.h5")
    assert found(changeable) == {*NORTH, "q1.png"}


def test_what_was_made_earlier_may_come_later(changeable: Deployment) -> None:
    here, there = changeable / "north", copied(changeable, "north", "there")
    queries = changeable / "pictures" / "queries"
    earlier = encrypt(changeable, here, queries / "q1.png")
    later = encrypt(changeable, there, queries / "q2.png")
    for file in (later, earlier):
        index(changeable, file)
    assert found(changeable) == {*NORTH, "q1.png", "q2.png"}


def test_what_was_made_last_counts_in_whatever_order_it_comes(changeable: Deployment) -> None:
    here, there = changeable / "north", copied(changeable, "north", "there")
    upload = encrypt(changeable, here, changeable / "pictures" / "queries")
    done("owner", "delete", there, "q1.png", "-o", changeable / "d.h5")
    for file in (changeable / "d.h5", upload):
        index(changeable, file)
    assert found(changeable) == {*NORTH, "q2.png"}


def test_the_last_of_two_workstations_lists_is_in_force(
    changeable: Deployment,
) -> None:
    here, there = changeable / "north", copied(changeable, "north", "there")
    done("owner", "authorize", here, changeable / "eve" / "user.pub")
    enroll(changeable, here)
    done("owner", "authorize", there, changeable / "bob" / "user.pub")
    enroll(changeable, there)
    assert users_in_force(changeable) == ({"alice", "bob"}, {"alice", "bob"})


# Lost keys and directories


def test_without_the_signing_key_nothing_is_sent(changeable: Deployment) -> None:
    shutil.rmtree(changeable / "north")
    new = ("owner", "init", changeable / "north", "--id", "north", "--kmc", changeable / "kmc" / "kmc.pub")
    done(*new, "--authorize", changeable / "alice" / "user.pub")
    for role, file in (("kmc", "enrolment.h5"), ("cloud", "members.h5")):
        words = (role, "enroll", changeable / role, changeable / "north" / file)
        assert "another key than the one that 'north' was enrolled with" in refused(9, *words).err
    assert found(changeable) == NORTH


def test_a_lost_owner_comes_back_once_the_name_was_released(changeable: Deployment) -> None:
    shutil.rmtree(changeable / "north")
    for role in ("kmc", "cloud"):
        done(role, "remove", changeable / role, "north", "--release-name")
    assert found(changeable) == set()
    new = ("owner", "init", changeable / "north", "--id", "north", "--kmc", changeable / "kmc" / "kmc.pub")
    done(*new, "--authorize", changeable / "alice" / "user.pub")
    enroll(changeable, changeable / "north")
    index(changeable, encrypt(changeable, changeable / "north", changeable / "pictures" / "north"))
    assert found(changeable) == NORTH


@pytest.mark.parametrize(
    ("key", "step"), [("identifier", "encrypt"), ("image", "encrypt"), ("signing", "revoke")]
)
def test_a_directory_that_lacks_a_key_says_which(changeable: Deployment, key: str, step: str) -> None:
    directory = Owner.open(changeable / "north").directory
    directory.write_secrets(
        {name: directory.secret(name) for name in ("signing", "image", "identifier") if name != key}
    )
    words: tuple[object, ...] = ("alice",)
    if step == "encrypt":
        words = (changeable / "pictures" / "queries", "-o", changeable / "u.h5", *JOBS)
    assert f"lacks the {key} key" in refused(8, "owner", step, changeable / "north", *words).err


def test_a_directory_that_lacks_its_state_says_so(changeable: Deployment) -> None:
    (changeable / "north" / "state.json").unlink()
    outcome = refused(3, "owner", "revoke", changeable / "north", "alice")
    assert "state.json: is missing or damaged" in outcome.err


def test_a_lost_user_makes_new_keys_and_is_authorised_anew(changeable: Deployment) -> None:
    results = changeable.search(changeable.ask("alice"))
    shutil.rmtree(changeable / "alice")
    done("user", "init", changeable / "alice", "--id", "alice", "--kmc", changeable / "kmc" / "kmc.pub")
    answer = changeable.answer(results)
    words = ("user", "decrypt", changeable / "alice", answer, "-o", changeable / "m")
    assert "did not make, or forgot" in refused(8, *words).err
    authorize = ("owner", "authorize", changeable / "north", changeable / "alice" / "user.pub")
    assert "with another key" in refused(9, *authorize).err
    done("owner", "revoke", changeable / "north", "alice")
    done(*authorize)
    enroll(changeable, changeable / "north")
    assert found(changeable) == NORTH
    assert found(changeable, owner="south") == set()
