"""A small deployment of scheme `exact`, whose roles are handed what a hostile other role may have made.

Each run begins with the same directories, and whatever the role accepts must leave it fit for work.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from mipp_cli.cloud.search import search
from mipp_cli.containers.base.container import header_of
from mipp_cli.containers.base.header import HEAD_BYTES, Header
from mipp_cli.containers.base.writer import Sender
from mipp_cli.containers.messages.reencrypted import open_reencrypted
from mipp_cli.containers.messages.selection import open_groups, read_selection
from mipp_cli.errors import MippError
from mipp_cli.kmc.index import index_at_kmc
from mipp_cli.kmc.rank import rank
from mipp_cli.kmc.reencrypt import reencrypt
from mipp_cli.workdir.directory import RoleDirectory
from tests.support.deployment import JOBS, done, picture
from tests.support.hdf5 import body_digest

SIZE = (20, 17)  # of the pictures: small, so that whole files make small inputs
PICTURES = 5


@dataclass(frozen=True)
class HandOff:
    """A file that a role is handed: its header and HDF5 content, and who signs others like it."""

    known: Header
    body: bytes
    sender: Sender

    def signed(self, body: bytes) -> bytes:
        """Return other content under a header and a signature that fit it."""
        header, key = replace(self.known, digest=body_digest(body)), self.sender.signing_key
        return header.render(key) + body


@dataclass(frozen=True)
class World:
    """The deployment: directories of the roles, and a file for each of the steps."""

    root: Path

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    @property
    def deployment(self) -> str:
        """The fingerprint of kmc.pub."""
        return header_of(self / "query.h5").deployment

    def hand_off(self, step: str) -> HandOff:
        """Return what is handed over in a step."""
        return _hand_off(self.root, step)

    def fresh_kmc(self) -> Path:
        """Return a copy of the KMC's directory as it was before the step."""
        copy = self / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self / "kmc", copy)
        return copy


FILES = {
    "kmc-index": "second.features.h5",
    "kmc-rank": "query.h5",
    "cloud-search": "selection.h5",
    "kmc-reencrypt": "results.h5",
}
SENDERS = {
    "kmc-index": ("north", "owner"),
    "kmc-rank": ("alice", "user"),
    "cloud-search": ("kmc", "kmc"),
    "kmc-reencrypt": ("cloud", "cloud"),
}


@cache  # for it is asked for with every input
def _hand_off(root: Path, step: str) -> HandOff:
    file, (role, kind) = root / FILES[step], SENDERS[step]
    sender = RoleDirectory.open(root / role, kind).sender
    return HandOff(header_of(file), file.read_bytes()[HEAD_BYTES:], sender)


@cache
def world(scratch: Path) -> World:
    """Return the deployment in a folder, made when it is first asked for."""
    root = scratch / "hand-offs"
    if not (root / "results.h5").exists():
        shutil.rmtree(root, ignore_errors=True)
        _make(root)
    return World(root)


def _make(root: Path) -> None:
    (root / "pictures").mkdir(parents=True)
    for seed in range(PICTURES):
        picture(seed, SIZE).save(root / "pictures" / f"{seed}.png")
    public = root / "kmc" / "kmc.pub"
    done("kmc", "init", root / "kmc", "--scheme", "exact", "--group-size", 2)
    done("cloud", "init", root / "cloud", "--kmc", public)
    done("user", "init", root / "alice", "--id", "alice", "--kmc", public)
    authorised = ("--authorize", root / "alice" / "user.pub")
    done("owner", "init", root / "north", "--id", "north", "--kmc", public, *authorised)
    done("kmc", "enroll", root / "kmc", root / "north" / "enrolment.h5", root / "cloud" / "cloud.pub")
    done("cloud", "enroll", root / "cloud", root / "north" / "members.h5")
    encrypt = ("owner", "encrypt", root / "north", root / "pictures", *JOBS)
    done(*encrypt, "-o", root / "first.h5")
    done("cloud", "index", root / "cloud", root / "first.h5", *JOBS)
    done("kmc", "index", root / "kmc", root / "first.features.h5")
    for seed in range(PICTURES, PICTURES + 2):
        picture(seed, SIZE).save(root / "pictures" / f"{seed}.png")
    done(*encrypt, "--again", "-o", root / "second.h5")
    asked = root / "pictures" / "1.png"
    done("user", "query", root / "alice", asked, "-o", root / "query.h5", "--candidates", 3)
    done("kmc", "rank", root / "kmc", root / "query.h5", "-o", root / "selection.h5")
    done("cloud", "search", root / "cloud", root / "selection.h5", "-o", root / "results.h5", *JOBS)


def _index(made: World, file: Path) -> None:
    kmc = made.fresh_kmc()
    before = _content(kmc)
    try:
        index_at_kmc(kmc, [file])
    except MippError:
        if _content(kmc) != before:
            raise AssertionError("a features file was refused, and left traces") from None
        raise
    shutil.rmtree(kmc / "rankings")  # so that the query is ranked anew
    try:
        rank(kmc, made / "query.h5", made / "again.h5", force=True)
    except MippError as error:
        raise AssertionError("a features file was applied, and no query can be ranked since") from error


def _rank(made: World, file: Path) -> None:
    kmc = made.fresh_kmc()
    shutil.rmtree(kmc / "rankings")
    rank(kmc, file, made / "ranked.h5", force=True)
    read_selection(made / "ranked.h5", made.deployment)


def _search(made: World, file: Path) -> None:
    search(made / "cloud", file, made / "brought.h5", force=True)
    groups = len(read_selection(file, made.deployment).groups)
    reader = open_groups(made / "brought.h5", made.deployment)
    with reader.container:
        if len(reader.places) and reader.places[-1] >= groups:
            raise AssertionError("rows were brought that nobody asked for")


def _reencrypt(made: World, file: Path) -> None:
    reencrypt(made.fresh_kmc(), file, made / "answer.h5", force=True)
    if _shape(made / "answer.h5", made.deployment) != _expected_shape(made):
        raise AssertionError("the shape of an answer depends on what the cloud brought")


@cache
def _expected_shape(made: World) -> tuple[int, ...]:
    reencrypt(made.fresh_kmc(), made / "results.h5", made / "expected.h5", force=True)
    return _shape(made / "expected.h5", made.deployment)


def _shape(answer: Path, deployment: str) -> tuple[int, ...]:
    """Return all that whoever holds no key sees of an answer: lengths."""
    with open_reencrypted(answer, deployment) as container:
        ner = container.ragged("NER")
        return (*ner.sizes(0, len(ner)), len(container.matrix("manifest")))


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


STEPS: dict[str, Callable[[World, Path], None]] = {
    "kmc-index": _index,
    "kmc-rank": _rank,
    "cloud-search": _search,
    "kmc-reencrypt": _reencrypt,
}
