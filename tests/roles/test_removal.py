"""Owners removed: their keys go, and neither a recorded file nor a retired key brings them back."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from mipp_cli.containers.container import open_container
from mipp_cli.containers.index import write_index
from mipp_cli.containers.upload import upload_schema
from mipp_cli.roles.cloud import Cloud
from mipp_cli.roles.floors import Floor, floor_of, raise_floor
from mipp_cli.roles.kmc import Kmc
from mipp_cli.roles.removal import remove_from_kmc
from mipp_cli.roles.removed import InForce, record_removal, removal_of
from tests.deployment import JOBS, Deployment, done, mode, refused, snapshot
from tests.roles.forgery import next_number
from tests.roles.stores import upload_of
from tests.roles.test_enrolment import Place

EACH = pytest.mark.parametrize("role", ["kmc", "cloud"])


def remove(deployment: Deployment, role: str, *options: str, owner: str = "north") -> dict[str, int]:
    outcome = done(role, "remove", deployment / role, owner, *options, "--json")
    counts = outcome.json["counts"]
    assert isinstance(counts, dict)
    return counts


def newcomer(place: Place, name: str = "north") -> Path:
    """Return the file that enrols another owner of a name, with keys of its own."""
    folder = place.deployment / "newcomer"
    done("owner", "init", folder, "--id", name, "--kmc", place.deployment / "kmc" / "kmc.pub")
    return folder / place.file(name).name


def renewed(place: Place) -> Path:
    """Return a newer enrolment of north, under its own key."""
    done("owner", "authorize", place.deployment / "north", place.deployment / "alice" / "user.pub")
    return place.file("north")


def test_the_keys_and_the_users_of_a_removed_owner_are_gone(changeable: Deployment) -> None:
    image_key = changeable.role("north").secret("image")
    assert remove(changeable, "kmc") == {"owners": 1, "image keys": 1, "users": 1}
    assert Kmc.open(changeable / "kmc").owner_names() == ["lake", "south"]
    for file in (changeable / "kmc").rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert image_key not in content
        assert image_key.hex().encode() not in content


def test_images_of_a_removed_owner_are_not_reencrypted(changeable: Deployment) -> None:
    results = changeable.search(changeable.ask("alice", candidates=100))
    remove(changeable, "kmc")
    outcome = refused(4, "kmc", "reencrypt", changeable / "kmc", results, "-o", changeable / "a.h5")
    assert "holds an image of 'north'" in outcome.err


@EACH
def test_a_record_of_the_removal_is_kept_for_the_role_alone(changeable: Deployment, role: str) -> None:
    remove(changeable, role)
    directory = changeable.role(role)
    record = removal_of(directory, "north")
    assert record is not None
    assert record.key == changeable.sender("north").signing_key.public
    assert not record.released
    assert mode(directory.file("removed/north.json")) == "0600"


@EACH
def test_a_recorded_enrolment_does_not_bring_an_owner_back(changeable: Deployment, role: str) -> None:
    place = Place(changeable, role)
    recorded = shutil.copy(place.file("north"), changeable / "recorded.h5")
    last = shutil.copy(renewed(place), changeable / "last.h5")
    place.enroll(last)
    remove(changeable, role)
    for file in (recorded, last):
        place.refuse(6, "is not newer than what was in force when 'north' was removed", Path(file))


@EACH
def test_an_owner_comes_back_with_a_newer_enrolment(changeable: Deployment, role: str) -> None:
    place = Place(changeable, role)
    remove(changeable, role)
    assert place.enroll(renewed(place))["owners"] == 1
    assert remove(changeable, role)["owners"] == 1


@EACH
def test_nobody_else_takes_the_name_of_a_removed_owner(changeable: Deployment, role: str) -> None:
    place = Place(changeable, role)
    remove(changeable, role)
    place.refuse(9, "another key than the one that 'north' was enrolled with", newcomer(place))


@EACH
@pytest.mark.parametrize("steps", [[("--release-name",)], [(), ("--release-name",)]])
def test_a_released_name_goes_to_another_key_and_the_old_one_is_retired(
    changeable: Deployment, role: str, steps: list[tuple[str, ...]]
) -> None:
    place = Place(changeable, role)
    for options in steps:
        remove(changeable, role, *options)
    place.refuse(9, "is signed with a key that was retired", renewed(place))
    outcome = done(role, "enroll", changeable / role, newcomer(place))
    assert "fingerprint of" in outcome.out
    place.refuse(9, "is signed with a key that was retired", renewed(place))


@EACH
def test_a_retired_key_stays_so_when_the_next_owner_is_removed_too(changeable: Deployment, role: str) -> None:
    place = Place(changeable, role)
    remove(changeable, role, "--release-name")
    heir = newcomer(place)
    place.enroll(heir)
    remove(changeable, role)
    place.refuse(9, "is signed with a key that was retired", renewed(place))
    place.refuse(6, "is not newer", heir)
    remove(changeable, role, "--release-name")
    place.refuse(9, "is signed with a key that was retired", heir)


@EACH
@pytest.mark.parametrize("options", [(), ("--release-name",)])
def test_a_second_removal_changes_nothing(
    changeable: Deployment, role: str, options: tuple[str, ...]
) -> None:
    remove(changeable, role, *options)
    before = snapshot(changeable / role)
    outcome = refused(5, role, "remove", changeable / role, "north", *options)
    assert "the owner 'north' was removed before" in outcome.err
    assert snapshot(changeable / role) == before


@EACH
@pytest.mark.parametrize("name", ["nobody", "../north", ""])
def test_who_was_never_enrolled_cannot_be_removed(deployment: Deployment, role: str, name: str) -> None:
    before = snapshot(deployment / role)
    refused(2, role, "remove", deployment / role, name)
    assert snapshot(deployment / role) == before


@EACH
def test_other_owners_stay(changeable: Deployment, role: str) -> None:
    remove(changeable, role)
    place = Place(changeable, role)
    place.refuse(5, "was applied before", place.file("south"))


@EACH
@pytest.mark.parametrize("release", [False, True])
def test_a_removal_that_was_interrupted_after_its_record_is_finished(
    changeable: Deployment, role: str, release: bool
) -> None:
    directory = changeable.role(role)
    key = changeable.sender("north").signing_key.public
    record_removal(directory, "north", InForce(key, 7, "0" * 64), release=release)
    assert remove(changeable, role, *(["--release-name"] if release else []))["owners"] == 1
    place = Place(changeable, role)
    file = renewed(place)
    if release:
        place.refuse(9, "retired", file)
        place.enroll(newcomer(place))
    else:
        place.enroll(file)


def test_a_damaged_record_is_named(changeable: Deployment) -> None:
    remove_from_kmc(changeable / "kmc", "north")
    record = changeable / "kmc" / "removed" / "north.json"
    record.write_text(record.read_text().replace('"released": false', '"released": true'))
    place = Place(changeable, "kmc")
    place.refuse(3, str(record), newcomer(place))


def index(deployment: Deployment, upload: Path) -> tuple[object, ...]:
    return "cloud", "index", deployment / "cloud", upload, *JOBS


def test_nothing_of_a_removed_owners_images_stays_in_the_cloud(changeable: Deployment) -> None:
    with open_container(changeable / "north.h5", upload_schema(None)) as upload:
        names = upload.ragged("image_names").rows(0, 5)
        traces = [bytes(ew)[:64] for ew in upload.ragged("EW").rows(0, 5)]
        traces += [row.tobytes()[:64] for name in ("EF", "EFF") for row in upload.matrix(name).rows(0, 5)]
    assert remove(changeable, "cloud") == {"owners": 1, "uploads": 1, "images": 5}
    files = [file for file in (changeable / "cloud").rglob("*") if file.is_file()]
    assert len(files) >= 10
    for file in files:
        content = file.read_bytes()
        assert not [trace for trace in (*traces, *map(bytes, names)) if trace in content], file


def test_a_search_goes_on_among_the_other_owners(changeable: Deployment) -> None:
    remove(changeable, "cloud")
    outcome = done("inspect", changeable.search(changeable.ask("alice", candidates=100)), "--json")
    assert outcome.json["inspection"]["fields"]["owners"] == "south"


def test_an_upload_of_before_is_refused_after_a_return(changeable: Deployment) -> None:
    remove(changeable, "cloud")
    refused(4, *index(changeable, changeable / "north.h5"))
    Place(changeable, "cloud").enroll(renewed(Place(changeable, "cloud")))
    outcome = refused(6, *index(changeable, changeable / "north.h5"))
    assert "is not newer than what 'north' had sent when the owner was removed" in outcome.err
    words = ("owner", "encrypt", changeable / "north", changeable / "pictures" / "north", "--again")
    done(*words, "-o", changeable / "again.h5", *JOBS)
    done(*index(changeable, changeable / "again.h5"))


def test_an_upload_of_before_is_refused_after_two_returns(changeable: Deployment) -> None:
    place = Place(changeable, "cloud")
    for _ in range(2):
        remove(changeable, "cloud")
        place.enroll(renewed(place))
    refused(6, *index(changeable, changeable / "north.h5"))


def test_a_new_owner_of_a_released_name_begins_with_an_empty_collection(changeable: Deployment) -> None:
    remove(changeable, "cloud", "--release-name")
    Place(changeable, "cloud").enroll(newcomer(Place(changeable, "cloud")))
    refused(9, *index(changeable, changeable / "north.h5"))
    words = ("owner", "encrypt", changeable / "newcomer", changeable / "pictures" / "north")
    done(*words, "-o", changeable / "new.h5", *JOBS)
    done(*index(changeable, changeable / "new.h5"))


@pytest.mark.parametrize("step", ["record", "members", "index"])
def test_a_removal_from_the_cloud_is_finished_after_an_interruption(
    changeable: Deployment, step: str
) -> None:
    cloud = Cloud.open(changeable / "cloud")
    place = Place(changeable, "cloud")
    header = cloud.members_header("north")
    in_force = InForce(header.sender_key, header.sequence_number, header.digest)
    highest = max(segment.number for segment in cloud.index().of_owner("north"))
    record_removal(cloud.directory, "north", in_force, release=False)
    if step != "record":
        raise_floor(cloud.directory, "north", highest, removed=True)
        cloud.members_file("north").unlink()
        place.refuse(9, "the removal of 'north' was interrupted", renewed(place))
    if step == "index":
        changed = cloud.index().without_owner("north")
        write_index(cloud.directory.file("index.h5"), cloud.directory.sender, changed)
        assert list((changeable / "cloud" / "segments").glob("north-*"))
    remove(changeable, "cloud")
    assert not list((changeable / "cloud" / "segments").glob("north-*"))
    assert not cloud.index().of_owner("north")
    refused(5, "cloud", "remove", changeable / "cloud", "north")
    place.enroll(renewed(place))
    refused(6, *index(changeable, changeable / "north.h5"))


def test_what_is_left_of_an_owner_is_not_taken_for_that_of_an_heir(changeable: Deployment) -> None:
    cloud, segments = changeable / "cloud", changeable / "cloud" / "segments"
    done("owner", "delete", changeable / "north", "chest/a.jpg", "-o", changeable / "delete.h5")
    done("cloud", "index", cloud, changeable / "delete.h5", *JOBS)
    kept = {path: path.read_bytes() for path in segments.glob("north-*.*.h5")}
    remove(changeable, "cloud", "--release-name")
    place = Place(changeable, "cloud")
    place.enroll(newcomer(place))
    for path, content in kept.items():
        path.write_bytes(content)  # as a backup brings it back
    outcome = refused(3, "cloud", "index", cloud, "--rebuild", *JOBS)
    assert outcome.err.count("is not what its name says, or of an owner of before") == len(kept)


def test_no_number_of_a_retired_key_stands_in_the_way_of_an_heir(changeable: Deployment) -> None:
    remove(changeable, "cloud")
    raise_floor(changeable.role("cloud"), "north", 2**63 - 1, removed=True)
    remove(changeable, "cloud", "--release-name")
    place = Place(changeable, "cloud")
    place.enroll(newcomer(place))
    assert floor_of(changeable.role("cloud"), "north") == Floor()


def test_what_was_made_before_a_return_is_no_gap(changeable: Deployment) -> None:
    before = next_number()
    remove(changeable, "cloud")
    Place(changeable, "cloud").enroll(renewed(Place(changeable, "cloud")))
    number = floor_of(changeable.role("cloud"), "north").removed + 1
    late = upload_of(changeable, "north", "new", number=number, earlier=[before - 10**12])
    told = done(*index(changeable, late), "--json").json
    assert told["owners"]["north"] == {"complete": number, "missing": []}


def test_late_messages_of_before_a_return_are_refused(changeable: Deployment) -> None:
    late = upload_of(changeable, "north", "late", number=time.time_ns() // 1000)
    remove(changeable, "cloud")
    Place(changeable, "cloud").enroll(renewed(Place(changeable, "cloud")))
    refused(6, *index(changeable, late))
