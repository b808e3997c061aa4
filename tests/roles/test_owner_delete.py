"""Images that the owner has deleted or replaced, and messages that the owner withdraws."""

from __future__ import annotations

from pathlib import Path

import pytest

from mipp_cli.containers.container import open_container
from mipp_cli.containers.delete import DELETE, deleted_names
from mipp_cli.containers.upload import UploadReader, upload_schema
from mipp_cli.roles import owner_delete
from mipp_cli.roles.owner import Owner
from mipp_cli.roles.owner_delete import delete_images
from tests.deployment import JOBS, Deployment, done, refused, snapshot

NORTH = ("chest/a.jpg", "chest/b.png", "chest/c.png", "hand/a.tif", "hand/d.bmp")


def live(deployment: Deployment, owner: str = "north") -> set[str]:
    return {image.path for image in Owner.open(deployment / owner).ledger.live()}


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


@pytest.mark.parametrize(
    "path", ["a.jpg", "chest", "/chest/a.jpg", "north/chest/a.jpg", "chest/a.jpg/"[:-1] + "x"]
)
def test_all_images_must_be_in_the_ledger_or_none_is_deleted(changeable: Deployment, path: str) -> None:
    words = ("delete", changeable / "north", "chest/a.jpg", path, "-o", changeable / "d.h5")
    refuse(changeable, 2, f"1 of 2 images are not in the ledger, the first: {path!r}", *words)


def test_images_of_another_owner_are_not_in_the_ledger(changeable: Deployment) -> None:
    refuse(
        changeable,
        2,
        "not in the ledger",
        "delete",
        changeable / "north",
        "e.tiff",
        "-o",
        changeable / "d.h5",
    )


def test_a_deletion_of_nothing_is_refused(changeable: Deployment) -> None:
    refuse(changeable, 2, "no images were named", "delete", changeable / "north", "-o", changeable / "d.h5")


def test_an_image_that_was_deleted_is_not_deleted_again(changeable: Deployment) -> None:
    delete(changeable, "chest/a.jpg", "hand/d.bmp")
    delete(changeable, "chest/b.png")
    words = ("delete", changeable / "north", "chest/a.jpg", "-o", changeable / "d.h5")
    refuse(changeable, 2, "not in the ledger", *words)


def test_the_last_deletion_may_be_made_again_because_its_file_may_be_lost(changeable: Deployment) -> None:
    first = delete(changeable, "chest/a.jpg", "hand/d.bmp")
    second = delete(changeable, "hand/d.bmp", "chest/a.jpg")
    assert set(names(changeable, first)) == set(names(changeable, second))
    assert number_of(second) > number_of(first)


def test_an_image_may_be_sent_again_after_it_was_deleted(changeable: Deployment) -> None:
    delete(changeable, "chest/a.jpg")
    encrypt(
        changeable,
        changeable / "pictures" / "north" / "chest" / "a.jpg",
        "--root",
        changeable / "pictures/north",
    )
    assert live(changeable) == {*NORTH}


def test_an_image_that_the_ledger_lacks_is_deleted_as_unlisted(changeable: Deployment) -> None:
    called = {path: name for name, path in changeable.names("north").items()}
    for file in (changeable / "north" / "uploads").iterdir():
        file.unlink()  # as in a directory that was restored from a backup
    file = delete(changeable, "chest/a.jpg", "--unlisted")
    assert names(changeable, file) == [called["chest/a.jpg"]]


def test_an_image_that_no_ledger_could_list_is_refused_as_unlisted_too(changeable: Deployment) -> None:
    words = ("delete", changeable / "north", "\udcff.png", "--unlisted", "-o", changeable / "d.h5")
    refuse(changeable, 2, "its name is not UTF-8", *words)


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
            write(*words, **options)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner_delete, "write_delete", interrupted)
        with pytest.raises(KeyboardInterrupt):
            delete_images(changeable / "north", ["chest/a.jpg"], changeable / "d.h5")
    assert (changeable / "d.h5").exists() == after
    assert ("chest/a.jpg" in live(changeable)) == (not after)


def test_a_deletion_that_was_killed_before_its_file_was_there_is_made_by_the_same_command(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mipp_cli.roles.ledger import Ledger

    with monkeypatch.context() as patch:
        patch.setattr(owner_delete, "write_delete", lambda *_, **__: 1 / 0)
        patch.setattr(Ledger, "remove", lambda *_: None)  # who is killed tidies nothing up
        with pytest.raises(ZeroDivisionError):
            delete_images(changeable / "north", ["chest/a.jpg"], changeable / "d.h5")
    assert names(changeable, delete(changeable, "chest/a.jpg"))


# Replacing


def test_an_upload_that_replaces_says_so(changeable: Deployment) -> None:
    file = encrypt(changeable, changeable / "pictures" / "north", "--replace")
    parameters = changeable.public.parameters
    with open_container(file, upload_schema(parameters)) as container:
        assert UploadReader(container, parameters).replaces
    message = Owner.open(changeable / "north").ledger.messages()[-1]
    assert (message.number, message.replaces) == (number_of(file), True)
    assert {image.upload for image in Owner.open(changeable / "north").ledger.live()} == {message.number}


def test_what_was_not_sent_cannot_be_replaced(changeable: Deployment) -> None:
    words = ("encrypt", changeable / "north", changeable / "pictures" / "south", "--replace", *JOBS)
    refuse(changeable, 2, "5 of 5 images were not sent before", *words, "-o", changeable / "u.h5")
    done("owner", *words, "--unlisted", "-o", changeable / "u.h5")


def test_unlisted_goes_with_replace(changeable: Deployment) -> None:
    words = ("encrypt", changeable / "north", changeable / "pictures" / "south", "--unlisted", *JOBS)
    from tests.deployment import run

    outcome = run("owner", *words, "-o", changeable / "u.h5")
    assert (outcome.code, "--unlisted goes with --replace" in outcome.err) == (2, True)


def test_images_that_were_sent_before_are_warned_of(changeable: Deployment) -> None:
    delete(changeable, "chest/a.jpg")
    pictures, words = changeable / "pictures" / "north", ("-o", changeable / "u.h5", "--json", *JOBS)
    (warning,) = done("owner", "encrypt", changeable / "north", pictures, *words).json["warnings"]
    assert warning.startswith("4 of the images were sent before")


def test_a_run_that_replaces_is_not_gone_on_with_as_one_that_adds(changeable: Deployment) -> None:
    from mipp_cli.roles.partial import PartialWork

    owner = Owner.open(changeable / "north")
    request = {"deployment": changeable.public.fingerprint, "replace": True}
    PartialWork.begin(owner.directory, request, resume=None, published=owner.ledger)
    (changeable / "north" / "partial" / "9.spool").touch()
    words = ("encrypt", changeable / "north", changeable / "pictures" / "south", "--resume", *JOBS)
    refuse(changeable, 2, "had other options", *words, "-o", changeable / "u.h5")


# Withdrawing


def test_an_upload_that_never_got_out_is_withdrawn_by_its_number_or_file(changeable: Deployment) -> None:
    q1 = changeable / "pictures" / "queries" / "q1.png"
    first, second = encrypt(changeable, q1), encrypt(changeable, changeable / "pictures" / "south")
    outcome = done("owner", "withdraw", changeable / "north", second)
    assert "uploads withdrawn: 1, images: 5" in outcome.out
    assert live(changeable) == {*NORTH, "q1.png"}
    done("owner", "withdraw", changeable / "north", number_of(first))
    assert live(changeable) == {*NORTH}
    assert "; withdrawn" in done("inspect", changeable / "north").out


def test_a_deletion_that_never_got_out_is_withdrawn_and_its_images_are_there_again(
    changeable: Deployment,
) -> None:
    file = delete(changeable, "chest/a.jpg")
    done("owner", "withdraw", changeable / "north", file)
    assert live(changeable) == {*NORTH}
    refuse(changeable, 5, "was withdrawn before", "withdraw", changeable / "north", file)


def test_what_is_withdrawn_must_be_in_the_ledger(changeable: Deployment) -> None:
    q1 = changeable / "pictures" / "queries" / "q1.png"
    done("owner", "withdraw", changeable / "north", encrypt(changeable, q1))
    event = Owner.open(changeable / "north").ledger.messages()[-1].number
    for which in ("0", "17", str(event)):
        refuse(changeable, 2, f"lists no upload or deletion {which}", "withdraw", changeable / "north", which)


def test_only_the_owners_own_messages_are_withdrawn_by_file(changeable: Deployment) -> None:
    north = changeable / "north"
    refuse(changeable, 4, "is not this owner's", "withdraw", north, changeable / "south.h5")
    refuse(changeable, 2, "is of kind members", "withdraw", north, north / "members.h5")
    refuse(changeable, 3, "kmc.pub", "withdraw", north, changeable / "kmc" / "kmc.pub")
    refuse(changeable, 2, "cannot be read", "withdraw", north, changeable / "none.h5")
