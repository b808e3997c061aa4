"""A cloud's store as tests see it: messages made in owners' names, and what the index holds then."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mipp_cli.containers.messages.delete import write_delete
from mipp_cli.containers.messages.selection import open_groups, read_selection
from mipp_cli.containers.store.index import Index, read_index
from tests.support.deployment import JOBS, Deployment, done, refused, snapshot
from tests.support.forgery import (
    Contents,
    Picture,
    contents_of,
    features_beside,
    forge_query,
    forge_upload,
    next_number,
    random_feature,
)

Row = tuple[str, str, str, str]


def index(deployment: Deployment, *words: object) -> dict[str, int]:
    """Apply messages, and return what the cloud counted and is not nothing.

    In scheme `exact` the KMC gets what is for it, too.
    """
    counts = done("cloud", "index", deployment / "cloud", *words, "--json", *JOBS).json["counts"]
    bring_to_the_kmc(deployment, *(word for word in words if isinstance(word, Path)))
    return {name: count for name, count in counts.items() if count}


def bring_to_the_kmc(deployment: Deployment, *messages: Path) -> None:
    """Let the KMC index what it gets of messages in scheme `exact`: features of uploads, and deletions."""
    if deployment.scheme == "exact" and messages:
        beside = ((message, features_beside(message)) for message in messages)
        files = (features if features.exists() else message for message, features in beside)
        done("kmc", "index", deployment / "kmc", *files)


def refuse(deployment: Deployment, code: int, words: str, *files: object) -> str:
    """Demand that the cloud refuses all of the files and is as it was; return what it said."""
    before = snapshot(deployment / "cloud")
    outcome = refused(code, "cloud", "index", deployment / "cloud", *files, *JOBS)
    assert words in outcome.err
    assert snapshot(deployment / "cloud") == before
    return outcome.err


def rows(deployment: Deployment) -> set[Row]:
    """Return (owner, image, Σx, Σx²) of every image in the index; without sums in scheme `exact`."""
    lines = done("inspect", deployment / "cloud" / "index.h5", "--csv").out.splitlines()[1:]
    found = [(*line.split(","), "", "") for line in lines]
    assert len(set(found)) == len(found)
    return {(row[0], row[1], row[2], row[3]) for row in found}


def names(deployment: Deployment, owner: str) -> set[str]:
    """Return the names of an owner's images in the index."""
    return {row[1] for row in rows(deployment) if row[0] == owner}


def upload_of(
    deployment: Deployment,
    owner: str,
    *image_ids: str,
    seed: int = 0,
    number: int | None = None,
    earlier: Sequence[int] = (),
) -> Path:
    """Make an upload of images with the features of ``seed`` and the numbers after it."""
    images = [
        (name, Picture().envelope(), random_feature(seed + place)) for place, name in enumerate(image_ids)
    ]
    path = deployment / f"{owner}-{next_number()}.h5"
    return forge_upload(deployment, owner, images, path, number=number, earlier=earlier)


def deletion_of(
    deployment: Deployment,
    owner: str,
    *image_ids: str,
    number: int | None = None,
    earlier: Sequence[int] = (),
) -> Path:
    """Make a deletion."""
    path = deployment / f"{owner}-{next_number()}.delete.h5"
    number = next_number() if number is None else number
    write_delete(path, deployment.sender(owner), number, image_ids, earlier=earlier)
    return path


def expected_row(deployment: Deployment, owner: str, name: str, seed: int) -> Row:
    """Return the row of an image with the feature of ``seed``."""
    if deployment.scheme == "exact":
        return owner, name, "", ""
    codes = random_feature(seed).astype(int)
    return owner, name, str(codes.sum()), str((codes**2).sum())


def read_store(deployment: Deployment) -> Index:
    """Return what index.h5 lists."""
    return read_index(deployment / "cloud" / "index.h5", deployment.public.fingerprint)


def check_searches(deployment: Deployment) -> None:
    """Demand that alice finds every image of north and south, and that index and ciphertexts agree on it."""
    listed = {row[:2] for row in rows(deployment) if row[0] in ("north", "south")}
    if deployment.scheme == "exact":
        assert found_by_groups(deployment) == listed
        return
    feature = random_feature(7)[None]
    query = forge_query(deployment, "alice", feature, deployment / f"{next_number()}.h5", candidates=1000)
    slow = deployment / f"{next_number()}.h5"
    done("cloud", "search", deployment / "cloud", query, "-o", slow, "--without-index", *JOBS)
    found = contents_of(deployment, deployment.search(query))
    assert _answer(contents_of(deployment, slow)) == _answer(found)
    assert {(ref.owner, ref.name) for ref, _ in found.images} == listed


def found_by_groups(deployment: Deployment, user: str = "alice") -> set[tuple[str, str]]:
    """Return owner and name of every image that the cloud brings if a user asks for all (scheme `exact`).

    All of them must match, be there, and be what their owners sent.
    """
    query = forge_query(
        deployment, user, random_feature(7)[None], deployment / f"{next_number()}.h5", candidates=1000
    )
    results = deployment.search(query)
    groups = read_selection(query.with_suffix(".selection.h5"), deployment.public.fingerprint).groups
    reader = open_groups(results, deployment.public.fingerprint)
    with reader.container:
        found = {
            (groups[place].owner, name)
            for place in range(len(groups))
            for name in reader.names(reader.rows_at(place))
        }
        assert len(found) == len(reader.places)
    words = ("kmc", "reencrypt", deployment / "kmc", results, "-o", query.with_suffix(".answer.h5"))
    counts = done(*words, "--json").json["counts"]
    assert (counts["bad"], counts["missing"], counts["withdrawn"]) == (0, 0, 0)
    return found


def _answer(contents: Contents) -> tuple[object, ...]:
    """Return what results say, whatever the order of the images, which is that of the store."""
    images = [(ref.owner, ref.name) for ref, _ in contents.images]
    matches = {(match.query, images[match.image], match.sim) for match in contents.matches}
    return contents.query, set(contents.images), matches
