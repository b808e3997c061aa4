"""Decrypt an answer: ImageDec (Algorithm 2) under USK, ranking by EucDis (Eq. 7), and writing the matches."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mipp_cli.containers.base.header import Header
from mipp_cli.containers.messages.manifest import Manifest, ManifestMatch
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
from mipp_cli.images.dicom import Series, series_of
from mipp_cli.images.kinds import DICOM, Kind, kind_of
from mipp_cli.images.pictures import extension
from mipp_cli.log import timed
from mipp_cli.progress import Advance, Progress, silent
from mipp_cli.report import Output, Report
from mipp_cli.sanitize import safe_file_name
from mipp_cli.scheme.descriptor import Descriptor
from mipp_cli.scheme.envelope import Envelope
from mipp_cli.scheme.parameters import Parameters
from mipp_cli.scheme.similarity import euclidean_distances
from mipp_cli.user.matches import (
    MATCHES_FILE,
    PAGE_FILE,
    SHEET_FILE,
    ShownMatch,
    WrittenMatch,
    draw_page,
    draw_sheet,
    new_output,
    refuse_output,
    write_match,
    write_private,
    write_table,
)
from mipp_cli.user.user import RememberedQuery, remembered_query
from mipp_cli.workdir.directory import RoleDirectory

_MANY = 1000
_SMALL, _SMALLER = (320, 240), (160, 120)
"""Sizes of a picture on the page: the second for more than ``_MANY``, so that the page loads fast."""


class RankedMatch(NamedTuple):
    """A match of one query image; sorts by EucDis, then in the KMC's order or by owner and name.

    ``place`` is the position of the image in the answer.
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
    per_series: int | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> tuple[Report, list[WrittenMatch]]:
    """Decrypt an answer into the folder ``output``: matches.csv, the images, a contact sheet and a page.

    Writes the ``top`` matches of each query image by EucDis. The distances are the KMC's, or are computed
    from the features inside the images, which are then all decrypted. With ``per_series``, a query image
    gets at most so many matches of each DICOM series, and the next matches take the place of the others.
    Malformed images are left out with a warning. Raises TamperedError if the answer was altered,
    WrongDeploymentError or MissingKeyError if it is not for this user.
    """
    if top < 1:
        raise InvalidRequestError("at least one match must be requested", hint="give --top 1 or more")
    if per_series is not None:
        _check_per_series(per_series)
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
        most = top if per_series is None else candidates
        to_write = sum(min(most, each) for each in found.values())
        with progress("decrypting", len(to_rank) + to_write, "image") as advance:
            images, limit = _Images(answer, descriptor, advance), _SeriesLimit(per_series)
            ranked = _rank(manifest.matches, query, images)
            with new_output(output, force=force) as folder:
                found_images = _write_images(ranked, query, images, limit, top, folder)
                written = [match.written for matches in found_images for match in matches]
                told = (*directory.warnings, *warnings_of(manifest), *images.warnings.values())
                told += tuple(_kind_warnings(images, written, per_series))
                facts = _facts(public.parameters, manifest, candidates, top)
                write_table(written, folder / MATCHES_FILE)
                sheet = draw_sheet(query, found_images, candidates, descriptor.label)
                write_private(folder / SHEET_FILE, sheet)
                write_private(folder / PAGE_FILE, draw_page(query, found_images, facts, told))
    outputs = (
        Output(output / MATCHES_FILE, "matches"),
        Output(output / SHEET_FILE, "contact sheet"),
        Output(output / PAGE_FILE, "page"),
        Output(output, "images"),
    )
    counts = {
        "query images": len(ranked),
        "owners searched": sum(owner.images is not None for owner in manifest.owners),
        "images searched": sum(owner.images or 0 for owner in manifest.owners),
        "candidates": candidates,
        "matches": len(written),
        **({} if per_series is None else {"left out by series": limit.left_out}),
    }
    details = {"searched": {owner.name: fields_of(owner) for owner in manifest.owners}}
    return Report(outputs, counts, told, notes=notes_of(manifest), details=details), written


def _check_per_series(per_series: int) -> None:
    if per_series < 1:
        raise InvalidRequestError(
            "at least one match of a series must be requested", hint="give --per-series 1 or more"
        )
    missing = DICOM.missing()
    if missing is not None:
        raise InvalidRequestError("series are read with pydicom, which is not installed", hint=missing)


def _kind_warnings(images: _Images, written: Sequence[WrittenMatch], per_series: int | None) -> Iterator[str]:
    """Yield warnings of matches that need a missing package, and of a limit per series without effect."""
    for kind, count in images.not_read.items():
        matches = _count(count, "match", "matches")
        yield f"{matches} cannot be shown; to read {kind.name} files: {kind.missing()}"
    if per_series is not None and written and not any(match.series for match in written):
        yield "no match is a DICOM file with a series UID, so --per-series had no effect"


def _facts(parameters: Parameters, manifest: Manifest, candidates: int, top: int) -> dict[str, str]:
    """Return what the page says about how the answer came about."""
    searched = [owner for owner in manifest.owners if owner.images is not None]
    names = ", ".join(f"{owner.name} ({owner.images})" for owner in searched)
    images = sum(owner.images or 0 for owner in searched)
    return {
        f"Searched: {_count(images, 'image')} of {_count(len(searched), 'owner')}": names or "nobody",
        "Candidates": _count(candidates, "image"),
        "Shown": "the nearest" + (f", at most {top}" if top > 1 else "") + " for each query image",
        "Compared by": f"Euclidean distance of features ({parameters.descriptor.label})",
        "Scheme": parameters.scheme,
    }


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


@dataclass(frozen=True)
class _Images:
    """Decrypts the images of an answer one at a time.

    ``warnings`` has one for each malformed image. ``not_read`` counts images of kinds that need a missing
    package.
    """

    answer: Answer
    descriptor: Descriptor
    advance: Advance
    warnings: dict[int, str] = field(default_factory=dict)
    not_read: Counter[Kind] = field(default_factory=Counter)

    def open(self, place: int, owner: str, *, with_feature: bool = False) -> Envelope | None:
        """Decrypt an image (ImageDec, Algorithm 2); None if it is malformed. Raises TamperedError."""
        self.advance(1)
        l, levels = self.descriptor.l, self.descriptor.levels
        try:
            envelope = Envelope.unpack(self.answer.envelope(place))
            if with_feature and not self.descriptor.has(envelope.feature):
                raise MalformedError(f"its feature is not {l} codes of {levels} levels")
        except TamperedError:
            raise
        except (MalformedError, UnreadableImageError) as error:
            self.warnings[place] = f"left out a malformed image of {owner}: {error.message}"
            return None
        return envelope


@dataclass
class _SeriesLimit:
    """Passes on at most ``most`` matches of each DICOM series, and all matches without a series."""

    most: int | None
    left_out: int = 0

    def within(
        self, found: Iterable[tuple[RankedMatch, Envelope]]
    ) -> Iterator[tuple[RankedMatch, Envelope, Series]]:
        """Yield the matches of a query image that are within the limit, each with its series."""
        taken: Counter[tuple[str, str]] = Counter()  # by owner: no owner can use up another's limit
        for match, envelope in found:
            series = _series_of(envelope)
            taken[match.owner, series.series] += 1
            if self.most is None or not series.series or taken[match.owner, series.series] <= self.most:
                yield match, envelope, series
            else:
                self.left_out += 1


def _series_of(envelope: Envelope) -> Series:
    if kind_of(envelope.content) == DICOM:
        with suppress(UnreadableImageError):
            return series_of(envelope.content)
    return Series()


@timed("ranking the matches")
def _rank(
    matches: Sequence[ManifestMatch], query: RememberedQuery, images: _Images
) -> list[list[RankedMatch]]:
    """Rank the matches of each query image by EucDis (Eq. 7): the KMC's, or of the images' features."""
    ranked: list[list[RankedMatch]] = [[] for _ in query.pictures]
    to_open: dict[int, list[ManifestMatch]] = {}
    for order, match in enumerate(matches):
        if match.query >= len(query.pictures):
            raise MalformedError("has a match for a query image that does not exist")
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


@timed("decrypting and writing the matches")
def _write_images(
    ranked: Sequence[Sequence[RankedMatch]],
    query: RememberedQuery,
    images: _Images,
    limit: _SeriesLimit,
    top: int,
    folder: Path,
) -> list[list[ShownMatch]]:
    """Write the images of the best matches; return these matches for each query image."""
    few = sum(min(top, len(matches)) for matches in ranked) <= _MANY
    found: list[list[ShownMatch]] = []
    for number, (picture, matches) in enumerate(zip(query.pictures, ranked, strict=True), start=1):
        place = f"query-{number}"
        (folder / place).mkdir(mode=0o700)
        found.append([])
        opened = ((match, images.open(match.place, match.owner)) for match in matches)
        sound = ((match, envelope) for match, envelope in opened if envelope is not None)
        for rank, (match, envelope, series) in enumerate(islice(limit.within(sound), top), start=1):
            kind = kind_of(envelope.content)
            if kind is not None and kind.missing():
                images.not_read[kind] += 1
            suffix = extension(envelope.media_type)
            file = f"{place}/{rank:03d}_{match.owner}_{safe_file_name(envelope.path)}{suffix}"
            said = (picture.name, rank, match.owner, envelope.path, match.distance, file)
            written = WrittenMatch(*said, *series)
            found[-1].append(write_match(written, envelope, folder, _SMALL if few else _SMALLER))
    return found
