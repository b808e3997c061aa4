"""The features file beside each upload: what both state, when they appear, and what the owner keeps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mipp_cli.owner import descriptions
from tests.owner.test_descriptions import Step, watched
from tests.support.deployment import (
    JOBS,
    Deployment,
    check_refusal,
    done,
    feature_of,
    refused,
    run,
    snapshot,
)
from tests.support.owner_world import OwnerWorld, killed, make_world, uploads

NAMES = tuple(f"{number:02d}.png" for number in range(8))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> OwnerWorld:
    """An owner whose groups have two images, and who sent nothing yet."""
    return make_world(tmp_path_factory.mktemp("kept") / "world", "--group-size", 2)


@pytest.fixture
def names() -> tuple[str, ...]:
    """The pictures of these tests."""
    return tuple(NAMES)


def numbers(world: OwnerWorld) -> list[int]:
    return [message.number for message in world.ledger.messages()]


def once(what: str, count: int, act: Any) -> Step:
    """Return a step that acts where a pass is that far."""
    return lambda *where: act() if where == (what, count) else None


# What the two files state


@pytest.mark.parametrize("options", [(), ("--split", "1"), ("--payload", "pixels")])
def test_an_upload_and_its_features_state_the_same(fresh: OwnerWorld, options: tuple[str, ...]) -> None:
    told = fresh.send(*options)
    assert sum(len(fresh.of_upload(upload).names) for upload in uploads(told)) == len(NAMES)
    for upload in uploads(told):
        assert fresh.of_features(upload) == fresh.of_upload(upload)


def test_both_list_the_same_earlier_messages(world: OwnerWorld) -> None:
    (first,) = numbers(world)
    world.draw(*(f"new/{number}.png" for number in range(4)), seed=1)
    files = uploads(world.send("--split", "1"))
    second = world.of_upload(files[0]).number
    assert [world.of_upload(file).earlier for file in files] == [(first,), (first, second)]
    assert [world.of_features(file).earlier for file in files] == [(first,), (first, second)]


def test_codes_are_those_of_the_pictures_row_by_row(fresh: OwnerWorld) -> None:
    (upload,) = uploads(fresh.send())
    paths = [path for group in fresh.paths(upload) for path in group]
    assert fresh.codes(upload) == [feature_of(fresh.pictures / path).tolist() for path in paths]


def test_codes_are_those_that_the_owner_brings(fresh: OwnerWorld) -> None:
    rows = np.random.default_rng(1).integers(0, 8, (8, 80), dtype=np.uint8)
    np.save(fresh.root / "f.npy", rows)
    (upload,) = uploads(fresh.send("--features", fresh.root / "f.npy"))
    paths = [path for group in fresh.paths(upload) for path in group]
    assert fresh.codes(upload) == [rows[NAMES.index(path)].tolist() for path in paths]


def test_a_features_file_tells_no_code_and_no_path(fresh: OwnerWorld) -> None:
    rows = np.random.default_rng(1).integers(0, 8, (8, 80), dtype=np.uint8)
    np.save(fresh.root / "f.npy", rows)
    (upload,) = uploads(fresh.send("--features", fresh.root / "f.npy"))
    data = upload.with_suffix(".features.h5").read_bytes()
    assert not any(row.tobytes()[:16] in data for row in rows)
    assert not any(name.encode() in data for name in NAMES)


def test_both_files_are_told_as_outputs(fresh: OwnerWorld) -> None:
    told = fresh.send(output=fresh.root / "u.h5")
    outputs = [(each["path"], each["kind"]) for each in told["outputs"]]
    expected = [("u.h5", "upload"), ("u.features.h5", "features")]
    assert outputs == [(str(fresh.root / name), kind) for name, kind in expected]


# Both or neither


def nothing_changed(world: OwnerWorld, before: dict[str, Any]) -> None:
    """Demand that all is as it was: no file but for the last number, and no more than empty folders."""
    after = snapshot(world.root)
    differ = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    may_be_made = {str(world.north / name) for name in ("state.json", "uploads", "features")}
    assert differ <= may_be_made


@pytest.mark.parametrize("name", ["u.h5", "u.features.h5"])
@pytest.mark.parametrize("count", [0, 3, 8])
def test_where_one_cannot_be_written_there_is_neither(world: OwnerWorld, name: str, count: int) -> None:
    before = snapshot(world.root)
    hinder = once("encrypting", count, (world.root / name).mkdir)
    outcome = watched(hinder, *world.command("--again", output=world.root / "u.h5"))
    check_refusal(outcome, 10)
    (world.root / name).rmdir()
    nothing_changed(world, before)


# An upload of eight pictures has some 12 kB, and their features of 4000 numbers 40 kB: the limits end the run
# while either is written.
@pytest.mark.parametrize("limit", [1000, 6000, 20_000, 36_000])
def test_on_a_full_disk_there_is_neither(tmp_path: Path, limit: int) -> None:
    world = make_world(tmp_path / "world", "--group-size", 2, "--descriptor", "wide:4000:2")
    world.draw(*NAMES)
    np.save(world.root / "wide.npy", np.ones((8, 4000), dtype=np.uint8))
    program = (
        "import resource, sys\n"
        "from mipp_cli.cli.main import mipp\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "mipp(sys.argv[1:], prog_name='mipp')\n"
    )
    before = snapshot(world.root)
    words = map(str, world.command("--features", world.root / "wide.npy", output=world.root / "u.h5"))
    ended = subprocess.run(
        [sys.executable, "-c", program, *words], check=False, capture_output=True, text=True
    )
    assert ended.returncode == 10, ended.stderr
    nothing_changed(world, before)
    world.send("--features", world.root / "wide.npy", output=world.root / "u.h5")
    assert (world.root / "u.h5").stat().st_size < 20_000
    assert (world.root / "u.features.h5").stat().st_size > 36_000


def test_a_changed_picture_in_the_second_upload_leaves_none(world: OwnerWorld) -> None:
    before, listed = snapshot(world.root), numbers(world)

    def change() -> None:
        world.draw(*NAMES, seed=1)

    step = once("encrypting", 7, change)
    outcome = watched(step, *world.command("--again", "--split", "1", output=world.root / "u.h5"))
    check_refusal(outcome, 7)
    assert not list(world.root.glob("u*"))
    assert [number for number in numbers(world) if number not in world.ledger.unsure] == listed
    outside = {path: state for path, state in before.items() if not path.startswith(str(world.north))}
    after = snapshot(world.root)
    assert {path: after[path] for path in outside if "pictures" not in path} == {
        path: state for path, state in outside.items() if "pictures" not in path
    }


def test_the_features_of_uploads_that_may_be_out_are_kept(world: OwnerWorld) -> None:
    before = set(world.kept)
    step = once("encrypting", 7, lambda: world.draw(*NAMES, seed=1))
    watched(step, *world.command("--again", "--split", "1", output=world.root / "u.h5"))
    unsure = {number for number in numbers(world) if number in world.ledger.unsure}
    assert len(unsure) == 3
    assert set(world.kept) == before | unsure


@pytest.fixture
def sync_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each image be worth going on with."""
    monkeypatch.setattr(descriptions, "SYNC_IMAGES", 1)


@pytest.mark.usefixtures("sync_always")
def test_who_is_killed_between_the_two_goes_on(fresh: OwnerWorld) -> None:
    killed(fresh, "encrypting is over", 8)
    (fresh.root / "new.features.h5").unlink()  # which comes last
    told = fresh.send("--resume", output=fresh.root / "new.h5")
    (upload,) = uploads(told)
    assert fresh.of_features(upload) == fresh.of_upload(upload)
    assert set(fresh.kept) == {fresh.of_upload(upload).number}


@pytest.mark.usefixtures("sync_always")
def test_who_is_killed_amid_split_uploads_goes_on(fresh: OwnerWorld) -> None:
    killed(fresh, "encrypting", 5, "--split", "1")
    assert len(list(fresh.root.glob("new-*.features.h5"))) == 2
    told = fresh.send("--resume", "--split", "1", output=fresh.root / "new.h5")
    assert len(uploads(told)) == 4
    for upload in uploads(told):
        assert fresh.of_features(upload) == fresh.of_upload(upload)
    assert set(fresh.kept) == {fresh.of_upload(upload).number for upload in uploads(told)}


@pytest.mark.usefixtures("sync_always")
def test_the_features_of_a_killed_run_stay_while_it_may_be_out(fresh: OwnerWorld) -> None:
    killed(fresh, "encrypting", 5, "--split", "1")
    unsure = set(fresh.kept)
    assert len(unsure) == 2
    fresh.draw("new/0.png", "new/1.png", seed=1)
    fresh.send("--no-resume", named=fresh.pictures / "new")
    assert unsure < set(fresh.kept)
    fresh.delete("new/0.png", "new/1.png")
    assert set(fresh.kept) == unsure


@pytest.mark.usefixtures("sync_always")
@pytest.mark.parametrize("count", [3, 5, 8])
def test_the_features_of_a_killed_run_are_at_hand(fresh: OwnerWorld, count: int) -> None:
    killed(fresh, "encrypting", count, "--split", "1")
    assert set(numbers(fresh)) <= set(fresh.kept)
    done("owner", "features", fresh.north, "-o", fresh.root / "out")


# What is replaced


def test_both_are_refused_where_one_is_there(world: OwnerWorld) -> None:
    upload, file = world.root / "u.h5", world.root / "u.features.h5"
    world.send("--again", output=upload)
    for there, gone in ((upload, file), (file, upload)):
        content = gone.read_bytes()
        gone.unlink()
        outcome = run(*world.command("--again", output=upload))
        check_refusal(outcome, 10)
        assert f"error: {there}: the output exists" in outcome.err
        gone.write_bytes(content)


def test_force_replaces_both(world: OwnerWorld) -> None:
    upload = world.root / "u.h5"
    world.send("--again", output=upload)
    first = world.of_upload(upload).number
    world.send("--again", "--force", output=upload)
    assert world.of_upload(upload).number > first
    assert world.of_features(upload) == world.of_upload(upload)


@pytest.mark.parametrize("options", [(), ("--split", "1")])
def test_force_replaces_no_other_file_by_features(world: OwnerWorld, options: tuple[str, ...]) -> None:
    other = world.root / ("u-001.features.h5" if options else "u.features.h5")
    other.write_text("features of my own")
    outcome = run(*world.command("--again", "--force", *options, output=world.root / "u.h5"))
    check_refusal(outcome, 10)
    assert f"error: {other}: is not an upload of this owner" in outcome.err
    assert other.read_text() == "features of my own"
    assert not (world.root / "u.h5").exists()


def test_force_replaces_no_features_of_others(world: OwnerWorld) -> None:
    other = world.root / "other"
    done("owner", "init", other, "--id", "other", "--kmc", world.root / "kmc" / "kmc.pub")
    words = (other, world.pictures, "-o", world.root / "u.h5", *JOBS)
    done("owner", "encrypt", *words)
    before = snapshot(*world.root.glob("u*"))
    check_refusal(run(*world.command("--again", "--force", output=world.root / "u.h5")), 10)
    assert snapshot(*world.root.glob("u*")) == before


def test_a_shorter_split_run_leaves_no_older_features(world: OwnerWorld) -> None:
    world.send("--again", "--split", "1", output=world.root / "u.h5")
    assert len(list(world.root.glob("u-*"))) == 8
    world.send("--again", "--split", "1GB", "--force", output=world.root / "u.h5")
    assert {path.name for path in world.root.glob("u-*")} == {"u-001.h5", "u-001.features.h5"}


# What the owner keeps


def out(world: OwnerWorld) -> dict[int, bytes]:
    """Hand out the features, and return them by number."""
    folder = world.root / f"out{len(list(world.root.glob('out*')))}"
    done("owner", "features", world.north, "-o", folder)
    return {int(file.name.removesuffix(".features.h5")): file.read_bytes() for file in folder.iterdir()}


def test_features_are_handed_out_bit_for_bit(world: OwnerWorld) -> None:
    world.draw("new/0.png", "new/1.png", seed=1)
    world.send()
    files = {
        world.of_upload(file.with_name(file.name.replace(".features", ""))).number: file.read_bytes()
        for file in world.root.glob("new*.features.h5")
    }
    assert len(files) == 2
    assert out(world) == files


def test_only_features_that_count_are_handed_out(world: OwnerWorld) -> None:
    world.draw("new/0.png", "new/1.png", seed=1)
    world.send()
    first, second = numbers(world)
    world.delete("new/0.png", "new/1.png")
    assert set(out(world)) == {first}
    world.send("--undelete", named=world.pictures / "new")
    assert set(out(world)) == {first, numbers(world)[-1]}
    assert second not in world.kept


def test_a_kmc_that_missed_an_upload_takes_what_is_handed_out(changeable_exact: Deployment) -> None:
    there = changeable_exact
    words = (there / "north", there / "pictures" / "queries", "-o", there / "new.h5", *JOBS)
    done("owner", "encrypt", *words)
    (there / "new.features.h5").unlink()  # it was lost on the way
    done("owner", "features", there / "north", "-o", there / "out")
    done("cloud", "index", there / "cloud", there / "new.h5", *JOBS)
    told = done("kmc", "index", there / "kmc", *(there / "out").iterdir(), "--json").json
    assert told["counts"]["images"] == 2


@pytest.mark.parametrize("kind", ["folder", "empty folder", "file", "link"])
def test_features_are_not_handed_out_where_something_is(world: OwnerWorld, kind: str) -> None:
    there = world.root / "out"
    if kind == "file":
        there.write_text("notes")
    elif kind == "link":
        there.symlink_to("nowhere")
    else:
        there.mkdir()
        if kind == "folder":
            (there / "notes.txt").write_text("notes")
    before = snapshot(world.root)
    outcome = refused(10, "owner", "features", world.north, "-o", there)
    assert f"error: {there}: the output exists" in outcome.err
    assert snapshot(world.root) == before


@pytest.mark.parametrize("name", ["north/out", "north/features/out"])
def test_features_are_not_handed_out_into_the_directory(world: OwnerWorld, name: str) -> None:
    before = snapshot(world.root)
    outcome = refused(10, "owner", "features", world.north, "-o", world.root / name)
    assert "is inside the directory of an owner" in outcome.err
    assert snapshot(world.root) == before


def test_features_that_are_missing_are_told(world: OwnerWorld) -> None:
    (number,) = numbers(world)
    world.kept[number].unlink()
    outcome = refused(3, "owner", "features", world.north, "-o", world.root / "out")
    assert "lacks the features of all 1 current uploads" in outcome.err
    assert f"--again {number}" in outcome.err
    assert not (world.root / "out").exists()
    world.send("--again", number)
    assert set(out(world)) == {numbers(world)[-1]}


def test_features_that_are_there_are_handed_out(world: OwnerWorld) -> None:
    (first,) = numbers(world)
    world.draw("more/a.png", seed=91)
    world.send("--small")
    second = numbers(world)[-1]
    world.kept[first].unlink()
    outcome = done("owner", "features", world.north, "-o", world.root / "out")
    assert f"--again {first}" in outcome.err
    assert {path.name for path in (world.root / "out").iterdir()} == {f"{second}.features.h5"}


def test_without_images_there_are_no_features_to_hand_out(world: OwnerWorld) -> None:
    world.delete(*NAMES)
    outcome = refused(5, "owner", "features", world.north, "-o", world.root / "out")
    assert "none of the images sent is live" in outcome.err


def test_where_the_cloud_ranks_there_are_no_features(deployment: Deployment, tmp_path: Path) -> None:
    outcome = refused(2, "owner", "features", deployment / "north", "-o", tmp_path / "out")
    assert "the cloud ranks in this deployment's scheme" in outcome.err
    assert not (deployment / "north" / "features").exists()


def test_features_are_kept_while_an_image_of_theirs_counts(world: OwnerWorld) -> None:
    (number,) = numbers(world)
    world.delete(*NAMES[1:])
    assert set(world.kept) == {number}
    world.delete(NAMES[0])
    assert not world.kept


def test_features_go_once_all_images_were_sent_again(world: OwnerWorld) -> None:
    world.send("--again")
    assert set(world.kept) == {numbers(world)[-1]}


def test_features_of_a_failed_run_do_not_stay(world: OwnerWorld) -> None:
    before = set(world.kept)
    hinder = once("encrypting", 8, (world.root / "u.features.h5").mkdir)
    check_refusal(watched(hinder, *world.command("--again", output=world.root / "u.h5")), 10)
    assert set(world.kept) == before


def test_kept_features_are_readable_by_their_owner_alone(world: OwnerWorld) -> None:
    assert (world.north / "features").stat().st_mode & 0o077 == 0
