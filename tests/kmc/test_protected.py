"""A KMC's directory under a passphrase: nothing that it keeps of owners and users can be read in any file."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from mipp_cli.errors import PassphraseError
from mipp_cli.kmc.check import check_kmc
from mipp_cli.kmc.ranking import read_ranking
from mipp_cli.owner.owner import Owner
from mipp_cli.scheme import passphrase as primitive
from mipp_cli.scheme.passphrase import Stretching
from mipp_cli.workdir.protect import protect_directory
from mipp_cli.workdir.secrets_file import Passphrases, passphrases_from
from tests.support.deployment import mode, snapshot
from tests.support.exact_world import Row, World, make_world

HERE = Path(__file__).parent.parent.parent
PASSPHRASE = b"open sesame"
USER = "alice-the-user"
# every eight codes in a row are seen nowhere by chance
NORTH = [
    Row(f"name-on-the-wire-{n}", bytes([n, (n * 3 + 1) % 8, (n * 5 + 2) % 8, 7 - n]), b"%d" % n)
    for n in range(8)
]


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(primitive, "STRETCHING", Stretching(16, 8, 1))
    with passphrases_from(Passphrases(lambda _: PASSPHRASE)):
        yield


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world in which images came and went, and queries were ranked and answered."""
    world = make_world(tmp_path_factory.mktemp("protected") / "world", users=(USER,))
    world.send("north", [NORTH[:4], NORTH[4:]])
    world.delete("north", NORTH[7].name)
    query = _ask(world)
    world.reencrypt(world.bring(world.rank(query)))
    query.rename(world / "asked.h5")
    return world


@pytest.fixture
def world(_made: World, tmp_path: Path) -> World:
    return _made.copy(tmp_path / "world")


def _ask(world: World) -> Path:
    return world.ask(NORTH[1].codes, NORTH[5].codes, user=USER, candidates=2)


def _protect(world: World) -> None:
    protect_directory(world / "kmc", lambda: PASSPHRASE)


def _secrets(world: World) -> dict[str, bytes]:
    """Return what must not be read, before the directory is protected."""
    kmc, store = world.kmc, world.store("north")
    index = store.index()
    found: dict[str, bytes] = {"user": USER.encode()}
    found["user's key"] = world.sender(USER).signing_key.public
    found["image key"] = Owner.open(world / "north").image_key
    found["storage key"] = store.key
    for kind in ("signing", "sealing"):
        found[kind] = kmc.directory.secret(kind)
    found["directory's key"] = kmc.directory.secret("storage")
    for row in NORTH:
        found[f"name {row.name}"] = row.name.encode()
        found[f"digest of {row.name}"] = hashlib.sha256(row.name.encode()).digest()  # of a deleted one, too
    for block in index.blocks:
        codes, table = store.codes(block).tobytes(), store.table(block)
        found |= {f"codes {place}": codes[place : place + 8] for place in range(len(codes) - 7)}
        found |= {f"digest of image {n}": row["image"].tobytes() for n, row in enumerate(table)}
    parsed = world.parsed(world / "asked.h5")
    found["query id"] = bytes.fromhex(parsed.query_id)
    found["query"] = parsed.digest
    found["sealed key of the query"] = parsed.sealed_usk
    number = next(path.stem for path in (world / "kmc" / "rankings").glob("*.json") if "." not in path.stem)
    ranking = read_ranking(kmc.directory, number)
    assert ranking is not None
    found["upload of a group"] = str(ranking.groups[0].ref.upload).encode()
    return found


def _seen(world: World, secrets: dict[str, bytes]) -> set[str]:
    """Return what can be read in the directory, every byte of every file, hidden and temporary ones too."""
    seen = set()
    for path in (world / "kmc").rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for what, secret in secrets.items():
            spellings = (secret, secret.hex().encode(), secret.hex().upper().encode())
            if any(each in content for each in spellings):
                seen.add(what)
    return seen


def test_without_a_passphrase_what_lies_in_plain_is_found(world: World) -> None:
    """All else is sealed even then, under a key that lies beside it."""
    assert _seen(world, _secrets(world)) == {"signing", "sealing", "directory's key"}


def test_nothing_can_be_read_once_a_directory_is_protected(world: World) -> None:
    secrets = _secrets(world)
    _protect(world)
    assert _seen(world, secrets) == set()


def test_nothing_can_be_read_of_what_a_protected_kmc_does_then(world: World) -> None:
    _protect(world)
    more = [Row(f"later-{n}", row.codes, row.content) for n, row in enumerate(NORTH)]
    world.send("north", [more[:4], more[4:]])
    world.delete("north", more[2].name)
    query = _ask(world)
    opened = world.opened(world.reencrypt(world.bring(world.rank(query))), query, USER)
    assert len(opened.contents) == 4
    query.rename(world / "asked.h5")
    secrets = _secrets(world)
    secrets |= {row.name: row.name.encode() for row in more}
    secrets |= {f"digest of {row.name}": hashlib.sha256(row.name.encode()).digest() for row in more}
    assert _seen(world, secrets) == set()


def test_what_was_ranked_before_is_answered_after_and_the_same(world: World) -> None:
    query = _ask(world)
    selection = world.rank(query)
    _protect(world)
    assert world.rank(query).read_bytes() == selection.read_bytes()
    assert len(world.opened(world.reencrypt(world.bring(selection)), query, USER).contents) == 4


def test_protection_that_ends_leaves_all_as_it_was(world: World) -> None:
    before, secrets = snapshot(world / "kmc"), _secrets(world)
    _protect(world)
    protect_directory(world / "kmc", None)
    after = snapshot(world / "kmc")
    changed = {Path(name) for name in after if after[name] != before.get(name)}
    assert {path.suffix for path in changed} == {".json"}  # and none of the features, which are large
    assert _secrets(world) | {"directory's key": secrets["directory's key"]} == secrets


def test_files_of_a_protected_kmc_are_the_account_owners_alone(world: World) -> None:
    _protect(world)
    world.rank(_ask(world))
    public = {"kmc.pub", "sealing.pub"}
    for path in (world / "kmc").rglob("*"):
        if path.is_file() and path.name not in public and path.parent.name != "clouds":
            assert mode(path) == "0600", path


def test_a_protected_kmc_is_found_whole(world: World) -> None:
    _protect(world)
    world.rank(_ask(world))
    assert check_kmc(world / "kmc").counts["rankings"] == 3  # two queries, one of them answered


def test_without_the_passphrase_nothing_is_ranked_or_answered(world: World) -> None:
    query, old = _ask(world), world / "asked.h5"
    results = world.bring(world.rank(query))
    _protect(world)
    before = snapshot(world / "kmc")
    for wrong in (None, b"close sesame"):
        with passphrases_from(Passphrases(lambda _: wrong)):  # noqa: B023 -- called within this turn of the loop
            with pytest.raises(PassphraseError):
                world.rank(old)
            with pytest.raises(PassphraseError):
                world.reencrypt(results)
    assert snapshot(world / "kmc") == before


KILLED_AT_A_RENAME = """
    import os, signal, sys
    from pathlib import Path
    from mipp_cli.kmc import index as kmc_index
    from mipp_cli.kmc import rank as kmc_rank
    from mipp_cli.workdir.secrets_file import Passphrases, passphrases_from

    def killed(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    step, kmc, file, output = sys.argv[1], *map(Path, sys.argv[2:])
    with passphrases_from(Passphrases(lambda _: b"open sesame")):
        Path.replace = killed
        if step == "rank":
            kmc_rank.rank(kmc, file, output)
        else:
            kmc_index.index_at_kmc(kmc, [file])
"""


@pytest.mark.parametrize("step", ["rank", "index"])
def test_what_a_killed_command_leaves_cannot_be_read_either(world: World, step: str) -> None:
    secrets = _secrets(world)
    _protect(world)
    before = set(snapshot(world / "kmc"))
    file = _ask(world)
    if step == "index":
        file = world.upload("north", [NORTH[:4], NORTH[4:]]).features
    else:
        secrets |= {
            "query": world.parsed(file).digest,
            "query id": bytes.fromhex(world.parsed(file).query_id),
        }
    code, words = textwrap.dedent(KILLED_AT_A_RENAME), (step, world / "kmc", file, world / "out.h5")
    child = subprocess.run([sys.executable, "-c", code, *words], cwd=HERE, check=False)
    assert child.returncode == -signal.SIGKILL
    left = set(snapshot(world / "kmc")) - before
    assert any(Path(path).name.endswith(".tmp") for path in left)
    assert _seen(world, secrets) == set()


def test_after_a_killed_ranking_the_next_run_ranks(world: World) -> None:
    _protect(world)
    query = _ask(world)
    words = ("rank", world / "kmc", query, world / "out.h5")
    subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED_AT_A_RENAME), *words], cwd=HERE, check=False)
    assert world.selected(world.rank(query)).groups == tuple(sorted(world.found(query).sizes))
