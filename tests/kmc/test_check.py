"""`mipp kmc check`: whatever byte of a KMC's directory changed, it is found and the file named."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mipp_cli.containers.messages.public_files import render_renewal
from mipp_cli.errors import DamagedError
from mipp_cli.kmc.check import check_kmc
from mipp_cli.scheme.keys import SealingKey
from tests.support.deployment import Deployment, change_state, done, refused, run, snapshot


@pytest.fixture
def kmc(each_way: Deployment) -> Path:
    """A KMC's directory with a file of every kind."""
    done("kmc", "rotate-key", each_way / "kmc")
    done("kmc", "remove", each_way / "kmc", "lake", "--yes")
    return each_way / "kmc"


def damaged(kmc: Path) -> set[str]:
    """Return the files that a check names, below the directory."""
    with pytest.raises(DamagedError) as caught:
        check_kmc(kmc)
    return {Path(problem.path).relative_to(kmc).as_posix() for problem in caught.value.problems}


def test_a_sound_directory_is_counted(kmc: Path) -> None:
    before = snapshot(kmc)
    counts = done("kmc", "check", kmc, "--json").json["counts"]
    common = {"files": 4, "owners": 2, "lists of users": 2, "removals": 1, "clouds": 1}
    where_the_cloud_ranks = {"queries": 2}
    where_the_kmc_ranks = {"refusals": 1, "rankings": 4, "stores": 2, "blocks": 2, "images": 10}
    ranks = (kmc / "features").exists()
    assert counts == common | (where_the_kmc_ranks if ranks else where_the_cloud_ranks)
    assert snapshot(kmc) == before


@pytest.mark.slow
def test_a_changed_byte_anywhere_is_found(kmc: Path) -> None:
    files = [file for file in kmc.rglob("*") if file.is_file()]
    assert len(files) >= 9
    for file in files:
        content = file.read_bytes()
        for place in (0, len(content) // 3, len(content) // 2, len(content) - 2, len(content) - 1):
            file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            assert file.relative_to(kmc).as_posix() in damaged(kmc), (file, place)
        file.write_bytes(content)
    assert check_kmc(kmc).counts["files"] == 4


@pytest.mark.parametrize("name", ["role.json", "kmc.pub", "secrets.json"])
def test_a_missing_file_is_named(kmc: Path, name: str) -> None:
    (kmc / name).unlink()
    outcome = run("kmc", "check", kmc)
    assert outcome.code == (2 if name == "role.json" else 3)
    assert "Traceback" not in outcome.err
    assert name in outcome.err or name == "role.json"


def test_a_list_of_users_whose_tags_are_others_is_found(kmc: Path) -> None:
    shutil.copy(kmc / "users" / "south.tags", kmc / "users" / "north.tags")
    assert damaged(kmc) == {"users/north.tags"}


@pytest.mark.parametrize("name", ["north.json", "north.tags"])
def test_a_list_of_users_that_is_missing_is_named(kmc: Path, name: str) -> None:
    (kmc / "users" / name).unlink()
    assert f"users/{name}" in damaged(kmc)


def test_all_problems_are_told_at_once(kmc: Path) -> None:
    for name in ("owners/north.json", "owners/south.json", "removed/lake.json"):
        (kmc / name).write_text("{}")
    outcome = refused(3, "kmc", "check", kmc)
    assert outcome.err.count("damaged: ") == 3
    assert f"error: {kmc}: is damaged, in 3 files" in outcome.err
    fields = json.loads(run("kmc", "check", kmc, "--json").out)["error"]
    assert {problem["path"] for problem in fields["problems"]} == {
        str(kmc / name) for name in ("owners/north.json", "owners/south.json", "removed/lake.json")
    }


@pytest.mark.parametrize("name", ["notes.txt", "owners/.hidden", "clouds/x/y", "removed/north.txt"])
def test_a_file_that_nobody_put_there_is_named(kmc: Path, name: str) -> None:
    (kmc / name).parent.mkdir(exist_ok=True)
    (kmc / name).write_text("what is this?")
    assert damaged(kmc) == {name}


def test_what_an_interruption_left_is_no_damage(kmc: Path) -> None:
    (kmc / ".secrets.json.0123456789ab.tmp").write_text("half")
    assert "1 temporary files" in done("kmc", "check", kmc).err


Change = Callable[[dict[str, object]], object]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("secrets.json", lambda fields: fields.update(signing="00" * 32)),
        ("secrets.json", lambda fields: fields.update(sealing="00" * 96, former_sealing=[])),
        ("secrets.json", lambda fields: fields.pop("sealing")),
        ("owners/north.json", lambda fields: fields.update(image_keys=["00"])),
        ("owners/north.json", lambda fields: fields.update(image_keys=[])),
        ("owners/north.json", lambda fields: fields.update(key="00")),
        ("users/north.json", lambda fields: fields.update(users={"../x": "00" * 32})),
        ("users/north.json", lambda fields: fields.update(users={"alice": "00"})),
        ("users/north.json", lambda fields: fields.update(users=["alice"])),
        ("users/north.json", lambda fields: fields.pop("number")),
        ("owners/north.json", lambda fields: fields.update(storage_key="00")),
        ("owners/north.json", lambda fields: fields.pop("storage_key")),
        ("owners/north.json", lambda fields: fields.update(number=-1)),
        ("owners/north.json", lambda fields: fields.update(forgotten_keys=["key"])),
        ("owners/north.json", lambda fields: fields.update(forgotten_keys=7)),
        ("owners/north.json", lambda fields: fields.pop("forgotten_keys")),
        ("removed/lake.json", lambda fields: fields.update(retired=["00"])),
        ("removed/lake.json", lambda fields: fields.pop("released")),
        ("removed/lake.json", lambda fields: fields.update(forgotten_keys=["key"])),
        ("removed/lake.json", lambda fields: fields.pop("forgotten_keys")),
    ],
)
def test_a_file_that_says_what_cannot_be_is_named(kmc: Path, name: str, change: Change) -> None:
    def changed(fields: dict[str, object]) -> dict[str, object]:
        change(fields)
        return fields

    change_state(kmc / name, changed)
    assert damaged(kmc) == {name}


def test_an_owner_who_forgot_every_key_is_no_damage(kmc: Path) -> None:
    without = {"image_keys": [], "forgotten_keys": ["00000000000000aa"]}
    change_state(kmc / "owners/north.json", lambda fields: fields | without)
    assert check_kmc(kmc).counts["owners"] == 2


def test_a_sealing_key_that_is_not_held_is_found(kmc: Path, each_way: Deployment) -> None:
    public = SealingKey.generate().public
    text = render_renewal(7, public, each_way.public.fingerprint, each_way.sender("kmc").signing_key)
    (kmc / "sealing.pub").write_bytes(text)
    assert damaged(kmc) == {"secrets.json"}


def test_a_cloud_under_another_clouds_name_is_found(kmc: Path) -> None:
    (file,) = (kmc / "clouds").iterdir()
    file.rename(file.with_name("0" * 64 + ".pub"))
    assert damaged(kmc) == {f"clouds/{'0' * 64}.pub"}


def test_an_owner_under_no_owners_name_is_found(kmc: Path) -> None:
    (kmc / "owners" / "north.json").rename(kmc / "owners" / "-.json")
    assert damaged(kmc) == {"owners/-.json"}


def test_another_roles_directory_is_refused(deployment: Deployment) -> None:
    assert "is the directory of a cloud" in refused(2, "kmc", "check", deployment / "cloud").err


@pytest.mark.parametrize("role", ["kmc", "cloud"])
def test_a_directory_that_others_may_enter_is_warned_of(changeable: Deployment, role: str) -> None:
    (changeable / role).chmod(0o755)
    assert "other accounts have access to" in done(role, "check", changeable / role).err
    (changeable / role).chmod(0o700)
    assert "other accounts have access to" not in done(role, "check", changeable / role).err


@pytest.mark.skipif(sys.platform != "linux", reason="which file a descriptor is of is read from /proc")
def test_a_disk_that_fails_at_a_block_is_an_error(exact: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    real, failing = os.pread, next((exact / "kmc" / "features" / "north").glob("*-*.*"))

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    outcome = refused(3, "kmc", "check", exact / "kmc")
    assert f"damaged: {failing}: reading failed: Input/output error" in outcome.err
