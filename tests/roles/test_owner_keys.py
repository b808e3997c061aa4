"""Image keys that are renewed and forgotten, and what the KMC holds of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mipp_cli.containers.membership import Enrolment, read_enrolment, write_enrolment
from mipp_cli.roles import owner_keys
from mipp_cli.roles.directory import RoleDirectory
from mipp_cli.roles.kmc import Kmc
from mipp_cli.roles.owner import Owner
from mipp_cli.roles.owner_keys import rotate_key
from mipp_cli.scheme.image_cipher import generate_key, key_id
from tests.deployment import JOBS, Deployment, done, refused, run, snapshot
from tests.roles.forgery import next_number


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
    done("owner", "rotate", deployment / "north")
    return former


@pytest.fixture
def empty(changeable: Deployment) -> Deployment:
    """A deployment whose owner north sent nothing."""
    for file in (changeable / "north" / "uploads").iterdir():
        file.unlink()
    return changeable


def test_rotate_draws_a_key_and_tells_the_kmc_of_both(changeable: Deployment) -> None:
    former = current(changeable)
    outcome = done("owner", "rotate", changeable / "north")
    new = current(changeable)
    assert new != former
    assert list(enrolment(changeable).image_keys) == [former, new]
    assert "bring enrolment.h5 to the KMC before uploads under the new key" in outcome.out
    enroll(changeable)
    assert held_by_kmc(changeable) == {former, new}


def test_images_under_both_keys_are_read_after_a_rotation(changeable: Deployment) -> None:
    done("owner", "rotate", changeable / "north")
    new = changeable / "pictures" / "queries" / "q1.png"
    done("owner", "encrypt", changeable / "north", new, "-o", changeable / "new.h5", *JOBS)
    done("cloud", "index", changeable / "cloud", changeable / "new.h5", *JOBS)
    enroll(changeable)
    answer = changeable.answer(changeable.search(changeable.ask("alice", candidates=20)))
    report = done(
        "user", "decrypt", changeable / "alice", answer, "-o", changeable / "m", "--top", 20, "--json"
    )
    found = {match["name"] for match in report.json["matches"] if match["owner"] == "north"}
    assert found == {"q1.png", *changeable.pictures("north")}


def test_every_later_enrolment_lists_the_former_keys_too(changeable: Deployment) -> None:
    former = rotated(changeable)
    done("owner", "revoke", changeable / "north", "alice")
    assert list(enrolment(changeable).image_keys) == [former, current(changeable)]


def test_a_rotation_that_is_interrupted_leaves_the_former_key_in_use_and_enrolled(
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


def test_partial_work_under_a_former_key_is_not_gone_on_with(changeable: Deployment) -> None:
    from mipp_cli.roles.partial import PartialWork

    owner = Owner.open(changeable / "north")
    PartialWork.begin(owner.directory, {"key_id": current(changeable)}, resume=None, published=owner.ledger)
    (changeable / "north" / "partial" / "9.spool").touch()
    rotated(changeable)
    words = (changeable / "north", changeable / "pictures" / "north", "-o", changeable / "u.h5", "--resume")
    assert "another key" in refused(2, "owner", "encrypt", *words).err


def test_a_key_without_images_is_forgotten_here_and_at_the_kmc(empty: Deployment) -> None:
    former = rotated(empty)
    secret = Owner.open(empty / "north").former_image_keys[former]
    enroll(empty)
    done("owner", "forget-key", empty / "north")
    assert secret.hex() not in (empty / "north" / "secrets.json").read_text()
    assert (enrolment(empty).forgotten, set(enrolment(empty).image_keys)) == ({former}, {current(empty)})
    enroll(empty)
    assert held_by_kmc(empty) == {current(empty)}
    assert secret.hex() not in (empty / "kmc" / "owners" / "north.json").read_text()


def test_a_key_with_live_images_is_not_forgotten(changeable: Deployment) -> None:
    former = rotated(changeable)
    north = changeable / "north"
    refuse(changeable, 9, f"5 under {former:016x}", "forget-key", north)
    words = f"the ledger lists 5 images under the key {former:016x}"
    refuse(changeable, 9, words, "forget-key", north, f"{former:016x}")
    refuse(changeable, 9, words, "forget-key", north, f"{former:016x}", "--unlisted")


def test_a_key_is_not_forgotten_for_an_upload_that_the_cloud_refuses(changeable: Deployment) -> None:
    former = rotated(changeable)
    north, again = changeable / "north", changeable / "again.h5"
    done("owner", "encrypt", north, changeable / "pictures" / "north", "-o", again, *JOBS)
    refused(9, "cloud", "index", changeable / "cloud", again, *JOBS)
    refuse(changeable, 9, f"5 under {former:016x}", "forget-key", north)


def test_of_several_keys_those_without_images_are_forgotten(changeable: Deployment) -> None:
    first, second = rotated(changeable), rotated(changeable)
    outcome = done("owner", "forget-key", changeable / "north", "--json")
    assert outcome.json["counts"] == {"forgotten": 1, "former image keys": 1}
    assert (enrolment(changeable).forgotten, set(enrolment(changeable).image_keys)) == (
        {second},
        {first, current(changeable)},
    )


def test_one_key_can_be_named(empty: Deployment) -> None:
    first, second = rotated(empty), rotated(empty)
    done("owner", "forget-key", empty / "north", f"{second:016x}")
    assert list(Owner.open(empty / "north").former_image_keys) == [first]


def test_the_key_in_use_is_not_forgotten(empty: Deployment) -> None:
    refuse(empty, 9, "is in use", "forget-key", empty / "north", f"{current(empty):016x}")


def test_a_key_that_is_not_held_is_forgotten_only_as_unlisted(empty: Deployment) -> None:
    refuse(empty, 2, "there is no former image key", "forget-key", empty / "north", "00000000000000aa")
    done("owner", "forget-key", empty / "north", "00000000000000aa", "--unlisted")
    assert enrolment(empty).forgotten == {0xAA}
    refuse(empty, 5, "was forgotten before", "forget-key", empty / "north", "00000000000000aa")


@pytest.mark.parametrize("words", [("--unlisted",), ("00AA",), ("zz",), ("00000000000000AA",)])
def test_a_request_that_names_no_key_is_refused(empty: Deployment, words: tuple[str, ...]) -> None:
    before = snapshot(empty / "north")
    assert run("owner", "forget-key", empty / "north", *words).code == 2
    assert snapshot(empty / "north") == before


def test_there_may_be_nothing_to_forget(empty: Deployment) -> None:
    refuse(empty, 5, "there is no former image key", "forget-key", empty / "north")
    rotated(empty)
    done("owner", "forget-key", empty / "north")
    refuse(empty, 5, "there is no former image key", "forget-key", empty / "north")


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
            owner_keys.forget_keys(empty / "north")
    assert list(Owner.open(empty / "north").former_image_keys) == [former]
    done("owner", "forget-key", empty / "north")
    enroll(empty)
    assert held_by_kmc(empty) == {current(empty)}


def test_forgotten_ids_are_named_in_every_later_enrolment(empty: Deployment) -> None:
    first = rotated(empty)
    done("owner", "forget-key", empty / "north")
    second = rotated(empty)
    done("owner", "forget-key", empty / "north")
    done("owner", "revoke", empty / "north", "alice")
    assert enrolment(empty).forgotten == {first, second}


def test_a_key_that_an_enrolment_does_not_mention_stays_at_the_kmc(changeable: Deployment) -> None:
    former = current(changeable)
    path, keys = changeable / "e.h5", [generate_key()]
    sealing_key = changeable.public.sealing_key
    write_enrolment(path, changeable.sender("north"), next_number(), frozenset(), keys, sealing_key)
    done("kmc", "enroll", changeable / "kmc", path)
    assert held_by_kmc(changeable) == {former, key_id(keys[0])}


def test_a_key_that_is_named_twice_is_held(changeable: Deployment, tmp_path: Path) -> None:
    path, key = tmp_path / "e.h5", Owner.open(changeable / "north").image_key
    sealing_key, forgotten = changeable.public.sealing_key, frozenset({key_id(key)})
    write_enrolment(
        path, changeable.sender("north"), next_number(), frozenset(), [key], sealing_key, forgotten
    )
    done("kmc", "enroll", changeable / "kmc", path)
    assert held_by_kmc(changeable) == {key_id(key)}
