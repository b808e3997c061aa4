"""`kmc rank`: who may ask, what is selected and remembered, and what damage, malice or haste do to that."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from mipp_cli.cloud.cloud import init_cloud
from mipp_cli.containers.base.writer import Sender
from mipp_cli.containers.messages.manifest import SearchedOwner
from mipp_cli.containers.messages.searched import warnings_of
from mipp_cli.errors import (
    InvalidRequestError,
    MalformedError,
    NotAuthorisedError,
    OutputError,
    ReplayedError,
    TamperedError,
    WrongDeploymentError,
)
from mipp_cli.kmc.check import check_kmc
from mipp_cli.kmc.enroll import enroll_at_kmc
from mipp_cli.kmc.index import index_at_kmc
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.kmc.ranking import read_ranking, write_ranking
from mipp_cli.kmc.remove import remove_from_kmc
from mipp_cli.owner.authorize import authorize_users, revoke_users
from mipp_cli.owner.keys import forget_keys, rotate_key
from mipp_cli.owner.owner import Owner
from mipp_cli.scheme.keys import SigningKey
from mipp_cli.scheme.secret_keys import generate_key
from mipp_cli.user.user import init_user
from tests.support.deployment import Deployment, refused, snapshot
from tests.support.exact_world import Row, World, far, make_world, visible

HERE = Path(__file__).parent.parent.parent
NORTH = [Row(f"n{n}", bytes([n, 0, 0, 0]), b"north %d" % n) for n in range(8)]
SOUTH = [Row(f"s{n}", bytes([n, 0, 0, 1]), b"south %d" % n) for n in range(8)]


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = make_world(tmp_path_factory.mktemp("rank") / "world", ("north", "south"))
    world.send("north", [NORTH[:4], NORTH[4:]])
    world.send("south", [SOUTH[:4], SOUTH[4:]])
    return world


@pytest.fixture(scope="module")
def shared(_made: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world in which tests may rank, and change nothing else."""
    return _made.copy(tmp_path_factory.mktemp("shared") / "world")


@pytest.fixture
def world(_made: World, tmp_path: Path) -> World:
    """A world of the test's own, in which nothing was ranked."""
    return _made.copy(tmp_path / "world")


def owners_of(world: World, selection: Path) -> list[str]:
    return [ref.owner for ref in world.selected(selection).groups]


def run_python(code: str, *words: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, words)]
    return subprocess.Popen(command, cwd=HERE, stderr=subprocess.PIPE)


def test_the_nearest_images_come_in_order_with_exact_distances(shared: World) -> None:
    opened = shared.answered(shared.ask(bytes([2, 0, 0, 0]), bytes([7, 0, 0, 1]), candidates=4))
    found = {query: [] for query in (0, 1)}  # type: dict[int, list[tuple[int, bytes]]]
    for match in opened.manifest.matches:
        found[match.query].append((match.distance or 0, opened.images[match.image]))
    assert found[0][0] == (0, b"north 2")
    assert {content for _, content in found[0][1:]} == {b"north 1", b"north 3", b"south 2"}
    assert [distance for distance, _ in found[0]] == [0, 1, 1, 1]
    assert found[1][0] == (0, b"south 7")
    assert [distance for distance, _ in found[1]] == [0, 1, 1, 2]


def test_distances_are_those_of_all_images_reckoned_one_by_one(tmp_path: Path) -> None:
    world, random = make_world(tmp_path / "world"), np.random.default_rng(7)
    codes = random.integers(0, 8, (40, 4), dtype=np.uint8)
    rows = [Row(f"r{n}", each.tobytes()) for n, each in enumerate(codes)]
    world.send("north", [rows[begin : begin + 4] for begin in range(0, 40, 4)])
    for query in random.integers(0, 8, (20, 4), dtype=np.uint8):
        found = world.found(world.ask(query.tobytes(), candidates=9))
        expected = sorted(((codes.astype(int) - query) ** 2).sum(axis=1).tolist())[:9]
        assert [match.distance for match in found.matches] == expected


def test_of_thousands_that_tie_the_query_says_which_come(tmp_path: Path) -> None:
    """Ties over pages, blocks and uploads, in an order that every query has for itself."""
    world = make_world(tmp_path / "world", ("north", "south"))
    sent: list[set[tuple[str, bytes]]] = []
    for owner, count in (("north", 1500), ("north", 1100), ("south", 1200)):
        rows = [Row(f"{owner}{count}-{n}", bytes(4)) for n in range(count)]
        groups = [rows[begin : begin + 4] for begin in range(0, count, 4)]
        index_at_kmc(world / "kmc", [world.upload(owner, groups).features])
        sent.append({(owner, hashlib.sha256(row.name.encode()).digest()) for row in rows})

    def nearest(query: Path) -> list[tuple[str, bytes]]:
        return [(match.ref.owner, match.name) for match in world.found(query).matches]

    query = world.ask(bytes(4), candidates=50)
    found = nearest(query)
    assert len(set(found)) == 50
    assert nearest(query) == found
    for upload in sent:  # none of three is spared in 50 fair draws but once in ten million times
        assert upload & set(found)
    assert set(nearest(world.ask(bytes(4), candidates=50))) != set(found)


def test_the_user_hears_who_was_searched_and_how_many_images(shared: World) -> None:
    opened = shared.answered(shared.ask(bytes(4)))
    assert opened.manifest.owners == (SearchedOwner("north", 8), SearchedOwner("south", 8))


def test_the_report_says_what_the_cloud_will_bring(shared: World) -> None:
    query = shared.ask(bytes(4))
    report = shared.ranked(query)
    rows = shared.rows(shared.bring(shared.rank(query)))
    assert report.counts["bytes to bring"] == sum(len(row.ew) for row in rows)
    assert report.counts["groups"] == 1


def test_with_nothing_to_rank_a_query_is_refused_until_there_is(tmp_path: Path) -> None:
    """Nothing is remembered, so the same query ranks what came since."""
    world = make_world(tmp_path / "world")
    query, selection = world.ask(bytes(4)), world.file("selection")
    before = snapshot(world / "kmc")
    with pytest.raises(InvalidRequestError, match="no image of north can be ranked") as caught:
        world.ranked(query, selection)
    assert caught.value.exit_code == 2
    assert "mipp kmc index" in str(caught.value.hint)
    assert snapshot(world / "kmc") == before
    assert not selection.exists()
    world.send("north", [[Row("first", bytes(4), b"first")]])
    assert world.answered(query).contents == [b"first"]


def test_an_owner_of_no_features_keeps_nobody_from_an_answer(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world", ("north", "south"))
    world.send("south", [[Row("s", bytes(4), b"south")]])
    query = world.ask(bytes(4))
    said = "the KMC has no features of north: add the owner's with mipp kmc index"
    assert said in world.ranked(query).warnings
    opened = world.answered(query)
    assert opened.contents == [b"south"]
    assert opened.of("north") == SearchedOwner("north", 0)
    assert warnings_of(opened.manifest) == [said]


def test_a_query_that_was_ranked_before_is_said_to_be(world: World) -> None:
    query, said = world.ask(bytes(4)), "this query was ranked before"
    assert not any(said in note for note in world.ranked(query).notes)
    assert any(said in note for note in world.ranked(query).notes)


# Who may ask, and whom.


def test_a_user_whom_nobody_authorised_is_refused(world: World) -> None:
    init_user(world / "eve", "eve", world / "kmc" / "kmc.pub")
    with pytest.raises(NotAuthorisedError):
        world.rank(world.ask(bytes(4), user="eve"))


def test_a_stranger_under_an_authorised_name_is_refused(shared: World) -> None:
    from mipp_cli.containers.messages.query import write_query

    path, thief = shared.file("query"), Sender("alice", SigningKey.generate(), shared.deployment)
    write_query(
        path,
        shared.parameters,
        thief,
        "ab" * 16,
        codes=np.zeros((1, 4), dtype=np.uint8),
        candidates=1,
        usk=generate_key(),
        sealing_key=shared.kmc.directory.sealing_key,
    )
    with pytest.raises(NotAuthorisedError):
        shared.rank(path)


def test_who_asks_is_checked_before_memory_is_taken(world: World) -> None:
    init_user(world / "eve", "eve", world / "kmc" / "kmc.pub")
    query = world.ask(bytes(4), user="eve")
    with query.open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(NotAuthorisedError):
        world.rank(query)


def test_owners_who_revoked_the_user_are_not_searched(world: World) -> None:
    revoke_users(world / "north", ["alice"])
    enroll_at_kmc(world / "kmc", [world / "north" / "enrolment.h5"])
    opened = world.answered(world.ask(bytes(4), candidates=16))
    assert [owner.name for owner in opened.manifest.owners] == ["south"]
    assert all(content.startswith(b"south") for content in opened.contents)


def test_a_query_that_names_owners_searches_these_alone(shared: World) -> None:
    query = shared.ask(bytes(4), candidates=16, owners=["south"])
    assert set(owners_of(shared, shared.rank(query))) == {"south"}
    opened = shared.answered(query)
    assert opened.manifest.owners == (SearchedOwner("south", 8),)


def test_a_named_owner_who_did_not_authorise_is_told_of(shared: World) -> None:
    query = shared.ask(bytes(4), owners=["south", "nobody"])
    assert any("nobody was not searched" in each for each in shared.ranked(query).warnings)
    opened = shared.answered(query)
    assert opened.of("nobody").images is None
    assert any("nobody was not searched" in each for each in warnings_of(opened.manifest))


def test_none_of_the_named_owners_left_is_an_error(shared: World) -> None:
    with pytest.raises(NotAuthorisedError, match="none of the owners"):
        shared.rank(shared.ask(bytes(4), owners=["nobody"]))


def test_a_query_of_another_deployment_is_refused(shared: World, tmp_path: Path) -> None:
    other = make_world(tmp_path / "other")
    with pytest.raises(WrongDeploymentError):
        shared.rank(other.ask(bytes(4)))


def test_codes_out_of_range_are_refused(shared: World) -> None:
    with pytest.raises(MalformedError, match="not below 8"):
        shared.rank(shared.ask(bytes([0, 0, 0, 8])))


def test_features_of_a_query_under_another_key_are_refused(shared: World) -> None:
    from mipp_cli.containers.base.writer import write_container
    from mipp_cli.containers.messages.query import query_schema

    path, sender = shared.file("query"), shared.sender("alice")
    sealed = sender.seal(generate_key(), shared.kmc.directory.sealing_key, "query", "cd" * 16)
    with write_container(path, query_schema(shared.parameters), sender, "cd" * 16) as writer:
        writer.number("candidates", 1)
        writer.matrix("codes").append(np.zeros((1, 32), dtype=np.uint8))
        writer.matrix("sealed_usk").append(np.frombuffer(sealed, dtype=np.uint8))
    with pytest.raises(TamperedError, match="features that its sealed key cannot decrypt"):
        shared.rank(path)


def test_where_the_cloud_ranks_the_kmc_does_not(deployment: Deployment, tmp_path: Path) -> None:
    words = ("kmc", "rank", deployment / "kmc", deployment / "alice.query.h5", "-o", tmp_path / "out.h5")
    refused(2, *words)
    assert list(tmp_path.iterdir()) == []


# Bounds.


@pytest.mark.parametrize(("images", "candidates"), [(1, 10_001), (101, 100), (1000, 11)])
def test_a_query_of_more_than_10_000_matches_is_refused(shared: World, images: int, candidates: int) -> None:
    query = shared.ask(*[bytes(4)] * images, candidates=candidates)
    with pytest.raises(InvalidRequestError, match="at most 10000") as caught:
        shared.rank(query)
    assert caught.value.exit_code == 2
    assert caught.value.hint


@pytest.mark.parametrize(("images", "candidates"), [(1, 10_000), (1000, 10), (100, 100)])
def test_a_query_of_10_000_matches_is_answered(shared: World, images: int, candidates: int) -> None:
    opened = shared.answered(shared.ask(*[bytes([1, 0, 0, 0])] * images, candidates=candidates))
    assert len(opened.manifest.matches) == images * min(candidates, 16)


def test_after_a_thousand_queries_the_next_is_ranked_alike(world: World) -> None:
    query = world.ask(bytes([3, 0, 0, 0]))
    first = world.selected(world.rank(query))
    folder = world / "kmc" / "rankings"
    (remembered,) = folder.iterdir()
    directory = Kmc.open(world / "kmc").directory
    fields = directory.read_json(f"rankings/{remembered.name}")
    for number in range(1000):
        directory.write_json(f"rankings/{number:032x}.json", fields)
    assert check_kmc(world / "kmc").counts["rankings"] == 1001
    again = world.selected(world.rank(world.ask(bytes([3, 0, 0, 0]))))
    assert again.groups == first.groups
    assert world.selected(world.rank(query)) == first


def test_beyond_the_limit_the_largest_groups_are_left_out(world: World) -> None:
    large = [Row(f"big{n}", bytes([0, 0, 0, 0]), bytes(50_000)) for n in range(4)]
    world.send("north", [large])
    query = world.ask(bytes(4), candidates=6)
    report = world.ranked(query, limit=100_000)
    assert report.counts["groups left out"] == 1
    assert any("1 groups of images were left out" in each for each in report.warnings)
    opened = world.answered(query)
    assert opened.manifest.left_out == 1
    assert any("groups of images were left out" in each for each in warnings_of(opened.manifest))
    assert set(opened.contents) <= {each.content for each in (*NORTH, *SOUTH)}
    assert len(opened.contents) == 2


def test_a_group_of_16_gib_keeps_nobody_elses_matches_away(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world", ("honest", "hostile"), group_size=8)
    world.send("honest", [[Row(f"h{n}", bytes([n, 0, 0, 1]), b"honest %d" % n) for n in range(8)]])
    hostile = [Row(f"x{n}", bytes(4)) for n in range(8)]
    sent = world.upload("hostile", [hostile], stated=lambda _: 2**31)
    index_at_kmc(world / "kmc", [sent.features])
    opened = world.answered(world.ask(bytes(4), candidates=9))
    assert opened.contents == [b"honest 0"]
    assert opened.manifest.left_out == 1


def test_the_limit_is_of_all_groups_together(world: World) -> None:
    sent = [
        world.upload("north", [[Row(f"g{k}{n}", bytes(4)) for n in range(4)]], stated=lambda _: 2**20)
        for k in range(3)
    ]
    index_at_kmc(world / "kmc", [each.features for each in sent])
    report = world.ranked(world.ask(bytes(4), candidates=12), limit=9 * 2**20)
    assert report.counts["groups left out"] == 1
    assert report.counts["bytes to bring"] <= 9 * 2**20


def test_the_largest_manifest_has_the_size_of_the_smallest(shared: World) -> None:
    from mipp_cli.containers.messages.manifest import Manifest

    big = 2**63 - 1
    names = [f"{n:02d}" + "o" * 62 for n in range(16)]
    full = [
        SearchedOwner(name, big, big, big, big, big, (big,) * 9, (big,) * 9, unread=True) for name in names
    ]
    least = Manifest("0" * 64, 0, (), (), 0).pack(40, 16)
    most = Manifest("0" * 64, 10_000, tuple(full), (), 10_000).pack(40, 16)
    assert len(most) == len(least)


def test_an_answer_does_not_show_whether_owners_were_named(tmp_path: Path) -> None:
    names = [f"owner{n:02d}" for n in range(16)]
    world = make_world(tmp_path / "world", names)
    world.send(names[3], [NORTH[:4]])
    lengths = set()
    for named in ([], names[3:4], names[2:9]):
        query = world.ask(bytes(4), owners=named)
        lengths.add(visible(world.reencrypt(world.bring(world.rank(query))))["bytes"])
    assert len(lengths) == 1


# What is remembered.


NEARER = [Row(f"nearer{n}", bytes([3, 0, 0, 2])) for n in range(4)]


def test_the_same_query_selects_the_same_though_images_came(world: World) -> None:
    query = world.ask(bytes([3, 0, 0, 2]))
    first = world.rank(query)
    world.send("north", [NEARER])
    assert world.rank(query).read_bytes() == first.read_bytes()
    assert world.selected(world.rank(world.ask(bytes([3, 0, 0, 2])))).groups != world.selected(first).groups


KILLED_BEFORE_SELECTION = """
    import os, signal, sys
    from pathlib import Path
    from mipp_cli.kmc import rank as kmc_rank

    kmc_rank.write_selection = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
    kmc_rank.rank(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
"""


def test_killed_before_the_selection_it_selects_the_same_again(world: World) -> None:
    query, output = world.ask(bytes([3, 0, 0, 2])), world.file("selection")
    expected = sorted(world.found(query).sizes)
    child = run_python(KILLED_BEFORE_SELECTION, world / "kmc", query, output)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert not output.exists()
    world.send("north", [NEARER])
    assert sorted(world.found(query).sizes) != expected
    assert world.selected(world.rank(query)).groups == tuple(expected)


def test_where_no_output_can_be_nothing_is_remembered(world: World) -> None:
    query = world.ask(bytes([3, 0, 0, 0]), candidates=2)
    for output in (world / "nowhere" / "selection.h5", query, world / "kmc" / "selection.h5"):
        with pytest.raises(OutputError):
            world.ranked(query, output)
    assert not (world / "kmc" / "rankings").exists()


def test_other_content_under_a_known_query_id_is_refused(world: World) -> None:
    query = world.ask(bytes([3, 0, 0, 0]), query_id="ef" * 16)
    first = world.rank(query)
    for other in (
        world.ask(bytes([4, 0, 0, 0]), query_id="ef" * 16),
        world.ask(bytes([3, 0, 0, 0]), query_id="ef" * 16, candidates=2),
        world.ask(bytes([3, 0, 0, 0]), query_id="ef" * 16),
    ):
        with pytest.raises(ReplayedError) as caught:
            world.rank(other)
        assert caught.value.exit_code == 6
    assert world.rank(query).read_bytes() == first.read_bytes()


def test_two_users_may_have_the_same_query_id(tmp_path: Path) -> None:
    world = make_world(tmp_path / "world", users=("alice", "bob"))
    world.send("north", [NORTH[:4]])
    queries = [world.ask(bytes(4), user=user, query_id="ef" * 16) for user in ("alice", "bob")]
    numbers = {world.selected(world.rank(query)).number for query in queries}
    assert len(numbers) == 2


@pytest.fixture
def clouds(world: World) -> World:
    init_cloud(world / "cloud2", world / "kmc" / "kmc.pub")
    enroll_at_kmc(world / "kmc", [world / "cloud2" / "cloud.pub"])
    return world


def test_of_several_clouds_one_must_be_named(clouds: World) -> None:
    query = clouds.ask(bytes(4))
    with pytest.raises(InvalidRequestError, match="2 clouds are enrolled"):
        clouds.rank(query)
    selection = clouds.rank(query, cloud=clouds / "cloud2" / "cloud.pub")
    assert clouds.selected(selection).cloud == clouds.sender("cloud2").signing_key.public


def test_the_same_query_for_another_cloud_is_refused(clouds: World) -> None:
    query = clouds.ask(bytes(4))
    clouds.rank(query, cloud=clouds / "cloud" / "cloud.pub")
    with pytest.raises(ReplayedError, match="another cloud") as caught:
        clouds.rank(query, cloud=clouds / "cloud2" / "cloud.pub")
    assert caught.value.exit_code == 6
    with pytest.raises(WrongDeploymentError, match="for another cloud"):
        clouds.bring(clouds.rank(query, cloud=clouds / "cloud" / "cloud.pub"), "cloud2")


def test_a_cloud_that_is_not_enrolled_is_asked_nothing(world: World) -> None:
    init_cloud(world / "cloud2", world / "kmc" / "kmc.pub")
    with pytest.raises(NotAuthorisedError, match="not enrolled"):
        world.rank(world.ask(bytes(4)), cloud=world / "cloud2" / "cloud.pub")


def test_without_any_cloud_the_error_says_what_to_enrol(world: World) -> None:
    for file in (world / "kmc" / "clouds").iterdir():
        file.unlink()
    with pytest.raises(NotAuthorisedError, match="no cloud is enrolled"):
        world.rank(world.ask(bytes(4)))


def test_a_damaged_ranking_is_named_and_not_made_anew(world: World) -> None:
    query = world.ask(bytes(4))
    world.rank(query)
    (file,) = (world / "kmc" / "rankings").iterdir()
    for damage in (file.read_bytes()[:-3], b"{}", b""):
        file.write_bytes(damage)
        with pytest.raises(MalformedError) as caught:
            world.rank(query)
        assert caught.value.path == str(file)


def test_a_ranking_reads_back_as_it_was_written(world: World) -> None:
    selection = world.rank(world.ask(bytes(4), bytes([7, 0, 0, 0]), candidates=3))
    directory, number = world.kmc.directory, world.selected(selection).number
    ranking = read_ranking(directory, number)
    assert ranking is not None
    write_ranking(directory, ranking)
    assert read_ranking(directory, number) == ranking


# Damage of one owner.


def _block(world: World) -> list[Path]:
    return [path for path in (world / "kmc" / "features" / "north").iterdir() if path.name != "index"]


def _spoil_codes(world: World) -> None:
    (block,) = _block(world)
    data = bytearray(block.read_bytes())
    data[20] ^= 1
    block.write_bytes(data)


def _spoil_table(world: World) -> None:
    (block,) = _block(world)
    block.write_bytes(block.read_bytes()[:-1] + b"\0")


def _lose_block(world: World) -> None:
    (block,) = _block(world)
    block.unlink()


def _spoil_index(world: World) -> None:
    index = world / "kmc" / "features" / "north" / "index"
    index.write_bytes(index.read_bytes()[:-1] + b"\0")


def _lose_index(world: World) -> None:
    (world / "kmc" / "features" / "north" / "index").unlink()


BLOCK_DAMAGE: dict[str, Callable[[World], None]] = {
    "codes": _spoil_codes,
    "table": _spoil_table,
    "block gone": _lose_block,
}
INDEX_DAMAGE: dict[str, Callable[[World], None]] = {"index": _spoil_index, "index gone": _lose_index}


@pytest.mark.parametrize("damage", BLOCK_DAMAGE)
def test_a_damaged_block_takes_its_own_rows_alone_and_is_told(world: World, damage: str) -> None:
    (message,) = world.store("north").index().messages
    BLOCK_DAMAGE[damage](world)
    query = world.ask(bytes(4), candidates=3)
    report = world.ranked(query)
    said = f"the KMC lacks the messages {message.number} of north"
    assert any(said in warning for warning in report.warnings)
    opened = world.answered(query)
    assert set(opened.contents) == {b"south 0", b"south 1", b"south 2"}
    assert opened.of("north") == SearchedOwner("north", 0, gaps=(message.number,))
    assert any(said in warning for warning in warnings_of(opened.manifest))


@pytest.mark.parametrize("damage", INDEX_DAMAGE)
def test_a_damaged_index_takes_its_owner_alone_and_is_told(world: World, damage: str) -> None:
    INDEX_DAMAGE[damage](world)
    query = world.ask(bytes(4), candidates=3)
    assert any("the KMC's data of north are damaged" in each for each in world.ranked(query).warnings)
    opened = world.answered(query)
    assert set(opened.contents) == {b"south 0", b"south 1", b"south 2"}
    assert opened.of("north") == SearchedOwner("north", 0, unread=True)
    assert any("the KMC's data of north are damaged" in each for each in warnings_of(opened.manifest))


def test_a_damaged_floor_keeps_nobody_from_being_searched(world: World) -> None:
    (world / "kmc" / "floors").mkdir(exist_ok=True)
    (world / "kmc" / "floors" / "north.json").write_bytes(b"{")
    assert len(world.answered(world.ask(bytes(4), candidates=16)).contents) == 16


def test_what_an_owner_lists_and_never_brought_is_told(world: World) -> None:
    from mipp_cli.containers.messages.delete import write_delete

    path, role = world.file("delete"), Owner.open(world / "north")
    newest = world.store("north").index().newest
    write_delete(path, role.directory.sender, newest + 9, ["nothing"], earlier=[newest, newest + 5])
    index_at_kmc(world / "kmc", [path])
    opened = world.answered(world.ask(bytes(4)))
    assert opened.of("north").gaps == (newest + 5,)


def test_rows_under_a_forgotten_key_are_counted_and_not_ranked(world: World) -> None:
    applied = world.store("north").index().newest
    rotate_key(world / "north")
    role = Owner.open(world / "north")
    role.remember(applied)
    (former,) = role.former_image_keys
    forget_keys(world / "north", former, applied=applied)
    enroll_at_kmc(world / "kmc", [world / "north" / "enrolment.h5"])
    opened = world.answered(world.ask(bytes(4), candidates=16))
    assert opened.of("north") == SearchedOwner("north", 0, unranked=8)
    assert set(opened.contents) == {row.content for row in SOUTH}


def test_a_removed_owner_is_not_searched(world: World) -> None:
    remove_from_kmc(world / "kmc", "north")
    opened = world.answered(world.ask(bytes(4), candidates=16))
    assert [owner.name for owner in opened.manifest.owners] == ["south"]
    assert len(opened.contents) == 8


def test_an_owner_whom_a_user_learns_of_later_is_searched_then(world: World) -> None:
    init_user(world / "bob", "bob", world / "kmc" / "kmc.pub")
    authorize_users(world / "south", [world / "bob" / "user.pub"])
    enroll_at_kmc(world / "kmc", [world / "south" / "enrolment.h5"])
    query = world.ask(bytes(4), user="bob", candidates=16)
    results = world.bring(world.rank(query))
    assert len(world.opened(world.reencrypt(results), query, "bob").contents) == 8


# Others at work meanwhile.

DELETES_ONE_AFTER_THE_OTHER = """
    import sys
    from pathlib import Path
    from mipp_cli.kmc.index import index_at_kmc

    for file in sys.argv[2:]:
        index_at_kmc(Path(sys.argv[1]), [Path(file)])
"""


@pytest.mark.slow
def test_ranking_beside_kmc_index_finds_what_stays(tmp_path: Path) -> None:
    from mipp_cli.containers.messages.delete import write_delete
    from tests.support.forgery import next_number

    world = make_world(tmp_path / "world")
    rows = [Row("target", bytes(4), b"target"), *(far(f"far{n}") for n in range(199))]
    world.send("north", [rows[begin : begin + 4] for begin in range(0, 200, 4)])
    files: list[Path] = []
    for n in range(60):
        path = world.file("delete")
        write_delete(path, world.sender("north"), next_number(), [f"far{3 * n + 5}"])
        files.append(path)
    queries = [world.ask(bytes(4)) for _ in range(40)]
    child = run_python(DELETES_ONE_AFTER_THE_OTHER, world / "kmc", *files)
    (ref,) = world.selected(world.rank(world.ask(bytes(4)))).groups
    beside = 0
    while child.poll() is None:
        query = queries[beside % 40]
        found = world.found(query)
        assert [(match.distance, match.ref) for match in found.matches] == [(0, ref)]
        (owner,) = found.owners
        assert (owner.gaps, owner.unread) == ((), False)
        assert 140 <= (owner.images or 0) <= 200
        beside += 1
    assert child.communicate()[1] == b""
    assert child.returncode == 0
    assert beside
    assert world.store("north").index().rows == 140


def test_a_block_rewritten_meanwhile_is_ranked_as_it_became(world: World) -> None:
    """An index in force between the codes and the table of a block takes the block's file away."""
    from mipp_cli.kmc.nearest import Collection
    from mipp_cli.progress import Advance

    world.delete("south", *(row.name for row in SOUTH))
    seen: list[int] = []

    class Meanwhile:
        def __enter__(self) -> Advance:
            return self.advance

        def __exit__(self, *_: object) -> None:
            if not seen:
                seen.append(1)
                world.delete("north", "n5")

        def advance(self, count: int) -> None:
            """Count nothing."""

    kmc, query = world.kmc, world.parsed(world.ask(bytes(4), candidates=16))
    owners = {name: owner for name in ("north", "south") if (owner := kmc.owner(name))}
    codes = np.zeros((1, 4), dtype=np.uint8)
    found = Collection(kmc, owners).nearest(codes, query, lambda *_: Meanwhile())
    assert len(found.matches) == 7
    assert found.owners == (SearchedOwner("north", 7), SearchedOwner("south", 0))


def test_two_rankings_of_one_query_at_once_give_one_selection(world: World) -> None:
    for _ in range(10):
        query = world.ask(bytes([3, 0, 0, 0]), candidates=2)
        with ThreadPoolExecutor(4) as pool:
            selections = list(pool.map(lambda _: world.rank(query), range(4)))  # noqa: B023 -- called within this turn of the loop
        assert len({path.read_bytes() for path in selections}) == 1


def test_two_queries_of_one_id_at_once_have_one_winner(world: World) -> None:
    def ranked(query: Path) -> bool:
        try:
            world.rank(query)
        except ReplayedError:
            return False
        return True

    for number in range(10):
        queries = [world.ask(bytes([n, 0, 0, 0]), query_id=f"{number:032x}") for n in range(4)]
        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(ranked, queries)) == 1


def test_a_ranking_leaves_nothing_but_what_it_remembers(world: World) -> None:
    query, output = world.ask(bytes(4)), world.file("selection")
    before = set(snapshot(world / "kmc"))
    world.ranked(query, output)
    new = {Path(each).name for each in set(snapshot(world / "kmc")) - before}
    assert new == {"rankings", f"{world.selected(output).number}.json"}
