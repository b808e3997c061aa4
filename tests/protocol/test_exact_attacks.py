"""What a curious or dishonest cloud can do with its own files and keys under scheme `exact`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from mipp_cli.cloud.cloud import init_cloud
from mipp_cli.containers.base.writer import Sender
from mipp_cli.containers.messages.selection import BroughtRow, GroupRef
from mipp_cli.errors import MalformedError, NotAuthorisedError, ReplayedError
from mipp_cli.kmc.enroll import enroll_at_kmc
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.kmc.nearest import Collection
from mipp_cli.kmc.reencrypt import reencrypt
from mipp_cli.kmc.store import FeatureStore
from mipp_cli.progress import silent
from mipp_cli.scheme.keys import SigningKey
from tests.support.deployment import JOBS, Deployment, done, picture
from tests.support.exact_world import Opened, Row, Rows, World, far, make_world, visible

# Four mates, any of which a query can mean alone; contents of four lengths.
MATES = [
    Row(f"mate{n}", bytes([7 * (n & 1), 7 * (n >> 1), 0, 0]), b"mate %d" % n * (n + 1)) for n in range(4)
]
OTHERS = [Row(f"other{n}", bytes([3, 3, 3 + n, 7]), b"other %d" % n) for n in range(4)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A cloud with an older upload of the mates, and a newer one that is live."""
    world = make_world(tmp_path_factory.mktemp("attacks") / "world")
    world.send("north", [MATES])
    older = world.rows(world.bring(world.rank(_asking_for(world, [0]))))
    world.send("north", [MATES, OTHERS])
    np.save(world / "older.npy", np.array([row.ew for row in older], dtype=object), allow_pickle=True)
    return world


@pytest.fixture
def world(shared: World, tmp_path: Path) -> World:
    return shared.copy(tmp_path / "world")


def _asking_for(world: World, mates: list[int]) -> Path:
    """Make a query of four images whose matches are these mates."""
    images = [MATES[mate].codes for mate in mates]
    return world.ask(*images, *images[:1] * (4 - len(mates)))


def _ways(count: int) -> list[list[int]]:
    return [list(each) for each in combinations(range(len(MATES)), count)]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_choice_of_rows_explains_the_files_alike(shared: World, count: int) -> None:
    seen, answers = [], []
    for mates in _ways(count):
        query = _asking_for(shared, mates)
        selection = shared.rank(query)
        results = shared.bring(selection)
        answer = shared.reencrypt(results)
        seen.append((visible(selection), visible(results), visible(answer), shared.rows(results)))
        answers.append({match.image for match in shared.opened(answer, query).manifest.matches})
        found = set(shared.opened(answer, query).contents)
        assert found == {MATES[mate].content for mate in mates}
    assert all(each == seen[0] for each in seen)
    assert all(each == answers[0] for each in answers)


def test_choices_in_two_groups_explain_the_files_alike(shared: World) -> None:
    """One row of the first group matches, and two of the second: all 24 ways look the same."""
    seen, meant = [], set()
    for one in range(4):
        for two in _ways(2):
            codes = [MATES[one].codes, *(OTHERS[other].codes for other in two)]
            query = shared.ask(*codes)
            results = shared.bring(shared.rank(query))
            answer = shared.reencrypt(results)
            seen.append((visible(results), visible(answer), shared.rows(results)))
            meant.add(tuple(shared.opened(answer, query).contents))
    assert len(meant) == 24
    assert all(each == seen[0] for each in seen)


def test_the_manifests_length_says_nothing_of_the_matches(shared: World) -> None:
    manifests = set()
    for count in (1, 4):
        answer = visible(shared.reencrypt(shared.bring(shared.rank(_asking_for(shared, _ways(count)[0])))))
        assert answer["NER/offsets"][0] == (count + 1,)
        manifests.add(answer["manifest"][0])
    assert len(manifests) == 1


def test_a_selection_says_nothing_of_user_query_or_counts(shared: World) -> None:
    query = _asking_for(shared, [0, 1])
    selection = shared.rank(query)
    data, parsed = selection.read_bytes(), shared.parsed(query)
    header = parsed.header
    for told in (b"alice", header.number.encode(), header.sender_key, header.sender_key.hex().encode()):
        assert told not in data
    assert bytes.fromhex(header.number) not in data
    assert set(visible(selection)) >= {"cloud", "uploads", "groups", "owners/offsets"}
    assert shared.selected(selection).number != header.number


Change = Callable[[World, Rows, int], Rows]


def _spoiled(world: World, rows: Rows, which: int) -> Rows:
    ew = rows[which].ew
    return [*rows[:which], rows[which]._replace(ew=ew[:-1] + bytes([ew[-1] ^ 1])), *rows[which + 1 :]]


def _cut_short(world: World, rows: Rows, which: int) -> Rows:
    return [*rows[:which], rows[which]._replace(ew=rows[which].ew[:5]), *rows[which + 1 :]]


def _swapped(world: World, rows: Rows, which: int) -> Rows:
    other = (which + 1) % len(rows)
    changed = list(rows)
    changed[which] = rows[which]._replace(ew=rows[other].ew)
    changed[other] = rows[other]._replace(ew=rows[which].ew)
    return changed


def _older(world: World, rows: Rows, which: int) -> Rows:
    older = np.load(world / "older.npy", allow_pickle=True)
    return [*rows[:which], rows[which]._replace(ew=older[which]), *rows[which + 1 :]]


def _missing(world: World, rows: Rows, which: int) -> Rows:
    return [*rows[:which], *rows[which + 1 :]]


def _renamed(world: World, rows: Rows, which: int) -> Rows:
    return [*rows[:which], rows[which]._replace(name="somebody"), *rows[which + 1 :]]


def _extra(world: World, rows: Rows, which: int) -> Rows:
    return [*rows, BroughtRow(0, f"more{which}", rows[which].ew)]


CHANGES: dict[str, tuple[Change, tuple[int, int]]] = {
    "spoiled": (_spoiled, (1, 0)),
    "cut short": (_cut_short, (1, 0)),
    "swapped": (_swapped, (2, 0)),
    "older": (_older, (1, 0)),
    "missing": (_missing, (0, 1)),
    "renamed": (_renamed, (0, 1)),
    "extra": (_extra, (0, 0)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_rows_changed_one_at_a_time_do_not_tell_which_matched(shared: World, change: str) -> None:
    function, (bad, missing) = CHANGES[change]
    shapes, told, counts = [], [], []
    for which in range(4):
        query = _asking_for(shared, [2])
        results = shared.bring(shared.rank(query))
        forged = shared.forge(results, function(shared, shared.rows(results), which))
        path = shared.file("answer")
        counts.append(reencrypt(shared / "kmc", forged, path).counts | {"images received": 0})
        shapes.append(visible(path))
        told.append(shared.opened(path, query).of("north"))
    assert all(each == shapes[0] for each in shapes)
    assert all(each == told[0] for each in told)
    assert all(each == counts[0] for each in counts)
    assert (told[0].bad, told[0].missing) == (bad, missing)
    honest = _asking_for(shared, [2])
    assert shapes[0] == visible(shared.reencrypt(shared.bring(shared.rank(honest))))


def test_of_spoiled_rows_the_user_gets_all_that_were_not(shared: World) -> None:
    query = _asking_for(shared, [1, 2])
    results = shared.bring(shared.rank(query))
    answer = shared.reencrypt(shared.forge(results, _spoiled(shared, shared.rows(results), 1)))
    assert set(shared.opened(answer, query).contents) == {MATES[2].content}


@pytest.mark.parametrize("which", range(4))
def test_a_doubled_row_is_refused_whichever_it_is(shared: World, which: int) -> None:
    query = _asking_for(shared, [2])
    results = shared.bring(shared.rank(query))
    rows = shared.rows(results)
    with pytest.raises(MalformedError, match="contains two images with the same name"):
        shared.reencrypt(shared.forge(results, [*rows[: which + 1], rows[which], *rows[which + 1 :]]))
    assert shared.opened(shared.reencrypt(results), query).contents == [MATES[2].content] * 4


def test_a_row_brought_for_another_group_too_is_passed_over(shared: World) -> None:
    query = shared.ask(MATES[0].codes, OTHERS[0].codes)
    results = shared.bring(shared.rank(query))
    rows = shared.rows(results)
    assert [row.place for row in rows] == [0, 0, 0, 0, 1, 1, 1, 1]
    forged = shared.forge(results, [*rows, *(row._replace(place=1) for row in rows[:3])])
    opened = shared.opened(shared.reencrypt(forged), query)
    assert opened.contents == [MATES[0].content, OTHERS[0].content]
    assert (opened.of("north").bad, opened.of("north").missing) == (0, 0)


def test_groups_brought_for_each_other_are_missing(shared: World) -> None:
    query = shared.ask(MATES[0].codes, OTHERS[0].codes)
    results = shared.bring(shared.rank(query))
    rows = shared.rows(results)
    forged = [row._replace(place=0) for row in rows[4:]] + [row._replace(place=1) for row in rows[:4]]
    opened = shared.opened(shared.reencrypt(shared.forge(results, forged)), query)
    assert opened.contents == []
    assert (opened.of("north").bad, opened.of("north").missing) == (0, 8)


@pytest.mark.parametrize("change", CHANGES)
def test_a_second_different_answer_is_refused(shared: World, tmp_path: Path, change: str) -> None:
    query = _asking_for(shared, [2])
    results = shared.bring(shared.rank(query))
    shared.reencrypt(results)
    forged = shared.forge(results, CHANGES[change][0](shared, shared.rows(results), 2))
    with pytest.raises(ReplayedError) as caught:
        reencrypt(shared / "kmc", forged, tmp_path / "answer.h5")
    assert caught.value.exit_code == 6
    assert list(tmp_path.iterdir()) == []


def test_the_honest_answer_is_refused_after_a_forged_one(shared: World) -> None:
    query = _asking_for(shared, [2])
    results = shared.bring(shared.rank(query))
    forged = shared.forge(results, _missing(shared, shared.rows(results), 0))
    first = shared.opened(shared.reencrypt(forged), query)
    with pytest.raises(ReplayedError):
        shared.reencrypt(results)
    assert shared.opened(shared.reencrypt(forged), query) == first


def test_the_same_results_again_give_the_same_images(shared: World) -> None:
    query = _asking_for(shared, [1, 2])
    results = shared.bring(shared.rank(query))
    first, second = shared.reencrypt(results), shared.reencrypt(results)
    assert shared.opened(first, query) == shared.opened(second, query)
    assert visible(first) == visible(second)
    assert _ner(shared, first).isdisjoint(_ner(shared, second))


def test_bytes_in_the_place_of_a_bad_match_are_drawn_anew(shared: World) -> None:
    query = _asking_for(shared, [2])
    results = shared.bring(shared.rank(query))
    forged = shared.forge(results, _spoiled(shared, shared.rows(results), 2))
    assert _ner(shared, shared.reencrypt(forged)).isdisjoint(_ner(shared, shared.reencrypt(forged)))


def _ner(world: World, answer: Path) -> set[bytes]:
    from mipp_cli.containers.messages.reencrypted import open_reencrypted

    with open_reencrypted(answer, world.deployment) as container:
        return {row for batch in container.ragged("NER").batches() for row in batch}


def test_results_of_another_cloud_are_refused_and_burn_nothing(world: World) -> None:
    query = _asking_for(world, [2])
    results = world.bring(world.rank(query))
    init_cloud(world / "cloud2", world / "kmc" / "kmc.pub")
    stranger = world.forge(results, world.rows(results), sender=world.sender("cloud2"))
    with pytest.raises(NotAuthorisedError, match="that is not enrolled with this KMC"):
        world.reencrypt(stranger)
    enroll_at_kmc(world / "kmc", [world / "cloud2" / "cloud.pub"])
    with pytest.raises(NotAuthorisedError, match="another cloud than the selection was for"):
        world.reencrypt(stranger)
    assert world.opened(world.reencrypt(results), query).contents[0] == MATES[2].content


def test_a_key_that_only_bears_the_clouds_name_is_refused(shared: World) -> None:
    results = shared.bring(shared.rank(_asking_for(shared, [2])))
    forger = Sender("cloud", SigningKey.generate(), shared.deployment)
    with pytest.raises(NotAuthorisedError):
        shared.reencrypt(shared.forge(results, shared.rows(results), sender=forger))


def test_rows_outside_the_selected_groups_are_refused(shared: World) -> None:
    query = _asking_for(shared, [2])
    results = shared.bring(shared.rank(query))
    rows = shared.rows(results)
    outside = [[*rows, BroughtRow(place, "x", rows[0].ew)] for place in (1, 2**32 - 1)]
    for forged in (*outside, list(reversed([*rows, rows[0]._replace(place=7)]))):
        with pytest.raises(MalformedError) as caught:
            shared.reencrypt(shared.forge(results, forged))
        assert caught.value.exit_code == 3
    assert shared.opened(shared.reencrypt(results), query).contents[0] == MATES[2].content


def test_an_answer_to_no_selection_is_refused(shared: World) -> None:
    from mipp_cli.containers.messages.selection import write_groups

    path = shared.file("results")
    write_groups(path, shared.sender("cloud"), "ab" * 16, [])
    with pytest.raises(MalformedError, match="did not make"):
        shared.reencrypt(path)


def test_an_answer_with_nothing_in_it_keeps_its_shape(shared: World) -> None:
    query = _asking_for(shared, [2])
    results = shared.bring(shared.rank(query))
    answer = shared.reencrypt(shared.forge(results, []))
    told = shared.opened(answer, query).of("north")
    assert (told.missing, told.bad) == (4, 0)
    honest = shared.reencrypt(shared.bring(shared.rank(_asking_for(shared, [2]))))
    assert visible(answer) == visible(honest)


def test_one_query_asked_fifty_times_selects_the_same_groups(shared: World) -> None:
    codes = [bytes([1, 0, 0, 1]), bytes([3, 3, 2, 6])]
    groups = [shared.selected(shared.rank(shared.ask(*codes))) for _ in range(50)]
    assert len({each.number for each in groups}) == 50
    assert {each.groups for each in groups} == {groups[0].groups}
    assert len(groups[0].groups) == 2


# What a cloud learns by watching many selections.


def _live_groups(kmc: Kmc, owners: tuple[str, ...]) -> dict[GroupRef, frozenset[bytes]]:
    """Return the names in each group that the KMC holds."""
    groups: dict[GroupRef, set[bytes]] = {}
    for name in owners:
        owner = kmc.owner(name)
        assert owner is not None
        store = FeatureStore.of(kmc, owner)
        for block in store.index().blocks:
            for row in store.table(block):
                ref = GroupRef(name, block.upload, int(row["group"]))
                groups.setdefault(ref, set()).add(row["name"].tobytes())
    return {ref: frozenset(names) for ref, names in groups.items()}


def _selections(world: World | Deployment, query: Path, count: int, seed: int) -> Iterator[set[GroupRef]]:
    """Yield the groups that random queries select, ``count`` of them, ranked in this process."""
    from mipp_cli.containers.messages.query import parse_query

    kmc = Kmc.open(world / "kmc")
    public, random = kmc.directory.deployment, np.random.default_rng(seed)
    parsed = parse_query(query.read_bytes(), public.parameters, public.fingerprint)
    user = (parsed.header.sender, parsed.header.sender_key)
    owners = {name: owner for name in kmc.authorising(user)[0] if (owner := kmc.owner(name))}
    for number in range(count):
        codes = random.integers(0, public.parameters.levels, (1, public.parameters.l), dtype=np.uint8)
        asked = replace(parsed, header=replace(parsed.header, number=f"{seed:016x}{number:016x}"))
        found = Collection(kmc, owners).nearest(codes, asked, silent)
        yield {*found.sizes}


def test_over_2000_queries_selections_are_whole_groups(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world", ("north", "south"))
    random = np.random.default_rng(5)
    for owner in ("north", "south"):
        rows = [Row(f"{owner}{n}", random.integers(0, 8, 4, dtype=np.uint8).tobytes()) for n in range(43)]
        world.send(owner, [rows[begin : begin + 4] for begin in range(0, 40, 4)] + [rows[40:]])
    groups = _live_groups(world.kmc, ("north", "south"))
    query = world.ask(bytes(4), candidates=3)
    seen: set[GroupRef] = set()
    for selection in _selections(world, query, 2000, seed=1):
        assert 1 <= len(selection) <= 3
        seen |= selection
    assert seen == set(groups)
    results = world.bring(world.rank(world.ask(bytes(4), candidates=86)))
    brought: dict[int, set[str]] = {}
    for row in world.rows(results):
        brought.setdefault(row.place, set()).add(row.name)
    assert sorted(map(len, brought.values())) == [3, 3, *[4] * 20]


@pytest.mark.slow
def test_old_mates_stay_mates_when_images_come_and_go(changeable_exact: Deployment) -> None:
    made, owners = changeable_exact, ("north", "south")
    query = made.ask("alice", candidates=2, pictures=("q1.png",))
    before = _mates_seen(made, query, owners, seed=1)
    folder = made / "pictures" / "north"
    for number in range(4):
        picture(900 + number).save(folder / f"new{number}.png")
    names = {path: name for name, path in made.names("north").items()}
    deleted = _digest(names["chest/a.jpg"])
    (folder / "chest" / "a.jpg").unlink()
    done("owner", "delete", made / "north", "chest/a.jpg", "-o", made / "gone.delete.h5")
    done("cloud", "index", made / "cloud", made / "gone.delete.h5", *JOBS)
    done("kmc", "index", made / "kmc", made / "gone.delete.h5")
    again = made / "again.h5"
    done("owner", "encrypt", made / "north", folder, "-o", again, "--again", *JOBS)
    made.index(again)
    after = _mates_seen(made, query, owners, seed=2)
    old, new = set(before) - {deleted}, set(after) - set(before)
    assert (len(old), len(new)) == (9, 4)
    for name in old:
        assert after[name] == before[name] - {deleted}
    for name in new:
        assert after[name] <= new


def _digest(name: str) -> bytes:
    import hashlib

    return hashlib.sha256(name.encode()).digest()


def _mates_seen(
    made: Deployment, query: Path, owners: tuple[str, ...], *, seed: int
) -> dict[bytes, frozenset[bytes]]:
    """Return with which others each image is brought, over 2,000 queries."""
    groups = _live_groups(Kmc.open(made / "kmc"), owners)
    mates: dict[bytes, set[bytes]] = {}
    for selection in _selections(made, query, 2000, seed):
        for ref in selection:
            for name in groups[ref]:
                mates.setdefault(name, set()).update(groups[ref])
    return {name: frozenset(found) for name, found in mates.items()}


# What a hostile owner can do to the answers of others.


@pytest.fixture
def two(tmp_path: Path) -> World:
    """A world with an honest owner, and one who is not."""
    world = make_world(tmp_path / "two", ("honest", "hostile"))
    world.send("honest", [[Row(f"h{n}", bytes([1, 1, 1, n]), b"honest %d" % n) for n in range(4)]])
    return world


def _both(world: World) -> Opened:
    """Answer a query that the hostile owner's rows match best, and one of the honest owner's next."""
    return world.answered(world.ask(bytes([1, 1, 1, 1]), candidates=5))


HOSTILE = [Row(f"x{n}", bytes([1, 1, 1, 1]), b"hostile") for n in range(4)]


def test_rows_that_never_come_to_the_cloud_are_missing(two: World) -> None:
    from mipp_cli.kmc.index import index_at_kmc

    sent = two.upload("hostile", [HOSTILE])
    index_at_kmc(two / "kmc", [sent.features])
    opened = _both(two)
    assert opened.contents == [b"honest 1"]
    told = opened.of("hostile")
    assert (told.missing, told.bad, told.uploads) == (4, 0, (sent.number,))


def test_rows_that_fit_their_digests_and_do_not_open_are_bad(two: World) -> None:
    two.send("hostile", [HOSTILE], cloud_key=bytes(32))
    opened = _both(two)
    assert opened.contents == [b"honest 1"]
    assert (opened.of("hostile").bad, opened.of("hostile").missing) == (4, 0)


def test_rows_whose_digests_do_not_fit_are_counted_as_bad(two: World) -> None:
    two.send("hostile", [HOSTILE], digest_of=lambda ew: bytes(32))
    opened = _both(two)
    assert opened.contents == [b"honest 1"]
    assert (opened.of("hostile").bad, opened.of("hostile").missing) == (4, 0)


@pytest.mark.parametrize("longer", [-1, 1, 1000])
def test_rows_of_another_length_than_stated_are_missing(two: World, longer: int) -> None:
    two.send("hostile", [HOSTILE], stated=lambda length: length + longer)
    opened = _both(two)
    assert opened.contents == [b"honest 1"]
    assert opened.of("hostile").missing == 4


def test_groups_unlike_the_uploads_make_missing_rows_alone(two: World) -> None:
    more = [Row(f"y{n}", bytes([1, 1, 1, 1]), b"hostile") for n in range(4)]
    mixed = [[*HOSTILE[:2], *more[:2]], [*HOSTILE[2:], *more[2:]]]
    two.send("hostile", [HOSTILE, more], at_cloud=mixed)
    opened = two.answered(two.ask(bytes([1, 1, 1, 1]), candidates=9))
    assert opened.contents.count(b"hostile") == 4
    assert b"honest 1" in opened.contents
    assert (opened.of("hostile").bad, opened.of("hostile").missing) == (0, 4)


def test_names_that_the_cloud_does_not_have_are_missing(two: World) -> None:
    strangers = [row.__class__(f"z{n}", row.codes) for n, row in enumerate(HOSTILE)]
    two.send("hostile", [strangers], at_cloud=[HOSTILE])
    opened = _both(two)
    assert opened.contents == [b"honest 1"]
    assert opened.of("hostile").missing == 4


def test_another_owners_names_are_no_way_to_that_owners_images(two: World) -> None:
    stolen = [Row(f"h{n}", bytes([1, 1, 1, 1])) for n in range(4)]
    two.send("hostile", [stolen], at_cloud=[HOSTILE])
    opened = _both(two)
    assert opened.contents == [b"honest 1"]
    assert opened.of("hostile").missing == 4
    assert (opened.of("honest").bad, opened.of("honest").missing) == (0, 0)


def test_codes_of_another_upload_are_refused_with_their_file(two: World) -> None:
    from mipp_cli.containers.base.writer import write_container
    from mipp_cli.containers.messages.features import FEATURES, open_features
    from mipp_cli.kmc.index import index_at_kmc

    first, second = two.upload("hostile", [HOSTILE]), two.upload("hostile", [[far(r.name) for r in HOSTILE]])
    forged = two.file("features")
    sealed: list[bytes] = []
    for sent in (first, second):
        with open_features(sent.features, two.parameters, two.deployment).container as container:
            sealed.append(container.ragged("codes").row(0))
            matrices = {n: container.matrix(n).all() for n in FEATURES.columns if n != "codes"}
            key_id = container.number("key_id")
    with write_container(forged, FEATURES, two.sender("hostile"), second.number) as writer:
        writer.number("key_id", key_id)
        writer.ragged("codes").append(sealed[0])
        for name, values in matrices.items():
            writer.matrix(name).append(values)
    with pytest.raises(MalformedError, match="could not be decrypted"):
        index_at_kmc(two / "kmc", [forged])
    assert _both(two).contents[0] == b"honest 1"


def test_owners_who_tie_come_first_equally_often(tmp_path: Path) -> None:
    world = make_world(tmp_path / "ties", ("aaa", "zzz"))
    for owner in ("aaa", "zzz"):
        world.send(owner, [[Row(f"{n}", bytes([2, 2, 2, 2])) for n in range(4)]])
    query = world.ask(bytes([2, 2, 2, 2]))
    first = [next(iter(each)).owner for each in _selections(world, query, 400, seed=3)]
    assert 150 < first.count("aaa") < 250
