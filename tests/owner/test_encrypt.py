"""The owner's main step: what becomes of images, in which order, and when some cannot be read."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mipp_cli.containers.base.container import open_container
from mipp_cli.containers.messages.upload import UploadCipher, UploadReader, upload_schema
from mipp_cli.files.system_errors import output_error
from mipp_cli.owner import descriptions
from mipp_cli.owner.ledger import Message
from mipp_cli.owner.owner import Owner
from mipp_cli.scheme.envelope import Envelope
from mipp_cli.scheme.secret_keys import key_id
from tests.support.deployment import (
    JOBS,
    Deployment,
    done,
    feature_of,
    picture,
    png_bomb,
    refused,
    run,
    snapshot,
)


def envelopes(deployment: Deployment, upload: Path, owner: str = "north") -> dict[str, Envelope]:
    """Decrypt an upload as the KMC could: envelope by name on the wire."""
    public = deployment.public
    with open_container(upload, upload_schema(public.parameters)) as container:
        reader = UploadReader(container, public.parameters)
        key = Owner.open(deployment / owner).image_key
        cipher = UploadCipher(key, public.fingerprint, owner, container.header.sequence_number)
        return {
            name: Envelope.unpack(cipher.decrypt(reader.encrypted_image(row), name))
            for row, name in enumerate(reader.names())
        }


def draw(folder: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(folder / name)
    return folder


def encrypt(deployment: Deployment, *words: object, stdin: str | bytes | None = None) -> Path:
    upload = deployment / f"upload-{len(list(deployment.root.iterdir()))}.h5"
    done("owner", "encrypt", deployment / "north", *words, "-o", upload, *JOBS, stdin=stdin)
    return upload


def refuse(
    deployment: Deployment, code: int, words: str, *command: object, stdin: str | bytes | None = None
) -> None:
    before = snapshot(deployment / "north")
    output = deployment / "refused.h5"
    outcome = refused(
        code, "owner", "encrypt", deployment / "north", *command, "-o", output, *JOBS, stdin=stdin
    )
    assert words in outcome.err
    assert not output.exists()
    changed = {path for path, state in snapshot(deployment / "north").items() if before.get(path) != state}
    assert changed <= {str(deployment / "north" / "uploads")}
    assert not list(deployment.root.rglob("*.tmp"))


def test_an_image_carries_its_path_feature_and_every_bit(any_scheme: Deployment) -> None:
    inside_image = any_scheme.public.parameters.protocol.inside_image
    for owner in ("north", "south", "lake"):
        paths = any_scheme.names(owner)
        found = envelopes(any_scheme, any_scheme / f"{owner}.h5", owner)
        assert set(found) == set(paths)
        for name, envelope in found.items():
            original = any_scheme.pictures(owner)[paths[name]]
            assert envelope.path == paths[name]
            assert envelope.content == original.read_bytes()
            assert envelope.feature.tolist() == inside_image(feature_of(original)).tolist()


def test_where_the_kmc_ranks_no_feature_is_inside_an_image(exact: Deployment) -> None:
    for owner in ("north", "south", "lake"):
        for envelope in envelopes(exact, exact / f"{owner}.h5", owner).values():
            assert envelope.feature.size == 0
            assert feature_of(exact.pictures(owner)[envelope.path]).tobytes() not in envelope.pack()


def test_the_media_type_is_that_of_the_content(changeable: Deployment, tmp_path: Path) -> None:
    picture(1).save(tmp_path / "wrong.jpg", "PNG")
    (envelope,) = envelopes(changeable, encrypt(changeable, tmp_path / "wrong.jpg")).values()
    assert envelope.media_type == "image/png"


def test_rows_are_the_same_however_many_work(changeable: Deployment, tmp_path: Path) -> None:
    draw(tmp_path, *(f"{number:02d}.png" for number in range(20)))
    named = [tmp_path / f"{number:02d}.png" for number in reversed(range(20))]
    row_key, found = Owner.open(changeable / "north").row_key, []
    for jobs in (1, 2):
        upload = changeable / f"{jobs}.h5"
        done("owner", "encrypt", changeable / "north", *named, "--again", "-o", upload, "--jobs", jobs)
        found.append({each.path: each.content for each in envelopes(changeable, upload).values()})
        assert list(found[-1]) == sorted((path.name for path in named), key=row_key)
    assert found[0] == found[1] == {path.name: path.read_bytes() for path in named}


def test_the_same_images_are_never_encrypted_alike(changeable: Deployment) -> None:
    one, two = (encrypt(changeable, changeable / "pictures" / "north", "--again") for _ in range(2))
    public = changeable.public
    readings = []
    for upload in (one, two):
        with open_container(upload, upload_schema(public.parameters)) as container:
            reader = UploadReader(container, public.parameters)
            ef, eff = reader.encrypted_features(0, len(reader))
            rows = [reader.encrypted_image(row) for row in range(len(reader))]
            readings.append((rows, ef, eff))
    assert not set(readings[0][0]) & set(readings[1][0])
    assert (readings[0][1] != readings[1][1]).any(axis=(1, 2)).all()
    assert (readings[0][2] != readings[1][2]).any(axis=(1, 2)).all()


def test_paths_can_come_from_a_list(changeable: Deployment, tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "b c.png", "d\u2028e.png")
    listed = "".join(f"{tmp_path / name}\n" for name in ("a.png", "b c.png", "d\u2028e.png"))
    (tmp_path / "list.txt").write_text("\n" + listed.replace("a.png\n", "a.png\r\n"), newline="")
    expected = {"a.png", "b c.png", "d\u2028e.png"}
    from_file = encrypt(changeable, "--files-from", tmp_path / "list.txt")
    assert {envelope.path for envelope in envelopes(changeable, from_file).values()} == expected
    from_stdin = encrypt(changeable, "--files-from", "-", "--again", stdin=listed)
    assert {envelope.path for envelope in envelopes(changeable, from_stdin).values()} == expected


def test_a_list_with_nul_bytes_is_refused(changeable: Deployment) -> None:
    refuse(changeable, 2, "contains NUL bytes", "--files-from", "-", stdin=b"a.png\0b.png\0")


def test_a_list_of_windows_names_the_same_images(changeable: Deployment, tmp_path: Path) -> None:
    draw(tmp_path, "ä.png", "b.png")
    lines = f"{tmp_path}/ä.png\r\n{tmp_path}/b.png\r\n"
    upload = encrypt(changeable, "--files-from", "-", stdin=lines.encode("utf-8-sig"))
    assert {envelope.path for envelope in envelopes(changeable, upload).values()} == {"ä.png", "b.png"}


def test_a_list_of_paths_may_hold_any_bytes(changeable: Deployment, tmp_path: Path) -> None:
    picture(1).save(not_utf8(tmp_path), "PNG")
    upload = encrypt(changeable, "--files-from", "-", stdin=os.fsencode(not_utf8(tmp_path)))
    assert {envelope.path for envelope in envelopes(changeable, upload).values()} == {"\\xff.png"}


def test_a_list_in_utf16_is_refused_by_that_name(changeable: Deployment) -> None:
    refuse(
        changeable, 2, "the list of paths is UTF-16", "--files-from", "-", stdin="a.png\n".encode("utf-16")
    )


def test_an_empty_list_names_no_images(changeable: Deployment) -> None:
    refuse(changeable, 2, "no images were given", "--files-from", "-", stdin="\n\n")


def test_names_can_be_taken_below_a_root(changeable: Deployment, tmp_path: Path) -> None:
    draw(tmp_path, "a/x.png", "b/x.png")
    upload = encrypt(changeable, tmp_path / "a", tmp_path / "b", "--root", tmp_path)
    assert {envelope.path for envelope in envelopes(changeable, upload).values()} == {"a/x.png", "b/x.png"}


def cut(path: Path) -> None:
    picture(1, size=(200, 200)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def text(path: Path) -> None:
    path.write_text("Dear doctor,\n")


def folder(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("x")


UNREADABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a text file": (text, "the file is not a picture"),
    "an empty file": (Path.touch, "the file is empty"),
    "cut short": (cut, "the picture is damaged or cut short"),
    "a bomb": (lambda path: path.write_bytes(png_bomb()), "the limit is 134217728"),
    "a dangling link": (lambda path: path.symlink_to("gone"), "cannot be read: No such file"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_image_that_cannot_be_read_stops_the_run(
    changeable: Deployment, tmp_path: Path, kind: str
) -> None:
    make, words = UNREADABLE[kind]
    draw(tmp_path, "a.png", "z.png")
    make(tmp_path / "m.jpg")
    refuse(changeable, 7, f"error: {tmp_path / 'm.jpg'}: ", tmp_path)
    refuse(changeable, 7, words, tmp_path / "m.jpg")


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_image_that_cannot_be_read_may_be_skipped(
    changeable: Deployment, tmp_path: Path, kind: str
) -> None:
    draw(tmp_path, "a.png", "z.png")
    UNREADABLE[kind][0](tmp_path / "m.jpg")
    words = (changeable / "north", tmp_path, "-o", changeable / "u.h5", "--skip-unreadable", "--json", *JOBS)
    report = done("owner", "encrypt", *words).json
    assert (report["counts"]["images"], report["counts"]["skipped"]) == (2, 1)
    assert any(f"left out {tmp_path / 'm.jpg'}: " in warning for warning in report["warnings"])
    paths = [envelope.path for envelope in envelopes(changeable, changeable / "u.h5").values()]
    assert sorted(paths) == ["a.png", "z.png"]


def test_all_images_that_cannot_be_read_are_named_at_once(changeable: Deployment, tmp_path: Path) -> None:
    draw(tmp_path, "a.png", "z.png")
    (tmp_path / "folder").mkdir()
    made = {f"folder/{number}.jpg": make for number, (make, _) in enumerate(UNREADABLE.values())}
    for name, make in made.items():
        make(tmp_path / name)
    outcome = refused(7, "owner", "encrypt", changeable / "north", tmp_path, "-o", changeable / "u.h5", *JOBS)
    lines = [line for line in outcome.err.splitlines() if line.startswith("unreadable: ")]
    for line, name, (_, words) in zip(lines, made, UNREADABLE.values(), strict=True):
        assert line.startswith(f"unreadable: {tmp_path / name}: ")
        assert words in line
    assert f"error: {len(made)} of the images cannot be read" in outcome.err
    assert "--skip-unreadable" in outcome.err


def test_scripts_are_told_of_all_that_cannot_be_read(changeable: Deployment, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        text(tmp_path / name)
    draw(tmp_path, "c.png")
    words = (changeable / "north", tmp_path, "-o", changeable / "u.h5", "--json", *JOBS)
    error = run("owner", "encrypt", *words).json["error"]
    assert (error["class"], error["code"], error["path"]) == ("UnreadableImagesError", 7, None)
    assert [each["path"] for each in error["problems"]] == [str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")]
    assert all("the file is not a picture" in each["message"] for each in error["problems"])


def test_one_image_alone_that_cannot_be_read_is_the_error(changeable: Deployment, tmp_path: Path) -> None:
    draw(tmp_path, "c.png")
    text(tmp_path / "a.jpg")
    words = (changeable / "north", tmp_path, "-o", changeable / "u.h5", *JOBS)
    outcome = refused(7, "owner", "encrypt", *words)
    assert f"error: {tmp_path / 'a.jpg'}: the file is not a picture" in outcome.err
    assert "unreadable: " not in outcome.err
    error = run("owner", "encrypt", *words, "--json").json["error"]
    assert "problems" not in error


def test_names_that_could_steer_a_terminal_are_made_visible(changeable: Deployment, tmp_path: Path) -> None:
    for name in ("a\x1b[2J.jpg", "b\n.jpg"):
        text(tmp_path / name)
    outcome = refused(7, "owner", "encrypt", changeable / "north", tmp_path, "-o", changeable / "u.h5", *JOBS)
    assert f"unreadable: {tmp_path}/a\\u001b[2J.jpg: " in outcome.err
    assert f"unreadable: {tmp_path}/b\\u000a.jpg: " in outcome.err


def test_who_mended_them_goes_on_with_what_was_described(
    changeable: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptions, "SYNC_IMAGES", 1)
    draw(tmp_path, "a.png", "z.png")
    for name in ("m.png", "n.png"):
        text(tmp_path / name)
    words = ("owner", "encrypt", changeable / "north", tmp_path, "-o", changeable / "u.h5", *JOBS)
    assert "2 images are described: give --resume to continue after them" in refused(7, *words).err
    draw(tmp_path, "m.png", "n.png")
    done(*words, "--resume")
    assert len(envelopes(changeable, changeable / "u.h5")) == 4


def skipping(deployment: Deployment, *words: object) -> tuple[list[str], list[str]]:
    """Encrypt with --skip-unreadable; return the paths that were taken, and what was left out."""
    upload = deployment / "u.h5"
    options = ("-o", upload, "--skip-unreadable", "--json", *JOBS)
    report = done("owner", "encrypt", deployment / "north", *words, *options).json
    left_out = [each for each in report["warnings"] if each.startswith("left out ")]
    assert report["counts"]["skipped"] == len(left_out)
    return sorted(each.path for each in envelopes(deployment, upload).values()), left_out


def not_utf8(folder: Path) -> Path:
    """Return a path below ``folder`` whose name is not UTF-8."""
    return Path(os.fsdecode(os.fsencode(folder) + b"/\xff.png"))


def close(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let a folder be one that may not be listed, for whom may everything as well."""
    scandir = os.scandir

    def deny(path: str) -> Iterator[os.DirEntry[str]]:
        if str(path) == str(folder):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)


def test_links_that_lead_nowhere_are_left_out(changeable: Deployment, tmp_path: Path) -> None:
    draw(tmp_path, "a.png")
    (tmp_path / "gone.png").symlink_to("nowhere")
    (tmp_path / "loop.png").symlink_to("loop.png")
    taken, left_out = skipping(changeable, tmp_path)
    assert taken == ["a.png"]
    assert left_out == [
        f"left out {tmp_path / 'gone.png'}: cannot be read: No such file or directory",
        f"left out {tmp_path / 'loop.png'}: cannot be read: Too many levels of symbolic links",
    ]


def test_folders_that_cannot_be_read_are_left_out(
    changeable: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path, "a.png", "closed/b.png", "open/c.png")
    close(monkeypatch, tmp_path / "closed")
    taken, left_out = skipping(changeable, tmp_path)
    assert taken == ["a.png", "open/c.png"]
    words = "the folder cannot be read: Permission denied"
    assert left_out == [f"left out {tmp_path / 'closed'}: {words}"]


def test_a_folder_named_itself_that_cannot_be_read_is_too(
    changeable: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path, "closed/b.png", "open/c.png")
    close(monkeypatch, tmp_path / "closed")
    taken, left_out = skipping(changeable, tmp_path / "closed", tmp_path / "open")
    assert (taken, len(left_out)) == (["c.png"], 1)


def test_without_skipping_they_stop_the_run(
    changeable: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path, "a.png", "closed/b.png")
    close(monkeypatch, tmp_path / "closed")
    refuse(changeable, 2, "the folder cannot be read: Permission denied", tmp_path)


def test_a_dry_run_counts_what_is_left_out(
    changeable: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path, "a.png", "closed/b.png")
    close(monkeypatch, tmp_path / "closed")
    words = (changeable / "north", tmp_path, "--dry-run", "--skip-unreadable", "--json")
    counts = done("owner", "encrypt", *words).json["counts"]
    assert (counts["images"], counts["unreadable"]) == (1, 1)


def test_a_file_without_permission_is_named(
    changeable: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path, "a.png")
    stat = os.stat

    def deny(path: str | Path | int, *words: object, **options: Any) -> os.stat_result:
        if str(path) == str(tmp_path / "a.png"):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, *words, **options)

    monkeypatch.setattr(os, "stat", deny)
    words = f"error: {tmp_path / 'a.png'}: cannot be read: Permission denied"
    refuse(changeable, 7, words, tmp_path / "a.png")


def test_a_folder_that_is_called_as_an_image_is_walked(changeable: Deployment, tmp_path: Path) -> None:
    folder(tmp_path / "x.jpg")
    refuse(changeable, 2, f"{tmp_path / 'x.jpg'}: contains no images", tmp_path / "x.jpg")


def test_where_no_image_can_be_read_there_is_nothing_to_skip(changeable: Deployment, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        text(tmp_path / name)
    refuse(changeable, 2, "none of the images can be read", tmp_path, "--skip-unreadable")


def test_pictures_without_edges_are_counted_and_warned_of(changeable: Deployment, tmp_path: Path) -> None:

    draw(tmp_path, "a.png")
    Image.new("L", (80, 80), 99).save(tmp_path / "flat.png")
    words = (changeable / "north", tmp_path, "-o", changeable / "u.h5", "--json", *JOBS)
    report = done("owner", "encrypt", *words).json
    assert report["counts"]["edgeless"] == 1
    (warning,) = [each for each in report["warnings"] if "have no edges" in each]
    assert warning == "1 of the images have no edges, so their descriptors are equal: flat.png"


def test_pixels_that_a_payload_cannot_hold_are_refused(changeable: Deployment, tmp_path: Path) -> None:
    Image.new("F", (80, 80), 0.5).save(tmp_path / "floats.tif")
    refuse(changeable, 7, "without loss", tmp_path / "floats.tif", "--payload", "pixels")


def test_pixels_of_cmyk_are_sent_as_rgb(changeable: Deployment) -> None:
    cmyk = changeable / "pictures" / "south" / "d.jpeg"
    upload = encrypt(changeable, cmyk, "--payload", "pixels")
    (sent,) = envelopes(changeable, upload).values()
    with Image.open(io.BytesIO(sent.content)) as image, Image.open(cmyk) as original:
        assert image.mode == "RGB"
        assert image.tobytes() == original.convert("RGB").tobytes()


def test_an_owner_remembers_which_image_is_which(changeable: Deployment, tmp_path: Path) -> None:
    draw(tmp_path, "new.png")
    upload = encrypt(changeable, tmp_path)
    (name,) = envelopes(changeable, upload)
    number = json.loads((changeable / "north" / "state.json").read_bytes())["number"]
    owner = Owner.open(changeable / "north")
    (image,) = owner.ledger.images(number)
    assert (image.name, image.path) == (name, "new.png")
    assert owner.ledger.messages()[-1] == Message(number, key_id(owner.image_key))


def test_an_upload_that_cannot_be_remembered_is_not_written(
    changeable: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def on_full_disk(path: Path, **_: object) -> Iterator[Path]:
        try:
            yield Path("/dev/full")
        except OSError as error:
            raise output_error(error, path) from error

    draw(tmp_path, "new.png")
    monkeypatch.setattr("mipp_cli.owner.ledger.new_file", on_full_disk)
    words = (changeable / "north", tmp_path, "-o", changeable / "u.h5", *JOBS)
    assert "No space left on device" in refused(10, "owner", "encrypt", *words).err
    assert not (changeable / "u.h5").exists()


def test_each_upload_has_a_larger_number(changeable: Deployment, tmp_path: Path) -> None:
    draw(tmp_path, "new.png")
    numbers = []
    for _ in range(3):
        upload = encrypt(changeable, tmp_path, "--again")
        numbers.append(int(upload.read_bytes().split(b"\n")[3].split()[1]))
    assert numbers == sorted(set(numbers))


def test_neither_cloud_nor_other_owners_decrypt_an_image(deployment: Deployment) -> None:
    from mipp_cli.errors import TamperedError

    public = deployment.public
    with open_container(deployment / "north.h5", upload_schema(public.parameters)) as container:
        reader, number = UploadReader(container, public.parameters), container.header.sequence_number
        for owner in ("south", "lake"):
            key = Owner.open(deployment / owner).image_key
            with pytest.raises(TamperedError):
                UploadCipher(key, public.fingerprint, "north", number).decrypt(
                    reader.encrypted_image(0), reader.name(0)
                )
