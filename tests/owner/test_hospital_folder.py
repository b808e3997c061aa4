"""A folder as hospitals have it: DICOM beside other pictures, other files, links; each is accounted for."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from mipp_cli.errors import OutputError
from mipp_cli.owner.owner import Owner
from mipp_cli.owner.upload_outputs import UploadOutputs
from tests.owner.test_encrypt import envelopes
from tests.support.deployment import JOBS, Deployment, done, picture, refused, snapshot

SLICE = "CT_small.dcm"
REPORT = "reportsi.dcm"
NAME = b"CompressedSamples^CT1"  # the patient of the slice


def dicom(name: str) -> Path:
    found = get_testdata_file(name, download=False)
    assert found is not None
    return Path(found)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures: a slice without a suffix, its copy in a linked folder, a PNG; and what is none."""
    folder = tmp_path / "ward"
    (folder / "series").mkdir(parents=True)
    shutil.copy(dicom(SLICE), folder / "series" / "IM0001")
    shutil.copy(dicom(REPORT), folder / "series" / "SR0001")
    picture(1).save(folder / "photo.png")
    (folder / "notes.txt").write_text("nothing to see\n")
    (folder / ".hidden.png").write_bytes(b"")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    picture(2).save(elsewhere / "linked.bin", "JPEG")
    (folder / "more").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)
    return folder


def encrypt(made: Deployment, folder: Path, *words: object) -> tuple[object, ...]:
    return ("owner", "encrypt", made / "north", folder, "-o", made / "ward.h5", *words, *JOBS)


def test_every_file_of_a_folder_is_accounted_for(changeable: Deployment, folder: Path) -> None:
    report = done(*encrypt(changeable, folder, "--payload", "file", "--json")).json
    assert report["counts"]["images"] == 3
    assert report["counts"]["passed over"] == 3
    (note,) = [note for note in report["notes"] if note.startswith("passed over 3 files")]
    for reason in (
        "is not a picture: 1",
        "is a link to a folder that is walked already: 1",
        "report, not a pi",
    ):
        assert reason in note
    sent = {each.path: each for each in envelopes(changeable, changeable / "ward.h5").values()}
    assert set(sent) == {"series/IM0001", "photo.png", "more/linked.bin"}
    assert sent["series/IM0001"].media_type == "application/dicom"
    assert sent["more/linked.bin"].media_type == "image/jpeg"
    assert sent["series/IM0001"].content == (folder / "series" / "IM0001").read_bytes()


def test_whoever_sends_dicom_chooses_what_of_it(changeable: Deployment, folder: Path) -> None:
    outcome = refused(2, *encrypt(changeable, folder))
    assert "2 of the images are DICOM files, which contain patients' names" in outcome.err
    assert "--payload pixels" in outcome.err and "--payload file" in outcome.err
    refused(2, *encrypt(changeable, folder, "--dry-run"))
    done(*encrypt(changeable, folder / "photo.png"))


def test_pixels_take_no_identity_and_no_path_along(changeable: Deployment, folder: Path) -> None:
    assert NAME in (folder / "series" / "IM0001").read_bytes()
    done(*encrypt(changeable, folder, "--payload", "pixels"))
    sent = envelopes(changeable, changeable / "ward.h5").values()
    assert len({each.path for each in sent}) == len(sent) == 3
    for each in sent:
        assert each.media_type == "image/png"
        assert each.path.endswith(".png") and len(each.path) == 36
        everything = each.content + each.path.encode()
        for secret in (NAME, b"IM0001", b"series", b"photo", b"linked"):
            assert secret not in everything


def test_a_slice_finds_its_own_pixels_as_png(changeable: Deployment, folder: Path, tmp_path: Path) -> None:
    """A query with a DICOM file finds what was sent as pixels, and the other way round."""
    done(*encrypt(changeable, folder, "--payload", "pixels"))
    done("cloud", "index", changeable / "cloud", changeable / "ward.h5", *JOBS)
    query, answer = changeable / "dicom.h5", tmp_path / "m"
    done("user", "query", changeable / "alice", folder / "series" / "IM0001", "-o", query)
    done("user", "decrypt", changeable / "alice", changeable.answer(changeable.search(query)), "-o", answer)
    with (answer / "matches.csv").open(newline="") as table:
        first = next(csv.DictReader(table))
    assert float(first["distance"]) == 0
    assert (answer / first["file"]).read_bytes().startswith(b"\x89PNG")


def rows_of(report: Path) -> dict[str, dict[str, str]]:
    with report.open(newline="") as table:
        return {Path(row["path"]).name: row for row in csv.DictReader(table)}


def test_the_report_has_a_row_for_every_file(changeable: Deployment, folder: Path, tmp_path: Path) -> None:
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    Image.new("L", (80, 70), 9).save(folder / "flat.png")
    report = tmp_path / "report.csv"
    words = ("--payload", "file", "--skip-unreadable", "--report", report, "--json")
    told = done(*encrypt(changeable, folder, *words)).json
    rows = rows_of(report)
    assert {name: row["outcome"] for name, row in rows.items()} == {
        "IM0001": "sent",
        "photo.png": "sent",
        "flat.png": "sent",
        "linked.bin": "sent",
        "broken.jpg": "unreadable",
        "SR0001": "passed over",
        "notes.txt": "passed over",
        "back": "passed over",
    }
    size = ("kind", "width", "height", "bits", "frame", "flat", "edgeless")
    assert [rows["IM0001"][each] for each in size] == ["DICOM", "128", "128", "16", "", "False", "False"]
    assert [rows["flat.png"][each] for each in size] == ["PNG", "80", "70", "8", "", "True", "True"]
    assert "damaged" in rows["broken.jpg"]["reason"]
    assert any("are flat (all pixels have one value): flat.png" in each for each in told["warnings"])


def test_a_dry_run_reports_what_would_be_done(changeable: Deployment, folder: Path, tmp_path: Path) -> None:
    done(*encrypt(changeable, folder, "--payload", "file"))
    (changeable / "ward.h5").unlink()
    picture(7).save(folder / "later.png")
    (folder / "gone.txt").write_text("")
    report = tmp_path / "report.csv"
    words = ("--payload", "file", "--dry-run", "--small", "--report", report)
    done(*encrypt(changeable, folder, *words))
    rows = rows_of(report)
    assert (rows["later.png"]["kind"], rows["later.png"]["bits"]) == ("PNG", "8")
    assert (rows["later.png"]["outcome"], rows["later.png"]["reason"]) == ("sent", "new")
    assert (rows["photo.png"]["outcome"], rows["photo.png"]["reason"]) == ("not sent", "unchanged")
    assert rows["gone.txt"]["outcome"] == "passed over"
    report.write_text("mine")
    refused(10, *encrypt(changeable, folder, *words))
    assert report.read_text() == "mine"


def test_a_dry_run_counts_and_reports_what_the_run_does(
    changeable: Deployment, folder: Path, tmp_path: Path
) -> None:
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    Image.new("L", (80, 70), 9).save(folder / "flat.png")
    words = ("--payload", "pixels", "--skip-unreadable", "--json", "--report")
    before = snapshot(changeable.root)
    told = done(*encrypt(changeable, folder, *words, tmp_path / "dry.csv", "--dry-run")).json["counts"]
    assert snapshot(changeable.root) == before
    counts = done(*encrypt(changeable, folder, *words, tmp_path / "run.csv")).json["counts"]
    assert told.pop("unreadable") == counts.pop("skipped") == 1
    assert told == counts
    assert counts["edgeless"] == 1
    assert (tmp_path / "dry.csv").read_bytes() == (tmp_path / "run.csv").read_bytes()


def test_a_dry_run_says_that_unreadable_images_stop_the_run(changeable: Deployment, folder: Path) -> None:
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    words = ("--payload", "file", "--dry-run")
    outcome = done(*encrypt(changeable, folder, *words))
    assert "it would be refused without --skip-unreadable" in outcome.out
    assert f"left out {folder / 'broken.jpg'}: " in outcome.err
    assert "it would be refused" not in done(*encrypt(changeable, folder, *words, "--skip-unreadable")).out


def test_a_failed_run_reports_what_became_of_each_file(
    changeable: Deployment, folder: Path, tmp_path: Path
) -> None:
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    report = tmp_path / "report.csv"
    outcome = refused(7, *encrypt(changeable, folder, "--payload", "file", "--report", report))
    assert f"{report} lists what happened to each file" in outcome.err
    rows = rows_of(report)
    assert (rows["broken.jpg"]["outcome"], rows["photo.png"]["outcome"]) == ("unreadable", "not sent")
    assert "damaged" in rows["broken.jpg"]["reason"]
    assert rows["photo.png"]["reason"] == "new, but the run failed"
    assert rows["photo.png"]["kind"] == "PNG"
    assert rows["SR0001"]["outcome"] == rows["notes.txt"]["outcome"] == "passed over"


def test_a_failed_dry_run_reports_what_became_of_each_file(
    changeable: Deployment, folder: Path, tmp_path: Path
) -> None:
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    report, path = tmp_path / "report.csv", folder / "broken.jpg"
    words = (path, folder / "notes.txt", "--dry-run", "--report", report)
    outcome = refused(2, "owner", "encrypt", changeable / "north", *words)
    assert "none of the images can be read" in outcome.err
    assert f"{report} lists what happened to each file" in outcome.err
    rows = rows_of(report)
    assert rows["broken.jpg"]["outcome"] == "unreadable"
    assert "damaged" in rows["broken.jpg"]["reason"]


def test_the_next_run_replaces_the_report_of_one_that_failed(
    changeable: Deployment, folder: Path, tmp_path: Path
) -> None:
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    words = ("--payload", "file", "--report", tmp_path / "report.csv")
    refused(7, *encrypt(changeable, folder, *words))
    picture(3).save(folder / "broken.jpg")
    done(*encrypt(changeable, folder, *words, "--resume"))
    assert rows_of(tmp_path / "report.csv")["broken.jpg"]["outcome"] == "sent"


@pytest.mark.parametrize("name", ["new.h5", "new-002.h5"])
def test_a_report_in_the_place_of_an_upload_is_refused(
    changeable: Deployment, folder: Path, name: str
) -> None:
    before = snapshot(changeable.root)
    output = changeable / "new.h5"
    words = ("owner", "encrypt", changeable / "north", folder, "--payload", "file", "-o", output)
    said = refused(2, *words, "--force", "--small", "--report", changeable / name).err
    assert "the report would replace an upload" in said
    assert snapshot(changeable.root) == before


def test_a_failure_after_the_uploads_is_not_reported_as_unsent(
    changeable: Deployment, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove_older(outputs: UploadOutputs, written: object) -> None:
        raise OutputError("cannot be written: Input/output error", path=tmp_path)

    monkeypatch.setattr(UploadOutputs, "remove_older", remove_older)
    report = tmp_path / "report.csv"
    refused(10, *encrypt(changeable, folder, "--payload", "file", "--report", report))
    row = rows_of(report)["photo.png"]
    assert (row["outcome"], row["reason"], row["kind"]) == ("sent", "new", "PNG")


def test_no_report_replaces_another_when_a_run_fails(
    changeable: Deployment, folder: Path, tmp_path: Path
) -> None:
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    report = tmp_path / "report.csv"
    report.write_text("mine")
    refused(10, *encrypt(changeable, folder, "--payload", "file", "--report", report))
    assert report.read_text() == "mine"


def test_an_unchanged_folder_has_nothing_new(changeable: Deployment, folder: Path) -> None:
    for number in range(8):
        picture(number).save(folder / f"more-{number}.png")
    report = done(*encrypt(changeable, folder, "--payload", "file", "--json")).json
    assert report["counts"]["images"] == report["counts"]["new"] == 11
    refused(5, *encrypt(changeable, folder, "--payload", "file", "--force"))


def test_a_folder_without_any_picture_says_so(changeable: Deployment, folder: Path) -> None:
    outcome = refused(2, *encrypt(changeable, folder / "series" / "SR0001", "--payload", "file"))
    assert "none of the files holds a picture" in outcome.err


def test_what_was_sent_as_pixels_is_not_sent_as_files_unasked(changeable: Deployment, folder: Path) -> None:
    photo = folder / "photo.png"
    done(*encrypt(changeable, photo, "--payload", "pixels"))
    outcome = refused(2, *encrypt(changeable, photo, "--force"))
    assert "1 of the images were sent as pixels, and this would send files" in outcome.err
    done(*encrypt(changeable, photo, "--payload", "file", "--force"))


@pytest.mark.parametrize("words", [("--again",), ("--again", "number"), ("--undelete",)])
def test_nor_is_it_sent_as_a_file_in_another_way(
    changeable: Deployment, folder: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    photo = folder / "photo.png"
    done(*encrypt(changeable, photo, "--payload", "pixels"))
    sent = Owner.open(changeable / "north").ledger.messages()[-1].number
    if words == ("--undelete",):
        done("owner", "delete", changeable / "north", "photo.png", "-o", tmp_path / "d.h5")
    given = [str(sent) if word == "number" else word for word in words]
    assert "were sent as pixels" in refused(2, *encrypt(changeable, photo, "--force", *given)).err
    done(*encrypt(changeable, photo, "--force", "--payload", "pixels", *given))


def test_new_images_are_not_sent_as_files_after_pixels(changeable: Deployment, folder: Path) -> None:
    done(*encrypt(changeable, folder / "photo.png", "--payload", "pixels"))
    picture(7).save(folder / "later.png")
    outcome = refused(2, *encrypt(changeable, folder / "later.png", "--force"))
    assert "the last upload was sent as pixels, and this would send files" in outcome.err
    done(*encrypt(changeable, folder / "later.png", "--force", "--payload", "pixels"))
