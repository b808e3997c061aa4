"""The user's last step: ImageDec under USK, ranking by EucDis (Eq. 7), and the matches as files."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mipp_cli.containers.base.header import Header
from mipp_cli.containers.messages.manifest import ManifestMatch
from mipp_cli.containers.messages.reencrypted import Answer, AnswerCipher, open_answer, open_reencrypted
from mipp_cli.containers.messages.searched import fields_of, notes_of, warnings_of
from mipp_cli.errors import (
    InvalidRequestError,
    MalformedError,
    TamperedError,
    UnreadableImageError,
    WrongDeploymentError,
    errors_at,
)
from mipp_cli.images.contact_sheet import Tile
from mipp_cli.images.pictures import extension
from mipp_cli.progress import Advance, Progress, silent
from mipp_cli.report import Output, Report
from mipp_cli.sanitize import safe_file_name
from mipp_cli.scheme.descriptor import Descriptor
from mipp_cli.scheme.envelope import Envelope
from mipp_cli.scheme.similarity import euclidean_distances
from mipp_cli.user.matches import (
    MATCHES_FILE,
    SHEET_FILE,
    WrittenMatch,
    draw_sheet,
    new_output,
    refuse_output,
    small_picture,
    write_private,
    write_table,
)
from mipp_cli.user.user import RememberedQuery, remembered_query
from mipp_cli.workdir.directory import RoleDirectory


@dataclass(frozen=True, order=True)
class RankedMatch:
    """A match of one query image, ranked by EucDis; ties in the KMC's order, or by owner and image.

    ``place`` is that of the image in the answer.
    """

    distance: float
    order: int
    owner: str
    name: str
    place: int


def decrypt_answer(
    path: Path,
    reencrypted: Path,
    output: Path,
    *,
    top: int = 10,
    force: bool = False,
    progress: Progress = silent,
) -> tuple[Report, list[WrittenMatch]]:
    """Decrypt an answer into the folder ``output``: matches.csv, the images, and a contact sheet.

    For each query image the ``top`` matches, ranked by EucDis: as the KMC says, or of the features that the
    images carry. An image that its owner made wrongly is left out with a warning. Raises TamperedError if
    the answer is not whole, WrongDeploymentError or MissingKeyError if it is not this user's.
    """
    if top < 1:
        raise InvalidRequestError("at least one match must be asked for", hint="give --top 1 or more")
    refuse_output(output, force=force)
    directory = RoleDirectory.open(path, "user")
    directory.refuse_inside(output)
    descriptor = directory.deployment.parameters.features
    with errors_at(reencrypted):
        container = open_reencrypted(reencrypted, directory.deployment.fingerprint, _check_kmc(directory))
        with container:
            query_id = container.header.number
            query = remembered_query(directory, query_id)
            cipher = AnswerCipher(query.usk, directory.deployment.fingerprint, directory.name, query_id)
            answer = open_answer(container, cipher, query.digest)
            candidates = len({match.image for match in answer.manifest.matches})
            with progress("decrypting", candidates, "image") as advance:
                ranked, warnings = _rank(answer, query, descriptor, advance)
            with new_output(output, force=force) as folder:
                rows = [matches[:top] for matches in ranked]
                written, tiles = _write_images(answer, query, rows, folder)
                write_table(written, folder / MATCHES_FILE)
                sheet = draw_sheet(query, tiles, candidates, descriptor.name)
                write_private(folder / SHEET_FILE, sheet)
    outputs = (
        Output(output / MATCHES_FILE, "matches"),
        Output(output / SHEET_FILE, "contact sheet"),
        Output(output, "images"),
    )
    manifest = answer.manifest
    counts = {
        "query images": len(rows),
        "owners searched": sum(owner.images is not None for owner in manifest.owners),
        "images searched": sum(owner.images or 0 for owner in manifest.owners),
        "candidates": candidates,
        "matches": len(written),
    }
    told = (*directory.warnings, *warnings_of(manifest), *warnings)
    details = {"searched": {owner.name: fields_of(owner) for owner in manifest.owners}}
    return Report(outputs, counts, told, notes=notes_of(manifest), details=details), written


def _check_kmc(directory: RoleDirectory) -> Callable[[Header], None]:
    def check(header: Header) -> None:
        if header.sender_key != directory.deployment.signing_key:
            raise WrongDeploymentError(
                "is not signed by the KMC of this deployment", hint="ask the cloud for the KMC's answer"
            )

    return check


def _rank(
    answer: Answer, query: RememberedQuery, descriptor: Descriptor, advance: Advance
) -> tuple[list[list[RankedMatch]], list[str]]:
    """Rank the matches of each query image by EucDis; images are decrypted one at a time."""
    matches_of: dict[int, list[tuple[int, ManifestMatch]]] = {}
    for order, match in enumerate(answer.manifest.matches):
        if match.query >= len(query.pictures):
            raise MalformedError("matches a query image that there was not")
        matches_of.setdefault(match.image, []).append((order, match))
    ranked: list[list[RankedMatch]] = [[] for _ in query.pictures]
    warnings = []
    for place, matches in matches_of.items():
        advance(1)
        owner = matches[0][1].owner
        try:
            envelope = Envelope.unpack(answer.envelope(place))
            distances = [_distance(envelope, match, query, descriptor) for _, match in matches]
        except (MalformedError, UnreadableImageError) as error:
            if isinstance(error, TamperedError):
                raise
            warnings.append(f"left out an image of {owner} that was made wrongly: {error.message}")
            continue
        for (order, match), distance in zip(matches, distances, strict=True):
            known = order if match.distance is not None else 0
            ranked[match.query].append(RankedMatch(distance, known, owner, envelope.path, place))
    return [sorted(matches) for matches in ranked], warnings


def _distance(
    envelope: Envelope, match: ManifestMatch, query: RememberedQuery, descriptor: Descriptor
) -> float:
    """Return the distance that the KMC found, or else that of the feature which the image carries."""
    if match.distance is not None:
        return math.sqrt(match.distance)
    if not descriptor.has(envelope.feature):
        raise MalformedError(f"its feature is not {descriptor.l} codes of {descriptor.levels} levels")
    return float(euclidean_distances(envelope.feature[np.newaxis], query.pictures[match.query].feature)[0])


def _write_images(
    answer: Answer, query: RememberedQuery, rows: Sequence[Sequence[RankedMatch]], folder: Path
) -> tuple[list[WrittenMatch], list[list[Tile]]]:
    """Write the images of the matches, and return the lines of matches.csv and the sheet's tiles."""
    written: list[WrittenMatch] = []
    tiles: list[list[Tile]] = []
    for number, matches in enumerate(rows):
        picture_name = query.pictures[number].name
        place = folder / f"query-{number + 1}"
        place.mkdir(mode=0o700)
        tiles.append([])
        for rank, match in enumerate(matches, start=1):
            envelope = Envelope.unpack(answer.envelope(match.place))
            suffix = extension(envelope.media_type)
            file = place / f"{rank:03d}_{match.owner}_{safe_file_name(envelope.path)}{suffix}"
            write_private(file, envelope.content)
            relative = file.relative_to(folder).as_posix()
            written.append(
                WrittenMatch(picture_name, rank, match.owner, match.name, match.distance, relative)
            )
            small = small_picture(envelope.content)
            tiles[-1].append(Tile(rank, match.owner, envelope.path, match.distance, small))
    return written, tiles
