"""`cloud search` of a selection: whole groups for the KMC, whatever else lies in the store or is broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mipp_cli.cloud.cloud import Cloud, init_cloud
from mipp_cli.cloud.index import index_containers
from mipp_cli.cloud.remove import remove_from_cloud
from mipp_cli.cloud.search import search
from mipp_cli.containers.base.writer import Sender, write_container
from mipp_cli.containers.messages.selection import SELECTION, GroupRef, Selection, write_selection
from mipp_cli.errors import InvalidRequestError, MalformedError, MippError, WrongDeploymentError
from mipp_cli.kmc.enroll import enroll_at_kmc
from mipp_cli.progress import Advance
from tests.support.deployment import Deployment, refused, snapshot
from tests.support.exact_world import Row, Sent, World, make_world

NORTH = [Row(f"n{n}", bytes([n, 0, 0, 0]), b"north %d" % n) for n in range(8)]
SOUTH = [Row(f"s{n}", bytes([n, 0, 0, 1]), b"south %d" % n) for n in range(4)]


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Sent, Sent]:
    world = make_world(tmp_path_factory.mktemp("groups") / "world", ("north", "south"))
    return world, world.send("north", [NORTH[:4], NORTH[4:]]), world.send("south", [SOUTH])


@pytest.fixture
def north(_made: tuple[World, Sent, Sent]) -> int:
    """The number of north's upload."""
    return _made[1].number


@pytest.fixture
def south(_made: tuple[World, Sent, Sent]) -> int:
    """The number of south's upload."""
    return _made[2].number


@pytest.fixture
def world(_made: tuple[World, Sent, Sent], tmp_path: Path) -> World:
    return _made[0].copy(tmp_path / "world")


def asked(world: World, *refs: GroupRef, sender: Sender | None = None, cloud: str = "cloud") -> Path:
    """Write a selection under the KMC's key, or another's."""
    path, key = world.file("selection"), world.sender(cloud).signing_key.public
    ordered = tuple(sorted(refs))
    lengths = tuple(_length(world, ref) for ref in ordered)
    write_selection(path, sender or world.sender("kmc"), Selection("ab" * 16, key, ordered, lengths))
    return path


def _length(world: World, ref: GroupRef) -> int:
    """Return the length of a group's rows at the cloud, 0 if there are none."""
    cloud = Cloud.open(world / "cloud")
    for segment in cloud.index().of_owner(ref.owner):
        if segment.number == ref.upload and segment.rows:
            with cloud.store.segment(segment) as upload:
                return max(map(upload.image_bytes, upload.group_rows(ref.group)), default=0)
    return 0


def brought(world: World, *refs: GroupRef) -> list[tuple[int, str]]:
    """Return place and name of each row that the cloud brings."""
    return [(row.place, row.name) for row in world.rows(world.bring(asked(world, *refs)))]


def test_every_row_of_each_group_is_brought_and_nothing_else(world: World, north: int, south: int) -> None:
    refs = GroupRef("north", north, 1), GroupRef("south", south, 0)
    assert brought(world, *refs) == [
        *((0, row.name) for row in NORTH[4:]),
        *((1, row.name) for row in SOUTH),
    ]


def test_what_was_deleted_is_not_brought(world: World, north: int) -> None:
    world.delete("north", "n1", "n6")
    refs = GroupRef("north", north, 0), GroupRef("north", north, 1)
    names = [name for _, name in brought(world, *refs)]
    assert names == ["n0", "n2", "n3", "n4", "n5", "n7"]


def test_a_group_that_is_empty_keeps_its_number(world: World, north: int) -> None:
    world.delete("north", "n0", "n1", "n2", "n3")
    refs = GroupRef("north", north, 0), GroupRef("north", north, 1)
    assert brought(world, *refs) == [(1, row.name) for row in NORTH[4:]]


def test_groups_that_are_not_here_are_counted(world: World, north: int) -> None:
    refs = (
        GroupRef("north", north, 0),
        GroupRef("north", north, 2),
        GroupRef("north", north, 2**32 - 1),
        GroupRef("north", north + 1, 0),
        GroupRef("nobody", north, 0),
    )
    path = world.file("results")
    report = search(world / "cloud", asked(world, *refs), path)
    assert report.counts == {"groups": 5, "images": 4, "groups not here": 4}
    assert {row.name for row in world.rows(path)} == {row.name for row in NORTH[:4]}


def test_a_selection_of_nothing_is_answered_with_nothing(world: World) -> None:
    assert brought(world) == []


def test_of_an_owner_who_was_removed_nothing_is_brought(world: World, north: int, south: int) -> None:
    remove_from_cloud(world / "cloud", "north")
    refs = GroupRef("north", north, 0), GroupRef("south", south, 0)
    assert brought(world, *refs) == [(1, row.name) for row in SOUTH]


def test_the_same_selection_is_answered_with_the_same_rows(world: World, north: int) -> None:
    selection = asked(world, GroupRef("north", north, 1))
    assert world.bring(selection).read_bytes() == world.bring(selection).read_bytes()


@pytest.mark.parametrize("off", [-1, 1, 2**31])
def test_rows_of_another_length_are_not_brought(world: World, north: int, south: int, off: int) -> None:
    refs = GroupRef("north", north, 0), GroupRef("south", south, 0)
    lengths = _length(world, refs[0]) + off, _length(world, refs[1])
    key = world.sender("cloud").signing_key.public
    path = world.file("selection")
    write_selection(path, world.sender("kmc"), Selection("ab" * 16, key, refs, lengths))
    assert [(row.place, row.name) for row in world.rows(world.bring(path))] == [
        (1, row.name) for row in SOUTH
    ]


def test_the_cloud_remembers_nothing_of_a_selection(world: World, north: int) -> None:
    before = snapshot(world / "cloud")
    brought(world, GroupRef("north", north, 0))
    assert snapshot(world / "cloud") == before


# Selections that are none.


@pytest.mark.parametrize("forger", ["north", "alice", "cloud"])
def test_a_selection_that_the_kmc_did_not_sign_is_refused(world: World, north: int, forger: str) -> None:
    key = world.sender(forger).signing_key
    selection = asked(world, GroupRef("north", north, 0), sender=Sender("kmc", key, world.deployment))
    with pytest.raises(WrongDeploymentError, match="not signed by the KMC"):
        world.bring(selection)


def test_a_selection_for_another_cloud_is_refused(world: World, north: int) -> None:
    init_cloud(world / "cloud2", world / "kmc" / "kmc.pub")
    with pytest.raises(WrongDeploymentError, match="for another cloud"):
        world.bring(asked(world, GroupRef("north", north, 0), cloud="cloud2"))


def test_a_selection_of_another_deployment_is_refused(world: World, north: int, tmp_path: Path) -> None:
    other = make_world(tmp_path / "other")
    with pytest.raises(WrongDeploymentError):
        world.bring(asked(other, GroupRef("north", north, 0)))


Columns = tuple[list[str], list[int], list[int]]

FORMS: dict[str, Columns] = {
    "out of order": (["south", "north"], [1, 1], [0, 0]),
    "twice the same": (["north", "north"], [1, 1], [0, 0]),
    "no identifier": (["no/th"], [1], [0]),
    "no identifier at all": ([""], [1], [0]),
    "a number too large": (["north"], [2**63], [0]),
    "columns that differ": (["north"], [1, 2], [0]),
    "too many": (["north"] * 10_001, [1] * 10_001, list(range(10_001))),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_selection_of_another_form_is_refused(world: World, form: str) -> None:
    owners, uploads, groups = FORMS[form]
    path = world.file("selection")
    with write_container(path, SELECTION, world.sender("kmc"), "ab" * 16) as writer:
        key = world.sender("cloud").signing_key.public
        writer.matrix("cloud").append(np.frombuffer(key, dtype=np.uint8))
        writer.ragged("owners").extend([owner.encode() for owner in owners])
        writer.matrix("lengths").append(np.full(len(owners), 1000, dtype=np.uint64))
        writer.matrix("uploads").append(np.array(uploads, dtype=np.uint64))
        writer.matrix("groups").append(np.array(groups, dtype=np.uint32))
    with pytest.raises(MalformedError) as caught:
        world.bring(path)
    assert caught.value.path == str(path)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_selection_for_no_cloud_is_refused(world: World, size: int) -> None:
    path = world.file("selection")
    with write_container(path, SELECTION, world.sender("kmc"), "ab" * 16) as writer:
        writer.matrix("cloud").append(np.zeros(size, dtype=np.uint8))
    with pytest.raises(MalformedError):
        world.bring(path)


def test_a_query_is_refused_with_the_command_that_comes_first(world: World) -> None:
    with pytest.raises(MalformedError, match="is a query") as caught:
        world.bring(world.ask(bytes(4)))
    assert "mipp kmc rank KMC query.h5 -o selection.h5" in str(caught.value.hint)


def test_a_selection_is_nothing_to_compute_without_an_index(world: World, north: int) -> None:
    with pytest.raises(InvalidRequestError, match="does not apply to a selection"):
        search(
            world / "cloud", asked(world, GroupRef("north", north, 0)), world.file("x"), without_index=True
        )


def test_where_the_cloud_ranks_a_selection_is_refused(deployment: Deployment, world: World) -> None:
    words = ("cloud", "search", deployment / "cloud", asked(world), "-o", world.file("results"))
    assert "is of kind selection, not query" in refused(3, *words).err


# Damage of one owner's store.


def _segment(world: World, owner: str) -> Path:
    (path,) = (world / "cloud" / "segments").glob(f"{owner}-*.h5")
    return path


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[2000] ^= 1
    path.write_bytes(data)


def _spoil_blocks(path: Path) -> None:
    path.with_name(path.name + ".blocks").write_bytes(b"")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "gone": Path.unlink,
    "cut": _cut,
    "spoiled": _spoil,
    "digests spoiled": _spoil_blocks,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_segment_takes_its_own_rows_alone(
    world: World, north: int, south: int, damage: str
) -> None:
    refs = GroupRef("north", north, 0), GroupRef("north", north, 1), GroupRef("south", south, 0)
    path, selection = world.file("results"), asked(world, *refs)
    DAMAGES[damage](_segment(world, "north"))
    report = search(world / "cloud", selection, path)
    assert report.counts == {"groups": 3, "images": 4, "groups not here": 2}
    assert [row.name for row in world.rows(path)] == [row.name for row in SOUTH]
    said, missing = report.warnings
    assert "rows are left out" in said
    assert "north-" in said
    assert "2 of the 3 groups are missing here" in missing


def test_of_a_damaged_segment_the_user_is_told(world: World) -> None:
    _spoil(_segment(world, "north"))
    opened = world.answered(world.ask(bytes(4), candidates=3))  # n0, n1 and s0
    assert opened.contents == [b"south 0"]
    assert opened.of("north").missing == 4


@pytest.mark.parametrize("size", [100_000, 400_000])
def test_a_damaged_row_takes_itself_alone(world: World, size: int) -> None:
    """Small uploads lie in one piece, whose rows the KMC checks; large ones in chunks, checked when read."""
    rows = [Row(f"large{n}", bytes([7, 7, 7, n]), bytes([n]) * size) for n in range(4)]
    number = world.send("north", [rows]).number
    middle = world.rows(world.bring(asked(world, GroupRef("north", number, 0))))[2].ew[size // 2 :][:64]
    path = max((world / "cloud" / "segments").glob("north-*.h5"), key=lambda each: each.stat().st_size)
    data = bytearray(path.read_bytes())
    data[data.index(middle)] ^= 1
    path.write_bytes(data)
    opened = world.answered(world.ask(bytes([7, 7, 7, 2]), candidates=4))
    assert sorted(content[0] for content in opened.contents) == [0, 1, 3]
    told = opened.of("north")
    assert told.bad + told.missing == 1


def test_a_store_that_changes_meanwhile_answers_as_it_became(world: World, north: int) -> None:
    """The index is replaced after it was read, and the segment that it listed is gone."""
    seen: list[int] = []

    class Meanwhile:
        def __enter__(self) -> Advance:
            if not seen:
                seen.append(1)
                world.delete("north", "n1")
            return lambda _: None

        def __exit__(self, *_: object) -> None:
            """End nothing."""

    path = world.file("results")
    selection = asked(world, GroupRef("north", north, 0))
    report = search(world / "cloud", selection, path, progress=lambda *_: Meanwhile())
    assert [row.name for row in world.rows(path)] == ["n0", "n2", "n3"]
    assert report.warnings == ()


# Uploads whose groups are none.


def test_a_group_of_more_rows_than_any_has_is_refused(world: World) -> None:
    rows = [Row(f"many{n}", bytes(4)) for n in range(8)]
    sent = world.upload("north", [rows[:4], rows[4:]], at_cloud=[rows])
    before = Cloud.open(world / "cloud").index()
    with pytest.raises(MalformedError, match="a group of more than 7 images"):
        index_containers(world / "cloud", [sent.upload])
    assert Cloud.open(world / "cloud").index() == before
    seven = world.upload("north", [rows[:4], rows[4:]], at_cloud=[rows[:7], rows[7:]])
    index_containers(world / "cloud", [seven.upload])


def test_an_output_that_exists_is_left_as_it_is(world: World, north: int) -> None:
    path = world.file("results")
    path.write_bytes(b"mine")
    with pytest.raises(MippError):
        search(world / "cloud", asked(world, GroupRef("north", north, 0)), path)
    assert path.read_bytes() == b"mine"


def test_a_second_cloud_answers_what_it_has(world: World, north: int) -> None:
    """A copy of a cloud with keys of its own, as an operator would move to."""
    init_cloud(world / "cloud2", world / "kmc" / "kmc.pub")
    enroll_at_kmc(world / "kmc", [world / "cloud2" / "cloud.pub"])
    query = world.ask(bytes(4))
    results = world.bring(world.rank(query, cloud=world / "cloud2" / "cloud.pub"), "cloud2")
    opened = world.opened(world.reencrypt(results), query)
    assert opened.contents == []
    assert opened.of("north").missing == 4
