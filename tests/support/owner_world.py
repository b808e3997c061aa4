"""An owner of scheme `exact` with pictures of its own, whose groups and files tests look at."""

from __future__ import annotations

import hashlib
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from mipp_cli.containers.base.container import open_container
from mipp_cli.containers.messages.features import FeatureCipher, open_features
from mipp_cli.containers.messages.upload import UploadReader, upload_schema
from mipp_cli.images.collection import ImageFile
from mipp_cli.owner.encrypt import encrypt_images
from mipp_cli.owner.ledger import Ledger
from mipp_cli.owner.owner import Owner
from mipp_cli.owner.whats_new import EncryptOptions
from mipp_cli.report import Report
from tests.owner.test_descriptions import watched
from tests.support.deployment import JOBS, Outcome, done, picture, run

Groups = list[list[str]]


class Stated(NamedTuple):
    """What an upload and its features file say of the same rows, each by itself."""

    number: int
    earlier: tuple[int, ...]
    ends: list[int]
    names: list[bytes]  # SHA-256 of each
    images: list[bytes]  # SHA-256 of each ciphertext
    lengths: list[int]  # of each row


@dataclass(frozen=True)
class OwnerWorld:
    """A folder with a KMC, the owner north, and its pictures."""

    root: Path

    @property
    def north(self) -> Path:
        """The owner's directory."""
        return self.root / "north"

    @property
    def pictures(self) -> Path:
        """The owner's pictures."""
        return self.root / "pictures"

    @property
    def owner(self) -> Owner:
        """The owner, as its directory is now."""
        return Owner.open(self.north)

    @property
    def ledger(self) -> Ledger:
        """What the owner sent."""
        return self.owner.ledger

    @property
    def kept(self) -> dict[int, Path]:
        """The features files that the owner keeps, by the number of their upload."""
        return {int(file.stem): file for file in (self.north / "features").glob("*.h5")}

    def copy(self, to: Path) -> OwnerWorld:
        """Return a copy that a test may change."""
        shutil.copytree(self.root, to, symlinks=True)
        return OwnerWorld(to)

    def draw(self, *names: str, seed: int = 0, size: int = 16) -> None:
        """Draw small pictures, each another one."""
        for number, name in enumerate(names):
            path = self.pictures / name
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(1000 * seed + number, size=(size, size), mode="L").save(path)

    def output(self) -> Path:
        """Return where the next upload may go."""
        return self.root / f"new{len(list(self.root.glob('new*.h5'))):03d}.h5"

    def command(self, *words: object, output: Path | None = None, named: object = None) -> tuple[object, ...]:
        """Return the command that sends pictures, all of them unless ``named`` says otherwise."""
        given = self.pictures if named is None else named
        where = ("--root", self.pictures, "-o", output or self.output())
        return ("owner", "encrypt", self.north, given, *where, *JOBS, *words)

    def send(self, *words: object, output: Path | None = None, named: object = None) -> dict[str, Any]:
        """Send pictures, and return what is told."""
        return done(*self.command(*words, "--json", output=output, named=named)).json

    def refused(self, *words: object, named: object = None) -> Outcome:
        """Try to send pictures."""
        return run(*self.command(*words, named=named))

    def encrypt(self, names: Iterable[str], options: EncryptOptions) -> Report:
        """Send pictures without a command line, for tests that send often."""
        images = [ImageFile(str(self.pictures / name), name) for name in sorted(names)]
        return encrypt_images(self.north, images, self.output(), options)

    def delete(self, *names: str) -> None:
        """Delete images."""
        count = len(list(self.root.glob("delete*.h5")))
        done("owner", "delete", self.north, *names, "-o", self.root / f"delete{count:03d}.h5")

    def paths(self, upload: Path) -> Groups:
        """Return the paths of the rows of an upload, group by group."""
        called = {}
        for message in self.ledger.messages():
            called.update({image.name: image.path for image in self.ledger.images(message.number)})
        parameters = self.owner.directory.deployment.parameters
        with open_container(upload, upload_schema(parameters)) as container:
            reader = UploadReader(container, parameters)
            names = [called[name] for name in reader.names()]
            ends = [0, *reader.group_ends().tolist()]
        return [names[begin:end] for begin, end in pairwise(ends)]

    def groups(self) -> set[frozenset[str]]:
        """Return the live images, put together as the ledger has them."""
        found = defaultdict(set)
        for each in self.ledger.live():
            found[each.image.group].add(each.image.path)
        return {frozenset(group) for group in found.values()}

    def of_upload(self, upload: Path) -> Stated:
        """Return what an upload says."""
        parameters = self.owner.directory.deployment.parameters
        with open_container(upload, upload_schema(parameters)) as container:
            reader = UploadReader(container, parameters)
            rows = [reader.encrypted_image(row) for row in range(len(reader))]
            return Stated(
                container.header.sequence_number,
                reader.earlier(),
                reader.group_ends().tolist(),
                [hashlib.sha256(name.encode()).digest() for name in reader.names()],
                [hashlib.sha256(row).digest() for row in rows],
                [len(row) for row in rows],
            )

    def of_features(self, upload: Path) -> Stated:
        """Return what the features file of an upload says."""
        deployment = self.owner.directory.deployment
        file = upload.with_suffix(".features.h5")
        reader = open_features(file, deployment.parameters, deployment.fingerprint)
        with reader.container:
            ends, lengths = reader.group_ends.tolist(), reader.group_lengths.tolist()
            sizes = [end - begin for begin, end in pairwise([0, *ends])]
            return Stated(
                reader.number,
                reader.earlier(),
                ends,
                [row.tobytes() for row in reader.name_digests],
                [row.tobytes() for row in reader.image_digests(0, len(reader))],
                [length for length, size in zip(lengths, sizes, strict=True) for _ in range(size)],
            )

    def codes(self, upload: Path) -> list[list[int]]:
        """Return the codes of each row of the features file of an upload, as the KMC decrypts them."""
        deployment = self.owner.directory.deployment
        file = upload.with_suffix(".features.h5")
        reader = open_features(file, deployment.parameters, deployment.fingerprint)
        with reader.container:
            cipher = FeatureCipher(self.owner.image_key, deployment.fingerprint, "north", reader.number)
            chunks = [codes for _, _, codes in reader.chunks(cipher)]
        return [row for codes in chunks if codes is not None for row in codes.tolist()]


def uploads(told: dict[str, Any]) -> list[Path]:
    """Return the uploads that a command wrote."""
    return [Path(each["path"]) for each in told["outputs"] if each["kind"] == "upload"]


def make_world(root: Path, *options: object) -> OwnerWorld:
    """Make a KMC and the owner north, who has no pictures yet."""
    (root / "pictures").mkdir(parents=True)
    kmc = root / "kmc" / "kmc.pub"
    done("kmc", "init", root / "kmc", "--scheme", "exact", *options)
    done("owner", "init", root / "north", "--id", "north", "--kmc", kmc)
    return OwnerWorld(root)


def killed(world: OwnerWorld, what: str, count: int, *words: object) -> None:
    """Begin a run that is killed where a pass is that far: the disk is left as it is then."""
    frozen = world.root.with_name("frozen")

    def freeze(*where: object) -> None:
        if where == (what, count):
            shutil.copytree(world.root, frozen, symlinks=True)
            raise KeyboardInterrupt

    assert watched(freeze, *world.command(*words, output=world.root / "new.h5")).code == 130
    shutil.rmtree(world.root)
    frozen.rename(world.root)


def together(groups: Sequence[Sequence[str]]) -> set[frozenset[str]]:
    """Return groups whatever their order and that of their rows."""
    return {frozenset(group) for group in groups}
