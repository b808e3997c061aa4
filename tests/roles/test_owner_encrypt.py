"""The owner's main step: what becomes of images, in which order, and when some cannot be read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mipp_cli.containers.atomic import output_error
from mipp_cli.containers.container import open_container
from mipp_cli.containers.upload import UploadCipher, UploadReader, upload_schema
from mipp_cli.roles.ledger import Message
from mipp_cli.roles.owner import Owner
from mipp_cli.scheme.image_cipher import Envelope, key_id
from tests.deployment import JOBS, Deployment, done, feature_of, picture, png_bomb, refused, snapshot


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


def test_an_image_carries_its_path_type_feature_and_every_bit_of_its_file(any_scheme: Deployment) -> None:
    for owner in ("north", "south", "lake"):
        paths = any_scheme.names(owner)
        found = envelopes(any_scheme, any_scheme / f"{owner}.h5", owner)
        assert set(found) == set(paths)
        for name, envelope in found.items():
            original = any_scheme.pictures(owner)[paths[name]]
            assert envelope.path == paths[name]
            assert envelope.content == original.read_bytes()
            assert envelope.feature.tolist() == feature_of(original).tolist()


def test_the_media_type_is_that_of_the_content_not_of_the_suffix(
    changeable: Deployment, tmp_path: Path
) -> None:
    picture(1).save(tmp_path / "wrong.jpg", "PNG")
    (envelope,) = envelopes(changeable, encrypt(changeable, tmp_path / "wrong.jpg")).values()
    assert envelope.media_type == "image/png"


def test_images_keep_the_order_in_which_they_were_named(changeable: Deployment, tmp_path: Path) -> None:
    draw(tmp_path, *(f"{number:02d}.png" for number in range(20)))
    named = [tmp_path / f"{number:02d}.png" for number in reversed(range(20))]
    for jobs in (1, 2):
        upload = changeable / f"{jobs}.h5"
        done("owner", "encrypt", changeable / "north", *named, "-o", upload, "--jobs", jobs)
        paths = [envelope.path for envelope in envelopes(changeable, upload).values()]
        assert paths == [path.name for path in named]


def test_the_same_images_are_never_encrypted_alike(changeable: Deployment) -> None:
    one, two = (encrypt(changeable, changeable / "pictures" / "north") for _ in range(2))
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
    from_stdin = encrypt(changeable, "--files-from", "-", stdin=listed)
    assert {envelope.path for envelope in envelopes(changeable, from_stdin).values()} == expected


def test_a_list_with_nul_bytes_is_refused(changeable: Deployment) -> None:
    refuse(changeable, 2, "holds NUL bytes", "--files-from", "-", stdin=b"a.png\0b.png\0")


def test_a_list_that_is_not_utf8_is_refused(changeable: Deployment) -> None:
    refuse(changeable, 2, "not UTF-8", "--files-from", "-", stdin=b"\xff.png\n")


def test_an_empty_list_names_no_images(changeable: Deployment) -> None:
    refuse(changeable, 2, "no images were named", "--files-from", "-", stdin="\n\n")


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
    "a text file": (text, "this is no JPEG, PNG, TIFF, BMP or WebP picture"),
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
    assert paths == ["a.png", "z.png"]


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
    refuse(changeable, 2, f"{tmp_path / 'x.jpg'}: holds no images", tmp_path / "x.jpg")


def test_when_no_image_can_be_read_there_is_nothing_to_skip(changeable: Deployment, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        text(tmp_path / name)
    refuse(changeable, 2, "none of the images can be read", tmp_path, "--skip-unreadable")


def test_pictures_without_edges_are_counted_and_warned_of(changeable: Deployment, tmp_path: Path) -> None:
    from PIL import Image

    draw(tmp_path, "a.png")
    Image.new("L", (80, 80), 99).save(tmp_path / "flat.png")
    words = (changeable / "north", tmp_path, "-o", changeable / "u.h5", "--json", *JOBS)
    report = done("owner", "encrypt", *words).json
    assert report["counts"]["edgeless"] == 1
    assert any("1 of the images have no edges" in warning for warning in report["warnings"])


def test_pixels_that_a_payload_cannot_hold_are_refused(changeable: Deployment) -> None:
    cmyk = changeable / "pictures" / "south" / "d.jpeg"
    refuse(changeable, 7, "without loss", cmyk, "--payload", "pixels")


def test_an_owner_remembers_which_image_is_which(changeable: Deployment, tmp_path: Path) -> None:
    draw(tmp_path, "new.png")
    upload = encrypt(changeable, tmp_path)
    (name,) = envelopes(changeable, upload)
    number = json.loads((changeable / "north" / "state.json").read_bytes())["number"]
    owner = Owner.open(changeable / "north")
    assert list(owner.ledger.rows(number)) == [(name, "new.png")]
    assert owner.ledger.messages()[-1] == Message(number, "upload", key_id(owner.image_key))


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
    monkeypatch.setattr("mipp_cli.roles.ledger.new_file", on_full_disk)
    words = (changeable / "north", tmp_path, "-o", changeable / "u.h5", *JOBS)
    assert "No space left on device" in refused(10, "owner", "encrypt", *words).err
    assert not (changeable / "u.h5").exists()


def test_each_upload_has_a_larger_number(changeable: Deployment, tmp_path: Path) -> None:
    draw(tmp_path, "new.png")
    numbers = []
    for _ in range(3):
        upload = encrypt(changeable, tmp_path)
        numbers.append(int(upload.read_bytes().split(b"\n")[3].split()[1]))
    assert numbers == sorted(set(numbers))


def test_the_cloud_cannot_decrypt_an_image_and_another_owner_neither(deployment: Deployment) -> None:
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
