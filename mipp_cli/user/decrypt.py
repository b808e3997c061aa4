"""The user's last step: ImageDec under USK, ranking by EucDis (Eq. 7), and the matches as files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

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


class RankedMatch(NamedTuple):
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
    images carry, for which all of them are decrypted. An image that its owner made wrongly is left out with
    a warning. Raises TamperedError if the answer is not whole, WrongDeploymentError or MissingKeyError if it
    is not this user's.
    """
    if top < 1:
        raise InvalidRequestError("at least one match must be asked for", hint="give --top 1 or more")
    refuse_output(output, force=force)
    directory = RoleDirectory.open(path, "user")
    directory.refuse_inside(output)
    public = directory.deployment

    def check_kmc(header: Header) -> None:
        if header.sender_key != public.signing_key:
            raise WrongDeploymentError(
                "is not signed by the KMC of this deployment", hint="ask the cloud for the KMC's answer"
            )

    with errors_at(reencrypted), open_reencrypted(reencrypted, public.fingerprint, check_kmc) as container:
        query_id = container.header.number
        query = remembered_query(directory, query_id)
        cipher = AnswerCipher(query.usk, public.fingerprint, directory.name, query_id)
        answer = open_answer(container, cipher, query.digest)
        manifest, descriptor = answer.manifest, public.parameters.descriptor
        candidates = len({match.image for match in manifest.matches})
        to_rank = {match.image for match in manifest.matches if match.distance is None}
        found = Counter(match.query for match in manifest.matches)
        to_write = sum(min(top, each) for each in found.values())
        with progress("decrypting", len(to_rank) + to_write, "image") as advance:
            images = _Images(answer, descriptor, advance)
            ranked = _rank(manifest.matches, query, images)
            with new_output(output, force=force) as folder:
                written, tiles = _write_images(ranked, query, images, top, folder)
                write_table(written, folder / MATCHES_FILE)
                write_private(folder / SHEET_FILE, draw_sheet(query, tiles, candidates, descriptor.name))
    outputs = (
        Output(output / MATCHES_FILE, "matches"),
        Output(output / SHEET_FILE, "contact sheet"),
        Output(output, "images"),
    )
    counts = {
        "query images": len(ranked),
        "owners searched": sum(owner.images is not None for owner in manifest.owners),
        "images searched": sum(owner.images or 0 for owner in manifest.owners),
        "candidates": candidates,
        "matches": len(written),
    }
    told = (*directory.warnings, *warnings_of(manifest), *images.warnings.values())
    details = {"searched": {owner.name: fields_of(owner) for owner in manifest.owners}}
    return Report(outputs, counts, told, notes=notes_of(manifest), details=details), written


@dataclass(frozen=True)
class _Images:
    """The images of an answer, decrypted one at a time, and what is to be said of those made wrongly."""

    answer: Answer
    descriptor: Descriptor
    advance: Advance
    warnings: dict[int, str] = field(default_factory=dict)

    def open(self, place: int, owner: str, *, with_feature: bool = False) -> Envelope | None:
        """Decrypt an image; None if its owner made it wrongly. Raises TamperedError."""
        self.advance(1)
        l, levels = self.descriptor.l, self.descriptor.levels
        try:
            envelope = Envelope.unpack(self.answer.envelope(place))
            if with_feature and not self.descriptor.has(envelope.feature):
                raise MalformedError(f"its feature is not {l} codes of {levels} levels")
        except TamperedError:
            raise
        except (MalformedError, UnreadableImageError) as error:
            self.warnings[place] = f"left out an image of {owner} that was made wrongly: {error.message}"
            return None
        return envelope


def _rank(
    matches: Sequence[ManifestMatch], query: RememberedQuery, images: _Images
) -> list[list[RankedMatch]]:
    """Rank the matches of each query image by EucDis: that of the KMC, or of the features in the images."""
    ranked: list[list[RankedMatch]] = [[] for _ in query.pictures]
    to_open: dict[int, list[ManifestMatch]] = {}
    for order, match in enumerate(matches):
        if match.query >= len(query.pictures):
            raise MalformedError("matches a query image that there was not")
        if match.distance is None:
            to_open.setdefault(match.image, []).append(match)
        else:
            distance = math.sqrt(match.distance)
            ranked[match.query].append(RankedMatch(distance, order, match.owner, "", match.image))
    for place, of_image in to_open.items():
        owner = of_image[0].owner
        envelope = images.open(place, owner, with_feature=True)
        if envelope is not None:
            for match in of_image:
                feature = query.pictures[match.query].feature
                distance = float(euclidean_distances(envelope.feature[np.newaxis], feature)[0])
                ranked[match.query].append(RankedMatch(distance, 0, owner, envelope.path, place))
    return [sorted(each) for each in ranked]


def _write_images(
    ranked: Sequence[Sequence[RankedMatch]], query: RememberedQuery, images: _Images, top: int, folder: Path
) -> tuple[list[WrittenMatch], list[list[Tile]]]:
    """Write the images of the best matches, and return the lines of matches.csv and the sheet's tiles."""
    written: list[WrittenMatch] = []
    tiles: list[list[Tile]] = []
    for number, (picture, matches) in enumerate(zip(query.pictures, ranked, strict=True), start=1):
        place = folder / f"query-{number}"
        place.mkdir(mode=0o700)
        tiles.append([])
        opened = ((match, images.open(match.place, match.owner)) for match in matches)
        sound = ((match, envelope) for match, envelope in opened if envelope is not None)
        for rank, (match, envelope) in enumerate(islice(sound, top), start=1):
            suffix = extension(envelope.media_type)
            file = place / f"{rank:03d}_{match.owner}_{safe_file_name(envelope.path)}{suffix}"
            write_private(file, envelope.content)
            relative, distance = file.relative_to(folder).as_posix(), match.distance
            written.append(WrittenMatch(picture.name, rank, match.owner, envelope.path, distance, relative))
            small = small_picture(envelope.content)
            tiles[-1].append(Tile(rank, match.owner, envelope.path, distance, small))
    return written, tiles
