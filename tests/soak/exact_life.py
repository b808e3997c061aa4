"""A life in scheme `exact`: uploads go to the cloud and features to the KMC, each by a post of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

from mipp_cli.containers.base.container import open_container
from mipp_cli.containers.messages.upload import UploadReader, upload_schema
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.kmc.store import FeatureStore
from mipp_cli.owner.owner import Owner
from tests.soak.exact_world import ExactWorld
from tests.soak.life import Life, Receiver
from tests.soak.model import Counts, Enrolment, FeaturesModel, Message, Plan, Stored, live_of
from tests.soak.post import Letter, Post
from tests.soak.questions import Questions
from tests.soak.world import OWNERS, USERS, number_of
from tests.support.deployment import JOBS, Outcome


class ExactLife(ExactWorld, Life):
    """A life whose owners send groups, and whose KMC keeps features and ranks them."""

    def __init__(self, root: Path, seed: int, *scheme: str):
        self.features = FeaturesModel()
        self.group_size = int(scheme[-1])
        self._group_ids = count()
        self._kept: dict[str, set[int]] = {name: set() for name in OWNERS}  # features files at the owner's
        self._files: dict[tuple[str, int], Path] = {}  # what the KMC gets of each message
        super().__init__(root, seed, *scheme)

    def _begin(self, scheme: tuple[str, ...]) -> None:
        self.features.members = self.kmc.enrolled
        post = Post(self.random, self.figures, "KMC: ")
        self.receivers.append(Receiver("kmc", self.features, post))
        self.questions = Questions(self)
        super()._begin(scheme)

    # what an owner sends

    def _change_files(self, owner: str) -> None:
        """Lose a file, too, now and then, whose image stays where it was sent."""
        super()._change_files(owner)
        files = sorted(self.owners[owner].files)
        if files and self.random.random() < 0.1:
            path = self.random.choice(files)
            del self.owners[owner].files[path]
            (self.root / "pictures" / owner / path).unlink()

    def _sent_with(self, owner: str, chosen: set[str]) -> set[str]:
        model = self.owners[owner]
        return model.plan(chosen, model.files.keys()).sent

    def _encrypt(self, owner: str, chosen: set[str], options: list[object], *, nothing: int) -> None:
        """Run `owner encrypt` over the owner's folder, or one in it, which is to send ``chosen`` of it."""
        model, output = self.owners[owner], self.path(f"{owner}-upload")
        below = self.random.choice("abc") if nothing == 5 and self.random.random() < 0.15 else "."
        at_hand = {path for path in model.files if below == "." or path.startswith(f"{below}/")}
        if not at_hand:
            return
        chosen = chosen & at_hand
        plan, small = model.plan(chosen, at_hand), self.random.random() < 0.7
        code = 0 if chosen else nothing
        if 0 < len(plan.new) < self.group_size and not small:
            code = 9
            self.figures["too few for a group"] += 1
        folder = self.root / "pictures" / owner
        words = (self.root / owner, folder / below, "--root", folder, "-o", output, *options, *JOBS)
        outcome = self.expect(code, "owner", "encrypt", *words, "--json", *(["--small"] if small else []))
        if code == 0:
            self._compare_plan(outcome, plan, chosen)
            self._note_uploads(owner, plan, output)

    def _compare_plan(self, outcome: Outcome, plan: Plan, chosen: set[str]) -> None:
        counts = outcome.json["counts"]
        assert (counts["images"], counts["sent with their group"]) == (
            len(plan.sent),
            len(plan.sent - chosen),
        )
        told = f"{plan.moved} images moved to new groups" in outcome.out + outcome.err
        assert told == (plan.moved > 0)
        self.figures["sent with their group"] += len(plan.sent - chosen)
        self.figures["moved to new groups"] += plan.moved

    def _note_uploads(self, owner: str, plan: Plan, output: Path) -> None:
        """Note what the uploads hold: groups that stay as they were, and new ones of a size that is due."""
        model, role = self.owners[owner], Owner.open(self.root / owner)
        names = {role.name_on_the_wire(path): path for path in plan.sent}
        stay = {frozenset(paths): group for group, paths in plan.kept.items()}
        parameters, new = role.directory.deployment.parameters, []
        for file in sorted(self.root.glob(f"{output.stem}*.h5")):
            if ".features" in file.name:
                continue
            with open_container(file, upload_schema(parameters)) as container:
                upload = UploadReader(container, parameters)
                paths, ends = [names[name] for name in upload.names()], upload.group_ends().tolist()
                earlier = frozenset(upload.earlier())
            cut = [paths[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
            new += [group for group in cut if frozenset(group) not in stay]
            numbers = [stay.pop(frozenset(group), None) for group in cut]
            ids = [next(self._group_ids) if number is None else number for number in numbers]
            images = {path: Stored(model.files[path], model.keys[-1]) for path in paths}
            assert model.earlier(images) == earlier
            message = Message(
                owner,
                number_of(file),
                images,
                earlier,
                {path: ids[place] for place, group in enumerate(cut) for path in group},
                {path: place for place, group in enumerate(cut) for path in group},
            )
            self.note_sent(message, file)
            kept = self.root / owner / "features" / f"{message.number}.h5"
            assert kept.read_bytes() == self._features_of(file).read_bytes()
        assert not stay, "a group was not sent as it was"
        assert sorted(path for group in new for path in group) == sorted(plan.new)
        size = self.group_size
        assert len(new) == (max(1, len(plan.new) // size) if plan.new else 0)
        assert all(min(size, len(plan.new)) <= len(group) < 2 * size for group in new)

    def note_sent(self, message: Message, file: Path) -> None:
        """Note a message, and which features files the owner keeps: those of which rows count."""
        super().note_sent(message, file)
        kept, model = self._kept[message.owner], self.owners[message.owner]
        if not message.is_deletion:
            kept.add(message.number)
        deciding = {each.number for each in model.standing().values()}
        kept &= deciding

    @staticmethod
    def _features_of(file: Path) -> Path:
        return file.with_name(f"{file.stem}.features.h5")

    def file_for(self, receiver: Receiver, message: Message, file: Path) -> Path:
        """Return the upload for the cloud and the features for the KMC; a deletion is for both."""
        if receiver.model is not self.features:
            return file
        found = file if message.is_deletion else self._features_of(file)
        self._files[message.owner, message.number] = found
        return found

    # what the KMC takes

    def apply(self, receiver: Receiver, messages: list[Message]) -> tuple[int, Counts]:
        """Let the model of a place take messages; return the exit code that is due, and the counts."""
        if receiver.model is self.features:
            return self.features.take(messages, self.clock.now(), self.kmc)
        return super().apply(receiver, messages)

    def check_counts(
        self,
        receiver: Receiver,
        outcome: Outcome,
        due: Counts,
        messages: list[Message],
        before: Mapping[str, Mapping[int, Message]],
    ) -> None:
        """Compare what a place counted with what is due; the KMC says it of the owners it heard of."""
        if receiver.model is not self.features:
            super().check_counts(receiver, outcome, due, messages, before)
            return
        heard_of = {each.owner for each in messages}
        self.compare_counts(outcome, due, self.features, heard_of, heard_of)
        assert outcome.json["counts"]["repaired"] == 0

    def comes_too_early(self, receiver: Receiver, letter: Letter) -> bool:
        """Say whether a place does not know enough of an owner yet to take a letter."""
        if super().comes_too_early(receiver, letter) or receiver.model is not self.features:
            return super().comes_too_early(receiver, letter)
        owner = letter.message.owner
        keys = {stored.key for stored in letter.message.images.values() if stored}
        return not keys <= self.kmc.keys[owner] | self.kmc.forgotten[owner]

    def complete_everywhere(self, owner: str) -> int:
        """Return up to which number all has come to both; at times nobody asks the KMC."""
        at_cloud = super().complete_everywhere(owner)
        return at_cloud if self.random.random() < 0.3 else min(at_cloud, self.features.complete(owner))

    def note_enrolled_at_kmc(self, owner: str, enrolment: Enrolment) -> int:
        """Let the model of the KMC take an enrolment; what was sent before a return is not taken any more."""
        is_back = owner in self.kmc.left and owner not in self.kmc.enrolled
        code = super().note_enrolled_at_kmc(owner, enrolment)
        if is_back and not code:
            self.features.raise_floor(owner, enrolment.number, removed=True)
            self.figures["KMC: came back"] += 1
        return code

    def note_removed_from_kmc(self, owner: str) -> int:
        """Let the model of the KMC let go of an owner and its features."""
        code = super().note_removed_from_kmc(owner)
        if not code:
            self.features.leave(owner)
        return code

    def damage_kmc(self, owner: str) -> None:
        """Spoil or lose a file of what the KMC keeps of an owner; the owner's files make it whole."""
        enrolled = Kmc.open(self.root / "kmc").owner(owner)
        if enrolled is None:
            return
        store = FeatureStore.of(Kmc.open(self.root / "kmc"), enrolled)
        paths = sorted(store.files(store.index()) - {store.index_file})
        if not paths:
            return
        path = self.random.choice([each for each in paths if each.exists()])
        number = int(path.name.partition("-")[0].partition(".")[0])
        self._spoil(path, path.read_bytes())
        assert path.name in self.expect(3, "kmc", "check", self.root / "kmc").err
        message = self.features.applied[owner][number]
        if not message.is_deletion:
            self.questions.ask_beside_damage(owner, number)
        words = ("kmc", "index", self.root / "kmc", self._files[owner, number], "--json")
        counts = self.expect(0, *words).json["counts"]
        assert (counts["repaired"], counts["images"]) == (1, 0)
        self.expect(0, "kmc", "check", self.root / "kmc")
        self.figures["KMC: repaired"] += 1

    # what there is

    def query(self, _: str) -> None:
        """Ask, and compare each step on the way to the decrypted pictures; at times much happens between."""
        self.questions.ask(self.random.choice(USERS))

    def meanwhile(self) -> None:
        """Do something between two steps of a question."""
        operations = (self.deliver, self.delete, self.send, self.revoke, self.remove, self.rotate_key)
        self.random.choice(operations)(self.random.choice(OWNERS))

    def operations(self) -> list[tuple[int, Callable[[str], None]]]:
        """Return each operation with its weight."""
        return [*super().operations(), (2, self.damage_kmc)]

    # the whole

    def enroll_everywhere(self, owner: str) -> None:
        """Bring an owner's last word to both, sealed to the key that the KMC has now."""
        if self.owners[owner].sealing != self.kmc.sealing:
            self.expect(0, "owner", "update-kmc-key", self.root / owner, self.root / "kmc" / "sealing.pub")
            self.owners[owner].sealing = self.kmc.sealing
            self._note_enrolment(owner)
        super().enroll_everywhere(owner)
        enrolment, file = self.enrolments[owner, "kmc"][-1]
        code = self.note_enrolled_at_kmc(owner, enrolment)
        self.expect(code, "kmc", "enroll", self.root / "kmc", file)
        assert code == 0

    def lost(self, owner: str) -> list[int]:
        """Return what is to be made again: what the cloud lacks, and deletions that the KMC lacks.

        Features that the KMC lacks the owner hands out as they are kept; the images of others it sends again.
        """
        missing = self._hand_out(owner)
        sent = self.owners[owner].sent
        lacks = [
            number for number in self.features.gaps(owner) if number in sent and sent[number].is_deletion
        ]
        return sorted({*super().lost(owner), *lacks, *missing - {*self.features.applied.get(owner, {})}})

    def _hand_out(self, owner: str) -> set[int]:
        """Bring the features that the owner keeps to the KMC; return the uploads whose features it lacks."""
        standing = self.owners[owner].standing().values()
        uploads = {message.number for message in standing if not message.is_deletion}
        folder = self.path(f"{owner}-handed").with_suffix("")
        # what was struck since had taken the place of others, whose features were not kept
        missing = uploads - self._kept[owner]
        code = 5 if not uploads else 3 if missing == uploads else 0
        outcome = self.expect(code, "owner", "features", self.root / owner, "-o", folder)
        for number in missing:
            assert f"--again {number}" in outcome.err
        self.figures["features not kept"] += len(missing)
        if code:
            return missing
        found = {number_of(file): file for file in folder.iterdir()}
        assert {*found} == uploads - missing
        above = self.features.refused.get(owner, 0)
        letters = [
            Letter(self.owners[owner].sent[number], file) for number, file in found.items() if number > above
        ]
        if letters:
            self.bring(self.receivers[1], letters)
        return missing

    def settle(self) -> None:
        """Bring everything that was not lost, make again what was, and compare with the owners' records."""
        super().settle()
        for user in USERS:
            self.questions.ask(user, share=0)
        self.check("")
        self._compare_with_another_kmc()

    def _compare_with_another_kmc(self) -> None:
        """Bring all features that were ever made to a KMC that lost its own, in another order.

        It does not know of removals either.
        """
        folder = self.root / "another-kmc"
        shutil.copytree(self.root / "kmc", folder)
        for name in ("features", "floors", "removed"):
            shutil.rmtree(folder / name, ignore_errors=True)
        came = [letter for letter in self.receivers[1].post.all if self.random.random() < 0.95]
        files = [letter.file for letter in self.random.sample(came, len(came))]
        while files:
            number = self.random.randint(1, 20)
            some, files = files[:number], files[number:]
            self.expect(0, "kmc", "index", folder, *some, self.random.choice(some))
        kmc = Kmc.open(folder)
        for owner in OWNERS:
            live = live_of(each.message for each in came if each.message.owner == owner)
            kept = self.kept_at(kmc, owner)
            names = {self.digest_of(owner, path): path for path in live}
            assert {names[name] for name in kept} == {*live}
        self.figures["KMC: in another order"] = len(came)
