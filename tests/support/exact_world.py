"""A small deployment of scheme `exact` whose images, features and groups a test chooses row by row."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import h5py
import numpy as np

from mipp_cli.cloud.cloud import enroll_at_cloud, init_cloud
from mipp_cli.cloud.index import index_containers
from mipp_cli.cloud.search import search
from mipp_cli.containers.base.header import HEAD_BYTES
from mipp_cli.containers.base.writer import Sender
from mipp_cli.containers.messages.delete import write_delete
from mipp_cli.containers.messages.features import write_features
from mipp_cli.containers.messages.manifest import Manifest, SearchedOwner
from mipp_cli.containers.messages.query import Query, features_place, parse_query, write_query
from mipp_cli.containers.messages.reencrypted import AnswerCipher, open_answer, open_reencrypted
from mipp_cli.containers.messages.selection import (
    BroughtRow,
    Selection,
    open_groups,
    read_selection,
    write_groups,
)
from mipp_cli.containers.messages.upload import UploadCipher, write_upload
from mipp_cli.kmc.enroll import enroll_at_kmc
from mipp_cli.kmc.index import index_at_kmc
from mipp_cli.kmc.init import init_kmc
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.kmc.nearest import Collection, NearestMatches
from mipp_cli.kmc.rank import rank
from mipp_cli.kmc.reencrypt import reencrypt
from mipp_cli.kmc.store import FeatureStore
from mipp_cli.owner.init import init_owner
from mipp_cli.owner.owner import Owner
from mipp_cli.progress import silent
from mipp_cli.report import Report
from mipp_cli.scheme.aead import OVERHEAD_BYTES
from mipp_cli.scheme.envelope import Envelope
from mipp_cli.scheme.parameters import Parameters
from mipp_cli.scheme.secret_keys import generate_key, key_id
from mipp_cli.user.user import init_user
from tests.support.forgery import next_number

L, LEVELS = 4, 8
_files = count()

Rows = list[BroughtRow]


@dataclass(frozen=True)
class Row:
    """An image: its name on the wire, its four codes, its content."""

    name: str
    codes: bytes
    content: bytes = b"a picture"


def far(name: str) -> Row:
    """Return an image that is far from every query near zero."""
    return Row(name, bytes([7, 7, 7, 7]))


@dataclass
class Sent:
    """An upload as it was sent: its number, and the two files."""

    number: int
    upload: Path
    features: Path


@dataclass(frozen=True)
class Opened:
    """An answer as its user reads it: the manifest, and the content of every image that it calls real."""

    manifest: Manifest
    images: dict[int, bytes]

    @property
    def contents(self) -> list[bytes]:
        """Contents of the matches, in the order of the manifest."""
        return [self.images[match.image] for match in self.manifest.matches]

    def of(self, owner: str) -> SearchedOwner:
        """What is said of an owner."""
        return next(each for each in self.manifest.owners if each.name == owner)


@dataclass
class World:
    """The directories of all roles, and what queries were made with."""

    root: Path
    usks: dict[str, bytes] = field(default_factory=dict)

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    @property
    def kmc(self) -> Kmc:
        return Kmc.open(self / "kmc")

    @property
    def deployment(self) -> str:
        return self.kmc.directory.deployment.fingerprint

    @property
    def parameters(self) -> Parameters:
        return self.kmc.directory.deployment.parameters

    def sender(self, name: str) -> Sender:
        """Return a role as a sender of containers, to forge what its command would not write."""
        from mipp_cli.workdir.directory import RoleDirectory, role_of

        path = self / name
        return RoleDirectory.open(path, role_of(path) or "").sender

    def file(self, kind: str) -> Path:
        """Return a path that no other file has."""
        return self / f"{kind}-{next(_files)}.h5"

    def copy(self, to: Path) -> World:
        """Return a copy that changes by itself."""
        shutil.copytree(self.root, to)
        return replace(self, root=to)

    def store(self, owner: str) -> FeatureStore:
        """Return what the KMC keeps of an owner."""
        enrolled = self.kmc.owner(owner)
        assert enrolled is not None
        return FeatureStore.of(self.kmc, enrolled)

    def upload(
        self,
        owner: str,
        groups: Sequence[Sequence[Row]],
        *,
        number: int | None = None,
        at_cloud: Sequence[Sequence[Row]] | None = None,
        stated: Callable[[int], int] = lambda length: length,
        digest_of: Callable[[bytes], bytes] = lambda data: hashlib.sha256(data).digest(),
        cloud_key: bytes | None = None,
    ) -> Sent:
        """Write an upload and its features under the owner's keys; ``at_cloud`` has other groups there.

        ``stated`` says the length that the features file tells of a group; ``cloud_key`` encrypts what goes
        to the cloud under another key than the one that the file names.
        """
        role = Owner.open(self / owner)
        number = next_number() if number is None else number
        sender, key = role.directory.sender, role.image_key
        cipher = UploadCipher(cloud_key or key, self.deployment, owner, number)
        sent = Sent(number, self.file("upload"), self.file("features"))
        lengths = {row.name: _length(group) for group in at_cloud or groups for row in group}
        ews = {
            row.name: cipher.encrypt(_envelope(row).pack(lengths[row.name]), row.name)
            for group in at_cloud or groups
            for row in group
        }
        with write_upload(sent.upload, self.parameters, sender, number, key_id(key)) as upload:
            for group in at_cloud or groups:
                for row in group:
                    upload.append(row.name, ews[row.name])
                upload.end_group()
        with write_features(sent.features, L, sender, number, key) as features:
            for group in groups:
                for row in group:
                    codes = np.frombuffer(row.codes, dtype=np.uint8)
                    features.append(row.name, digest_of(ews.get(row.name, row.name.encode())), codes)
                features.end_group(stated(_length(group) + OVERHEAD_BYTES))
        return sent

    def send(self, owner: str, groups: Sequence[Sequence[Row]], **changes: object) -> Sent:
        """Write an upload, and bring it to the cloud and its features to the KMC."""
        sent = self.upload(owner, groups, **changes)
        index_containers(self / "cloud", [sent.upload])
        index_at_kmc(self / "kmc", [sent.features])
        return sent

    def delete(self, owner: str, *names: str, at_cloud: bool = True) -> None:
        """Delete images at the KMC, and at the cloud too."""
        path = self.file("delete")
        write_delete(path, self.sender(owner), next_number(), names)
        index_at_kmc(self / "kmc", [path])
        if at_cloud:
            index_containers(self / "cloud", [path])

    def ask(
        self,
        *codes: bytes,
        user: str = "alice",
        candidates: int = 1,
        owners: Sequence[str] = (),
        query_id: str | None = None,
    ) -> Path:
        """Make a query in a user's name."""
        path = self.file("query")
        query_id = query_id or f"{next_number():032x}"
        usk = self.usks.setdefault(query_id, generate_key())
        write_query(
            path,
            self.parameters,
            self.sender(user),
            query_id,
            codes=np.frombuffer(b"".join(codes), dtype=np.uint8).reshape(-1, L),
            candidates=candidates,
            usk=usk,
            sealing_key=self.kmc.directory.sealing_key,
            owners=owners,
        )
        return path

    def parsed(self, query: Path) -> Query:
        """Return a query as the KMC reads it."""
        return parse_query(query.read_bytes(), self.parameters, self.deployment)

    def rank(self, query: Path, **options: object) -> Path:
        """Rank a query; return the selection."""
        path = self.file("selection")
        self.ranked(query, path, **options)
        return path

    def ranked(self, query: Path, path: Path | None = None, **options: object) -> Report:
        """Rank a query; return what the KMC is told."""
        return rank(self / "kmc", query, path or self.file("selection"), **options)

    def found(self, query: Path) -> NearestMatches:
        """Rank a query in memory, with nothing remembered."""
        kmc, parsed = self.kmc, self.parsed(query)
        user = (parsed.header.sender, parsed.header.sender_key)
        owners = {name: owner for name in kmc.authorising(user)[0] if (owner := kmc.owner(name))}
        place = features_place(self.deployment, parsed.header.sender, parsed.query_id)
        codes = self.parameters.protocol.open_query(
            parsed.features[0], parsed.open_usk(kmc.sealing_keys), place
        )
        return Collection(kmc, owners).nearest(codes, parsed, silent)

    def selected(self, selection: Path) -> Selection:
        """Return what a selection asks for."""
        return read_selection(selection, self.deployment)

    def bring(self, selection: Path, cloud: str = "cloud") -> Path:
        """Have a cloud answer a selection."""
        path = self.file("results")
        search(self / cloud, selection, path)
        return path

    def rows(self, results: Path) -> Rows:
        """Return what results hold."""
        reader = open_groups(results, self.deployment)
        with reader.container:
            names = [name.decode() for name in reader.container.ragged("image_names").all()]
            places = reader.places.tolist()
            ews = [reader.encrypted_image(row) for row in range(len(places))]
            return list(map(BroughtRow, places, names, ews))

    def forge(self, results: Path, rows: Iterable[BroughtRow], *, sender: Sender | None = None) -> Path:
        """Write other rows as the answer to the same selection, under the cloud's key."""
        reader = open_groups(results, self.deployment)
        reader.container.close()
        path = self.file("forged")
        write_groups(path, sender or self.sender("cloud"), reader.container.header.number, rows)
        return path

    def reencrypt(self, results: Path) -> Path:
        """Have the KMC re-encrypt results."""
        path = self.file("answer")
        reencrypt(self / "kmc", results, path)
        return path

    def opened(self, answer: Path, query: Path, user: str = "alice") -> Opened:
        """Open an answer as its user does."""
        parsed = self.parsed(query)
        cipher = AnswerCipher(self.usks[parsed.query_id], self.deployment, user, parsed.query_id)
        with open_reencrypted(answer, self.deployment) as container:
            found = open_answer(container, cipher, parsed.digest)
            real = sorted({match.image for match in found.manifest.matches})
            images = {place: Envelope.unpack(found.envelope(place)).content for place in real}
            return Opened(found.manifest, images)

    def answered(self, query: Path, **options: object) -> Opened:
        """Go the whole way with a query."""
        return self.opened(self.reencrypt(self.bring(self.rank(query, **options))), query)


def _envelope(row: Row) -> Envelope:
    return Envelope(f"{row.name}.png", "image/png", np.empty(0, dtype=np.uint8), row.content)


def _length(group: Sequence[Row]) -> int:
    return max(len(_envelope(row).pack()) for row in group)


def make_world(
    root: Path,
    owners: Sequence[str] = ("north",),
    *,
    group_size: int = 4,
    users: Sequence[str] = ("alice",),
) -> World:
    """Make a KMC, a cloud, owners who authorise every user, and enrol all of them."""
    root.mkdir(parents=True, exist_ok=True)
    public = root / "kmc" / "kmc.pub"
    init_kmc(root / "kmc", scheme="exact", descriptor=f"tiny:{L}:{LEVELS}", group_size=group_size)
    init_cloud(root / "cloud", public)
    for user in users:
        init_user(root / user, user, public)
    for owner in owners:
        init_owner(root / owner, owner, public, authorize=[root / user / "user.pub" for user in users])
    cloud = root / "cloud" / "cloud.pub"
    enroll_at_kmc(root / "kmc", [*(root / owner / "enrolment.h5" for owner in owners), cloud])
    enroll_at_cloud(root / "cloud", [root / owner / "members.h5" for owner in owners])
    return World(root)


def visible(path: Path) -> dict[str, object]:
    """Return every number that a container shows to whoever holds no key, but for ciphertexts and ids."""
    data = path.read_bytes()
    shown: dict[str, object] = {"bytes": len(data)}
    kind, sender = data.split(b"\n")[1:3]
    shown |= {"kind": kind, "sender": sender}
    with h5py.File(io.BytesIO(data[HEAD_BYTES:]), "r") as file:
        shown["attributes"] = {name: int(value) for name, value in file.attrs.items()}

        def note(name: str, node: h5py.Group | h5py.Dataset) -> None:
            if isinstance(node, h5py.Dataset):
                small = name.endswith("offsets") or name in ("places", "uploads", "groups")
                values = node[:].tolist() if small else None
                shown[name] = (node.shape, node.dtype.str, node.chunks, node.id.get_offset(), values)

        file.visititems(note)
    return shown
