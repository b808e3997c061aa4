"""Directories that were restored, copied or lost: what works, what does not, and the way back.

These are the claims of the section "After a loss" of docs/operations.md.
"""

from __future__ import annotations

import shutil
from itertools import count
from pathlib import Path

import pytest

from mipp_cli.cloud.cloud import Cloud
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.owner.owner import Owner
from mipp_cli.scheme.secret_keys import key_id
from tests.support.cloud_stores import bring_to_the_kmc, index
from tests.support.deployment import JOBS, Deployment, done, refused, run

pytestmark = pytest.mark.slow

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
    done("owner", "encrypt", owner, *words, "--small", "-o", upload, *JOBS)
    return upload


def enroll(deployment: Deployment, owner: Path) -> None:
    done("kmc", "enroll", deployment / "kmc", owner / "enrolment.h5")
    assert run("cloud", "enroll", deployment / "cloud", owner / "members.h5").code in (0, 5)


def found(deployment: Deployment, user: str = "alice", owner: str = "north") -> set[str]:
    """Return the images of an owner that a user finds and reads, out of all."""
    answer = deployment.answer(deployment.search(deployment.ask(user, candidates=100)))
    words = (deployment / user, answer, "-o", answer.with_suffix(".matches"), "--top", 100, "--json")
    matches = done("user", "decrypt", *words).json["matches"]
    return {match["name"] for match in matches if match["owner"] == owner}


def users_in_force(deployment: Deployment, owner: str = "north") -> set[str]:
    """Return who may search an owner's images, by the KMC and, if it hears of users, by the cloud."""
    enrolled = Kmc.open(deployment / "kmc").owner(owner)
    (member,) = (each for each in Cloud.open(deployment / "cloud").members() if each.owner == owner)
    assert enrolled is not None
    users = {name for name, _ in enrolled.membership.users}
    assert {name for name, _ in member.users} == (set() if deployment.scheme == "exact" else users)
    return users


# A backup of an owner's directory


def test_a_restored_directory_goes_on_by_the_clock(each_way: Deployment) -> None:
    backup = copied(each_way, "north", "backup")
    index(each_way, encrypt(each_way, each_way / "north", each_way / "pictures" / "queries"))
    done("owner", "authorize", each_way / "north", each_way / "eve" / "user.pub")
    enroll(each_way, each_way / "north")
    restore(each_way, "north", backup)
    index(each_way, encrypt(each_way, each_way / "north", each_way / "pictures" / "lake"))
    done("owner", "authorize", each_way / "north", each_way / "bob" / "user.pub")
    enroll(each_way, each_way / "north")
    assert found(each_way) == {*NORTH, "q1.png", "q2.png", *each_way.pictures("lake")}


def test_images_that_a_restored_ledger_lacks_are_reached(each_way: Deployment) -> None:
    backup, queries = copied(each_way, "north", "backup"), each_way / "pictures" / "queries"
    index(each_way, encrypt(each_way, each_way / "north", queries))
    restore(each_way, "north", backup)
    north = each_way / "north"
    words = ("delete", north, "q1.png", "-o", each_way / "d.h5", "--json")
    assert done("owner", *words).json["counts"]["not in the ledger"] == 1
    index(each_way, each_way / "d.h5")
    index(each_way, encrypt(each_way, north, queries / "q2.png"))  # takes the place of the one there
    assert found(each_way) == {*NORTH, "q2.png"}


def test_what_was_deleted_since_the_backup_is_sent_again(each_way: Deployment) -> None:
    backup, pictures = copied(each_way, "north", "backup"), each_way / "pictures" / "north"
    done("owner", "delete", each_way / "north", "chest/a.jpg", "-o", each_way / "d.h5")
    index(each_way, each_way / "d.h5")
    restore(each_way, "north", backup)
    index(each_way, encrypt(each_way, each_way / "north", pictures, "--again"))
    assert found(each_way) == NORTH


def test_a_message_that_was_lost_is_a_gap_until_made_again(each_way: Deployment) -> None:
    north, queries = each_way / "north", each_way / "pictures" / "queries"
    encrypt(each_way, north, queries / "q1.png")  # and its file is lost
    lost = Owner.open(north).ledger.messages()[-1].number
    upload = encrypt(each_way, north, queries / "q2.png")
    words = ("cloud", "index", each_way / "cloud", upload, *JOBS)
    assert done(*words, "--json").json["owners"]["north"]["missing"] == [lost]
    bring_to_the_kmc(each_way, upload)
    assert found(each_way) == {*NORTH, "q2.png"}
    upload = encrypt(each_way, north, queries, "--again", lost)
    words = ("cloud", "index", each_way / "cloud", upload)
    assert done(*words, "--json", *JOBS).json["owners"]["north"]["missing"] == []
    bring_to_the_kmc(each_way, upload)
    assert found(each_way) == {*NORTH, "q1.png", "q2.png"}


def test_the_list_of_users_sent_last_is_in_force(each_way: Deployment) -> None:
    backup = copied(each_way, "south", "backup")
    done("owner", "revoke", each_way / "south", "bob")
    enroll(each_way, each_way / "south")
    restore(each_way, "south", backup)
    assert "alice, bob" in done("inspect", each_way / "south").out
    done("owner", "authorize", each_way / "south", each_way / "eve" / "user.pub")
    enroll(each_way, each_way / "south")
    assert users_in_force(each_way, "south") == {"alice", "bob", "eve"}


def test_after_a_key_was_forgotten_a_backup_wants_a_new_one(each_way: Deployment) -> None:
    north, backup = each_way / "north", copied(each_way, "north", "backup")
    done("owner", "rotate-key", north)
    enroll(each_way, north)
    index(each_way, encrypt(each_way, north, each_way / "pictures" / "north", "--again"))
    done("owner", "forget-key", north, "--applied", Owner.open(north).last_number)
    enroll(each_way, north)
    restore(each_way, "north", backup)
    done("owner", "rotate-key", north)
    enroll(each_way, north)
    index(each_way, encrypt(each_way, north, each_way / "pictures" / "queries"))
    assert found(each_way) == {*NORTH, "q1.png", "q2.png"}


def test_images_under_a_key_newer_than_the_backup_stay_readable(each_way: Deployment) -> None:
    backup, north = copied(each_way, "north", "backup"), each_way / "north"
    done("owner", "rotate-key", north)
    newer = key_id(Owner.open(north).image_key)
    enroll(each_way, north)
    index(each_way, encrypt(each_way, north, each_way / "pictures" / "queries"))
    restore(each_way, "north", backup)
    assert key_id(Owner.open(north).image_key) != newer
    done("owner", "authorize", north, each_way / "eve" / "user.pub")
    enroll(each_way, north)
    assert found(each_way) == {*NORTH, "q1.png", "q2.png"}
    index(each_way, encrypt(each_way, north, each_way / "pictures" / "queries"))
    words = (f"{newer:016x}", "--applied", Owner.open(north).last_number, "--json")
    assert done("owner", "forget-key", north, *words).json["counts"]["not held here"] == 1
    enroll(each_way, north)
    assert found(each_way) == {*NORTH, "q1.png", "q2.png"}
    kmc = Kmc.open(each_way / "kmc").owner("north")
    assert kmc is not None
    assert newer not in kmc.image_keys


def test_a_kmc_that_lost_its_features_is_made_whole(changeable_exact: Deployment) -> None:
    kmc, handed = changeable_exact / "kmc", changeable_exact / "handed"
    assert found(changeable_exact) == NORTH
    shutil.rmtree(kmc / "features" / "north")
    assert found(changeable_exact) == set()
    done("owner", "features", changeable_exact / "north", "-o", handed)
    done("kmc", "index", kmc, *handed.iterdir())
    assert found(changeable_exact) == NORTH


# A second workstation


def test_two_workstations_send_and_delete_by_turns(each_way: Deployment) -> None:
    here, there = each_way / "north", copied(each_way, "north", "there")
    queries = each_way / "pictures" / "queries"
    index(each_way, encrypt(each_way, here, queries / "q1.png"))
    index(each_way, encrypt(each_way, there, queries / "q2.png"))
    assert found(each_way) == {*NORTH, "q1.png", "q2.png"}
    words = ("owner", "delete", here, "q2.png", "-o", each_way / "d.h5", "--json")
    assert done(*words).json["counts"]["not in the ledger"] == 1
    index(each_way, each_way / "d.h5")
    assert found(each_way) == {*NORTH, "q1.png"}


def test_what_was_made_earlier_may_come_later(each_way: Deployment) -> None:
    here, there = each_way / "north", copied(each_way, "north", "there")
    queries = each_way / "pictures" / "queries"
    earlier = encrypt(each_way, here, queries / "q1.png")
    later = encrypt(each_way, there, queries / "q2.png")
    for file in (later, earlier):
        index(each_way, file)
    assert found(each_way) == {*NORTH, "q1.png", "q2.png"}


def test_what_was_made_last_counts_in_whatever_order_it_comes(each_way: Deployment) -> None:
    here, there = each_way / "north", copied(each_way, "north", "there")
    upload = encrypt(each_way, here, each_way / "pictures" / "queries")
    done("owner", "delete", there, "q1.png", "-o", each_way / "d.h5")
    for file in (each_way / "d.h5", upload):
        index(each_way, file)
    assert found(each_way) == {*NORTH, "q2.png"}


def test_the_last_of_two_workstations_lists_is_in_force(
    each_way: Deployment,
) -> None:
    here, there = each_way / "north", copied(each_way, "north", "there")
    done("owner", "authorize", here, each_way / "eve" / "user.pub")
    enroll(each_way, here)
    done("owner", "authorize", there, each_way / "bob" / "user.pub")
    enroll(each_way, there)
    assert users_in_force(each_way) == {"alice", "bob"}


# Lost keys and directories


def test_without_the_signing_key_nothing_is_sent(each_way: Deployment) -> None:
    shutil.rmtree(each_way / "north")
    new = ("owner", "init", each_way / "north", "--id", "north", "--kmc", each_way / "kmc" / "kmc.pub")
    done(*new, "--authorize", each_way / "alice" / "user.pub")
    for role, file in (("kmc", "enrolment.h5"), ("cloud", "members.h5")):
        words = (role, "enroll", each_way / role, each_way / "north" / file)
        assert "is not signed with the key that 'north' was enrolled with" in refused(9, *words).err
    assert found(each_way) == NORTH


def test_a_lost_owner_comes_back_once_the_name_was_released(each_way: Deployment) -> None:
    shutil.rmtree(each_way / "north")
    for role in ("kmc", "cloud"):
        done(role, "remove", each_way / role, "north", "--release-name", "--yes")
    assert found(each_way) == set()
    new = ("owner", "init", each_way / "north", "--id", "north", "--kmc", each_way / "kmc" / "kmc.pub")
    done(*new, "--authorize", each_way / "alice" / "user.pub")
    enroll(each_way, each_way / "north")
    index(each_way, encrypt(each_way, each_way / "north", each_way / "pictures" / "north"))
    assert found(each_way) == NORTH


@pytest.mark.parametrize(
    ("key", "step"), [("identifier", "encrypt"), ("image", "encrypt"), ("signing", "revoke")]
)
def test_a_directory_that_lacks_a_key_says_which(each_way: Deployment, key: str, step: str) -> None:
    directory = Owner.open(each_way / "north").directory
    directory.write_secrets(
        {name: directory.secret(name) for name in ("signing", "image", "identifier") if name != key}
    )
    words: tuple[object, ...] = ("alice",)
    if step == "encrypt":
        words = (each_way / "pictures" / "queries", "-o", each_way / "u.h5", *JOBS)
    assert f"lacks the {key} key" in refused(8, "owner", step, each_way / "north", *words).err


def test_a_directory_that_lacks_its_state_says_so(each_way: Deployment) -> None:
    (each_way / "north" / "state.json").unlink()
    outcome = refused(3, "owner", "revoke", each_way / "north", "alice")
    assert "state.json: is missing" in outcome.err


def test_a_lost_user_makes_new_keys_and_is_authorised_anew(each_way: Deployment) -> None:
    results = each_way.search(each_way.ask("alice"))
    shutil.rmtree(each_way / "alice")
    done("user", "init", each_way / "alice", "--id", "alice", "--kmc", each_way / "kmc" / "kmc.pub")
    answer = each_way.answer(results)
    words = ("user", "decrypt", each_way / "alice", answer, "-o", each_way / "m")
    assert "did not make or has forgotten" in refused(8, *words).err
    authorize = ("owner", "authorize", each_way / "north", each_way / "alice" / "user.pub")
    assert "with another key" in refused(9, *authorize).err
    done("owner", "revoke", each_way / "north", "alice")
    done(*authorize)
    enroll(each_way, each_way / "north")
    assert found(each_way) == NORTH
    assert found(each_way, owner="south") == set()
