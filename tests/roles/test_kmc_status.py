"""What `mipp kmc status` says a KMC holds: true, complete, and never a secret."""

from __future__ import annotations

from typing import Any

from mipp_cli.roles.state_files import read_state
from mipp_cli.scheme.image_cipher import key_id
from tests.deployment import OWNERS, Deployment, done, secrets_of


def status(deployment: Deployment) -> dict[str, Any]:
    found = done("kmc", "status", deployment / "kmc", "--json").json["status"]
    assert isinstance(found, dict)
    return found


def test_keys_users_and_clouds_are_those_that_were_enrolled(deployment: Deployment) -> None:
    found = status(deployment)
    assert set(found["owners"]) == set(OWNERS)
    for name in OWNERS:
        owner = found["owners"][name]
        assert owner["image_keys"] == [f"{key_id(deployment.role(name).secret('image')):016x}"]
        assert owner["key"] == deployment.sender(name).signing_key.public.hex()
        assert owner["date"].startswith("20")
    assert set(found["owners"]["south"]["users"]) == {"alice", "bob"}
    assert found["clouds"] == [deployment.sender("cloud").signing_key.public.hex()]
    assert found["removed"] == {}
    assert found["sealing_keys"]["number"] is None


def test_former_sealing_keys_and_removed_owners_are_listed(changeable: Deployment) -> None:
    first = status(changeable)["sealing_keys"]["current"]
    done("kmc", "rotate", changeable / "kmc")
    done("kmc", "remove", changeable / "kmc", "north", "--release-name")
    found = status(changeable)
    assert found["sealing_keys"]["former"] == [first]
    assert found["sealing_keys"]["date"].startswith("20")
    assert set(found["owners"]) == {"lake", "south"}
    assert found["removed"]["north"]["name_released"]
    done("kmc", "forget-key", changeable / "kmc")
    assert status(changeable)["sealing_keys"]["former"] == []


def test_people_read_the_same(changeable: Deployment) -> None:
    done("kmc", "rotate", changeable / "kmc")
    done("kmc", "remove", changeable / "kmc", "north")
    said = done("kmc", "status", changeable / "kmc").out
    found = status(changeable)
    for name, owner in found["owners"].items():
        assert f"owner {name}: enrolled {owner['date']}, number {owner['number']}" in said
        assert ", ".join(owner["image_keys"]) in said
    assert "removed north: last enrolled 20" in said
    assert found["clouds"][0] in said
    assert found["sealing_keys"]["former"][0] in said


def test_a_key_that_was_forgotten_is_listed_no_more(changeable: Deployment) -> None:
    north = changeable / "north"
    done("owner", "rotate", north)
    done("kmc", "enroll", changeable / "kmc", north / "enrolment.h5")
    former, current = status(changeable)["owners"]["north"]["image_keys"]
    done("owner", "delete", north, *changeable.pictures("north"), "-o", changeable / "d.h5")
    number = read_state(north / "state.json")["number"]
    done("owner", "forget-key", north, former, "--applied", number)
    done("kmc", "enroll", changeable / "kmc", north / "enrolment.h5")
    assert status(changeable)["owners"]["north"]["image_keys"] == [current]


def test_no_secret_is_told(changeable: Deployment) -> None:
    done("kmc", "rotate", changeable / "kmc")
    shown = done("kmc", "status", changeable / "kmc").out
    shown += done("kmc", "status", changeable / "kmc", "--json").out
    assert not [secret for secret in secrets_of(changeable.root) if secret in shown]
