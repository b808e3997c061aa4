"""`-v` and what is logged: steps and times on stderr for whoever asks, and never a secret."""

from __future__ import annotations

import base64
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mipp_cli.log import timed
from mipp_cli.workdir.secrets_file import Passphrases, SecretsFile, passphrases_from
from tests.cli.test_help import COMMANDS
from tests.support.deployment import JOBS, SAMPLES, SCHEMES, Deployment, Outcome, done, run, secrets_of

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3} (mipp_cli[\w.]*): (.*)")
PASSPHRASE = "correct horse battery staple"
OWNER = SAMPLES / "owners" / "clinic-lake"
STEPS = {  # by the modules that tell of them
    *("workdir.directory", "scheme.passphrase", "images.collection", "owner.whats_new", "owner.describing"),
    *("owner.upload", "containers.base.source", "containers.base.stored", "containers.base.writer"),
    *("cloud.changes", "user.user", "user.decrypt", "user.matches"),
}
OF_SCHEME = {"exact": {"kmc.applying", "kmc.nearest", "cloud.search_groups"}, "mask": {"cloud.search_sums"}}


def logged(outcome: Outcome) -> list[str]:
    """Return the lines of the log on stderr."""
    return [line for line in outcome.err.splitlines() if LINE.fullmatch(line)]


@dataclass(frozen=True)
class Told:
    """A whole run with -v: its log, line by line, and where the roles are."""

    scheme: str
    root: Path
    lines: list[str]


@pytest.fixture(scope="module", params=["exact", "mask"])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Every role's part with -v, the user's directory and the owner's under a passphrase."""
    scheme, root = request.param, tmp_path_factory.mktemp(f"told-{request.param}")
    word = root / "passphrase"
    word.write_text(PASSPHRASE)
    word.chmod(0o600)
    query = SAMPLES / "queries" / "fundus.jpg"
    kmc, cloud, user, owner = (root / name for name in ("kmc", "cloud", "doctor", "lake"))
    asked = root / ("selection.h5" if scheme == "exact" else "query.h5")
    public, upload = ("--kmc", kmc / "kmc.pub"), root / "lake.h5"
    steps: list[tuple[object, ...]] = [
        ("kmc", "init", kmc, *SCHEMES[scheme]),
        ("cloud", "init", cloud, *public),
        ("user", "init", user, "--id", "doctor", *public),
        ("owner", "init", owner, "--id", "lake", *public, "--authorize", user / "user.pub"),
        ("kmc", "enroll", kmc, owner / "enrolment.h5", cloud / "cloud.pub"),
        ("cloud", "enroll", cloud, owner / "members.h5"),
        ("owner", "encrypt", owner, OWNER, "-o", upload, *JOBS),
        ("cloud", "index", cloud, upload, *JOBS),
        ("kmc", "index", kmc, root / "lake.features.h5"),
        ("user", "query", user, query, "-o", root / "query.h5"),
        ("kmc", "rank", kmc, root / "query.h5", "-o", root / "selection.h5"),
        ("cloud", "search", cloud, asked, "-o", root / "results.h5"),
        ("kmc", "reencrypt", kmc, root / "results.h5", "-o", root / "reencrypted.h5"),
        ("user", "decrypt", user, root / "reencrypted.h5", "-o", root / "matches"),
    ]
    lines: list[str] = []
    for words in steps:
        if scheme != "exact" and words[:2] in {("kmc", "index"), ("kmc", "rank")}:
            continue
        protected = () if words[2] in (kmc, cloud) else ("--passphrase-file", word)
        lines += logged(done("-v", *words, *protected))
    return Told(scheme, root, lines)


def test_steps_that_take_time_are_told(told: Told) -> None:
    matches = [LINE.fullmatch(line) for line in told.lines]
    modules = {match[1].removeprefix("mipp_cli.") for match in matches if match}
    assert STEPS | OF_SCHEME[told.scheme] <= modules


def test_no_secret_is_told_in_any_form(told: Told) -> None:
    with passphrases_from(Passphrases(lambda path: PASSPHRASE.encode())):
        found = secrets_of(told.root)
        for name in ("doctor", "lake"):
            for value in SecretsFile.open(told.root / name).read().values():
                found.update([value] if isinstance(value, str) else value)
    in_hex = [secret for secret in found if re.fullmatch("[0-9a-f]{32,}", secret)]
    secrets = [*map(bytes.fromhex, in_hex), PASSPHRASE.encode()]
    assert len(secrets) > 10
    text = "\n".join(told.lines)
    forms: list[Callable[[bytes], str]] = [
        bytes.hex,
        lambda secret: base64.b64encode(secret).decode().rstrip("="),
        lambda secret: base64.urlsafe_b64encode(secret).decode().rstrip("="),
        lambda secret: secret.decode("latin-1"),
        repr,
        lambda secret: str(list(secret))[1:-1],
    ]
    assert [form(secret) for secret in secrets for form in forms if form(secret) in text] == []


def test_no_image_of_an_owner_is_named(told: Told) -> None:
    names = [path.stem for path in OWNER.rglob("*.jpg")]
    assert len(names) > 10
    assert [name for name in names if any(name in line for line in told.lines)] == []


def test_without_the_option_nothing_is_told(deployment: Deployment) -> None:
    outcome = done("kmc", "status", deployment / "kmc")
    assert logged(outcome) == []


def test_the_option_stands_before_or_behind_a_command(deployment: Deployment) -> None:
    words = ("kmc", "status", deployment / "kmc", "--json")
    for said in (done("-v", *words), done(*words, "-v"), done("-v", *words, "--verbose")):
        (line,) = [line for line in logged(said) if "opening the directory" in line]
        assert re.search(r": opening the directory \S*/kmc of the kmc: \d+\.\d{3} s$", line)
        assert said.json["command"] == "kmc status"


@pytest.mark.parametrize("name", [name for name in COMMANDS if not hasattr(COMMANDS[name], "commands")])
def test_every_command_has_the_option(name: str) -> None:
    assert "--verbose" in {option for parameter in COMMANDS[name].params for option in parameter.opts}


def test_a_step_that_fails_is_told_with_its_time(deployment: Deployment) -> None:
    outcome = run("-v", "kmc", "status", deployment / "cloud")
    assert outcome.code == 2
    assert re.search(r"opening the directory .* of the kmc: failed after \d+\.\d{3} s", logged(outcome)[0])


def test_a_path_steers_no_terminal(tmp_path: Path) -> None:
    outcome = run("-v", "kmc", "status", tmp_path / "a\x1b[31m")
    assert "\x1b" not in outcome.err
    assert "a\\u001b[31m" in logged(outcome)[0]


def test_the_next_command_is_silent_again(deployment: Deployment) -> None:
    done("-v", "kmc", "status", deployment / "kmc")
    assert logged(done("kmc", "status", deployment / "kmc")) == []


def test_whoever_listens_gets_the_records(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="mipp_cli"):
        done("kmc", "status", deployment / "kmc")
    assert ("mipp_cli.workdir.directory", logging.INFO) in {each[:2] for each in caplog.record_tuples}


def test_a_library_that_logs_says_nothing_unasked() -> None:
    script = "import logging, mipp_cli.log; logging.getLogger('mipp_cli.owner').error('said')"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("", "")


def test_a_message_tells_what_it_names_of_arguments(caplog: pytest.LogCaptureFixture) -> None:
    @timed("adding to {first}")
    def add(first: int, second: int) -> int:
        return first + second

    with caplog.at_level(logging.INFO, logger=add.__module__):
        assert add(1, second=2) == 3
    (said,) = caplog.messages
    assert re.fullmatch(r"adding to 1: \d+\.\d{3} s", said)
