"""Parties that misbehave, where no test of one step shows it: lifted parts, edited lists, namesakes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from mipp_cli.containers.container import open_container, write_container
from mipp_cli.containers.header import BLOCK_BYTES
from mipp_cli.containers.query import query_schema
from tests.deployment import JOBS, Deployment, done, refused, run, secrets_of, snapshot
from tests.roles.forgery import next_number


def with_sealed_part_of(deployment: Deployment, victim: Path, thief: str) -> Path:
    """Make what is the victim's query but for the sender, who signs it and copies the sealed part."""
    schema = query_schema(deployment.public.parameters)
    path = deployment / f"lifted-{next_number()}.h5"
    with open_container(victim, schema) as query:
        columns = {name: query.matrix(name).all() for name in schema.columns}
        with write_container(path, schema, deployment.sender(thief), query.header.number) as writer:
            writer.number("candidates", query.number("candidates"))
            for name, rows in columns.items():
                writer.matrix(name).append(rows)
    return path


def test_a_sealed_key_lifted_into_the_query_of_another_user_opens_nothing(changeable: Deployment) -> None:
    lifted = with_sealed_part_of(changeable, changeable / "alice.query.h5", "bob")
    results = changeable.search(lifted)
    outcome = refused(8, "kmc", "reencrypt", changeable / "kmc", results, "-o", changeable / "out.h5")
    assert "does not open with this centre's key" in outcome.err
    assert not (changeable / "out.h5").exists()


@pytest.mark.parametrize("role", ["kmc", "cloud"])
def test_a_list_to_which_somebody_added_a_user_is_refused(changeable: Deployment, role: str) -> None:
    done("owner", "authorize", changeable / "north", changeable / "bob" / "user.pub")
    file = changeable / "north" / ("enrolment.h5" if role == "kmc" else "members.h5")
    octets = bytearray(file.read_bytes())
    at = octets.index(b"bob", BLOCK_BYTES)
    octets[at : at + 3] = b"eve"
    lines = bytes(octets[:BLOCK_BYTES]).split(b"\n")
    lines[5] = b"digest " + hashlib.sha256(octets[BLOCK_BYTES:]).hexdigest().encode()
    octets[:BLOCK_BYTES] = b"\n".join(lines)  # the digest fits again, the owner's signature cannot
    edited = changeable / "edited.h5"
    edited.write_bytes(octets)
    before = snapshot(changeable / role)
    assert "signature" in refused(3, role, "enroll", changeable / role, edited).err
    assert snapshot(changeable / role) == before


def test_namesakes_with_different_keys_get_what_those_authorised_who_know_them(
    changeable: Deployment, tmp_path: Path
) -> None:
    done("user", "init", tmp_path / "other", "--id", "alice", "--kmc", changeable / "kmc" / "kmc.pub")
    done("owner", "authorize", changeable / "lake", tmp_path / "other" / "user.pub")
    changeable.enroll_all()
    picture = changeable / "pictures" / "queries" / "q1.png"
    found = {}
    for directory in (changeable / "alice", tmp_path / "other"):
        query, results = tmp_path / f"{directory.name}.h5", tmp_path / f"{directory.name}.results.h5"
        answer, folder = tmp_path / f"{directory.name}.answer.h5", tmp_path / f"{directory.name}.matches"
        done("user", "query", directory, picture, "-o", query)
        done("cloud", "search", changeable / "cloud", query, "-o", results, *JOBS)
        done("kmc", "reencrypt", changeable / "kmc", results, "-o", answer)
        done("user", "decrypt", directory, answer, "-o", folder, "--top", 100)
        rows = (folder / "matches.csv").read_text().splitlines()[1:]
        found[directory.name] = {row.split(",")[2] for row in rows}
    assert found == {"alice": {"north", "south"}, "other": {"lake"}}


def test_an_answer_of_the_kmc_is_of_no_use_to_a_namesake(changeable: Deployment, tmp_path: Path) -> None:
    done("user", "init", tmp_path / "other", "--id", "alice", "--kmc", changeable / "kmc" / "kmc.pub")
    answer = changeable / "alice.answer.h5"
    outcome = refused(8, "user", "decrypt", tmp_path / "other", answer, "-o", tmp_path / "matches")
    assert "did not make, or forgot" in outcome.err


def test_no_command_says_a_secret(any_scheme: Deployment) -> None:
    said = (any_scheme / "transcript.txt").read_text().lower()
    shown = [
        done("inspect", any_scheme / name, "--json").out.lower()
        for name in ("kmc", "cloud", "alice", "north", "north.h5", "alice.query.h5", "north/enrolment.h5")
    ]
    for secret in secrets_of(any_scheme.root):
        assert all(secret not in text for text in (said, *shown))


def test_no_file_that_leaves_a_role_holds_a_secret(any_scheme: Deployment) -> None:
    secrets = [bytes.fromhex(secret) for secret in secrets_of(any_scheme.root)]
    files = [*any_scheme.root.glob("*.h5"), *any_scheme.root.glob("*/*.pub"), *any_scheme.root.glob("*/*.h5")]
    assert len(files) > 10
    for file in files:
        octets = file.read_bytes()
        assert all(key not in octets and key.hex().encode() not in octets for key in secrets), file


def test_an_error_in_json_says_no_secret(changeable: Deployment) -> None:
    keys = secrets_of(changeable.root)
    path = changeable / "kmc" / "owners" / "north.json"
    path.write_text(path.read_text().replace('"number"', '"nonsense"'))
    outcome = run("kmc", "enroll", changeable / "kmc", changeable / "north" / "enrolment.h5", "--json").out
    assert json.loads(outcome)["error"]["code"] == 3
    assert not any(key in outcome for key in keys)
