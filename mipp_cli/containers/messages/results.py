"""`results` (cloud → KMC, sum schemes): the bytes of the query, ER, the Sim of each match, the owners."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mipp_cli.containers.base.columns import Matrix, Ragged
from mipp_cli.containers.base.container import Check, Container, Schema, closed_on_failure, open_container
from mipp_cli.containers.base.writer import Sender, write_container
from mipp_cli.containers.messages.query import QUERY_BYTES_LIMIT
from mipp_cli.containers.messages.upload import NAME_LIMIT, check_names
from mipp_cli.errors import MalformedError

_MATCHES_LIMIT = 2**27
_OWNERS_LIMIT = 2**20

RESULTS = Schema(
    "results",
    {
        "ER": Ragged(),
        "query": Matrix("u1"),
        "image_owners": Ragged(limit=64),
        "image_names": Ragged(limit=NAME_LIMIT),
        "image_uploads": Matrix("<u8"),
        "image_keys": Matrix("<u8"),
        "match_queries": Matrix("<u4"),
        "match_images": Matrix("<u4"),
        "match_sims": Matrix("<f8"),
        "searched_owners": Ragged(limit=64),
        "searched_images": Matrix("<u8"),
    },
)


@dataclass(frozen=True)
class ImageRef:
    """An encrypted image at the cloud: owner, name, and the upload and image key it was encrypted under."""

    owner: str
    name: str
    upload: int
    key_id: int


@dataclass(frozen=True)
class Match:
    """A match: the query image, the position of the image in ER, and Sim (Eq. 9)."""

    query: int
    image: int
    sim: float


def write_results(
    path: Path,
    sender: Sender,
    query_id: str,
    query: bytes,
    images: Iterable[tuple[ImageRef, bytes]],
    matches: list[Match],
    searched: Mapping[str, int],
    *,
    force: bool = False,
) -> None:
    """Write `results`; ``images`` yields each image once, with its EW, in the order of the positions in ER.

    ``searched`` is the number of images ranked by owner.
    """
    with write_container(path, RESULTS, sender, query_id, force=force) as writer:
        writer.add(
            query=query,
            match_queries=[match.query for match in matches],
            match_images=[match.image for match in matches],
            match_sims=[match.sim for match in matches],
            searched_owners=list(searched),
            searched_images=list(searched.values()),
        )
        for ref, ew in images:
            writer.add(
                ER=[ew],
                image_owners=[ref.owner],
                image_names=[ref.name],
                image_uploads=[ref.upload],
                image_keys=[ref.key_id],
            )


@dataclass(frozen=True)
class ResultsReader:
    """Open `results`: the query's bytes, the matching images, and the matches."""

    container: Container
    query_data: bytes
    images: list[ImageRef]
    matches: list[Match]
    searched: dict[str, int]

    def encrypted_image(self, number: int) -> bytes:
        """Return EW of one image."""
        return self.container.ragged("ER").row(number)


def open_results(path: Path, deployment: str, check: Check | None = None) -> ResultsReader:
    """Read and verify `results`; the caller closes the reader's container."""
    container = open_container(path, RESULTS, deployment=deployment, check=check)
    with closed_on_failure(container):
        images = _read_images(container)
        matches = _read_matches(container, len(images))
        query = container.data("query", QUERY_BYTES_LIMIT)
        return ResultsReader(container, query, images, matches, _read_searched(container))


def _read_searched(container: Container) -> dict[str, int]:
    if container.same_length("searched_owners", "searched_images") > _OWNERS_LIMIT:
        raise MalformedError("lists too many owners as searched")
    owners = container.identifiers("searched_owners", "an owner")
    if len(set(owners)) != len(owners):
        raise MalformedError("lists an owner as searched twice")
    return dict(zip(owners, container.whole_numbers("searched_images"), strict=True))


def _read_images(container: Container) -> list[ImageRef]:
    columns = ("ER", "image_owners", "image_names", "image_uploads", "image_keys")
    if container.same_length(*columns) > _MATCHES_LIMIT:
        raise MalformedError("contains more images than an answer can have")
    owners = container.identifiers("image_owners", "an owner")
    names = [check_names([row])[0] for row in container.ragged("image_names").all()]
    uploads, keys = (container.whole_numbers(name) for name in ("image_uploads", "image_keys"))
    refs = [ImageRef(*fields) for fields in zip(owners, names, uploads, keys, strict=True)]
    if len({(ref.owner, ref.name) for ref in refs}) != len(refs):
        raise MalformedError("contains an image twice")
    return refs


def _read_matches(container: Container, images: int) -> list[Match]:
    columns = ("match_queries", "match_images", "match_sims")
    if container.same_length(*columns) > _MATCHES_LIMIT:
        raise MalformedError("contains more matches than an answer can have")
    rows = zip(*(container.matrix(column).all().tolist() for column in columns), strict=True)
    matches = [Match(query, image, sim) for query, image, sim in rows]
    if any(match.image >= images or not 0 <= match.sim < float("inf") for match in matches):
        raise MalformedError("has a match with an image that it does not contain, or with an invalid Sim")
    if len({(match.query, match.image) for match in matches}) != len(matches):
        raise MalformedError("matches an image twice with the same query image")
    return matches
