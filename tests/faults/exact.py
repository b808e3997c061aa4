"""The commands of scheme `exact` that are broken off: what goes to the KMC, and what it ranks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mipp_cli.kmc.kmc import Kmc
from mipp_cli.kmc.store import FeatureStore
from tests.faults.command import Command, Words
from tests.faults.messages import (
    all_but,
    aside,
    bytes_kept,
    changed,
    changed_picture,
    code_of,
    complete_at_cloud,
    delete_words,
    deletion,
    encrypt,
    encrypt_words,
    four_messages,
    index,
    index_words,
    interrupted,
    more_pictures,
    more_upload,
    unneeded_key,
)
from tests.faults.store import decrypted, kept_features, table
from tests.support.deployment import JOBS, Deployment, done, run

_FIRST = "north.features.h5"


def kmc_index_words(*files: str) -> Callable[[Deployment], Words]:
    """Return the words that bring files to the KMC."""
    return lambda store: ("kmc", "index", store / "kmc", *(store / file for file in files))


def _at_kmc(store: Deployment, *files: str) -> None:
    done(*kmc_index_words(*files)(store))


# what an owner makes


def _for_both(store: Deployment) -> Any:
    """Tell what is in the uploads and in the features files that were written, each by itself."""
    files = sorted(store.root.glob("more*.h5")) + sorted(store.root.glob("new*.h5"))
    features = [file.name for file in files if ".features" in file.name]
    uploads = [file.name for file in files if ".features" not in file.name]
    found: dict[str, Any] = {"for the cloud": None, "for the KMC": None}
    with aside(store) as copy:
        if uploads and run(*index_words(*uploads)(copy)).code == 0:
            found["for the cloud"] = table(copy / "cloud" / "index.h5", "upload")
        if features and run(*kmc_index_words(*features)(copy)).code == 0:
            found["for the KMC"] = kept_features(copy, "north")
    return found


def _applied_at_both(name: str) -> Callable[[Deployment], Any]:
    """Apply a deletion that was written; what both have then is part of what the store means."""

    def output(store: Deployment) -> Any:
        return [run(*words(name)(store)).code for words in (index_words, kmc_index_words)]

    return output


def _handed_out(store: Deployment) -> Any:
    """Tell which features files were handed out, and whether each is as it is kept."""
    kept = {f"{file.stem}.features.h5": _digest(file) for file in (store / "north" / "features").iterdir()}
    handed = {file.name: _digest(file) for file in (store / "handed").iterdir()}
    return sorted((name, kept.get(name) == digest) for name, digest in handed.items())


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _owner_commands() -> Iterator[Command]:
    pictures = {"of": "pictures/north", "output": "new.h5"}
    both = ("more.h5", "more.features.h5")
    yield Command(
        "owner encrypt",
        encrypt_words(),
        prepare=more_pictures,
        again=encrypt_words("--resume"),
        files=both,
        output=_for_both,
    )
    yield Command(
        "owner encrypt --split",
        encrypt_words("--split", "1kB"),
        prepare=more_pictures,
        again=encrypt_words("--split", "1kB", "--resume"),
        files=("more-001.h5", "more-001.features.h5"),
        in_steps=True,
        output=_for_both,
    )
    yield Command(
        "owner encrypt --resume",
        encrypt_words("--resume"),
        prepare=lambda store: interrupted(store, "more.features.h5"),
        again=encrypt_words("--resume"),
        files=both,
        output=_for_both,
    )
    yield Command(
        "owner encrypt (changed)",
        encrypt_words(**pictures),
        prepare=changed_picture,
        again=encrypt_words("--resume", **pictures),
        files=("new.h5", "new.features.h5"),
        output=_for_both,
    )
    yield Command(
        "owner features",
        lambda store: ("owner", "features", store / "north", "-o", store / "handed"),
        prepare=more_upload,
        files=("handed",),
        replaceable=False,
        output=_handed_out,
    )
    yield Command(
        "owner delete",
        delete_words("a.png", "c.png", "never.png"),
        files=("delete.h5",),
        output=_applied_at_both("delete.h5"),
    )


# what the KMC takes


def _spoil(number: int) -> Callable[[Deployment], None]:
    """Flip a byte in what the KMC keeps of north's first upload, or lose it, or lose what was deleted."""

    def prepare(store: Deployment) -> None:
        deletion(store)
        _at_kmc(store, "delete.h5")
        index(store, "delete.h5")
        folder = store / "kmc" / "features" / "north"
        block, deleted = next(folder.glob("*-*")), next(folder.glob("*.deleted"))
        if number == 0:
            data = bytearray(block.read_bytes())
            data[len(data) // 2] ^= 1
            block.write_bytes(data)
        else:
            (block if number == 1 else deleted).unlink()

    return prepare


def _four_at_cloud(store: Deployment) -> None:
    four_messages(store)
    index(store, "more.h5", "delete.h5", "back.h5", "changed.h5")


def _all_but_at_kmc(*late: str) -> Callable[[Deployment], None]:
    def prepare(store: Deployment) -> None:
        _four_at_cloud(store)
        files = ("more.features.h5", "delete.h5", "back.features.h5", "changed.features.h5")
        _at_kmc(store, *(file for file in files if file not in late))

    return prepare


def _changed_at_cloud(store: Deployment) -> None:
    changed(store)
    index(store, "new.h5")


def _forgotten(store: Deployment) -> None:
    """Let north forget a key of which the KMC still keeps features: what replaced them has not come."""
    unneeded_key(store)
    done("owner", "forget-key", store / "north", "--applied", complete_at_cloud(store))


def _back_after_removal(store: Deployment) -> None:
    more_upload(store)
    done("kmc", "remove", store / "kmc", "north", "--yes")
    done("owner", "authorize", store / "north", store / "alice" / "user.pub")
    encrypt(store, "--again", of="pictures/north", output="new.h5")


def _after_return(store: Deployment) -> Any:
    """Tell what the KMC takes of an owner who came back: not what was made before."""
    files = (_FIRST, "more.features.h5", "new.features.h5")
    return {f"takes {file}": code_of(store, kmc_index_words(file)) for file in files}


def _left_of_north(store: Deployment) -> Any:
    """Tell whether anything is left of north's features, and whether the key is that they lie under."""
    folder = store / "kmc" / "features" / "north"
    return {
        "features are there": folder.exists() and any(folder.iterdir()),
        "key is there": Kmc.open(store / "kmc").owner("north") is not None,
    }


def _repaired(store: Deployment) -> Any:
    """Tell whether every file that the KMC keeps of north opens."""
    kmc = Kmc.open(store / "kmc")
    owner = kmc.owner("north")
    assert owner is not None
    features = FeatureStore.of(kmc, owner)
    missing = [path for path in features.files(features.index()) if not path.exists()]
    return [not missing and ("damaged",) not in kept_features(store, "north")]


def _kmc_commands() -> Iterator[Command]:
    late_upload = ("more.features.h5", "delete.h5", "back.features.h5", "changed.features.h5")
    yield Command("kmc index", kmc_index_words("more.features.h5"), prepare=more_upload)
    yield Command("kmc index (delete)", kmc_index_words("delete.h5"), prepare=deletion)
    yield Command("kmc index (changed)", kmc_index_words("new.features.h5"), prepare=_changed_at_cloud)
    for file in ("more.features.h5", "delete.h5"):
        yield Command(f"kmc index (late {file})", kmc_index_words(file), prepare=_all_but_at_kmc(file))
    yield Command(
        "kmc index (mixed)",
        kmc_index_words(*reversed(late_upload), "delete.h5", "south.features.h5"),
        prepare=_four_at_cloud,
    )
    yield Command("kmc index (damaged)", kmc_index_words(_FIRST, "delete.h5"), prepare=_spoil(0))
    yield Command("kmc index (missing)", kmc_index_words(_FIRST), prepare=_spoil(1))
    yield Command("kmc index (lost deletion)", kmc_index_words("delete.h5"), prepare=_spoil(2), in_steps=True)
    yield Command("kmc enroll", _enroll_words, prepare=_authorize)
    yield Command(
        "kmc enroll (forgotten key)",
        _enroll_words,
        prepare=_forgotten,
    )
    yield Command(
        "kmc enroll (after a removal)",
        _enroll_words,
        prepare=_back_after_removal,
        files=("kmc",),
        output=_after_return,
    )
    yield Command(
        "kmc remove",
        lambda store: ("kmc", "remove", store / "kmc", "north", "--yes"),
        files=("kmc",),
        output=_left_of_north,
    )


def _authorize(store: Deployment) -> None:
    done("owner", "authorize", store / "north", store / "bob" / "user.pub")


def _enroll_words(store: Deployment) -> Words:
    return "kmc", "enroll", store / "kmc", store / "north" / "enrolment.h5"


# what is asked


def _ask(store: Deployment) -> None:
    done("user", "query", store / "alice", store / "pictures" / "query.png", "-o", store / "query.h5")


def _rank(store: Deployment) -> None:
    _ask(store)
    done("kmc", "rank", store / "kmc", store / "query.h5", "-o", store / "selection.h5")


def _search(store: Deployment) -> None:
    _rank(store)
    done("cloud", "search", store / "cloud", store / "selection.h5", "-o", store / "results.h5", *JOBS)


def _query_output(store: Deployment) -> Any:
    done("kmc", "rank", store / "kmc", store / "query.h5", "-o", store / "selection.h5", "--force")
    return _selection_output(store)


def _selection_output(store: Deployment) -> Any:
    done("cloud", "search", store / "cloud", store / "selection.h5", "-o", store / "results.h5", *JOBS)
    return _results_output(store)


def _results_output(store: Deployment) -> Any:
    done("kmc", "reencrypt", store / "kmc", store / "results.h5", "-o", store / "back.h5")
    return decrypted(store, "alice", store / "back.h5")


def _asked_commands() -> Iterator[Command]:
    yield Command(
        "user query",
        lambda store: (
            *("user", "query", store / "alice", store / "pictures" / "query.png"),
            *("-o", store / "query.h5"),
        ),
        files=("query.h5",),
        output=_query_output,
    )
    yield Command(
        "kmc rank",
        lambda store: ("kmc", "rank", store / "kmc", store / "query.h5", "-o", store / "selection.h5"),
        prepare=_ask,
        files=("selection.h5",),
        output=_selection_output,
    )
    yield Command(
        "cloud search",
        lambda store: (
            *("cloud", "search", store / "cloud", store / "selection.h5"),
            *("-o", store / "results.h5", *JOBS),
        ),
        prepare=_rank,
        files=("results.h5",),
        output=_results_output,
    )
    yield Command(
        "kmc reencrypt",
        lambda store: ("kmc", "reencrypt", store / "kmc", store / "results.h5", "-o", store / "back.h5"),
        prepare=_search,
        files=("back.h5",),
        output=lambda store: decrypted(store, "alice", store / "back.h5"),
    )


def _cloud_commands() -> Iterator[Command]:
    four = ("0.png", "1.png", "2.png", "3.png")
    yield Command("cloud index", index_words("more.h5"), prepare=more_upload)
    yield Command(
        "cloud index (delete)",
        index_words("delete.h5"),
        prepare=deletion,
        files=("cloud",),
        output=bytes_kept("north.h5", "a.png", "b.png"),
    )
    yield Command(
        "cloud index (late upload)",
        index_words("more.h5"),
        prepare=all_but("more.h5"),
        files=("cloud",),
        output=bytes_kept("more.h5", *four),
    )
    yield Command(
        "cloud index --rebuild",
        lambda store: ("cloud", "index", store / "cloud", "--rebuild", *JOBS),
        prepare=all_but("back.h5"),
    )


def _all() -> Iterator[Command]:
    yield from _owner_commands()
    yield from _kmc_commands()
    yield from _asked_commands()
    yield from _cloud_commands()


_ALSO_IN_OTHER_SCHEMES = ("user query", "cloud index", "kmc enroll (forgotten key)", "owner encrypt --")
_VARIANTS = ("kmc index (changed)", "kmc index (delete)", "kmc index (late more", "kmc index (missing)")
_LONG = (*_ALSO_IN_OTHER_SCHEMES, *_VARIANTS)
EXACT = [
    replace(each, name=f"{each.name}, exact", scheme="exact", is_like_another=each.name.startswith(_LONG))
    for each in _all()
]
