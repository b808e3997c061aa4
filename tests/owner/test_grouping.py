"""Groups of images: how new ones are cut, and that mates stay mates whatever is sent again."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.errors import AlreadyAppliedError, TooFewImagesError
from mipp_cli.owner import descriptions
from mipp_cli.owner.delete import delete_images
from mipp_cli.owner.grouping import Grouping
from mipp_cli.owner.ledger import Ledger, Message, SentImage
from mipp_cli.owner.whats_new import EncryptOptions
from mipp_cli.report import Report
from mipp_cli.scheme.groups import Row, cut
from tests.owner.test_descriptions import stop_at, watched
from tests.support.deployment import change_state, check_refusal, done, snapshot
from tests.support.owner_world import OwnerWorld, killed, make_world, together, uploads

G = 4
NAMES = tuple(f"{number:02d}.png" for number in range(12))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> OwnerWorld:
    """An owner whose groups have four images, and who sent nothing yet."""
    return make_world(tmp_path_factory.mktemp("grouping") / "world", "--group-size", G)


@pytest.fixture
def names() -> tuple[str, ...]:
    """The pictures of these tests."""
    return tuple(NAMES)


def group_of(world: OwnerWorld, path: str) -> frozenset[str]:
    """Return the live images that an image is with."""
    return next(group for group in world.groups() if path in group)


def sent(world: OwnerWorld, told: dict[str, Any]) -> list[str]:
    """Return the paths of all rows that a command wrote."""
    return [path for upload in uploads(told) for group in world.paths(upload) for path in group]


def moved(told: dict[str, Any]) -> list[str]:
    return [warning for warning in told["warnings"] if "moved to new groups" in warning]


# New images


@pytest.mark.parametrize(
    ("count", "sizes"), [(4, [4]), (7, [7]), (8, [4, 4]), (11, [4, 7]), (12, [4, 4, 4]), (15, [4, 4, 7])]
)
def test_new_images_are_cut_with_the_remainder_last(
    template: OwnerWorld, tmp_path: Path, count: int, sizes: list[int]
) -> None:
    world = template.copy(tmp_path / "world")
    world.draw(*(f"{number}.png" for number in range(count)))
    world.send()
    assert sorted(map(len, world.groups())) == sizes


def test_rows_are_cut_by_size_class_and_then_by_lot() -> None:
    rows = [Row(str(number), 100, b"", number % 2, bytes([50 - number])) for number in range(20)]
    groups = cut(rows, 8)
    assert [len(group) for group in groups] == [8, 12]
    expected = [*range(18, -1, -2), *range(19, -1, -2)]
    assert [int(row.path) for group in groups for row in group] == expected


@pytest.mark.parametrize("count", [1, 3])
def test_fewer_images_than_a_group_are_refused(fresh: OwnerWorld, count: int) -> None:
    before = snapshot(fresh.north)
    named = fresh.pictures / "few"
    fresh.draw(*(f"few/{number}.png" for number in range(count)), seed=1)
    outcome = fresh.refused(named=named)
    check_refusal(outcome, 9)
    assert f"too few new images for a group of 4: {count}" in outcome.err
    assert "--small" in outcome.err
    assert not list(fresh.root.glob("new*"))
    after = snapshot(fresh.north)
    assert {path for path in after if after[path] != before.get(path)} <= {str(fresh.north / "uploads")}


def test_small_admits_a_group_of_few(fresh: OwnerWorld) -> None:
    for name in NAMES[3:]:
        (fresh.pictures / name).unlink()
    fresh.send("--small")
    assert fresh.groups() == {frozenset(NAMES[:3])}


def test_new_images_do_not_join_a_group_of_few(fresh: OwnerWorld) -> None:
    fresh.send("--small", named=fresh.pictures / "00.png")
    fresh.send()
    assert sorted(map(len, fresh.groups())) == [1, 4, 7]
    assert group_of(fresh, "00.png") == {"00.png"}


def test_groups_of_one_turn_groups_off(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world", "--group-size", 1)
    world.draw("a.png", "b.png")
    world.send()
    assert world.groups() == {frozenset({"a.png"}), frozenset({"b.png"})}
    world.draw("a.png", seed=1)
    told = world.send()
    assert sent(world, told) == ["a.png"]
    assert not moved(told)


def test_the_rows_of_a_group_are_of_one_length(fresh: OwnerWorld) -> None:
    for number, name in enumerate(NAMES):
        fresh.draw(name, seed=number, size=16 + 20 * number)
    (upload,) = uploads(fresh.send())
    stated = fresh.of_upload(upload)
    begins = [0, *stated.ends]
    lengths = [set(stated.lengths[begin:end]) for begin, end in zip(begins, stated.ends, strict=False)]
    assert [len(each) for each in lengths] == [1, 1, 1]
    assert len(set.union(*lengths)) > 1


def test_like_sizes_go_together(fresh: OwnerWorld) -> None:
    for number, name in enumerate(NAMES):
        fresh.draw(name, seed=number, size=16 if number % 3 else 400)
    fresh.send()
    large = frozenset(NAMES[::3])
    assert large in fresh.groups()


# Mates


def test_who_changed_is_sent_with_its_mates(world: OwnerWorld) -> None:
    mates = group_of(world, "05.png")
    world.draw("05.png", seed=1)
    told = world.send()
    assert (told["counts"]["images"], told["counts"]["changed"]) == (4, 1)
    assert told["counts"]["sent with their group"] == 3
    assert together(world.paths(uploads(told)[0])) == {mates}
    assert mates in world.groups()


def test_mates_stay_together_over_many_changes(world: OwnerWorld) -> None:
    before = world.groups()
    for number, name in enumerate(NAMES[:6]):
        world.draw(name, seed=number + 1)
        world.send()
    assert world.groups() == before


def test_new_images_go_into_groups_of_their_own(world: OwnerWorld) -> None:
    before = world.groups()
    world.draw(*(f"new/{number}.png" for number in range(5)), seed=1)
    world.draw("05.png", seed=2)
    world.send()
    assert before < world.groups()
    assert group_of(world, "new/0.png") == {f"new/{number}.png" for number in range(5)}


@pytest.mark.parametrize("options", [("--again",), ("--again", "--split", "1")])
def test_what_is_sent_again_keeps_its_groups(world: OwnerWorld, options: tuple[str, ...]) -> None:
    before = world.groups()
    told = world.send(*options)
    assert set().union(*(together(world.paths(upload)) for upload in uploads(told))) == before
    assert world.groups() == before


def test_one_upload_sent_again_keeps_its_groups(world: OwnerWorld) -> None:
    world.draw(*(f"new/{number}.png" for number in range(4)), seed=1)
    world.send()
    before, first = world.groups(), world.ledger.messages()[0].number
    told = world.send("--again", first)
    assert sorted(sent(world, told)) == [*NAMES]
    assert world.groups() == before


def test_mates_stay_mates_under_a_new_key(world: OwnerWorld) -> None:
    before = world.groups()
    done("owner", "rotate-key", world.north)
    world.draw("05.png", seed=1)
    world.send()
    assert world.groups() == before
    world.send("--again")
    assert world.groups() == before


def test_deleted_images_are_not_sent_with_their_mates(world: OwnerWorld) -> None:
    group = sorted(group_of(world, "05.png"))
    gone = next(path for path in group if path != "05.png")
    world.delete(gone)
    world.draw("05.png", seed=1)
    told = world.send()
    assert sorted(sent(world, told)) == sorted({*group} - {gone})
    assert not moved(told)


def test_undeleted_images_come_back_to_their_mates(world: OwnerWorld) -> None:
    before = world.groups()
    world.delete("05.png")
    told = world.send("--undelete")
    assert told["counts"]["sent with their group"] == 3
    assert not moved(told)
    assert world.groups() == before


def test_undeleted_images_find_mates_that_changed_meanwhile(world: OwnerWorld) -> None:
    before = world.groups()
    mate = next(path for path in group_of(world, "05.png") if path != "05.png")
    world.delete("05.png")
    world.draw(mate, seed=1)
    world.send()
    world.send("--undelete")
    assert world.groups() == before


def test_who_was_undeleted_without_its_mates_stays_apart(world: OwnerWorld) -> None:
    mates = group_of(world, "05.png") - {"05.png"}
    world.delete("05.png")
    told = world.send("--undelete", "--small", named=world.pictures / "05.png")
    assert len(moved(told)) == 1
    world.send("--again")
    assert {mates, frozenset({"05.png"})} <= world.groups()


def test_a_split_cuts_no_group(world: OwnerWorld) -> None:
    told = world.send("--again", "--split", "1")
    assert [len(world.paths(upload)) for upload in uploads(told)] == [1, 1, 1]


def test_a_touched_mate_goes_with_its_group(world: OwnerWorld) -> None:
    before, mates = world.groups(), group_of(world, "05.png")
    for name in mates:
        (world.pictures / name).touch()
    world.draw("05.png", seed=1)
    told = world.send()
    assert told["counts"]["unchanged"] == 11
    assert sorted(sent(world, told)) == sorted(mates)
    assert world.groups() == before


# Mates whose pictures are not at hand


def test_without_the_pictures_of_its_mates_an_image_moves(world: OwnerWorld) -> None:
    mates = group_of(world, "05.png")
    world.draw("05.png", seed=1)
    told = world.send("--small", named=world.pictures / "05.png")
    assert sent(world, told) == ["05.png"]
    (warning,) = moved(told)
    assert warning.startswith("1 images moved to new groups")
    assert {frozenset({"05.png"}), mates - {"05.png"}} <= world.groups()


def test_who_would_move_is_told_how_not_to(world: OwnerWorld) -> None:
    world.draw("05.png", seed=1)
    outcome = world.refused(named=world.pictures / "05.png")
    check_refusal(outcome, 9)
    assert "name the whole collection, so that 1 of them stay in their groups" in outcome.err


def test_images_that_move_go_together_with_new_ones(world: OwnerWorld) -> None:
    world.draw(*(f"new/{number}.png" for number in range(3)), seed=1)
    world.draw("05.png", seed=2)
    told = world.send("--files-from", _listed(world), named=world.pictures / "05.png")
    assert len(moved(told)) == 1
    assert group_of(world, "05.png") == {"05.png", "new/0.png", "new/1.png", "new/2.png"}


def _listed(world: OwnerWorld) -> Path:
    file = world.root / "list.txt"
    file.write_text("".join(f"{world.pictures / 'new' / f'{number}.png'}\n" for number in range(3)))
    return file


def test_one_missing_mate_makes_no_other_mate_move(world: OwnerWorld) -> None:
    group = group_of(world, "05.png")
    gone = max(group - {"05.png"})
    (world.pictures / gone).rename(world.root / "away.png")
    world.draw("05.png", seed=1)
    told = world.send("--small")
    assert sent(world, told) == ["05.png"]
    assert group - {"05.png"} in world.groups()


def test_a_mate_that_cannot_be_read_is_an_error(world: OwnerWorld) -> None:
    mate = max(group_of(world, "05.png") - {"05.png"})
    world.draw("05.png", seed=1)
    (world.pictures / mate).write_text("no picture")
    outcome = world.refused()
    check_refusal(outcome, 7)
    assert f"error: {world.pictures / mate}: " in outcome.err


def test_a_mate_that_cannot_be_read_may_be_skipped(world: OwnerWorld) -> None:
    group = group_of(world, "05.png")
    mate = max(group - {"05.png"})
    world.draw("05.png", seed=1)
    (world.pictures / mate).write_text("no picture")
    told = world.send("--skip-unreadable", "--small")
    assert told["counts"]["skipped"] == 1
    assert sent(world, told) == ["05.png"]
    assert len(moved(told)) == 1
    assert group - {"05.png"} in world.groups()


def test_a_mate_spoiled_without_a_trace_may_be_skipped(
    world: OwnerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = group_of(world, "05.png")
    mate = max(group - {"05.png"})
    (world.pictures / mate).write_text("no picture")
    version = world_version(world, mate)
    world.ledger.refresh({mate: version})  # the ledger takes it for what was sent
    world.draw("05.png", seed=1)
    check_refusal(world.refused(), 7)
    told = world.send("--skip-unreadable", "--small", "--no-resume")
    assert told["counts"]["skipped"] == 1
    assert sent(world, told) == ["05.png"]
    assert group - {"05.png"} in world.groups()


def world_version(world: OwnerWorld, name: str) -> str:
    """Return what the ledger would list of a picture as it is now."""
    status = (world.pictures / name).stat()
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} file"


# What would be sent


def test_a_dry_run_counts_mates(world: OwnerWorld) -> None:
    world.draw("05.png", seed=1)
    told = done(*world.command("--dry-run", "--json")).json
    counts = world.send()["counts"]
    assert told["counts"]["sent with their group"] == 3
    assert {name: told["counts"][name] for name in told["counts"] if name in counts} == {
        name: counts[name] for name in told["counts"] if name in counts
    }


def test_a_dry_run_says_that_small_is_needed(world: OwnerWorld) -> None:
    world.draw("new.png", seed=1)
    words = "it would be refused without --small: too few new images for a group of 4: 1"
    assert words in done(*world.command("--dry-run")).out
    assert words not in done(*world.command("--dry-run", "--small")).out


def test_a_dry_run_warns_of_images_that_would_move(world: OwnerWorld) -> None:
    world.draw("05.png", seed=1)
    told = done(*world.command("--dry-run", "--json", named=world.pictures / "05.png")).json
    assert len(moved(told)) == 1
    assert not moved(done(*world.command("--dry-run", "--json")).json)


# Runs that are refused, interrupted or killed


@pytest.fixture
def sync_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each image be worth going on with."""
    monkeypatch.setattr(descriptions, "SYNC_IMAGES", 1)


def described(world: OwnerWorld, *words: object) -> list[int]:
    """Send pictures, and return how far the description of pictures was at each step."""
    steps: list[int] = []
    outcome = watched(
        lambda what, count: steps.append(count) if what == "describing" else None, *world.command(*words)
    )
    assert outcome.code == 0, outcome.err
    return steps


@pytest.mark.usefixtures("sync_always")
def test_a_refusal_for_too_few_comes_before_the_work(world: OwnerWorld) -> None:
    world.draw("05.png", "new.png", seed=1)
    steps: list[str] = []
    outcome = watched(lambda what, _: steps.append(what), *world.command())
    check_refusal(outcome, 9)
    assert "describing" not in steps
    assert "--resume" not in outcome.err
    assert described(world, "--small")[0] == 0


@pytest.mark.usefixtures("sync_always")
def test_too_few_images_after_a_skip_lose_no_work(world: OwnerWorld) -> None:
    world.draw(*(f"new/{number}.png" for number in range(4)), seed=1)
    (world.pictures / "new" / "0.png").write_text("no picture")
    outcome = world.refused("--skip-unreadable")
    check_refusal(outcome, 9)
    assert "--resume" in outcome.err
    assert described(world, "--skip-unreadable", "--small", "--resume")[1] == 3


@pytest.mark.usefixtures("sync_always")
def test_a_refusal_for_too_few_is_no_interrupted_run(world: OwnerWorld) -> None:
    world.draw("new/0.png", seed=1)
    check_refusal(world.refused(), 9)
    check_refusal(world.refused(), 9)
    world.draw(*(f"new/{number}.png" for number in range(4)), seed=2)
    assert sent(world, world.send())
    assert not (world.north / "partial").exists()


@pytest.mark.usefixtures("sync_always")
def test_what_was_refused_may_be_sent_otherwise(world: OwnerWorld) -> None:
    world.draw("new.png", seed=1)
    check_refusal(world.refused(), 9)
    told = world.send("--payload", "pixels", "--small")
    assert told["counts"]["new"] == 1
    assert not (world.north / "partial").exists()


@pytest.mark.usefixtures("sync_always")
def test_what_was_refused_and_then_interrupted_is_kept(world: OwnerWorld) -> None:
    world.draw("new.png", seed=1)
    check_refusal(world.refused(), 9)
    assert watched(stop_at("encrypting", 1), *world.command("--small")).code == 130
    check_refusal(world.refused("--small"), 9)
    world.send("--small", "--resume")


@pytest.mark.usefixtures("sync_always")
def test_a_resumed_run_keeps_the_descriptions_of_mates(world: OwnerWorld) -> None:
    mates = group_of(world, "05.png")
    world.draw("05.png", seed=1)
    assert watched(stop_at("encrypting", 1), *world.command()).code == 130
    assert described(world, "--resume") == [0, 1, 0, 3]
    assert mates in world.groups()


@pytest.mark.usefixtures("sync_always")
def test_a_resumed_run_counts_touched_mates_as_unchanged(world: OwnerWorld) -> None:
    world.draw("05.png", seed=1)
    for name in group_of(world, "05.png") - {"05.png"}:
        (world.pictures / name).touch()
    assert watched(stop_at("encrypting", 1), *world.command()).code == 130
    counts = world.send("--resume")["counts"]
    assert (counts["changed"], counts["unchanged"], counts["sent with their group"]) == (1, 11, 3)


@pytest.mark.usefixtures("sync_always")
@pytest.mark.parametrize("option", ["--resume", "--no-resume"])
def test_groups_of_a_killed_run_are_kept(fresh: OwnerWorld, option: str) -> None:
    killed(fresh, "encrypting is over", 12)
    fresh.draw("another/0.png", "another/1.png", "another/2.png", "another/3.png", seed=1)
    before = fresh.groups()
    fresh.send(option)
    assert before < fresh.groups()


@pytest.mark.usefixtures("sync_always")
def test_groups_of_a_killed_split_run_are_kept(fresh: OwnerWorld) -> None:
    killed(fresh, "encrypting", 9, "--split", "1")  # two uploads are out
    before = fresh.groups()
    assert len(before) == 2
    fresh.send("--no-resume")
    assert before < fresh.groups()
    assert sorted(map(len, fresh.groups())) == [4, 4, 4]


# Random histories beside a model

FOLDERS = ("a", "b", "c")
STEPS = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(FOLDERS), st.integers(1, 6)),
    st.tuples(st.just("change"), st.integers(0, 30), st.integers(1, 3)),
    st.tuples(st.just("touch"), st.integers(0, 30), st.integers(1, 3)),
    st.tuples(st.just("delete"), st.integers(0, 30), st.integers(1, 4)),
    st.tuples(st.just("remove"), st.integers(0, 30), st.integers(1, 1)),
    st.tuples(
        st.just("send"),
        st.sampled_from([FOLDERS, FOLDERS, FOLDERS, ("a",), ("b", "c")]),
        st.tuples(*[st.sampled_from([False, False, True])] * 3, st.booleans()),
    ),
    st.tuples(st.just("again"), st.sampled_from([FOLDERS, ("a", "b")]), st.integers(0, 5)),
)


@dataclass
class Model:
    """What an owner does, and beside it which images are mates by the rules."""

    world: OwnerWorld
    seed: int = 0
    number: int = 0
    there: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    live: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    group: dict[str, int] = field(default_factory=dict)  # the last group of each image

    def some(self, of: set[str], first: int, count: int) -> list[str]:
        ordered = sorted(of)
        return [*dict.fromkeys(ordered[(first + step) % len(ordered)] for step in range(count))] if of else []

    def step(self, what: str, where: Any, how: Any) -> None:
        """Do something."""
        if what == "add":
            names = [f"{where}/{self.seed}-{number}.png" for number in range(how)]
            self.draw(names)
            self.there.update(names)
        elif what == "change":
            names = self.some(self.there, where, how)
            self.draw(names)
            self.changed.update(names)
        elif what == "touch":
            for name in self.some(self.there, where, how):
                (self.world.pictures / name).touch()
        elif what == "delete":
            if names := self.some(self.live, where, how):
                delete_images(self.world.north, names, self.world.root / "delete.h5", force=True)
                self.live.difference_update(names)
                self.deleted.update(names)
        elif what == "remove":
            for name in self.some(self.there, where, how):
                (self.world.pictures / name).unlink()
                self.there.remove(name)
        elif what == "again":
            messages = [each.number for each in self.world.ledger.messages() if each.key is not None]
            if messages:
                number = messages[how % len(messages)]
                wanted = self.world.ledger.decided_by({number})
                options = EncryptOptions(messages=frozenset({number}), small=True)
                named = {name for name in self.there if name.startswith(where)}
                self.send(named, named & wanted, options)
        else:
            again, undelete, split, small = how
            options = EncryptOptions(again=again, undelete=undelete, small=small, split=1 if split else None)
            named = {name for name in self.there if name.startswith(where)}
            fresh = named - self.live - self.deleted
            sent = fresh | (named & self.live & (named if again else self.changed))
            self.send(named, sent | (named & self.deleted if undelete else set()), options)

    def draw(self, names: list[str]) -> None:
        self.seed += 1
        self.world.draw(*names, seed=self.seed)

    def send(self, named: set[str], sent: set[str], options: EncryptOptions) -> None:
        """Send ``sent`` and demand that groups are as they must be."""
        if not sent:
            if named and not options.messages:
                with pytest.raises(AlreadyAppliedError):
                    self.world.encrypt(named, options)
            return
        whole, mates = {}, set()
        for group in {self.group[path] for path in sent if path in self.group}:
            members = {path for path in self.live if self.group[path] == group}
            if members and members <= named:
                whole[group] = members | {path for path in sent if self.group.get(path) == group}
                mates |= members - sent
        pool = sent - {path for paths in whole.values() for path in paths}
        if 0 < len(pool) < G and not options.small:
            before = self.world.groups()
            with pytest.raises(TooFewImagesError):
                self.world.encrypt(named, options)
            assert self.world.groups() == before
            return
        report = self.world.encrypt(named, options)
        self.check(report, whole, pool, mates)
        for path in sent | mates:
            self.live.add(path)
            self.deleted.discard(path)
            self.changed.discard(path)
        assert self.world.groups() == self.expected()

    def check(self, report: Report, whole: dict[int, set[str]], pool: set[str], mates: set[str]) -> None:
        files = [output.path for output in report.outputs if output.kind == "upload"]
        groups = [group for file in files for group in self.world.paths(file)]
        rows = [path for group in groups for path in group]
        assert Counter(rows) == Counter([*pool, *(path for paths in whole.values() for path in paths)])
        new = together(groups) - {frozenset(paths) for paths in whole.values()}
        assert len(groups) == len(whole) + len(new)
        assert len(new) == (max(1, len(pool) // G) if pool else 0)
        assert all(len(group) < 2 * G for group in new)
        assert len(pool) < G or all(len(group) >= G for group in new)
        assert report.counts["sent with their group"] == len(mates)
        living = {self.group[path] for path in self.live}  # of a group that is gone nobody moves
        moves = sum(self.group.get(path) in living for path in pool)
        warned = [warning for warning in report.warnings if "moved to new groups" in warning]
        assert [warning.split()[0] for warning in warned] == ([str(moves)] if moves else [])
        for file in files:
            assert self.world.of_upload(file) == self.world.of_features(file)
        for group in new:
            self.number += 1
            self.group.update(dict.fromkeys(group, self.number))

    def expected(self) -> set[frozenset[str]]:
        found: dict[int, set[str]] = {}
        for path in self.live:
            found.setdefault(self.group[path], set()).add(path)
        return {frozenset(paths) for paths in found.values()}


@pytest.fixture(scope="module")
def histories(template: OwnerWorld, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """Folders for worlds, one an example."""
    folder = tmp_path_factory.mktemp("histories")
    yield [folder]
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@settings(max_examples=15)
@given(steps=st.lists(STEPS, min_size=3, max_size=12))
def test_mates_stay_mates_in_random_histories(
    template: OwnerWorld, histories: list[Path], steps: list[tuple[str, Any, Any]]
) -> None:
    folder = histories[0] / str(len(list(histories[0].iterdir())))
    model = Model(template.copy(folder))
    for step in [("add", "a", 6), ("add", "b", 5), ("send", FOLDERS, (False,) * 4), *steps]:
        model.step(*step)
    model.step("send", FOLDERS, (True, True, False, True))


# What the order of rows and groups tells: attacks


def lengths_guessed(world: OwnerWorld, trials: int) -> tuple[float, list[int]]:
    """Return how often a curious cloud finds the larger rows of groups of two classes of size.

    It takes the rows with the greater names for the smaller, and where the largest row of each group lies.
    """
    owner, right, places = world.owner, 0, []
    grouping = Grouping(world.ledger, {}, set(), 8)
    for trial in range(trials):
        rows = []
        for number in range(24):
            path, large = f"{trial}/{number}", number >= 12
            length = (5000 if large else 200) + number
            rows.append(Row(path, length, owner.row_key(path), 3 if large else 1, owner.grouping_key(path)))
        lengths = {row.path: row.length for row in rows}
        for group in grouping.groups(rows):
            if len({lengths[path] >= 5000 for path in group.paths}) < 2:
                continue
            by_name = sorted(group.paths, key=owner.name_on_the_wire)
            right += sum((place < 4) == (lengths[path] >= 5000) for place, path in enumerate(by_name))
            places.append(group.paths.index(max(group.paths, key=lengths.__getitem__)))
    return right / (8 * len(places)), places


@pytest.fixture
def attacked(template: OwnerWorld, tmp_path: Path) -> OwnerWorld:
    """An owner whose keys are the same in every run of the tests."""
    world = template.copy(tmp_path / "world")
    change_state(world.north / "secrets.json", lambda fields: fields | {"identifier": "07" * 32})
    return world


def test_names_do_not_tell_which_rows_of_a_group_are_larger(attacked: OwnerWorld) -> None:
    # The share of 200 groups with four rows of either size; its standard deviation is about 0.013.
    share, places = lengths_guessed(attacked, 200)
    assert len(places) == 200
    assert abs(share - 0.5) < 0.065


def test_places_do_not_tell_the_largest_row_of_a_group(attacked: OwnerWorld) -> None:
    # In each of 8 places 25 of 200 times on average, with a standard deviation of 4.7.
    _, places = lengths_guessed(attacked, 200)
    assert max(abs(Counter(places)[place] - 25) for place in range(8)) < 24


def test_places_do_not_tell_which_groups_were_sent_before(attacked: OwnerWorld, tmp_path: Path) -> None:
    owner, trials = attacked.owner, 200
    ledger, known = Ledger(tmp_path), {}
    with ledger.writing(Message(1, 7)) as append:
        for trial in range(trials):
            for number in range(4):
                path = f"{trial}/old/{number}"
                known[path] = str(trial)
                append(SentImage(path, path, "v", "d", str(trial)))
    places = Counter[int]()
    for trial in range(trials):
        paths = [f"{trial}/old/{number}" for number in range(4)]
        paths += [f"{trial}/new/{number}" for number in range(12)]
        rows = [Row(path, 200, owner.row_key(path), 1, owner.grouping_key(path)) for path in paths]
        groups = Grouping(ledger, known, set(paths), G).groups(rows)
        names = [group.name for group in groups]
        places[names.index(str(trial))] += 1
    # In each of 4 places 50 times on average, with a standard deviation of 6.1.
    assert max(abs(places[place] - 50) for place in range(4)) < 31


def test_the_same_attacker_reads_groups_that_are_cut_by_names(attacked: OwnerWorld) -> None:
    owner, right = attacked.owner, 0
    for trial in range(50):
        paths = [f"{trial}/{number}" for number in range(24)]
        rows = [Row(path, 200, owner.row_key(path), number // 12) for number, path in enumerate(paths)]
        group = cut(rows, 8)[1]
        by_name = sorted(group, key=lambda row: row.key)
        right += sum((place < 4) == (row.size_class == 1) for place, row in enumerate(by_name))
    assert right > 0.9 * 8 * 50
