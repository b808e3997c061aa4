"""Interrupted runs of `owner encrypt` that go on, and collections that fill several uploads."""

from __future__ import annotations

import csv
import gc
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from mipp_cli.containers.base.container import open_container
from mipp_cli.containers.messages.upload import UploadCipher, UploadReader, upload_schema
from mipp_cli.images.collection import ImageFile
from mipp_cli.owner import descriptions
from mipp_cli.owner.described_image import DescribedImage, PictureFacts
from mipp_cli.owner.ledger import Ledger
from mipp_cli.owner.owner import Owner
from mipp_cli.progress import Advance, Progress
from mipp_cli.scheme.envelope import Envelope
from mipp_cli.scheme.secret_keys import key_id
from tests.support.deployment import JOBS, Deployment, Outcome, check_refusal, done, picture, refused, run

COUNT, SYNC, STOP_AFTER = 30, 8, 12

Step = Callable[[str, int], object]


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small pictures; tests copy it if they change it."""
    folder = tmp_path_factory.mktemp("collection")
    for number in range(COUNT):
        picture(number, size=(72, 72), mode="L").save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture(autouse=True)
def sync_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let little work be worth going on with."""
    monkeypatch.setattr(descriptions, "SYNC_IMAGES", SYNC)


def watching(step: Step) -> Progress:
    """Return a progress that tells ``step`` of each pass: when it begins, with 0, and how far it is."""

    @contextmanager
    def progress(what: str, total: int, unit: str) -> Iterator[Advance]:
        count = 0

        def advance(amount: int) -> None:
            nonlocal count
            count += amount
            step(what, count)

        step(what, 0)
        yield advance
        step(f"{what} is over", count)

    return progress


def stop_at(what: str, count: int) -> Step:
    """Return a step that ends in Ctrl-C where a pass is that far."""

    def step(*where: object) -> None:
        if where == (what, count):
            raise KeyboardInterrupt

    return step


def command(there: Deployment, folder: Path, *options: object) -> tuple[object, ...]:
    return ("owner", "encrypt", there / "north", folder, "-o", there / "new.h5", *JOBS, *options)


def watched(step: Step, *words: object) -> Outcome:
    """Run a command, and call ``step`` wherever it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mipp_cli.cli.progress.progress_lines", watching(step))
        return run(*words)


def stopped(there: Deployment, folder: Path, *options: object, after: int = STOP_AFTER) -> Outcome:
    """Begin a run that is interrupted once ``after`` images are described."""
    outcome = watched(stop_at("describing", after), *command(there, folder, *options))
    assert outcome.code == 130
    return outcome


def kept(there: Deployment, folder: Path, *options: object) -> tuple[int, int]:
    """Run to the end; return how many images were taken over, and how many were described in all."""
    told: list[int] = []
    outcome = watched(
        lambda what, count: told.append(count) if what == "describing" else None,
        *command(there, folder, *options),
    )
    assert outcome.code == 0, outcome.err
    return told[1], told[-1]  # told[0] is where the pass began


def contents(there: Deployment, upload: Path) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of every image of an upload in its order, decrypted with its owner's key."""
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


def outputs(outcome: Outcome) -> list[Path]:
    return [Path(output["path"]) for output in outcome.json["outputs"]]


def test_an_interrupted_run_says_how_to_go_on(changeable: Deployment, collection: Path) -> None:
    outcome = stopped(changeable, collection)
    assert f"{STOP_AFTER} of {COUNT} images are described" in outcome.err
    assert "--resume" in outcome.err
    assert not (changeable / "new.h5").exists()


@pytest.mark.parametrize(
    ("what", "after", "options"),
    [
        *(("describing", after, options) for after in (0, STOP_AFTER) for options in ((), ("--dry-run",))),
        ("encrypting", 3, ()),
    ],
)
def test_an_interrupted_run_reports_what_became_of_each_file(
    changeable: Deployment, collection: Path, tmp_path: Path, what: str, after: int, options: tuple[str, ...]
) -> None:
    report = tmp_path / "report.csv"
    outcome = watched(stop_at(what, after), *command(changeable, collection, "--report", report, *options))
    check_refusal(outcome, 130)
    assert f"{report} lists what happened to each file" in outcome.err
    assert ("--resume" in outcome.err) == (not options and after > 0)
    with report.open(newline="") as table:
        rows = [*csv.DictReader(table)]
    assert {(row["outcome"], row["reason"]) for row in rows} == {
        ("not sent", "new, but the run was interrupted")
    }
    assert len(rows) == COUNT
    described = COUNT if what == "encrypting" else after
    assert sum(row["kind"] == "PNG" for row in rows) == described


def test_the_count_is_of_the_images_named(changeable: Deployment, collection: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(collection, tmp_path / "some"))
    stopped(changeable, folder)
    for path in sorted(folder.iterdir())[5:]:
        path.unlink()
    outcome = watched(stop_at("encrypting", 0), *command(changeable, folder, "--resume"))
    check_refusal(outcome, 130)
    assert "interrupted; 5 of 5 images are described" in outcome.err
    picture(COUNT).save(tmp_path / "other.png")
    outcome = watched(stop_at("describing", 0), *command(changeable, tmp_path / "other.png", "--resume"))
    check_refusal(outcome, 130)
    assert "interrupted; 0 of 1 images are described" in outcome.err
    assert "--resume" in outcome.err


def test_after_unreadable_images_the_count_is_what_is_kept(
    changeable: Deployment, collection: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(collection, folder)
    (folder / "broken.jpg").write_text("no picture")
    outcome = refused(7, *command(changeable, folder))
    assert f"{COUNT} images are described: give --resume" in outcome.err
    (folder / "broken.jpg").unlink()
    assert kept(changeable, folder, "--resume") == (COUNT, COUNT)


def test_a_signal_that_comes_while_a_picture_is_read_is_one_too(
    changeable: Deployment, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, count = ImageFile.read, iter(range(COUNT - 1))

    def stop(image: ImageFile) -> bytes:
        if next(count, None) is None:
            raise KeyboardInterrupt
        return read(image)

    monkeypatch.setattr(ImageFile, "read", stop)
    assert "--resume" in refused(130, *command(changeable, collection)).err


def test_a_resumed_run_does_not_begin_at_zero(each_way: Deployment, collection: Path) -> None:
    stopped(each_way, collection)
    assert kept(each_way, collection, "--resume") == (STOP_AFTER, COUNT)


def test_a_resumed_run_ends_complete(each_way: Deployment, collection: Path) -> None:
    stopped(each_way, collection)
    outcome = done(*command(each_way, collection, "--resume", "--json"))
    assert outcome.json["counts"]["images"] == COUNT
    assert sorted(contents(each_way, each_way / "new.h5")) == on_disk(collection)
    assert not (each_way / "north" / "partial").exists()


def test_a_run_may_be_interrupted_again_and_again(each_way: Deployment, collection: Path) -> None:
    for after in (9, 17, 26):
        stopped(each_way, collection, "--resume", after=after)
    assert kept(each_way, collection, "--resume") == (26, COUNT)
    assert sorted(contents(each_way, each_way / "new.h5")) == on_disk(collection)


def test_an_upload_of_a_resumed_run_is_indexed_like_any_other(
    changeable: Deployment, collection: Path
) -> None:
    stopped(changeable, collection)
    done(*command(changeable, collection, "--resume"))
    outcome = done("cloud", "index", changeable / "cloud", changeable / "new.h5", *JOBS, "--json")
    assert outcome.json["counts"]["images"] == COUNT


def test_interrupted_work_is_not_thrown_away_unasked(changeable: Deployment, collection: Path) -> None:
    stopped(changeable, collection)
    outcome = refused(9, *command(changeable, collection))
    assert "--resume" in outcome.err
    assert "--no-resume" in outcome.err
    assert kept(changeable, collection, "--resume") == (STOP_AFTER, COUNT)


def test_a_dry_run_is_refused_as_the_run_is(changeable: Deployment, collection: Path) -> None:
    stopped(changeable, collection, "--payload", "pixels")
    words = command(changeable, collection)
    for code, options in ((9, ()), (2, ("--resume",))):
        run_ = refused(code, *words, *options)
        assert refused(code, *words, *options, "--dry-run") == run_
    done(*words, "--no-resume", "--dry-run")
    done(*words, "--payload", "pixels", "--resume", "--dry-run")
    refused(9, *words)  # a dry run discards nothing


def test_a_dry_run_is_refused_where_the_output_exists(each_way: Deployment, collection: Path) -> None:
    beside = ".features" if each_way.scheme == "exact" else ""
    (output := each_way / f"new{beside}.h5").write_bytes(b"mine")
    words = command(each_way, collection)
    run_ = refused(10, *words)
    assert f"{output}: the output exists" in run_.err
    assert refused(10, *words, "--dry-run") == run_
    inside = (*words[:3], collection, "-o", each_way / "north" / "new.h5")
    assert refused(10, *inside) == refused(10, *inside, "--dry-run")


def test_interrupted_work_is_thrown_away_where_told_so(each_way: Deployment, collection: Path) -> None:
    stopped(each_way, collection)
    assert kept(each_way, collection, "--no-resume")[0] < SYNC
    assert sorted(contents(each_way, each_way / "new.h5")) == on_disk(collection)


def test_pictures_that_replace_others_are_kept_as_new_ones_are(
    each_way: Deployment, collection: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(collection, folder)
    done(*command(each_way, folder))
    for number, path in enumerate(sorted(folder.iterdir())):
        picture(100 + number, size=(72, 72), mode="L").save(path)
    stopped(each_way, folder, "--force")
    assert kept(each_way, folder, "--force", "--resume") == (STOP_AFTER, COUNT)
    assert sorted(contents(each_way, each_way / "new.h5")) == on_disk(folder)


def test_a_resumed_run_counts_what_a_whole_run_counts(
    changeable: Deployment, collection: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(collection, folder)
    done(*command(changeable, folder))
    paths = sorted(folder.iterdir())
    for number, path in enumerate(paths[:20]):  # ten of them changed, ten as they were but for the time
        if number % 2:
            os.utime(path, (10**9, 10**9))
        else:
            picture(100 + number, size=(72, 72), mode="L").save(path)
    told = done("owner", "encrypt", changeable / "north", folder, "--dry-run", "--json").json["counts"]
    stopped(changeable, folder, "--force", after=9)
    counts = done(*command(changeable, folder, "--force", "--resume", "--json")).json["counts"]
    assert (counts["images"], counts["changed"], counts["unchanged"]) == (10, 10, 20)
    assert {name: counts[name] for name in told if name in counts} == {
        name: count for name, count in told.items() if name in counts
    }


def test_an_image_that_changes_and_changes_back_is_taken_once(
    each_way: Deployment, collection: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    shutil.copytree(collection, folder)
    for moment in (10**9, 2 * 10**9):
        os.utime(folder / "000.png", (moment, moment))
        stopped(each_way, folder, "--resume", after=STOP_AFTER + 3)
    os.utime(folder / "000.png", (10**9, 10**9))
    done(*command(each_way, folder, "--resume"))
    assert sorted(contents(each_way, each_way / "new.h5")) == on_disk(folder)


def test_a_run_that_stops_before_there_is_much_keeps_nothing(
    changeable: Deployment, collection: Path
) -> None:
    outcome = stopped(changeable, collection, after=SYNC - 1)
    assert "error: interrupted" in outcome.err
    assert not (changeable / "north" / "partial").exists()


def test_resume_with_nothing_to_go_on_with_is_an_ordinary_run(
    changeable: Deployment, collection: Path
) -> None:
    outcome = done(*command(changeable, collection, "--resume", "--json"))
    assert outcome.json["counts"]["images"] == COUNT


def test_what_changed_or_went_since_is_not_taken_as_it_was(
    each_way: Deployment, collection: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in collection.iterdir():
        (folder / path.name).symlink_to(path)
    stopped(each_way, folder)
    (folder / "003.png").unlink()
    (folder / "005.png").unlink()
    Image.linear_gradient("L").save(folder / "005.png")
    done(*command(each_way, folder, "--resume"))
    found = dict(contents(each_way, each_way / "new.h5"))
    assert found == dict(on_disk(folder))
    ledger = Ledger(each_way / "north" / "uploads")
    listed = [image.path for image in ledger.images(ledger.messages()[-1].number)]
    assert sorted(listed) == sorted(found)


@pytest.mark.parametrize("cut", [1, 40, 3000])
def test_a_description_that_was_torn_is_made_again(each_way: Deployment, collection: Path, cut: int) -> None:
    stopped(each_way, collection)
    file = each_way / "north" / "partial" / "descriptions"
    file.write_bytes(file.read_bytes()[:-cut])
    taken, described = kept(each_way, collection, "--resume")
    assert 0 < taken < STOP_AFTER
    assert described == COUNT
    assert sorted(contents(each_way, each_way / "new.h5")) == on_disk(collection)


def test_another_payload_is_not_the_interrupted_run(each_way: Deployment, collection: Path) -> None:
    stopped(each_way, collection)
    outcome = refused(2, *command(each_way, collection, "--resume", "--payload", "pixels"))
    assert "another --payload" in outcome.err
    assert kept(each_way, collection, "--resume") == (STOP_AFTER, COUNT)


def test_a_key_drawn_meanwhile_is_the_one_in_use(each_way: Deployment, collection: Path) -> None:
    stopped(each_way, collection)
    done("owner", "rotate-key", each_way / "north")
    assert kept(each_way, collection, "--resume") == (STOP_AFTER, COUNT)
    assert sorted(contents(each_way, each_way / "new.h5")) == on_disk(collection)
    owner = Owner.open(each_way / "north")
    assert owner.ledger.messages()[-1].key == key_id(owner.image_key)


def test_descriptions_are_readable_by_their_owner_alone(changeable: Deployment, collection: Path) -> None:
    stopped(changeable, collection)
    partial = changeable / "north" / "partial"
    assert partial.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in partial.iterdir())


FACTS = PictureFacts("DICOM", 7, 5, 12, 3, flat=True)
DESCRIPTIONS = [
    DescribedImage("a/ü.png", "1 2", "ab" * 32, 7, "image/png", b"codes", 5, 8, FACTS, (b"f", b"ff")),
    DescribedImage("", "", "", 0, "", b"", 0, 0, FACTS),
]


def read_all(path: Path, data: bytes) -> list[DescribedImage]:
    path.write_bytes(data)
    with path.open("rb") as file:
        found = []
        while (description := DescribedImage.read(file)) is not None:
            found.append(description)
        return found


def test_a_description_reads_back_as_it_was_written(tmp_path: Path) -> None:
    data = b"".join(each.pack() for each in DESCRIPTIONS)
    assert read_all(tmp_path / "file", data) == DESCRIPTIONS


def test_a_description_of_which_a_byte_changed_is_none(tmp_path: Path) -> None:
    data = DESCRIPTIONS[0].pack()
    for at in range(len(data)):
        damaged = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        assert read_all(tmp_path / "file", damaged) == []


@pytest.mark.parametrize("payload", ["file", "pixels"])
def test_the_length_of_what_will_be_encrypted_is_known_before(
    changeable: Deployment, tmp_path: Path, payload: str
) -> None:
    for number, size in enumerate([(24, 24), (80, 70), (301, 207)]):
        picture(number, size=size).save(tmp_path / f"{number}.png")
    described: list[tuple[str, int]] = []

    def look(what: str, _: int) -> None:
        if what == "encrypting is over":
            with (changeable / "north" / "partial" / "descriptions").open("rb") as file:
                while (each := DescribedImage.read(file)) is not None:
                    described.append((each.path, each.sealed_bytes))

    outcome = watched(look, *command(changeable, tmp_path, "--payload", payload))
    assert outcome.code == 0, outcome.err
    names = changeable.names("north")
    with open_container(changeable / "new.h5", upload_schema(changeable.public.parameters)) as container:
        reader = UploadReader(container, changeable.public.parameters)
        sizes = [(names[reader.name(row)], len(reader.encrypted_image(row))) for row in range(3)]
    assert sorted(described) == sorted(sizes)


# Several uploads


def test_split_fills_uploads_one_after_the_other(changeable: Deployment, collection: Path) -> None:
    outcome = done(*command(changeable, collection, "--split", "20kB", "--json"))
    paths = outputs(outcome)
    assert [path.name for path in paths] == [f"new-{n:03d}.h5" for n in range(1, len(paths) + 1)]
    assert len(paths) > 2
    assert all(path.stat().st_size > 20_000 for path in paths[:-1])
    everything = [item for path in paths for item in contents(changeable, path)]
    assert sorted(everything) == on_disk(collection)
    indexed = done("cloud", "index", changeable / "cloud", *paths, *JOBS, "--json")
    assert indexed.json["counts"]["images"] == COUNT


def test_split_work_that_was_interrupted_goes_on(changeable: Deployment, collection: Path) -> None:
    stopped(changeable, collection, "--split", "20kB")
    paths = outputs(done(*command(changeable, collection, "--split", "20kB", "--resume", "--json")))
    assert sorted(item for path in paths for item in contents(changeable, path)) == on_disk(collection)


def test_very_many_uploads_keep_few_files_open(changeable: Deployment, tmp_path: Path) -> None:
    for number in range(100):
        picture(number, size=(24, 24), mode="L").save(tmp_path / f"{number}.png")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    gc.collect()  # what other tests left open, too, counts
    largest = max(int(each.name) for each in Path("/dev/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (largest + 60, hard))
    try:
        outcome = done(*command(changeable, tmp_path, "--split", "1", "--json"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(outputs(outcome)) == 100


def test_uploads_of_an_earlier_longer_run_do_not_stay(changeable: Deployment, collection: Path) -> None:
    done(*command(changeable, collection, "--split", "1"))
    assert (changeable / f"new-{COUNT:03d}.h5").exists()
    refused(10, *command(changeable, collection, "--split", "20kB", "--again"))
    done(*command(changeable, collection, "--split", "20kB", "--force", "--again"))
    assert not (changeable / f"new-{COUNT:03d}.h5").exists()
    assert (changeable / "new-002.h5").exists()


def test_where_one_upload_cannot_be_written_none_is_left(changeable: Deployment, collection: Path) -> None:
    before = Owner.open(changeable / "north").ledger.messages()

    def hinder(what: str, count: int) -> None:
        if (what, count) == ("encrypting", 1):
            (changeable / "new-002.h5").mkdir()

    outcome = watched(hinder, *command(changeable, collection, "--split", "20kB"))
    check_refusal(outcome, 10)
    assert [path.name for path in changeable.root.glob("new-*")] == ["new-002.h5"]
    ledger = Owner.open(changeable / "north").ledger
    assert [each for each in ledger.messages() if each.number not in ledger.unsure] == before
    (changeable / "new-002.h5").rmdir()
    assert kept(changeable, collection, "--split", "20kB", "--resume") == (COUNT, COUNT)


@pytest.mark.parametrize("size", ["0", "-1", "1.5GB", "many", "5 apples", ""])
def test_a_size_that_is_none_is_refused(changeable: Deployment, collection: Path, size: str) -> None:
    refused(2, *command(changeable, collection, "--split", size))


def test_a_number_is_used_up_before_an_upload_bears_it(changeable: Deployment, collection: Path) -> None:
    state = changeable / "north" / "state.json"
    before = json.loads(state.read_bytes())["number"]
    outcome = watched(stop_at("encrypting", 1), *command(changeable, collection, "--split", "20kB"))
    assert outcome.code == 130
    after = json.loads(state.read_bytes())["number"]
    assert Owner.open(changeable / "north").ledger.messages()[-1].number < after  # of uploads still to come
    assert before < after
