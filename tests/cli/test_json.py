"""``--json``: one object for each command, and every digest in it true."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mipp_cli.owner.owner import Owner
from mipp_cli.workdir.replay import A_DAY, clock_number
from tests.support.cloud_stores import upload_of
from tests.support.deployment import JOBS, SCHEMES, Deployment, done, secrets_of, shared_deployment

FIELDS = {"command", "outputs", "counts", "seconds", "warnings"}


def _new_owner(d: Deployment, p: Path) -> Path:
    done("owner", "init", p / "o", "--id", "newcomer", "--kmc", d / "kmc" / "kmc.pub")
    return p / "o"


def _new_enrolment(d: Deployment, p: Path) -> list[object]:
    return ["kmc", "enroll", d / "kmc", _new_owner(d, p) / "enrolment.h5", d / "north" / "enrolment.h5"]


def _new_members(d: Deployment, p: Path) -> list[object]:
    return ["cloud", "enroll", d / "cloud", _new_owner(d, p) / "members.h5"]


def _new_upload(d: Deployment, p: Path) -> list[object]:
    queries = d / "pictures" / "queries"
    done("owner", "encrypt", d / "north", queries, "--again", "-o", p / "u.h5", *JOBS)
    return ["cloud", "index", d / "cloud", p / "u.h5", d / "north.h5", *JOBS]


def _new_features(d: Deployment, p: Path) -> list[object]:
    queries = d / "pictures" / "queries"
    done("owner", "encrypt", d / "north", queries, "--again", "-o", p / "u.h5", *JOBS)
    return ["kmc", "index", d / "kmc", p / "u.features.h5", d / "north.features.h5"]


def _unused_key(d: Deployment, p: Path) -> list[object]:
    owner = _new_owner(d, p)
    done("owner", "rotate-key", owner)
    return ["owner", "forget-key", owner, "--applied", 1]


Words = Callable[[Deployment, Path], list[object]]
# Command: words, kinds of output, counts.
COMMANDS: dict[str, tuple[Words, list[str], dict[str, int]]] = {
    "kmc init": (lambda d, p: ["kmc", "init", p / "k", *SCHEMES["mask"]], ["kmc.pub"], {}),
    "cloud init": (
        lambda d, p: ["cloud", "init", p / "c", "--kmc", d / "kmc" / "kmc.pub"],
        ["cloud.pub"],
        {},
    ),
    "user init": (
        lambda d, p: ["user", "init", p / "u", "--id", "x", "--kmc", d / "kmc" / "kmc.pub"],
        ["user.pub"],
        {},
    ),
    "owner init": (
        lambda d, p: ["owner", "init", p / "o", "--id", "x", "--kmc", d / "kmc" / "kmc.pub"],
        ["enrolment", "members"],
        {"users": 0},
    ),
    "owner authorize": (
        lambda d, p: ["owner", "authorize", d / "north", d / "eve" / "user.pub"],
        ["enrolment", "members"],
        {"users": 2},
    ),
    "owner revoke": (
        lambda d, p: ["owner", "revoke", d / "south", "bob"],
        ["enrolment", "members"],
        {"users": 1},
    ),
    "kmc enroll": (_new_enrolment, [], {"owners": 1, "clouds": 0, "already enrolled": 1}),
    "cloud enroll": (_new_members, [], {"owners": 1, "already enrolled": 0}),
    "owner encrypt": (
        lambda d, p: ["owner", "encrypt", d / "north", d / "pictures" / "queries", "-o", p / "u.h5", *JOBS],
        ["upload"],
        {"images": 2, "skipped": 0, "edgeless": 0},
    ),
    "cloud index": (
        _new_upload,
        ["index"],
        {"uploads": 1, "images": 2, "already applied": 1, "images in all": 16},
    ),
    "owner delete": (
        lambda d, p: ["owner", "delete", d / "lake", "b.png", "never sent.png", "-o", p / "d.h5"],
        ["delete"],
        {"images": 2, "not in the ledger": 1},
    ),
    "owner list": (lambda d, p: ["owner", "list", d / "lake"], [], {"images": 4}),
    "owner rotate-key": (
        lambda d, p: ["owner", "rotate-key", d / "lake"],
        ["enrolment"],
        {"former image keys": 1},
    ),
    "owner forget-key": (
        _unused_key,
        ["enrolment"],
        {"forgotten": 1, "not held here": 0, "former image keys": 0},
    ),
    "owner renumber": (
        lambda d, p: ["owner", "renumber", d / "lake", "--above", clock_number() + 3 * A_DAY],
        ["enrolment", "members"],
        {"uploads and deletions struck": 0},
    ),
    "user query": (
        lambda d, p: ["user", "query", d / "alice", d / "pictures" / "queries", "-o", p / "q.h5"],
        ["query"],
        {"query images": 2, "candidates": 100, "edgeless": 0},
    ),
    "cloud search": (
        lambda d, p: ["cloud", "search", d / "cloud", d / "alice.query.h5", "-o", p / "r.h5", *JOBS],
        ["results"],
        {"query images": 2, "owners": 2, "images searched": 10, "matches": 10},
    ),
    "kmc reencrypt": (
        lambda d, p: ["kmc", "reencrypt", d / "kmc", d / "alice.results.h5", "-o", p / "a.h5"],
        ["reencrypted"],
        {"matches": 10},
    ),
    "user decrypt": (
        lambda d, p: ["user", "decrypt", d / "alice", d / "alice.answer.h5", "-o", p / "m", "--top", 3],
        ["matches", "contact sheet", "page", "images"],
        {"query images": 2, "matches": 6},
    ),
    "user forget": (lambda d, p: ["user", "forget", d / "bob", "--all"], [], {"queries forgotten": 1}),
    "cloud check": (lambda d, p: ["cloud", "check", d / "cloud"], [], {"parts": 3}),
    "kmc check": (lambda d, p: ["kmc", "check", d / "kmc"], [], {"owners": 3}),
    "kmc status": (lambda d, p: ["kmc", "status", d / "kmc"], [], {"owners": 3}),
    "features": (lambda d, p: ["features", d / "pictures" / "queries"], [], {"images": 2, "edgeless": 0}),
    "inspect": (lambda d, p: ["inspect", d / "north"], [], {}),
}


# The same where the KMC ranks, for what is different there.
EXACT: dict[str, tuple[Words, list[str], dict[str, int]]] = {
    "kmc init": (lambda d, p: ["kmc", "init", p / "k", *SCHEMES["exact"]], ["kmc.pub"], {}),
    "owner init": COMMANDS["owner init"],
    "owner encrypt": (COMMANDS["owner encrypt"][0], ["upload", "features"], COMMANDS["owner encrypt"][2]),
    "owner features": (
        lambda d, p: ["owner", "features", d / "north", "-o", p / "f"],
        ["features"],
        {"uploads": 1},
    ),
    "cloud index": (_new_upload, ["index"], COMMANDS["cloud index"][2]),
    "kmc index": (
        _new_features,
        [],
        {"uploads": 1, "images": 2, "already applied": 1},
    ),
    "user query": COMMANDS["user query"],
    "kmc rank": (
        lambda d, p: ["kmc", "rank", d / "kmc", d / "alice.query.h5", "-o", p / "s.h5"],
        ["selection"],
        {
            "owners": 2,
            "images ranked": 10,
            "images not ranked": 0,
            "matches": 10,
            "groups left out": 0,
        },
    ),
    "cloud search": (
        lambda d, p: ["cloud", "search", d / "cloud", d / "alice.selection.h5", "-o", p / "r.h5"],
        ["groups"],
        {"groups not here": 0},
    ),
    "kmc reencrypt": (
        lambda d, p: ["kmc", "reencrypt", d / "kmc", d / "alice.results.h5", "-o", p / "a.h5"],
        ["reencrypted"],
        {"bad": 0, "missing": 0, "withdrawn": 0},
    ),
    "user decrypt": (
        COMMANDS["user decrypt"][0],
        COMMANDS["user decrypt"][1],
        {"query images": 2, "matches": 6, "owners searched": 2, "images searched": 10},
    ),
    "kmc check": (lambda d, p: ["kmc", "check", d / "kmc"], [], {"owners": 3, "stores": 3, "images": 14}),
    "kmc status": (lambda d, p: ["kmc", "status", d / "kmc"], [], {"owners": 3, "images ranked": 14}),
    "kmc remove": (
        lambda d, p: ["kmc", "remove", d / "kmc", "north", "--yes"],
        [],
        {"owners": 1, "image keys": 1, "users": 1, "images": 5},
    ),
}


WARNINGS = {
    "owner delete": [
        "not in the record of what was sent: 1 of the images, the first is 'never sent.png'. "
        "Check the names (mipp owner list OWNER); the cloud deletes them if it has them"
    ]
}


def report_of(deployment: Deployment, folder: Path, name: str) -> dict[str, Any]:
    commands = EXACT if deployment.scheme == "exact" else COMMANDS
    return done(*commands[name][0](deployment, folder), "--json").json


def check_report(report: dict[str, Any], name: str, kinds: list[str], counts: dict[str, int]) -> None:
    """Demand that a command reported these outputs and counts, and warned of what it should."""
    assert set(report) >= FIELDS
    assert report["command"] == name
    assert [output["kind"] for output in report["outputs"]] == kinds
    assert counts.items() <= report["counts"].items()
    assert isinstance(report["seconds"], float)
    assert report["warnings"] == WARNINGS.get(name, [])


def check_digests(report: dict[str, Any]) -> None:
    """Demand that digest and size of every output are true."""
    for output in report["outputs"]:
        path = Path(output["path"])
        if path.is_dir():
            assert output["sha256"] is None
            assert output["bytes"] == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        else:
            assert output["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
            assert output["bytes"] == path.stat().st_size


@pytest.mark.parametrize("name", COMMANDS)
def test_the_report_of_every_command_is_one_object(changeable: Deployment, tmp_path: Path, name: str) -> None:
    check_report(report_of(changeable, tmp_path, name), name, *COMMANDS[name][1:])


@pytest.mark.parametrize("name", EXACT)
def test_where_the_kmc_ranks_the_report_is_one_object(
    changeable_exact: Deployment, tmp_path: Path, name: str
) -> None:
    check_report(report_of(changeable_exact, tmp_path, name), name, *EXACT[name][1:])


@pytest.mark.parametrize("name", [name for name, (_, kinds, _) in COMMANDS.items() if kinds])
def test_digest_and_size_of_every_output_are_true(changeable: Deployment, tmp_path: Path, name: str) -> None:
    check_digests(report_of(changeable, tmp_path, name))


@pytest.mark.parametrize("name", [name for name, (_, kinds, _) in EXACT.items() if kinds])
def test_where_the_kmc_ranks_digest_and_size_are_true(
    changeable_exact: Deployment, tmp_path: Path, name: str
) -> None:
    check_digests(report_of(changeable_exact, tmp_path, name))


@pytest.mark.parametrize("scheme", ["mask", "exact"])
def test_no_report_holds_a_secret(scheme: str, session_folder: Path, tmp_path: Path) -> None:
    changeable = shared_deployment(session_folder, scheme).copy(tmp_path / "deployment")
    said, commands = "", EXACT if scheme == "exact" else COMMANDS
    for number, name in enumerate(commands):
        folder = tmp_path / str(number)
        folder.mkdir()
        words = commands[name][0](changeable, folder)
        outcome = done(*words, *(() if number % 2 else ("--json",)))
        said += outcome.out + outcome.err
    # the secrets of what these commands made, as well
    secrets = (
        secrets_of(changeable.root)
        | secrets_of(tmp_path)
        | {secret for number in range(len(commands)) for secret in secrets_of(tmp_path / str(number))}
    )
    assert len(secrets) > 20
    for secret in secrets:
        assert secret not in said


def test_warnings_are_in_the_object_and_not_on_stderr(any_scheme: Deployment, tmp_path: Path) -> None:
    words = ("user", "init", tmp_path / "u", "--id", "u", "--kmc", any_scheme / "kmc" / "kmc.pub")
    outcome = done(*words, "--json")
    expected = {"dcr": "a modulus of 1024 bits is insecure", "paper": "hides no feature"}
    warnings = outcome.json["warnings"]
    assert len(warnings) == (any_scheme.scheme in expected)
    assert expected.get(any_scheme.scheme, "") in "".join(warnings)
    assert outcome.err == ""


def test_without_json_warnings_are_on_stderr(any_scheme: Deployment, tmp_path: Path) -> None:
    words = ("user", "init", tmp_path / "u", "--id", "u", "--kmc", any_scheme / "kmc" / "kmc.pub")
    outcome = done(*words)
    warned = [line for line in outcome.err.splitlines() if line.startswith("warning: ")]
    assert len(warned) == (any_scheme.scheme in ("dcr", "paper"))
    assert "warning: " not in outcome.out


def test_an_index_tells_scripts_how_complete_each_owner_is(changeable: Deployment) -> None:
    first = upload_of(changeable, "north", "x", number=7)
    second = upload_of(changeable, "north", "y", number=9, earlier=[5, 7])
    report = done("cloud", "index", changeable / "cloud", second, first, "--json", *JOBS).json
    assert set(report["owners"]) == {"north"}  # those who sent something
    # the owner's own upload is newer, and knows of neither
    assert report["owners"]["north"] == {"complete": 7, "missing": []}
    assert any("the record of north does not list 7" in each for each in report["warnings"])


def test_an_index_tells_scripts_which_messages_are_missing(changeable: Deployment) -> None:
    number, gaps = clock_number() + A_DAY // 2, [5, 6]
    upload = upload_of(changeable, "north", "x", number=number, earlier=gaps)
    report = done("cloud", "index", changeable / "cloud", upload, "--json", *JOBS).json
    assert report["owners"]["north"]["missing"] == gaps
    assert 0 < report["owners"]["north"]["complete"] < number
    assert any("messages of north are missing: 5 (" in each for each in report["warnings"])
    checked = done("cloud", "check", changeable / "cloud", "--json").json["owners"]
    assert set(checked) == {"lake", "north", "south"}
    assert checked["north"] == report["owners"]["north"]


def test_a_note_says_up_to_what_the_cloud_is_complete(changeable: Deployment) -> None:
    number = clock_number() + A_DAY // 2
    (sent,) = (message.number for message in Owner.open(changeable / "north").ledger.messages())
    upload = upload_of(changeable, "north", "x", number=number, earlier=[sent])
    report = done("cloud", "index", changeable / "cloud", upload, "--json", *JOBS).json
    assert [note for note in report["notes"] if note.startswith(f"north is complete up to {number} (20")]


def test_the_kmc_tells_scripts_how_complete_each_owner_is(changeable_exact: Deployment) -> None:
    number, gaps = clock_number() + A_DAY // 2, [5, 6]
    upload = upload_of(changeable_exact, "north", "x", number=number, earlier=gaps)
    features = upload.with_suffix(".features.h5")
    report = done("kmc", "index", changeable_exact / "kmc", features, "--json").json
    assert report["owners"]["north"]["missing"] == gaps
    assert 0 < report["owners"]["north"]["complete"] < number
    assert any("messages of north are missing: 5 (" in each for each in report["warnings"])
    checked = done("kmc", "check", changeable_exact / "kmc", "--json").json["owners"]
    assert checked["north"] == report["owners"]["north"]


def test_people_read_what_was_written_and_how_much(changeable: Deployment, tmp_path: Path) -> None:
    said = done(*COMMANDS["cloud search"][0](changeable, tmp_path)).out.splitlines()
    assert said[0].startswith(f"wrote {tmp_path / 'r.h5'} (results, ")
    assert said[0].endswith(" kB)")
    assert said[1].startswith("query images: 2, owners: 2, images searched: 10, matches: 10")
