"""Interrupted runs of `owner encrypt` that go on, and collections that fill several uploads."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from mipp_cli.containers.container import open_container
from mipp_cli.containers.upload import UploadCipher, UploadReader, upload_schema
from mipp_cli.roles.collection import ImageFile
from mipp_cli.roles.ledger import Ledger, Message
from mipp_cli.roles.owner import Owner
from mipp_cli.roles.partial import SYNC_IMAGES, Record
from mipp_cli.scheme.image_cipher import Envelope
from tests.deployment import JOBS, Deployment, done, picture, refused, run

COUNT = 2 * SYNC_IMAGES + 22
STOP_AFTER = SYNC_IMAGES + 40


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of many small pictures; tests copy it if they change it."""
    folder = tmp_path_factory.mktemp("collection")
    for number in range(COUNT):
        picture(number, size=(72, 72), mode="L").save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that are read, as they are."""
    read, seen = ImageFile.read, []

    def note(image: ImageFile) -> bytes:
        seen.append(image.name)
        return read(image)

    monkeypatch.setattr(ImageFile, "read", note)
    return seen


def interrupt(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Make the reading of images end in Ctrl-C."""
    read, count = ImageFile.read, iter(range(after))

    def stop(image: ImageFile) -> bytes:
        if next(count, None) is None:
            raise KeyboardInterrupt
        return read(image)

    monkeypatch.setattr(ImageFile, "read", stop)


def encrypt(there: Deployment, folder: Path, *options: object) -> tuple[object, ...]:
    return ("owner", "encrypt", there / "north", folder, "-o", there / "new.h5", *JOBS, *options)


def stopped(there: Deployment, folder: Path, *options: object, after: int = STOP_AFTER) -> None:
    """Begin a run that is interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, after)
        assert run(*encrypt(there, folder, *options)).code == 130


def contents(there: Deployment, upload: Path) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of every image of an upload, decrypted with its owner's key."""
    owner = Owner(there.role("north"))
    parameters = there.public.parameters
    with open_container(upload, upload_schema(parameters)) as container:
        reader = UploadReader(container, parameters)
        number = container.header.sequence_number
        cipher = UploadCipher(owner.image_key, there.public.fingerprint, "north", number)
        for row in range(len(reader)):
            envelope = Envelope.unpack(cipher.decrypt(reader.encrypted_image(row), reader.name(row)))
            yield envelope.path, envelope.content


def on_disk(folder: Path) -> list[tuple[str, bytes]]:
    return [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]


def test_an_interrupted_run_says_how_to_go_on_and_leaves_no_output(
    changeable: Deployment, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(monkeypatch, STOP_AFTER)
    outcome = refused(130, *encrypt(changeable, collection))
    assert f"{SYNC_IMAGES} of {COUNT} images are done" in outcome.err
    assert "--resume" in outcome.err
    assert not (changeable / "new.h5").exists()


def test_a_resumed_run_does_not_begin_at_zero_and_ends_complete(
    changeable: Deployment, collection: Path, reads: list[str]
) -> None:
    stopped(changeable, collection)
    reads.clear()
    outcome = done(*encrypt(changeable, collection, "--resume", "--json"))
    assert outcome.json["counts"]["images"] == COUNT
    assert len(reads) <= COUNT - SYNC_IMAGES
    assert list(contents(changeable, changeable / "new.h5")) == on_disk(collection)
    assert not (changeable / "north" / "partial").exists()


def test_an_upload_of_a_resumed_run_is_indexed_like_any_other(
    changeable: Deployment, collection: Path
) -> None:
    stopped(changeable, collection)
    done(*encrypt(changeable, collection, "--resume"))
    outcome = done("cloud", "index", changeable / "cloud", changeable / "new.h5", *JOBS, "--json")
    assert outcome.json["counts"]["images"] == COUNT


def test_work_that_was_interrupted_is_not_thrown_away_unasked(
    changeable: Deployment, collection: Path, reads: list[str]
) -> None:
    stopped(changeable, collection)
    outcome = refused(9, *encrypt(changeable, collection))
    assert "--resume" in outcome.err
    assert "--no-resume" in outcome.err
    reads.clear()
    done(*encrypt(changeable, collection, "--no-resume"))
    assert len(reads) == COUNT


@pytest.mark.parametrize("options", [("--resume",), ()])
def test_work_under_a_number_that_may_be_out_is_done_again_under_another(
    changeable: Deployment, collection: Path, reads: list[str], options: tuple[str, ...]
) -> None:
    stopped(changeable, collection)
    (spool,) = (changeable / "north" / "partial").glob("*.spool")
    # as a crash leaves it between ledger and upload, or after both
    with Ledger(changeable / "north" / "uploads").writing(Message(int(spool.stem), "upload", 1)):
        pass
    reads.clear()
    done(*encrypt(changeable, collection, *options))
    assert len(reads) == COUNT
    assert spool.stem not in done("inspect", changeable / "new.h5").out
    assert not (changeable / "north" / "partial").exists()


def test_an_image_that_changes_and_changes_back_is_taken_once(
    changeable: Deployment, collection: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(collection, folder)
    for moment in (10**9, 2 * 10**9):
        os.utime(folder / "000.png", (moment, moment))
        stopped(changeable, folder, "--resume", after=SYNC_IMAGES + 6)
    os.utime(folder / "000.png", (10**9, 10**9))
    done(*encrypt(changeable, folder, "--resume"))
    assert sorted(contents(changeable, changeable / "new.h5")) == on_disk(folder)


def test_a_collection_of_very_many_uploads_keeps_few_files_open(
    changeable: Deployment, collection: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (80, hard))
    try:
        outcome = done(*encrypt(changeable, collection, "--split", "1", "--json"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(outcome.json["outputs"]) == COUNT


def test_uploads_of_an_earlier_longer_run_do_not_stay_beside_the_new(
    changeable: Deployment, collection: Path
) -> None:
    (changeable / "new-700.h5").write_text("older")
    refused(10, *encrypt(changeable, collection, "--split", "100kB"))
    done(*encrypt(changeable, collection, "--split", "100kB", "--force"))
    assert not (changeable / "new-700.h5").exists()
    assert (changeable / "new-002.h5").exists()


def test_resume_with_nothing_to_go_on_with_is_an_ordinary_run(
    changeable: Deployment, collection: Path
) -> None:
    outcome = done(*encrypt(changeable, collection, "--resume", "--json"))
    assert outcome.json["counts"]["images"] == COUNT


def test_a_run_that_stops_before_there_is_much_leaves_no_partial_work(
    changeable: Deployment, collection: Path
) -> None:
    stopped(changeable, collection, after=SYNC_IMAGES // 2)
    assert not (changeable / "north" / "partial").exists()


def test_images_that_changed_or_went_since_the_interruption_are_not_taken_as_they_were(
    changeable: Deployment, collection: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in collection.iterdir():
        (folder / path.name).symlink_to(path)
    stopped(changeable, folder)
    (folder / "003.png").unlink()
    (folder / "005.png").unlink()
    Image.linear_gradient("L").save(folder / "005.png")
    done(*encrypt(changeable, folder, "--resume"))
    found = dict(contents(changeable, changeable / "new.h5"))
    assert found == dict(on_disk(folder))
    ledger = Ledger(changeable / "north" / "uploads")
    listed = [path for _, path in ledger.rows(ledger.messages()[-1].number)]
    assert sorted(listed) == sorted(found)


@pytest.mark.parametrize("cut", [1, 40, 3000])
def test_a_record_that_was_torn_by_the_crash_is_done_again(
    changeable: Deployment, collection: Path, cut: int
) -> None:
    stopped(changeable, collection)
    (spool,) = (changeable / "north" / "partial").glob("*.spool")
    spool.write_bytes(spool.read_bytes()[:-cut])
    done(*encrypt(changeable, collection, "--resume"))
    assert dict(contents(changeable, changeable / "new.h5")) == dict(on_disk(collection))


def test_a_run_with_other_options_is_not_taken_for_the_interrupted_one(
    changeable: Deployment, collection: Path
) -> None:
    stopped(changeable, collection)
    refused(2, *encrypt(changeable, collection, "--resume", "--payload", "pixels"))
    done(*encrypt(changeable, collection, "--resume"))


def test_partial_work_is_readable_by_its_owner_alone(changeable: Deployment, collection: Path) -> None:
    stopped(changeable, collection)
    partial = changeable / "north" / "partial"
    assert partial.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in partial.iterdir())


def test_a_record_reads_back_as_it_was_written(tmp_path: Path) -> None:
    records = [
        Record("a/ü.png", "1 2", True, "ab" * 16, b"image", b"f", b"ff"),
        Record("", "", False, "n", b"", b"", b""),
    ]
    path = tmp_path / "spool"
    path.write_bytes(b"".join(record.pack() for record in records))
    with path.open("rb") as file:
        assert [Record.read(file), Record.read(file), Record.read(file)] == [*records, None]


def test_split_fills_uploads_one_after_the_other(changeable: Deployment, collection: Path) -> None:
    outcome = done(*encrypt(changeable, collection, "--split", "100kB", "--json"))
    paths = [Path(output["path"]) for output in outcome.json["outputs"]]
    assert [path.name for path in paths] == [f"new-{n:03d}.h5" for n in range(1, len(paths) + 1)]
    assert len(paths) > 2
    assert all(path.stat().st_size > 100_000 for path in paths[:-1])
    everything = [item for path in paths for item in contents(changeable, path)]
    assert everything == on_disk(collection)
    indexed = done("cloud", "index", changeable / "cloud", *paths, *JOBS, "--json")
    assert indexed.json["counts"]["images"] == COUNT


def test_split_work_that_was_interrupted_goes_on(changeable: Deployment, collection: Path) -> None:
    stopped(changeable, collection, "--split", "100kB")
    outcome = done(*encrypt(changeable, collection, "--split", "100kB", "--resume", "--json"))
    paths = [Path(output["path"]) for output in outcome.json["outputs"]]
    assert [item for path in paths for item in contents(changeable, path)] == on_disk(collection)


def test_where_one_of_several_uploads_cannot_be_written_none_is_left(
    changeable: Deployment, collection: Path
) -> None:
    ledgers = changeable / "north" / "uploads"
    before = sorted(ledgers.iterdir())
    (changeable / "new-002.h5").mkdir()
    refused(10, *encrypt(changeable, collection, "--split", "100kB", "--force"))
    assert [path.name for path in changeable.root.glob("new-*")] == ["new-002.h5"]
    assert sorted(ledgers.iterdir()) == before
    (changeable / "new-002.h5").rmdir()
    done(*encrypt(changeable, collection, "--split", "100kB", "--resume"))


@pytest.mark.parametrize("size", ["0", "-1", "1.5GB", "many", "5 apples", ""])
def test_a_size_that_is_none_is_refused(changeable: Deployment, collection: Path, size: str) -> None:
    refused(2, *encrypt(changeable, collection, "--split", size))
