"""The cloud's directory: whom it lets search, and what it knows before anything was uploaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from mipp_cli.cloud.cloud import Cloud
from mipp_cli.errors import NotAuthorisedError
from tests.support.deployment import AUTHORISED, JOBS, OWNERS, Deployment, done


def test_a_cloud_knows_who_may_search_whom(sum_scheme: Deployment) -> None:
    members = {
        member.owner: {name for name, _ in member.users}
        for member in Cloud.open(sum_scheme / "cloud").members()
    }
    assert members == {
        owner: {user for user, owners in AUTHORISED.items() if owner in owners} for owner in OWNERS
    }


def test_where_the_kmc_ranks_a_cloud_knows_of_no_user(exact: Deployment) -> None:
    members = Cloud.open(exact / "cloud").members()
    assert {member.owner: member.users for member in members} == dict.fromkeys(OWNERS, frozenset())
    stored = b"".join(path.read_bytes() for path in (exact / "cloud").rglob("*") if path.is_file())
    for user in AUTHORISED:
        assert exact.sender(user).signing_key.public not in stored


def test_a_cloud_names_the_owner_whom_it_does_not_know(deployment: Deployment) -> None:
    cloud = Cloud.open(deployment / "cloud")
    assert cloud.members_header("north").sender == "north"
    with pytest.raises(NotAuthorisedError, match="'newcomer' is not enrolled with this cloud"):
        cloud.members_header("newcomer")


def test_a_cloud_holds_no_key_but_its_own(any_scheme: Deployment) -> None:
    assert set(any_scheme.role("cloud").read_json("secrets.json")) == {"signing", "storage"}


def test_a_search_in_an_empty_cloud_finds_nothing(deployment: Deployment, tmp_path: Path) -> None:
    kmc = deployment / "kmc" / "kmc.pub"
    done("cloud", "init", tmp_path / "cloud", "--kmc", kmc)
    done("cloud", "enroll", tmp_path / "cloud", deployment / "north" / "members.h5")
    for option in ((), ("--without-index",)):
        output = tmp_path / f"results{len(option)}.h5"
        words = (tmp_path / "cloud", deployment / "alice.query.h5", "-o", output, *option, *JOBS)
        assert done("cloud", "search", *words, "--json").json["counts"]["matches"] == 0
    assert done("inspect", tmp_path / "cloud" / "index.h5", "--csv").out == "owner,image_id,sum1,sum2\n"


def test_an_empty_cloud_brings_nothing_and_the_user_is_told(
    changeable_exact: Deployment, tmp_path: Path
) -> None:
    cloud, kmc = tmp_path / "cloud", changeable_exact / "kmc"
    done("cloud", "init", cloud, "--kmc", kmc / "kmc.pub")
    done("cloud", "enroll", cloud, changeable_exact / "north" / "members.h5")
    done("kmc", "enroll", kmc, cloud / "cloud.pub")
    query, selection = changeable_exact.ask("alice"), tmp_path / "s.h5"
    done("kmc", "rank", kmc, query, "--cloud", cloud / "cloud.pub", "-o", selection)
    found = done("cloud", "search", cloud, selection, "-o", tmp_path / "r.h5", "--json").json["counts"]
    assert (found["images"], found["groups not here"]) == (0, found["groups"])
    done("kmc", "reencrypt", kmc, tmp_path / "r.h5", "-o", tmp_path / "a.h5")
    words = ("user", "decrypt", changeable_exact / "alice", tmp_path / "a.h5", "-o", tmp_path / "m")
    told = done(*words, "--json").json
    assert told["matches"] == []
    assert any("are not at the cloud" in warning for warning in told["warnings"])


def test_an_answer_without_images_can_be_read(changeable: Deployment, tmp_path: Path) -> None:
    kmc = changeable / "kmc" / "kmc.pub"
    done("cloud", "init", tmp_path / "cloud", "--kmc", kmc)
    done("cloud", "enroll", tmp_path / "cloud", changeable / "north" / "members.h5")
    done("kmc", "enroll", changeable / "kmc", tmp_path / "cloud" / "cloud.pub")
    words = (tmp_path / "cloud", changeable.ask("alice"), "-o", tmp_path / "r.h5", *JOBS)
    done("cloud", "search", *words)
    done("kmc", "reencrypt", changeable / "kmc", tmp_path / "r.h5", "-o", tmp_path / "a.h5")
    outcome = done("user", "decrypt", changeable / "alice", tmp_path / "a.h5", "-o", tmp_path / "m", "--json")
    assert outcome.json["matches"] == []
    assert outcome.json["counts"]["query images"] == 2
