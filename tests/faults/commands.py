"""The commands that are broken off, each with how its store is prepared and what it writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mipp_cli.containers.container import open_container
from mipp_cli.containers.upload import UploadReader, upload_schema
from mipp_cli.roles.owner import Owner
from tests.deployment import JOBS, Deployment, done, picture, run
from tests.faults.process import broken_off
from tests.faults.store import Meaning, answer, decrypted, matches, opening, table

Words = tuple[object, ...]


@dataclass(frozen=True)
class Command:
    """A command to break off.

    ``prepare`` brings a fresh store to where the command begins; ``words`` is the command, ``again`` what
    a person runs after it failed, if that is another. ``output`` tells what its outputs, which are
    ``files`` below the store, mean; it may use up the store.
    """

    name: str
    words: Callable[[Deployment], Words]
    prepare: Callable[[Deployment], None] = lambda store: None
    again: Callable[[Deployment], Words] | None = None
    files: Sequence[str] = ()
    replaceable: bool = True  # by --force
    in_steps: bool = False  # one output after the other, or one thing that must be gone before the next
    repeats: bool = False  # done twice it does more
    output: Callable[[Deployment], Any] = lambda store: None

    def written(self, store: Deployment) -> Meaning:
        """Return the meaning of the outputs, None where there is none."""
        found = self.output(store) if any((store / name).exists() for name in self.files) else None
        return {"output": found} if not isinstance(found, dict) else found


def _ask(store: Deployment) -> None:
    done("user", "query", store / "alice", store / "pictures" / "query.png", "-o", store / "query.h5")


def _search(store: Deployment) -> None:
    _ask(store)
    done("cloud", "search", store / "cloud", store / "query.h5", "-o", store / "results.h5", *JOBS)


def _reencrypt(store: Deployment) -> None:
    _search(store)
    done("kmc", "reencrypt", store / "kmc", store / "results.h5", "-o", store / "back.h5")


def _query_output(store: Deployment) -> Any:
    done("cloud", "search", store / "cloud", store / "query.h5", "-o", store / "results.h5", *JOBS)
    return _results_output(store)


def _results_output(store: Deployment) -> Any:
    done("kmc", "reencrypt", store / "kmc", store / "results.h5", "-o", store / "back.h5")
    return _back_output(store)


def _back_output(store: Deployment) -> Any:
    return decrypted(store, "alice", store / "back.h5")


def _more_pictures(store: Deployment) -> None:
    for number in range(3):
        (store / "more").mkdir(exist_ok=True)
        picture(20 + number, size=(24, 16)).save(store / "more" / f"{number}.png")


def _more_upload(store: Deployment) -> None:
    _more_pictures(store)
    _encrypt(store, "north", "more")


def _encrypt(store: Deployment, owner: str, pictures: str, *more: object) -> None:
    words = (store / owner, store / pictures, "-o", store / f"{pictures}.h5", *JOBS, *more)
    done("owner", "encrypt", *words)


def _uploads_output(store: Deployment) -> Any:
    """Index what was written, at a cloud that knows nothing yet."""
    cloud = store / "another-cloud"
    done("cloud", "init", cloud, "--kmc", store / "kmc" / "kmc.pub")
    done("cloud", "enroll", cloud, store / "north" / "members.h5")
    done("cloud", "index", cloud, *sorted(store.root.glob("more*.h5")), *JOBS)
    return table(cloud / "index.h5", "upload")


def _authorize(store: Deployment, owner: str) -> None:
    done("owner", "authorize", store / owner, store / "bob" / "user.pub")


def _authorize_both(store: Deployment) -> None:
    _authorize(store, "north")
    _authorize(store, "south")


def _role_output(kind: str, place: str) -> Callable[[Deployment], Any]:
    def output(store: Deployment) -> Any:
        lines = done("inspect", store / place).out.splitlines()
        names = {path.name for path in (store / place).iterdir() if not path.name.startswith(".")}
        return [line for line in lines if kind in line][:1], sorted(names)

    return output


def _encrypt_words(*more: object) -> Callable[[Deployment], Words]:
    return lambda store: (
        "owner",
        "encrypt",
        store / "north",
        store / "more",
        "-o",
        store / "more.h5",
        *JOBS,
        *more,
    )


def _interrupted(store: Deployment) -> None:
    """Leave the work of a run behind that was killed when it began to write its upload."""
    _more_pictures(store)
    with TemporaryDirectory(dir=store.root.parent) as folder:
        boundaries = broken_off(_encrypt_words()(store.copy(Path(folder) / "store"))).boundaries
    names = [Path(boundary.place).name for boundary in boundaries]
    begin = next(at for at, name in enumerate(names, start=1) if name.startswith(".more.h5."))
    assert broken_off(_encrypt_words()(store), "kill", begin).outcome is None
    assert list((store / "north" / "partial").glob("*.spool"))


def _replaced_picture(store: Deployment) -> None:
    picture(30, size=(24, 16)).save(store / "pictures" / "north" / "a.png")


def _replace_words(*more: object) -> Callable[[Deployment], Words]:
    return lambda store: (
        *("owner", "encrypt", store / "north", store / "pictures" / "north", "--replace"),
        *("-o", store / "new.h5", *JOBS, *more),
    )


def _replacement(store: Deployment) -> None:
    _replaced_picture(store)
    done(*_replace_words()(store))


def _message_output(name: str) -> Callable[[Deployment], Any]:
    """Apply what was written, and tell what the cloud has then."""

    def output(store: Deployment) -> Any:
        done("cloud", "index", store / "cloud", store / name, *JOBS)
        return table(store / "cloud" / "index.h5", "upload")

    return output


def _deletion_words(store: Deployment) -> Words:
    return ("owner", "delete", store / "north", "a.png", "c.png", "-o", store / "delete.h5")


def _deletion(store: Deployment) -> None:
    done(*_deletion_words(store))


def _old_bytes(store: Deployment) -> Any:
    """Say whether the first upload's encryption of a picture that went is still anywhere at the cloud."""
    name = Owner.open(store / "north").name_on_the_wire("a.png")
    with open_container(store / "north.h5", upload_schema(store.public.parameters)) as container:
        upload = UploadReader(container, store.public.parameters)
        old = upload.encrypted_image(list(upload.names()).index(name))
    return any(old in path.read_bytes() for path in (store / "cloud").rglob("*") if path.is_file())


def _rotated(store: Deployment) -> None:
    done("owner", "rotate", store / "north")
    done("kmc", "enroll", store / "kmc", store / "north" / "enrolment.h5")


def _unneeded_key(store: Deployment) -> None:
    """Leave a former key of an owner behind that no image is under any more."""
    _rotated(store)
    done(*_replace_words()(store))
    done("cloud", "index", store / "cloud", store / "new.h5", *JOBS)


def _owner_keys(store: Deployment) -> Any:
    """Tell which keys the owner has, and what alice finds once the KMC knows of what was written."""
    run("kmc", "enroll", store / "kmc", store / "north" / "enrolment.h5")
    first = json.loads((store / "north-was" / "secrets.json").read_bytes())["image"].encode()
    files = [path for path in (store / "north").rglob("*") if path.is_file()]
    return {
        "former keys": len(Owner.open(store / "north").former_image_keys),
        "first key is there": any(first in path.read_bytes() for path in files),
        "found with these keys": answer(store, "alice"),
    }


def _renewed(store: Deployment) -> None:
    _search(store)
    done("kmc", "rotate", store / "kmc")


def _kmc_keys(store: Deployment) -> Any:
    """Tell whether an old query is answered, whether a key was published, and what alice finds with it."""
    published = (store / "kmc" / "sealing.pub").exists()
    old = run("kmc", "reencrypt", store / "kmc", store / "results.h5", "-o", store / "back.h5").code
    if published:
        run("user", "renew", store / "alice", store / "kmc" / "sealing.pub")
    return old, published, answer(store, "alice")


def _live(store: Deployment) -> Any:
    return sorted(image.path for image in Owner.open(store / "north").ledger.live())


def _remembered(store: Deployment) -> Any:
    found = run("user", "decrypt", store / "alice", store / "back.h5", "-o", store / "found")
    return found.code


def _protection(store: Deployment) -> Any:
    """Tell what opens, and whether a key of alice stands in plain anywhere."""
    secrets = store / "alice-was" / "secrets.json"
    key = json.loads(secrets.read_bytes())["signing"].encode()
    files = [path for path in (store / "alice").rglob("*") if path.is_file()]
    return {
        "what was asked before": _back_output(store),
        "keys in plain": any(key in path.read_bytes() for path in files),
    }


def _protected(store: Deployment) -> None:
    _reencrypt(store)
    done("protect", store / "alice", "--new-passphrase-file", store / "first.txt")


def _kmc(store: Deployment, *more: object) -> Words:
    return ("--kmc", store / "kmc" / "kmc.pub", *more)


COMMANDS = [
    Command(
        "kmc init",
        lambda store: ("kmc", "init", store / "new", "--scheme", "mask"),
        files=("new",),
        replaceable=False,
        output=_role_output("role", "new"),
    ),
    Command(
        "cloud init",
        lambda store: ("cloud", "init", store / "new", *_kmc(store)),
        files=("new",),
        replaceable=False,
        output=_role_output("role", "new"),
    ),
    Command(
        "user init",
        lambda store: ("user", "init", store / "new", "--id", "carol", *_kmc(store)),
        files=("new",),
        replaceable=False,
        output=_role_output("role", "new"),
    ),
    Command(
        "owner init",
        lambda store: (
            "owner",
            "init",
            store / "new",
            "--id",
            "lake",
            *_kmc(store, "--authorize", store / "bob/user.pub"),
        ),
        files=("new",),
        replaceable=False,
        output=_role_output("role", "new"),
    ),
    Command(
        "owner authorize", lambda store: ("owner", "authorize", store / "north", store / "bob" / "user.pub")
    ),
    Command("owner revoke", lambda store: ("owner", "revoke", store / "north", "alice")),
    Command(
        "kmc enroll",
        lambda store: (
            "kmc",
            "enroll",
            store / "kmc",
            *(store / owner / "enrolment.h5" for owner in ("north", "south")),
        ),
        prepare=_authorize_both,
    ),
    Command(
        "cloud enroll",
        lambda store: (
            "cloud",
            "enroll",
            store / "cloud",
            *(store / owner / "members.h5" for owner in ("north", "south")),
        ),
        prepare=_authorize_both,
    ),
    Command(
        "owner encrypt",
        _encrypt_words(),
        prepare=_more_pictures,
        again=_encrypt_words("--resume"),
        files=("more.h5",),
        output=_uploads_output,
    ),
    Command(
        "owner encrypt --split",
        _encrypt_words("--split", "1kB"),
        prepare=_more_pictures,
        again=_encrypt_words("--split", "1kB", "--resume"),
        files=("more-001.h5",),
        in_steps=True,
        output=_uploads_output,
    ),
    Command(
        "cloud index",
        lambda store: ("cloud", "index", store / "cloud", store / "more.h5", *JOBS),
        prepare=_more_upload,
    ),
    Command(
        "user query",
        lambda store: (
            "user",
            "query",
            store / "alice",
            store / "pictures" / "query.png",
            "-o",
            store / "query.h5",
        ),
        files=("query.h5",),
        output=_query_output,
    ),
    Command(
        "cloud search",
        lambda store: (
            "cloud",
            "search",
            store / "cloud",
            store / "query.h5",
            "-o",
            store / "results.h5",
            *JOBS,
        ),
        prepare=_ask,
        files=("results.h5",),
        output=_results_output,
    ),
    Command(
        "kmc reencrypt",
        lambda store: (
            "kmc",
            "reencrypt",
            store / "kmc",
            store / "results.h5",
            "-o",
            store / "back.h5",
        ),
        prepare=_search,
        files=("back.h5",),
        output=_back_output,
    ),
    Command(
        "user decrypt",
        lambda store: ("user", "decrypt", store / "alice", store / "back.h5", "-o", store / "found"),
        prepare=_reencrypt,
        files=("found",),
        output=lambda store: matches(store / "found"),
    ),
    Command(
        "owner encrypt --resume",
        _encrypt_words("--resume"),
        prepare=_interrupted,
        again=_encrypt_words("--resume"),
        files=("more.h5",),
        output=_uploads_output,
    ),
    Command(
        "owner encrypt --replace",
        _replace_words(),
        prepare=_replaced_picture,
        again=_replace_words("--resume"),
        files=("new.h5",),
        output=_message_output("new.h5"),
    ),
    Command("owner delete", _deletion_words, files=("delete.h5",), output=_message_output("delete.h5")),
    Command(
        "owner withdraw",
        lambda store: ("owner", "withdraw", store / "north", store / "north.h5"),
        files=("north",),
        output=_live,
    ),
    Command(
        "owner rotate",
        lambda store: ("owner", "rotate", store / "north"),
        repeats=True,
        files=("north",),
        output=_owner_keys,
    ),
    Command(
        "owner forget-key",
        lambda store: ("owner", "forget-key", store / "north"),
        prepare=_unneeded_key,
        files=("north",),
        output=_owner_keys,
    ),
    Command(
        "owner renew",
        lambda store: ("owner", "renew", store / "north", store / "kmc" / "sealing.pub"),
        prepare=_renewed,
        files=("north/sealing.pub",),
        output=_owner_keys,
    ),
    Command(
        "user renew",
        lambda store: ("user", "renew", store / "alice", store / "kmc" / "sealing.pub"),
        prepare=_renewed,
        files=("alice/sealing.pub",),
        output=_kmc_keys,
    ),
    Command(
        "user forget",
        lambda store: ("user", "forget", store / "alice", store / "query.h5"),
        prepare=_reencrypt,
        files=("alice",),
        output=_remembered,
    ),
    Command(
        "kmc rotate",
        lambda store: ("kmc", "rotate", store / "kmc"),
        prepare=_search,
        files=("kmc",),
        output=_kmc_keys,
    ),
    Command(
        "kmc forget-key",
        lambda store: ("kmc", "forget-key", store / "kmc"),
        prepare=_renewed,
        files=("kmc",),
        output=_kmc_keys,
    ),
    Command("kmc remove", lambda store: ("kmc", "remove", store / "kmc", "north")),
    Command(
        "cloud remove",
        lambda store: ("cloud", "remove", store / "cloud", "north"),
        files=("cloud",),
        output=_old_bytes,
        in_steps=True,
    ),
    Command(
        "cloud index (delete)",
        lambda store: ("cloud", "index", store / "cloud", store / "delete.h5", *JOBS),
        prepare=_deletion,
        files=("cloud",),
        output=_old_bytes,
    ),
    Command(
        "cloud index (replace)",
        lambda store: ("cloud", "index", store / "cloud", store / "new.h5", *JOBS),
        prepare=_replacement,
        files=("cloud",),
        output=_old_bytes,
    ),
    Command(
        "cloud index --rebuild",
        lambda store: ("cloud", "index", store / "cloud", "--rebuild", *JOBS),
        prepare=_more_upload,
    ),
    Command(
        "protect",
        lambda store: ("protect", store / "alice", "--new-passphrase-file", store / "first.txt"),
        prepare=_reencrypt,
        files=("alice",),
        output=_protection,
        in_steps=True,
    ),
    Command(
        "protect (change)",
        lambda store: (
            *("protect", store / "alice", *opening(store / "alice")),
            *("--new-passphrase-file", store / "second.txt"),
        ),
        prepare=_protected,
        files=("alice",),
        output=lambda store: opening(store / "alice")[1:] == (store / "second.txt",),
    ),
    Command(
        "protect --remove",
        lambda store: ("protect", store / "alice", "--remove", *opening(store / "alice")),
        prepare=_protected,
        files=("alice",),
        output=_protection,
        in_steps=True,
    ),
]
