"""A cloud's store as tests see it: messages made in owners' names, and what the index holds then."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mipp_cli.containers.delete import write_delete
from mipp_cli.containers.index import Index, read_index
from tests.deployment import JOBS, Deployment, done, refused, snapshot
from tests.roles.forgery import (
    Contents,
    Picture,
    contents_of,
    forge_query,
    forge_upload,
    next_number,
    random_feature,
)

Row = tuple[str, str, str, str]


def index(deployment: Deployment, *words: object) -> dict[str, int]:
    """Apply messages, and return what was counted and is not nothing."""
    counts = done("cloud", "index", deployment / "cloud", *words, "--json", *JOBS).json["counts"]
    return {name: count for name, count in counts.items() if count}


def refuse(deployment: Deployment, code: int, words: str, *files: object) -> str:
    """Demand that the cloud refuses all of the files and is as it was; return what it said."""
    before = snapshot(deployment / "cloud")
    outcome = refused(code, "cloud", "index", deployment / "cloud", *files, *JOBS)
    assert words in outcome.err
    assert snapshot(deployment / "cloud") == before
    return outcome.err


def rows(deployment: Deployment) -> set[Row]:
    """Return (owner, image, Σx, Σx²) of every image in the index."""
    lines = done("inspect", deployment / "cloud" / "index.h5", "--csv").out.splitlines()[1:]
    found = [tuple(line.split(",")) for line in lines]
    assert len(set(found)) == len(found)
    return {(owner, name, sum1, sum2) for owner, name, sum1, sum2 in found}


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


def expected_row(owner: str, name: str, seed: int) -> Row:
    """Return the row of an image with the feature of ``seed``."""
    codes = random_feature(seed).astype(int)
    return owner, name, str(codes.sum()), str((codes**2).sum())


def read_store(deployment: Deployment) -> Index:
    """Return what index.h5 lists."""
    return read_index(deployment / "cloud" / "index.h5", deployment.public.fingerprint)


def check_searches(deployment: Deployment) -> None:
    """Demand that index and ciphertexts give alice one answer: every image of north and south."""
    feature = random_feature(7)[None]
    query = forge_query(deployment, "alice", feature, deployment / f"{next_number()}.h5", candidates=1000)
    slow = deployment / f"{next_number()}.h5"
    done("cloud", "search", deployment / "cloud", query, "-o", slow, "--without-index", *JOBS)
    found = contents_of(deployment, deployment.search(query))
    assert _answer(contents_of(deployment, slow)) == _answer(found)
    listed = {row[:2] for row in rows(deployment) if row[0] in ("north", "south")}
    assert {(ref.owner, ref.name) for ref, _ in found.images} == listed


def _answer(contents: Contents) -> tuple[object, ...]:
    """Return what results say, whatever the order of the images, which is that of the store."""
    images = [(ref.owner, ref.name) for ref, _ in contents.images]
    matches = {(match.query, images[match.image], match.sim) for match in contents.matches}
    return contents.query, set(contents.images), matches
