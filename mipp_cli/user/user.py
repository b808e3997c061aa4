"""Make a user (UID, AK) and queries, and keep what reading each answer needs."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mipp_cli.containers.base.container import header_of
from mipp_cli.containers.base.source import read_file
from mipp_cli.containers.messages.query import (
    CANDIDATES_LIMIT,
    IMAGES_LIMIT,
    OWNERS_LIMIT,
    QUERY_BYTES_LIMIT,
    write_query,
)
from mipp_cli.descriptors.describer import Describer, codes_of
from mipp_cli.descriptors.edge_histogram import is_edgeless
from mipp_cli.descriptors.external import Codes, OwnFeatures, own_features
from mipp_cli.errors import (
    InvalidRequestError,
    MippError,
    MissingKeyError,
    errors_at,
)
from mipp_cli.files.atomic import discard, refuse_existing, sweep, write_bytes
from mipp_cli.files.folders import is_there
from mipp_cli.images.collection import ImageFile
from mipp_cli.images.pictures import open_picture
from mipp_cli.images.renditions import jpeg
from mipp_cli.images.thumbnails import thumbnail
from mipp_cli.log import timed
from mipp_cli.report import Output, Report
from mipp_cli.scheme.descriptor import Descriptor
from mipp_cli.scheme.parameters import Parameters
from mipp_cli.scheme.secret_keys import KEY_BYTES, generate_key
from mipp_cli.workdir.describer import describer_of, remember_model
from mipp_cli.workdir.directory import SEALING_FILE, RoleDirectory, check_identifier
from mipp_cli.workdir.party import init_party
from mipp_cli.workdir.sealing_key import newer_sealing_key

PUBLIC_FILE = "user.pub"
QUERIES_FOLDER = "queries"
DEFAULT_CANDIDATES = 100
_REMEMBERED = (480, 360)  # largest size of a kept query picture: enough to compare it with a match


@dataclass(frozen=True)
class QueryPicture:
    """A query image as the user keeps it: name, feature, and a small picture to show beside its matches."""

    name: str
    feature: Codes
    small: Image.Image


@dataclass(frozen=True, repr=False)
class RememberedQuery:
    """What the user keeps of a query: USK, the digest of query.h5, and its pictures."""

    usk: bytes
    digest: bytes
    pictures: tuple[QueryPicture, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the query as JSON fields."""
        pictures = [
            {"name": each.name, "feature": each.feature.tolist(), "jpeg": _to_base64(each.small)}
            for each in self.pictures
        ]
        return {"usk": self.usk.hex(), "digest": self.digest.hex(), "pictures": pictures}

    @classmethod
    def from_json(cls, fields: dict[str, Any], descriptor: Descriptor) -> RememberedQuery:
        """Return the query from the fields that :meth:`to_json` returned."""
        pictures = tuple(
            QueryPicture(each["name"], np.array(each["feature"], np.uint8), _picture_of(each))
            for each in fields["pictures"]
        )
        usk, digest = bytes.fromhex(fields["usk"]), bytes.fromhex(fields["digest"])
        sound = all(descriptor.has(each.feature) and isinstance(each.name, str) for each in pictures)
        if not pictures or not sound or len(usk) != KEY_BYTES:
            raise ValueError("not a valid query")
        return cls(usk, digest, pictures)


def _to_base64(picture: Image.Image) -> str:
    return base64.b64encode(jpeg(picture)).decode("ascii")


def _picture_of(fields: dict[str, Any]) -> Image.Image:
    return open_picture(base64.b64decode(fields["jpeg"]), path=None).shown.convert("RGB")


def init_user(
    path: Path, name: str, kmc: Path, *, model: Path | None = None, fingerprints: Sequence[str] = ()
) -> Report:
    """Make a user's directory, with user.pub for the owners who are to authorise the user.

    ``model`` is the user's copy of the deployment's model, if it has one.
    """
    check_identifier(name, "a user's identifier")

    def fill(made: RoleDirectory) -> None:
        remember_model(made, made.deployment.parameters, model)
        made.folder(QUERIES_FOLDER)

    return init_party(path, "user", name, kmc, fingerprints, fill)


def update_kmc_key(path: Path, file: Path) -> Report:
    """Accept the KMC's renewed sealing key, to which queries are sealed from now on."""
    directory = RoleDirectory.open(path, "user")
    with directory.lock():
        text, _ = newer_sealing_key(directory, file)
        write_bytes(directory.file(SEALING_FILE), text, force=True)
    output = Output(directory.file(SEALING_FILE), "sealing.pub")
    return Report((output,), {}, directory.warnings)


def make_query(
    path: Path,
    images: Sequence[ImageFile],
    output: Path,
    *,
    candidates: int = DEFAULT_CANDIDATES,
    owners: Sequence[str] = (),
    force: bool = False,
    features: Path | None = None,
    model: Path | None = None,
    device: str = "cpu",
) -> Report:
    """Make a query of one or several images: encrypted features, and a fresh USK sealed to the KMC.

    The user's directory records what reading the answer needs before the query is written. ``owners`` are
    those to search; empty means all who authorised the user. ``features`` is a file of the user's own
    features. ``model`` is the new path of the user's copy of the deployment's model, if it moved, and
    ``device`` is what runs it.
    """
    refuse_existing(output, force=force)
    directory = RoleDirectory.open(path, "user")
    directory.refuse_inside(output)
    parameters = directory.deployment.parameters
    if not 1 <= candidates <= CANDIDATES_LIMIT:
        raise InvalidRequestError(
            f"a query cannot ask for {candidates} candidates", hint=f"ask for 1 to {CANDIDATES_LIMIT}"
        )
    if len(images) > IMAGES_LIMIT:
        raise InvalidRequestError(
            f"a query cannot have more than {IMAGES_LIMIT} images", hint="make several queries"
        )
    if len(set(owners)) > OWNERS_LIMIT:
        raise InvalidRequestError(
            f"a query cannot name more than {OWNERS_LIMIT} owners", hint="name fewer owners"
        )
    for owner in owners:
        check_identifier(owner, "an owner's identifier")
    _check_size(len(images), candidates, parameters)
    with own_features(features, images, parameters.descriptor) as own:
        describer = describer_of(directory, own, model, device)
        pictures = tuple(_describe(image, describer, own) for image in images)
        clipped = [own.clipped_warning] if own and own.clipped else []
    codes = np.stack([picture.feature for picture in pictures])
    query_id, usk = secrets.token_hex(16), generate_key()
    sweep(directory.folder(QUERIES_FOLDER))
    state = f"{QUERIES_FOLDER}/{query_id}.json"

    def remember(query: Path) -> None:
        digest = hashlib.sha256(read_file(query, QUERY_BYTES_LIMIT)).digest()
        directory.write_json(state, RememberedQuery(usk, digest, pictures).to_json())

    try:
        write_query(
            output,
            parameters,
            directory.sender,
            query_id,
            codes=codes,
            candidates=candidates,
            usk=usk,
            sealing_key=directory.sealing_key,
            owners=set(owners),
            force=force,
            before_it_is_out=remember,
        )
    except BaseException:
        if not _is_there(output, query_id):
            discard(directory.file(state))
        raise
    warnings = [*parameters.warnings, *clipped]
    edgeless = [each.name for each in pictures if is_edgeless(parameters.descriptor, each.feature)]
    warnings += [f"{name} has no edges, so its matches are meaningless" for name in edgeless]
    counts = {"query images": len(pictures), "candidates": candidates, "edgeless": len(edgeless)}
    return Report((Output(output, "query"),), counts, tuple(warnings))


def _check_size(images: int, candidates: int, parameters: Parameters) -> None:
    protocol = parameters.protocol
    protocol.check_matches(images * candidates)
    most = QUERY_BYTES_LIMIT // sum(protocol.query_columns.values()) - 1
    if images > most:
        raise InvalidRequestError(
            f"{images} query images would make a query of more than {QUERY_BYTES_LIMIT >> 20} MB",
            hint=f"with this scheme and descriptor, a query can have at most {most} images",
        )


def _is_there(output: Path, query_id: str) -> bool:
    """Return whether the query was written: the interruption may have come after its rename."""
    try:
        return header_of(output).number == query_id
    except MippError:
        return False


def remembered_query(directory: RoleDirectory, query_id: str) -> RememberedQuery:
    """Return what the user keeps of a query; raises MissingKeyError if nothing."""
    state = f"{QUERIES_FOLDER}/{query_id}.json"
    if not is_there(directory.file(state)):
        raise MissingKeyError(
            "answers a query that this user did not make or has forgotten",
            hint="decrypt it in the directory of the user who made the query",
        )
    descriptor = directory.deployment.parameters.descriptor
    return directory.load(
        state,
        lambda fields: RememberedQuery.from_json(fields, descriptor),
        "restore it from a backup, or make the query again",
    )


@timed("describing an example image")
def _describe(image: ImageFile, describer: Describer, own: OwnFeatures | None) -> QueryPicture:
    with errors_at(image.path):
        picture = open_picture(image.read(), path=str(image.path))
        feature = codes_of(describer, picture.eight_bits()) if own is None else own.codes(image)
        return QueryPicture(image.name, feature, thumbnail(picture.shown, _REMEMBERED))
