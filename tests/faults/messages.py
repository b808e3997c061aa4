"""The commands that make an owner's messages, and those by which the cloud takes them in any order."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest import mock

from mipp_cli.cloud.cloud import Cloud
from mipp_cli.cloud.completeness import completeness
from mipp_cli.containers.base.container import open_container
from mipp_cli.containers.messages.upload import UploadReader, upload_schema
from mipp_cli.owner.ledger import DELETE
from mipp_cli.owner.owner import Owner
from mipp_cli.workdir import replay as sequence
from tests.faults.command import Command, Words
from tests.faults.process import broken_off
from tests.faults.store import answer, table
from tests.support.deployment import JOBS, Deployment, done, picture, run

_A_YEAR = 365 * 86_400 * 10**9


def more_pictures(store: Deployment) -> None:
    """Draw four pictures that north did not send yet."""
    for number in range(4):
        (store / "more").mkdir(exist_ok=True)
        picture(20 + number, size=(24, 16)).save(store / "more" / f"{number}.png")


def encrypt_words(
    *options: object, of: str = "more", output: str = "more.h5"
) -> Callable[[Deployment], Words]:
    return lambda store: (
        *("owner", "encrypt", store / "north", store / of, "-o", store / output),
        *JOBS,
        *(option(store) if callable(option) else option for option in options),
    )


def encrypt(store: Deployment, *options: object, of: str = "more", output: str = "more.h5") -> None:
    done(*encrypt_words(*options, of=of, output=output)(store))


def index_words(*files: str) -> Callable[[Deployment], Words]:
    return lambda store: ("cloud", "index", store / "cloud", *(store / file for file in files), *JOBS)


def index(store: Deployment, *files: str) -> None:
    done(*index_words(*files)(store))


def more_upload(store: Deployment) -> None:
    more_pictures(store)
    encrypt(store)


@contextmanager
def aside(store: Deployment) -> Iterator[Deployment]:
    """Give a copy to try something in, of which nothing is to be seen afterwards."""
    with TemporaryDirectory(dir=store.root.parent) as folder:
        yield store.copy(Path(folder) / "store")


def code_of(store: Deployment, words: Callable[[Deployment], Words]) -> int:
    with aside(store) as copy:
        return run(*words(copy)).code


# what an owner makes


def _uploads_output(store: Deployment) -> Any:
    """Index what was written, at a cloud that knows nothing yet."""
    cloud = store / "another-cloud"
    done("cloud", "init", cloud, "--kmc", store / "kmc" / "kmc.pub")
    done("cloud", "enroll", cloud, store / "north" / "members.h5")
    done("cloud", "index", cloud, *sorted(store.root.glob("more*.h5")), *JOBS)
    return table(cloud / "index.h5", "upload")


def _message_output(name: str) -> Callable[[Deployment], Any]:
    """Apply what was written, and tell what the cloud has then."""

    def output(store: Deployment) -> Any:
        index(store, name)
        return table(store / "cloud" / "index.h5", "upload")

    return output


def interrupted(store: Deployment, output: str, *options: object) -> None:
    """Leave the work of a run behind that was killed when it put an upload in its place."""
    more_pictures(store)
    words = encrypt_words(*options)
    with aside(store) as copy:
        boundaries = broken_off(words(copy)).boundaries
    renamed = (
        at
        for at, boundary in enumerate(boundaries, start=1)
        if boundary.call in ("rename", "replace") and Path(boundary.place).name.startswith(f".{output}.")
    )
    assert broken_off(words(store), "kill", next(renamed)).outcome is None
    assert (store / "north" / "partial" / "descriptions").stat().st_size


def changed_picture(store: Deployment) -> None:
    picture(30, size=(24, 16)).save(store / "pictures" / "north" / "a.png")


def _first_upload(store: Deployment) -> int:
    return Owner.open(store / "north").ledger.messages()[0].number


def complete_at_cloud(store: Deployment) -> int:
    cloud = Cloud.open(store / "cloud")
    return completeness(cloud.store, cloud.index(), "north").up_to


def delete_words(*images: str, output: str = "delete.h5") -> Callable[[Deployment], Words]:
    return lambda store: ("owner", "delete", store / "north", *images, "-o", store / output)


def _lost_deletion(store: Deployment) -> None:
    done(*delete_words("a.png", "c.png", output="lost.h5")(store))


def _lost(store: Deployment) -> int:
    """Return the number of the deletion that was lost."""
    kinds = {
        message.kind: message.number for message in reversed(Owner.open(store / "north").ledger.messages())
    }
    return kinds[DELETE]


def rotated(store: Deployment) -> None:
    done("owner", "rotate-key", store / "north")
    done("kmc", "enroll", store / "kmc", store / "north" / "enrolment.h5")


def unneeded_key(store: Deployment) -> None:
    """Leave a former key of an owner behind that no image is under any more."""
    rotated(store)
    encrypt(store, "--again", of="pictures/north", output="new.h5")
    index(store, "new.h5")


def owner_keys(store: Deployment) -> Any:
    """Tell which keys the owner has, and what alice finds once the KMC knows of what was written."""
    run("kmc", "enroll", store / "kmc", store / "north" / "enrolment.h5")
    first = json.loads((store / "north-was" / "secrets.json").read_bytes())["image"].encode()
    files = [path for path in (store / "north").rglob("*") if path.is_file()]
    return {
        "former keys": len(Owner.open(store / "north").former_image_keys),
        "first key is there": any(first in path.read_bytes() for path in files),
        "found with these keys": answer(store, "alice"),
    }


def _clock_was_ahead(store: Deployment) -> None:
    """Make an upload, and the files that enrol north, while its clock is a year ahead."""
    more_pictures(store)
    ahead = SimpleNamespace(time_ns=lambda: time.time_ns() + _A_YEAR)
    with mock.patch.object(sequence, "time", ahead):
        encrypt(store)
        done("owner", "authorize", store / "north", store / "alice" / "user.pub")


def _numbers_output(store: Deployment) -> Any:
    """Tell whether what the owner wrote is taken, and what the owner sends next."""
    with aside(store) as copy:
        kmc = run("kmc", "enroll", copy / "kmc", copy / "north" / "enrolment.h5").code
        cloud = run("cloud", "enroll", copy / "cloud", copy / "north" / "members.h5").code
        send, take = encrypt_words(output="next.h5"), index_words("next.h5")
        taken = run(*send(copy)).code == 0 and run(*take(copy)).code == 0
    return {"kmc takes": kmc, "cloud takes": cloud, "next is taken": taken}


# what the cloud takes


def _bytes_of(store: Deployment, upload: str, path: str) -> bytes:
    """Return the encryption of a picture in an upload."""
    name = Owner.open(store / "north").name_on_the_wire(path)
    with open_container(store / upload, upload_schema(store.public.parameters)) as container:
        reader = UploadReader(container, store.public.parameters)
        return reader.encrypted_image(list(reader.names()).index(name))


def bytes_kept(upload: str, *paths: str) -> Callable[[Deployment], Any]:
    """Return an output that says of which pictures the encryption in an upload is still at the cloud.

    What a command that was killed left there goes with the next; here that is one with nothing to do.
    """

    def output(store: Deployment) -> Any:
        with aside(store) as copy:
            assert run(*index_words("south.h5")(copy)).code == 5
            there = [path.read_bytes() for path in (copy / "cloud").rglob("*") if path.is_file()]
            kept = [path for path in paths if any(_bytes_of(copy, upload, path) in each for each in there)]
        return {"kept": kept}

    return output


def deletion(store: Deployment) -> None:
    done(*delete_words("a.png", "c.png")(store))


def changed(store: Deployment) -> None:
    changed_picture(store)
    encrypt(store, of="pictures/north", output="new.h5")


def four_messages(store: Deployment) -> None:
    """Make four messages: four pictures sent, two deleted, one of these sent again, one changed."""
    more_upload(store)
    done(*delete_words("0.png", "1.png")(store))
    (store / "more" / "0.png").unlink()  # else it would be sent again, too
    encrypt(store, "--undelete", "--small", output="back.h5")
    picture(31, size=(24, 16)).save(store / "more" / "2.png")
    encrypt(store, output="changed.h5")


def all_but(*late: str) -> Callable[[Deployment], None]:
    def prepare(store: Deployment) -> None:
        four_messages(store)
        files = ("more.h5", "delete.h5", "back.h5", "changed.h5")
        index(store, *(file for file in files if file not in late))

    return prepare


def _damaged(store: Deployment) -> None:
    """Flip a byte of what the cloud has of the newest upload; an older one has not come yet."""
    more_upload(store)
    changed(store)
    index(store, "new.h5")
    segment = max((store / "cloud" / "segments").glob("north-*.h5"))
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)


def _after_damage(store: Deployment) -> Any:
    """Tell whether the upload that was damaged is taken again, and whether an older one is."""
    return {
        "damaged one": code_of(store, index_words("new.h5")),
        "older one": code_of(store, index_words("more.h5")),
    }


def _back_after_removal(store: Deployment) -> None:
    """Remove an owner from the cloud, of whom an upload has not come yet, and let the owner come back."""
    more_upload(store)
    done("cloud", "remove", store / "cloud", "north", "--yes")
    done("owner", "authorize", store / "north", store / "alice" / "user.pub")
    encrypt(store, "--again", of="pictures/north", output="new.h5")


def _after_return(store: Deployment) -> Any:
    """Tell what the cloud takes of an owner who came back: not what was made before."""
    files = ("north.h5", "more.h5", "new.h5")
    return {f"takes {file}": code_of(store, index_words(file)) for file in files}


def _back_with_a_forgotten_key(store: Deployment) -> None:
    """Let the KMC forget a key and then the owner, who comes back from a backup that holds the key."""
    unneeded_key(store)
    backup = shutil.copytree(store / "north", store / "north-backup")
    done("owner", "forget-key", store / "north", "--applied", complete_at_cloud(store))
    done("kmc", "enroll", store / "kmc", store / "north" / "enrolment.h5")
    done("kmc", "remove", store / "kmc", "north", "--yes")
    done("owner", "authorize", backup, store / "bob" / "user.pub")


def _owner_commands() -> Iterator[Command]:
    pictures = {"of": "pictures/north", "output": "new.h5"}
    again = ("--again", _first_upload)
    yield Command(
        "owner encrypt",
        encrypt_words(),
        prepare=more_pictures,
        again=encrypt_words("--resume"),
        files=("more.h5",),
        output=_uploads_output,
    )
    yield Command(
        "owner encrypt --split",
        encrypt_words("--split", "1kB"),
        prepare=more_pictures,
        again=encrypt_words("--split", "1kB", "--resume"),
        files=("more-001.h5",),
        in_steps=True,
        output=_uploads_output,
    )
    yield Command(
        "owner encrypt --resume",
        encrypt_words("--resume"),
        prepare=lambda store: interrupted(store, "more.h5"),
        again=encrypt_words("--resume"),
        files=("more.h5",),
        output=_uploads_output,
    )
    yield Command(
        "owner encrypt --split --resume",
        encrypt_words("--split", "1kB", "--resume"),
        prepare=lambda store: interrupted(store, "more-002.h5", "--split", "1kB"),
        again=encrypt_words("--split", "1kB", "--resume"),
        files=("more-001.h5",),
        in_steps=True,
        output=_uploads_output,
    )
    yield Command(
        "owner encrypt (changed)",
        encrypt_words(**pictures),
        prepare=changed_picture,
        again=encrypt_words("--resume", **pictures),
        files=("new.h5",),
        output=_message_output("new.h5"),
    )
    yield Command(
        "owner encrypt --again",
        encrypt_words("--again", **pictures),
        again=encrypt_words("--again", "--resume", **pictures),
        files=("new.h5",),
        repeats=True,
        output=_message_output("new.h5"),
    )
    yield Command(
        "owner encrypt --again NUMBER",
        encrypt_words(*again, **pictures),
        again=encrypt_words(*again, "--resume", **pictures),
        files=("new.h5",),
        output=_message_output("new.h5"),
    )
    yield Command(
        "owner delete",
        delete_words("a.png", "c.png", "never.png"),
        files=("delete.h5",),
        output=_message_output("delete.h5"),
    )
    yield Command(
        "owner delete --again",
        lambda store: (*delete_words()(store), "--again", _lost(store)),
        prepare=_lost_deletion,
        files=("delete.h5",),
        output=_message_output("delete.h5"),
    )
    yield Command(
        "owner renumber",
        lambda store: ("owner", "renumber", store / "north"),
        prepare=_clock_was_ahead,
        files=("north",),
        output=_numbers_output,
    )
    yield Command(
        "owner rotate-key",
        lambda store: ("owner", "rotate-key", store / "north"),
        repeats=True,
        files=("north",),
        output=owner_keys,
    )
    yield Command(
        "owner forget-key",
        lambda store: ("owner", "forget-key", store / "north", "--applied", complete_at_cloud(store)),
        prepare=unneeded_key,
        files=("north",),
        output=owner_keys,
    )


def _cloud_commands() -> Iterator[Command]:
    yield Command("cloud index", index_words("more.h5"), prepare=more_upload)
    yield Command(
        "cloud index (delete)",
        index_words("delete.h5"),
        prepare=deletion,
        files=("cloud",),
        output=bytes_kept("north.h5", "a.png", "b.png"),
    )
    yield Command(
        "cloud index (changed)",
        index_words("new.h5"),
        prepare=changed,
        files=("cloud",),
        output=bytes_kept("north.h5", "a.png", "b.png"),
    )
    yield Command(
        "cloud index (late upload)",
        index_words("more.h5"),
        prepare=all_but("more.h5"),
        files=("cloud",),
        output=bytes_kept("more.h5", "0.png", "1.png", "2.png", "3.png"),
    )
    yield Command(
        "cloud index (late deletion)",
        index_words("delete.h5"),
        prepare=all_but("delete.h5"),
        files=("cloud",),
        output=bytes_kept("more.h5", "0.png", "1.png", "2.png", "3.png"),
    )
    yield Command(
        "cloud index (mixed)",
        index_words("changed.h5", "delete.h5", "more.h5", "back.h5", "delete.h5", "south.h5"),
        prepare=four_messages,
        files=("cloud",),
        output=bytes_kept("more.h5", "0.png", "1.png", "2.png", "3.png"),
    )
    yield Command(
        "cloud index --rebuild",
        lambda store: ("cloud", "index", store / "cloud", "--rebuild", *JOBS),
        prepare=all_but("back.h5"),
    )
    yield Command(
        "cloud index --drop-damaged",
        lambda store: ("cloud", "index", store / "cloud", "--rebuild", "--drop-damaged", *JOBS),
        prepare=_damaged,
        files=("cloud",),
        output=_after_damage,
    )
    yield Command(
        "cloud remove",
        lambda store: ("cloud", "remove", store / "cloud", "north", "--yes"),
        files=("cloud",),
        output=bytes_kept("north.h5", "a.png", "b.png"),
    )
    yield Command(
        "cloud enroll (after a removal)",
        lambda store: ("cloud", "enroll", store / "cloud", store / "north" / "members.h5"),
        prepare=_back_after_removal,
        files=("cloud",),
        output=_after_return,
    )
    yield Command(
        "kmc enroll (after a removal)",
        lambda store: ("kmc", "enroll", store / "kmc", store / "north-backup" / "enrolment.h5"),
        prepare=_back_with_a_forgotten_key,
    )


MESSAGES = [*_owner_commands(), *_cloud_commands()]
DRY_RUN = Command("owner encrypt --dry-run", encrypt_words("--dry-run"), prepare=more_pictures)
