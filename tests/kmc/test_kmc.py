"""The KMC's directory: a deployment of its own, whose secrets are drawn and whose public file is signed."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

import pytest

from mipp_cli.containers.messages.membership import write_enrolment
from mipp_cli.containers.messages.public_files import load_deployment
from mipp_cli.kmc.init import init_kmc
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.owner.owner import Owner
from mipp_cli.scheme.parameters import PAPER_WARNING
from mipp_cli.scheme.secret_keys import generate_key, key_id
from mipp_cli.workdir.directory import RoleDirectory
from tests.support.deployment import Deployment, Outcome, done, mode
from tests.support.forgery import next_number


def test_unless_told_the_kmc_ranks_and_groups_are_of_eight(tmp_path: Path) -> None:
    report = init_kmc(tmp_path / "kmc")
    parameters = load_deployment(tmp_path / "kmc" / "kmc.pub").parameters
    assert (parameters.scheme, parameters.group_size) == ("exact", 8)
    assert report.warnings == ()


def test_unless_told_the_repaired_cipher_has_3072_bits(tmp_path: Path) -> None:
    report = init_kmc(tmp_path / "kmc", scheme="dcr")
    parameters = load_deployment(tmp_path / "kmc" / "kmc.pub").parameters
    assert (parameters.modulus_bits, parameters.group_size) == (3072, None)
    assert report.warnings == ()


@pytest.mark.parametrize("group_size", [1, 16, 1024])
def test_the_size_of_groups_is_a_deployments(tmp_path: Path, group_size: int) -> None:
    init_kmc(tmp_path / "kmc", scheme="exact", group_size=group_size)
    parameters = load_deployment(tmp_path / "kmc" / "kmc.pub").parameters
    assert parameters.group_size == parameters.protocol.group_size == group_size


def test_the_paper_scheme_always_warns(tmp_path: Path) -> None:
    report = init_kmc(tmp_path / "kmc", scheme="paper", modulus_bits=2048)
    assert report.warnings == (PAPER_WARNING,)


def test_a_modulus_for_tests_is_never_used_without_a_warning(any_scheme: Deployment) -> None:
    warnings = any_scheme.public.parameters.warnings
    assert len(warnings) == {"exact": 0, "dcr": 1, "mask": 0, "paper": 1}[any_scheme.scheme]


def test_two_deployments_have_nothing_in_common(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        init_kmc(tmp_path / name, scheme="mask")
        keys = RoleDirectory.open(tmp_path / name, "kmc").read_json("secrets.json")
        made.append({*keys.values(), load_deployment(tmp_path / name / "kmc.pub").fingerprint})
    assert not made[0] & made[1]


def test_the_keys_of_owners_are_kept_for_the_kmc_alone(any_scheme: Deployment) -> None:
    files = list((any_scheme / "kmc" / "owners").iterdir())
    assert len(files) == 3
    for file in files:
        assert mode(file) == "0600"


def test_features_and_rankings_are_kept_for_the_kmc_alone(exact: Deployment) -> None:
    kept = [*(exact / "kmc" / "features").rglob("*"), *(exact / "kmc" / "rankings").iterdir()]
    files = [file for file in kept if file.is_file()]
    assert len(files) >= 3 + 2
    for file in files:
        assert mode(file) == "0600", file


def test_an_enrolled_owner_is_known_by_key_users_and_image_keys(any_scheme: Deployment) -> None:
    owner = Kmc.open(any_scheme / "kmc").owner("south")
    assert owner is not None
    sender = any_scheme.sender("south")
    assert owner.membership.key == sender.signing_key.public
    assert {name for name, _ in owner.membership.users} == {"alice", "bob"}
    image_key = any_scheme.role("south").secret("image")
    assert owner.image_keys == {key_id(image_key): image_key}


def test_an_owner_who_did_not_enrol_is_unknown(deployment: Deployment) -> None:
    kmc = Kmc.open(deployment / "kmc")
    assert kmc.owner("newcomer") is None
    assert kmc.owner_names() == ["lake", "north", "south"]


def test_a_key_forgotten_by_a_later_enrolment_opens_nothing(changeable: Deployment) -> None:
    enrolment = changeable / "other-key.h5"
    users = frozenset({("alice", changeable.sender("alice").signing_key.public)})
    sealing_key = changeable.public.sealing_key
    write_enrolment(
        enrolment,
        changeable.sender("north"),
        next_number(),
        users,
        [generate_key()],
        sealing_key,
        Kmc.open(changeable / "kmc").owner("north").image_keys,
    )
    done("kmc", "enroll", changeable / "kmc", enrolment)
    results = changeable.search(changeable.ask("alice", candidates=100))
    outcome = done("kmc", "reencrypt", changeable / "kmc", results, "-o", changeable / "a.h5")
    assert "left out images of north (5)" in outcome.err
    assert "under a key that is not enrolled" in outcome.err
    matches = done(
        "user", "decrypt", changeable / "alice", changeable / "a.h5", "-o", changeable / "m", "--json"
    )
    assert {match["owner"] for match in matches.json["matches"]} == {"south"}


def enrol_north(deployment: Deployment, keys: list[bytes], forgotten: Collection[int] = ()) -> Outcome:
    """Enrol north with image keys and forgotten ids of our choice, as an owner with a backup would."""
    path, public = deployment / "forged.h5", deployment.public
    users = frozenset({("alice", deployment.sender("alice").signing_key.public)})
    sender = deployment.sender("north")
    write_enrolment(path, sender, next_number(), users, keys, public.sealing_key, forgotten)
    return done("kmc", "enroll", deployment / "kmc", path)


def held(deployment: Deployment) -> tuple[set[int], frozenset[int]]:
    """Return the ids of the image keys that the KMC holds of north, and of those that it forgot."""
    north = Kmc.open(deployment / "kmc").owner("north")
    assert north is not None
    return set(north.image_keys), north.forgotten


def test_a_key_that_was_forgotten_is_nowhere_at_the_kmc(changeable: Deployment) -> None:
    old, new = changeable.role("north").secret("image"), generate_key()
    enrol_north(changeable, [new], [key_id(old)])
    assert held(changeable) == ({key_id(new)}, {key_id(old)})
    for file in (changeable / "kmc").rglob("*"):
        assert not file.is_file() or old.hex().encode() not in file.read_bytes()


def test_no_later_enrolment_brings_back_a_forgotten_key(changeable: Deployment) -> None:
    old, new = changeable.role("north").secret("image"), generate_key()
    enrol_north(changeable, [new], [key_id(old)])
    enrol_north(changeable, [old, new])
    assert held(changeable) == ({key_id(new)}, {key_id(old)})


def test_forgotten_ids_add_up(changeable: Deployment) -> None:
    keys = [generate_key() for _ in range(3)]
    for key in keys[:2]:
        enrol_north(changeable, [keys[2]], [key_id(key)])
    assert held(changeable)[1] == {key_id(key) for key in keys[:2]}


def test_a_key_is_forgotten_before_it_was_ever_enrolled(changeable: Deployment) -> None:
    key, other = generate_key(), generate_key()
    enrol_north(changeable, [other], [key_id(key)])
    enrol_north(changeable, [key, other])
    assert key_id(key) not in held(changeable)[0]


def test_a_key_named_and_forgotten_at_once_is_forgotten(changeable: Deployment) -> None:
    key, other = generate_key(), generate_key()
    enrol_north(changeable, [key, other], [key_id(key)])
    assert key_id(key) not in held(changeable)[0]


def test_what_one_owner_forgot_is_no_other_owners(changeable: Deployment) -> None:
    key = changeable.role("south").secret("image")
    enrol_north(changeable, [generate_key()], [key_id(key)])
    south = Kmc.open(changeable / "kmc").owner("south")
    assert south is not None
    assert (set(south.image_keys), south.forgotten) == ({key_id(key)}, frozenset())


def test_several_enrolments_at_once_bring_nothing_back(changeable: Deployment) -> None:
    old, new = changeable.role("north").secret("image"), generate_key()
    public, sender, files = changeable.public, changeable.sender("north"), []
    for keys, forgotten in (([new], [key_id(old)]), ([old], [])):
        files.append(changeable / f"{len(files)}.h5")
        number = next_number()
        write_enrolment(files[-1], sender, number, frozenset(), keys, public.sealing_key, forgotten)
    done("kmc", "enroll", changeable / "kmc", *files)
    assert held(changeable) == ({key_id(new)}, {key_id(old)})


def test_a_forgotten_key_stays_so_after_a_removal_and_return(changeable: Deployment) -> None:
    old, new = changeable.role("north").secret("image"), generate_key()
    enrol_north(changeable, [new], [key_id(old)])
    done("kmc", "remove", changeable / "kmc", "north", "--yes")
    enrol_north(changeable, [old, new])
    assert held(changeable) == ({key_id(new)}, {key_id(old)})


def test_a_forgotten_key_stays_so_after_two_removals(changeable: Deployment) -> None:
    old, new = changeable.role("north").secret("image"), generate_key()
    enrol_north(changeable, [new], [key_id(old)])
    for _ in range(2):
        done("kmc", "remove", changeable / "kmc", "north", "--yes")
        enrol_north(changeable, [old, new])
    assert held(changeable) == ({key_id(new)}, {key_id(old)})


def test_an_owner_back_with_forgotten_keys_alone_is_warned_of(changeable: Deployment) -> None:
    old = changeable.role("north").secret("image")
    enrol_north(changeable, [generate_key()], [key_id(old)])
    done("kmc", "remove", changeable / "kmc", "north", "--yes")
    said = enrol_north(changeable, [old]).err
    assert "warning: north enrols only image keys that it dropped before" in said
    assert "mipp owner rotate-key" in said
    assert held(changeable) == (set(), {key_id(old)})


def test_an_owner_with_a_key_that_is_left_is_not_warned_of(changeable: Deployment) -> None:
    old = changeable.role("north").secret("image")
    assert enrol_north(changeable, [old, generate_key()], [key_id(old)]).err == ""


def test_another_owner_of_a_released_name_forgot_nothing(changeable: Deployment) -> None:
    old, new = changeable.role("north").secret("image"), changeable / "new"
    enrol_north(changeable, [generate_key()], [key_id(old)])
    done("kmc", "remove", changeable / "kmc", "north", "--release-name", "--yes")
    done("owner", "init", new, "--id", "north", "--kmc", changeable / "kmc" / "kmc.pub")
    done("kmc", "enroll", changeable / "kmc", new / "enrolment.h5")
    assert held(changeable)[1] == frozenset()


def test_a_key_forgotten_by_the_owners_command_stays_so(changeable: Deployment) -> None:
    north = changeable / "north"
    backup = shutil.copytree(north, changeable / "backup")
    old = changeable.role("north").secret("image")
    done("owner", "rotate-key", north)
    done("owner", "delete", north, *changeable.pictures("north"), "-o", changeable / "d.h5")
    number = Owner.open(north).last_number
    done("owner", "forget-key", north, f"{key_id(old):016x}", "--applied", number)
    done("kmc", "enroll", changeable / "kmc", north / "enrolment.h5")
    done("owner", "renumber", backup, "--above", Owner.open(north).last_number)
    said = done("kmc", "enroll", changeable / "kmc", backup / "enrolment.h5").err
    assert "dropped before" not in said
    keys, forgotten = held(changeable)
    assert forgotten == {key_id(old)}
    assert keys == {key_id(changeable.role("north").secret("image"))}


@pytest.mark.parametrize("name", ["kmc", "cloud", "alice", "north"])
def test_every_role_keeps_the_same_public_file(any_scheme: Deployment, name: str) -> None:
    public = (any_scheme / "kmc" / "kmc.pub").read_bytes()
    assert (any_scheme / name / "kmc.pub").read_bytes() == public
