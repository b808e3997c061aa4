"""The operations, each done by the commands themselves, and what is checked after each."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from mipp_cli.cloud.cloud import Cloud
from mipp_cli.containers.base.container import open_container
from mipp_cli.containers.messages.upload import UploadReader, upload_schema
from mipp_cli.owner.owner import Owner
from mipp_cli.scheme.secret_keys import key_id
from tests.soak.clock import HOUR
from tests.soak.model import CloudModel, Counts, Enrolment, Message, Stored, live_of
from tests.soak.post import Letter, Post
from tests.soak.world import OWNERS, USERS, World, number_of
from tests.support.deployment import JOBS, Outcome, picture

FILES = {"kmc": "enrolment.h5", "cloud": "members.h5"}
_MOST_IMAGES = 24  # of an owner, so that a long life stays fast
_AHEAD = (2, 20, 72, 1500, 26_000)  # hours by which a clock may be wrong


@dataclass(frozen=True)
class Receiver:
    """The cloud or the KMC as a place that owners' messages come to."""

    place: str
    model: CloudModel
    post: Post

    def is_below_floor(self, letter: Letter) -> bool:
        """Say whether a letter is from before a removal, or from before what was lost."""
        return letter.message.number <= self.model.refused.get(letter.message.owner, 0)

    def is_ahead(self, letter: Letter, now: int) -> bool:
        """Say whether a letter is of a time to come."""
        return letter.message.number > max(now, self.model.highest(letter.message.owner)) + 25 * HOUR


class Life(World):
    """One deployment and its model, changed side by side by operations drawn from a seed."""

    def __init__(self, root: Path, seed: int, *scheme: str):
        super().__init__(root, seed)
        self.user_sealing = dict.fromkeys(USERS, 0)
        self.enrolments: dict[tuple[str, str], list[tuple[Enrolment, Path]]] = defaultdict(list)
        self.counts: Counter[str] = Counter()
        self.receivers = [Receiver("cloud", self.cloud, Post(self.random, self.figures))]
        self._pictures = count()
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
            self._note_key(owner)
            self._note_enrolment(owner)
            self.enroll_at_kmc(owner)
            self.enroll_at_cloud(owner)

    # operations: what an owner sends

    def send(self, owner: str) -> None:
        """Change some files, and send what is new; at times all, or what was deleted, or in pieces."""
        self._change_files(owner)
        undelete, again, split = (self.random.random() < share for share in (0.1, 0.08, 0.2))
        flags = [("--undelete", undelete), ("--again", again)]
        options: list[object] = [flag for flag, is_given in flags if is_given]
        chosen = self.owners[owner].to_send(undelete=undelete, again=again)
        if self.random.random() < 0.1:
            self._preview(owner, chosen, options)
        options += ["--split", "20kB"] if split else []
        self._encrypt(owner, chosen, options, nothing=5)
        self._bring()

    def _change_files(self, owner: str) -> None:
        """Draw new pictures, draw some anew, and touch one, which changes nothing."""
        model = self.owners[owner]
        files = sorted(model.files)
        if len(files) < _MOST_IMAGES:
            for _ in range(self.random.randint(0, 3)):
                self._draw(owner, f"{self.random.choice('abc')}/{next(self._pictures)}.png")
        for path in self.random.sample(files, min(len(files), self.random.randint(0, 2))):
            self._draw(owner, path)
        if files:
            os.utime(self.root / "pictures" / owner / self.random.choice(files))

    def _draw(self, owner: str, path: str) -> None:
        file = self.root / "pictures" / owner / path
        file.parent.mkdir(exist_ok=True)
        picture(self.random.getrandbits(32), size=(64, 64)).save(file)
        self.owners[owner].files[path] = file.read_bytes()

    def _preview(self, owner: str, chosen: set[str], options: list[object]) -> None:
        folder = self.root / "pictures" / owner
        if self.owners[owner].files:
            words = ("owner", "encrypt", self.root / owner, folder, "--dry-run", "--json")
            due = len(self._sent_with(owner, chosen))
            assert self.expect(0, *words, *options, *JOBS).json["counts"]["images"] == due

    def _sent_with(self, owner: str, chosen: set[str]) -> set[str]:
        """Return all that is sent if ``chosen`` is."""
        return chosen

    def _encrypt(self, owner: str, chosen: set[str], options: list[object], *, nothing: int) -> None:
        """Run `owner encrypt` over the owner's folder, which is to send ``chosen``, and post what it made."""
        model, output = self.owners[owner], self.path(f"{owner}-upload")
        if not model.files:
            return
        words = (self.root / owner, self.root / "pictures" / owner, "-o", output)
        self.expect(0 if chosen else nothing, "owner", "encrypt", *words, *options, *JOBS)
        role, left = Owner.open(self.root / owner), set(chosen)
        names = {role.name_on_the_wire(path): path for path in chosen}
        parameters = role.directory.deployment.parameters
        for file in sorted(self.root.glob(f"{output.stem}*.h5")):
            with open_container(file, upload_schema(parameters)) as container:
                upload = UploadReader(container, parameters)
                paths = {names[name] for name in upload.names()}
                images = {path: Stored(model.files[path], model.keys[-1]) for path in paths}
                assert self._sent(owner, images, file) == frozenset(upload.earlier())
            left -= paths
        assert not left

    def _sent(self, owner: str, images: Mapping[str, Stored | None], file: Path) -> frozenset[int]:
        """Note a message in the ledger and give it to the post; return what it is to list."""
        number, earlier = number_of(file), self.owners[owner].earlier(images)
        self.note_sent(Message(owner, number, images, earlier), file)
        return earlier

    def note_sent(self, message: Message, file: Path) -> None:
        """Note a message in the ledger and give it to the post."""
        self._gave(message.owner, message.number)
        self.owners[message.owner].sent[message.number] = message
        for receiver in self.receivers:
            receiver.post.send(message, self.file_for(receiver, message, file), self.clock.now())

    def file_for(self, receiver: Receiver, message: Message, file: Path) -> Path:
        """Return which file of a message a receiver gets."""
        return file

    def _gave(self, owner: str, number: int) -> None:
        """Note the number that an owner gave: it follows the clock, and never goes back."""
        model = self.owners[owner]
        assert model.last < number <= max(model.last + 1, self.clock.now(owner))
        model.last = number

    def delete(self, owner: str) -> None:
        """Ask for the deletion of some pictures, of deleted ones too, or of one that never was."""
        model = self.owners[owner]
        paths = self._some(model.live())
        if self.random.random() < 0.2:
            paths += [path for path in self._some(model.standing()) if path not in paths]
        if self.random.random() < 0.1:
            paths.append(f"never/{next(self._pictures)}.png")
        if not paths:
            return
        listed, output = model.standing(), self.path(f"{owner}-delete")
        words = (self.root / owner, *paths, "-o", output, "--json")
        counts = self.expect(0, "owner", "delete", *words).json["counts"]
        assert counts["not in the ledger"] == sum(path not in listed for path in paths)
        self._sent(owner, dict.fromkeys(paths), output)
        for path in paths:
            if self.random.random() < 0.6:
                (self.root / "pictures" / owner / path).unlink(missing_ok=True)
                model.files.pop(path, None)
        self._bring()

    def _some(self, paths: Iterable[str]) -> list[str]:
        among = sorted(paths)
        return self.random.sample(among, min(len(among), self.random.randint(1, 3)))

    def send_again(self, owner: str) -> None:
        """Make a message again: one that the cloud lacks, or any, or one that never was."""
        gaps = sorted({number for each in self.receivers for number in each.model.gaps(owner)})
        sent = sorted(self.owners[owner].sent)
        numbers = gaps if gaps and self.random.random() < 0.8 else [*sent, 1]
        self._make_again(owner, self.random.choice(numbers))
        self._bring()

    def _make_again(self, owner: str, number: int) -> None:
        model, message = self.owners[owner], self.owners[owner].sent.get(number)
        before = len(model.sent)
        if message is None or not message.is_deletion:
            self._encrypt(owner, model.to_send(message=number), ["--again", number], nothing=2)
        if message is None or message.is_deletion:
            decided, output = model.decided_by(number), self.path(f"{owner}-delete")
            words = (self.root / owner, "--again", number, "-o", output)
            self.expect(0 if decided else 2, "owner", "delete", *words)
            if decided:
                self._sent(owner, dict.fromkeys(decided), output)
        self.figures["made again"] += len(model.sent) > before

    # operations: what the cloud takes

    def _bring(self) -> None:
        if self.random.random() < 0.5:
            self.deliver("")

    def deliver(self, _: str) -> None:
        """Bring letters of all owners to each place at once; at times one that it is to refuse."""
        for receiver in self.receivers:
            now = self.clock.now()
            letters = receiver.post.some(now)
            refused = [each for each in receiver.post.struck if receiver.is_ahead(each, now)]
            refused += [each for each in receiver.post.came if receiver.is_below_floor(each)]
            if refused and self.random.random() < 0.15:
                letters.append(self.random.choice(refused))
            if letters:
                self.bring(receiver, letters)

    def bring(self, receiver: Receiver, letters: list[Letter]) -> None:
        """Bring letters to a place in one call, and compare what it says of them."""
        messages, model = [letter.message for letter in letters], receiver.model
        before, gaps = model.applied, self._all_gaps(model)
        before = {owner: dict(each) for owner, each in before.items()}
        code, counts = self.apply(receiver, messages)
        files = [letter.file for letter in letters]
        words = (receiver.place, "index", self.root / receiver.place, *files, "--json")
        outcome = self.expect(code, *words, *(JOBS if receiver.place == "cloud" else ()))
        if code == 0:
            self.check_counts(receiver, outcome, counts, messages, before)
            receiver.post.delivered(letters)
            new = {each.number for each in messages if each.number not in before.get(each.owner, {})}
            late = {
                each.number for each in messages if each.number < max(before.get(each.owner, {}), default=0)
            }
            to = receiver.post.to
            self.figures[f"{to}delivered"] += len(new)
            self.figures[f"{to}out of order"] += len(new & late)
            self.figures[f"{to}doubled"] += counts.skipped
            self.figures[f"{to}late rows dropped"] += counts.superseded
            self.figures[f"{to}gaps closed"] += len(gaps - self._all_gaps(model))
        elif code == 5:
            self.figures[f"{receiver.post.to}doubled"] += len(letters)
        else:
            self._refused(receiver, letters)

    def apply(self, receiver: Receiver, messages: list[Message]) -> tuple[int, Counts]:
        """Let the model of a place take messages; return the exit code that is due, and the counts."""
        return receiver.model.apply(messages, self.clock.now())

    def _all_gaps(self, model: CloudModel) -> set[tuple[str, int]]:
        return {(owner, number) for owner in OWNERS for number in model.gaps(owner)}

    def check_counts(
        self,
        receiver: Receiver,
        outcome: Outcome,
        due: Counts,
        messages: list[Message],
        before: Mapping[str, Mapping[int, Message]],
    ) -> None:
        """Compare what a place counted with what is due."""
        new = {each.owner for each in messages if each.number not in before.get(each.owner, {})}
        self.compare_counts(outcome, due, receiver.model, new, receiver.model.rows)

    def compare_counts(
        self,
        outcome: Outcome,
        due: Counts,
        model: CloudModel,
        heard_of: Collection[str],
        counted: Collection[str],
    ) -> None:
        """Compare counts, and how much of what the owners ``heard_of`` sent has come."""
        counts, owners = outcome.json["counts"], outcome.json["owners"]
        kinds = ("uploads", "deletions", "images", "images replaced", "images deleted", "superseded")
        assert [counts[kind] for kind in kinds] == [
            *(due.uploads, due.deletions, due.images, due.replaced, due.deleted, due.superseded)
        ]
        assert counts["already applied"] == due.skipped
        images = counts["images in all"] if "images in all" in counts else counts["images of these owners"]
        assert images == sum(len(model.rows.get(owner, ())) for owner in counted)
        assert owners == {
            owner: {"complete": model.complete(owner), "missing": model.gaps(owner)} for owner in heard_of
        }

    def _refused(self, receiver: Receiver, letters: list[Letter]) -> None:
        """Sort letters that were refused: what is too old goes, what may be taken later waits."""
        post, now = receiver.post, self.clock.now()
        old = [each for each in letters if receiver.is_below_floor(each)]
        self.figures["refused for good"] += len(old)
        post.throw_away(old)
        again = [each for each in letters if each in post.waiting]
        early = [each for each in again if self.comes_too_early(receiver, each)]
        post.put_off(early, now + self.random.randint(24, 240) * HOUR)
        ahead = [each for each in again if each not in early and receiver.is_ahead(each, now)]
        self.figures["refused by the clock"] += len(ahead)
        post.put_off(ahead, now + 24 * HOUR)

    def comes_too_early(self, receiver: Receiver, letter: Letter) -> bool:
        """Say whether a place does not know enough of an owner yet to take a letter."""
        return letter.message.owner not in receiver.model.members

    def rebuild(self, _: str) -> None:
        """Make the index anew from the segments."""
        words = ("cloud", "index", self.root / "cloud", "--rebuild", *JOBS, "--json")
        counts = self.expect(0, *words).json["counts"]
        assert counts["uploads and deletions"] == self.cloud.number_of_messages()

    def damage(self, _: str) -> None:
        """Spoil or lose what is left of a message or two; then bring it back, or go on without."""
        cloud = Cloud.open(self.root / "cloud")
        segments = list(cloud.index().segments)
        spoilt = self.random.sample(segments, min(len(segments), self.random.randint(1, 2)))
        paths = [cloud.store.segment_path(segment) for segment in spoilt]
        before = {path: path.read_bytes() for path in paths}
        for path, data in before.items():
            self._spoil(path, data)
        if not spoilt:
            return
        rebuild = ("cloud", "index", self.root / "cloud", "--rebuild", *JOBS)
        self.expect(3, "cloud", "check", self.root / "cloud")
        self.expect(3, *rebuild)
        if self.random.random() < 0.5:
            for path, data in before.items():
                path.write_bytes(data)
            return
        counts = self.expect(0, *rebuild, "--drop-damaged", "--json").json["counts"]
        assert counts["left out"] == len(spoilt)
        self.figures["dropped for damage"] += len(spoilt)
        for segment in spoilt:
            self.cloud.drop(segment.owner, segment.number, self.clock.now())

    def _spoil(self, path: Path, data: bytes) -> None:
        if self.random.random() < 0.3:
            path.unlink()
            return
        spoilt = bytearray(data)
        spoilt[self.random.randrange(len(data) // 2, len(data))] ^= 1 << self.random.randrange(8)
        path.write_bytes(spoilt)

    # operations: keys, users, members, clocks

    def authorize(self, owner: str) -> None:
        """Let a user search."""
        user = self.random.choice(USERS)
        self.expect(0, "owner", "authorize", self.root / owner, self.root / user / "user.pub")
        self.owners[owner].users |= {user}
        self._note_enrolment(owner)
        self.enroll(owner)

    def revoke(self, owner: str) -> None:
        """Let a user search no more."""
        user, model = self.random.choice(USERS), self.owners[owner]
        self.expect(0 if user in model.users else 2, "owner", "revoke", self.root / owner, user)
        if user in model.users:
            model.users -= {user}
            self._note_enrolment(owner)
            self.enroll(owner)

    def rotate(self, owner: str) -> None:
        """Draw a new image key."""
        self.expect(0, "owner", "rotate-key", self.root / owner)
        self._note_key(owner)
        self._note_enrolment(owner)
        self.enroll(owner)

    def _note_key(self, owner: str) -> None:
        key = Owner.open(self.root / owner).image_key
        self.keys[name := f"{key_id(key):016x}"] = key
        self.owners[owner].keys.append(name)

    def forget_key(self, owner: str) -> None:
        """Drop former keys that no image at the cloud can need, as far as it says that it is complete."""
        model = self.owners[owner]
        applied = self.complete_everywhere(owner)
        if self.random.random() < 0.2:
            applied = self.random.choice(self.reported[owner])
        former, in_use = model.keys[:-1], model.in_use(applied)
        key = (
            self.random.choice([*model.keys, *sorted(model.forgotten)]) if self.random.random() < 0.3 else ""
        )
        if applied > model.last:
            code, dropped = 2, []
        elif key:
            was_forgotten = key in model.forgotten
            code = 9 if key in {model.keys[-1], *in_use} else 5 if was_forgotten else 0
            dropped = [key]
        else:
            dropped = [each for each in former if each not in in_use]
            code = 0 if dropped else 9 if former else 5
        # 1 says that the cloud is not complete up to any message: no message has this number
        words = (self.root / owner, *([key] if key else []), "--applied", applied or 1)
        self.expect(code, "owner", "forget-key", *words)
        if not code:
            self.figures["keys forgotten"] += len(dropped)
            model.forget(dropped)
            self._note_enrolment(owner)
            self.enroll(owner)

    def _note_enrolment(self, owner: str) -> None:
        """Keep the files that the owner just wrote, and what they say."""
        folder = self.path(f"{owner}-enrolment").with_suffix("")
        folder.mkdir()
        for name in FILES.values():
            shutil.copy(self.root / owner / name, folder)
        self._gave(owner, number_of(folder / FILES["kmc"]))
        for place, name in FILES.items():
            number = number_of(folder / name)
            self.enrolments[owner, place].append((self.owners[owner].enrolment(number), folder / name))

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
        code = self.note_enrolled_at_kmc(owner, enrolment)
        self.expect(code, "kmc", "enroll", self.root / "kmc", file)

    def note_enrolled_at_kmc(self, owner: str, enrolment: Enrolment) -> int:
        """Let the model of the KMC take an enrolment; return the exit code that is due."""
        return self.kmc.enroll(owner, enrolment, self.clock.now())

    def enroll_at_cloud(self, owner: str) -> None:
        """Enrol at the cloud."""
        enrolment, file = self._enrolment(owner, "cloud")
        is_back = owner in self.cloud.left and owner not in self.cloud.members
        code = self.cloud.enroll(owner, enrolment, self.clock.now())
        self.expect(code, "cloud", "enroll", self.root / "cloud", file)
        self.figures["came back"] += is_back and not code

    def remove(self, owner: str) -> None:
        """End a membership at one of the two places."""
        place = self.random.choice(("kmc", "cloud"))
        code = self.note_removed_from_kmc(owner) if place == "kmc" else self.cloud.remove(owner)
        self.expect(code, place, "remove", self.root / place, owner, "--yes")

    def note_removed_from_kmc(self, owner: str) -> int:
        """Let the model of the KMC let go of an owner; return the exit code that is due."""
        return self.kmc.remove(owner)

    def rotate_key(self, _: str) -> None:
        """Renew the KMC's sealing key; most of the others take it over."""
        drop = self.random.random() < 0.5
        self.expect(0, "kmc", "rotate-key", self.root / "kmc", *(["--drop-former"] if drop else []))
        self.kmc.rotate(drop_former=drop)
        public = self.root / "kmc" / "sealing.pub"
        for user in USERS:
            if self.random.random() < 0.8:
                self.expect(0, "user", "update-kmc-key", self.root / user, public)
                self.user_sealing[user] = self.kmc.sealing
        for owner, model in self.owners.items():
            if self.random.random() < 0.8:
                self.expect(0, "owner", "update-kmc-key", self.root / owner, public)
                model.sealing = self.kmc.sealing
                self._note_enrolment(owner)
                self.enroll(owner)

    def wrong_clock(self, owner: str) -> None:
        """Let an owner's clock run ahead, by hours or years; if it does, it is noticed."""
        if self.clock.ahead[owner]:
            return self.set_clock(owner)
        self.clock.ahead[owner] = self.random.choice(_AHEAD) * HOUR
        self.figures["clocks ahead"] += 1
        return None

    def set_clock(self, owner: str) -> None:
        """Set a clock right, and the owner's numbers, above what the receivers took."""
        self.clock.ahead[owner] = 0
        model, now = self.owners[owner], self.clock.now()
        at_kmc = self.kmc.enrolled[owner].number if owner in self.kmc.enrolled else self.kmc.left[owner]
        taken = max(self.cloud.left.get(owner, 0), at_kmc)
        for place in (receiver.model for receiver in self.receivers):
            taken = max(taken, place.highest(owner), place.refused.get(owner, 0))
        above = taken if taken > now else 0
        struck = model.renumber(above, now)
        words = ("owner", "renumber", self.root / owner, *(["--above", above] if above else []))
        self.expect(5 if struck is None else 0, *words)
        if struck is not None:
            self.figures["renumbered"] += 1
            self.figures["struck"] += len(struck)
            for receiver in self.receivers:
                receiver.post.strike(owner, struck)
            self._note_enrolment(owner)
            self.enroll(owner)

    # operations: what there is

    def check(self, _: str) -> None:
        """Let both check themselves."""
        self.expect(0, "cloud", "check", self.root / "cloud", "--sums")
        self.expect(0, "kmc", "check", self.root / "kmc")

    def query(self, _: str) -> None:
        """Search, have the matches re-encrypted, decrypt them, and compare every file."""
        user = self.random.choice(USERS)
        query, results, answer = (self.path(name) for name in ("query", "results", "answer"))
        words = (self.root / user, self.root / "query.png", "-o", query, "--candidates", 999)
        self.expect(0, "user", "query", *words)
        allowed = any(user in member.users for member in self.cloud.members.values())
        search = ("cloud", "search", self.root / "cloud", query, "-o", results)
        self.expect(0 if allowed else 4, *search, *self.random.choice([(), ("--without-index", *JOBS)]))
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
        self.figures["pictures decrypted"] += len(got)
        shutil.rmtree(folder)

    # the whole

    def operations(self) -> list[tuple[int, Callable[[str], None]]]:
        """Return each operation with its weight."""
        return [
            (22, self.send),
            (12, self.delete),
            (6, self.send_again),
            (16, self.deliver),
            (5, self.authorize),
            (3, self.revoke),
            (5, self.rotate),
            (6, self.forget_key),
            (4, self.enroll),
            (3, self.remove),
            (2, self.rotate_key),
            (3, self.wrong_clock),
            (2, self.rebuild),
            (1, self.damage),
            (2, self.check),
            (10, self.query),
        ]

    def step(self) -> str:
        """Do one operation, and check that all is as the model says; return its name."""
        weights, operations = zip(*self.operations(), strict=True)
        operation = self.random.choices(operations, weights)[0]
        self.clock.right += (
            self.random.choice([self.random.randint(1, 60), self.random.randint(60, 2000)]) * HOUR // 60
        )
        operation(self.random.choice(OWNERS))
        for owner in OWNERS:
            if self.clock.ahead[owner] and self.random.random() < 0.1:
                self.set_clock(owner)
            if owner not in self.cloud.members and self.random.random() < 0.2:
                self.authorize(owner)
        self.compare()
        name = str(operation.__name__)
        self.counts[name] += 1
        return name

    def settle(self) -> None:
        """Bring everything that was not lost, make again what was, and compare with the owners' records."""
        for owner in OWNERS:
            self.set_clock(owner)
            self._draw(owner, f"last/{next(self._pictures)}.png")
            self.expect(0, "owner", "authorize", self.root / owner, self.root / "alice" / "user.pub")
            self.owners[owner].users |= {"alice"}
            self._note_enrolment(owner)
            self.enroll_everywhere(owner)
        for _ in range(4):  # what is made again may be lost again
            for owner in OWNERS:
                for number in self.lost(owner):
                    self._make_again(owner, number)
                self._draw(owner, f"last/{next(self._pictures)}.png")  # the last lists all before it
                self._encrypt(owner, self.owners[owner].to_send(), [], nothing=5)
            for receiver in self.receivers:
                for letter in self.random.sample(receiver.post.waiting, len(receiver.post.waiting)):
                    self.bring(receiver, [letter])
            self.compare()
        for owner in OWNERS:
            for receiver in self.receivers:
                self.compare_with_record(owner, receiver.model)
        self._compare_with_another_cloud()

    def enroll_everywhere(self, owner: str) -> None:
        """Bring an owner's last word to where owners' messages come to."""
        enrolment, file = self.enrolments[owner, "cloud"][-1]
        code = self.cloud.enroll(owner, enrolment, self.clock.now())
        self.expect(code, "cloud", "enroll", self.root / "cloud", file)
        assert code == 0

    def lost(self, owner: str) -> list[int]:
        """Return which messages of an owner are to be made again."""
        return self.cloud.gaps(owner)

    def _compare_with_another_cloud(self) -> None:
        """Bring all that was ever made to a new cloud, in another order: the highest number decides there.

        A few are lost on the way: then the cloud is as if they had never been made.
        """
        folder = self.root / "another-cloud"
        self.expect(0, "cloud", "init", folder, "--kmc", self.root / "kmc" / "kmc.pub")
        members = [self.enrolments[owner, "cloud"][-1][1] for owner in OWNERS]
        self.expect(0, "cloud", "enroll", folder, *members)
        came = [letter for letter in self.receivers[0].post.all if self.random.random() < 0.95]
        files = [letter.file for letter in self.random.sample(came, len(came))]
        while files:
            number = self.random.randint(1, 20)
            some, files = files[:number], files[number:]
            self.expect(0, "cloud", "index", folder, *some, self.random.choice(some), *JOBS)
        cloud = Cloud.open(folder)
        live = {
            owner: live_of(each.message for each in came if each.message.owner == owner) for owner in OWNERS
        }
        assert self.table_of(cloud, cloud.index()) == self.table_due(live)
        self.figures["in another order"] = len(came)
