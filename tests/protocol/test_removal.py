"""Owners removed: their keys go, and neither a recorded file nor a retired key brings them back."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from mipp_cli.cloud.cloud import Cloud
from mipp_cli.cloud.remove import remove_from_cloud
from mipp_cli.containers.base.container import open_container
from mipp_cli.containers.messages.upload import upload_schema
from mipp_cli.containers.store.index import write_index
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.kmc.remove import remove_from_kmc
from mipp_cli.workdir.floors import Floor, floor_of, raise_floor
from mipp_cli.workdir.removals import Removal, record_removal, removal_of
from tests.faults.injection import Boundary
from tests.faults.process import broken_off
from tests.protocol.test_enrolment import Place
from tests.support.cloud_stores import upload_of
from tests.support.deployment import JOBS, Deployment, check_refusal, done, mode, refused, snapshot
from tests.support.forgery import next_number

EACH = pytest.mark.parametrize("role", ["kmc", "cloud"])


def remove(deployment: Deployment, role: str, *options: str, owner: str = "north") -> dict[str, int]:
    outcome = done(role, "remove", deployment / role, owner, *options, "--yes", "--json")
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


def test_the_keys_and_the_users_of_a_removed_owner_are_gone(each_way: Deployment) -> None:
    image_key = each_way.role("north").secret("image")
    counts = {"owners": 1, "image keys": 1, "users": 1}
    assert remove(each_way, "kmc") == counts | ({"images": 5} if each_way.scheme == "exact" else {})
    assert Kmc.open(each_way / "kmc").owner_names() == ["lake", "south"]
    for file in (each_way / "kmc").rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert image_key not in content
        assert image_key.hex().encode() not in content


def test_images_of_a_removed_owner_are_not_reencrypted(changeable: Deployment) -> None:
    results = changeable.search(changeable.ask("alice", candidates=100))
    remove(changeable, "kmc")
    outcome = refused(4, "kmc", "reencrypt", changeable / "kmc", results, "-o", changeable / "a.h5")
    assert "contains an image of 'north'" in outcome.err


def test_images_of_a_removed_owner_are_withdrawn(changeable_exact: Deployment) -> None:
    results = changeable_exact.search(changeable_exact.ask("alice", candidates=100))
    remove(changeable_exact, "kmc")
    answer = changeable_exact.answer(results)
    words = (changeable_exact / "alice", answer, "-o", changeable_exact / "m", "--top", 100, "--json")
    told = done("user", "decrypt", *words).json
    assert {match["owner"] for match in told["matches"]} == {"south"}
    assert told["searched"]["north"]["withdrawn"] == 5


def test_of_a_removed_owner_the_kmc_keeps_no_feature(changeable_exact: Deployment) -> None:
    kmc = changeable_exact / "kmc"
    north = Kmc.open(kmc).owner("north")
    assert north is not None
    stored = [file.read_bytes()[-64:] for file in (kmc / "features" / "north").iterdir()]
    assert len(stored) >= 2
    remove(changeable_exact, "kmc")
    assert not (kmc / "features" / "north").exists()
    for file in kmc.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert north.storage_key not in content
        assert north.storage_key.hex().encode() not in content
        assert not [part for part in stored if part in content], file


def test_features_of_before_are_refused_after_a_return(changeable_exact: Deployment) -> None:
    kmc, features = changeable_exact / "kmc", changeable_exact / "north.features.h5"
    remove(changeable_exact, "kmc")
    refused(4, "kmc", "index", kmc, features)
    Place(changeable_exact, "kmc").enroll(renewed(Place(changeable_exact, "kmc")))
    refused(6, "kmc", "index", kmc, features)
    words = ("owner", "encrypt", changeable_exact / "north", changeable_exact / "pictures" / "north")
    done(*words, "--again", "-o", changeable_exact / "again.h5", *JOBS)
    done("kmc", "index", kmc, changeable_exact / "again.features.h5")


def test_a_ranking_goes_on_among_the_other_owners(changeable_exact: Deployment) -> None:
    remove(changeable_exact, "kmc")
    selection = changeable_exact.rank(changeable_exact.ask("alice", candidates=100))
    fields = done("inspect", selection, "--json").json["inspection"]["fields"]
    assert fields["owners"] == ["south"]


@EACH
def test_a_record_of_the_removal_is_kept_for_the_role_alone(each_way: Deployment, role: str) -> None:
    remove(each_way, role)
    directory = each_way.role(role)
    record = removal_of(directory, "north")
    assert record is not None
    assert record.key == each_way.sender("north").signing_key.public
    assert not record.released
    assert mode(directory.file("removed/north.json")) == "0600"


@EACH
def test_a_recorded_enrolment_does_not_bring_an_owner_back(each_way: Deployment, role: str) -> None:
    place = Place(each_way, role)
    recorded = shutil.copy(place.file("north"), each_way / "recorded.h5")
    last = shutil.copy(renewed(place), each_way / "last.h5")
    place.enroll(last)
    remove(each_way, role)
    for file in (recorded, last):
        place.refuse(6, "is not newer than the enrolment that was in force", Path(file))


@EACH
def test_an_owner_comes_back_with_a_newer_enrolment(each_way: Deployment, role: str) -> None:
    place = Place(each_way, role)
    remove(each_way, role)
    assert place.enroll(renewed(place))["owners"] == 1
    assert remove(each_way, role)["owners"] == 1


@EACH
def test_nobody_else_takes_the_name_of_a_removed_owner(each_way: Deployment, role: str) -> None:
    place = Place(each_way, role)
    remove(each_way, role)
    place.refuse(9, "is not signed with the key that 'north' was enrolled with", newcomer(place))


@EACH
@pytest.mark.parametrize("steps", [[("--release-name",)], [(), ("--release-name",)]])
def test_a_new_key_takes_a_released_name_and_the_old_is_retired(
    each_way: Deployment, role: str, steps: list[tuple[str, ...]]
) -> None:
    place = Place(each_way, role)
    for options in steps:
        remove(each_way, role, *options)
    place.refuse(9, "is signed with a key that was retired", renewed(place))
    outcome = done(role, "enroll", each_way / role, newcomer(place))
    assert "fingerprint of" in outcome.out
    place.refuse(9, "is signed with a key that was retired", renewed(place))


@EACH
def test_a_retired_key_stays_retired_after_the_next_removal(changeable: Deployment, role: str) -> None:
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
def test_a_second_removal_changes_nothing(each_way: Deployment, role: str, options: tuple[str, ...]) -> None:
    remove(each_way, role, *options)
    before = snapshot(each_way / role)
    outcome = refused(5, role, "remove", each_way / role, "north", *options, "--yes")
    assert "the owner 'north' was already removed" in outcome.err
    assert snapshot(each_way / role) == before


@EACH
@pytest.mark.parametrize("name", ["nobody", "../north", ""])
def test_who_was_never_enrolled_cannot_be_removed(deployment: Deployment, role: str, name: str) -> None:
    before = snapshot(deployment / role)
    refused(2, role, "remove", deployment / role, name, "--yes")
    assert snapshot(deployment / role) == before


@EACH
def test_other_owners_stay(each_way: Deployment, role: str) -> None:
    remove(each_way, role)
    place = Place(each_way, role)
    place.refuse(5, "was already applied", place.file("south"))


@EACH
@pytest.mark.parametrize("release", [False, True])
def test_a_removal_interrupted_after_its_record_is_finished(
    each_way: Deployment, role: str, release: bool
) -> None:
    directory = each_way.role(role)
    key = each_way.sender("north").signing_key.public
    record_removal(directory, "north", Removal("north", key, 7, "0" * 64), release=release)
    assert remove(each_way, role, *(["--release-name"] if release else []))["owners"] == 1
    place = Place(each_way, role)
    file = renewed(place)
    if release:
        place.refuse(9, "retired", file)
        place.enroll(newcomer(place))
    else:
        place.enroll(file)


@EACH
def test_ctrl_c_at_the_last_step_brings_no_owner_back(
    each_way: Deployment, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    place = Place(each_way, role)
    recorded = Path(shutil.copy(place.file("north"), each_way / "recorded.h5"))
    last = {"kmc": "owners/north.json", "cloud": ".index.h5."}[role]
    unlink = os.unlink

    def interrupted(path: str | Path) -> None:
        unlink(path)
        if last in str(path):
            signal.raise_signal(signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "unlink", interrupted)
        {"kmc": remove_from_kmc, "cloud": remove_from_cloud}[role](each_way / role, "north")
    signal.signal(signal.SIGINT, handler)
    assert removal_of(each_way.role(role), "north") is not None
    remove(each_way, role)
    place.refuse(6, "is not newer than the enrolment that was in force", recorded)


def test_a_removal_that_cannot_be_synced_is_synced_later(each_way: Deployment, tmp_path: Path) -> None:
    tried = each_way.copy(tmp_path / "tried")
    steps = broken_off(("kmc", "remove", tried / "kmc", "north", "--yes")).boundaries
    assert steps[-1].call == "fsync"
    words = ("kmc", "remove", each_way / "kmc", "north", "--yes")
    failed = broken_off(words, "error", len(steps)).outcome
    assert failed is not None
    check_refusal(failed, 10)
    assert (
        "a deletion in it may not survive a power cut: Input/output error; 'north' is removed" in failed.err
    )
    again = broken_off(words)
    assert again.outcome is not None
    check_refusal(again.outcome, 5)
    assert "the owner 'north' was already removed" in again.outcome.err
    folder = steps[-1].place.replace(str(tried / "kmc"), str(each_way / "kmc"))
    at = 1 + again.boundaries.index(Boundary("fsync", folder))
    failed = broken_off(words, "error", at).outcome
    assert failed is not None
    check_refusal(failed, 10)


def test_a_damaged_record_is_named(changeable: Deployment) -> None:
    remove_from_kmc(changeable / "kmc", "north")
    record = changeable / "kmc" / "removed" / "north.json"
    record.write_text(record.read_text().replace('"released": false', '"released": true'))
    place = Place(changeable, "kmc")
    place.refuse(3, str(record), newcomer(place))


def index(deployment: Deployment, upload: Path) -> tuple[object, ...]:
    return "cloud", "index", deployment / "cloud", upload, *JOBS


def test_nothing_of_a_removed_owners_images_stays_in_the_cloud(each_way: Deployment) -> None:
    parameters = each_way.public.parameters
    with open_container(each_way / "north.h5", upload_schema(parameters)) as upload:
        names = upload.ragged("image_names").rows(0, 5)
        traces = [bytes(ew)[:64] for ew in upload.ragged("EW").rows(0, 5)]
        for column in parameters.protocol.upload_columns:
            traces += [row.tobytes()[:64] for row in upload.matrix(column).rows(0, 5)]
    assert remove(each_way, "cloud") == {"owners": 1, "uploads": 1, "images": 5}
    files = [file for file in (each_way / "cloud").rglob("*") if file.is_file()]
    assert len(files) >= 10
    for file in files:
        content = file.read_bytes()
        assert not [trace for trace in (*traces, *map(bytes, names)) if trace in content], file


def test_the_cloud_deletes_on_where_an_entry_cannot_be_deleted(changeable: Deployment) -> None:
    folders = [changeable / "cloud" / name for name in ("segments", "parts")]
    for folder in folders:
        (folder / "0").mkdir()
    outcome = refused(10, "cloud", "remove", changeable / "cloud", "north", "--yes")
    assert "'north' is removed, but some of the owner's files may be left" in outcome.err
    assert not [path for folder in folders for path in folder.glob("north-*")]
    index = Cloud.open(changeable / "cloud").index()
    left = Cloud.open(changeable / "cloud").store.unlisted(index)
    assert left == [folder / "0" for folder in folders]


def test_a_search_goes_on_among_the_other_owners(changeable: Deployment) -> None:
    remove(changeable, "cloud")
    outcome = done("inspect", changeable.search(changeable.ask("alice", candidates=100)), "--json")
    assert outcome.json["inspection"]["fields"]["owners"] == ["south"]


def test_an_upload_of_before_is_refused_after_a_return(each_way: Deployment) -> None:
    remove(each_way, "cloud")
    refused(4, *index(each_way, each_way / "north.h5"))
    Place(each_way, "cloud").enroll(renewed(Place(each_way, "cloud")))
    outcome = refused(6, *index(each_way, each_way / "north.h5"))
    assert "because the owner was removed" in outcome.err
    words = ("owner", "encrypt", each_way / "north", each_way / "pictures" / "north", "--again")
    done(*words, "-o", each_way / "again.h5", *JOBS)
    done(*index(each_way, each_way / "again.h5"))


def test_an_upload_of_before_is_refused_after_two_returns(each_way: Deployment) -> None:
    place = Place(each_way, "cloud")
    for _ in range(2):
        remove(each_way, "cloud")
        place.enroll(renewed(place))
    refused(6, *index(each_way, each_way / "north.h5"))


def test_an_heir_to_a_name_begins_with_an_empty_collection(each_way: Deployment) -> None:
    remove(each_way, "cloud", "--release-name")
    Place(each_way, "cloud").enroll(newcomer(Place(each_way, "cloud")))
    refused(9, *index(each_way, each_way / "north.h5"))
    words = ("owner", "encrypt", each_way / "newcomer", each_way / "pictures" / "north")
    done(*words, "-o", each_way / "new.h5", *JOBS)
    done(*index(each_way, each_way / "new.h5"))


@pytest.mark.parametrize("step", ["record", "members", "index"])
def test_an_interrupted_removal_from_the_cloud_is_finished(each_way: Deployment, step: str) -> None:
    cloud = Cloud.open(each_way / "cloud")
    place = Place(each_way, "cloud")
    header = cloud.members_header("north")
    in_force = Removal("north", header.sender_key, header.sequence_number, header.digest)
    highest = max(segment.number for segment in cloud.index().of_owner("north"))
    record_removal(cloud.directory, "north", in_force, release=False)
    if step != "record":
        raise_floor(cloud.directory, "north", highest, removed=True)
        cloud.members_file("north").unlink()
        place.refuse(9, "the removal of 'north' was interrupted", renewed(place))
    if step == "index":
        changed = cloud.index().without_owner("north")
        write_index(cloud.directory.file("index.h5"), cloud.directory.sender, changed)
        assert list((each_way / "cloud" / "segments").glob("north-*"))
    remove(each_way, "cloud")
    assert not list((each_way / "cloud" / "segments").glob("north-*"))
    assert not cloud.index().of_owner("north")
    refused(5, "cloud", "remove", each_way / "cloud", "north", "--yes")
    place.enroll(renewed(place))
    refused(6, *index(each_way, each_way / "north.h5"))


def test_an_heir_does_not_inherit_leftover_segments(each_way: Deployment) -> None:
    cloud, segments = each_way / "cloud", each_way / "cloud" / "segments"
    done("owner", "delete", each_way / "north", "chest/a.jpg", "-o", each_way / "delete.h5")
    done("cloud", "index", cloud, each_way / "delete.h5", *JOBS)
    kept = {path: path.read_bytes() for path in segments.glob("north-*.*.h5")}
    remove(each_way, "cloud", "--release-name")
    place = Place(each_way, "cloud")
    place.enroll(newcomer(place))
    for path, content in kept.items():
        path.write_bytes(content)  # as a backup brings it back
    outcome = refused(3, "cloud", "index", cloud, "--rebuild", *JOBS)
    assert outcome.err.count(
        "is not the message that its file name says, or from a former owner of that name"
    ) == len(kept)


def test_numbers_of_a_retired_key_do_not_block_an_heir(changeable: Deployment) -> None:
    remove(changeable, "cloud")
    raise_floor(changeable.role("cloud"), "north", 2**63 - 1, removed=True)
    remove(changeable, "cloud", "--release-name")
    place = Place(changeable, "cloud")
    place.enroll(newcomer(place))
    assert floor_of(changeable.role("cloud"), "north") == Floor()


def test_what_was_made_before_a_return_is_no_gap(each_way: Deployment) -> None:
    before = next_number()
    remove(each_way, "cloud")
    Place(each_way, "cloud").enroll(renewed(Place(each_way, "cloud")))
    number = floor_of(each_way.role("cloud"), "north").removed + 1
    late = upload_of(each_way, "north", "new", number=number, earlier=[before - 10**12])
    told = done(*index(each_way, late), "--json").json
    assert told["owners"]["north"] == {"complete": number, "missing": []}


def test_late_messages_of_before_a_return_are_refused(each_way: Deployment) -> None:
    late = upload_of(each_way, "north", "late", number=time.time_ns() // 1000)
    remove(each_way, "cloud")
    Place(each_way, "cloud").enroll(renewed(Place(each_way, "cloud")))
    refused(6, *index(each_way, late))
