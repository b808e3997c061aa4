"""Which images `owner encrypt` sends: what is new or changed, and more where it is told so."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mipp_cli.containers.base.container import open_container
from mipp_cli.containers.messages.upload import UploadReader, upload_schema
from mipp_cli.owner import descriptions
from mipp_cli.owner.owner import Owner
from mipp_cli.scheme.secret_keys import key_id
from tests.owner.test_descriptions import stop_at, watched
from tests.support.deployment import JOBS, Deployment, done, picture, refused, snapshot

NAMES = ("a.png", "b.png", "c/a.png", "d.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures."""
    for seed, name in enumerate(NAMES):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed, size=(40, 40)).save(tmp_path / "pictures" / name)
    return tmp_path / "pictures"


def command(there: Deployment, folder: Path, *options: object) -> tuple[object, ...]:
    output = there / f"new-{len(list(there.root.glob('new-*')))}.h5"
    return ("owner", "encrypt", there / "north", folder, "-o", output, *JOBS, *options)


def send(there: Deployment, folder: Path, *options: object) -> dict[str, int]:
    """Send what is new, and return the counts that are not 0."""
    counts = done(*command(there, folder, *options, "--json")).json["counts"]
    assert sent(there) == counts["images"]
    return {name: count for name, count in counts.items() if count}


def preview(there: Deployment, folder: Path, *options: object) -> dict[str, int]:
    """Ask what would be sent, demand that nothing is written, and return the counts that are not 0."""
    before = snapshot(there.root)
    outcome = done("owner", "encrypt", there / "north", folder, "--dry-run", *options, "--json", *JOBS).json
    assert snapshot(there.root) == before
    assert outcome["outputs"] == []
    return {name: count for name, count in outcome["counts"].items() if count}


def refuse(there: Deployment, code: int, words: str, folder: Path, *options: object) -> str:
    """Demand that nothing is sent and nothing is changed; return what was said."""
    before = snapshot(there.root)
    outcome = refused(code, *command(there, folder, *options))
    assert words in outcome.err
    assert snapshot(there.root) == before
    return outcome.err


def last(there: Deployment) -> int:
    return Owner.open(there / "north").ledger.messages()[-1].number


def listed(there: Deployment) -> set[str]:
    """Return the paths of the last message."""
    ledger = Owner.open(there / "north").ledger
    return {image.path for image in ledger.images(last(there))}


def sent(there: Deployment) -> int:
    """Return how many images the last upload holds, which the ledger must list."""
    newest = max(there.root.glob("new-*.h5"), key=lambda path: int(path.stem.split("-")[1]))
    with open_container(newest, upload_schema(there.public.parameters)) as container:
        names = UploadReader(container, there.public.parameters).names()
    called = {path: name for name, path in there.names("north").items()}
    assert {called[path] for path in listed(there)} == set(names)
    return len(names)


def delete(there: Deployment, *paths: str) -> int:
    done("owner", "delete", there / "north", *paths, "-o", there / f"d-{len(list(there.root.iterdir()))}.h5")
    return last(there)


def draw_again(path: Path, seed: int = 50) -> None:
    picture(seed, size=(40, 40)).save(path)


def touch(path: Path) -> None:
    os.utime(path, (10**9, 10**9))


# What is new


def test_what_was_sent_is_not_sent_again(changeable: Deployment, folder: Path) -> None:
    assert send(changeable, folder) == {"images": 4, "new": 4}
    told = refuse(changeable, 5, "nothing is new: 4 unchanged", folder)
    assert "--again" in told
    assert "--undelete" not in told


@pytest.mark.parametrize("option", ["--resume", "--no-resume", "--split=1MB"])
def test_nothing_is_left_behind_where_nothing_is_new(
    changeable: Deployment, folder: Path, option: str
) -> None:
    send(changeable, folder)
    refuse(changeable, 5, "nothing is new", folder, option)


def test_only_new_pictures_are_sent(changeable: Deployment, folder: Path) -> None:
    send(changeable, folder)
    draw_again(folder / "e.png")
    assert send(changeable, folder) == {"images": 1, "new": 1, "unchanged": 4}
    assert listed(changeable) == {"e.png"}


def test_a_picture_under_another_name_is_new(changeable: Deployment, folder: Path) -> None:
    send(changeable, folder)
    (folder / "a.png").rename(folder / "e.png")
    assert send(changeable, folder) == {"images": 1, "new": 1, "unchanged": 3}


def test_a_picture_that_changed_is_sent(changeable: Deployment, folder: Path) -> None:
    send(changeable, folder)
    draw_again(folder / "b.png")
    assert send(changeable, folder) == {"images": 1, "changed": 1, "unchanged": 3}
    assert listed(changeable) == {"b.png"}


def test_a_picture_that_changed_back_is_sent_too(changeable: Deployment, folder: Path) -> None:
    first = (folder / "b.png").read_bytes()
    send(changeable, folder)
    draw_again(folder / "b.png")
    send(changeable, folder)
    (folder / "b.png").write_bytes(first)
    assert send(changeable, folder) == {"images": 1, "changed": 1, "unchanged": 3}


def test_a_picture_that_was_touched_is_not_sent(changeable: Deployment, folder: Path) -> None:
    send(changeable, folder)
    for name in NAMES:
        touch(folder / name)
    refuse(changeable, 5, "nothing is new: 4 unchanged", folder)


def test_a_touched_picture_is_known_once_more_was_sent(changeable: Deployment, folder: Path) -> None:
    send(changeable, folder)
    before = dict(versions(changeable))
    touch(folder / NAMES[0])
    picture(50).save(folder / "another.png")
    send(changeable, folder)
    after = dict(versions(changeable))
    assert {path for path in before if before[path] != after[path]} == {NAMES[0]}


def versions(there: Deployment) -> Iterator[tuple[str, str]]:
    for each in Owner.open(there / "north").ledger.live():
        yield each.image.path, each.image.version


def test_two_pictures_of_one_size_and_time_are_told_apart(changeable: Deployment, folder: Path) -> None:
    send(changeable, folder)
    status = (folder / NAMES[0]).stat()
    other = folder.with_name("other.png")
    picture(50, size=(20, 20)).save(other)
    other.write_bytes(other.read_bytes().ljust(status.st_size, b"\0"))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(folder / NAMES[0])
    assert preview(changeable, folder) == {"images": 1, "changed": 1, "unchanged": len(NAMES) - 1}


def test_a_copy_of_a_collection_elsewhere_is_unchanged(changeable: Deployment, folder: Path) -> None:
    send(changeable, folder)
    shutil.copytree(folder, changeable / "moved", copy_function=shutil.copyfile)  # with other times
    refuse(changeable, 5, "nothing is new", changeable / "moved")


def test_a_changed_picture_takes_the_place_of_the_former(changeable: Deployment, folder: Path) -> None:
    send(changeable, folder)
    draw_again(folder / "b.png")
    send(changeable, folder)
    words = (changeable / "cloud", *sorted(changeable.root.glob("new-*.h5"), reverse=True), *JOBS, "--json")
    done("cloud", "index", *words)
    called = {path: name for name, path in changeable.names("north").items()}
    rows = done("inspect", changeable / "cloud" / "index.h5", "--csv").out.splitlines()
    assert sum(called["b.png"] in row for row in rows) == 1


def test_images_are_not_new_because_the_key_is(changeable: Deployment, folder: Path) -> None:
    send(changeable, folder)
    done("owner", "rotate-key", changeable / "north")
    refuse(changeable, 5, "nothing is new", folder)


def test_another_payload_counts_as_changed(changeable: Deployment, folder: Path) -> None:
    send(changeable, folder)
    assert send(changeable, folder, "--payload", "pixels") == {"images": 4, "changed": 4}
    refuse(changeable, 5, "nothing is new", folder, "--payload", "pixels")
    assert send(changeable, folder, "--payload", "file") == {"images": 4, "changed": 4}


def features(folder: Path, name: str, rows: object) -> Path:
    np.save(folder.parent / name, np.asarray(rows, dtype=np.uint8))
    return folder.parent / name


def test_other_features_count_as_changed(changeable: Deployment, folder: Path) -> None:
    rows = np.ones((4, 80))
    send(changeable, folder, "--features", features(folder, "f.npy", rows))
    rows[2] = 5  # of c/a.png: rows are in the order of the paths
    assert send(changeable, folder, "--features", features(folder, "g.npy", rows)) == {
        "images": 1,
        "changed": 1,
        "unchanged": 3,
    }
    assert listed(changeable) == {"c/a.png"}


def test_the_same_features_in_another_file_do_not(changeable: Deployment, folder: Path) -> None:
    send(changeable, folder, "--features", features(folder, "f.npy", np.ones((4, 80))))
    refuse(changeable, 5, "nothing is new", folder, "--features", features(folder, "g.npy", np.ones((4, 80))))


def test_features_of_ones_own_in_the_place_of_edges_do(changeable: Deployment, folder: Path) -> None:
    send(changeable, folder)
    file = features(folder, "f.npy", np.ones((4, 80)))
    assert send(changeable, folder, "--features", file) == {"images": 4, "changed": 4}
    assert send(changeable, folder) == {"images": 4, "changed": 4}


# What was deleted


def test_a_deleted_picture_does_not_come_back(changeable: Deployment, folder: Path) -> None:
    send(changeable, folder)
    delete(changeable, "a.png")
    told = refuse(changeable, 5, "nothing is new: 3 unchanged, 1 deleted before", folder)
    assert "--undelete" in told


def test_a_deleted_picture_that_changed_does_not_either(changeable: Deployment, folder: Path) -> None:
    send(changeable, folder)
    delete(changeable, "a.png")
    draw_again(folder / "a.png")
    draw_again(folder / "e.png")
    assert send(changeable, folder) == {"images": 1, "new": 1, "unchanged": 3, "deleted before": 1}


def test_again_does_not_bring_deleted_pictures_back(changeable: Deployment, folder: Path) -> None:
    send(changeable, folder)
    delete(changeable, "a.png")
    assert send(changeable, folder, "--again") == {"images": 3, "sent again": 3, "deleted before": 1}


def test_undelete_sends_deleted_pictures(changeable: Deployment, folder: Path) -> None:
    send(changeable, folder)
    delete(changeable, "a.png", "c/a.png")
    assert send(changeable, folder, "--undelete") == {"images": 2, "sent again": 2, "unchanged": 2}
    assert listed(changeable) == {"a.png", "c/a.png"}
    refuse(changeable, 5, "nothing is new: 4 unchanged", folder)


def test_a_picture_that_only_a_deletion_lists_was_deleted(changeable: Deployment, folder: Path) -> None:
    delete(changeable, "a.png", "b.png")
    assert send(changeable, folder) == {"images": 2, "new": 2, "deleted before": 2}


# What is sent again


def test_again_sends_what_is_unchanged(changeable: Deployment, folder: Path) -> None:
    send(changeable, folder)
    draw_again(folder / "b.png")
    draw_again(folder / "e.png")
    assert send(changeable, folder, "--again") == {"images": 5, "sent again": 4, "new": 1}


def test_again_sends_under_the_key_in_use(changeable: Deployment, folder: Path) -> None:
    send(changeable, folder)
    done("owner", "rotate-key", changeable / "north")
    send(changeable, folder, "--again")
    owner = Owner.open(changeable / "north")
    keys = {each.message.key for each in owner.ledger.live() if each.image.path in NAMES}
    assert keys == {key_id(owner.image_key)}


def three_messages(there: Deployment, folder: Path) -> tuple[int, int, int]:
    """Send four, one of them anew, and delete another; return the numbers."""
    send(there, folder)
    first = last(there)
    draw_again(folder / "b.png")
    send(there, folder)
    return first, last(there), delete(there, "d.png")


def test_an_upload_is_made_again_as_far_as_it_counts(changeable: Deployment, folder: Path) -> None:
    first, _, _ = three_messages(changeable, folder)
    draw_again(folder / "e.png")
    assert send(changeable, folder, "--again", first) == {"images": 2, "sent again": 2}
    assert listed(changeable) == {"a.png", "c/a.png"}


def test_several_uploads_are_made_again_at_once(changeable: Deployment, folder: Path) -> None:
    first, second, _ = three_messages(changeable, folder)
    assert send(changeable, folder, "--again", first, "--again", second) == {"images": 3, "sent again": 3}
    assert listed(changeable) == {"a.png", "b.png", "c/a.png"}


def test_what_changed_since_is_sent_as_it_is_now(changeable: Deployment, folder: Path) -> None:
    first, _, _ = three_messages(changeable, folder)
    draw_again(folder / "a.png")
    send(changeable, folder, "--again", first)
    refuse(changeable, 5, "nothing is new", folder)


def test_an_upload_made_again_counts_no_more(changeable: Deployment, folder: Path) -> None:
    first, _, _ = three_messages(changeable, folder)
    send(changeable, folder, "--again", first)
    words = f"none of the images named is still decided by {first}"
    refuse(changeable, 2, words, folder, "--again", first)


def test_an_upload_is_made_again_of_its_own_images_alone(changeable: Deployment, folder: Path) -> None:
    send(changeable, folder)
    queries = changeable / "pictures" / "queries"
    refuse(changeable, 2, "none of the images named", queries, "--again", last(changeable))


def test_a_deletion_is_not_made_again_by_encrypting(changeable: Deployment, folder: Path) -> None:
    *_, third = three_messages(changeable, folder)
    told = refuse(changeable, 2, f"{third} is a deletion", folder, "--again", third)
    assert f"mipp owner delete OWNER --again {third}" in told


def test_an_upload_that_is_not_known_is_not_made_again(changeable: Deployment, folder: Path) -> None:
    first, _, _ = three_messages(changeable, folder)
    refuse(changeable, 2, "sent no message 17", folder, "--again", first, "--again", 17)


@pytest.mark.parametrize("number", ["0", "-1", "one", "1.5", "10000000000000000000", "٣"])
def test_what_is_no_number_is_refused(changeable: Deployment, folder: Path, number: str) -> None:
    refused(2, *command(changeable, folder, f"--again={number}"))


# What would be sent


def mixed(there: Deployment, folder: Path) -> None:
    """Leave one picture each that is new, changed, touched, unchanged and deleted."""
    send(there, folder)
    delete(there, "d.png")
    draw_again(folder / "e.png")
    draw_again(folder / "a.png")
    touch(folder / "b.png")


@pytest.mark.parametrize(
    "options",
    [(), ("--again",), ("--undelete",), ("--again", "--undelete"), ("--payload", "pixels"), ("--split", "1")],
)
def test_a_dry_run_counts_what_the_run_counts(
    changeable: Deployment, folder: Path, options: tuple[str, ...]
) -> None:
    mixed(changeable, folder)
    told = preview(changeable, folder, *options)
    counts = done(*command(changeable, folder, *options, "--json")).json["counts"]
    assert told == {name: count for name, count in counts.items() if count}
    assert told["images"] > 0


def test_a_dry_run_counts_what_one_upload_held(changeable: Deployment, folder: Path) -> None:
    first, _, _ = three_messages(changeable, folder)
    assert preview(changeable, folder, "--again", first) == send(changeable, folder, "--again", first)


def test_a_dry_run_counts_with_features_of_ones_own(changeable: Deployment, folder: Path) -> None:
    mixed(changeable, folder)
    words = ("--features", features(folder, "f.npy", np.ones((5, 80))))
    assert preview(changeable, folder, *words) == send(changeable, folder, *words)


def test_a_dry_run_counts_what_cannot_be_read(changeable: Deployment, folder: Path) -> None:
    mixed(changeable, folder)
    (folder / "a.png").unlink()
    (folder / "a.png").symlink_to("gone")
    told = preview(changeable, folder, "--skip-unreadable")
    counts = send(changeable, folder, "--skip-unreadable")
    assert told.pop("unreadable") == counts.pop("skipped") == 1
    assert told == counts


def test_a_dry_run_may_find_nothing_to_send(changeable: Deployment, folder: Path) -> None:
    send(changeable, folder)
    assert preview(changeable, folder) == {"unchanged": 4}


def test_a_dry_run_says_that_nothing_was_written(changeable: Deployment, folder: Path) -> None:
    outcome = done("owner", "encrypt", changeable / "north", folder, "--dry-run")
    assert "images: 4, new: 4" in outcome.out
    assert "nothing was sent" in outcome.out


def test_a_dry_run_writes_nothing_where_an_output_is_named(changeable: Deployment, folder: Path) -> None:
    assert preview(changeable, folder, "-o", changeable / "kmc" / "kmc.pub", "--force")["new"] == 4


def test_a_dry_run_leaves_an_interrupted_run_alone(
    changeable: Deployment, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptions, "SYNC_IMAGES", 1)
    assert watched(stop_at("encrypting", 1), *command(changeable, folder)).code == 130
    assert preview(changeable, folder, "--no-resume") == {"images": 4, "new": 4}
    assert send(changeable, folder, "--resume") == {"images": 4, "new": 4}


def test_a_dry_run_refuses_what_the_run_refuses(changeable: Deployment, folder: Path) -> None:
    words = ("owner", "encrypt", changeable / "north", folder, "--dry-run", "--again", 17)
    assert "sent no message 17" in refused(2, *words).err


def test_without_a_dry_run_an_output_must_be_named(changeable: Deployment, folder: Path) -> None:
    assert "-o" in refused(2, "owner", "encrypt", changeable / "north", folder).err


# An image whose picture changed and cannot be read any more


def test_a_sent_picture_that_is_damaged_now_stays_as_it_was(changeable: Deployment, folder: Path) -> None:
    send(changeable, folder)
    (folder / "a.png").write_text("no picture")
    refuse(changeable, 7, f"{folder / 'a.png'}: ", folder)
    draw_again(folder / "e.png")
    counts = send(changeable, folder, "--skip-unreadable")
    assert counts["images"] == counts["skipped"] == 1
    assert listed(changeable) == {"e.png"}
    assert {*NAMES} <= {each.image.path for each in Owner.open(changeable / "north").ledger.live()}


def test_a_picture_changed_within_a_whole_second_is_sent(
    changeable: Deployment, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, now = os.stat, int(time.time())

    def coarse(path: object, **options: object) -> os.stat_result:
        status = real(path, **options)
        if not str(path).endswith("a.png"):
            return status
        seconds = {"st_mtime": float(now), "st_ctime": float(now)}
        nanoseconds = {"st_mtime_ns": now * 10**9, "st_ctime_ns": now * 10**9}
        return os.stat_result((*status[:8], now, now), seconds | nanoseconds)

    monkeypatch.setattr(os, "stat", coarse)
    send(changeable, folder)
    content = (folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(content[:-4] + b"abcd")  # the same size, at the same time
    monkeypatch.setattr(time, "time", lambda: now + 60.0)
    assert send(changeable, folder) == {"images": 1, "changed": 1, "unchanged": 3}
    assert refuse(changeable, 5, "4 unchanged", folder)


# Names whose letters are composed otherwise, as on another system.

COMPOSED, APART = "é.png", "e\N{COMBINING ACUTE ACCENT}.png"


def test_a_picture_that_was_copied_is_not_new(changeable: Deployment, folder: Path) -> None:
    (folder / "a.png").rename(folder / APART)
    send(changeable, folder)
    (folder / APART).rename(folder / COMPOSED)
    assert preview(changeable, folder) == {"unchanged": 4}
    picture(9, size=(40, 40)).save(folder / COMPOSED)
    assert send(changeable, folder) == {"images": 1, "changed": 1, "unchanged": 3}
    done("owner", "delete", changeable / "north", COMPOSED, "-o", changeable / "d.h5")
    assert preview(changeable, folder) == {"unchanged": 3, "deleted before": 1}


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("before", ["", os.fsdecode(b"\xff")])
def test_of_two_pictures_neither_is_taken_for_the_other(
    changeable: Deployment, folder: Path, alone: bool, before: str
) -> None:
    (folder / "a.png").rename(folder / (before + APART))
    send(changeable, folder)
    shutil.copy(folder / "b.png", folder / (before + COMPOSED))
    named = folder / (before + COMPOSED) if alone else folder
    assert preview(changeable, named)["new"] == 1
    send(changeable, named)
    assert preview(changeable, folder) == {"unchanged": 5}
