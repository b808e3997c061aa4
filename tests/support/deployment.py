"""A small deployment for the tests: three owners, three users, pictures in every format, all files made.

Alice may search north and south, bob south and lake; eve is authorised by nobody. Everything is made by
the commands themselves, once for each scheme and session, and copied by the tests that change it.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from mipp_cli.cli.main import mipp
from mipp_cli.containers.base.writer import Sender
from mipp_cli.containers.messages.public_files import Deployment as PublicDeployment
from mipp_cli.descriptors.edge_histogram import edge_histogram
from mipp_cli.images.pictures import open_picture
from mipp_cli.owner.ledger import Ledger
from mipp_cli.workdir.directory import RoleDirectory, role_of

SCHEMES = {
    "exact": ("--scheme", "exact", "--group-size", "2"),
    "dcr": ("--scheme", "dcr", "--modulus-bits", "1024", "--allow-insecure-modulus"),
    "mask": ("--scheme", "mask"),
    "paper": ("--scheme", "paper", "--modulus-bits", "768", "--allow-insecure-modulus"),
}
AUTHORISED = {"alice": ("north", "south"), "bob": ("south", "lake"), "eve": ()}
OWNERS = ("north", "south", "lake")
SAMPLES = Path(__file__).parents[2] / "sample_data"
JOBS = ("--jobs", "1")

Snapshot = dict[str, tuple[int, str]]


@dataclass(frozen=True)
class Outcome:
    """What a command line gave: exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The object that ``--json`` printed."""
        fields = json.loads(self.out)
        assert isinstance(fields, dict)
        return fields


def run(*words: object, stdin: str | bytes | None = None) -> Outcome:
    """Run `mipp` in this process; whatever would end in a traceback is raised."""
    result = CliRunner().invoke(mipp, [str(word) for word in words], input=stdin, prog_name="mipp")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.stdout, result.stderr)


def done(*words: object, stdin: str | bytes | None = None) -> Outcome:
    """Run `mipp` and demand success."""
    outcome = run(*words, stdin=stdin)
    assert outcome.code == 0, outcome.err
    return outcome


def refused(code: int, *words: object, stdin: str | bytes | None = None) -> Outcome:
    """Run `mipp` and demand one error with this exit code: one message, one hint, nothing on stdout."""
    outcome = run(*words, stdin=stdin)
    check_refusal(outcome, code)
    return outcome


def check_refusal(outcome: Outcome, code: int) -> None:
    """Demand of an outcome that it is one clean error."""
    assert outcome.code == code, outcome
    lines = outcome.err.splitlines()
    assert [line[:7] for line in lines if line.startswith("error: ")] == ["error: "], outcome.err
    assert sum(line.startswith("hint: ") for line in lines) == 1, outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""


def snapshot(*paths: Path) -> Snapshot:
    """Return mode and digest of every file and folder below ``paths``, hidden and temporary ones too."""
    found: Snapshot = {}
    for path in paths:
        for each in [path, *path.rglob("*")] if path.is_dir() else [path]:
            content = hashlib.sha256(each.read_bytes()).hexdigest() if each.is_file() else ""
            found[str(each)] = (each.lstat().st_mode, content)
    return found


def picture(seed: int, size: tuple[int, int] = (88, 72), mode: str = "RGB") -> Image.Image:
    """Draw stripes, a disc and some noise, a little different for every seed."""
    random = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    angle, wave = random.uniform(0, np.pi), random.uniform(0.15, 0.9)
    stripes = 90 * np.sign(np.sin(wave * (x * np.cos(angle) + y * np.sin(angle))))
    centre, radius = random.uniform(20, 60, 2), random.uniform(10, 30)
    stripes[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2] *= random.uniform(-0.2, 0.2)
    tints = random.uniform(0.5, 1.0, 3)
    noise = random.normal(0, 12, (size[1], size[0], 3))
    pixels = np.clip(128 + stripes[..., None] * tints + noise, 0, 255).astype(np.uint8)
    if mode == "I;16":
        deep = pixels[..., 0].astype(np.uint16) * 251 + pixels[..., 1]
        return Image.fromarray(deep)
    image = Image.fromarray(pixels)
    if mode == "P":
        return image.quantize(64)
    if mode in ("RGBA", "LA"):
        image = image.convert(mode[:-1])
        image.putalpha(Image.linear_gradient("L").resize(size))
        return image
    return image.convert(mode)


def png_bomb() -> bytes:
    """Return a small PNG file that claims four thousand million pixels."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 65535, 65535, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(1000))),
        (b"IEND", b""),
    ]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# Every format and depth that the package reads, at least once.
PICTURES = {
    "north": {
        "chest/a.jpg": "RGB",
        "chest/b.png": "L",
        "chest/c.png": "I;16",
        "hand/a.tif": "RGB",
        "hand/d.bmp": "RGB",
    },
    "south": {"a.webp": "RGB", "b.png": "P", "c.png": "RGBA", "d.jpeg": "CMYK", "e.tiff": "I;16"},
    "lake": {"deep/er/a.jpg": "L", "b.png": "RGB", "c.png": "LA", "d.JPG": "RGB"},
}


def draw_pictures(folder: Path) -> None:
    """Draw the pictures of all owners below ``folder``, and two to query with."""
    seed = 0
    for owner, pictures in PICTURES.items():
        for name, mode in pictures.items():
            path = folder / owner / name
            path.parent.mkdir(parents=True, exist_ok=True)
            seed += 1
            picture(seed, mode=mode).save(path)
    (folder / "queries").mkdir(parents=True)
    for number in (1, 2):
        picture(100 + number).save(folder / "queries" / f"q{number}.png")


def feature_of(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the 80 codes of a picture file."""
    return edge_histogram(open_picture(path.read_bytes(), path=None).eight_bits())


@dataclass(frozen=True)
class Deployment:
    """A folder with the directories of all roles and the files that they handed each other."""

    root: Path
    scheme: str

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    def role(self, name: str) -> RoleDirectory:
        """Return the directory of a role, to act in its name."""
        kind = name if name in ("kmc", "cloud") else "owner" if name in OWNERS else "user"
        return RoleDirectory.open(self / name, kind)

    def sender(self, name: str) -> Sender:
        """Return a role as a sender of containers, to forge what its command would not write."""
        return self.role(name).sender

    @property
    def public(self) -> PublicDeployment:
        """The deployment as kmc.pub describes it."""
        return self.role("kmc").deployment

    def pictures(self, owner: str) -> dict[str, Path]:
        """Return an owner's pictures by the name that the owner calls them."""
        folder = self / "pictures" / owner
        return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}

    def names(self, owner: str) -> dict[str, str]:
        """Return path by image id, from the owner's own record."""
        ledger = Ledger(self / owner / "uploads")
        images = (image for message in ledger.messages() for image in ledger.images(message.number))
        return {image.name: image.path for image in images}

    def copy(self, to: Path) -> Deployment:
        """Return a copy that a test may change."""
        shutil.copytree(self.root, to, symlinks=True)
        return Deployment(to, self.scheme)

    def enroll_all(self) -> None:
        """Enrol what the owners wrote last, at both places."""
        files = [(self / owner / "enrolment.h5", self / owner / "members.h5") for owner in OWNERS]
        run("kmc", "enroll", self / "kmc", *(enrolment for enrolment, _ in files))
        run("cloud", "enroll", self / "cloud", *(members for _, members in files))

    def ask(
        self, user: str, *, candidates: int = 5, pictures: tuple[str, ...] = ("q1.png", "q2.png")
    ) -> Path:
        """Make a query in a user's name and return its path."""
        path = self / f"{user}-{len(list(self.root.iterdir()))}.h5"
        images = [self / "pictures" / "queries" / name for name in pictures]
        done("user", "query", self / user, *images, "-o", path, "--candidates", candidates)
        return path

    def rank(self, query: Path) -> Path:
        """Rank a query at the KMC and return the path of the selection (scheme `exact`)."""
        path = query.with_suffix(".selection.h5")
        done("kmc", "rank", self / "kmc", query, "-o", path)
        return path

    def request(self, query: Path) -> Path:
        """Return what the cloud searches with for a query: in scheme `exact` the KMC ranks it first."""
        return self.rank(query) if self.scheme == "exact" else query

    def search(self, query: Path) -> Path:
        """Search with a query and return the path of the results."""
        path = query.with_suffix(".results.h5")
        done("cloud", "search", self / "cloud", self.request(query), "-o", path, *JOBS)
        return path

    def index(self, *uploads: Path) -> None:
        """Index uploads at the cloud, and in scheme `exact` their features at the KMC."""
        done("cloud", "index", self / "cloud", *uploads, *JOBS)
        if self.scheme == "exact":
            done("kmc", "index", self / "kmc", *(path.with_suffix(".features.h5") for path in uploads))

    def answer(self, results: Path) -> Path:
        """Re-encrypt results and return the path of the answer."""
        path = results.with_suffix(".answer.h5")
        done("kmc", "reencrypt", self / "kmc", results, "-o", path)
        return path


def make_deployment(root: Path, scheme: str) -> Deployment:
    """Make a deployment with every command; what they printed is kept in transcript.txt."""
    draw_pictures(root / "pictures")
    made = Deployment(root, scheme)
    transcript = io.StringIO()

    def step(*words: object) -> None:
        outcome = done(*words)
        transcript.write(outcome.out + outcome.err)

    kmc = root / "kmc" / "kmc.pub"
    step("kmc", "init", root / "kmc", *SCHEMES[scheme])
    step("cloud", "init", root / "cloud", "--kmc", kmc)
    for user in AUTHORISED:
        step("user", "init", root / user, "--id", user, "--kmc", kmc)
    for owner in OWNERS:
        users = [root / user / "user.pub" for user, owners in AUTHORISED.items() if owner in owners]
        options = [word for user in users for word in ("--authorize", user)]
        step("owner", "init", root / owner, "--id", owner, "--kmc", kmc, *options)
    enrolments = [root / owner / "enrolment.h5" for owner in OWNERS]
    step("kmc", "enroll", root / "kmc", *enrolments, root / "cloud" / "cloud.pub")
    step("cloud", "enroll", root / "cloud", *(root / owner / "members.h5" for owner in OWNERS))
    for owner in OWNERS:
        words = (root / owner, root / "pictures" / owner, "-o", root / f"{owner}.h5")
        step("owner", "encrypt", *words, *JOBS)
    step("cloud", "index", root / "cloud", *(root / f"{owner}.h5" for owner in OWNERS), *JOBS)
    if scheme == "exact":
        step("kmc", "index", root / "kmc", *(root / f"{owner}.features.h5" for owner in OWNERS))
    queries = [root / "pictures" / "queries" / name for name in ("q1.png", "q2.png")]
    for user in ("alice", "bob"):
        query, results, answer = (root / f"{user}.{kind}.h5" for kind in ("query", "results", "answer"))
        step("user", "query", root / user, *queries, "-o", query, "--candidates", 5)
        if scheme == "exact":
            step("kmc", "rank", root / "kmc", query, "-o", root / f"{user}.selection.h5")
        request = root / f"{user}.selection.h5" if scheme == "exact" else query
        step("cloud", "search", root / "cloud", request, "-o", results, *JOBS)
        step("kmc", "reencrypt", root / "kmc", results, "-o", answer)
        step("user", "decrypt", root / user, answer, "-o", root / f"{user}.matches")
    (root / "transcript.txt").write_text(transcript.getvalue())
    return made


def shared_deployment(base: Path, scheme: str) -> Deployment:
    """Return the deployment of a scheme below ``base``, made when it is first asked for."""
    root = base / f"deployment-{scheme}"
    return Deployment(root, scheme) if root.exists() else make_deployment(root, scheme)


def own_deployment(base: Path, folders: pytest.TempPathFactory, scheme: str) -> Iterator[Deployment]:
    """Give a copy of the deployment of a scheme that a test may change, and remove it afterwards."""
    folder = folders.mktemp(f"changeable-{scheme}")
    yield shared_deployment(base, scheme).copy(folder / "deployment")
    shutil.rmtree(folder, ignore_errors=True)


def change_state(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Rewrite a JSON file of a directory with the digest that fits, as its role might have written it."""
    directory, name = _place(file)
    directory.write_json(name, change(directory.read_json(name)))


def state_of(file: Path) -> dict[str, Any]:
    """Return what a JSON file of a directory without a passphrase says, whether it is sealed or not."""
    directory, name = _place(file)
    return directory.read_json(name)


def _place(file: Path) -> tuple[RoleDirectory, str]:
    folder = next(each for each in file.parents if (each / "role.json").exists())
    return RoleDirectory.open(folder, str(role_of(folder))), file.relative_to(folder).as_posix()


def secrets_of(root: Path) -> set[str]:
    """Return every secret below ``root``, in hex: keys of all roles, USKs, SKs at the KMC."""
    found: set[str] = set()
    for file in root.rglob("secrets.json"):
        for value in state_of(file).values():
            found.update([value] if isinstance(value, str) else value)
    for file in root.glob("*/queries/*.json"):
        found.update({state_of(file).get("usk", "")} - {""})  # KMC and cloud keep digests alone
    for file in root.glob("kmc/owners/*.json"):
        fields = state_of(file)
        found.update([*fields["image_keys"], fields["storage_key"]])
    # the sealing key is kept as the seeds of two halves; either alone would be a secret told
    halves = {part for secret in found if len(secret) > 64 for part in (secret[:128], secret[128:])}
    return found | halves


def mode(path: Path) -> str:
    """Return the permission bits of a path, as in 0600."""
    return f"{path.lstat().st_mode & 0o7777:04o}"
