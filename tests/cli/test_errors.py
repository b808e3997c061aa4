"""Every error a person can cause: one message, its exit code, no output and nothing changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mipp_cli.containers.messages.public_files import render_renewal
from mipp_cli.workdir.replay import A_DAY, clock_number
from tests.support.deployment import (
    JOBS,
    Deployment,
    done,
    picture,
    refused,
    run,
    shared_deployment,
    snapshot,
)
from tests.support.forgery import Picture, forge_upload, random_feature

VERSION_1 = Path(__file__).parents[1] / "vectors" / "v1"  # written by version 0.1

# Every command that reads a file, with the place of that file open: {} stands for it.
READERS: dict[str, tuple[str, ...]] = {
    "cloud init": ("cloud", "init", "@new", "--kmc", "{}"),
    "user init": ("user", "init", "@new", "--id", "x", "--kmc", "{}"),
    "owner init": ("owner", "init", "@new", "--id", "x", "--kmc", "{}"),
    "owner init --authorize": (
        "owner",
        "init",
        "@new",
        "--id",
        "x",
        "--kmc",
        "@kmc/kmc.pub",
        "--authorize",
        "{}",
    ),
    "owner authorize": ("owner", "authorize", "@north", "{}"),
    "kmc enroll": ("kmc", "enroll", "@kmc", "{}"),
    "cloud enroll": ("cloud", "enroll", "@cloud", "{}"),
    "cloud index": ("cloud", "index", "@cloud", "{}", *JOBS),
    "cloud search": ("cloud", "search", "@cloud", "{}", "-o", "@new", *JOBS),
    "kmc reencrypt": ("kmc", "reencrypt", "@kmc", "{}", "-o", "@new"),
    "user decrypt": ("user", "decrypt", "@alice", "{}", "-o", "@new"),
    "owner update-kmc-key": ("owner", "update-kmc-key", "@north", "{}"),
    "user update-kmc-key": ("user", "update-kmc-key", "@alice", "{}"),
    "inspect": ("inspect", "{}"),
    "kmc index": ("kmc", "index", "@kmc", "{}"),
    "kmc rank": ("kmc", "rank", "@kmc", "{}", "-o", "@new"),
    "kmc rank --cloud": ("kmc", "rank", "@kmc", "@alice.query.h5", "-o", "@new", "--cloud", "{}"),
    "cloud search of a selection": ("cloud", "search", "@cloud", "{}", "-o", "@new", *JOBS),
    "kmc reencrypt of groups": ("kmc", "reencrypt", "@kmc", "{}", "-o", "@new"),
}
# Every command that reads images.
IMAGE_READERS: dict[str, tuple[str, ...]] = {
    "owner encrypt": ("owner", "encrypt", "@north", "{}", "-o", "@new", *JOBS),
    "user query": ("user", "query", "@alice", "{}", "-o", "@new"),
    "features": ("features", "{}"),
}
# Every command that works in a role's directory: {} stands for it.
ROLE_COMMANDS: dict[str, tuple[str, ...]] = {
    "kmc enroll": ("kmc", "enroll", "{}", "@north/enrolment.h5"),
    "kmc reencrypt": ("kmc", "reencrypt", "{}", "@alice.results.h5", "-o", "@new"),
    "cloud enroll": ("cloud", "enroll", "{}", "@north/members.h5"),
    "cloud index": ("cloud", "index", "{}", "@north.h5", *JOBS),
    "cloud search": ("cloud", "search", "{}", "@alice.query.h5", "-o", "@new", *JOBS),
    "owner authorize": ("owner", "authorize", "{}", "@eve/user.pub"),
    "owner revoke": ("owner", "revoke", "{}", "alice"),
    "owner encrypt": ("owner", "encrypt", "{}", "@pictures/queries", "-o", "@new", *JOBS),
    "owner encrypt --dry-run": ("owner", "encrypt", "{}", "@pictures/queries", "--dry-run"),
    "owner delete": ("owner", "delete", "{}", "chest/a.jpg", "-o", "@new"),
    "owner list": ("owner", "list", "{}"),
    "owner rotate-key": ("owner", "rotate-key", "{}"),
    "owner forget-key": ("owner", "forget-key", "{}", "--applied", "1"),
    "owner renumber": ("owner", "renumber", "{}"),
    "user query": ("user", "query", "{}", "@pictures/queries", "-o", "@new"),
    "user decrypt": ("user", "decrypt", "{}", "@alice.answer.h5", "-o", "@new"),
    "user forget": ("user", "forget", "{}", "--all"),
    "kmc status": ("kmc", "status", "{}"),
    "kmc check": ("kmc", "check", "{}"),
    "kmc remove": ("kmc", "remove", "{}", "north", "--yes"),
    "kmc rotate-key": ("kmc", "rotate-key", "{}"),
    "kmc forget-key": ("kmc", "forget-key", "{}"),
    "cloud check": ("cloud", "check", "{}"),
    "cloud remove": ("cloud", "remove", "{}", "north", "--yes"),
    "cloud index --rebuild": ("cloud", "index", "{}", "--rebuild", *JOBS),
    "kmc index": ("kmc", "index", "{}", "@north.features.h5"),
    "kmc rank": ("kmc", "rank", "{}", "@alice.query.h5", "-o", "@new"),
    "cloud search of a selection": ("cloud", "search", "{}", "@alice.selection.h5", "-o", "@new", *JOBS),
    "kmc reencrypt of groups": ("kmc", "reencrypt", "{}", "@alice.results.h5", "-o", "@new"),
    "owner encrypt of groups": ("owner", "encrypt", "{}", "@pictures/queries", "-o", "@new", *JOBS),
    "owner features": ("owner", "features", "{}", "-o", "@new"),
}
# What is for scheme `exact`, or differs there.
EXACT = {
    *("kmc index", "kmc rank", "kmc rank --cloud", "owner features"),
    *("cloud search of a selection", "kmc reencrypt of groups", "owner encrypt of groups"),
    "owner encrypt --dry-run of groups",
}
# Every command with -o, complete but for it.
WRITERS: dict[str, tuple[str, ...]] = {
    name: words[: words.index("-o")] + words[words.index("-o") + 2 :]
    for name, words in ROLE_COMMANDS.items()
    if "-o" in words
}
# More ways to name an output.
MORE_WRITERS: dict[str, tuple[str, ...]] = {
    "owner encrypt --dry-run": (*ROLE_COMMANDS["owner encrypt --dry-run"], *JOBS),
    "owner encrypt --dry-run of groups": (*ROLE_COMMANDS["owner encrypt --dry-run"], *JOBS),
    "owner encrypt --split": (*WRITERS["owner encrypt"], "--split", "2"),
    "owner encrypt --report": (*WRITERS["owner encrypt"], "--report", "@new.csv"),
    "demo": ("demo", "@pictures/north"),
    "experiment": ("experiment", "positions", "@pictures/north", "--no-plots", *JOBS),
}


def scheme_of(request: pytest.FixtureRequest) -> str:
    """Return the scheme in which the command of a test works."""
    name = request.node.callspec.params.get("name") if hasattr(request.node, "callspec") else None
    return "exact" if name in EXACT else "mask"


@pytest.fixture
def deployment(request: pytest.FixtureRequest, session_folder: Path) -> Deployment:
    """A deployment to read from, of a scheme that has the command."""
    return shared_deployment(session_folder, scheme_of(request))


@pytest.fixture
def changeable(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """A deployment of the test's own, of a scheme that has the command."""
    return deployment.copy(tmp_path_factory.mktemp("changeable") / "deployment")


def words_of(deployment: Deployment, words: tuple[str, ...], value: object = None) -> list[str]:
    """Put paths into words: @x is x in the deployment, {} is ``value``."""
    if value is None:
        role = "alice" if words[0] == "user" else "north" if words[0] == "owner" else words[0]
        value = deployment / role
    return [
        str(value) if word == "{}" else str(deployment / word[1:]) if word[0] == "@" else word
        for word in words
    ]


def refuse(deployment: Deployment, code: int, *words: object) -> str:
    """Demand a refusal that changes nothing at all; return what was said."""
    before = snapshot(deployment.root)
    outcome = refused(code, *words)
    assert snapshot(deployment.root) == before
    return outcome.err


@pytest.mark.parametrize("name", READERS | IMAGE_READERS)
def test_a_file_that_is_missing_is_named(deployment: Deployment, name: str, tmp_path: Path) -> None:
    words = (READERS | IMAGE_READERS)[name]
    code = 7 if name in IMAGE_READERS else 2
    said = refuse(deployment, code, *words_of(deployment, words, tmp_path / "none"))
    assert said.startswith(f"error: {tmp_path / 'none'}: cannot be read: No such file or directory")


@pytest.mark.parametrize("name", READERS | IMAGE_READERS)
def test_what_is_said_of_a_path_steers_no_terminal(deployment: Deployment, name: str, tmp_path: Path) -> None:
    path = tmp_path / "\x1b[31mred\nerror: \u202egnp.png"
    code = 7 if name in IMAGE_READERS else 2
    said = refuse(deployment, code, *words_of(deployment, (READERS | IMAGE_READERS)[name], path))
    assert said.startswith(f"error: {tmp_path}/\\u001b[31mred\\u000aerror: \\u202egnp.png: cannot be read")
    assert all(character.isprintable() or character == "\n" for character in said)


@pytest.mark.parametrize("name", READERS)
def test_a_folder_given_as_a_file_is_named(deployment: Deployment, name: str, tmp_path: Path) -> None:
    said = refuse(deployment, 2, *words_of(deployment, READERS[name], tmp_path))
    assert said.startswith(f"error: {tmp_path}: is ")


@pytest.mark.parametrize("name", READERS | IMAGE_READERS)
def test_a_pipe_given_as_a_file_does_not_hang(deployment: Deployment, name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    words = words_of(deployment, (READERS | IMAGE_READERS)[name], tmp_path / "pipe.png")
    said = refuse(deployment, 7 if name in IMAGE_READERS else 2, *words)
    assert said.startswith(f"error: {tmp_path / 'pipe.png'}: is not a regular file")


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("content", [b"", b"{", b"x" * 5000, b"mipp 2\n", b"\x89HDF\r\n\x1a\n" + bytes(4096)])
def test_a_file_of_another_kind_is_named(
    deployment: Deployment, name: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "other").write_bytes(content)
    said = refuse(deployment, 3, *words_of(deployment, READERS[name], tmp_path / "other"))
    assert said.startswith(f"error: {tmp_path / 'other'}: ")


CONTAINER_READERS = [
    *("kmc enroll", "cloud enroll", "cloud index", "cloud search", "kmc reencrypt", "user decrypt"),
    *("inspect", "kmc index", "kmc rank", "cloud search of a selection", "kmc reencrypt of groups"),
]


@pytest.mark.parametrize("name", CONTAINER_READERS)
def test_a_container_of_version_1_is_named_and_said_to_be_one(deployment: Deployment, name: str) -> None:
    given = VERSION_1 / "upload.h5"
    said = refuse(deployment, 3, *words_of(deployment, READERS[name], given))
    assert said == (
        f"error: {given}: has the format 'mipp 1'; this version of mipp reads only 'mipp 2'\n"
        "hint: make the file again with this version, or read it with the version that made it\n"
    )


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cloud init", "kmc.pub"),
        ("user init", "kmc.pub"),
        ("owner init", "kmc.pub"),
        ("owner init --authorize", "user.pub"),
        ("owner authorize", "user.pub"),
        ("inspect", "kmc.pub"),
        ("inspect", "user.pub"),
    ],
)
def test_a_public_file_of_version_1_is_named_and_said_to_be_one(
    deployment: Deployment, name: str, file: str
) -> None:
    said = refuse(deployment, 3, *words_of(deployment, READERS[name], VERSION_1 / file))
    assert said.startswith(f"error: {VERSION_1 / file}: has the ")
    assert "'mipp 1'" in said
    assert "update mipp" not in said  # which is newer than the file


@pytest.mark.parametrize("role", ["kmc", "cloud", "alice", "north"])
def test_a_directory_of_version_1_is_said_to_be_one(changeable: Deployment, role: str) -> None:
    shutil.copy(VERSION_1 / "kmc.pub", changeable / role / "kmc.pub")
    said = refuse(changeable, 3, "inspect", changeable / role)
    assert said.startswith(f"error: {changeable / role / 'kmc.pub'}: has the ")
    assert "'mipp 1'" in said


@pytest.mark.parametrize(
    "name", [name for name in CONTAINER_READERS if name not in ("kmc enroll", "inspect")]
)
def test_a_container_of_the_wrong_kind_is_named_with_its_kind(deployment: Deployment, name: str) -> None:
    given = deployment / "north" / "enrolment.h5"
    said = refuse(deployment, 3, *words_of(deployment, READERS[name], given))
    assert said.startswith(f"error: {given}: is of kind enrolment, not ")


@pytest.mark.parametrize("name", IMAGE_READERS)
def test_an_empty_folder_of_images_is_named(deployment: Deployment, name: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    said = refuse(deployment, 2, *words_of(deployment, IMAGE_READERS[name], tmp_path))
    assert said.startswith(f"error: {tmp_path}: contains no images\nhint: supported kinds are JPEG")


@pytest.mark.parametrize("name", IMAGE_READERS)
def test_a_text_file_that_is_called_as_an_image_is_named(
    deployment: Deployment, name: str, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_text("Dear doctor")
    for given in (tmp_path, tmp_path / "a.jpg"):
        said = refuse(deployment, 7, *words_of(deployment, IMAGE_READERS[name], given))
        assert said.startswith(f"error: {tmp_path / 'a.jpg'}: the file is not a picture")


@pytest.mark.parametrize("name", IMAGE_READERS)
def test_the_same_image_twice_is_refused(deployment: Deployment, name: str) -> None:
    image = deployment / "pictures" / "queries" / "q1.png"
    words = words_of(deployment, IMAGE_READERS[name], image)
    position = words.index(str(image))
    said = refuse(deployment, 2, *words[:position], image, *words[position:])
    assert "two images would have the name" in said
    assert "q1.png" in said
    assert "name each image once" in said


@pytest.mark.parametrize("name", WRITERS)
def test_an_output_that_exists_is_not_replaced_without_force(
    changeable: Deployment, name: str, tmp_path: Path
) -> None:
    (tmp_path / "out").write_bytes(b"mine")
    words = words_of(changeable, WRITERS[name])
    said = refuse(changeable, 10, *words, "-o", tmp_path / "out")
    assert said.startswith(f"error: {tmp_path / 'out'}: the output exists\nhint: ")
    assert (tmp_path / "out").read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in ("user decrypt", "owner features")])
def test_an_output_that_exists_is_replaced_with_force(
    changeable: Deployment, name: str, tmp_path: Path
) -> None:
    (tmp_path / "out").write_bytes(b"mine")
    done(*words_of(changeable, WRITERS[name]), "-o", tmp_path / "out", "--force")
    assert (tmp_path / "out").read_bytes().startswith(b"mipp 2\n")
    beside = ["out.features"] if name == "owner encrypt of groups" else []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", *beside]


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("place", ["missing/out", "file/out", "x" * 300, "folder"])
def test_an_output_that_cannot_be_written_is_named(
    changeable: Deployment, name: str, place: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").touch()
    before = snapshot(tmp_path)
    output = tmp_path / place
    force = () if name == "owner features" else ("--force",)
    said = refuse(changeable, 10, *words_of(changeable, WRITERS[name]), "-o", output, *force)
    assert str(output) in said.splitlines()[0]
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (name, place)
        for name in WRITERS | MORE_WRITERS
        for place in (".", "", "/", "..", "loop", "loop/out")
        if (name, place) != ("owner encrypt --split", "loop")  # it writes loop-001
    ],
)
def test_an_output_that_cannot_be_one_is_refused(
    changeable: Deployment, name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    refuse(changeable, 10, *words_of(changeable, (WRITERS | MORE_WRITERS)[name]), "-o", place)
    assert [path.name for path in tmp_path.iterdir()] == ["loop"]


@pytest.mark.parametrize("name", ROLE_COMMANDS)
@pytest.mark.parametrize("kind", ["missing", "folder", "file", "another role's"])
def test_a_directory_that_is_not_the_roles_is_named(
    deployment: Deployment, name: str, kind: str, tmp_path: Path
) -> None:
    role = {"kmc": "a kmc", "cloud": "a cloud", "owner": "an owner", "user": "a user"}[
        name.split(maxsplit=1)[0]
    ]
    directory = tmp_path / "dir"
    if kind == "folder":
        directory.mkdir()
    elif kind == "file":
        directory.write_text("x")
    elif kind == "another role's":
        directory = deployment / ("eve" if name.split(maxsplit=1)[0] != "user" else "lake")
    said = refuse(deployment, 2, *words_of(deployment, ROLE_COMMANDS[name], directory))
    if kind == "another role's":
        assert f"{directory}: is the directory of a" in said
        assert f", not of {role}\n" in said
    else:
        what = "does not exist" if kind == "missing" else f"is not the directory of {role}"
        assert said.startswith(f"error: {directory}: {what}\nhint: name the ")


@pytest.mark.parametrize("role", ["kmc", "cloud", "user", "owner"])
@pytest.mark.parametrize("kind", ["role", "folder", "file"])
def test_init_never_replaces_anything(deployment: Deployment, role: str, kind: str, tmp_path: Path) -> None:
    place = tmp_path / "x"
    if kind == "role":
        place = deployment / "eve"
    elif kind == "folder":
        place.mkdir()
    else:
        place.write_text("mine")
    options: list[object] = [] if role == "kmc" else ["--kmc", deployment / "kmc" / "kmc.pub"]
    options += ["--id", "x"] if role in ("user", "owner") else []
    options += ["--scheme", "mask"] if role == "kmc" else []
    before = snapshot(tmp_path)
    said = refuse(deployment, 10, role, "init", place, *options)
    assert said.startswith(f"error: {place}: already exists; a role's directory is never replaced")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("role", ["user", "owner"])
@pytest.mark.parametrize("name", ["../x", "", "x" * 65, "x\n", "a/b", "-x", "..", "é", "a b", "a\0"])
def test_an_identifier_that_is_none_is_refused(
    deployment: Deployment, role: str, name: str, tmp_path: Path
) -> None:
    words = (role, "init", tmp_path / "x", f"--id={name}", "--kmc", deployment / "kmc" / "kmc.pub")
    said = refuse(deployment, 2, *words)
    assert f"cannot be {'an owner' if role == 'owner' else 'a user'}'s identifier" in said
    assert "hint: use 1 to 64 letters" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name",
    [
        *("cloud search", "kmc reencrypt", "user decrypt", "cloud index", "cloud enroll", "kmc enroll"),
        "kmc rank",
    ],
)
def test_a_file_of_another_deployment_is_refused(
    deployment: Deployment, session_folder: Path, name: str
) -> None:
    other = shared_deployment(session_folder, "dcr")
    file = {
        "cloud search": "alice.query.h5",
        "kmc reencrypt": "alice.results.h5",
        "user decrypt": "alice.answer.h5",
        "cloud index": "north.h5",
        "cloud enroll": "north/members.h5",
        "kmc enroll": "north/enrolment.h5",
        "kmc rank": "alice.query.h5",
    }[name]
    said = refuse(deployment, 8, *words_of(deployment, READERS[name], other / file))
    assert f"{other / file}: belongs to the deployment {other.public.fingerprint[:16]}" in said


@pytest.mark.parametrize("name", READERS)
def test_every_flip_of_a_bit_in_a_file_is_noticed(deployment: Deployment, name: str, tmp_path: Path) -> None:
    file = {
        "cloud search": "alice.query.h5",
        "kmc reencrypt": "alice.results.h5",
        "user decrypt": "alice.answer.h5",
        "cloud index": "north.h5",
        "cloud enroll": "north/members.h5",
        "kmc enroll": "north/enrolment.h5",
        "owner authorize": "eve/user.pub",
        "owner init --authorize": "eve/user.pub",
        "inspect": "alice.query.h5",
        "kmc index": "north.features.h5",
        "kmc rank": "alice.query.h5",
        "kmc rank --cloud": "cloud/cloud.pub",
        "cloud search of a selection": "alice.selection.h5",
        "kmc reencrypt of groups": "alice.results.h5",
    }.get(name, "kmc/kmc.pub")
    content = (deployment / file).read_bytes()
    if name in ("owner update-kmc-key", "user update-kmc-key"):
        key, public = deployment.sender("kmc").signing_key, deployment.public
        content = render_renewal(clock_number(), public.sealing_key, public.fingerprint, key)
    given = tmp_path / "changed"
    for number in range(12):
        changed = bytearray(content)
        changed[number * len(content) // 12 + number] ^= 1 << (number % 8)
        given.write_bytes(changed)
        outcome = run(*words_of(deployment, READERS[name], given))
        # an upload or enrolment whose header is that of one applied before is not read any further
        codes = (3, 5) if name in ("cloud index", "cloud enroll", "kmc enroll", "kmc index") else (3,)
        assert outcome.code in codes, (number, outcome)
        assert str(given) in outcome.err
    assert not (deployment / "new").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--scheme", "rsa"), "'rsa' is not one of"),
        (("--scheme", "mask", "--modulus-bits", "2048"), "scheme mask has no modulus"),
        (("--modulus-bits", "3072"), "scheme exact has no modulus"),
        (("--scheme", "dcr", "--modulus-bits", "1024"), "a modulus of 1024 bits is insecure"),
        (("--scheme", "dcr", "--modulus-bits", "512", "--allow-insecure-modulus"), "512"),
        (("--scheme", "dcr", "--modulus-bits", "0", "--allow-insecure-modulus"), "0"),
        (("--scheme", "dcr", "--modulus-bits", "-5"), "-5"),
        (("--scheme", "dcr", "--modulus-bits", "10000000"), "10000000"),
        (("--group-size", "0"), "0 is not in the range"),
        (("--group-size", "1025"), "1025 is not in the range"),
        (("--group-size", "many"), "'many' is not a valid integer"),
        (("--scheme", "dcr", "--group-size", "8"), "scheme dcr has no groups"),
        (("--scheme", "paper", "--modulus-bits", "2049"), "2049"),
        (("--modulus-bits", "many"), "'many' is not a valid integer"),
    ],
)
def test_a_deployment_that_cannot_be_is_refused(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    outcome = refused(2, "kmc", "init", tmp_path / "kmc", *words)
    assert said in outcome.err
    assert not list(tmp_path.iterdir())


USAGE: dict[str, tuple[tuple[str, ...], str]] = {
    "no such command": (("fly",), "No such command 'fly'"),
    "no such subcommand": (("owner", "fly"), "No such command 'fly'"),
    "no such option": (("inspect", "x", "--fly"), "No such option"),
    "argument missing": (("cloud", "search", "x"), "Missing argument 'selection.h5|query.h5'"),
    "no query to rank": (("kmc", "rank", "x", "-o", "y"), "Missing argument 'query.h5'"),
    "no place for a selection": (("kmc", "rank", "x", "y"), "Missing option '-o'"),
    "a limit that is none": (
        ("kmc", "rank", "x", "y", "-o", "z", "--limit", "much"),
        "'much' is not a size; write 500MB or 4GB",
    ),
    "a limit of nothing": (("kmc", "rank", "x", "y", "-o", "z", "--limit", "0"), "'0' is not a size"),
    "no features to index": (("kmc", "index", "x"), "Missing argument 'FILE...'"),
    "no place for features": (("owner", "features", "x"), "Missing option '-o'"),
    "collect is gone": (("cloud", "collect", "x", "y", "-o", "z"), "No such command 'collect'"),
    "--decoys is gone": (("user", "query", "x", "y", "-o", "z", "--decoys", "1"), "No such option"),
    "option missing": (("cloud", "search", "x", "y"), "Missing option '-o'"),
    "too many arguments": (("inspect", "x", "y"), "unexpected extra argument"),
    "no number": (("user", "query", "x", "y", "-o", "z", "--candidates", "many"), "not a valid integer"),
    "no jobs": (("cloud", "index", "x", "y", "--jobs", "0"), "0 is not in the range"),
    "no number of a message": (
        ("owner", "encrypt", "x", "y", "-o", "z", "--again", "pictures"),
        "'pictures' is not a message number",
    ),
    "a number that begins with nought": (
        ("owner", "delete", "x", "-o", "z", "--again", "07"),
        "'07' is not a message number",
    ),
    "a number that is negative": (
        ("owner", "renumber", "x", "--above", "-1"),
        "'-1' is not a message number",
    ),
    "a number of nothing": (
        ("owner", "renumber", "x", "--above", "0"),
        "'0' is not a message number",
    ),
    "a number of 20 digits": (
        ("owner", "renumber", "x", "--above", "1" * 20),
        "is not a message number; write up to 19 digits",
    ),
    "a number of other digits": (
        ("owner", "renumber", "x", "--above", "\N{ARABIC-INDIC DIGIT ONE}"),
        "is not a message number",
    ),
    "not said what was applied": (("owner", "forget-key", "x"), "Missing option '--applied'"),
    "a key id that is none": (
        ("owner", "forget-key", "x", "ABC", "--applied", "1"),
        "'ABC' is not a key id",
    ),
    "no output and no dry run": (("owner", "encrypt", "x", "y"), "Missing option '-o' / '--output'"),
    "--replace is gone": (
        ("owner", "encrypt", "x", "y", "-o", "z", "--replace"),
        "No such option",
    ),
    "--unlisted is gone": (("owner", "delete", "x", "y", "-o", "z", "--unlisted"), "No such option"),
    "withdraw is gone": (("owner", "withdraw", "x", "y"), "No such command 'withdraw'"),
    "rebuild of a file": (("cloud", "index", "x", "y", "--rebuild"), "--rebuild takes no CONTAINER"),
    "drop without rebuild": (("cloud", "index", "x", "y", "--drop-damaged"), "needs --rebuild"),
    "nothing to index": (("cloud", "index", "x"), "Missing argument 'CONTAINER...'"),
    "a list that is missing": (("owner", "encrypt", "x", "-o", "y", "--files-from", "/none"), "No such file"),
}


@pytest.mark.parametrize("name", USAGE)
def test_a_wrong_use_is_told_like_any_other_error(name: str) -> None:
    words, said = USAGE[name]
    outcome = refused(2, *words)
    assert said in outcome.err
    assert "see mipp " in outcome.err


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("kmc", "init", "x", "--scheme"), "mipp kmc init"),
        (("-v", "features", "--descriptor"), "mipp features"),
        (("kmc", "bogus"), "mipp kmc"),
        (("--bogus",), "mipp"),
    ],
)
def test_a_wrong_use_points_to_the_help_of_the_command(words: tuple[str, ...], command: str) -> None:
    assert refused(2, *words).err.endswith(f"\nhint: see {command} --help\n")


@pytest.mark.parametrize("words", [(), ("kmc",), ("owner",), ("user",), ("cloud",)])
def test_a_group_alone_shows_its_help(words: tuple[str, ...]) -> None:
    outcome = run(*words)
    assert outcome.code in (0, 2)
    assert "Usage: mipp" in outcome.out + outcome.err
    assert "error:" not in outcome.err


def _of_a_wrong_clock(deployment: Deployment, folder: Path) -> Path:
    number = clock_number() + 3 * A_DAY
    return forge_upload(
        deployment, "north", [("x", Picture().envelope(), random_feature(1))], folder / "u.h5", number=number
    )


def _another_north(deployment: Deployment, folder: Path) -> Path:
    done("owner", "init", folder / "o", "--id", "north", "--kmc", deployment / "kmc" / "kmc.pub")
    return folder / "o" / "enrolment.h5"


def _one_error_each() -> dict[int, Callable[[Deployment, Path], list[object]]]:
    return {
        2: lambda d, p: ["features", p],
        3: lambda d, p: ["inspect", d / "pictures" / "queries" / "q1.png"],
        4: lambda d, p: ["cloud", "search", d / "cloud", d.ask("eve"), "-o", p / "r"],
        5: lambda d, p: ["cloud", "index", d / "cloud", d / "north.h5"],
        6: lambda d, p: ["cloud", "index", d / "cloud", _of_a_wrong_clock(d, p), *JOBS],
        7: lambda d, p: ["features", d / "north.h5"],
        8: lambda d, p: ["user", "decrypt", d / "bob", d / "alice.answer.h5", "-o", p / "m"],
        9: lambda d, p: ["kmc", "enroll", d / "kmc", _another_north(d, p)],
        10: lambda d, p: ["user", "query", d / "bob", d / "pictures" / "queries", "-o", d / "north.h5"],
    }


@pytest.mark.parametrize("code", _one_error_each())
def test_with_json_an_error_is_an_object_too(changeable: Deployment, tmp_path: Path, code: int) -> None:
    words = _one_error_each()[code](changeable, tmp_path)
    outcome = run(*words, "--json")
    assert outcome.code == code
    error = outcome.json["error"]
    assert set(error) >= {"class", "code", "path", "message"}
    assert error["code"] == code
    assert error["class"].endswith("Error")
    assert f"error: {error['path']}: {error['message']}\n" in outcome.err
    assert f"hint: {error['hint']}\n" in outcome.err


def _bad_pictures(folder: Path) -> list[Path]:
    paths = [folder / f"{name}.png" for name in ("one", "red\x1b[31m", "two")]
    for path in paths:
        path.write_bytes(b"no picture")
    picture(7).save(folder / "good.png")
    return paths


def test_all_pictures_that_cannot_be_read_are_named(deployment: Deployment, tmp_path: Path) -> None:
    paths = _bad_pictures(tmp_path)
    said = refuse(deployment, 7, *words_of(deployment, IMAGE_READERS["owner encrypt"], tmp_path))
    lines = said.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["unreadable"] * 3 + ["error", "hint"]
    assert [str(paths[0]) in lines[0], "red\\u001b[31m.png" in lines[1], str(paths[2]) in lines[2]] == [
        True
    ] * 3
    assert lines[3] == "error: 3 of the images cannot be read"
    assert "--skip-unreadable" in lines[4]


def test_with_json_every_unreadable_picture_is_a_problem(deployment: Deployment, tmp_path: Path) -> None:
    paths = _bad_pictures(tmp_path)
    error = run(*words_of(deployment, IMAGE_READERS["owner encrypt"], tmp_path), "--json").json["error"]
    assert (error["class"], error["code"], error["path"]) == ("UnreadableImagesError", 7, None)
    assert [problem["path"] for problem in error["problems"]] == [str(path) for path in paths]
    assert all("is not a picture" in problem["message"] for problem in error["problems"])


def test_with_json_an_error_without_problems_has_no_such_field(deployment: Deployment) -> None:
    assert "problems" not in run("inspect", deployment / "none", "--json").json["error"]


def test_a_dry_run_writes_nothing(deployment: Deployment) -> None:
    before = snapshot(deployment.root)
    words = words_of(deployment, ROLE_COMMANDS["owner encrypt --dry-run"])
    assert "nothing was sent" in done(*words).out
    assert snapshot(deployment.root) == before


def test_a_message_that_was_never_sent_is_not_made_again(changeable: Deployment, tmp_path: Path) -> None:
    north, pictures = changeable / "north", changeable / "pictures" / "north"
    for words in (
        ("owner", "encrypt", north, pictures, "-o", tmp_path / "u.h5", "--again", 7),
        ("owner", "delete", north, "-o", tmp_path / "d.h5", "--again", 7),
    ):
        said = refuse(changeable, 2, *words)
        assert "mipp inspect OWNER lists what was sent" in said
        assert not list(tmp_path.iterdir())


def test_numbers_that_are_right_are_not_given_anew(deployment: Deployment) -> None:
    said = refuse(deployment, 5, "owner", "renumber", deployment / "north")
    assert "numbers are not ahead of this machine's clock" in said


def test_a_number_that_no_message_can_follow_is_refused(deployment: Deployment) -> None:
    said = refuse(deployment, 2, "owner", "renumber", deployment / "north", "--above", 2**63 - 1)
    assert "is not a message number" in said


@pytest.mark.parametrize("name", USAGE)
def test_with_json_a_wrong_use_is_an_object_too(name: str) -> None:
    words, said = USAGE[name]
    outcome = run(*words, "--json")
    assert outcome.code == 2
    error = outcome.json["error"]
    assert (error["class"], error["code"], error["path"]) == ("MippUsageError", 2, None)
    assert said in error["message"]


def test_an_interrupt_is_told_with_its_exit_code(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mipp_cli.inspection.directories.inspect_path", interrupt)
    assert "interrupted" in refused(130, "inspect", deployment / "north").err
    error = run("inspect", deployment / "north", "--json").json["error"]
    assert (error["code"], error["class"]) == (130, "InterruptedWorkError")


def test_an_error_of_the_system_is_told_like_any_other(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr("mipp_cli.inspection.directories.inspect_path", fail)
    said = refused(10, "inspect", deployment / "north").err
    assert f"error: {deployment / 'north'}: Input/output error" in said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("loop", "a link in this path leads back to itself: name another path, or replace the link"),
        ("x" * 300, "the name is too long: give a shorter one"),
    ],
)
@pytest.mark.parametrize(
    "words", ["owner encrypt {} pictures -o new", "cloud check {}", "demo {} -o new", "protect {}"]
)
def test_a_path_that_cannot_be_followed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, name: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    err = refused(10, *words.replace("{}", name).split()).err
    assert err.startswith(f"error: {name}")
    assert ": cannot be reached: " in err
    assert err.endswith(f"\nhint: {said}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["loop"]


def test_json_cannot_go_with_csv(deployment: Deployment) -> None:
    for words in (("inspect", deployment / "north"), ("features", deployment / "pictures" / "queries")):
        outcome = run(*words, "--csv", "--json")
        assert outcome.code == 2
        assert outcome.json["error"]["message"] == "--csv and --json cannot be combined"


@pytest.mark.parametrize("name", ["cloud search of a selection"])
def test_a_selection_is_not_searched_without_the_index(
    deployment: Deployment, name: str, tmp_path: Path
) -> None:
    words = words_of(deployment, READERS[name], deployment / "alice.selection.h5")
    said = refuse(deployment, 2, *words, "--without-index")
    assert "--without-index does not apply to a selection" in said


@pytest.mark.parametrize(
    "words",
    [
        ("kmc", "rank", "@kmc", "@alice.query.h5", "-o", "@new"),
        ("kmc", "index", "@kmc", "@north.h5"),
        ("owner", "features", "@north", "-o", "@new"),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_what_is_for_scheme_exact_says_so_elsewhere(deployment: Deployment, words: tuple[str, ...]) -> None:
    said = refuse(deployment, 2, *words_of(deployment, words))
    assert "the cloud ranks in this deployment's scheme, not the KMC" in said


@pytest.mark.parametrize("name", ["owner encrypt of groups"])
def test_fewer_images_than_a_group_need_a_word(changeable: Deployment, name: str, tmp_path: Path) -> None:
    one = changeable / "pictures" / "queries" / "q1.png"
    words = words_of(changeable, ("owner", "encrypt", "{}", str(one), "-o", str(tmp_path / "u.h5"), *JOBS))
    before = snapshot(tmp_path)
    outcome = refused(9, *words)
    assert "too few new images for a group of 2: 1" in outcome.err
    assert "--small" in outcome.err
    assert snapshot(tmp_path) == before
    assert done(*words, "--small", "--no-resume", "--json").json["counts"]["images"] == 1


@pytest.mark.parametrize("name", ["owner encrypt of groups"])
@pytest.mark.parametrize("there", ["u.h5", "u.features.h5"])
def test_neither_of_two_outputs_is_replaced(
    changeable: Deployment, name: str, there: str, tmp_path: Path
) -> None:
    (tmp_path / there).write_bytes(b"mine")
    words = words_of(changeable, WRITERS[name])
    said = refuse(changeable, 10, *words, "-o", tmp_path / "u.h5")
    assert said.startswith(f"error: {tmp_path / there}: the output exists")
    assert [path.name for path in tmp_path.iterdir()] == [there]


@pytest.mark.parametrize("name", ["kmc rank"])
def test_a_user_whom_nobody_authorised_is_not_ranked_for(
    changeable: Deployment, name: str, tmp_path: Path
) -> None:
    query = changeable.ask("eve")
    said = refuse(changeable, 4, "kmc", "rank", changeable / "kmc", query, "-o", tmp_path / "s.h5")
    assert "no enrolled owner authorised the user 'eve'" in said


@pytest.mark.parametrize("name", ["kmc rank"])
def test_beyond_the_limit_groups_are_left_out_with_a_warning(
    changeable: Deployment, name: str, tmp_path: Path
) -> None:
    query = changeable.ask("alice")
    words = ("kmc", "rank", changeable / "kmc", query, "-o", tmp_path / "s.h5", "--limit", "20kB", "--json")
    told = done(*words).json
    assert told["counts"]["groups left out"] > 0
    assert told["counts"]["bytes to bring"] <= 20_000
    assert any("the cloud would have had to deliver too much" in each for each in told["warnings"])
