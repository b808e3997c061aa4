"""The commands that work otherwise under scheme `exact`, to be broken off there too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mipp_cli.containers.container import header_of
from mipp_cli.roles.owner import Owner
from tests.deployment import Deployment, done
from tests.faults import commands
from tests.faults.commands import COMMANDS, Command, Words

_SAME = (
    *("kmc enroll", "kmc remove", "cloud remove", "cloud index --rebuild", "user query", "kmc reencrypt"),
    *("cloud index", "cloud index (delete)", "cloud index (replace)"),
)
_OF_OWNERS = {"owner encrypt": "more.h5", "owner encrypt --replace": "new.h5", "owner delete": "delete.h5"}


def _searched(store: Deployment) -> None:
    commands._ask(store)
    done("cloud", "search", store / "cloud", store / "query.h5", "-o", store / "candidates.h5")


def _ranked(store: Deployment) -> None:
    _searched(store)
    done("kmc", "rank", store / "kmc", store / "candidates.h5", "-o", store / "selection.h5")


def _selection_output(store: Deployment) -> Any:
    # who was killed before the ranking was noted ranks again; the selection is good all the same
    done("kmc", "rank", store / "kmc", store / "candidates.h5", "-o", store / "noted.h5")
    return _selected(store)


def _candidates_output(store: Deployment) -> Any:
    done("kmc", "rank", store / "kmc", store / "candidates.h5", "-o", store / "selection.h5")
    # who was killed before the query was noted searches again; the candidates are good all the same
    done("cloud", "search", store / "cloud", store / "query.h5", "-o", store / "noted.h5")
    return _selected(store)


def _selected(store: Deployment) -> Any:
    done("cloud", "collect", store / "cloud", store / "selection.h5", "-o", store / "results.h5")
    return commands._results_output(store)


def _after_withdrawal(words: Callable[[Deployment], Words], name: str) -> Callable[[Deployment], Words]:
    """Return a command as it is run again: what the ledger lists and never got out is withdrawn first."""

    def again(store: Deployment) -> Words:
        files = [store / name, store / "north.h5"]
        out = {header_of(path).sequence_number for path in files if path.exists()}
        for message in reversed(Owner.open(store / "north").ledger.in_force()):
            if message.number not in out:
                done("owner", "withdraw", store / "north", message.number)
        return words(store)

    return again


def _of_owner(command: Command) -> Command:
    words = command.again or command.words
    return replace(command, again=_after_withdrawal(words, _OF_OWNERS[command.name]))


EXACT = [
    *(command for command in COMMANDS if command.name in _SAME),
    *(_of_owner(command) for command in COMMANDS if command.name in _OF_OWNERS),
    Command(
        "cloud search (exact)",
        lambda store: ("cloud", "search", store / "cloud", store / "query.h5", "-o", store / "candidates.h5"),
        prepare=commands._ask,
        files=("candidates.h5",),
        output=_candidates_output,
    ),
    Command(
        "kmc rank",
        lambda store: ("kmc", "rank", store / "kmc", store / "candidates.h5", "-o", store / "selection.h5"),
        prepare=_searched,
        files=("selection.h5",),
        output=_selection_output,
    ),
    Command(
        "cloud collect",
        lambda store: (
            "cloud",
            "collect",
            store / "cloud",
            store / "selection.h5",
            "-o",
            store / "results.h5",
        ),
        prepare=_ranked,
        files=("results.h5",),
        output=commands._results_output,
    ),
]
