"""The operations, each done by the commands themselves, and what is checked after each."""

from __future__ import annotations

import csv
import io
import random
import shutil
from collections import defaultdict
from collections.abc import Callable
from functools import lru_cache
from itertools import count
from pathlib import Path

from mipp_cli.containers.container import read_header
from mipp_cli.containers.source import FileSource
from mipp_cli.roles.cloud import Cloud
from mipp_cli.roles.kmc import Kmc
from mipp_cli.roles.owner import Owner
from mipp_cli.roles.pictures import open_picture
from mipp_cli.scheme.edge_histogram import edge_histogram
from mipp_cli.scheme.image_cipher import key_id
from tests.deployment import JOBS, Outcome, picture, run
from tests.soak.model import CloudModel, Enrolment, KmcModel, Message, OwnerModel, Stored

OWNERS = ("north", "south", "lake")
USERS = ("alice", "bob")
FILES = {"kmc": "enrolment.h5", "cloud": "members.h5"}
_MOST_IMAGES = 24  # of an owner, so that a long life stays fast


class Life:
    """One deployment and its model, changed side by side by operations drawn from a seed."""

    def __init__(self, root: Path, seed: int, *scheme: str):
        self.root, self.random = root, random.Random(seed)
        self.cloud, self.kmc = CloudModel(), KmcModel()
        self.owners = {name: OwnerModel() for name in OWNERS}
        self.user_sealing = dict.fromkeys(USERS, 0)
        self.enrolments: dict[tuple[str, str], list[tuple[Enrolment, Path]]] = defaultdict(list)
        self.files: dict[str, dict[int, Path]] = {name: {} for name in OWNERS}
        self.counts: dict[str, int] = {}
        self._serial, self._pictures = 0, count()
        self._begin(scheme)

    def _begin(self, scheme: tuple[str, ...]) -> None:
        kmc = self.root / "kmc" / "kmc.pub"
        self.expect(0, "kmc", "init", self.root / "kmc", *scheme)
        self.expect(0, "cloud", "init", self.root / "cloud", "--kmc", kmc)
        self.expect(0, "kmc", "enroll", self.root / "kmc", self.root / "cloud" / "cloud.pub")
        for user in USERS:
            self.expect(0, "user", "init", self.root / user, "--id", user, "--kmc", kmc)
        picture(1000, size=(64, 64)).save(self.root / "query.png")
        for owner in OWNERS:
            (self.root / "pictures" / owner).mkdir(parents=True)
            words = ("--id", owner, "--kmc", kmc, "--authorize", self.root / "alice" / "user.pub")
            self.expect(0, "owner", "init", self.root / owner, *words)
            self.owners[owner].users = frozenset({"alice"})
            self.owners[owner].keys = [self.key_of(owner)]
            self.note_enrolment(owner)
            self.enroll_at_kmc(owner)
            self.enroll_at_cloud(owner)

    def expect(self, code: int, *words: object) -> Outcome:
        """Run a command and demand the exit code that the model says."""
        outcome = run(*words)
        if outcome.code != code:
            raise AssertionError(
                f"exit {outcome.code}, not {code}: {' '.join(map(str, words))}\n{outcome.err}"
            )
        return outcome

    def path(self, name: str) -> Path:
        """Return a new path for a file that is handed over."""
        self._serial += 1
        return self.root / f"{self._serial}-{name}.h5"

    def key_of(self, owner: str) -> str:
        """Return the id of the owner's key in use."""
        return f"{key_id(Owner.open(self.root / owner).image_key):016x}"

    def note_enrolment(self, owner: str) -> None:
        """Keep the pair of files that the owner just wrote, and what they say."""
        folder = self.path(f"{owner}-enrolment").with_suffix("")
        folder.mkdir()
        for name in FILES.values():
            shutil.copy(self.root / owner / name, folder)
        for place, name in FILES.items():
            number = number_of(folder / name)
            self.enrolments[owner, place].append((self.owners[owner].enrolment(number), folder / name))

    # operations

    def add(self, owner: str) -> None:
        """Encrypt one to three new pictures."""
        model = self.owners[owner]
        if len(model.live()) >= _MOST_IMAGES:
            return self.delete(owner)
        paths = [
            f"{self.random.choice('abc')}/{next(self._pictures)}.png"
            for _ in range(self.random.randint(1, 3))
        ]
        for path in paths:
            self._draw(owner, path)
        return self._encrypt(owner, "add", paths)

    def send_again(self, owner: str) -> None:
        """Encrypt one to three pictures again, of which half changed."""
        paths = self._some_live(owner)
        for path in paths:
            if self.random.random() < 0.5:
                self._draw(owner, path)
        if paths:
            self._encrypt(owner, "replace", paths)

    def delete(self, owner: str) -> None:
        """Ask for the deletion of one to three pictures."""
        paths = self._some_live(owner)
        if not paths:
            return
        output, live = self.path(f"{owner}-delete"), self.owners[owner].live()
        self.expect(0, "owner", "delete", self.root / owner, *paths, "-o", output)
        self._sent(owner, "delete", {path: live[path] for path in paths}, output)

    def deliver(self, owner: str) -> None:
        """Bring messages to the cloud: those that wait, in order; at times old ones, or out of order."""
        files = self.files[owner]
        waiting = [m for m in self.owners[owner].sent if m.number not in self.cloud.applied.get(owner, set())]
        chosen = waiting[: self.random.randint(1, 3)] if self.random.random() < 0.8 else waiting[1:]
        if self.random.random() < 0.2 or not chosen:
            chosen = [
                *self.random.sample(self.owners[owner].sent, min(2, len(self.owners[owner].sent))),
                *chosen,
            ]
        chosen = list({message.number: message for message in chosen}.values())
        if not chosen:
            return
        code = self.cloud.apply(owner, chosen)
        paths = [files[message.number] for message in chosen]
        self.expect(code, "cloud", "index", self.root / "cloud", *paths, *JOBS)
        if code in {6, 9}:
            self._withdraw(owner, chosen)

    def _withdraw(self, owner: str, messages: list[Message]) -> None:
        """What the cloud refuses for good, the owner's ledger forgets; what it has, not."""
        model, applied = self.owners[owner], self.cloud.applied.get(owner, set())
        for message in messages:
            if message.number not in applied and message in model.sent:
                self.expect(0, "owner", "withdraw", self.root / owner, message.number)
                model.sent.remove(message)

    def authorize(self, owner: str) -> None:
        """Let a user search."""
        user = self.random.choice(USERS)
        self.expect(0, "owner", "authorize", self.root / owner, self.root / user / "user.pub")
        self.owners[owner].users |= {user}
        self.note_enrolment(owner)
        self.enroll(owner)

    def revoke(self, owner: str) -> None:
        """Let a user search no more."""
        user, model = self.random.choice(USERS), self.owners[owner]
        self.expect(0 if user in model.users else 2, "owner", "revoke", self.root / owner, user)
        if user in model.users:
            model.users -= {user}
            self.note_enrolment(owner)
            self.enroll(owner)

    def rotate(self, owner: str) -> None:
        """Draw a new image key."""
        self.expect(0, "owner", "rotate", self.root / owner)
        self.owners[owner].keys.append(self.key_of(owner))
        self.note_enrolment(owner)
        self.enroll(owner)

    def forget_key(self, owner: str) -> None:
        """Drop the former keys that no image needs."""
        model = self.owners[owner]
        dropped = model.forgettable()
        outcome = run("owner", "forget-key", self.root / owner)
        assert (outcome.code == 0) == bool(dropped), outcome
        if dropped:
            model.forget(dropped)
            self.note_enrolment(owner)
            self.enroll(owner)

    def enroll(self, owner: str) -> None:
        """Bring an owner's last word to one of the two places, or both, or an old one."""
        if self.random.random() < 0.8:
            self.enroll_at_kmc(owner)
        if self.random.random() < 0.8:
            self.enroll_at_cloud(owner)

    def _enrolment(self, owner: str, place: str) -> tuple[Enrolment, Path]:
        return self.enrolments[owner, place][-1 if self.random.random() < 0.9 else 0]

    def enroll_at_kmc(self, owner: str) -> None:
        """Enrol at the KMC."""
        enrolment, file = self._enrolment(owner, "kmc")
        code = self.kmc.enroll(owner, enrolment)
        self.expect(code, "kmc", "enroll", self.root / "kmc", file)

    def enroll_at_cloud(self, owner: str) -> None:
        """Enrol at the cloud."""
        enrolment, file = self._enrolment(owner, "cloud")
        code = self.cloud.enroll(owner, enrolment)
        self.expect(code, "cloud", "enroll", self.root / "cloud", file)

    def remove(self, owner: str) -> None:
        """End a membership at one of the two places."""
        place, model = self.random.choice([("kmc", self.kmc), ("cloud", self.cloud)])
        self.expect(model.remove(owner), place, "remove", self.root / place, owner)

    def rotate_kmc(self, _: str) -> None:
        """Renew the KMC's sealing key; most of the others take it over."""
        drop = self.random.random() < 0.5
        self.expect(0, "kmc", "rotate", self.root / "kmc", *(["--drop-former"] if drop else []))
        self.kmc.rotate(drop_former=drop)
        public = self.root / "kmc" / "sealing.pub"
        for user in USERS:
            if self.random.random() < 0.8:
                self.expect(0, "user", "renew", self.root / user, public)
                self.user_sealing[user] = self.kmc.sealing
        for owner, model in self.owners.items():
            if self.random.random() < 0.8:
                self.expect(0, "owner", "renew", self.root / owner, public)
                model.sealing = self.kmc.sealing
                self.note_enrolment(owner)
                self.enroll(owner)

    def rebuild(self, _: str) -> None:
        """Make the index anew from the segments."""
        self.expect(0, "cloud", "index", self.root / "cloud", "--rebuild", *JOBS)

    def check(self, _: str) -> None:
        """Let both check themselves."""
        self.expect(0, "cloud", "check", self.root / "cloud", "--sums")
        self.expect(0, "kmc", "check", self.root / "kmc")

    def query(self, _: str) -> None:
        """Search, have the matches re-encrypted, decrypt them, and compare every file."""
        user = self.random.choice(USERS)
        query, results, answer = (self.path(name) for name in ("query", "results", "answer"))
        self.expect(
            0, "user", "query", self.root / user, self.root / "query.png", "-o", query, "--candidates", 999
        )
        allowed = any(user in member.users for member in self.cloud.members.values())
        words = ("cloud", "search", self.root / "cloud", query, "-o", results)
        self.expect(0 if allowed else 4, *words, *self.random.choice([(), ("--without-index", *JOBS)]))
        if not allowed:
            return
        found = self.cloud.found_by(user)
        code, places = self.kmc.answer(user, self.user_sealing[user], found)
        self.expect(code, "kmc", "reencrypt", self.root / "kmc", results, "-o", answer)
        if code:
            return
        folder = answer.with_suffix("")
        self.expect(0, "user", "decrypt", self.root / user, answer, "-o", folder, "--top", 999)
        rows = csv.DictReader(io.StringIO((folder / "matches.csv").read_text()))
        got = {(row["owner"], row["name"]): (folder / row["file"]).read_bytes() for row in rows}
        assert got == {place: found[place].content for place in places}
        shutil.rmtree(folder)

    # parts of operations

    def _draw(self, owner: str, path: str) -> None:
        file = self.root / "pictures" / owner / path
        file.parent.mkdir(exist_ok=True)
        picture(self.random.getrandbits(32), size=(64, 64)).save(file)
        self.owners[owner].files[path] = file.read_bytes()

    def _some_live(self, owner: str) -> list[str]:
        live = sorted(self.owners[owner].live())
        return self.random.sample(live, min(len(live), self.random.randint(1, 3)))

    def _encrypt(self, owner: str, kind: str, paths: list[str]) -> None:
        model, output, folder = (
            self.owners[owner],
            self.path(f"{owner}-{kind}"),
            self.root / "pictures" / owner,
        )
        flags = ("--replace",) if kind == "replace" else ()
        words = (*(folder / path for path in paths), "--root", folder, "-o", output)
        self.expect(0, "owner", "encrypt", self.root / owner, *words, *flags, *JOBS)
        self._sent(owner, kind, {path: Stored(model.files[path], model.keys[-1]) for path in paths}, output)

    def _sent(self, owner: str, kind: str, images: dict[str, Stored], output: Path) -> None:
        message = Message(kind, number_of(output), images)
        self.owners[owner].sent.append(message)
        self.files[owner][message.number] = output
        if self.random.random() < 0.7:
            self.deliver(owner)

    # the whole

    def operations(self) -> list[tuple[int, Callable[[str], None]]]:
        """Return each operation with its weight."""
        return [
            (18, self.add),
            (12, self.delete),
            (12, self.send_again),
            (10, self.deliver),
            (6, self.authorize),
            (4, self.revoke),
            (5, self.rotate),
            (4, self.forget_key),
            (5, self.enroll),
            (1, self.remove),
            (2, self.rotate_kmc),
            (2, self.rebuild),
            (2, self.check),
            (14, self.query),
        ]

    def step(self) -> str:
        """Do one operation, and check that all is as the model says; return its name."""
        weights, operations = zip(*self.operations(), strict=True)
        operation = self.random.choices(operations, weights)[0]
        operation(self.random.choice(OWNERS))
        self.compare()
        name = operation.__name__
        self.counts[name] = self.counts.get(name, 0) + 1
        return name

    def compare(self) -> None:
        """Compare the cloud's index and the KMC's keys with the model."""
        cloud, kmc = Cloud.open(self.root / "cloud"), Kmc.open(self.root / "kmc")
        index = cloud.index()
        table: dict[tuple[str, str], tuple[int, int]] = {}
        for part in index.parts:
            owner = index.segments[part.segments[0]].owner
            with cloud.store.part(part) as reader:
                for name, sum1, sum2 in reader.table():
                    assert (owner, name.decode()) not in table
                    table[owner, name.decode()] = (sum1, sum2)
        due = {}
        for owner, images in self.cloud.images.items():
            role = Owner.open(self.root / owner)
            for path, stored in images.items():
                due[owner, role.name_on_the_wire(path)] = sums(stored.content)
        assert table == due
        held = {name: owner for name in kmc.owner_names() if (owner := kmc.owner(name)) is not None}
        keys = {name: {f"{key:016x}" for key in owner.image_keys} for name, owner in held.items()}
        assert keys == {name: set(found) for name, found in self.kmc.keys.items()}
        users = {name: {user for user, _ in owner.membership.users} for name, owner in held.items()}
        assert users == {name: set(each.users) for name, each in self.kmc.enrolled.items()}


@lru_cache(maxsize=4096)
def sums(content: bytes) -> tuple[int, int]:
    """Return Σx and Σx² of a picture's plain codes."""
    codes = edge_histogram(open_picture(content, path=None)).astype(int)
    return int(codes.sum()), int((codes**2).sum())


def number_of(path: Path) -> int:
    """Return the sequence number of a container."""
    source = FileSource(path)
    try:
        return read_header(source).sequence_number
    finally:
        source.close()
