"""`kmc reencrypt` of groups: what may change between ranking and answer, and what damage and haste do."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mipp_cli.containers.messages.manifest import Manifest, ManifestMatch, SearchedOwner
from mipp_cli.containers.messages.searched import fields_of, notes_of, warnings_of
from mipp_cli.errors import MalformedError, ReplayedError, TamperedError, WrongDeploymentError
from mipp_cli.kmc.enroll import enroll_at_kmc
from mipp_cli.kmc.index import index_at_kmc
from mipp_cli.kmc.reencrypt import reencrypt
from mipp_cli.kmc.remove import remove_from_kmc
from mipp_cli.kmc.rotate import forget_sealing_keys, rotate_sealing_key
from mipp_cli.owner.authorize import revoke_users
from mipp_cli.owner.keys import forget_keys, rotate_key
from mipp_cli.owner.owner import Owner
from tests.support.deployment import Deployment, refused
from tests.support.exact_world import Opened, Row, Sent, World, make_world, visible

HERE = Path(__file__).parent.parent.parent
NORTH = [Row(f"n{n}", bytes([n, 0, 0, 0]), b"north %d" % n) for n in range(4)]
SOUTH = [Row(f"s{n}", bytes([n, 0, 0, 1]), b"south %d" % n) for n in range(4)]


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Sent]:
    world = make_world(tmp_path_factory.mktemp("answer") / "world", ("north", "south"))
    sent = world.send("north", [NORTH])
    world.send("south", [SOUTH])
    return world, sent


@pytest.fixture
def sent(_made: tuple[World, Sent]) -> Sent:
    """What north sent."""
    return _made[1]


@pytest.fixture
def world(_made: tuple[World, Sent], tmp_path: Path) -> World:
    return _made[0].copy(tmp_path / "world")


class Asked:
    """A query that three images match, two of them of north, and what the cloud brought for it."""

    def __init__(self, world: World):
        self.world = world
        self.query = world.ask(bytes([0, 0, 0, 0]), bytes([2, 0, 0, 0]), bytes([3, 0, 0, 1]))
        self.results = world.bring(world.rank(self.query))

    def answered(self) -> Opened:
        """Re-encrypt and open; demand the shape that every answer to this selection has."""
        path = self.world.reencrypt(self.results)
        shape = visible(path)["NER/offsets"]
        assert shape[0] == (4,)
        return self.world.opened(path, self.query)


def test_all_that_matches_comes_if_nothing_changed(world: World) -> None:
    opened = Asked(world).answered()
    assert opened.contents == [b"north 0", b"north 2", b"south 3"]
    assert opened.manifest.owners == (SearchedOwner("north", 4), SearchedOwner("south", 4))


# Between ranking and answer.


def _revoked(world: World, sent: Sent) -> None:
    revoke_users(world / "north", ["alice"])
    enroll_at_kmc(world / "kmc", [world / "north" / "enrolment.h5"])


def _removed(world: World, sent: Sent) -> None:
    remove_from_kmc(world / "kmc", "north")


def _removed_and_back(world: World, sent: Sent) -> None:
    remove_from_kmc(world / "kmc", "north")
    rotate_key(world / "north")
    enroll_at_kmc(world / "kmc", [world / "north" / "enrolment.h5"])


def _key_forgotten(world: World, sent: Sent) -> None:
    rotate_key(world / "north")
    role = Owner.open(world / "north")
    role.remember(sent.number)
    (former,) = role.former_image_keys
    forget_keys(world / "north", former, applied=sent.number)
    enroll_at_kmc(world / "kmc", [world / "north" / "enrolment.h5"])


def _all_deleted(world: World, sent: Sent) -> None:
    world.delete("north", *(row.name for row in NORTH), at_cloud=False)


def _all_replaced(world: World, sent: Sent) -> None:
    index_at_kmc(world / "kmc", [world.upload("north", [NORTH]).features])


WITHDRAWALS: dict[str, Callable[[World, Sent], None]] = {
    "user revoked": _revoked,
    "owner removed": _removed,
    "owner removed and back": _removed_and_back,
    "key forgotten": _key_forgotten,
    "images deleted": _all_deleted,
    "images replaced": _all_replaced,
}


@pytest.mark.parametrize("withdrawal", WITHDRAWALS)
def test_what_was_withdrawn_since_is_withdrawn_and_not_bad(world: World, sent: Sent, withdrawal: str) -> None:
    asked = Asked(world)
    WITHDRAWALS[withdrawal](world, sent)
    opened = asked.answered()
    assert opened.contents == [b"south 3"]
    told = opened.of("north")
    assert (told.bad, told.missing, told.withdrawn) == (0, 0, 2)
    assert any(
        "2 images of north matched, but were withdrawn" in each for each in warnings_of(opened.manifest)
    )


@pytest.mark.parametrize("withdrawal", WITHDRAWALS)
def test_what_was_answered_before_is_withdrawn_the_next_time(
    world: World, sent: Sent, withdrawal: str
) -> None:
    asked = Asked(world)
    assert len(asked.answered().contents) == 3
    WITHDRAWALS[withdrawal](world, sent)
    assert asked.answered().contents == [b"south 3"]


def test_of_one_match_deleted_the_others_still_come(world: World) -> None:
    asked = Asked(world)
    world.delete("north", "n2")
    opened = asked.answered()
    assert opened.contents == [b"north 0", b"south 3"]
    assert opened.of("north") == SearchedOwner("north", 4, withdrawn=1)


@pytest.mark.parametrize("gone", ["n0", "n1"])
def test_a_mate_deleted_at_the_kmc_alone_is_passed_over(world: World, gone: str) -> None:
    asked = Asked(world)
    world.delete("north", gone, at_cloud=False)
    told = asked.answered().of("north")
    assert (told.bad, told.missing) == (0, 0)


def test_revoked_by_everybody_the_user_gets_random_bytes_alone(world: World) -> None:
    asked = Asked(world)
    for owner in ("north", "south"):
        revoke_users(world / owner, ["alice"])
        enroll_at_kmc(world / "kmc", [world / owner / "enrolment.h5"])
    opened = asked.answered()
    assert opened.contents == []
    assert [owner.withdrawn for owner in opened.manifest.owners] == [2, 1]


def test_a_renewed_sealing_key_opens_what_was_asked_before(world: World) -> None:
    asked = Asked(world)
    rotate_sealing_key(world / "kmc")
    assert len(asked.answered().contents) == 3


@pytest.mark.parametrize("how", ["at once", "later"])
def test_a_dropped_sealing_key_is_one_clear_error(world: World, how: str) -> None:
    asked = Asked(world)
    rotate_sealing_key(world / "kmc", drop_former=how == "at once")
    if how == "later":
        forget_sealing_keys(world / "kmc")
    with pytest.raises(WrongDeploymentError) as caught:
        reencrypt(world / "kmc", asked.results, world / "answer.h5")
    assert caught.value.hint
    assert not (world / "answer.h5").exists()
    assert not list((world / "kmc" / "rankings").glob("*.answer.json"))


def test_an_upload_that_comes_late_is_missing_until_then(world: World) -> None:
    late = world.upload("north", [[Row(f"late{n}", bytes([7, 7, 7, n]), b"late") for n in range(4)]])
    index_at_kmc(world / "kmc", [late.features])
    query = world.ask(bytes([7, 7, 7, 7]))
    opened = world.answered(query)
    assert opened.contents == []
    assert opened.of("north") == SearchedOwner("north", 8, missing=4, uploads=(late.number,))
    bring = (
        f"4 images of north, from upload {late.number}, are not at the cloud: add the upload with mipp cloud "
        "index; or if they were replaced or deleted, add the message that did so with mipp kmc index"
    )
    assert bring in warnings_of(opened.manifest)
    from mipp_cli.cloud.index import index_containers

    index_containers(world / "cloud", [late.upload])
    assert world.answered(world.ask(bytes([7, 7, 7, 7]))).contents == [b"late"]


# Damage at the KMC.


def _spoil_index(world: World) -> None:
    index = world / "kmc" / "features" / "north" / "index"
    index.write_bytes(index.read_bytes()[:-1] + b"\0")


def _spoil_owner(world: World) -> None:
    (world / "kmc" / "owners" / "north.json").write_bytes(b"{}")


def _lose_tags(world: World) -> None:
    (world / "kmc" / "users" / "north.tags").unlink()


@pytest.mark.parametrize("damage", [_spoil_index, _spoil_owner, _lose_tags])
def test_damage_of_one_owner_leaves_the_others_and_is_told(
    world: World, damage: Callable[[World], None]
) -> None:
    asked = Asked(world)
    damage(world)
    path = world.file("answer")
    report = reencrypt(world / "kmc", asked.results, path)
    assert any("the records of north are damaged" in each for each in report.warnings)
    opened = world.opened(path, asked.query)
    assert opened.contents == [b"south 3"]
    assert opened.of("north") == SearchedOwner("north", 4, unread=True)
    assert any("the KMC's data of north are damaged" in each for each in warnings_of(opened.manifest))


def test_a_block_made_whole_gives_all_from_the_same_results(world: World, sent: Sent) -> None:
    asked = Asked(world)
    (block,) = (path for path in (world / "kmc" / "features" / "north").iterdir() if path.name != "index")
    block.write_bytes(block.read_bytes()[:-1] + b"\0")
    opened = asked.answered()
    assert opened.contents == [b"south 3"]
    assert opened.of("north") == SearchedOwner("north", 4, gaps=(sent.number,))
    index_at_kmc(world / "kmc", [sent.features])
    assert len(asked.answered().contents) == 3


def test_a_damaged_ranking_is_named(world: World) -> None:
    asked = Asked(world)
    (file,) = (world / "kmc" / "rankings").iterdir()
    file.write_bytes(b"{}")
    with pytest.raises(MalformedError) as caught:
        asked.answered()
    assert caught.value.path == str(file)


def test_images_of_an_owner_who_did_not_authorise_never_open(world: World) -> None:
    """A cloud that works for a user brings rows of another owner in the place of those that are asked."""
    revoke_users(world / "south", ["alice"])
    wanted = world.bring(world.rank(world.ask(SOUTH[0].codes)))
    enroll_at_kmc(world / "kmc", [world / "south" / "enrolment.h5"])
    query = world.ask(SOUTH[0].codes)
    results = world.bring(world.rank(query))
    rows = [row for row in world.rows(wanted) if row.name.startswith("s")]
    assert len(rows) == 4
    renamed = [row._replace(name=f"n{place}") for place, row in enumerate(rows)]
    opened = world.opened(world.reencrypt(world.forge(results, [*rows[:3], *renamed])), query)
    assert opened.contents == []
    assert opened.of("north") == SearchedOwner("north", 4, bad=4)


def test_results_of_the_other_kind_are_refused(world: World, deployment: Deployment) -> None:
    results = Asked(world).results
    with pytest.raises(MalformedError, match="of kind results, not groups"):
        world.reencrypt(deployment / "alice.results.h5")
    words = ("kmc", "reencrypt", deployment / "kmc", results, "-o", world.file("answer"))
    assert "of kind groups, not results" in refused(3, *words).err


# At once, and large.


def test_the_same_results_at_once_give_the_same_images(world: World) -> None:
    for _ in range(5):
        asked = Asked(world)
        with ThreadPoolExecutor(4) as pool:
            opened = list(pool.map(lambda _: asked.answered(), range(4)))  # noqa: B023 -- called within this turn of the loop
        assert all(each == opened[0] for each in opened)


def test_of_different_results_at_once_one_alone_is_answered(world: World) -> None:
    def answered(results: Path) -> Path | None:
        path = world.file("answer")
        try:
            reencrypt(world / "kmc", results, path)
        except ReplayedError:
            assert not path.exists()
            return None
        return path

    for _ in range(5):
        asked = Asked(world)
        rows = world.rows(asked.results)
        forged = [world.forge(asked.results, rows[:n] + rows[n + 1 :]) for n in range(4)]
        with ThreadPoolExecutor(4) as pool:
            assert sum(path is not None for path in pool.map(answered, forged)) == 1


KILLED_BEFORE_THE_ANSWER = """
    import os, signal, sys
    from pathlib import Path
    from mipp_cli.kmc.reencrypt import reencrypt

    kmc, results, output = map(Path, sys.argv[1:])
    replace = Path.replace

    def killed(self, target):
        if Path(target) == output:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    Path.replace = killed
    reencrypt(kmc, results, output)
"""


def test_a_kill_before_the_answer_still_fixes_the_selection(world: World) -> None:
    asked, output = Asked(world), world.file("answer")
    forged = world.forge(asked.results, world.rows(asked.results)[1:])
    code, words = textwrap.dedent(KILLED_BEFORE_THE_ANSWER), (world / "kmc", forged, output)
    child = subprocess.run([sys.executable, "-c", code, *words], cwd=HERE, check=False)
    assert child.returncode == -signal.SIGKILL
    assert not output.exists()
    with pytest.raises(ReplayedError):
        reencrypt(world / "kmc", asked.results, output)
    assert len(world.opened(world.reencrypt(forged), asked.query).contents) == 2


def _peak(world: World, rows: int, size: int) -> int:
    """Return how much memory an answer takes whose images are all of one size."""
    world.send("north", [[Row(f"large{rows}-{n}", bytes([5, 5, 5, rows]), bytes(size)) for n in range(rows)]])
    results = world.bring(world.rank(world.ask(bytes([5, 5, 5, rows]), candidates=rows)))
    path = world.file("answer")
    tracemalloc.start()
    try:
        reencrypt(world / "kmc", results, path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_one_image_is_in_memory_at_a_time(world: World) -> None:
    size = 6 << 20
    two, seven = _peak(world, 2, size), _peak(world, 7, size)
    assert seven < two + size // 2
    assert seven < 6 * size


def test_random_bytes_are_as_long_as_the_group_states(world: World) -> None:
    rows = [Row(f"r{n}", bytes([6, 6, 6, n])) for n in range(4)]
    late = world.upload("north", [rows], stated=lambda _: 3_000_000)
    index_at_kmc(world / "kmc", [late.features])
    answer = world.reencrypt(world.bring(world.rank(world.ask(bytes([6, 6, 6, 0]), candidates=2))))
    assert visible(answer)["NER/bytes"][0] == (6_000_000,)


# What the manifest says, and who may read it.


def test_a_real_image_moved_to_another_place_is_noticed(world: World) -> None:
    from mipp_cli.containers.messages.reencrypted import open_reencrypted, write_reencrypted

    asked = Asked(world)
    answer, forged = world.reencrypt(asked.results), world.file("forged")
    with open_reencrypted(answer, world.deployment) as container:
        ner = container.ragged("NER").rows(0, 3)
        manifest = container.data("manifest", 1 << 20)
        number = container.header.number
    write_reencrypted(forged, world.sender("kmc"), number, [ner[1], ner[0], ner[2]], lambda: manifest)
    with pytest.raises(TamperedError):
        world.opened(forged, asked.query)


@pytest.mark.parametrize("change", ["fewer", "more"])
def test_images_dropped_from_or_added_to_an_answer_are_noticed(world: World, change: str) -> None:
    from mipp_cli.containers.messages.reencrypted import open_reencrypted, write_reencrypted

    asked = Asked(world)
    answer, forged = world.reencrypt(asked.results), world.file("forged")
    with open_reencrypted(answer, world.deployment) as container:
        ner = container.ragged("NER").rows(0, 3)
        manifest = container.data("manifest", 1 << 20)
        number = container.header.number
    ner = ner[:2] if change == "fewer" else [*ner, ner[0]]
    write_reencrypted(forged, world.sender("kmc"), number, ner, lambda: manifest)
    with pytest.raises(TamperedError, match="dropped or added"):
        world.opened(forged, asked.query)


def test_every_finding_about_an_owner_is_put_in_words() -> None:
    owner = SearchedOwner("north", 5, 1, 2, 3, 4, (11, 12), (13,), unread=True)
    matches = (ManifestMatch(0, 0, "north", 9),)
    manifest = Manifest("0" * 64, 1, (owner, SearchedOwner("south")), matches, left_out=6)
    said = warnings_of(Manifest.unpack(manifest.pack(1, 2)))
    for words in (
        "1 image of north were not searched",
        "the KMC lacks the messages 13 of north",
        "3 images of north, from upload 11, 12, are not at the cloud: messages that the KMC lacks",
        "2 images of north could not be used",
        "4 images of north matched, but were withdrawn",
        "the KMC's data of north are damaged",
        "south was not searched",
        "6 groups of images were left out",
    ):
        assert any(words in each for each in said), words
    assert len(said) == 8
    assert notes_of(manifest) == ("searched: north (5 images)",)
    assert fields_of(owner)["unread"] is True


def test_of_an_owner_of_whom_all_is_well_nothing_is_said() -> None:
    manifest = Manifest("0" * 64, 0, (SearchedOwner("north", 1),), ())
    assert warnings_of(manifest) == []
    assert notes_of(manifest) == ("searched: north (1 image)",)
