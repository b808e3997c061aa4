"""What `mipp kmc status` says a KMC holds: true, complete, and never a secret."""

from __future__ import annotations

from typing import Any

from mipp_cli.containers.base.container import header_of
from mipp_cli.files.json_state import read_state
from mipp_cli.owner.owner import Owner
from mipp_cli.scheme.secret_keys import key_id
from tests.support.deployment import OWNERS, Deployment, done, secrets_of
from tests.support.forgery import Picture, features_beside, forge_upload, next_number, random_feature


def status(deployment: Deployment) -> dict[str, Any]:
    found = done("kmc", "status", deployment / "kmc", "--json").json["status"]
    assert isinstance(found, dict)
    return found


def test_keys_users_and_clouds_are_those_that_were_enrolled(any_scheme: Deployment) -> None:
    found = status(any_scheme)
    assert set(found["owners"]) == set(OWNERS)
    for name in OWNERS:
        owner = found["owners"][name]
        assert owner["image_keys"] == [f"{key_id(any_scheme.role(name).secret('image')):016x}"]
        assert owner["key"] == any_scheme.sender(name).signing_key.public.hex()
        assert owner["date"].startswith("20")
    assert set(found["owners"]["south"]["users"]) == {"alice", "bob"}
    assert found["clouds"] == [any_scheme.sender("cloud").signing_key.public.hex()]
    assert found["removed"] == {}
    assert found["sealing_keys"]["number"] is None


def test_former_sealing_keys_and_removed_owners_are_listed(each_way: Deployment) -> None:
    first = status(each_way)["sealing_keys"]["current"]
    done("kmc", "rotate-key", each_way / "kmc")
    done("kmc", "remove", each_way / "kmc", "north", "--release-name", "--yes")
    found = status(each_way)
    assert found["sealing_keys"]["former"] == [first]
    assert found["sealing_keys"]["date"].startswith("20")
    assert set(found["owners"]) == {"lake", "south"}
    assert found["removed"]["north"]["name_released"]
    done("kmc", "forget-key", each_way / "kmc")
    assert status(each_way)["sealing_keys"]["former"] == []


def test_people_read_the_same(each_way: Deployment) -> None:
    done("kmc", "rotate-key", each_way / "kmc")
    done("kmc", "remove", each_way / "kmc", "north", "--yes")
    said = done("kmc", "status", each_way / "kmc").out
    found = status(each_way)
    for name, owner in found["owners"].items():
        assert f"  {name}:\n    number: {owner['number']}\n    date: {owner['date']}\n" in said
        assert f"    image_keys: {', '.join(owner['image_keys'])}\n" in said
    assert "removed:\n  north:\n    number: " in said
    assert found["clouds"][0] in said
    assert found["sealing_keys"]["former"][0] in said


def test_a_key_that_was_forgotten_is_listed_no_more(each_way: Deployment) -> None:
    north = each_way / "north"
    done("owner", "rotate-key", north)
    done("kmc", "enroll", each_way / "kmc", north / "enrolment.h5")
    former, current = status(each_way)["owners"]["north"]["image_keys"]
    done("owner", "delete", north, *each_way.pictures("north"), "-o", each_way / "d.h5")
    number = read_state(north / "state.json")["number"]
    done("owner", "forget-key", north, former, "--applied", number)
    done("kmc", "enroll", each_way / "kmc", north / "enrolment.h5")
    assert status(each_way)["owners"]["north"]["image_keys"] == [current]


def test_no_secret_is_told(each_way: Deployment) -> None:
    done("kmc", "rotate-key", each_way / "kmc")
    shown = done("kmc", "status", each_way / "kmc").out
    shown += done("kmc", "status", each_way / "kmc", "--json").out
    assert not [secret for secret in secrets_of(each_way.root) if secret in shown]


def test_where_the_kmc_ranks_it_says_how_many_images_it_ranks(exact: Deployment) -> None:
    said = done("kmc", "status", exact / "kmc").out
    owners = status(exact)["owners"]
    assert {name: owners[name]["features"]["images_ranked"] for name in OWNERS} == {
        "north": 5,
        "south": 5,
        "lake": 4,
    }
    for name in OWNERS:
        number = header_of(exact / f"{name}.h5").sequence_number
        found = owners[name]["features"]
        assert (found["complete"], found["missing"]) == (number, [])
        assert found["images_under_forgotten_keys"] == 0
        assert f"images_ranked: {found['images_ranked']}\n" in said
        assert f"state: complete up to {number} (20" in said
    counts = done("kmc", "status", exact / "kmc", "--json").json["counts"]
    assert (counts["images ranked"], counts["images under forgotten keys"]) == (14, 0)


def test_where_the_cloud_ranks_a_kmc_has_no_features(deployment: Deployment) -> None:
    assert "features" not in status(deployment)["owners"]["north"]
    assert "images_ranked" not in done("kmc", "status", deployment / "kmc").out


def test_images_under_a_forgotten_key_are_counted_apart(changeable_exact: Deployment) -> None:
    north = changeable_exact / "north"
    key = status(changeable_exact)["owners"]["north"]["image_keys"][0]
    done("owner", "rotate-key", north)
    done("owner", "delete", north, *changeable_exact.pictures("north"), "-o", changeable_exact / "d.h5")
    number = read_state(north / "state.json")["number"]
    done("owner", "forget-key", north, key, "--applied", number)
    done("kmc", "enroll", changeable_exact / "kmc", north / "enrolment.h5")
    found = status(changeable_exact)["owners"]["north"]["features"]
    assert (found["images_ranked"], found["images_under_forgotten_keys"]) == (0, 5)
    said = done("kmc", "status", changeable_exact / "kmc").out
    assert "images_under_forgotten_keys: 5\n" in said


def test_a_features_file_that_has_not_come_is_named(changeable_exact: Deployment) -> None:
    (sent,) = (m.number for m in Owner.open(changeable_exact / "north").ledger.messages())
    number = next_number()
    images = [("x", Picture().envelope(), random_feature(1))]
    upload = forge_upload(
        changeable_exact,
        "north",
        images,
        changeable_exact / "u.h5",
        number=number,
        earlier=[sent, number - 1],
    )
    done("kmc", "index", changeable_exact / "kmc", features_beside(upload))
    assert status(changeable_exact)["owners"]["north"]["features"]["missing"] == [number - 1]
    assert f"missing: {number - 1} (" in done("kmc", "status", changeable_exact / "kmc").out
