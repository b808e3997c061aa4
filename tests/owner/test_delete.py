"""Images that the owner has deleted, and deletions that were lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mipp_cli.containers.base.container import open_container
from mipp_cli.containers.messages.delete import DELETE, deleted_names
from mipp_cli.owner import delete as owner_delete
from mipp_cli.owner.delete import delete_images
from mipp_cli.owner.owner import Owner
from tests.support.deployment import JOBS, Deployment, done, picture, refused, snapshot

NORTH = ("chest/a.jpg", "chest/b.png", "chest/c.png", "hand/a.tif", "hand/d.bmp")


def live(deployment: Deployment, owner: str = "north") -> set[str]:
    return {each.image.path for each in Owner.open(deployment / owner).ledger.live()}


def names(deployment: Deployment, file: Path) -> list[str]:
    with open_container(file, DELETE, deployment=deployment.public.fingerprint) as container:
        return [name.decode() for name in deleted_names(container)]


def delete(deployment: Deployment, *words: object, stdin: str | None = None) -> Path:
    file = deployment / f"delete-{len(list(deployment.root.iterdir()))}.h5"
    done("owner", "delete", deployment / "north", *words, "-o", file, stdin=stdin)
    return file


def encrypt(deployment: Deployment, *words: object) -> Path:
    file = deployment / f"upload-{len(list(deployment.root.iterdir()))}.h5"
    done("owner", "encrypt", deployment / "north", *words, "-o", file, *JOBS)
    return file


def number_of(file: Path) -> int:
    return int(file.read_bytes().split(b"\n")[3].split()[1])


def refuse(deployment: Deployment, code: int, words: str, *command: object) -> None:
    before = snapshot(deployment.root)
    assert words in refused(code, "owner", *command).err
    assert snapshot(deployment.root) == before


def test_a_deletion_names_images_as_the_wire_knows_them(changeable: Deployment) -> None:
    called = {path: name for name, path in changeable.names("north").items()}
    file = delete(changeable, "hand/d.bmp", "chest/a.jpg")
    assert names(changeable, file) == [called["hand/d.bmp"], called["chest/a.jpg"]]
    assert live(changeable) == {*NORTH} - {"hand/d.bmp", "chest/a.jpg"}
    assert number_of(file) == Owner.open(changeable / "north").ledger.messages()[-1].number


def test_paths_are_taken_from_a_list_and_once_each(changeable: Deployment) -> None:
    file = delete(changeable, "chest/a.jpg", "--files-from", "-", stdin="./hand/d.bmp\nchest//a.jpg\n\n")
    assert len(names(changeable, file)) == 2
    assert live(changeable) == {*NORTH} - {"hand/d.bmp", "chest/a.jpg"}


@pytest.mark.parametrize("path", ["a.jpg", "chest", "/chest/a.jpg", "north/chest/a.jpg", "e.tiff", "ü\n"])
def test_any_path_is_deleted_and_counted_if_it_is_not_listed(changeable: Deployment, path: str) -> None:
    words = (changeable / "north", "chest/a.jpg", path, "-o", changeable / "d.h5", "--json")
    outcome = done("owner", "delete", *words).json
    assert outcome["counts"] == {"images": 2, "not in the ledger": 1}
    assert any("not in the record of what was sent: 1 of" in warning for warning in outcome["warnings"])
    owner = Owner.open(changeable / "north")
    expected = [owner.name_on_the_wire(each) for each in ("chest/a.jpg", path)]
    assert names(changeable, changeable / "d.h5") == expected
    assert live(changeable) == {*NORTH} - {"chest/a.jpg"}


def test_images_that_are_listed_are_told_without_a_warning(changeable: Deployment) -> None:
    words = (changeable / "north", "chest/a.jpg", "-o", changeable / "d.h5", "--json")
    outcome = done("owner", "delete", *words).json
    assert outcome["counts"] == {"images": 1, "not in the ledger": 0}
    assert outcome["warnings"] == []


def test_a_deletion_of_nothing_is_refused(changeable: Deployment) -> None:
    refuse(changeable, 2, "no images were named", "delete", changeable / "north", "-o", changeable / "d.h5")


def test_an_image_may_be_deleted_again(changeable: Deployment) -> None:
    first = delete(changeable, "chest/a.jpg", "hand/d.bmp")
    second = delete(changeable, "hand/d.bmp", "chest/a.jpg")
    assert set(names(changeable, first)) == set(names(changeable, second))
    assert number_of(second) > number_of(first)
    assert live(changeable) == {*NORTH} - {"chest/a.jpg", "hand/d.bmp"}


def test_an_image_that_was_deleted_is_listed(changeable: Deployment) -> None:
    delete(changeable, "chest/a.jpg")
    words = (changeable / "north", "chest/a.jpg", "-o", changeable / "d.h5", "--json")
    assert done("owner", "delete", *words).json["counts"]["not in the ledger"] == 0


def test_an_image_may_be_sent_again_after_it_was_deleted(changeable: Deployment) -> None:
    delete(changeable, "chest/a.jpg")
    encrypt(changeable, changeable / "pictures" / "north", "--undelete")
    assert live(changeable) == {*NORTH}


def test_an_image_that_no_ledger_could_list_is_refused(changeable: Deployment) -> None:
    words = ("delete", changeable / "north", "./.", "-o", changeable / "d.h5")
    refuse(changeable, 2, "cannot be the path of an image", *words)


def test_a_deletion_comes_late_and_deletes_what_is_older_alone(changeable: Deployment) -> None:
    called = {path: name for name, path in changeable.names("north").items()}
    deletion = delete(changeable, "chest/a.jpg", "hand/d.bmp")
    later = encrypt(
        changeable,
        changeable / "pictures" / "north" / "hand",
        "--undelete",
        "--root",
        changeable / "pictures" / "north",
    )
    for file in (later, deletion):
        done("cloud", "index", changeable / "cloud", file, *JOBS)
    rows = done("inspect", changeable / "cloud" / "index.h5", "--csv").out
    assert called["chest/a.jpg"] not in rows
    assert called["hand/d.bmp"] in rows


# A deletion that never came


def test_a_lost_deletion_is_made_again(changeable: Deployment) -> None:
    first = delete(changeable, "chest/a.jpg", "hand/d.bmp")
    second = delete(changeable, "--again", number_of(first))
    assert set(names(changeable, second)) == set(names(changeable, first))
    assert number_of(second) > number_of(first)


def test_it_is_made_again_as_far_as_it_counts(changeable: Deployment) -> None:
    called = {path: name for name, path in changeable.names("north").items()}
    first = delete(changeable, "chest/a.jpg", "hand/d.bmp", "unlisted.png")
    delete(changeable, "unlisted.png")
    root = ("--root", changeable / "pictures" / "north")
    encrypt(changeable, changeable / "pictures" / "north" / "hand", "--undelete", *root)
    second = delete(changeable, "--again", number_of(first))
    assert names(changeable, second) == [called["chest/a.jpg"]]


def test_more_may_be_deleted_with_it(changeable: Deployment) -> None:
    first = delete(changeable, "chest/a.jpg")
    second = delete(changeable, "hand/d.bmp", "chest/a.jpg", "--again", number_of(first))
    assert len(names(changeable, second)) == 2


def test_a_deletion_that_counts_no_more_is_not_made_again(changeable: Deployment) -> None:
    number = number_of(delete(changeable, "chest/a.jpg"))
    delete(changeable, "chest/a.jpg")
    words = ("delete", changeable / "north", "--again", number, "-o", changeable / "d.h5")
    refuse(changeable, 2, f"the deletion {number} no longer decides any image", *words)


@pytest.mark.parametrize("which", ["unknown", "an upload"])
def test_what_is_no_deletion_is_not_made_again(changeable: Deployment, which: str) -> None:
    number = 17 if which == "unknown" else number_of(changeable / "north.h5")
    words = ("delete", changeable / "north", "--again", number, "-o", changeable / "d.h5")
    refuse(changeable, 2, f"this owner made no deletion {number}", *words)


@pytest.mark.parametrize("number", ["0", "-1", "one", ""])
def test_what_is_no_number_is_refused(changeable: Deployment, number: str) -> None:
    words = ("delete", changeable / "north", f"--again={number}", "-o", changeable / "d.h5")
    refuse(changeable, 2, "is not a message number", *words)


# Where it goes


def test_an_output_that_exists_is_replaced_only_by_force(changeable: Deployment) -> None:
    words = ("delete", changeable / "north", "chest/a.jpg", "-o", changeable / "north.h5")
    refuse(changeable, 10, "the output exists", *words)
    done("owner", *words, "--force")
    assert len(names(changeable, changeable / "north.h5")) == 1


@pytest.mark.parametrize("after", [False, True])
def test_a_deletion_that_is_not_written_is_not_remembered(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    write = owner_delete.write_delete

    def interrupted(*words: object, **options: object) -> None:
        if after:
            write(*words, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner_delete, "write_delete", interrupted)
        with pytest.raises(KeyboardInterrupt):
            delete_images(changeable / "north", ["chest/a.jpg"], changeable / "d.h5")
    assert (changeable / "d.h5").exists() == after
    assert ("chest/a.jpg" in live(changeable)) == (not after)


def test_a_deletion_that_was_killed_is_made_by_the_same_command(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(owner_delete, "write_delete", lambda *_, **__: 1 / 0)
        patch.setattr(owner_delete, "discard", lambda *_: None)  # who is killed tidies nothing up
        with pytest.raises(ZeroDivisionError):
            delete_images(changeable / "north", ["chest/a.jpg"], changeable / "d.h5")
    assert names(changeable, delete(changeable, "chest/a.jpg"))


def test_a_name_that_may_mean_two_images_is_refused(changeable: Deployment, tmp_path: Path) -> None:
    byte, literal = tmp_path / os.fsdecode(b"caf\xe9.png"), tmp_path / "caf\\xe9.png"
    for number, path in enumerate((byte, literal)):
        picture(number).save(path)
    encrypt(changeable, literal, "--small")
    assert live(changeable) == {*NORTH, "caf\\x5cxe9.png"}
    encrypt(changeable, byte, "--small")
    command = ("delete", changeable / "north", "-o", changeable / "d.h5")
    refuse(changeable, 2, "may mean the image", *command, literal.name)
    delete(changeable, "caf\\x5cxe9.png")
    assert live(changeable) == {*NORTH, "caf\\xe9.png"}


def test_a_file_is_deleted_by_its_own_name(changeable: Deployment, tmp_path: Path) -> None:
    literal = tmp_path / "caf\\xe9.png"
    picture(1).save(literal)
    encrypt(changeable, literal, "--small")
    delete(changeable, literal.name)
    assert live(changeable) == {*NORTH}


def test_which_image_was_meant_is_told(changeable: Deployment, tmp_path: Path) -> None:
    picture(1).save(tmp_path / "e\N{COMBINING ACUTE ACCENT}.png")
    encrypt(changeable, tmp_path / "e\N{COMBINING ACUTE ACCENT}.png", "--small")
    words = ("delete", changeable / "north", "é.png", "é.png", "-o", changeable / "d.h5")
    assert "note: 'é.png' was taken to mean 'e\N{COMBINING ACUTE ACCENT}.png'" in done("owner", *words).out
    assert live(changeable) == {*NORTH}
