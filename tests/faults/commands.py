"""The commands that are broken off, each with how its store is prepared and what it writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.faults.command import Command, Words
from tests.faults.exact import EXACT
from tests.faults.messages import MESSAGES, owner_keys
from tests.faults.store import answer, decrypted, matches, opening
from tests.support.deployment import JOBS, Deployment, done, run


def ask(store: Deployment) -> None:
    done("user", "query", store / "alice", store / "pictures" / "query.png", "-o", store / "query.h5")


def search(store: Deployment) -> None:
    ask(store)
    store.search(store / "query.h5").rename(store / "results.h5")


def reencrypt(store: Deployment) -> None:
    search(store)
    done("kmc", "reencrypt", store / "kmc", store / "results.h5", "-o", store / "back.h5")


def query_output(store: Deployment) -> Any:
    store.search(store / "query.h5").rename(store / "results.h5")
    return results_output(store)


def results_output(store: Deployment) -> Any:
    done("kmc", "reencrypt", store / "kmc", store / "results.h5", "-o", store / "back.h5")
    return back_output(store)


def back_output(store: Deployment) -> Any:
    return decrypted(store, "alice", store / "back.h5")


def _authorize(store: Deployment, owner: str) -> None:
    done("owner", "authorize", store / owner, store / "bob" / "user.pub")


def authorize_both(store: Deployment) -> None:
    _authorize(store, "north")
    _authorize(store, "south")


def _role_output(kind: str, place: str) -> Callable[[Deployment], Any]:
    def output(store: Deployment) -> Any:
        lines = done("inspect", store / place).out.splitlines()
        names = {path.name for path in (store / place).iterdir() if not path.name.startswith(".")}
        return [line for line in lines if kind in line][:1], sorted(names)

    return output


def _renewed(store: Deployment) -> None:
    search(store)
    done("kmc", "rotate-key", store / "kmc")


def kmc_keys(store: Deployment) -> Any:
    """Tell whether an old query is answered, whether a key was published, and what alice finds with it."""
    published = (store / "kmc" / "sealing.pub").exists()
    old = run("kmc", "reencrypt", store / "kmc", store / "results.h5", "-o", store / "back.h5").code
    if published:
        run("user", "update-kmc-key", store / "alice", store / "kmc" / "sealing.pub")
    return old, published, answer(store, "alice")


def _remembered(store: Deployment) -> Any:
    found = run("user", "decrypt", store / "alice", store / "back.h5", "-o", store / "found")
    return found.code


def protection(store: Deployment) -> Any:
    """Tell what opens, and whether a key of alice stands in plain anywhere."""
    secrets = store / "alice-was" / "secrets.json"
    key = json.loads(secrets.read_bytes())["signing"].encode()
    answer = back_output(store)  # first: it clears away what a killed command left
    files = [path for path in (store / "alice").rglob("*") if path.is_file()]
    return {
        "what was asked before": answer,
        "keys in plain": any(key in path.read_bytes() for path in files),
    }


def _protected(store: Deployment) -> None:
    reencrypt(store)
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
        prepare=authorize_both,
    ),
    Command(
        "cloud enroll",
        lambda store: (
            "cloud",
            "enroll",
            store / "cloud",
            *(store / owner / "members.h5" for owner in ("north", "south")),
        ),
        prepare=authorize_both,
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
        output=query_output,
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
        prepare=ask,
        files=("results.h5",),
        output=results_output,
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
        prepare=search,
        files=("back.h5",),
        output=back_output,
    ),
    Command(
        "user decrypt",
        lambda store: ("user", "decrypt", store / "alice", store / "back.h5", "-o", store / "found"),
        prepare=reencrypt,
        files=("found",),
        output=lambda store: matches(store / "found"),
    ),
    Command(
        "owner update-kmc-key",
        lambda store: ("owner", "update-kmc-key", store / "north", store / "kmc" / "sealing.pub"),
        prepare=_renewed,
        files=("north/sealing.pub",),
        output=owner_keys,
    ),
    Command(
        "user update-kmc-key",
        lambda store: ("user", "update-kmc-key", store / "alice", store / "kmc" / "sealing.pub"),
        prepare=_renewed,
        files=("alice/sealing.pub",),
        output=kmc_keys,
    ),
    Command(
        "user forget",
        lambda store: ("user", "forget", store / "alice", store / "query.h5"),
        prepare=reencrypt,
        files=("alice",),
        in_steps=True,  # what is deleted stays deleted, even if that cannot be synced
        output=_remembered,
    ),
    Command(
        "kmc rotate-key",
        lambda store: ("kmc", "rotate-key", store / "kmc"),
        prepare=search,
        files=("kmc",),
        output=kmc_keys,
    ),
    Command(
        "kmc forget-key",
        lambda store: ("kmc", "forget-key", store / "kmc"),
        prepare=_renewed,
        files=("kmc",),
        output=kmc_keys,
    ),
    Command("kmc remove", lambda store: ("kmc", "remove", store / "kmc", "north", "--yes")),
    Command(
        "protect",
        lambda store: ("protect", store / "alice", "--new-passphrase-file", store / "first.txt"),
        prepare=reencrypt,
        files=("alice",),
        output=protection,
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
        output=protection,
    ),
    *MESSAGES,
    *EXACT,
]

# what the ordinary tests do in one scheme, or one way, alone
_LIKE_OTHERS = (
    "owner encrypt",
    "owner encrypt (changed)",
    "owner encrypt --split",
    "owner encrypt --again",
    "owner delete",
    "owner revoke",
    "owner update-kmc-key",
    "kmc enroll",
    "kmc enroll (after a removal)",
    "kmc remove",
    "cloud index",
    "cloud index (late deletion)",
    "cloud index (mixed)",
)
COMMANDS = [replace(each, is_like_another=True) if each.name in _LIKE_OTHERS else each for each in COMMANDS]
