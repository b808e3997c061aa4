"""Image keys that are renewed and forgotten, and what the KMC holds of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mipp_cli.containers.messages.membership import Enrolment, read_enrolment, write_enrolment
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.owner import keys as owner_keys
from mipp_cli.owner.keys import rotate_key
from mipp_cli.owner.owner import Owner
from mipp_cli.scheme.secret_keys import generate_key, key_id
from mipp_cli.workdir.directory import RoleDirectory
from tests.support.deployment import JOBS, Deployment, done, refused, snapshot, state_of
from tests.support.forgery import next_number


def enrolment(deployment: Deployment, owner: str = "north") -> Enrolment:
    key = Kmc.open(deployment / "kmc").sealing_keys
    return read_enrolment(deployment / owner / "enrolment.h5", deployment.public.fingerprint, key)


def current(deployment: Deployment, owner: str = "north") -> int:
    return key_id(Owner.open(deployment / owner).image_key)


def held_by_kmc(deployment: Deployment, owner: str = "north") -> set[int]:
    enrolled = Kmc.open(deployment / "kmc").owner(owner)
    assert enrolled is not None
    return set(enrolled.image_keys)


def enroll(deployment: Deployment, owner: str = "north") -> None:
    done("kmc", "enroll", deployment / "kmc", deployment / owner / "enrolment.h5")


def refuse(deployment: Deployment, code: int, words: str, *command: object) -> None:
    before = snapshot(deployment / "north")
    assert words in refused(code, "owner", *command).err
    assert snapshot(deployment / "north") == before


def rotated(deployment: Deployment) -> int:
    """Rotate the key of an owner who sent nothing, and return the former one."""
    former = current(deployment)
    done("owner", "rotate-key", deployment / "north")
    return former


@pytest.fixture
def empty(changeable: Deployment) -> Deployment:
    """A deployment whose owner north sent nothing."""
    for file in (changeable / "north" / "uploads").iterdir():
        file.unlink()
    return changeable


def test_rotate_draws_a_key_and_tells_the_kmc_of_both(changeable: Deployment) -> None:
    former = current(changeable)
    outcome = done("owner", "rotate-key", changeable / "north")
    new = current(changeable)
    assert new != former
    assert list(enrolment(changeable).image_keys) == [former, new]
    assert "send enrolment.h5 to the KMC before uploads under the new key" in outcome.out
    enroll(changeable)
    assert held_by_kmc(changeable) == {former, new}


def test_images_under_both_keys_are_read_after_a_rotation(each_way: Deployment) -> None:
    done("owner", "rotate-key", each_way / "north")
    new = each_way / "pictures" / "queries"
    done("owner", "encrypt", each_way / "north", new, "-o", each_way / "new.h5", *JOBS)
    enroll(each_way)
    each_way.index(each_way / "new.h5")
    answer = each_way.answer(each_way.search(each_way.ask("alice", candidates=20)))
    words = (each_way / "alice", answer, "-o", each_way / "m", "--top", 20, "--json")
    matches = done("user", "decrypt", *words).json["matches"]
    found = {match["name"] for match in matches if match["owner"] == "north"}
    assert found == {"q1.png", "q2.png", *each_way.pictures("north")}


def test_every_later_enrolment_lists_the_former_keys_too(changeable: Deployment) -> None:
    former = rotated(changeable)
    done("owner", "revoke", changeable / "north", "alice")
    assert list(enrolment(changeable).image_keys) == [former, current(changeable)]


def test_an_interrupted_rotation_leaves_the_former_key_in_use(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    former = current(changeable)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RoleDirectory, "change_secrets", interrupted)
        with pytest.raises(KeyboardInterrupt):
            rotate_key(changeable / "north")
    assert current(changeable) == former
    assert set(enrolment(changeable).image_keys) == {former}
    assert rotated(changeable) == former
    enroll(changeable)
    assert {former, current(changeable)} <= held_by_kmc(changeable)


# Keys that are forgotten


def applied(deployment: Deployment) -> int:
    """Return the number up to which the cloud is complete if it has everything."""
    return Owner.open(deployment / "north").last_number


def forget(deployment: Deployment, *words: object) -> dict[str, int]:
    number = ("--applied", applied(deployment))
    counts = done("owner", "forget-key", deployment / "north", *words, *number, "--json").json["counts"]
    assert isinstance(counts, dict)
    return counts


def refuse_to_forget(
    deployment: Deployment, code: int, words: str, *options: object, upto: int | None = None
) -> None:
    number = ("--applied", applied(deployment) if upto is None else upto)
    refuse(deployment, code, words, "forget-key", deployment / "north", *options, *number)


def send(deployment: Deployment, *options: object) -> int:
    """Send north's pictures, and return the number."""
    file = deployment / f"upload-{len(list(deployment.root.iterdir()))}.h5"
    pictures = deployment / "pictures" / "north"
    done("owner", "encrypt", deployment / "north", pictures, "-o", file, *options, *JOBS)
    return Owner.open(deployment / "north").ledger.messages()[-1].number


def test_a_key_without_images_is_forgotten_here_and_there(empty: Deployment) -> None:
    former = rotated(empty)
    secret = Owner.open(empty / "north").former_image_keys[former]
    enroll(empty)
    assert forget(empty) == {"forgotten": 1, "not held here": 0, "former image keys": 0}
    assert secret.hex() not in (empty / "north" / "secrets.json").read_text()
    assert (enrolment(empty).forgotten, set(enrolment(empty).image_keys)) == ({former}, {current(empty)})
    enroll(empty)
    assert held_by_kmc(empty) == {current(empty)}
    assert secret.hex() not in state_of(empty / "kmc" / "owners" / "north.json")["image_keys"]


def test_a_key_with_live_images_is_not_forgotten(changeable: Deployment) -> None:
    former = rotated(changeable)
    refuse_to_forget(changeable, 9, f"5 under {former:016x}")
    words = f"the cloud may have 5 images under the key {former:016x}"
    refuse_to_forget(changeable, 9, words, f"{former:016x}")


def test_the_number_up_to_which_all_is_applied_must_be_given(empty: Deployment) -> None:
    rotated(empty)
    refuse(empty, 2, "--applied", "forget-key", empty / "north")


def test_a_key_is_forgotten_once_its_images_were_sent_anew(changeable: Deployment) -> None:
    former = rotated(changeable)
    before = applied(changeable)
    number = send(changeable, "--again")
    refuse_to_forget(changeable, 9, f"5 under {former:016x}", upto=before)
    refuse_to_forget(changeable, 9, f"5 under {former:016x}", upto=number - 1)
    done("owner", "forget-key", changeable / "north", "--applied", number)
    assert enrolment(changeable).forgotten == {former}


def test_images_sent_anew_are_found_without_the_old_key(changeable_exact: Deployment) -> None:
    there = changeable_exact
    done("owner", "rotate-key", there / "north")
    enroll(there)
    words = (there / "north", there / "pictures" / "north", "--again", "-o", there / "again.h5", *JOBS)
    done("owner", "encrypt", *words)
    there.index(there / "again.h5")
    assert forget(there)["forgotten"] == 1
    enroll(there)
    answer = there.answer(there.search(there.ask("alice", candidates=20)))
    decrypt = ("user", "decrypt", there / "alice", answer, "-o", there / "m", "--top", 20, "--json")
    matches = done(*decrypt).json["matches"]
    found = {match["name"] for match in matches if match["owner"] == "north"}
    assert found == set(there.pictures("north"))


def test_a_key_is_forgotten_once_its_images_were_deleted(changeable: Deployment) -> None:
    former = rotated(changeable)
    before = applied(changeable)
    words = (*changeable.pictures("north"), "-o", changeable / "d.h5")
    done("owner", "delete", changeable / "north", *words)
    refuse_to_forget(changeable, 9, f"5 under {former:016x}", upto=before)
    assert forget(changeable)["forgotten"] == 1


def test_a_key_is_kept_for_a_later_upload_that_no_longer_counts(changeable: Deployment) -> None:
    before = send(changeable, "--again")
    late = send(changeable, "--again")
    former = rotated(changeable)
    number = send(changeable, "--again")
    for upto in (before, late, number - 1):  # the cloud may have what came after, in part or whole
        refuse_to_forget(changeable, 9, f"under {former:016x}", upto=upto)
    assert forget(changeable)["forgotten"] == 1


def test_images_of_a_message_that_the_cloud_lacks_are_counted(changeable: Deployment) -> None:
    number = applied(changeable)
    send(changeable, "--again")
    former = rotated(changeable)
    refuse_to_forget(changeable, 9, f"10 under {former:016x}", upto=number)  # five sent twice


def test_a_number_that_was_never_given_is_refused(empty: Deployment) -> None:
    rotated(empty)
    last = applied(empty)
    words = f"this owner has not used a number as high as {last + 1}; its last is {last}"
    refuse_to_forget(empty, 2, words, upto=last + 1)
    assert forget(empty)["forgotten"] == 1


def test_of_several_keys_those_without_images_are_forgotten(changeable: Deployment) -> None:
    first, second = rotated(changeable), rotated(changeable)
    assert forget(changeable) == {"forgotten": 1, "not held here": 0, "former image keys": 1}
    assert (enrolment(changeable).forgotten, set(enrolment(changeable).image_keys)) == (
        {second},
        {first, current(changeable)},
    )


def test_one_key_can_be_named(empty: Deployment) -> None:
    first, second = rotated(empty), rotated(empty)
    forget(empty, f"{second:016x}")
    assert list(Owner.open(empty / "north").former_image_keys) == [first]


def test_the_key_in_use_is_not_forgotten(empty: Deployment) -> None:
    refuse_to_forget(empty, 9, "is in use", f"{current(empty):016x}")


def test_a_key_that_is_not_held_is_forgotten_and_counted(empty: Deployment) -> None:
    counts = forget(empty, "00000000000000aa")
    assert counts == {"forgotten": 1, "not held here": 1, "former image keys": 0}
    assert enrolment(empty).forgotten == {0xAA}
    refuse_to_forget(empty, 5, "is already forgotten", "00000000000000aa")


def test_a_key_that_is_not_held_may_have_images(changeable: Deployment) -> None:
    former = rotated(changeable)
    directory = Owner.open(changeable / "north").directory
    directory.change_secrets({"former_images": []})  # the key was lost, and is in the ledger
    refuse_to_forget(changeable, 9, "may have 5 images under the key", f"{former:016x}")
    send(changeable, "--again")
    assert forget(changeable, f"{former:016x}")["not held here"] == 1


@pytest.mark.parametrize("word", ["00AA", "zz", "00000000000000AA", "0000000000000000aa"])
def test_what_is_no_id_of_a_key_is_refused(empty: Deployment, word: str) -> None:
    refuse_to_forget(empty, 2, "is not a key id", word)


def test_there_may_be_nothing_to_forget(empty: Deployment) -> None:
    refuse_to_forget(empty, 5, "there is no former image key")
    rotated(empty)
    forget(empty)
    refuse_to_forget(empty, 5, "there is no former image key")


@pytest.mark.parametrize("step", ["remember", "change_secrets"])
def test_forgetting_that_was_interrupted_can_be_done_again(
    empty: Deployment, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    former = rotated(empty)

    def interrupted(*_: object, forgotten: object = "secrets", **__: object) -> None:
        if forgotten is not None:
            raise KeyboardInterrupt

    owner = Owner if step == "remember" else RoleDirectory
    with monkeypatch.context() as patch:
        patch.setattr(owner, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            owner_keys.forget_keys(empty / "north", applied=applied(empty))
    assert list(Owner.open(empty / "north").former_image_keys) == [former]
    forget(empty)
    enroll(empty)
    assert held_by_kmc(empty) == {current(empty)}


def test_forgotten_ids_are_named_in_every_later_enrolment(empty: Deployment) -> None:
    first = rotated(empty)
    forget(empty)
    second = rotated(empty)
    forget(empty)
    done("owner", "revoke", empty / "north", "alice")
    assert enrolment(empty).forgotten == {first, second}


def test_a_key_that_is_not_mentioned_stays_at_the_kmc(changeable: Deployment) -> None:
    former = current(changeable)
    path, keys = changeable / "e.h5", [generate_key()]
    sealing_key = changeable.public.sealing_key
    write_enrolment(path, changeable.sender("north"), next_number(), frozenset(), keys, sealing_key)
    done("kmc", "enroll", changeable / "kmc", path)
    assert held_by_kmc(changeable) == {former, key_id(keys[0])}


def test_a_key_that_is_named_as_forgotten_too_is_dropped(changeable: Deployment, tmp_path: Path) -> None:
    path, key = tmp_path / "e.h5", Owner.open(changeable / "north").image_key
    sealing_key, forgotten = changeable.public.sealing_key, frozenset({key_id(key)})
    write_enrolment(
        path, changeable.sender("north"), next_number(), frozenset(), [key], sealing_key, forgotten
    )
    done("kmc", "enroll", changeable / "kmc", path)
    assert held_by_kmc(changeable) == set()
