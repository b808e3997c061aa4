"""The second pass of `owner encrypt`: what lies on disk meanwhile, files that change, and runs that die."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mipp_cli.images.pixels import png_of_pixels
from mipp_cli.owner import descriptions, upload
from mipp_cli.owner.described_image import DescribedImage
from mipp_cli.owner.ledger import Message, SentImage
from mipp_cli.owner.owner import Owner
from mipp_cli.scheme.secret_keys import key_id
from tests.owner.test_descriptions import (
    Step,
    command,
    contents,
    kept,
    on_disk,
    outputs,
    stop_at,
    watched,
)
from tests.support.deployment import (
    JOBS,
    Deployment,
    Outcome,
    check_refusal,
    done,
    picture,
    refused,
    run,
    snapshot,
)

COUNT = 12
SPLIT = ("--split", "9kB")  # four of the pictures, whichever: three of them are below it


@pytest.fixture(autouse=True)
def sync_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each image be worth going on with."""
    monkeypatch.setattr(descriptions, "SYNC_IMAGES", 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Some small pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(COUNT):
        picture(number, size=(40, 40), mode="L").save(folder / f"{number:02d}.png")
    return folder


def numbers(there: Deployment) -> list[int]:
    return [message.number for message in Owner.open(there / "north").ledger.messages()]


def number_of(upload: Path) -> int:
    return int(upload.read_bytes().split(b"\n")[3].split()[1])


def once(what: str, count: int, act: Callable[[], object]) -> Step:
    """Return a step that acts where a pass is that far."""
    return lambda *where: act() if where == (what, count) else None


# No encrypted picture is spooled


def test_no_picture_lies_on_disk_between_the_passes(each_way: Deployment, tmp_path: Path) -> None:
    size, folder = 1 << 17, tmp_path / "pictures"
    folder.mkdir()
    for seed in range(3):
        noise = np.random.default_rng(seed).integers(0, 256, (400, 400), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{seed}.png")  # noise cannot be compressed
    assert all(path.stat().st_size > size for path in folder.iterdir())
    before, seen = snapshot(each_way / "north"), []

    def look(what: str, count: int) -> None:
        for path in (each_way / "north").rglob("*"):
            if path.is_file() and str(path) not in before:
                assert path.stat().st_size < size, path
                seen.append((what, path.name))

    assert watched(look, *command(each_way, folder)).code == 0
    assert ("describing", "descriptions") in seen
    assert ("encrypting", "descriptions") in seen
    assert sorted(contents(each_way, each_way / "new.h5")) == on_disk(folder)


@pytest.mark.parametrize("payload", ["file", "pixels"])
def test_descriptions_hold_no_part_of_a_picture(each_way: Deployment, folder: Path, payload: str) -> None:
    watched(stop_at("encrypting", 5), *command(each_way, folder, "--payload", payload))
    data = b""
    with (each_way / "north" / "partial" / "descriptions").open("rb") as file:
        while (each := DescribedImage.read(file)) is not None:
            data += b"".join((each.pack(), each.codes, *each.features))
    assert data
    for path in folder.iterdir():
        with Image.open(path) as image:
            pixels = image.tobytes()
        for content in (path.read_bytes()[100:], pixels):
            assert not any(content[at : at + 16] in data for at in range(0, len(content) - 16, 16))


def test_descriptions_go_once_the_upload_is_there(each_way: Deployment, folder: Path) -> None:
    done(*command(each_way, folder))
    assert not (each_way / "north" / "partial").exists()


# Interrupted in the second pass


@pytest.mark.parametrize("count", [0, 1, COUNT])
def test_the_second_pass_interrupted_describes_nothing_again(
    each_way: Deployment, folder: Path, count: int
) -> None:
    before = numbers(each_way)
    outcome = watched(stop_at("encrypting", count), *command(each_way, folder))
    check_refusal(outcome, 130)
    assert f"{COUNT} of {COUNT} images are described" in outcome.err
    assert not (each_way / "new.h5").exists()
    assert numbers(each_way) == before
    assert kept(each_way, folder, "--resume") == (COUNT, COUNT)
    assert sorted(contents(each_way, each_way / "new.h5")) == on_disk(folder)


def test_an_upload_that_cannot_be_written_keeps_descriptions(each_way: Deployment, folder: Path) -> None:
    before = numbers(each_way)
    hinder = once("encrypting", 3, (each_way / "new.h5").mkdir)
    outcome = watched(hinder, *command(each_way, folder))
    check_refusal(outcome, 10)
    assert f"{COUNT} images are described: give --resume" in outcome.err
    assert numbers(each_way) == before
    (each_way / "new.h5").rmdir()
    assert kept(each_way, folder, "--resume") == (COUNT, COUNT)


# Files that change between the passes


def grow(path: Path) -> None:
    picture(99, size=(64, 64)).save(path)


def change_quietly(path: Path) -> None:
    """Change one bit, and nothing else that is seen from outside."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)


def spoil(path: Path) -> None:
    path.write_text("no picture")


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES = {
    "another picture": grow,
    "size and time as before": change_quietly,
    "no picture": spoil,
    "gone": Path.unlink,
    "a folder": replace_by_folder,
}


def changed(there: Deployment, folder: Path, how: str, *options: object) -> Outcome:
    """Let a file change once all are described, and demand that this is told."""
    act = CHANGES[how]
    step = once("encrypting", 0, lambda: act(folder / "05.png"))
    before, listed = snapshot(there.root), numbers(there)
    outcome = watched(step, *command(there, folder, *options))
    check_refusal(outcome, 7)
    assert f"error: {folder / '05.png'}: changed while the command ran" in outcome.err
    ledger = Owner.open(there / "north").ledger
    assert [number for number in numbers(there) if number not in ledger.unsure] == listed
    after = snapshot(there.root)
    partial = str(there / "north" / "partial")
    differ = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    differ = {path for path in differ if not path.startswith((partial, str(ledger.folder)))}
    assert differ == {str(there / "north" / "state.json")}
    return outcome


@pytest.mark.parametrize("how", CHANGES)
def test_a_file_that_changes_between_the_passes_is_named(
    each_way: Deployment, folder: Path, how: str
) -> None:
    assert "--resume" in changed(each_way, folder, how).err


def test_the_report_says_which_file_changed(changeable: Deployment, folder: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.csv"
    assert str(report) in changed(changeable, folder, "another picture", "--report", report).err
    with report.open(newline="") as table:
        rows = {Path(row["path"]).name: (row["outcome"], row["reason"]) for row in csv.DictReader(table)}
    changes = ("not sent", "changed while the command ran: its content is different now")
    assert rows.pop("05.png") == changes
    assert set(rows.values()) == {("not sent", "new, but the run failed")}
    assert len(rows) == COUNT - 1


@pytest.mark.parametrize("options", [(), SPLIT])
@pytest.mark.parametrize("how", ["another picture", "size and time as before"])
def test_a_changed_file_is_taken_as_it_is_when_the_run_goes_on(
    changeable: Deployment, folder: Path, how: str, options: tuple[str, ...]
) -> None:
    if how == "size and time as before":  # a bit behind the end of a PNG file: still the picture
        with (folder / "05.png").open("ab") as file:
            file.write(b"\0")
    changed(changeable, folder, how, *options)
    outcome = done(*command(changeable, folder, *options, "--resume", "--json"))
    found = [item for path in outputs(outcome) for item in contents(changeable, path)]
    assert sorted(found) == on_disk(folder)


def test_all_but_the_changed_file_is_kept(each_way: Deployment, folder: Path) -> None:
    outcome = changed(each_way, folder, "another picture")
    assert f"{COUNT - 1} images are described: give --resume" in outcome.err
    assert kept(each_way, folder, "--resume") == (COUNT - 1, COUNT)


def test_a_changed_pixel_payload_is_noticed_as_well(each_way: Deployment, folder: Path) -> None:
    changed(each_way, folder, "another picture", "--payload", "pixels")
    done(*command(each_way, folder, "--payload", "pixels", "--resume"))


def test_pixels_of_another_length_than_described_are_noticed(
    each_way: Deployment, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work that --resume takes up may have been done with another Pillow."""
    words = command(each_way, folder, "--payload", "pixels")
    check_refusal(watched(stop_at("encrypting", 0), *words), 130)
    with monkeypatch.context() as patch:
        patch.setattr(upload, "png_of_pixels", lambda image: png_of_pixels(image) + b"\0")
        assert "another number of bytes" in refused(7, *words, "--resume").err
    done(*words, "--resume")


def test_a_file_that_went_is_left_out_when_the_run_goes_on(each_way: Deployment, folder: Path) -> None:
    changed(each_way, folder, "gone")
    assert kept(each_way, folder, "--resume") == (COUNT - 1, COUNT - 1)
    assert sorted(contents(each_way, each_way / "new.h5")) == on_disk(folder)


def test_a_file_that_changes_amid_several_uploads_is_named(changeable: Deployment, folder: Path) -> None:
    rows = sorted((path.name for path in folder.iterdir()), key=Owner.open(changeable / "north").row_key)
    before = numbers(changeable)
    step = once("encrypting", COUNT - 1, lambda: grow(folder / rows[-1]))
    check_refusal(watched(step, *command(changeable, folder, *SPLIT)), 7)
    assert not list(changeable.root.glob("new-*"))  # all uploads or none
    ledger = Owner.open(changeable / "north").ledger
    # the first two were there for a while, and may have been taken away
    assert [number in ledger.unsure for number in numbers(changeable)] == [False] * len(before) + [True] * 2
    done(*command(changeable, folder, *SPLIT, "--resume"))
    assert not set(ledger.deciding()) & set(numbers(changeable)[len(before) : len(before) + 2])


# Runs that are killed: the disk is put back to what it was at the moment, which is what a kill leaves.


def killed(there: Deployment, folder: Path, what: str, count: int, *options: object) -> None:
    """Begin a run that is killed where a pass is that far."""
    root, frozen = there.root, there.root.with_name("frozen")

    def freeze(*where: object) -> None:
        if where == (what, count):
            shutil.copytree(root, frozen, symlinks=True)
            raise KeyboardInterrupt

    assert watched(freeze, *command(there, folder, *options)).code == 130
    shutil.rmtree(root)
    frozen.rename(root)


def all_contents(there: Deployment, *paths: Path) -> list[tuple[str, bytes]]:
    return sorted(item for path in paths for item in contents(there, path))


def deciding(there: Deployment) -> set[str]:
    """Return the paths of the images that the ledger lists as live, but for those that were there before."""
    live = {each.image.path for each in Owner.open(there / "north").ledger.live()}
    return live - there.pictures("north").keys()


@pytest.mark.parametrize("count", [0, 7, COUNT])
def test_who_is_killed_in_the_second_pass_goes_on(each_way: Deployment, folder: Path, count: int) -> None:
    killed(each_way, folder, "encrypting", count)
    refused(9, *command(each_way, folder))
    assert kept(each_way, folder, "--resume") == (COUNT, COUNT)
    assert all_contents(each_way, each_way / "new.h5") == on_disk(folder)


def test_a_killed_run_leaves_no_file_behind_that_stays(changeable: Deployment, folder: Path) -> None:
    before = set(snapshot(changeable.root))
    killed(changeable, folder, "encrypting", 7)
    done(*command(changeable, folder, "--resume"))
    ledger = Owner.open(changeable / "north").ledger.file(number_of(changeable / "new.h5"))
    assert set(snapshot(changeable.root)) - before == {str(changeable / "new.h5"), str(ledger)}


@pytest.mark.parametrize("option", ["--resume", "--no-resume"])
def test_who_is_killed_between_ledger_and_upload_sends_all(
    changeable: Deployment, folder: Path, option: str
) -> None:
    killed(changeable, folder, "encrypting", COUNT)
    owner = Owner.open(changeable / "north")
    (number,) = owner.begin_messages(1)
    with owner.ledger.writing(Message(number, key_id(owner.image_key))) as append:
        for path in sorted(folder.iterdir()):
            append(SentImage(owner.name_on_the_wire(path.name), path.name, "version", "digest"))
    done(*command(changeable, folder, option))
    assert all_contents(changeable, changeable / "new.h5") == on_disk(folder)
    assert number not in owner.ledger.deciding()
    assert numbers(changeable)[-1] == number_of(changeable / "new.h5") > number


def test_who_is_killed_with_all_written_writes_it_again(each_way: Deployment, folder: Path) -> None:
    killed(each_way, folder, "encrypting is over", COUNT)
    before = number_of(each_way / "new.h5")
    done(*command(each_way, folder, "--resume"))
    assert number_of(each_way / "new.h5") > before
    assert all_contents(each_way, each_way / "new.h5") == on_disk(folder)
    assert not (each_way / "north" / "partial").exists()
    assert deciding(each_way) == {path.name for path in folder.iterdir()}


def split_and_killed(there: Deployment, folder: Path, *options: object) -> tuple[list[Path], int]:
    """Begin a run of several uploads that is killed in the last; return those that are out."""
    killed(there, folder, "encrypting", COUNT - 1, *SPLIT, *options)
    out = sorted(there.root.glob("new-*.h5"))
    return out, numbers(there)[-1]


def test_uploads_that_got_out_are_written_again(changeable: Deployment, folder: Path) -> None:
    out, last = split_and_killed(changeable, folder)
    outcome = done(*command(changeable, folder, *SPLIT, "--resume", "--json"))
    paths = outputs(outcome)
    assert [path.name for path in paths] == [f"new-{n:03d}.h5" for n in (1, 2, 3)]
    assert paths[: len(out)] == out
    assert number_of(paths[0]) > last
    assert all_contents(changeable, *paths) == on_disk(folder)
    assert len(deciding(changeable)) == COUNT


def test_what_went_on_with_is_indexed_with_what_got_out(changeable: Deployment, folder: Path) -> None:
    out, _ = split_and_killed(changeable, folder)
    taken = [path.rename(path.with_suffix(".taken")) for path in out]
    rest = outputs(done(*command(changeable, folder, *SPLIT, "--resume", "--json")))
    words = (changeable / "cloud", *reversed([*taken, *rest]), "--jobs", 1, "--json")
    told = done("cloud", "index", *words).json
    assert told["counts"]["images in all"] == COUNT + 14
    assert told["owners"]["north"]["missing"] == []


def test_who_is_killed_twice_goes_on_twice(changeable: Deployment, folder: Path) -> None:
    small = ("--split", "1")  # an upload for each picture
    killed(changeable, folder, "encrypting", 4, *small)  # in the midst of the fourth
    first = sorted(changeable.root.glob("new-*.h5"))
    killed(changeable, folder, "encrypting", 3, *small, "--resume")
    second = sorted(changeable.root.glob("new-*.h5"))
    assert (len(first), len(second)) == (3, 3)
    done(*command(changeable, folder, *small, "--resume"))
    paths = sorted(changeable.root.glob("new-*.h5"))
    assert [path.name for path in paths] == [f"new-{n:03d}.h5" for n in range(1, COUNT + 1)]
    assert all_contents(changeable, *paths) == on_disk(folder)


def test_force_takes_nothing_away_that_got_out_before(changeable: Deployment, folder: Path) -> None:
    small = ("--split", "1", "--force")
    killed(changeable, folder, "encrypting", 4, *small)
    killed(changeable, folder, "encrypting", 3, *small, "--resume")
    done(*command(changeable, folder, *small, "--resume"))
    paths = sorted(changeable.root.glob("new-*.h5"))
    assert all_contents(changeable, *paths) == on_disk(folder)


def test_who_fails_after_uploads_got_out_goes_on(changeable: Deployment, folder: Path) -> None:
    out, _ = split_and_killed(changeable, folder)
    before = snapshot(*out)
    words = command(changeable, folder, *SPLIT, "--resume")
    assert watched(stop_at("encrypting", 1), *words).code == 130
    assert snapshot(*out) == before
    done(*words)
    assert all_contents(changeable, *sorted(changeable.root.glob("new-*.h5"))) == on_disk(folder)


def test_a_run_begun_anew_sends_everything_again(changeable: Deployment, folder: Path) -> None:
    split_and_killed(changeable, folder)
    done(*command(changeable, folder, "--no-resume"))
    assert all_contents(changeable, changeable / "new.h5") == on_disk(folder)


def test_no_file_of_others_is_replaced_by_a_split_run(changeable: Deployment, folder: Path) -> None:
    other = changeable / "new-2024.h5"
    other.write_text("notes")
    refused(10, *command(changeable, folder, *SPLIT, "--force"))
    assert other.read_text() == "notes"


def test_a_split_run_that_fails_leaves_the_uploads_before(changeable: Deployment, folder: Path) -> None:
    done(*command(changeable, folder, *SPLIT))
    before = snapshot(*changeable.root.glob("new-*"))
    step = once("encrypting", COUNT - 1, lambda: [grow(path) for path in folder.iterdir()])
    check_refusal(watched(step, *command(changeable, folder, *SPLIT, "--force", "--again")), 7)
    assert snapshot(*changeable.root.glob("new-*")) == before


def test_what_was_taken_of_a_killed_run_keeps_its_key(changeable: Deployment, folder: Path) -> None:
    out, _ = split_and_killed(changeable, folder)
    taken = [path.rename(path.with_suffix(".taken")) for path in out]
    gone = next(iter(contents(changeable, taken[0])))[0]
    (folder / gone).unlink()
    done(*command(changeable, folder, "--resume"))
    done("cloud", "index", changeable / "cloud", *taken, changeable / "new.h5", "--jobs", 1)
    done("owner", "rotate-key", changeable / "north")
    words = ("owner", "encrypt", changeable / "north", folder, changeable / "pictures" / "north", "--again")
    done(*words, "-o", changeable / "again.h5", "--jobs", 1)
    words = ("cloud", "index", changeable / "cloud", changeable / "again.h5", "--jobs", 1, "--json")
    complete = done(*words).json["owners"]["north"]["complete"]
    said = refused(9, "owner", "forget-key", changeable / "north", "--applied", complete).err
    assert "there may be images under every former key: 1 under" in said


def test_an_upload_that_was_taken_away_is_sent_again(changeable: Deployment, folder: Path) -> None:
    out, _ = split_and_killed(changeable, folder)
    gone = [number_of(path) for path in out]
    for path in out:
        path.unlink()
    outcome = done(*command(changeable, folder, *SPLIT, "--resume", "--json"))
    assert all_contents(changeable, *outputs(outcome)) == on_disk(folder)
    assert not set(gone) & set(Owner.open(changeable / "north").ledger.deciding())


def test_a_run_of_one_image_is_killed_and_begun_anew(changeable: Deployment, tmp_path: Path) -> None:
    picture(1).save(tmp_path / "one.png")
    killed(changeable, tmp_path / "one.png", "describing", 1)
    assert run(*command(changeable, tmp_path / "one.png", "--resume")).code == 0


def test_a_file_without_a_number_is_no_leftover_of_a_run(changeable: Deployment, folder: Path) -> None:
    query = changeable / "alice.query.h5"
    before = query.read_bytes()
    killed(changeable, folder, "encrypting", 7)
    outcome = refused(10, "owner", "encrypt", changeable / "north", folder, "-o", query, "--resume", *JOBS)
    assert "the output exists" in outcome.err
    assert query.read_bytes() == before
