"""The KMC's directory: a deployment of its own, whose secrets are drawn and whose public file is signed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mipp_cli.containers.public_files import load_deployment
from mipp_cli.roles.directory import RoleDirectory
from mipp_cli.roles.kmc import Kmc, init_kmc
from mipp_cli.scheme.image_cipher import key_id
from mipp_cli.scheme.parameters import PAPER_WARNING
from tests.deployment import Deployment, done, mode


def test_unless_told_a_deployment_has_the_repaired_cipher_at_3072_bits(tmp_path: Path) -> None:
    report = init_kmc(tmp_path / "kmc")
    parameters = load_deployment(tmp_path / "kmc" / "kmc.pub").parameters
    assert (parameters.scheme, parameters.modulus_bits, parameters.grey_bits) == ("dcr", 3072, 16)
    assert report.warnings == ()


def test_the_scheme_of_the_paper_is_never_used_without_a_warning(tmp_path: Path) -> None:
    report = init_kmc(tmp_path / "kmc", scheme="paper", modulus_bits=2048)
    assert report.warnings == (PAPER_WARNING,)


def test_a_modulus_for_tests_is_never_used_without_a_warning(any_scheme: Deployment) -> None:
    warnings = any_scheme.public.parameters.warnings
    assert len(warnings) == {"dcr": 1, "mask": 0, "paper": 1}[any_scheme.scheme]


def test_two_deployments_have_nothing_in_common(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        init_kmc(tmp_path / name, scheme="mask")
        keys = RoleDirectory.open(tmp_path / name, "kmc").read_json("secrets.json")
        made.append({*keys.values(), load_deployment(tmp_path / name / "kmc.pub").fingerprint})
    assert not made[0] & made[1]


def test_the_depth_of_grey_is_a_deployments(tmp_path: Path) -> None:
    init_kmc(tmp_path / "kmc", scheme="mask", grey_bits=12)
    assert load_deployment(tmp_path / "kmc" / "kmc.pub").parameters.grey_bits == 12


def test_the_keys_of_owners_are_kept_for_the_kmc_alone(any_scheme: Deployment) -> None:
    files = list((any_scheme / "kmc" / "owners").iterdir())
    assert len(files) == 3
    for file in files:
        assert mode(file) == "0600"


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


def test_an_image_key_that_a_later_enrolment_forgot_opens_nothing(changeable: Deployment) -> None:
    from mipp_cli.containers.membership import write_enrolment
    from mipp_cli.scheme.image_cipher import generate_key
    from tests.roles.forgery import next_number

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
    assert "under a key that was not enrolled" in outcome.err
    matches = done(
        "user", "decrypt", changeable / "alice", changeable / "a.h5", "-o", changeable / "m", "--json"
    )
    assert {match["owner"] for match in matches.json["matches"]} == {"south"}


@pytest.mark.parametrize("name", ["kmc", "cloud", "alice", "north"])
def test_every_role_keeps_the_same_public_file(any_scheme: Deployment, name: str) -> None:
    public = (any_scheme / "kmc" / "kmc.pub").read_bytes()
    assert (any_scheme / name / "kmc.pub").read_bytes() == public
