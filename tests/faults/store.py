"""A deployment to break, as small as it can be, and what it means: all that anybody gets out of it."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from mipp_cli.cloud.cloud import Cloud
from mipp_cli.cloud.completeness import completeness
from mipp_cli.containers.store.index import Index
from mipp_cli.errors import MalformedError, MippError
from mipp_cli.files.json_state import read_state
from mipp_cli.kmc.kmc import EnrolledOwner, Kmc
from mipp_cli.kmc.status import received
from mipp_cli.kmc.store import FeatureStore
from mipp_cli.kmc.store_index import StoreIndex
from mipp_cli.owner.owner import Owner
from mipp_cli.workdir.completeness import Completeness
from tests.support.deployment import JOBS, SCHEMES, Deployment, done, picture, run

OWNERS = ("north", "south")
USERS = ("alice", "bob")
PASSPHRASES = ("first.txt", "second.txt")
Meaning = dict[str, Any]
_TEMPORARY = re.compile(r"\..*|partial|[0-9a-f]{32}\.h5")  # the last: a query that is being made


def make_store(root: Path, scheme: str = "mask") -> Deployment:
    """Make a deployment of two owners, whom alice may search, and their first uploads, indexed."""
    made = Deployment(root, scheme)
    for number, name in enumerate(("a", "b", "c", "d", "e", "f")):
        folder = root / "pictures" / (OWNERS[0] if number < 4 else OWNERS[1])
        folder.mkdir(parents=True, exist_ok=True)
        picture(number, size=(24, 16)).save(folder / f"{name}.png")
    picture(9, size=(24, 16)).save(root / "pictures" / "query.png")
    for name in PASSPHRASES:
        (root / name).write_text(name)
        (root / name).chmod(0o600)
    done("kmc", "init", root / "kmc", *SCHEMES[scheme])
    done("cloud", "init", root / "cloud", "--kmc", root / "kmc" / "kmc.pub")
    for user in USERS:
        done("user", "init", root / user, "--id", user, "--kmc", root / "kmc" / "kmc.pub")
    for owner in OWNERS:
        words = (root / owner, "--id", owner, "--kmc", root / "kmc" / "kmc.pub")
        done("owner", "init", *words, "--authorize", root / "alice" / "user.pub")
    files = [root / owner / "enrolment.h5" for owner in OWNERS]
    done("kmc", "enroll", root / "kmc", *files, root / "cloud" / "cloud.pub")
    done("cloud", "enroll", root / "cloud", *(root / owner / "members.h5" for owner in OWNERS))
    for owner in OWNERS:
        done("owner", "encrypt", root / owner, root / "pictures" / owner, "-o", root / f"{owner}.h5", *JOBS)
    made.index(*(root / f"{owner}.h5" for owner in OWNERS))
    for role in ("alice", "north"):  # to look for their keys later
        shutil.copytree(root / role, root / f"{role}-was")
    return made


def meaning(store: Deployment) -> Meaning:
    """Return what a store means, by who holds it; reading all of it, and asking as every user.

    What is drawn at random or told by a clock is left out, so that the same command run twice, on two
    copies, leaves the same meaning. The store is searched, so it is not the same file by file afterwards.
    """
    facets: Meaning = {}
    if (store / "kmc").exists():
        facets |= _kmc(store)
    if (store / "cloud").exists():
        facets |= _cloud(store)
    for owner in OWNERS:
        if (store / owner).exists():
            facets |= _owner(store, owner)
    if {"kmc", "cloud", *USERS} <= {path.name for path in store.root.iterdir()}:
        for user in USERS:
            facets |= {f"{user} is protected": "sealed" in read_state(store / user / "secrets.json")}
            facets |= {f"{user} finds": answer(store, user)}
    return facets


def _kmc(store: Deployment) -> Meaning:
    kmc = Kmc.open(store / "kmc")
    found: Meaning = {"kmc knows clouds": len(list((store / "kmc" / "clouds").glob("*.pub")))}
    for name in kmc.owner_names():
        owner = kmc.owner(name)
        assert owner is not None
        users = sorted(user for user, _ in owner.membership.users)
        found[f"kmc knows {name}"] = (users, len(owner.image_keys))
        if kmc.directory.deployment.parameters.protocol.grouped:
            found |= _features(kmc, owner)
    return found


def _features(kmc: Kmc, owner: EnrolledOwner) -> Meaning:
    """Tell what came of an owner's features, and each row that is kept: name, codes, how many mates."""
    has, keeps = f"kmc has of {owner.name}", f"kmc keeps of {owner.name}"
    store = FeatureStore.of(kmc, owner)
    try:
        index = store.index()
    except MalformedError:
        return {has: "damaged"}
    numbers = [message.number for message in index.messages]
    complete = received(kmc, owner.name, index)
    return {has: _numbers(numbers, complete), keeps: _rows(store, index)}


def kept_features(store: Deployment, owner_name: str) -> list[tuple[str, ...]]:
    """Return each row of an owner's features at the KMC, as the meaning of a store says it."""
    kmc = Kmc.open(store / "kmc")
    owner = kmc.owner(owner_name)
    assert owner is not None
    features = FeatureStore.of(kmc, owner)
    return _rows(features, features.index())


def _rows(store: FeatureStore, index: StoreIndex) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for block in index.blocks:
        try:
            codes, table = store.codes(block), store.table(block)
        except MippError:
            rows.append(("damaged",))
            continue
        groups = table["group"].tolist()
        rows += [
            (row["name"].tobytes().hex(), hashlib.sha256(code).hexdigest(), str(groups.count(group)))
            for row, code, group in zip(table, codes, groups, strict=True)
        ]
    for message in index.messages:
        try:
            rows += [("deleted", str(len(store.deleted(message))))] if message.deleted else []
        except MippError:
            rows.append(("damaged",))
    return sorted(rows)


def _cloud(store: Deployment) -> Meaning:
    cloud = Cloud.open(store / "cloud")
    members, index = cloud.members(), cloud.index()
    found: Meaning = {f"cloud knows {each.owner}": sorted(user for user, _ in each.users) for each in members}
    for owner in index.owners():
        found[f"cloud has of {owner}"] = _reach(cloud, index, owner)
    place = store / "cloud" / "index.h5"
    is_sound = run("inspect", place, "--csv").code == 0
    return found | {"cloud indexed": table(place, "upload") if is_sound else "damaged"}


def _reach(cloud: Cloud, index: Index, owner: str) -> tuple[int, ...] | str:
    """Return how many messages of an owner came, how many up to where it is complete, and how many lack."""
    try:
        found = completeness(cloud.store, index, owner)
    except MalformedError:
        return "damaged"
    return _numbers([segment.number for segment in index.of_owner(owner)], found)


def _numbers(numbers: list[int], found: Completeness) -> tuple[int, ...]:
    return len(numbers), sum(number <= found.up_to for number in numbers), len(found.gaps)


def _owner(store: Deployment, name: str) -> Meaning:
    owner = Owner.open(store / name)
    return {
        f"{name} authorised": sorted(user for user, _ in owner.users),
        f"{name} wrote members": table(store / name / "members.h5", "key"),
        f"{name} wrote enrolment": table(store / name / "enrolment.h5", "key"),
        f"{name} sent": _sent(owner),
    }


def _sent(owner: Owner) -> list[tuple[str, ...]]:
    """Return what the owner's ledger says of every picture: sent or deleted.

    What was written by a command that was killed stays in the ledger: whatever comes next decides over it.
    """
    ledger = owner.ledger
    paths = {image.path for message in ledger.messages() for image in ledger.images(message.number)}
    standing = ledger.standing(paths).values()
    return sorted((each.message.kind, each.image.name, each.image.path) for each in standing)


def table(path: Path, *without: str) -> list[tuple[str, ...]]:
    """Return the rows that `mipp inspect` shows, in an order of their own, but for some columns."""
    lines = list(csv.DictReader(io.StringIO(done("inspect", path, "--csv").out)))
    return sorted({tuple(value for name, value in line.items() if name not in without) for line in lines})


def answer(store: Deployment, user: str) -> Any:
    """Ask as a user, all the way to the decrypted pictures; both ways of searching, which must agree."""
    probe, unlocked = store / f"probe-{user}", opening(store / user)
    probe.mkdir()
    try:
        query, results, back = probe / "query.h5", probe / "results.h5", probe / "back.h5"
        done("user", "query", store / user, store / "pictures" / "query.png", "-o", query, *unlocked)
        if store.scheme == "exact":
            return _ranked_answer(store, user, query)
        words = ("cloud", "search", store / "cloud", query, *JOBS)
        found = run(*words, "-o", results)
        if found.code:
            return found.code
        scanned = done(*words, "-o", probe / "scanned.h5", "--without-index")
        assert "matches" in found.out
        assert found.out.splitlines()[1:] == scanned.out.splitlines()[1:]
        answered = run("kmc", "reencrypt", store / "kmc", results, "-o", back)
        return answered.code or decrypted(store, user, back)
    finally:
        shutil.rmtree(probe)


def _ranked_answer(store: Deployment, user: str, query: Path) -> Any:
    """Ask where the KMC ranks; the answer says, too, what was searched of each owner, and what lacks."""
    selection, results, back = (query.with_name(f"{name}.h5") for name in ("selection", "results", "back"))
    ranked = run("kmc", "rank", store / "kmc", query, "-o", selection)
    if ranked.code:
        return ranked.code
    done("cloud", "search", store / "cloud", selection, "-o", results)
    answered = run("kmc", "reencrypt", store / "kmc", results, "-o", back)
    if answered.code:
        return answered.code
    found, place = decrypted(store, user, back), back.with_name("again")
    words = ("user", "decrypt", store / user, back, "-o", place, "--json", *opening(store / user))
    searched = done(*words).json["searched"]
    for fields in searched.values():  # numbers follow the clock
        fields["uploads"], fields["gaps"] = len(fields["uploads"]), len(fields["gaps"])
    return found, sorted(searched.items())


def decrypted(store: Deployment, user: str, back: Path) -> list[tuple[str, ...]]:
    """Return who matched how well, and digests of the pictures themselves."""
    place = back.with_name("decrypted")
    shutil.rmtree(place, ignore_errors=True)
    done("user", "decrypt", store / user, back, "-o", place, "--top", 100, *opening(store / user))
    return matches(place)


def opening(directory: Path) -> tuple[object, ...]:
    """Return the option that opens a directory, whichever of two passphrases it has, if it is protected."""
    if "sealed" not in read_state(directory / "secrets.json"):
        return ()
    choices = [("--passphrase-file", directory.parent / name) for name in PASSPHRASES]
    return next(choice for choice in choices if run("inspect", directory, *choice).code == 0)


def matches(folder: Path) -> list[tuple[str, ...]]:
    """Return what a folder of matches says, with digests of the pictures."""
    lines = list(csv.DictReader(io.StringIO((folder / "matches.csv").read_text())))
    assert (folder / "contact-sheet.png").stat().st_size
    digests = [hashlib.sha256((folder / line["file"]).read_bytes()).hexdigest() for line in lines]
    return [
        (line["owner"], line["name"], line["distance"], digest)
        for line, digest in zip(lines, digests, strict=True)
    ]


def leftovers(root: Path) -> list[str]:
    """Return the temporary files and folders below ``root``, and what no index lists."""
    found = {path for path in root.rglob("*") if _TEMPORARY.fullmatch(path.name)}
    if (root / "cloud" / "index.h5").exists():
        cloud = Cloud.open(root / "cloud")
        found |= {*cloud.store.unlisted(cloud.index())}
    if (root / "kmc" / "features").exists():
        found |= {*_unlisted_features(Kmc.open(root / "kmc"))}
    return sorted(str(path.relative_to(root)) for path in found)


def _unlisted_features(kmc: Kmc) -> Iterator[Path]:
    """Yield the files of features that no index lists; of an owner who is not enrolled, all."""
    for folder in kmc.directory.file("features").iterdir():
        owner = kmc.owner(folder.name)
        if owner is None:
            yield from folder.iterdir()
            continue
        store = FeatureStore.of(kmc, owner)
        with suppress(MalformedError):
            yield from store.unlisted(store.index())
