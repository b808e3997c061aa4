"""Enrolment at the KMC and at the cloud: pinned keys, numbers in order, all of the files or none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from mipp_cli.containers.messages.membership import write_enrolment, write_members
from mipp_cli.scheme.keys import SealingKey, SigningKey
from mipp_cli.scheme.secret_keys import generate_key
from mipp_cli.workdir.replay import A_DAY, clock_number, moment
from tests.support.deployment import OWNERS, Deployment, change_state, done, refused, run, snapshot
from tests.support.forgery import next_number, stranger

AN_HOUR = A_DAY // 24
FAR = clock_number() + 400 * A_DAY


@dataclass(frozen=True)
class Place:
    """The KMC or the cloud, whose rules of enrolment are the same."""

    deployment: Deployment
    role: str

    @property
    def directory(self) -> Path:
        return self.deployment / self.role

    def file(self, owner: str) -> Path:
        return self.deployment / owner / ("enrolment.h5" if self.role == "kmc" else "members.h5")

    def forge(self, owner: str, number: int, *, strange: bool = False) -> Path:
        """Write an owner's enrolment with a number of our choice, or under another key."""
        path = self.deployment / f"{owner}-{next_number()}.h5"
        sender = stranger(self.deployment, owner) if strange else self.deployment.sender(owner)
        users = frozenset({("eve", SigningKey.generate().public)})
        if self.role == "cloud":
            write_members(path, sender, number, users)
        else:
            key = self.deployment.public.sealing_key
            write_enrolment(path, sender, number, users, [generate_key()], key)
        return path

    def enroll(self, *files: Path) -> dict[str, int]:
        counts = done(self.role, "enroll", self.directory, *files, "--json").json["counts"]
        assert isinstance(counts, dict)
        return counts

    def refuse(self, code: int, words: str, *files: Path) -> None:
        before = snapshot(self.directory)
        outcome = refused(code, self.role, "enroll", self.directory, *files)
        assert words in outcome.err
        assert snapshot(self.directory) == before


@pytest.fixture(params=["kmc", "cloud"])
def place(request: pytest.FixtureRequest, each_way: Deployment) -> Place:
    return Place(each_way, request.param)


def test_the_first_enrolment_pins_an_owner_to_its_key(place: Place) -> None:
    file = place.forge("north", next_number(), strange=True)
    place.refuse(9, "is not signed with the key that 'north' was enrolled with", file)


def test_an_older_enrolment_is_out_of_order(place: Place) -> None:
    place.refuse(6, "is older than the list of 'north' in force", place.forge("north", 1))


def test_an_older_enrolment_is_refused_with_both_numbers(place: Place) -> None:
    number = next_number()
    place.enroll(place.forge("north", number))
    place.refuse(6, f"(number 5, in force {number})", place.forge("north", 5))


def test_an_enrolment_from_far_in_the_future_is_refused(place: Place) -> None:
    number = clock_number() + A_DAY + AN_HOUR
    words = f"has the number {number} of {moment(number)}, more than a day ahead of this machine's clock ("
    place.refuse(6, words, place.forge("north", number))


def test_an_enrolment_of_a_wrong_clock_names_the_last_time(place: Place) -> None:
    last = next_number()
    place.enroll(place.forge("north", last))
    place.refuse(6, f"of the last that was applied of 'north' ({moment(last)})", place.forge("north", FAR))


def test_a_first_enrolment_of_a_wrong_clock_is_refused(place: Place) -> None:
    file = place.forge("newcomer", FAR, strange=True)
    place.refuse(6, "of the last that was applied of 'newcomer' (none)", file)


def test_an_enrolment_of_a_wrong_clock_is_told_how_to_go_on(place: Place) -> None:
    place.refuse(6, "hint: set the clock that is wrong; if it is the owner's, ", place.forge("north", FAR))
    place.refuse(6, "mipp owner renumber OWNER", place.forge("north", FAR))


def test_a_wrong_clock_has_an_error_of_its_own_in_json(place: Place) -> None:
    file = place.forge("north", FAR)
    error = run(place.role, "enroll", place.directory, file, "--json").json["error"]
    assert (error["class"], error["code"], error["path"]) == ("ClockError", 6, str(file))


def test_an_enrolment_less_than_a_day_ahead_is_taken(place: Place) -> None:
    assert place.enroll(place.forge("north", clock_number() + A_DAY - AN_HOUR))["owners"] == 1


def test_an_enrolment_may_be_a_day_ahead_of_the_last(place: Place) -> None:
    last = clock_number() + A_DAY - AN_HOUR
    place.enroll(place.forge("north", last))
    place.refuse(6, "more than a day ahead", place.forge("north", last + A_DAY + 1))
    place.enroll(place.forge("north", last + A_DAY))


def test_the_last_of_one_owner_lets_no_other_run_ahead(place: Place) -> None:
    last = clock_number() + A_DAY - AN_HOUR
    place.enroll(place.forge("north", last))
    place.refuse(6, "more than a day ahead", place.forge("south", last + 2 * AN_HOUR))


def test_one_enrolment_of_a_wrong_clock_keeps_all_others_out(place: Place) -> None:
    good, bad = place.forge("south", next_number()), place.forge("north", FAR)
    place.refuse(6, str(bad), good, bad)
    assert place.enroll(good)["owners"] == 1


def test_each_enrolment_may_be_a_day_ahead_of_the_one_before(place: Place) -> None:
    now = clock_number()
    files = [place.forge("north", now + days * A_DAY - AN_HOUR) for days in (1, 2)]
    place.enroll(*files)
    place.refuse(6, "more than a day ahead", place.forge("north", now + 4 * A_DAY))


def test_an_owner_renumbered_enrols_again(place: Place) -> None:
    north = place.deployment / "north"
    change_state(north / "state.json", lambda fields: {**fields, "number": FAR})
    done("owner", "revoke", north, "alice")
    place.refuse(6, "more than a day ahead", place.file("north"))
    done("owner", "renumber", north)
    assert place.enroll(place.file("north"))["owners"] == 1


def test_another_enrolment_under_the_same_number_is_a_replay(place: Place) -> None:
    number = next_number()
    place.enroll(place.forge("north", number))
    place.refuse(6, "which another file of 'north' used", place.forge("north", number))


def test_the_same_enrolment_again_changes_nothing(place: Place) -> None:
    place.refuse(5, "was already applied; nothing changed", place.file("north"))


def test_all_enrolments_again_change_nothing(place: Place) -> None:
    place.refuse(5, "was already applied", *(place.file(owner) for owner in OWNERS))


def test_among_several_those_in_force_are_skipped(place: Place) -> None:
    done("owner", "revoke", place.deployment / "south", "bob")
    counts = place.enroll(*(place.file(owner) for owner in OWNERS))
    assert (counts["owners"], counts["already enrolled"]) == (1, 2)


def test_one_bad_file_keeps_all_others_out(place: Place) -> None:
    good = place.forge("south", next_number())
    bad = place.forge("north", next_number(), strange=True)
    place.refuse(9, str(bad), good, bad)
    assert place.enroll(good)["owners"] == 1


def test_several_enrolments_of_one_owner_are_taken_in_order(place: Place) -> None:
    first, second = (place.forge("north", next_number()) for _ in range(2))
    place.refuse(6, "is older", second, first)
    place.enroll(first, second)
    place.refuse(5, "was already applied", second)


def test_two_new_owners_of_one_name_do_not_enrol_together(place: Place, tmp_path: Path) -> None:
    files = []
    for folder in ("one", "two"):
        done("owner", "init", tmp_path / folder, "--id", "new", "--kmc", place.deployment / "kmc" / "kmc.pub")
        files.append(tmp_path / folder / place.file("x").name)
    place.refuse(9, "is not signed with the key", *files)
    place.enroll(files[0])
    place.refuse(9, "is not signed with the key", files[1])


def test_an_enrolment_of_another_deployment_is_refused(place: Place, tmp_path: Path) -> None:
    done("kmc", "init", tmp_path / "kmc", "--scheme", "mask")
    done("owner", "init", tmp_path / "o", "--id", "o", "--kmc", tmp_path / "kmc" / "kmc.pub")
    place.refuse(8, "belongs to the deployment", tmp_path / "o" / place.file("x").name)


def test_a_file_of_another_kind_is_refused(place: Place) -> None:
    place.refuse(3, "is of kind upload", place.deployment / "north.h5")


def test_the_file_for_the_other_place_is_refused(place: Place) -> None:
    other = "members.h5" if place.role == "kmc" else "enrolment.h5"
    place.refuse(3, "is of kind", place.deployment / "north" / other)


def test_a_file_changed_on_its_way_is_refused(place: Place) -> None:
    path = place.forge("north", next_number())
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    place.refuse(3, str(path), path)


def test_a_file_that_is_missing_is_named(place: Place, tmp_path: Path) -> None:
    place.refuse(2, f"{tmp_path / 'none.h5'}: cannot be read: No such file", tmp_path / "none.h5")


def test_an_owner_may_enrol_without_any_user(place: Place, tmp_path: Path) -> None:
    done("owner", "init", tmp_path / "o", "--id", "alone", "--kmc", place.deployment / "kmc" / "kmc.pub")
    assert place.enroll(tmp_path / "o" / place.file("x").name)["owners"] == 1


def test_a_damaged_stored_enrolment_is_named(changeable: Deployment) -> None:
    place = Place(changeable, "cloud")
    stored = changeable / "cloud" / "members" / "north.h5"
    stored.write_bytes(b"damaged")
    outcome = refused(3, "cloud", "enroll", changeable / "cloud", place.forge("north", next_number()))
    assert str(stored) in outcome.err


def test_a_cloud_enrolled_before_is_known(each_way: Deployment) -> None:
    public = each_way / "cloud" / "cloud.pub"
    Place(each_way, "kmc").refuse(5, "is enrolled already", public)


def test_a_second_cloud_may_be_enrolled_beside_the_first(changeable: Deployment, tmp_path: Path) -> None:
    done("cloud", "init", tmp_path / "cloud2", "--kmc", changeable / "kmc" / "kmc.pub")
    counts = Place(changeable, "kmc").enroll(
        tmp_path / "cloud2" / "cloud.pub", changeable / "cloud" / "cloud.pub"
    )
    assert (counts["clouds"], counts["already enrolled"]) == (1, 1)
    assert changeable.answer(changeable.search(changeable.ask("alice"))).exists()


def test_with_two_clouds_the_kmc_asks_which_is_meant(changeable_exact: Deployment, tmp_path: Path) -> None:
    kmc, query = changeable_exact / "kmc", changeable_exact.ask("alice")
    done("cloud", "init", tmp_path / "cloud2", "--kmc", kmc / "kmc.pub")
    done("kmc", "enroll", kmc, tmp_path / "cloud2" / "cloud.pub")
    words = ("kmc", "rank", kmc, query, "-o", tmp_path / "s.h5")
    outcome = refused(2, *words)
    assert "2 clouds are enrolled" in outcome.err
    assert "--cloud cloud.pub" in outcome.err
    done(*words, "--cloud", changeable_exact / "cloud" / "cloud.pub")
    done("cloud", "search", changeable_exact / "cloud", tmp_path / "s.h5", "-o", tmp_path / "r.h5")


def test_a_selection_for_one_cloud_is_not_answered_by_another(
    changeable_exact: Deployment, tmp_path: Path
) -> None:
    kmc = changeable_exact / "kmc"
    done("cloud", "init", tmp_path / "cloud2", "--kmc", kmc / "kmc.pub")
    done("kmc", "enroll", kmc, tmp_path / "cloud2" / "cloud.pub")
    words = ("cloud", "search", tmp_path / "cloud2", changeable_exact / "alice.selection.h5")
    assert "is for another cloud" in refused(8, *words, "-o", tmp_path / "r.h5").err


def test_a_cloud_that_is_not_enrolled_is_not_ranked_for(changeable_exact: Deployment, tmp_path: Path) -> None:
    kmc, query = changeable_exact / "kmc", changeable_exact.ask("alice")
    done("cloud", "init", tmp_path / "cloud2", "--kmc", kmc / "kmc.pub")
    words = ("--cloud", tmp_path / "cloud2" / "cloud.pub", "-o", tmp_path / "s.h5")
    assert "is not enrolled with this KMC" in refused(4, "kmc", "rank", kmc, query, *words).err


def test_the_cloud_hears_of_no_user_where_the_kmc_ranks(changeable_exact: Deployment) -> None:
    place = Place(changeable_exact, "cloud")
    done("owner", "authorize", changeable_exact / "north", changeable_exact / "eve" / "user.pub")
    data = place.file("north").read_bytes()
    assert b"eve" not in data
    assert changeable_exact.sender("eve").signing_key.public not in data
    assert place.enroll(place.file("north"))["owners"] == 1


def test_the_kmc_takes_no_user_for_a_cloud(changeable: Deployment) -> None:
    Place(changeable, "kmc").refuse(3, "is not a cloud.pub", changeable / "alice" / "user.pub")


def test_image_keys_sealed_to_another_centre_are_refused(changeable: Deployment) -> None:
    path = changeable / "e.h5"
    sender, users = changeable.sender("north"), frozenset({("eve", SigningKey.generate().public)})
    write_enrolment(path, sender, next_number(), users, [generate_key()], SealingKey.generate().public)
    Place(changeable, "kmc").refuse(8, "could not be decrypted with this KMC's key", path)


@pytest.mark.parametrize("keys", [[], [b"short"], [bytes(33)]])
def test_image_keys_of_invalid_length_are_refused(each_way: Deployment, keys: list[bytes]) -> None:
    path = each_way / "e.h5"
    sealing_key = each_way.public.sealing_key
    write_enrolment(path, each_way.sender("north"), next_number(), frozenset(), keys, sealing_key)
    Place(each_way, "kmc").refuse(3, "an invalid length", path)


@pytest.mark.parametrize("name", ["../eve", "", "x" * 65, "eve\n", "-eve"])
def test_a_list_with_a_user_who_has_no_proper_name_is_refused(place: Place, name: str) -> None:
    sender, users, path = (
        place.deployment.sender("north"),
        frozenset({(name, SigningKey.generate().public)}),
        place.deployment / "e.h5",
    )
    if place.role == "cloud":
        write_members(path, sender, next_number(), users)
    else:
        key = place.deployment.public.sealing_key
        write_enrolment(path, sender, next_number(), users, [generate_key()], key)
    place.refuse(3, str(path), path)


@pytest.mark.parametrize("name", ["North", "NORTH", "north.", "nOrth.."])
def test_an_owner_spelt_nearly_as_another_is_refused(changeable: Deployment, name: str) -> None:
    """Some file systems would take the files of the one for those of the other."""
    made = changeable / "made"
    done("owner", "init", made, "--id", name, "--kmc", changeable / "kmc" / "kmc.pub")
    for role, file in (("kmc", "enrolment.h5"), ("cloud", "members.h5")):
        before = snapshot(changeable / role)
        outcome = refused(9, role, "enroll", changeable / role, made / file)
        assert f"is from {name!r}, but 'north' is known here" in outcome.err
        assert snapshot(changeable / role) == before
