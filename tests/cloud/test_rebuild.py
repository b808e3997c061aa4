"""The index made anew from the segments: the same as before, of all that is whole, and of nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mipp_cli.cloud import changes as cloud_changes
from mipp_cli.cloud import index as cloud_index
from mipp_cli.cloud import rebuild as cloud_rebuild
from mipp_cli.cloud import search_sums as cloud_search
from mipp_cli.cloud import store
from mipp_cli.cloud.completeness import completeness
from mipp_cli.containers.base.writer import Sender
from mipp_cli.containers.store.segment import Origin, write_deletion_segment
from mipp_cli.scheme.retrieval_index import ids_of
from tests.support.cloud_stores import (
    bring_to_the_kmc,
    check_searches,
    deletion_of,
    expected_row,
    index,
    names,
    read_store,
    refuse,
    rows,
    upload_of,
)
from tests.support.deployment import JOBS, Deployment, done, refused, run, snapshot
from tests.support.forgery import next_number, stranger


def segment_files(deployment: Deployment, owner: str) -> list[Path]:
    """Return the files of an owner's segments, in the order in which they were applied."""
    folder = deployment / "cloud" / "segments"
    return [folder / segment.file_name for segment in read_store(deployment).of_owner(owner)]


def live(deployment: Deployment) -> None:
    """Let images come, leave and be replaced."""
    first, second, *_ = sorted(deployment.names("north"))
    index(deployment, upload_of(deployment, "north", "a", "b", "c", "d"))
    index(deployment, deletion_of(deployment, "north", first, "b"))
    index(deployment, upload_of(deployment, "north", second, "d", seed=30))
    index(deployment, deletion_of(deployment, "lake", *deployment.names("lake")))
    index(deployment, upload_of(deployment, "north", "b", seed=60))


def damage(path: Path, position: int = -100) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@contextmanager
def killed_at(module: object, step: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a run end at a step as if the process were killed: nobody cleans up."""

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, step, kill)
        patch.setattr(store.Store, "remove_unlisted", lambda *_: None)
        yield


def test_an_index_that_was_lost_is_made_anew(each_way: Deployment) -> None:
    live(each_way)
    before, old = rows(each_way), read_store(each_way)
    (each_way / "cloud" / "index.h5").unlink()
    for path in (each_way / "cloud" / "parts").iterdir():
        path.unlink()
    for path in (each_way / "cloud" / "segments").glob("*.blocks"):
        path.unlink()
    assert index(each_way, "--rebuild") == {"uploads and deletions": 8, "images in all": len(before)}
    assert rows(each_way) == before
    new = read_store(each_way)
    # their places may be others
    assert set(new.segments) == set(old.segments)
    assert new.number > max(segment.revision for segment in new.segments)
    check_searches(each_way)
    done(
        "user",
        "decrypt",
        each_way / "alice",
        each_way.answer(each_way.search(each_way.ask("alice"))),
        "-o",
        each_way / "decrypted",
    )


def test_an_index_that_is_whole_is_made_anew_to_the_same(any_scheme: Deployment, tmp_path: Path) -> None:
    deployment = any_scheme.copy(tmp_path / "copy")
    before, old = rows(deployment), read_store(deployment)
    assert index(deployment, "--rebuild") == {"uploads and deletions": 3, "images in all": 14}
    assert rows(deployment) == before
    assert read_store(deployment).number > old.number
    listed = {part.file_name for part in read_store(deployment).parts}
    assert {path.name for path in (deployment / "cloud" / "parts").glob("*.h5")} == listed


@pytest.mark.parametrize("position", [20, 2000, -100])
def test_a_damaged_index_is_replaced(changeable: Deployment, position: int) -> None:
    before = rows(changeable)
    damage(changeable / "cloud" / "index.h5", position)
    refuse(changeable, 3, "mipp cloud index CLOUD --rebuild", changeable / "north.h5")
    index(changeable, "--rebuild")
    assert rows(changeable) == before
    index(changeable, deletion_of(changeable, "north", next(iter(changeable.names("north")))))
    check_searches(changeable)


def test_what_was_applied_is_known_after_a_rebuild(each_way: Deployment) -> None:
    upload = upload_of(each_way, "north", "new")
    deletion = deletion_of(each_way, "north", "new")
    late = upload_of(each_way, "north", "late")
    index(each_way, upload)
    index(each_way, deletion)
    index(each_way, "--rebuild")
    for known in (upload, deletion, each_way / "north.h5"):
        refuse(each_way, 5, "was already applied", known)
    index(each_way, late)


def test_of_damaged_segments_all_are_named_and_nothing_changes(changeable: Deployment) -> None:
    live(changeable)
    paths = [segment_files(changeable, "north")[1], segment_files(changeable, "south")[0]]
    for path in paths:
        damage(path)
    said = refuse(changeable, 3, "is damaged, in 2 files", "--rebuild")
    assert all(f"damaged: {path}: " in said for path in paths)
    assert "--drop-damaged" in said
    (changeable / "cloud" / "index.h5").unlink()
    refuse(changeable, 3, "is damaged, in 2 files", "--rebuild")


def test_damaged_segments_are_left_out_for_good_if_one_says_so(changeable: Deployment) -> None:
    live(changeable)
    before, path = rows(changeable), segment_files(changeable, "south")[0]
    damage(path)
    done_words = ("cloud", "index", changeable / "cloud", "--rebuild", "--drop-damaged", "--json", *JOBS)
    outcome = done(*done_words)
    number = path.stem.partition("-")[2]
    assert any(f"left out message {number} of 'south'" in each for each in outcome.json["warnings"])
    assert outcome.json["counts"]["left out"] == 1
    assert rows(changeable) == {row for row in before if row[0] != "south"}
    assert not path.exists()
    assert not path.with_name(path.name + ".blocks").exists()
    check_searches(changeable)
    index(changeable, changeable / "south.h5")  # what was lost may be sent again
    assert rows(changeable) == before


def test_what_is_older_than_what_was_dropped_is_refused(changeable: Deployment) -> None:
    older, gone = upload_of(changeable, "north", "x"), deletion_of(changeable, "north", "x")
    index(changeable, gone)
    index(changeable, upload_of(changeable, "north", "y"))
    damage(segment_files(changeable, "north")[1])
    done("cloud", "index", changeable / "cloud", "--rebuild", "--drop-damaged", *JOBS)
    refuse(changeable, 6, "because damaged files were dropped", older)
    index(changeable, gone)
    done("cloud", "check", changeable / "cloud", "--sums", *JOBS)
    index(changeable, upload_of(changeable, "north", "z"))
    assert {"y", "z"} <= names(changeable, "north")


def test_what_was_dropped_is_a_gap_until_it_is_made_again(changeable: Deployment) -> None:
    number = next_number()
    index(changeable, upload_of(changeable, "north", "x", number=number))
    index(changeable, upload_of(changeable, "north", "y", earlier=[number]))
    damage(segment_files(changeable, "north")[1])
    words = ("cloud", "index", changeable / "cloud", "--rebuild", "--drop-damaged", *JOBS)
    assert f"messages of north are missing: {number}" in done(*words).err
    index(changeable, upload_of(changeable, "north", "x"))
    assert completeness(None, read_store(changeable), "north").gaps == ()


def test_an_older_revision_does_not_bring_back_what_was_deleted(
    each_way: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = sorted(each_way.names("north"))[0]
    with monkeypatch.context() as patch:
        patch.setattr(store.Store, "remove_unlisted", lambda *_: None)
        index(each_way, deletion_of(each_way, "north", gone))
    before, path = rows(each_way), segment_files(each_way, "north")[0]
    assert len(list(path.parent.glob("north-*.h5"))) == 3
    kept = path.read_bytes()
    damage(path)
    refuse(each_way, 3, "is damaged, in 1 file", "--rebuild")
    path.write_bytes(kept)
    index(each_way, "--rebuild")
    assert rows(each_way) == before
    assert len(list(path.parent.glob("north-*.h5"))) == 2
    damage(path)
    done("cloud", "index", each_way / "cloud", "--rebuild", "--drop-damaged", *JOBS)
    assert names(each_way, "north") == set()


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (cloud_changes, "write_upload_segment"),
        (cloud_index, "write_index"),
    ],
)
def test_a_rebuild_completes_an_interrupted_deletion(
    each_way: Deployment, monkeypatch: pytest.MonkeyPatch, module: object, step: str
) -> None:
    live(each_way)
    before, gone = rows(each_way), sorted(each_way.names("north"))[2]
    deletion = deletion_of(each_way, "north", gone, "a", "b")
    with killed_at(module, step, monkeypatch):
        refused(130, "cloud", "index", each_way / "cloud", deletion, *JOBS)
    assert rows(each_way) == before
    (each_way / "cloud" / "index.h5").unlink()
    index(each_way, "--rebuild")
    bring_to_the_kmc(each_way, deletion)
    assert rows(each_way) == {
        row for row in before if row[:2] not in {("north", n) for n in (gone, "a", "b")}
    }
    check_searches(each_way)
    refuse(each_way, 5, "was already applied", deletion)


@pytest.mark.parametrize(
    ("module", "step"),
    [(cloud_changes, "write_upload_segment"), (cloud_index, "write_index")],
)
def test_a_rebuild_completes_an_interrupted_replacement(
    each_way: Deployment, monkeypatch: pytest.MonkeyPatch, module: object, step: str
) -> None:
    before, name = rows(each_way), sorted(each_way.names("north"))[2]
    upload = upload_of(each_way, "north", name, seed=70)
    with killed_at(module, step, monkeypatch):
        refused(130, "cloud", "index", each_way / "cloud", upload, *JOBS)
    (each_way / "cloud" / "index.h5").unlink()
    index(each_way, "--rebuild")
    bring_to_the_kmc(each_way, upload)
    left = {row for row in before if row[:2] != ("north", name)}
    assert rows(each_way) == left | {expected_row(each_way, "north", name, 70)}
    check_searches(each_way)


def test_searches_go_on_while_the_index_is_rebuilt(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(changeable)
    look_up = cloud_search._look_up

    def look_up_late(*words: object) -> object:
        if not done_once:
            done_once.append(True)
            index(changeable, "--rebuild")
        return look_up(*words)

    done_once: list[bool] = []
    monkeypatch.setattr(cloud_search, "_look_up", look_up_late)
    check_searches(changeable)


def test_a_rebuild_that_is_cut_short_leaves_the_old_index(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(changeable)
    before = snapshot(changeable / "cloud")
    with killed_at(cloud_rebuild, "write_index", monkeypatch):
        refused(130, "cloud", "index", changeable / "cloud", "--rebuild", *JOBS)
    assert snapshot(changeable / "cloud") == before
    with killed_at(cloud_rebuild, "write_index", monkeypatch):
        monkeypatch.setattr(cloud_changes.IndexChange, "undo", lambda _: None)
        refused(130, "cloud", "index", changeable / "cloud", "--rebuild", *JOBS)
    check_searches(changeable)
    monkeypatch.undo()
    index(changeable, "--rebuild")
    check_searches(changeable)


def test_segments_of_an_owner_who_is_not_enrolled_are_named(changeable: Deployment) -> None:
    before, path = rows(changeable), segment_files(changeable, "lake")[0]
    (changeable / "cloud" / "members" / "lake.h5").unlink()
    said = refuse(changeable, 3, "is damaged, in 1 file", "--rebuild")
    assert f"{path}: the owner 'lake' is not enrolled with this cloud" in said
    done("cloud", "index", changeable / "cloud", "--rebuild", "--drop-damaged", *JOBS)
    assert rows(changeable) == {row for row in before if row[0] != "lake"}


def test_images_of_an_owner_who_was_removed_do_not_come_back(
    each_way: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(each_way)
    before = rows(each_way)
    with monkeypatch.context() as patch:
        patch.setattr(store.Store, "remove_unlisted", lambda *_: None)
        done("cloud", "remove", each_way / "cloud", "north", "--yes")
    assert list((each_way / "cloud" / "segments").glob("north-*.h5"))
    index(each_way, "--rebuild")
    assert rows(each_way) == {row for row in before if row[0] != "north"}
    assert not list((each_way / "cloud" / "segments").glob("north-*"))


def test_a_damaged_list_of_members_costs_no_images(changeable: Deployment) -> None:
    damage(changeable / "cloud" / "members" / "north.h5", 100)
    refuse(changeable, 3, "north.h5", "--rebuild", "--drop-damaged")


def test_a_rebuild_counts_only_what_owner_and_cloud_signed(changeable: Deployment) -> None:
    folder, public = changeable / "cloud" / "segments", changeable.public
    number = next_number()
    key = changeable.sender("north").signing_key.public
    origin, before_us = (
        Origin("north", key, number, bytes(32)),
        Origin("north", bytes(32), number + 4, bytes(32)),
    )
    other_cloud = Sender("cloud", stranger(changeable, "x").signing_key, public.fingerprint)
    own = changeable.sender("cloud")

    def write(path: Path, sender: Sender, origin: Origin) -> None:
        write_deletion_segment(path, public.parameters, sender, origin, ids_of([b"a"]))

    forged = {
        f"north-{number}.5.h5": lambda path: write(path, other_cloud, origin),
        f"south-{number}.5.h5": lambda path: write(path, own, origin),
        f"north-{number + 1}.5.h5": lambda path: write(path, own, origin),
        f"north-{number + 4}.5.h5": lambda path: write(path, own, before_us),
        f"lake-{number}.h5": lambda path: write(path, own, origin),
        f"north-{number + 2}.h5": lambda path: shutil.copy(changeable / "north.h5", path),
        f"south-{number + 2}.h5": lambda path: shutil.copy(changeable / "north.h5", path),
        f"lake-{number + 3}.h5": lambda path: path.write_bytes(b"mipp 2"),
    }
    for name, make in forged.items():
        make(folder / name)
    before = rows(changeable)
    said = refuse(changeable, 3, f"is damaged, in {len(forged)} files", "--rebuild")
    assert all(f"damaged: {folder / name}: " in said for name in forged)
    done("cloud", "index", changeable / "cloud", "--rebuild", "--drop-damaged", *JOBS)
    assert rows(changeable) == before
    assert not any((folder / name).exists() for name in forged)


def test_rebuild_takes_no_files_and_drop_damaged_needs_rebuild(changeable: Deployment) -> None:
    refuse(changeable, 2, "--rebuild takes no CONTAINER", changeable / "north.h5", "--rebuild")
    refuse(changeable, 2, "--drop-damaged needs --rebuild", changeable / "north.h5", "--drop-damaged")
    refuse(changeable, 2, "Missing argument 'CONTAINER...'")
    assert run("cloud", "index", changeable / "absent", "--rebuild").code == 2


def test_the_folder_of_the_parts_may_be_lost_as_a_whole(each_way: Deployment) -> None:
    before = rows(each_way)
    shutil.rmtree(each_way / "cloud" / "parts")
    index(each_way, "--rebuild")
    assert rows(each_way) == before


def test_an_upload_that_is_missing_is_not_forgotten_in_silence(changeable: Deployment) -> None:
    (gone,) = segment_files(changeable, "lake")
    before = rows(changeable)
    gone.unlink()
    assert f"damaged: {gone}: is missing" in refuse(changeable, 3, "is damaged, in 1 file", "--rebuild")
    outcome = done("cloud", "index", changeable / "cloud", "--rebuild", "--drop-damaged", *JOBS)
    assert "of 'lake': is missing" in outcome.err
    assert rows(changeable) == {row for row in before if row[0] != "lake"}
