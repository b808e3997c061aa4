"""Fingerprints: shown of every public file that is taken, and demanded by whoever wants to be sure."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.support.deployment import Deployment, done, refused


def fingerprint(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def commands(deployment: Deployment, tmp_path: Path) -> dict[str, tuple[Path, list[object]]]:
    """Every command that takes a public file: the file, and the words."""
    kmc, eve = deployment / "kmc" / "kmc.pub", deployment / "eve" / "user.pub"
    done("cloud", "init", tmp_path / "new-cloud", "--kmc", kmc)
    cloud = tmp_path / "new-cloud" / "cloud.pub"
    return {
        "cloud init": (kmc, ["cloud", "init", tmp_path / "x", "--kmc", kmc]),
        "user init": (kmc, ["user", "init", tmp_path / "x", "--id", "x", "--kmc", kmc]),
        "owner init": (kmc, ["owner", "init", tmp_path / "x", "--id", "x", "--kmc", kmc]),
        "owner authorize": (eve, ["owner", "authorize", deployment / "north", eve]),
        "kmc enroll": (cloud, ["kmc", "enroll", deployment / "kmc", cloud]),
    }


NAMES = ["cloud init", "user init", "owner init", "owner authorize", "kmc enroll"]


@pytest.mark.parametrize("name", NAMES)
def test_the_fingerprint_of_a_public_file_is_shown(changeable: Deployment, tmp_path: Path, name: str) -> None:
    file, words = commands(changeable, tmp_path)[name]
    assert f"fingerprint of {file}: {fingerprint(file)}" in done(*words).out


@pytest.mark.parametrize("name", NAMES)
def test_the_right_fingerprint_is_taken_however_it_is_written(
    changeable: Deployment, tmp_path: Path, name: str
) -> None:
    file, words = commands(changeable, tmp_path)[name]
    pairs = [fingerprint(file)[i : i + 2] for i in range(0, 64, 2)]
    done(*words, "--fingerprint", ":".join(pairs).upper())


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_fingerprint_is_refused(changeable: Deployment, tmp_path: Path, name: str) -> None:
    file, words = commands(changeable, tmp_path)[name]
    outcome = refused(8, *words, "--fingerprint", "0" * 64)
    assert f"{file}: has the fingerprint {fingerprint(file)}, which is not the expected one" in outcome.err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("text", ["", "abc", "g" * 64, "0" * 63, "0" * 65, "é" * 64, "0x" + "0" * 62])
def test_what_is_no_fingerprint_is_refused(deployment: Deployment, tmp_path: Path, text: str) -> None:
    words = ("cloud", "init", tmp_path / "x", "--kmc", deployment / "kmc" / "kmc.pub", "--fingerprint", text)
    assert "is not a fingerprint" in refused(2, *words).err


def test_each_of_several_files_must_have_a_fingerprint_demanded(
    changeable: Deployment, tmp_path: Path
) -> None:
    kmc, users = changeable / "kmc" / "kmc.pub", [changeable / name / "user.pub" for name in ("alice", "eve")]
    words: list[object] = ["owner", "init", tmp_path / "x", "--id", "x", "--kmc", kmc]
    for user in users:
        words += ["--authorize", user]
    options = [word for file in (kmc, *users) for word in ("--fingerprint", fingerprint(file))]
    refused(8, *words, *options[:-2])
    done(*words, *options)


def test_init_shows_the_fingerprint_of_the_file_it_made(tmp_path: Path) -> None:
    report = done("kmc", "init", tmp_path / "kmc", "--scheme", "mask", "--json").json
    public = tmp_path / "kmc" / "kmc.pub"
    assert report["fingerprints"] == {str(public): fingerprint(public)}


@pytest.mark.parametrize("field", ["scheme", "signing_key", "sealing_key", "kind", "format"])
def test_a_public_file_that_was_changed_is_refused(
    deployment: Deployment, tmp_path: Path, field: str
) -> None:
    fields = json.loads((deployment / "kmc" / "kmc.pub").read_bytes())
    changed = {"scheme": "paper", "kind": "user", "format": "mipp 1"}
    fields[field] = changed[field] if field in changed else fields[field][::-1]
    (tmp_path / "kmc.pub").write_text(json.dumps(fields, indent=1) + "\n")
    outcome = refused(3, "cloud", "init", tmp_path / "x", "--kmc", tmp_path / "kmc.pub")
    assert str(tmp_path / "kmc.pub") in outcome.err
    assert not (tmp_path / "x").exists()


def test_a_demand_that_no_file_meets_is_refused(changeable: Deployment, tmp_path: Path) -> None:
    kmc, cloud = changeable / "kmc" / "kmc.pub", tmp_path / "cloud"
    words = ("cloud", "init", cloud, "--kmc", kmc, "--fingerprint", fingerprint(kmc))
    outcome = refused(8, *words, "--fingerprint", "0" * 64)
    assert "none of the files has the expected fingerprint 0000" in outcome.err
    assert not cloud.exists()
    done(*words)


def test_a_known_cloud_must_still_match_a_demanded_fingerprint(changeable: Deployment) -> None:
    public = changeable / "cloud" / "cloud.pub"
    words = ("kmc", "enroll", changeable / "kmc", public)
    refused(5, *words)
    refused(5, *words, "--fingerprint", fingerprint(public))
    assert "which is not the expected one" in refused(8, *words, "--fingerprint", "0" * 64).err


def owners_key(deployment: Deployment, owner: str = "north") -> str:
    """Return an owner's fingerprint, from its own secrets."""
    return deployment.sender(owner).signing_key.public.hex()


PLACES = [("kmc", "enrolment.h5"), ("cloud", "members.h5")]


def test_an_owners_commands_show_its_fingerprint(changeable: Deployment, tmp_path: Path) -> None:
    kmc, eve = changeable / "kmc" / "kmc.pub", changeable / "eve" / "user.pub"
    shown = done("owner", "init", tmp_path / "o", "--id", "o", "--kmc", kmc).out
    keys = {line.rpartition(" ")[2] for line in shown.splitlines() if ".h5: " in line}
    assert len(keys) == 1
    for words in (("authorize", changeable / "north", eve), ("revoke", changeable / "north", "eve")):
        shown = done("owner", *words).out
        for _, file in PLACES:
            assert f"fingerprint of {changeable / 'north' / file}: {owners_key(changeable)}" in shown


@pytest.mark.parametrize(("role", "name"), PLACES)
def test_a_first_enrolment_must_match_a_demanded_fingerprint(
    changeable: Deployment, tmp_path: Path, role: str, name: str
) -> None:
    kmc = changeable / "kmc" / "kmc.pub"
    keys = {}
    for folder in ("real", "squatter"):
        path = tmp_path / folder
        report = done("owner", "init", path, "--id", "newcomer", "--kmc", kmc, "--json").json
        keys[folder] = report["fingerprints"][str(path / name)]
    words = (role, "enroll", changeable / role)
    demand = ("--fingerprint", keys["real"])
    outcome = refused(8, *words, tmp_path / "squatter" / name, *demand)
    assert f"has the fingerprint {keys['squatter']}, which is not the expected one" in outcome.err
    shown = done(*words, tmp_path / "real" / name, *demand).out
    assert f"fingerprint of {tmp_path / 'real' / name}: {keys['real']}" in shown
    refused(5, *words, tmp_path / "real" / name, *demand)
    refused(8, *words, tmp_path / "real" / name, "--fingerprint", "0" * 64)
