"""A deployment of scheme `exact` for tests: two owners with a few images, whose features are drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.containers.query import write_exact_query
from mipp_cli.containers.reencrypted import AnswerCipher, open_answer, open_reencrypted
from mipp_cli.scheme.image_cipher import Envelope, generate_key, sha256
from tests.deployment import AUTHORISED, OWNERS, Deployment, done
from tests.roles.exact_owner import ExactOwner, Feature, features_of
from tests.roles.forgery import next_number

NORTH = [f"north {number}" for number in range(8)]
SOUTH = [f"south {number}" for number in range(4)]


@dataclass
class Exact:
    """The deployment, and its owners as they are in memory."""

    deployment: Deployment
    north: ExactOwner
    south: ExactOwner

    def __truediv__(self, name: str) -> Path:
        return self.deployment / name

    def index(self, *messages: Path) -> None:
        """Apply messages at the cloud."""
        done("cloud", "index", self / "cloud", *messages)

    def images(self) -> dict[tuple[str, str], Feature]:
        """Return the feature of every live image, by owner and name, in the order of their places."""
        return {
            (owner.name, name): feature
            for owner in (self.north, self.south)
            for _, images in sorted(owner.live.items())
            for name, feature in images
        }

    def nearest(self, query: Feature, count: int) -> list[tuple[str, str]]:
        """Return the nearest images by Euclidean distance of the plain features, ties by place."""
        images = self.images()
        distances = [int(((each.astype(np.int64) - query) ** 2).sum()) for each in images.values()]
        order = np.argsort(distances, kind="stable")[:count]
        return [list(images)[place] for place in order]

    def ask(self, codes: NDArray[np.unsignedinteger], *, candidates: int = 3, user: str = "alice") -> Asked:
        """Make a query of these codes, shape (u, 80), as the user's command does."""
        number, usk = f"{next_number():032x}", generate_key()
        path = self / f"{number[-8:]}.query.h5"
        public = self.deployment.public
        write_exact_query(
            path,
            public.parameters,
            self.deployment.sender(user),
            number,
            features=codes,
            candidates=candidates,
            usk=usk,
            sealing_key=public.sealing_key,
        )
        return Asked(self, path, usk, user)


@dataclass
class Asked:
    """A query on its way through the steps; each writes its file beside the query."""

    exact: Exact
    path: Path
    usk: bytes
    user: str

    def file(self, kind: str) -> Path:
        """Return where a step's file goes."""
        return self.path.with_suffix(f".{kind}.h5")

    def search(self) -> Path:
        """Let the cloud collect the features."""
        done("cloud", "search", self.exact / "cloud", self.path, "-o", self.file("candidates"), "--force")
        return self.file("candidates")

    def rank(self, *options: object) -> Path:
        """Let the KMC rank them."""
        words = (self.exact / "kmc", self.file("candidates"), "-o", self.file("selection"), "--force")
        done("kmc", "rank", *words, *options)
        return self.file("selection")

    def collect(self) -> Path:
        """Let the cloud collect the images."""
        words = (self.exact / "cloud", self.file("selection"), "-o", self.file("results"), "--force")
        done("cloud", "collect", *words)
        return self.file("results")

    def reencrypt(self) -> Path:
        """Let the KMC re-encrypt them."""
        words = (self.exact / "kmc", self.file("results"), "-o", self.file("answer"), "--force")
        done("kmc", "reencrypt", *words)
        return self.file("answer")

    def answered(self, *options: object) -> Path:
        """Take all steps, and return the answer."""
        self.search()
        self.rank(*options)
        self.collect()
        return self.reencrypt()

    def read(self, answer: Path) -> tuple[list[set[tuple[str, str]]], dict[tuple[str, str], Envelope], int]:
        """Open an answer: the matches of each query image, the images, and how many were left out."""
        public = self.exact.deployment.public
        octets = self.path.read_bytes()
        number = octets.split(b"\n")[3].removeprefix(b"number ").decode()
        cipher = AnswerCipher(self.usk, public.fingerprint, self.user, number)
        with open_reencrypted(answer, public.fingerprint) as container:
            opened = open_answer(container, cipher, sha256(octets))
            images = {
                image: Envelope.unpack(opened.envelope(position))
                for position, image in enumerate(opened.manifest.images)
            }
            names = [set() for _ in range(1 + max((q for q, _ in opened.manifest.matches), default=0))]
            for query, position in opened.manifest.matches:
                names[query].add(opened.manifest.images[position])
            return names, images, opened.manifest.left_out


def make_exact(root: Path, scheme: tuple[str, ...] = ("--scheme", "exact")) -> Exact:
    """Make the deployment: alice may search north and south, where eight and four images are."""
    root.mkdir()
    deployment, kmc = Deployment(root, "exact"), root / "kmc" / "kmc.pub"
    done("kmc", "init", root / "kmc", *scheme)
    done("cloud", "init", root / "cloud", "--kmc", kmc)
    for user in AUTHORISED:
        done("user", "init", root / user, "--id", user, "--kmc", kmc)
    for owner in OWNERS:
        users = [root / user / "user.pub" for user, owners in AUTHORISED.items() if owner in owners]
        options = [word for user in users for word in ("--authorize", user)]
        done("owner", "init", root / owner, "--id", owner, "--kmc", kmc, *options)
    deployment.enroll_all()
    done("kmc", "enroll", root / "kmc", root / "cloud" / "cloud.pub")
    exact = Exact(deployment, ExactOwner(deployment, "north"), ExactOwner(deployment, "south"))
    exact.index(exact.north.upload(features_of(NORTH)), exact.south.upload(features_of(SOUTH)))
    return exact
