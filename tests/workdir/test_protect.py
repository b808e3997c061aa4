"""Directories protected with a passphrase: nothing in plain, and nothing lost on the way."""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from mipp_cli.containers.messages.selection import read_selection
from mipp_cli.errors import ConflictError, TamperedError
from mipp_cli.files.json_state import parse_state, render_state
from mipp_cli.scheme import passphrase as primitive
from mipp_cli.scheme.passphrase import Stretching
from mipp_cli.workdir.directory import RoleDirectory
from mipp_cli.workdir.protect import protect_directory
from mipp_cli.workdir.secrets_file import Passphrases, SecretsFile, passphrases_from
from tests.support.deployment import (
    OWNERS,
    Deployment,
    done,
    feature_of,
    mode,
    refused,
    run,
    secrets_of,
    snapshot,
    state_of,
)

ROLES = ("kmc", "cloud", "alice", "north")
KINDS = {"kmc": "kmc", "cloud": "cloud", "alice": "user", "north": "owner"}


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(primitive, "STRETCHING", Stretching(16, 8, 1))


@pytest.fixture
def passphrase(tmp_path: Path) -> Path:
    return passphrase_file(tmp_path / "passphrase", b"open sesame\n")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return passphrase_file(tmp_path / "other", b"close sesame")


def passphrase_file(path: Path, content: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def protect(path: Path, new: Path, *words: object) -> None:
    done("protect", path, "--new-passphrase-file", new, *words)


def opened(path: Path, role: str, passphrase: bytes) -> RoleDirectory:
    with passphrases_from(Passphrases(lambda _: passphrase)):
        return RoleDirectory.open(path, KINDS[role])


def kept_in(path: Path, role: str, passphrase: bytes = b"") -> dict[str, Any]:
    """Return what every file with secrets in a directory holds, but for the keys to these files."""
    directory = opened(path, role, passphrase)
    found = {file: directory.read_json(file) for file in files_with_secrets(path, role)}
    secrets = SecretsFile(path, directory.passphrase).read()
    return found | {"secrets.json": {name: secrets[name] for name in secrets if "storage" not in name}}


def files_with_secrets(path: Path, role: str) -> list[str]:
    """Return the names of the files that are sealed, whether their directory has a passphrase or not."""
    folders = {"kmc": ["owners", "users", "rankings"], "alice": ["queries"]}.get(role, [])
    files = [file for folder in folders for file in path.glob(f"{folder}/*.json")]
    return sorted(file.relative_to(path).as_posix() for file in files)


def protected(path: Path) -> bool:
    return "sealed" in parse_state((path / "secrets.json").read_bytes())


def spellings(secret: str) -> list[bytes]:
    data = bytes.fromhex(secret)
    return [secret.encode(), data, base64.b64encode(data)[:-4]]


@pytest.mark.parametrize("role", ROLES)
def test_a_protected_directory_has_no_key_in_plain(each_way: Deployment, passphrase: Path, role: str) -> None:
    secrets = secrets_of(each_way.root)
    kept = kept_in(each_way / role, role)
    assert any(each.encode() in (each_way / role / "secrets.json").read_bytes() for each in secrets)
    protect(each_way / role, passphrase)
    for file in (each_way / role).rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert not [each for secret in secrets for each in spellings(secret) if each in content], file
    assert kept_in(each_way / role, role, b"open sesame") == kept
    assert mode(each_way / role / "secrets.json") == "0600"


def test_a_users_pictures_and_features_are_sealed_with_the_keys(
    changeable: Deployment, passphrase: Path
) -> None:
    protect(changeable / "alice", passphrase)
    for file in (changeable / "alice" / "queries").iterdir():
        assert set(parse_state(file.read_bytes())) == {"sealed"}
        assert b"q1.png" not in file.read_bytes()


def test_what_a_command_adds_to_a_protected_directory_is_sealed(
    each_way: Deployment, passphrase: Path
) -> None:
    words = ("--passphrase-file", passphrase)
    for role in ("kmc", "alice", "north"):
        protect(each_way / role, passphrase)
    picture = each_way / "pictures" / "queries" / "q1.png"
    done("user", "query", each_way / "alice", picture, "-o", each_way / "q.h5", *words)
    done("owner", "authorize", each_way / "north", each_way / "eve" / "user.pub", *words)
    done("kmc", "enroll", each_way / "kmc", each_way / "north" / "enrolment.h5", *words)
    for role in ("kmc", "alice"):
        assert protected(each_way / role)
        for file in files_with_secrets(each_way / role, role):
            assert set(parse_state((each_way / role / file).read_bytes())) == {"sealed"}


def test_a_protected_kmc_has_no_feature_or_name_in_plain(
    changeable_exact: Deployment, passphrase: Path
) -> None:
    kmc = changeable_exact / "kmc"
    done("owner", "delete", changeable_exact / "north", "chest/a.jpg", "-o", changeable_exact / "d.h5")
    done("kmc", "index", kmc, changeable_exact / "d.h5")
    known: dict[str, bytes] = {}
    for owner in OWNERS:
        for name, path in changeable_exact.names(owner).items():
            known[f"path of {path}"] = path.encode()
            known[f"name of {path}"] = name.encode()
            known[f"digest of {path}"] = hashlib.sha256(name.encode()).digest()
            known[f"digest of {path} in hex"] = hashlib.sha256(name.encode()).hexdigest().encode()
            known[f"feature of {path}"] = feature_of(changeable_exact.pictures(owner)[path]).tobytes()
    for file in (kmc / "rankings").glob("*.json"):
        query = state_of(file).get("query_id", "")
        known |= {f"query of {file.name}": query.encode(), f"user of {file.name}": b'"alice"'}
    known = {what: data for what, data in known.items() if len(data) > 6}
    assert len(known) >= 4 * 14
    protect(kmc, passphrase)
    words = ("--passphrase-file", passphrase)
    query = changeable_exact.ask("alice")
    done("kmc", "rank", kmc, query, "-o", changeable_exact / "s.h5", *words)
    for file in kmc.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert not [what for what, data in known.items() if data in content], file
    done("kmc", "check", kmc, *words)


def test_a_protected_kmc_ranks_as_before(changeable_exact: Deployment, passphrase: Path) -> None:
    kmc, query = changeable_exact / "kmc", changeable_exact / "alice.query.h5"
    deployment = changeable_exact.public.fingerprint
    protect(kmc, passphrase)
    words = ("kmc", "rank", kmc, query, "-o", changeable_exact / "s.h5", "--passphrase-file", passphrase)
    done(*words)
    before, after = (
        read_selection(changeable_exact / name, deployment) for name in ("alice.selection.h5", "s.h5")
    )
    assert after == before


@pytest.mark.parametrize("kind", ["user", "owner", "cloud", "kmc"])
def test_a_directory_can_be_protected_from_its_beginning(
    deployment: Deployment, tmp_path: Path, passphrase: Path, kind: str
) -> None:
    path = tmp_path / "new"
    words: tuple[object, ...] = ("--kmc", deployment / "kmc" / "kmc.pub")
    words += ("--id", "x") if kind in ("user", "owner") else ()
    words = ("--scheme", "mask") if kind == "kmc" else words
    done(kind, "init", path, *words, "--passphrase-file", passphrase)
    assert protected(path)
    refused(8, "inspect", path)
    done("inspect", path, "--passphrase-file", passphrase)


WRONG = {
    "wrong": (b"open sesame!", 8, "the passphrase is wrong"),
    "with a space": (b"open sesame \n", 8, "the passphrase is wrong"),
    "two newlines": (b"open sesame\n\n", 2, "the passphrase has more than one line"),
    "two lines": (b"open\r\nsesame\r\n", 2, "the passphrase has more than one line"),
    "UTF-16": ("open sesame".encode("utf-16"), 2, "the passphrase is in UTF-16"),
    "Latin-1": (b"\xf6ffne dich", 2, "the passphrase is not in UTF-8"),
    "empty": (b"", 2, "the passphrase is empty"),
    "only a newline": (b"\n", 2, "the passphrase is empty"),
    "long": (b"x" * 4097, 2, "the passphrase is too long"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_passphrase_is_one_clear_error(
    changeable: Deployment, tmp_path: Path, passphrase: Path, case: str
) -> None:
    content, code, message = WRONG[case]
    protect(changeable / "north", passphrase)
    file = passphrase_file(tmp_path / "given", content)
    before = snapshot(changeable.root)
    for words in (
        ("owner", "revoke", changeable / "north", "alice"),
        ("inspect", changeable / "north"),
        ("protect", changeable / "north", "--remove"),
    ):
        assert message in refused(code, *words, "--passphrase-file", file).err
    assert snapshot(changeable.root) == before


def test_a_missing_passphrase_error_says_what_to_give(
    changeable: Deployment, passphrase: Path, other: Path
) -> None:
    protect(changeable / "north", passphrase)
    before = snapshot(changeable.root)
    for words in (
        ("owner", "revoke", changeable / "north", "alice"),
        ("inspect", changeable / "north"),
        ("protect", changeable / "north", "--remove"),
    ):
        outcome = refused(8, *words)
        assert "is protected with a passphrase" in outcome.err
        assert "--passphrase-file" in outcome.err.partition("hint: ")[2]
    outcome = refused(8, "protect", changeable / "north", "--new-passphrase-file", other)
    assert "--passphrase-file" in outcome.err.partition("hint: ")[2]
    refused(2, "protect", changeable / "alice")
    assert snapshot(changeable.root) == before


def test_a_passphrase_for_an_unprotected_directory_is_refused(
    deployment: Deployment, passphrase: Path
) -> None:
    for words in (("inspect", deployment / "north"), ("protect", deployment / "north")):
        outcome = refused(2, *words, "--passphrase-file", passphrase)
        assert "is not protected with a passphrase" in outcome.err


def test_a_passphrase_file_that_is_not_there_is_named(deployment: Deployment, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    assert str(gone) in refused(2, "inspect", deployment / "north", "--passphrase-file", gone).err
    assert str(tmp_path) in refused(2, "inspect", deployment / "north", "--passphrase-file", tmp_path).err


def test_a_passphrase_file_that_others_may_read_is_warned_of(
    changeable: Deployment, passphrase: Path
) -> None:
    passphrase.chmod(0o640)
    outcome = done("protect", changeable / "north", "--new-passphrase-file", passphrase)
    assert f"warning: others may read or change {passphrase}" in outcome.err
    words = ("inspect", changeable / "north", "--passphrase-file", passphrase)
    assert f"warning: others may read or change {passphrase}" in done(*words).err
    assert len(done(*words, "--json").json["warnings"]) == 1
    passphrase.chmod(0o600)
    assert done(*words).err == ""


WRITTEN_OTHERWISE = {
    "as it is": "öffne dich".encode(),
    "CR LF": "öffne dich\r\n".encode(),
    "a byte order mark": "öffne dich\r\n".encode("utf-8-sig"),
    "accents apart": unicodedata.normalize("NFD", "öffne dich\n").encode(),
}


@pytest.mark.parametrize("way", WRITTEN_OTHERWISE)
def test_a_passphrase_is_the_same_from_any_system(changeable: Deployment, tmp_path: Path, way: str) -> None:
    protect(changeable / "north", passphrase_file(tmp_path / "first", "öffne dich\n".encode()))
    file = passphrase_file(tmp_path / "given", WRITTEN_OTHERWISE[way])
    done("owner", "rotate-key", changeable / "north", "--passphrase-file", file)


@pytest.mark.parametrize("role", ROLES)
def test_another_passphrase_takes_the_place_of_the_first(
    each_way: Deployment, passphrase: Path, other: Path, role: str
) -> None:
    kept = kept_in(each_way / role, role)
    protect(each_way / role, passphrase)
    protect(each_way / role, other, "--passphrase-file", passphrase)
    refused(8, "inspect", each_way / role, "--passphrase-file", passphrase)
    assert kept_in(each_way / role, role, b"close sesame") == kept


@pytest.mark.parametrize("role", ROLES)
def test_protection_that_ended_leaves_the_directory_as_it_was(
    each_way: Deployment, passphrase: Path, role: str
) -> None:
    before, kept = snapshot(each_way / role), kept_in(each_way / role, role)
    protect(each_way / role, passphrase)
    done("protect", each_way / role, "--remove", "--passphrase-file", passphrase)
    after = snapshot(each_way / role)
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    sealed = {"secrets.json", *files_with_secrets(each_way / role, role)}
    assert changed == {str(each_way / role / name) for name in sealed}
    assert kept_in(each_way / role, role) == kept
    refused(5, "protect", each_way / role, "--remove", "--passphrase-file", passphrase)


def test_the_same_again_changes_nothing(changeable: Deployment, passphrase: Path) -> None:
    refused(5, "protect", changeable / "north", "--remove")
    protect(changeable / "north", passphrase)
    before = snapshot(changeable.root)
    refused(5, "protect", changeable / "north", "--new-passphrase-file", passphrase)
    words = ("--new-passphrase-file", passphrase, "--passphrase-file", passphrase)
    refused(5, "protect", changeable / "north", *words)
    assert snapshot(changeable.root) == before


def test_inspect_shows_whether_a_directory_is_protected(changeable: Deployment, passphrase: Path) -> None:
    assert "in plaintext, readable only by this account" in done("inspect", changeable / "north").out
    protect(changeable / "north", passphrase)
    words = ("inspect", changeable / "north", "--passphrase-file", passphrase)
    assert "protected with a passphrase" in done(*words).out


def test_only_a_roles_directory_can_be_protected(tmp_path: Path, passphrase: Path) -> None:
    refused(2, "protect", tmp_path, "--new-passphrase-file", passphrase)
    refused(2, "protect", tmp_path / "nowhere", "--new-passphrase-file", passphrase)


def test_the_two_ways_to_change_protection_exclude_each_other(
    deployment: Deployment, passphrase: Path
) -> None:
    words = ("--remove", "--new-passphrase-file", passphrase)
    refused(2, "protect", deployment / "north", *words)


# Damage.


def test_a_damaged_file_of_keys_is_named_and_nothing_changes(
    changeable: Deployment, passphrase: Path
) -> None:
    protect(changeable / "north", passphrase)
    file = changeable / "north" / "secrets.json"
    content = file.read_bytes()
    damages: list[dict[str, Any]] = [
        {"scrypt": None},
        {"scrypt": {"n": 1 << 60, "r": 8, "p": 1}},
        {"scrypt": {"n": 1 << 40, "r": 8, "p": 1}},  # which would take all memory
        {"scrypt": [16, 8, 1]},
        {"scrypt": {"n": 16, "r": 8, "p": 1, "q": 1}},
        {"salt": "00"},
        {"salt": 7},
        {"salt": "zz"},
        {"sealed": 7},
        {"sealed": "!"},
    ]
    for damage in damages:
        file.write_bytes(render_state(parse_state(content) | damage))
        before = snapshot(changeable.root)
        for words in (("owner", "revoke", changeable / "north", "alice"), ("protect", changeable / "north")):
            more = ("--remove",) if words[0] == "protect" else ()
            outcome = refused(3, *words, *more, "--passphrase-file", passphrase)
            assert f"{file}: is damaged" in outcome.err
            assert "hint: restore the directory from a backup" in outcome.err
        assert snapshot(changeable.root) == before
    file.write_bytes(content[:-2])
    refused(3, "inspect", changeable / "north", "--passphrase-file", passphrase)


def test_sealed_keys_that_were_changed_do_not_open(changeable: Deployment, passphrase: Path) -> None:
    protect(changeable / "north", passphrase)
    file = changeable / "north" / "secrets.json"
    content = parse_state(file.read_bytes())
    sealed = base64.b64decode(content["sealed"])
    for changed in (sealed[:-1], sealed[:5], b"", bytes([sealed[0] ^ 1]) + sealed[1:]):
        file.write_bytes(render_state(content | {"sealed": base64.b64encode(changed).decode()}))
        refused(8, "inspect", changeable / "north", "--passphrase-file", passphrase)


def test_the_keys_of_another_role_do_not_open(changeable: Deployment, passphrase: Path) -> None:
    for role in ("north", "south"):
        protect(changeable / role, passphrase)
    (changeable / "north" / "secrets.json").write_bytes((changeable / "south" / "secrets.json").read_bytes())
    refused(8, "inspect", changeable / "north", "--passphrase-file", passphrase)


def test_a_protected_directory_whose_keys_are_gone_says_so(changeable: Deployment, passphrase: Path) -> None:
    protect(changeable / "alice", passphrase)
    (changeable / "alice" / "secrets.json").unlink()
    before = snapshot(changeable.root)
    for words in (
        ("inspect", changeable / "alice"),
        ("inspect", changeable / "alice", "--passphrase-file", passphrase),
        ("protect", changeable / "alice", "--new-passphrase-file", passphrase),
        ("protect", changeable / "alice", "--remove", "--passphrase-file", passphrase),
    ):
        assert "the file with the keys is missing" in refused(8, *words).err
    assert snapshot(changeable.root) == before


def test_a_sealed_file_opens_only_in_its_own_place(each_way: Deployment, passphrase: Path) -> None:
    protect(each_way / "kmc", passphrase)
    owners = each_way / "kmc" / "owners"
    (owners / "south.json").write_bytes((owners / "north.json").read_bytes())
    with pytest.raises(TamperedError, match="is not sealed with a key of this directory") as caught:
        opened(each_way / "kmc", "kmc", b"open sesame").read_json("owners/south.json")
    assert caught.value.path == str(owners / "south.json")


@pytest.mark.parametrize("change", ["protect", "another passphrase", "remove and protect"])
def test_an_older_copy_does_not_open_what_is_written_later(
    changeable: Deployment, passphrase: Path, other: Path, change: str
) -> None:
    kmc, words = changeable / "kmc", ("--passphrase-file", passphrase)
    if change != "protect":
        protect(kmc, passphrase)
    copy = (kmc / "secrets.json").read_bytes()
    if change == "another passphrase":
        protect(kmc, other, *words)
        words = ("--passphrase-file", other)
    elif change == "remove and protect":
        done("protect", kmc, "--remove", *words)
    if change != "another passphrase":
        protect(kmc, passphrase)
    done("owner", "authorize", changeable / "north", changeable / "eve" / "user.pub")
    done("kmc", "enroll", kmc, changeable / "north" / "enrolment.h5", *words)
    (kmc / "secrets.json").write_bytes(copy)
    role = opened(kmc, "kmc", b"open sesame")
    for name in ("owners/north.json", "owners/south.json"):
        with pytest.raises(TamperedError, match="is not sealed with a key of this directory"):
            role.read_json(name)


# Interruptions.


class Stopped(BaseException):
    """Stands for a kill."""


def ways(directory: Path, passphrase: Path, other: Path) -> dict[str, tuple[object, ...]]:
    new = ("protect", directory, "--new-passphrase-file")
    return {
        "protect": (*new, passphrase),
        "change": (*new, other, "--passphrase-file", passphrase),
        "remove": ("protect", directory, "--remove", "--passphrase-file", passphrase),
    }


@pytest.mark.parametrize("way", ["protect", "change", "remove"])
def test_whatever_is_interrupted_opens_and_is_finished(
    each_way: Deployment, monkeypatch: pytest.MonkeyPatch, passphrase: Path, other: Path, way: str
) -> None:
    kmc = each_way / "kmc"
    kept = kept_in(kmc, "kmc")
    if way != "protect":
        protect(kmc, passphrase)
    words, before, replace = ways(kmc, passphrase, other)[way], snapshot(kmc), Path.replace
    of_way = {"change": b"close sesame"}.get(way, b"open sesame")
    for stop_after in range(1 + len(files_with_secrets(kmc, "kmc"))):
        left = [stop_after]

        def stop(path: Path, target: Path) -> Path:
            if not left[0]:  # noqa: B023 -- called within this turn of the loop
                raise Stopped
            left[0] -= 1  # noqa: B023 -- called within this turn of the loop
            return replace(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", stop)
            with pytest.raises(Stopped):
                done(*words)
        if not stop_after:
            assert snapshot(kmc) == before
        elif way == "change":
            words = (*words[:3], other, "--passphrase-file", other)
        elif way == "remove":
            words = words[:3]
        elif way == "protect":
            words = (*words[:4], "--passphrase-file", passphrase)
        now = b"open sesame" if not stop_after else of_way
        assert kept_in(kmc, "kmc", now) == kept
    done(*words)
    assert kept_in(kmc, "kmc", of_way) == kept
    assert opened(kmc, "kmc", of_way).secret_list("former_storage") == []
    assert protected(kmc) == (way != "remove")


def test_keys_that_others_drew_meanwhile_are_not_lost(changeable: Deployment, passphrase: Path) -> None:
    """Who types a passphrase holds no lock: another command may protect the directory, and end that."""
    kmc = changeable / "kmc"

    def typed() -> bytes:
        protect(kmc, passphrase)
        done("owner", "authorize", changeable / "north", changeable / "eve" / "user.pub")
        words = ("--passphrase-file", passphrase)
        done("kmc", "enroll", kmc, changeable / "north" / "enrolment.h5", *words)
        done("protect", kmc, "--remove", *words)
        return b"open sesame"

    protect_directory(kmc, typed)
    assert kept_in(kmc, "kmc", b"open sesame")["owners/north.json"]


def test_a_linked_file_of_keys_is_not_protected(changeable: Deployment, passphrase: Path) -> None:
    file, elsewhere = changeable / "north" / "secrets.json", changeable / "elsewhere.json"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    words = ("protect", changeable / "north", "--new-passphrase-file", passphrase)
    assert "is a symbolic link" in refused(9, *words).err


def test_keys_in_plain_of_a_killed_command_go_at_once(changeable: Deployment, passphrase: Path) -> None:
    alice, draft = changeable / "alice", changeable / "alice" / ".secrets.json.0123456789ab.tmp"
    plain = (alice / "secrets.json").read_bytes()
    protect(alice, passphrase)
    draft.write_bytes(plain)
    done("inspect", alice, "--passphrase-file", passphrase)
    assert not draft.exists()


def test_protecting_removes_drafts_of_killed_commands(each_way: Deployment, passphrase: Path) -> None:
    for role, draft in (
        ("north", ".secrets.json.0123456789ab.tmp"),
        ("kmc", f"owners/.{'o' * 40}.0123456789ab.tmp"),
        ("alice", f"queries/.{'a' * 32}.json.0123456789ab.tmp"),
    ):
        (each_way / role / draft).write_bytes((each_way / role / "secrets.json").read_bytes())
        protect(each_way / role, passphrase)
        assert not (each_way / role / draft).exists()


@pytest.mark.parametrize("role", ["kmc", "cloud"])
def test_a_check_demands_the_passphrase_and_finds_damaged_keys(
    each_way: Deployment, passphrase: Path, role: str
) -> None:
    protect(each_way / role, passphrase)
    refused(8, role, "check", each_way / role)
    done(role, "check", each_way / role, "--passphrase-file", passphrase)
    file = each_way / role / "secrets.json"
    file.write_bytes(file.read_bytes()[:-1])
    outcome = run(role, "check", each_way / role, "--passphrase-file", passphrase)
    assert outcome.code == 3
    assert f"damaged: {file}: is damaged" in outcome.err.splitlines()


# Two commands at once.


def test_a_command_from_before_the_protection_reads_no_key(changeable: Deployment, passphrase: Path) -> None:
    plain = changeable.role("alice")
    protect(changeable / "alice", passphrase)
    sealed = opened(changeable / "alice", "alice", b"open sesame")
    done("protect", changeable / "alice", "--remove", "--passphrase-file", passphrase)
    protect(changeable / "alice", passphrase)
    for directory in (plain, sealed):
        for step in (
            lambda: directory.secret("signing"),  # noqa: B023 -- called within this turn of the loop
            lambda: directory.change_secrets({"signing": bytes(32)}),  # noqa: B023 -- called within this turn of the loop
            lambda: directory.write_json("queries/x.json", {"usk": "00"}),  # noqa: B023 -- called within this turn of the loop
        ):
            with pytest.raises(ConflictError, match="another command has just changed its passphrase"):
                step()
    assert not (changeable / "alice" / "queries" / "x.json").exists()


def test_a_command_from_before_writes_nothing(changeable: Deployment, passphrase: Path) -> None:
    alice = changeable.role("alice")
    assert alice.secret("signing")
    protect(changeable / "alice", passphrase)
    for step in (
        lambda: alice.write_json("queries/x.json", {"usk": "00"}),
        lambda: alice.change_secrets({"signing": bytes(32)}),
    ):
        with pytest.raises(ConflictError, match="another command has just changed its passphrase"):
            step()
    assert not (changeable / "alice" / "queries" / "x.json").exists()


def test_a_directory_in_use_cannot_be_protected(changeable: Deployment, passphrase: Path) -> None:
    with changeable.role("north").lock():
        refused(9, "protect", changeable / "north", "--new-passphrase-file", passphrase)


def test_no_passphrase_or_key_shows_when_things_are_printed(changeable: Deployment, passphrase: Path) -> None:
    protect(changeable / "north", passphrase)
    directory = opened(changeable / "north", "north", b"open sesame")
    assert directory.passphrase is not None
    file = SecretsFile(directory.path, directory.passphrase)
    shown = f"{directory!r} {directory.passphrase!r} {file!r} {Passphrases(new=b'open sesame')!r}"
    assert directory.passphrase.key.hex() not in shown
    assert repr(directory.passphrase.key)[2:-1] not in shown
    assert "sesame" not in shown
