"""A role's directory: made whole or not at all, private, locked, and damaged without harm."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from mipp_cli.errors import (
    ConflictError,
    InvalidRequestError,
    MalformedError,
    MippError,
    MissingKeyError,
    NotInitialisedError,
    OutputError,
    ReplayedError,
)
from mipp_cli.files.json_state import render_state
from mipp_cli.files.locks import locked
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.owner.owner import Owner
from mipp_cli.user.user import remembered_query
from mipp_cli.workdir.directory import RoleDirectory, check_identifier, new_directory
from tests.support.deployment import Deployment, change_state, done, mode, refused, run, secrets_of, snapshot

ROLES = ("kmc", "cloud", "alice", "north")


@pytest.mark.parametrize("name", ["a", "A-1.x_y", "0", "x" * 64, "a..b"])
def test_an_identifier_is_letters_digits_and_a_few_signs(name: str) -> None:
    check_identifier(name, "a name")


@pytest.mark.parametrize(
    "name", ["", "../x", ".x", "-x", "_x", "a/b", "x" * 65, "a\n", "a b", "é", "a\0", "..", "a\u202e"]
)
def test_any_other_identifier_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="cannot be a name"):
        check_identifier(name, "a name")


@pytest.mark.parametrize("role", ROLES)
def test_only_its_role_may_read_a_directory(any_scheme: Deployment, role: str) -> None:
    assert mode(any_scheme / role) == "0700"
    for name in ("role.json", "secrets.json"):
        assert mode(any_scheme / role / name) == "0600"
    for path in (any_scheme / role).rglob("*"):
        if path.is_dir():
            assert mode(path) == "0700", path
        elif path.suffix in (".json", ".jsonl"):
            assert mode(path) == "0600", path


def test_a_permissive_umask_opens_no_secret(tmp_path: Path, deployment: Deployment) -> None:
    old = os.umask(0)
    try:
        run("user", "init", tmp_path / "u", "--id", "u", "--kmc", deployment / "kmc" / "kmc.pub")
    finally:
        os.umask(old)
    assert mode(tmp_path / "u") == "0700"
    assert mode(tmp_path / "u" / "secrets.json") == "0600"


def test_a_directory_whose_making_failed_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_directory(tmp_path / "x", "user", "x") as directory:
        directory.write_secrets({"signing": bytes(32)})
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_a_directory_is_never_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "folder":
        path.mkdir()
    elif kind == "file":
        path.write_text("mine")
    else:
        path.symlink_to(tmp_path / "gone")
    before = snapshot(tmp_path)
    with pytest.raises(OutputError, match="is never replaced"), new_directory(path, "user", "x"):
        pytest.fail("the directory was begun")
    assert snapshot(tmp_path) == before


def test_the_directory_of_another_role_is_named_as_such(deployment: Deployment) -> None:
    with pytest.raises(NotInitialisedError, match="is the directory of an owner, not of a kmc"):
        RoleDirectory.open(deployment / "north", "kmc")


@pytest.mark.parametrize("fields", [{}, {"role": "king"}, {"role": []}])
def test_a_folder_without_a_proper_role_is_no_directory(tmp_path: Path, fields: dict[str, object]) -> None:
    (tmp_path / "role.json").write_bytes(render_state({"format": "mipp 2", **fields}))
    with pytest.raises(NotInitialisedError, match="is not the directory of a user"):
        RoleDirectory.open(tmp_path, "user")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"role": "user"}', "[" * 100_000])
def test_a_folder_whose_role_cannot_be_read_is_damaged(tmp_path: Path, content: str) -> None:
    (tmp_path / "role.json").write_text(content)
    with pytest.raises(MalformedError, match="is damaged"):
        RoleDirectory.open(tmp_path, "user")


def test_only_one_command_at_a_time_changes_a_directory(changeable: Deployment) -> None:
    directory = changeable.role("north")
    with (
        directory.lock(),
        pytest.raises(ConflictError, match="is in use by another command"),
        directory.lock(),
    ):
        pytest.fail("two hold the lock")
    with directory.lock():
        refused(9, "owner", "revoke", changeable / "north", "alice")


def test_a_shared_lock_admits_its_sharers_and_nobody_else(
    changeable: Deployment,
) -> None:
    directory = changeable.role("kmc")
    results = (changeable / "alice.results.h5", changeable / "bob.results.h5")
    with directory.lock(shared=True), directory.lock(shared=True):
        done("kmc", "reencrypt", directory.path, results[0], "-o", changeable / "a.h5")
        refused(9, "kmc", "enroll", directory.path, changeable / "north" / "enrolment.h5")
    with directory.lock():
        refused(9, "kmc", "reencrypt", directory.path, results[1], "-o", changeable / "b.h5")
    refused(5, "kmc", "enroll", directory.path, changeable / "north" / "enrolment.h5")


def test_a_different_record_by_another_command_is_a_replay(changeable: Deployment) -> None:
    directory = changeable.role("kmc")
    directory.record("queries", "x", "one selection")
    directory.record("queries", "x", "one selection")
    with pytest.raises(ReplayedError):
        directory.record("queries", "x", "another")
    assert directory.recorded("queries", "x") == "one selection"


def test_a_directory_of_another_format_is_refused_by_it(tmp_path: Path) -> None:
    fields = {"format": "mipp 9", "role": "user", "id": "alice"}
    (tmp_path / "role.json").write_bytes(render_state(fields))
    with pytest.raises(MalformedError, match="has the format 'mipp 9'") as caught:
        RoleDirectory.open(tmp_path, "user")
    assert caught.value.path == str(tmp_path / "role.json")


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "role.json").mkdir()
    with pytest.raises(MalformedError, match="cannot be read: Is a directory"):
        RoleDirectory.open(tmp_path, "user")


def test_a_lock_is_given_back_after_an_error(changeable: Deployment) -> None:
    with pytest.raises(RuntimeError), changeable.role("north").lock():
        raise RuntimeError
    with locked(changeable / "north" / "role.json", wait=False):
        pass


def test_a_directory_is_known_where_case_is_ignored(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = Path.stat
    monkeypatch.setattr(Path, "stat", lambda self: stat(Path(str(self).replace("NORTH", "north"))))
    with pytest.raises(OutputError, match="inside the directory of an owner"):
        deployment.role("north").refuse_inside(deployment / "NORTH" / "out.h5")


def test_no_role_shows_a_secret_when_it_is_printed(deployment: Deployment) -> None:
    owner, kmc, alice = (
        Owner.open(deployment / "north"),
        Kmc.open(deployment / "kmc"),
        deployment.role("alice"),
    )
    query_id = next((deployment / "alice" / "queries").glob("*.json")).stem
    things = [
        owner,
        owner.directory,
        owner.directory.sender,
        owner.directory.sender.signing_key,
        kmc,
        kmc.directory,
        kmc.sealing_key,
        kmc.owner("north"),
        alice,
        alice.sender,
        remembered_query(alice, query_id),
        deployment.public,
    ]
    _ = owner.users, owner.image_key, kmc.directory.sender, alice.secret("signing")  # fill what is cached
    shown = " ".join(f"{thing!r} {thing}" for thing in things)
    for secret in secrets_of(deployment.root):
        assert secret not in shown
        assert repr(bytes.fromhex(secret))[2:-1] not in shown


# Damage. Every command that reads a state file is run on each, with every kind of damage.

DAMAGE = {
    "empty": b"",
    "cut short": b'{"format": "mipp 1", ',
    "a list": b"[]",
    "nothing in it": b"{}",
    "null": b"null",
    "no text": b"\xff\xfe\0",
    "nested": b"[" * 100_000,
    "numbers": b'{"id": 1, "number": "x", "users": 3, "image_names": 4, "signing": 5, "pictures": 6}',
    "lists": b'{"id": [], "number": [], "users": [], "image_names": [], "signing": [], "pictures": []}',
    "infinity": b'{"number": 1e999, "users": {}, "image_names": "path", "id": "x"}',
    "short keys": b'{"signing": "00", "image": "00", "sealing": "00", "identifier": "00", "id": "x"}',
}
STATE_FILES = [
    ("kmc", "secrets.json"),
    ("kmc", "owners/north.json"),
    ("kmc", "kmc.pub"),
    ("kmc", "queries"),
    ("cloud", "secrets.json"),
    ("cloud", "queries"),
    ("cloud", "segments"),
    ("cloud", "parts"),
    ("cloud", "members/north.h5"),
    ("cloud", "index.h5"),
    ("cloud", "kmc.pub"),
    ("alice", "secrets.json"),
    ("alice", "queries"),
    ("alice", "role.json"),
    ("alice", "kmc.pub"),
    ("north", "secrets.json"),
    ("north", "state.json"),
    ("north", "uploads"),
    ("north", "role.json"),
    ("north", "kmc.pub"),
]


def commands(deployment: Deployment, role: str) -> list[list[object]]:
    directory, out = deployment / role, deployment / "out"
    picture = deployment / "pictures" / "queries" / "q1.png"
    steps: dict[str, list[list[object]]] = {
        "kmc": [
            ["kmc", "reencrypt", directory, deployment / "alice.results.h5", "-o", out],
            ["kmc", "enroll", directory, deployment / "north" / "enrolment.h5"],
        ],
        "cloud": [
            ["cloud", "search", directory, deployment / "alice.query.h5", "-o", out, "--jobs", 1],
            ["cloud", "enroll", directory, deployment / "north" / "members.h5"],
            ["cloud", "index", directory, deployment / "north.h5", "--jobs", 1],
        ],
        "alice": [
            ["user", "query", directory, picture, "-o", out],
            ["user", "decrypt", directory, deployment / "alice.answer.h5", "-o", out],
        ],
        "north": [
            ["owner", "encrypt", directory, picture, "-o", out, "--jobs", 1],
            ["owner", "list", directory],
            ["owner", "revoke", directory, "alice"],
            ["owner", "authorize", directory, deployment / "eve" / "user.pub"],
        ],
    }
    return [*steps[role], ["inspect", directory], ["inspect", directory, "--csv"]]


@pytest.mark.parametrize(("role", "name"), STATE_FILES, ids=lambda value: value.replace("/", "-"))
def test_a_damaged_file_in_a_directory_is_named_and_harmless(
    changeable: Deployment, role: str, name: str
) -> None:
    victim = changeable / role / name
    if victim.is_dir():
        asked = (changeable / "alice.query.h5").read_bytes().split(b"\n")[3].split()[1].decode()
        named = [
            path
            for path in sorted(victim.iterdir())
            if asked in path.name or path.stem == "1" or "north" in path.name
        ]
        victim = named[0] if named else next(victim.iterdir())
    kinds = (
        DAMAGE if victim.suffix in (".json", ".jsonl") else dict.fromkeys(("empty", "cut short", "no text"))
    )
    content = victim.read_bytes()
    told = 0
    for damage in (DAMAGE[kind] for kind in kinds):
        for words in commands(changeable, role):
            victim.write_bytes(damage)
            before = snapshot(changeable / role)
            outcome = run(*words)
            # 6: a query remembered with another digest cannot be told from a replay
            assert outcome.code in (0, 2, 3, 5, 6, 8), (words, damage, outcome)
            if outcome.code:
                assert outcome.err.count("error: ") == 1
                assert outcome.err.count("hint: ") == 1
                assert snapshot(changeable / role) == before, words
                told += str(changeable / role) in outcome.err
            else:
                # the command did not need the file
                for made in (changeable / "out", changeable / "out" / "matches.csv"):
                    if made.is_file():
                        made.unlink()
                victim.write_bytes(content)
            if (changeable / "out").is_dir():
                shutil.rmtree(changeable / "out")
    assert told >= len(kinds) - 2


@pytest.mark.parametrize("role", ROLES)
def test_a_directory_whose_keys_are_gone_says_so(changeable: Deployment, role: str) -> None:
    (changeable / role / "secrets.json").unlink()
    words = commands(changeable, role)[0]
    outcome = refused(8, *words)
    assert f"{changeable / role / 'secrets.json'}: the file with the keys is missing" in outcome.err


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("field", ["signing", "image", "sealing", "identifier"])
def test_a_key_that_is_missing_or_cut_is_never_used(changeable: Deployment, role: str, field: str) -> None:
    file = changeable / role / "secrets.json"
    change_state(file, lambda fields: fields | {field: fields.get(field, "00")[:-2]})
    try:
        changeable.role(role).secret(field)
    except MippError as error:
        assert error.exit_code == 8
        assert error.path == str(file)
    else:
        pytest.fail("a key that was cut came back")


def test_keys_change_one_by_one_and_lists_of_keys_grow(changeable: Deployment) -> None:
    directory = changeable.role("north")
    old, identifier = directory.secret("image"), directory.secret("identifier")
    assert directory.secret_list("former_images") == []
    directory.change_secrets({"image": bytes(32), "former_images": [old, bytes(range(32))]})
    again = changeable.role("north")
    assert (again.secret("image"), again.secret("identifier")) == (bytes(32), identifier)
    assert again.secret_list("former_images") == [old, bytes(range(32))]
    assert directory.secret("image") == bytes(32)


def test_a_list_of_keys_with_a_cut_one_is_never_used(changeable: Deployment) -> None:
    changeable.role("north").change_secrets({"former_images": [bytes(31)]})
    with pytest.raises(MissingKeyError, match="lacks the former_images key"):
        changeable.role("north").secret_list("former_images")


@pytest.mark.parametrize(
    "words", [("owner", "list", "north"), ("kmc", "status", "kmc"), ("inspect", "cloud")]
)
def test_keys_that_others_may_read_are_warned_of(changeable: Deployment, words: tuple[str, ...]) -> None:
    *command, role = words
    (changeable / role / "secrets.json").chmod(0o644)
    assert done(*command, changeable / role).err == ""  # nobody else may enter the directory
    (changeable / role).chmod(0o755)
    said = done(*command, changeable / role).err
    assert f"other accounts can read the keys in {changeable / role / 'secrets.json'} (mode 0644)" in said
    (changeable / role / "secrets.json").chmod(0o600)
    assert done(*command, changeable / role).err == ""


@pytest.mark.parametrize("role", ["kmc", "user", "cloud", "owner"])
def test_whoever_makes_a_directory_without_modes_is_warned(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    mkdir, touch = Path.mkdir, Path.touch  # as on FAT: modes are those of the mount
    monkeypatch.setattr(Path, "mkdir", lambda path, mode=0o777, **others: mkdir(path, 0o755, **others))
    monkeypatch.setattr(Path, "touch", lambda path, mode=0o666, **others: touch(path, 0o644, **others))
    kmc = ("--kmc", deployment / "kmc" / "kmc.pub")
    options = {"kmc": ("--scheme", "mask"), "cloud": kmc}.get(role, ("--id", "somebody", *kmc))
    outcome = done(role, "init", tmp_path / "new", *options)
    assert f"other accounts can read the keys in {tmp_path / 'new' / 'secrets.json'}" in outcome.err
