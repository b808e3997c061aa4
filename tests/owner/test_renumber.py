"""An owner whose clock was wrong, and whose numbers nobody takes: the way back."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mipp_cli.containers.base.header import LARGEST_NUMBER
from mipp_cli.owner.ledger import Ledger
from mipp_cli.owner.owner import Owner
from mipp_cli.workdir import replay as sequence
from mipp_cli.workdir.directory import RoleDirectory
from mipp_cli.workdir.replay import A_DAY, clock_number
from tests.support.deployment import JOBS, Deployment, Outcome, change_state, done, refused, snapshot

TEN_YEARS = 3650 * A_DAY


@contextmanager
def clock_ahead(microseconds: int) -> Iterator[None]:
    """Let the clock of the owner's machine be wrong."""
    true = time.time_ns
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sequence.time, "time_ns", lambda: true() + microseconds * 1000)
        yield


def renumber(there: Deployment, *words: object) -> Outcome:
    return done("owner", "renumber", there / "north", *words, "--json")


def refuse(there: Deployment, code: int, words: str, *options: object) -> None:
    before = snapshot(there.root)
    assert words in refused(code, "owner", "renumber", there / "north", *options).err
    assert snapshot(there.root) == before


def encrypt(there: Deployment, name: str, *words: object) -> Path:
    done("owner", "encrypt", there / "north", *words, "-o", there / name, *JOBS)
    return there / name


def numbers(there: Deployment) -> list[int]:
    return [message.number for message in Owner.open(there / "north").ledger.messages()]


def last_number(there: Deployment) -> int:
    return Owner.open(there / "north").last_number


@pytest.fixture
def ahead(changeable: Deployment) -> Deployment:
    """A deployment whose owner north sent two messages while its clock stood ten years ahead."""
    with clock_ahead(TEN_YEARS):
        encrypt(changeable, "ahead.h5", changeable / "pictures" / "queries")
        done("owner", "delete", changeable / "north", "chest/a.jpg", "-o", changeable / "ahead.delete.h5")
        done("owner", "authorize", changeable / "north", changeable / "eve" / "user.pub")
    return changeable


def test_messages_of_a_clock_ahead_are_refused_everywhere(ahead: Deployment) -> None:
    for name in ("ahead.h5", "ahead.delete.h5"):
        told = refused(6, "cloud", "index", ahead / "cloud", ahead / name, *JOBS).err
        assert "more than a day ahead" in told
        assert "mipp owner renumber OWNER" in told
    for role, file in (("kmc", "enrolment.h5"), ("cloud", "members.h5")):
        told = refused(6, role, "enroll", ahead / role, ahead / "north" / file).err
        assert "more than a day ahead" in told


def test_what_was_refused_is_struck(ahead: Deployment) -> None:
    assert len(numbers(ahead)) == 3
    outcome = renumber(ahead)
    assert outcome.json["counts"] == {"uploads and deletions struck": 2}
    assert len(numbers(ahead)) == 1


def test_numbers_follow_the_clock_again(ahead: Deployment) -> None:
    assert last_number(ahead) > clock_number() + TEN_YEARS - A_DAY
    renumber(ahead)
    assert abs(last_number(ahead) - clock_number()) < A_DAY
    assert abs(Owner.open(ahead / "north").next_number() - clock_number()) < A_DAY


def test_both_files_are_taken_afterwards(ahead: Deployment) -> None:
    outcome = renumber(ahead)
    assert [Path(output["path"]).name for output in outcome.json["outputs"]] == ["enrolment.h5", "members.h5"]
    assert any("takes effect when the KMC has enrolled" in note for note in outcome.json["notes"])
    done("kmc", "enroll", ahead / "kmc", ahead / "north" / "enrolment.h5")
    done("cloud", "enroll", ahead / "cloud", ahead / "north" / "members.h5")
    assert {name for name, _ in Owner.open(ahead / "north").users} == {"alice", "eve"}


def test_images_that_were_refused_are_new_again(ahead: Deployment) -> None:
    renumber(ahead)
    words = (ahead / "north", ahead / "pictures" / "queries", "-o", ahead / "new.h5", "--json", *JOBS)
    counts = done("owner", "encrypt", *words).json["counts"]
    assert (counts["images"], counts["new"]) == (2, 2)
    outcome = done("cloud", "index", ahead / "cloud", ahead / "new.h5", *JOBS, "--json")
    assert outcome.json["counts"]["images"] == 2


def test_images_whose_deletion_was_refused_are_live_again(ahead: Deployment) -> None:
    def live() -> set[str]:
        return {each.image.path for each in Owner.open(ahead / "north").ledger.live()}

    assert "chest/a.jpg" not in live()
    renumber(ahead)
    assert live() == {*ahead.pictures("north")}


def test_messages_made_afterwards_list_no_struck_one(ahead: Deployment) -> None:
    (kept,) = [number for number in numbers(ahead) if number < clock_number()]
    renumber(ahead)
    upload = encrypt(ahead, "new.h5", ahead / "pictures" / "queries")
    from tests.owner.test_ledger import earlier_of

    assert earlier_of(ahead, upload) == [kept]


def test_what_was_struck_is_not_taken_up_again(ahead: Deployment) -> None:
    struck = [number for number in numbers(ahead) if number > clock_number()]
    renumber(ahead)
    for number in struck:
        words = (ahead / "north", ahead / "pictures" / "queries", "-o", ahead / "n.h5", "--again", number)
        assert f"sent no message {number}" in refused(2, "owner", "encrypt", *words, *JOBS).err


def test_the_features_of_what_was_struck_are_not_kept(changeable_exact: Deployment) -> None:
    there, folder = changeable_exact, changeable_exact / "north" / "features"
    before = set(folder.iterdir())
    with clock_ahead(TEN_YEARS):
        encrypt(there, "ahead.h5", there / "pictures" / "queries")
    assert len(set(folder.iterdir()) - before) == 1
    renumber(there)
    assert set(folder.iterdir()) == before
    encrypt(there, "new.h5", there / "pictures" / "queries")
    there.enroll_all()
    there.index(there / "new.h5")


def test_who_is_right_has_nothing_to_renumber(changeable: Deployment) -> None:
    refuse(changeable, 5, "numbers are not ahead")


def test_once_renumbered_there_is_nothing_more(ahead: Deployment) -> None:
    renumber(ahead)
    refuse(ahead, 5, "numbers are not ahead")


def test_what_is_less_than_a_day_ahead_is_kept(changeable: Deployment) -> None:
    with clock_ahead(A_DAY // 2):
        upload = encrypt(changeable, "half.h5", changeable / "pictures" / "queries")
    refuse(changeable, 5, "numbers are not ahead")
    done("cloud", "index", changeable / "cloud", upload, *JOBS)


def test_of_several_messages_those_accepted_are_kept(ahead: Deployment) -> None:
    with clock_ahead(A_DAY // 2):
        change_state(ahead / "north" / "state.json", lambda fields: fields | {"number": 0})
        half = encrypt(ahead, "half.h5", ahead / "pictures" / "lake", "--payload", "pixels")
    number = int(half.read_bytes().split(b"\n")[3].split()[1])
    change_state(ahead / "north" / "state.json", lambda fields: fields | {"number": numbers(ahead)[-1]})
    renumber(ahead)
    assert number in numbers(ahead)
    assert last_number(ahead) > number  # though it is ahead of the clock: it may have been applied


# A receiver that accepted numbers ahead


def test_numbers_go_above_what_a_receiver_accepted(ahead: Deployment) -> None:
    accepted = numbers(ahead)[1]  # the upload, and not the deletion
    outcome = renumber(ahead, "--above", accepted)
    assert outcome.json["counts"] == {"uploads and deletions struck": 1}
    assert accepted in numbers(ahead)
    assert accepted < last_number(ahead) < accepted + A_DAY
    upload = encrypt(ahead, "new.h5", ahead / "pictures" / "lake")
    assert int(upload.read_bytes().split(b"\n")[3].split()[1]) > accepted


def test_a_receiver_that_is_ahead_takes_the_numbers_above(changeable: Deployment) -> None:
    north, cloud = changeable / "north", changeable / "cloud"
    with clock_ahead(TEN_YEARS):  # the cloud's clock, too
        first = encrypt(changeable, "first.h5", changeable / "pictures" / "queries")
        done("cloud", "index", cloud, first, *JOBS)
    with clock_ahead(2 * TEN_YEARS):
        encrypt(changeable, "second.h5", changeable / "pictures" / "lake")
    refused(6, "cloud", "index", cloud, changeable / "second.h5", *JOBS)
    renumber(changeable, "--above", numbers(changeable)[1])
    third = encrypt(changeable, "third.h5", changeable / "pictures" / "lake")
    assert done("cloud", "index", cloud, third, *JOBS, "--json").json["counts"]["images"] == 4
    assert {each.image.path for each in Owner.open(north).ledger.live()} >= {"q1.png", "deep/er/a.jpg"}


def test_a_backup_goes_above_what_it_does_not_know(changeable: Deployment) -> None:
    above = clock_number() + TEN_YEARS
    outcome = renumber(changeable, "--above", above)
    assert outcome.json["counts"] == {"uploads and deletions struck": 0}
    assert len(numbers(changeable)) == 1
    assert last_number(changeable) == above + 1


def test_a_number_below_the_last_changes_nothing(changeable: Deployment) -> None:
    refuse(changeable, 5, "numbers are not ahead", "--above", last_number(changeable) - 1)


@pytest.mark.parametrize("number", ["-1", "one", "0", str(LARGEST_NUMBER), str(LARGEST_NUMBER + 1)])
def test_what_no_message_can_have_is_refused(changeable: Deployment, number: str) -> None:
    before = snapshot(changeable.root)
    assert refused(2, "owner", "renumber", changeable / "north", f"--above={number}").err
    assert snapshot(changeable.root) == before


# Where it fails


@pytest.mark.parametrize("name", ["enrolment.h5", "members.h5"])
def test_what_cannot_be_written_leaves_all_as_it_was(ahead: Deployment, name: str) -> None:
    (ahead / "north" / name).unlink()
    (ahead / "north" / name).mkdir()
    refuse(ahead, 10, "is a folder")


@pytest.mark.parametrize("step", ["ledger", "state"])
def test_who_is_interrupted_has_all_as_it_was(
    ahead: Deployment, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = snapshot(ahead.root)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if step == "ledger":
            patch.setattr("mipp_cli.owner.renumber.remove", interrupted)
        else:
            patch.setattr(RoleDirectory, "write_json", interrupted)
        refused(130, "owner", "renumber", ahead / "north")
    assert snapshot(ahead.root) == before
    renumber(ahead)


def test_a_damaged_ledger_is_told(ahead: Deployment) -> None:
    file = Ledger(ahead / "north" / "uploads").file(numbers(ahead)[-1])
    file.write_text("no ledger")
    refuse(ahead, 3, "is damaged")


def test_a_restored_backup_is_told_how_to_revoke(changeable: Deployment) -> None:
    north, kmc = changeable / "north", changeable / "kmc"
    shutil.copytree(north, changeable / "backup")
    with clock_ahead(A_DAY // 2):  # which is taken
        done("owner", "rotate-key", north)
        done("kmc", "enroll", kmc, north / "enrolment.h5")
    shutil.rmtree(north)
    (changeable / "backup").rename(north)
    done("owner", "revoke", north, "alice")
    told = refused(6, "kmc", "enroll", kmc, north / "enrolment.h5").err
    above = re.search("mipp owner renumber OWNER (--above [0-9]+)", told)
    assert above is not None, told
    done("owner", "renumber", north, *above[1].split())
    done("kmc", "enroll", kmc, north / "enrolment.h5")
