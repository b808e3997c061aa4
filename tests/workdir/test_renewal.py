"""The KMC's sealing key renewed: former keys open until they are dropped, and then nothing ever does."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from mipp_cli.containers.messages.public_files import load_renewal, render_renewal
from mipp_cli.containers.messages.query import parse_query
from mipp_cli.errors import WrongDeploymentError
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.scheme.keys import SealingKey, SigningKey
from tests.support.deployment import Deployment, done, refused, secrets_of, snapshot
from tests.support.forgery import next_number


def rotate(deployment: Deployment, *options: str) -> Path:
    done("kmc", "rotate-key", deployment / "kmc", *options)
    return deployment / "kmc" / "sealing.pub"


def forge_renewal(deployment: Deployment, number: int, *, key: SigningKey | None = None) -> Path:
    """Write a sealing.pub of a number of our choice, signed by the KMC or another."""
    path = deployment / f"sealing-{next_number()}.pub"
    fingerprint, public = deployment.public.fingerprint, SealingKey.generate().public
    path.write_bytes(render_renewal(number, public, fingerprint, key or deployment.sender("kmc").signing_key))
    return path


def answers(deployment: Deployment, query: Path) -> None:
    answer = deployment.answer(deployment.search(query))
    done("user", "decrypt", deployment / "alice", answer, "-o", query.with_suffix(".matches"))


def test_the_deployment_stays_what_it_is(changeable: Deployment) -> None:
    before = (changeable / "kmc" / "kmc.pub").read_bytes()
    rotate(changeable)
    assert (changeable / "kmc" / "kmc.pub").read_bytes() == before


def test_a_query_under_way_is_answered_after_the_rotation(changeable: Deployment) -> None:
    query = changeable.ask("alice")
    rotate(changeable)
    rotate(changeable)
    answers(changeable, query)


def test_a_user_with_the_new_key_is_answered_without_the_former(changeable: Deployment) -> None:
    renewed = rotate(changeable, "--drop-former")
    done("user", "update-kmc-key", changeable / "alice", renewed)
    answers(changeable, changeable.ask("alice"))


def test_a_user_who_did_not_is_told_how(changeable: Deployment) -> None:
    rotate(changeable, "--drop-former")
    results = changeable.search(changeable.ask("alice"))
    outcome = refused(8, "kmc", "reencrypt", changeable / "kmc", results, "-o", changeable / "a.h5")
    assert "mipp user update-kmc-key" in outcome.err


@pytest.mark.parametrize("steps", [["rotate-key --drop-former"], ["rotate-key", "forget-key"]])
def test_a_recorded_query_does_not_open_with_later_keys(changeable: Deployment, steps: list[str]) -> None:
    public = changeable.public
    recorded = parse_query(
        (changeable / "alice.query.h5").read_bytes(), public.parameters, public.fingerprint
    )
    stolen = Kmc.open(changeable / "kmc").sealing_key
    assert stolen.open(recorded.sealed_usk, recorded.header.sealing_info)
    for step in steps:
        command, *options = step.split()
        done("kmc", command, changeable / "kmc", *options)
    with pytest.raises(WrongDeploymentError):
        recorded.open_usk(Kmc.open(changeable / "kmc").sealing_keys)
    for file in (changeable / "kmc").rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        for half in (stolen.seeds[:64], stolen.seeds[64:]):
            assert half not in content
            assert half.hex().encode() not in content


def test_the_new_key_is_shown_to_nobody(changeable: Deployment) -> None:
    outcome = done("kmc", "rotate-key", changeable / "kmc", "--json")
    shown = outcome.out + outcome.err + done("inspect", changeable / "kmc" / "sealing.pub").out
    shown += (changeable / "kmc" / "sealing.pub").read_text()
    assert not [secret for secret in secrets_of(changeable.root) if secret in shown]


def test_without_a_former_key_there_is_nothing_to_forget(changeable: Deployment) -> None:
    before = snapshot(changeable / "kmc")
    assert "has no former sealing key" in refused(5, "kmc", "forget-key", changeable / "kmc").err
    assert snapshot(changeable / "kmc") == before


def test_an_owner_enrols_under_the_new_key(changeable: Deployment) -> None:
    rotate(changeable, "--drop-former")
    done("owner", "authorize", changeable / "lake", changeable / "alice" / "user.pub")
    enrolment = changeable / "lake" / "enrolment.h5"
    assert "mipp owner update-kmc-key" in refused(8, "kmc", "enroll", changeable / "kmc", enrolment).err
    outcome = done("owner", "update-kmc-key", changeable / "lake", changeable / "kmc" / "sealing.pub")
    assert "takes effect when" in outcome.out
    done("kmc", "enroll", changeable / "kmc", enrolment)
    done("owner", "revoke", changeable / "lake", "alice")
    done("kmc", "enroll", changeable / "kmc", enrolment)


def test_a_renewal_is_taken_over_once(changeable: Deployment) -> None:
    first, role = rotate(changeable).read_bytes(), changeable / "alice"
    (changeable / "first.pub").write_bytes(first)
    done("user", "update-kmc-key", role, changeable / "first.pub")
    assert "was already accepted" in refused(5, "user", "update-kmc-key", role, changeable / "first.pub").err
    done("user", "update-kmc-key", role, rotate(changeable))
    before = snapshot(role)
    assert "is not newer" in refused(6, "user", "update-kmc-key", role, changeable / "first.pub").err
    assert snapshot(role) == before


def test_another_key_under_the_same_number_is_a_replay(changeable: Deployment) -> None:
    number = next_number()
    done("owner", "update-kmc-key", changeable / "north", forge_renewal(changeable, number))
    before = snapshot(changeable / "north")
    refused(6, "owner", "update-kmc-key", changeable / "north", forge_renewal(changeable, number))
    assert snapshot(changeable / "north") == before


@pytest.mark.parametrize("role", ["north", "alice"])
def test_a_renewal_that_the_kmc_did_not_sign_is_refused(changeable: Deployment, role: str) -> None:
    path = forge_renewal(changeable, next_number(), key=SigningKey.generate())
    before = snapshot(changeable / role)
    kind = "owner" if role == "north" else "user"
    assert "is not signed by the KMC" in refused(8, kind, "update-kmc-key", changeable / role, path).err
    assert snapshot(changeable / role) == before


def test_a_renewal_of_another_deployment_is_refused(changeable: Deployment, tmp_path: Path) -> None:
    done("kmc", "init", tmp_path / "kmc", "--scheme", "mask")
    done("kmc", "rotate-key", tmp_path / "kmc")
    path = tmp_path / "kmc" / "sealing.pub"
    assert "another deployment" in refused(8, "user", "update-kmc-key", changeable / "alice", path).err


def test_a_renewal_that_was_changed_is_refused(changeable: Deployment) -> None:
    fields = json.loads(rotate(changeable).read_bytes())
    fields["number"] += 1
    (changeable / "s.pub").write_text(json.dumps(fields, indent=1) + "\n")
    refused(3, "user", "update-kmc-key", changeable / "alice", changeable / "s.pub")


def test_a_later_renewal_has_a_later_number(changeable: Deployment) -> None:
    numbers = [load_renewal(rotate(changeable), changeable.public).number for _ in range(2)]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("command", [("rotate-key",), ("forget-key",)])
def test_an_interrupted_rotation_is_finished_not_restarted(
    changeable: Deployment, command: tuple[str, ...]
) -> None:
    kmc = Kmc.open(changeable / "kmc")
    drawn = SealingKey.generate()
    # what a crash before sealing.pub was written leaves
    kmc.directory.change_secrets({"sealing": drawn.seeds, "former_sealing": [kmc.sealing_key.seeds]})
    query = changeable.ask("alice")
    done("kmc", "reencrypt", changeable / "kmc", changeable.search(query), "-o", changeable / "a.h5")
    done("kmc", *command, changeable / "kmc")
    published = load_renewal(changeable / "kmc" / "sealing.pub", changeable.public)
    assert published.sealing_key == drawn.public == Kmc.open(changeable / "kmc").sealing_key.public


def test_an_owner_whose_renewal_was_interrupted_renews_again(changeable: Deployment) -> None:
    from mipp_cli.owner.owner import Owner

    renewed = rotate(changeable, "--drop-former")
    owner = Owner.open(changeable / "north")
    owner.write_membership(owner.users, load_renewal(renewed, changeable.public).sealing_key)
    done("owner", "update-kmc-key", changeable / "north", renewed)
    done("kmc", "enroll", changeable / "kmc", changeable / "north" / "enrolment.h5")


def ten_years_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 315_360_000 * 10**9)


@pytest.mark.parametrize("role", ["owner", "user"])
def test_a_kmc_whose_clock_was_wrong_once_goes_on(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    there = changeable / {"owner": "north", "user": "alice"}[role]
    with monkeypatch.context() as wrong:
        ten_years_ahead(wrong)
        renewed = rotate(changeable)
    before = snapshot(there)
    outcome = refused(6, role, "update-kmc-key", there, renewed)
    assert "more than a day ahead of this machine's clock" in outcome.err
    assert "mipp kmc rotate-key" in outcome.err
    assert snapshot(there) == before
    done(role, "update-kmc-key", there, rotate(changeable))


def test_a_key_taken_by_a_wrong_clock_keeps_none_out(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as wrong:
        ten_years_ahead(wrong)
        done("user", "update-kmc-key", changeable / "alice", rotate(changeable))
    done("user", "update-kmc-key", changeable / "alice", rotate(changeable))
    answers(changeable, changeable.ask("alice"))
