"""Parties that misbehave, where no test of one step shows it: lifted parts, edited lists, namesakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mipp_cli.containers.base.container import open_container
from mipp_cli.containers.base.header import HEAD_BYTES
from mipp_cli.containers.base.writer import write_container
from mipp_cli.containers.messages.query import query_schema
from mipp_cli.containers.messages.selection import read_selection, write_selection
from tests.support.deployment import JOBS, Deployment, done, refused, run, secrets_of, snapshot
from tests.support.forgery import next_number
from tests.support.hdf5 import body_digest


def with_sealed_part_of(deployment: Deployment, victim: Path, thief: str) -> Path:
    """Make what is the victim's query but for the sender, who signs it and copies the sealed part."""
    schema = query_schema(deployment.public.parameters)
    path = deployment / f"lifted-{next_number()}.h5"
    with open_container(victim, schema) as query:
        columns = {name: query.matrix(name).all() for name in schema.columns if name != "owners"}
        with write_container(path, schema, deployment.sender(thief), query.header.number) as writer:
            writer.number("candidates", query.number("candidates"))
            for name, rows in columns.items():
                writer.matrix(name).append(rows)
    return path


def test_a_sealed_key_opens_nothing_in_another_users_query(changeable: Deployment) -> None:
    lifted = with_sealed_part_of(changeable, changeable / "alice.query.h5", "bob")
    results = changeable.search(lifted)
    outcome = refused(8, "kmc", "reencrypt", changeable / "kmc", results, "-o", changeable / "out.h5")
    assert "could not be decrypted with this KMC's key" in outcome.err
    assert not (changeable / "out.h5").exists()


def test_a_sealed_key_lifted_into_anothers_query_ranks_nothing(changeable_exact: Deployment) -> None:
    lifted = with_sealed_part_of(changeable_exact, changeable_exact / "alice.query.h5", "bob")
    words = ("kmc", "rank", changeable_exact / "kmc", lifted, "-o", changeable_exact / "out.h5")
    assert "could not be decrypted with this KMC's key" in refused(8, *words).err
    assert not (changeable_exact / "out.h5").exists()


def test_nobody_but_the_kmc_asks_a_cloud_for_groups(changeable_exact: Deployment) -> None:
    fingerprint = changeable_exact.public.fingerprint
    selection = read_selection(changeable_exact / "alice.selection.h5", fingerprint)
    for thief in ("alice", "cloud", "north"):
        forged = changeable_exact / f"{thief}-forged.h5"
        write_selection(forged, changeable_exact.sender(thief), selection)
        words = ("cloud", "search", changeable_exact / "cloud", forged, "-o", changeable_exact / "out.h5")
        assert "is not signed by the KMC of this deployment" in refused(8, *words).err
        assert not (changeable_exact / "out.h5").exists()


def test_where_the_kmc_ranks_no_query_goes_to_the_cloud(exact: Deployment, tmp_path: Path) -> None:
    words = ("cloud", "search", exact / "cloud", exact / "alice.query.h5", "-o", tmp_path / "out.h5")
    outcome = refused(3, *words)
    assert "is a query, which the KMC must rank first" in outcome.err
    assert "mipp kmc rank KMC query.h5 -o selection.h5" in outcome.err


@pytest.mark.parametrize("role", ["kmc", "cloud"])
def test_a_list_to_which_somebody_added_a_user_is_refused(changeable: Deployment, role: str) -> None:
    done("owner", "authorize", changeable / "north", changeable / "bob" / "user.pub")
    file = changeable / "north" / ("enrolment.h5" if role == "kmc" else "members.h5")
    data = bytearray(file.read_bytes())
    at = data.index(b"bob", HEAD_BYTES)
    data[at : at + 3] = b"eve"
    lines = bytes(data[:HEAD_BYTES]).split(b"\n")
    lines[5] = b"digest " + body_digest(data[HEAD_BYTES:]).encode()
    data[:HEAD_BYTES] = b"\n".join(lines)  # the digest fits again, the owner's signature cannot
    edited = changeable / "edited.h5"
    edited.write_bytes(data)
    before = snapshot(changeable / role)
    assert "signature" in refused(3, role, "enroll", changeable / role, edited).err
    assert snapshot(changeable / role) == before


def test_namesakes_get_only_what_their_own_owners_authorised(each_way: Deployment, tmp_path: Path) -> None:
    done("user", "init", tmp_path / "other", "--id", "alice", "--kmc", each_way / "kmc" / "kmc.pub")
    done("owner", "authorize", each_way / "lake", tmp_path / "other" / "user.pub")
    each_way.enroll_all()
    picture = each_way / "pictures" / "queries" / "q1.png"
    found = {}
    for directory in (each_way / "alice", tmp_path / "other"):
        query, results = tmp_path / f"{directory.name}.h5", tmp_path / f"{directory.name}.results.h5"
        answer, folder = tmp_path / f"{directory.name}.answer.h5", tmp_path / f"{directory.name}.matches"
        done("user", "query", directory, picture, "-o", query)
        request = each_way.request(query)
        done("cloud", "search", each_way / "cloud", request, "-o", results, *JOBS)
        done("kmc", "reencrypt", each_way / "kmc", results, "-o", answer)
        done("user", "decrypt", directory, answer, "-o", folder, "--top", 100)
        rows = (folder / "matches.csv").read_text().splitlines()[1:]
        found[directory.name] = {row.split(",")[2] for row in rows}
    assert found == {"alice": {"north", "south"}, "other": {"lake"}}


def test_an_answer_of_the_kmc_is_of_no_use_to_a_namesake(each_way: Deployment, tmp_path: Path) -> None:
    done("user", "init", tmp_path / "other", "--id", "alice", "--kmc", each_way / "kmc" / "kmc.pub")
    answer = each_way / "alice.answer.h5"
    outcome = refused(8, "user", "decrypt", tmp_path / "other", answer, "-o", tmp_path / "matches")
    assert "did not make or has forgotten" in outcome.err


def test_no_command_says_a_secret(any_scheme: Deployment) -> None:
    said = (any_scheme / "transcript.txt").read_text().lower()
    names = ["kmc", "cloud", "alice", "north", "north.h5", "alice.query.h5", "north/enrolment.h5"]
    names += ["north.features.h5", "alice.selection.h5"] if any_scheme.scheme == "exact" else []
    shown = [done("inspect", any_scheme / name, "--json").out.lower() for name in names]
    for secret in secrets_of(any_scheme.root):
        assert all(secret not in text for text in (said, *shown))


def test_no_file_that_leaves_a_role_holds_a_secret(any_scheme: Deployment) -> None:
    secrets = [bytes.fromhex(secret) for secret in secrets_of(any_scheme.root)]
    files = [*any_scheme.root.glob("*.h5"), *any_scheme.root.glob("*/*.pub"), *any_scheme.root.glob("*/*.h5")]
    assert len(files) > 10
    for file in files:
        data = file.read_bytes()
        assert all(key not in data and key.hex().encode() not in data for key in secrets), file


def test_an_error_in_json_says_no_secret(changeable: Deployment) -> None:
    keys = secrets_of(changeable.root)
    path = changeable / "kmc" / "owners" / "north.json"
    path.write_text(path.read_text().replace('"sealed"', '"nonsense"'))
    outcome = run("kmc", "enroll", changeable / "kmc", changeable / "north" / "enrolment.h5", "--json").out
    assert json.loads(outcome)["error"]["code"] == 3
    assert not any(key in outcome for key in keys)
