"""Questions where the KMC ranks: each step on the way to the pictures compared with the models."""

from __future__ import annotations

import csv
import io
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mipp_cli.containers.base.container import header_of
from mipp_cli.containers.messages.selection import read_selection
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.kmc.ranking import read_ranking
from tests.soak.exact_world import codes_of
from tests.soak.model import Place, Stored, live_in_group
from tests.soak.world import USERS

if TYPE_CHECKING:
    from tests.soak.exact_life import ExactLife

_SHOWN = 3  # numbers of messages that an answer names of an owner
Group = tuple[str, int, int]  # owner, number of the upload, place in it


@dataclass
class Due:
    """What a ranking is to find: the matches, nearest first, and the group of each; and of each owner.

    ``sealed_to`` is the KMC's key to which the query was sealed.
    """

    sealed_to: int = 0
    matches: list[Place] = field(default_factory=list)
    groups: dict[Place, Group] = field(default_factory=dict)
    contents: dict[Place, bytes] = field(default_factory=dict)
    searched: dict[str, dict[str, Any]] = field(default_factory=dict)

    def matched(self, group: Group) -> set[str]:
        """Return the images of a group that match."""
        return {place[1] for place in self.matches if self.groups[place] == group}


class Questions:
    """Asks as a user, and follows the question through the KMC and the cloud, and back."""

    def __init__(self, life: ExactLife):
        self._life = life

    def ask(self, user: str, *, share: float = 0.3) -> None:
        """Ask as a user for the nearest few or for all, of all owners or of those named.

        Between two steps something else happens in a ``share`` of all times.
        """
        life, draw = self._life, self._life.random
        candidates = draw.choice([1, 2, 3, 5, 8, 999])
        named = draw.sample(sorted(life.owners), draw.randint(1, 2)) if draw.random() < 0.2 else []
        query = self._query(user, candidates, named)
        selection, results, answer = (life.path(name) for name in ("selection", "results", "answer"))
        due = self._rank(user, candidates, named, query, selection)
        if due is None:
            return
        if draw.random() < share:
            life.meanwhile()
        brought = self._search(due, selection, results)
        if draw.random() < share:
            life.meanwhile()
        if draw.random() < 0.2:
            self._rank_again(user, named, query, selection)
        if self._answer(user, due, brought, results, answer) and draw.random() < share:
            life.meanwhile()
            self._answer_again(user, due, brought, selection, results)

    def _query(self, user: str, candidates: int, named: list[str]) -> Path:
        life, query = self._life, self._life.path("query")
        words = (life.root / user, life.root / "query.png", "-o", query, "--candidates", candidates)
        only = [word for owner in named for word in ("--owner", owner)]
        life.expect(0, "user", "query", *words, *only)
        return query

    def _trusting(self, user: str) -> list[str]:
        return sorted(name for name, each in self._life.kmc.enrolled.items() if user in each.users)

    def _rank(self, user: str, candidates: int, named: list[str], query: Path, selection: Path) -> Due | None:
        """Have a query ranked, and compare what is selected with what is due."""
        life, owners = self._life, self._trusting(user)
        asked = [owner for owner in owners if owner in named or not named]
        nothing = not any(each["images"] for each in self._due(asked, candidates).searched.values())
        code = 4 if not asked else 8 if life.user_sealing[user] not in life.kmc.opens else 2 if nothing else 0
        words = ("kmc", "rank", life.root / "kmc", query, "-o", selection, "--json")
        outcome = life.expect(code, *words)
        if code:
            return None
        due = self._due(asked, candidates, self._ranked(selection))
        due.sealed_to = life.user_sealing[user]
        for owner in named:
            due.searched.setdefault(owner, {"images": None, "unranked": 0, "gaps": []})
        counts = outcome.json["counts"]
        searched = [each for each in due.searched.values() if each["images"] is not None]
        groups = {*due.groups.values()}
        assert [counts[name] for name in ("owners", "images ranked", "images not ranked", "matches")] == [
            *(len(searched), sum(each["images"] for each in searched)),
            *(sum(each["unranked"] for each in searched), len(due.matches)),
        ]
        assert self._selected(selection) == groups
        life.figures["images ranked"] += counts["images ranked"]
        life.figures["images not ranked"] += counts["images not ranked"]
        return due

    def _ranked(self, selection: Path) -> list[Place]:
        """Return what the KMC remembers as matches, which decides between images at one distance."""
        life = self._life
        ranking = read_ranking(Kmc.open(life.root / "kmc").directory, _number(selection))
        assert ranking is not None
        names = {
            (owner, life.digest_of(owner, path)): path
            for owner in life.kmc.enrolled
            for path in life.features.images(owner)
        }
        images = [
            (group.ref.owner, bytes.fromhex(name)) for group in ranking.groups for name in group.matched
        ]
        return [(images[match.image][0], names[images[match.image]]) for match in ranking.matches]

    def _due(self, owners: list[str], candidates: int, ranked_so: Sequence[Place] = ()) -> Due:
        """Return the nearest live images of ``owners`` among what the KMC has the features of.

        Of images at one distance those come first that ``ranked_so`` has, in its order.
        """
        life, due = self._life, Due()
        sought = codes_of((life.root / "query.png").read_bytes()).astype(np.int64)
        found: list[tuple[int, int, Place, Group, bytes]] = []
        for owner in owners:
            images, ranked = life.features.images(owner), 0
            for path, stored in images.items():
                number = life.features.rows[owner][path]
                if not self._has_key(owner, stored) or (owner, number) in life.features.uncoded:
                    continue
                ranked += 1
                distance = int(((codes_of(stored.content).astype(np.int64) - sought) ** 2).sum())
                place = owner, path
                tie = ranked_so.index(place) if place in ranked_so else len(ranked_so)
                group = owner, number, life.features.applied[owner][number].places[path]
                found.append((distance, tie, place, group, stored.content))
            gaps = life.features.gaps(owner)
            due.searched[owner] = {"images": ranked, "unranked": len(images) - ranked, "gaps": gaps[:_SHOWN]}
        for _, _, place, group, content in sorted(found)[:candidates]:
            due.matches.append(place)
            due.groups[place], due.contents[place] = group, content
        assert not ranked_so or due.matches == list(ranked_so)
        return due

    def _has_key(self, owner: str, stored: Stored) -> bool:
        return stored.key in self._life.kmc.keys.get(owner, ())

    def _selected(self, selection: Path) -> set[Group]:
        deployment = Kmc.open(self._life.root / "kmc").directory.deployment.fingerprint
        return {
            (each.owner, each.upload, each.group) for each in read_selection(selection, deployment).groups
        }

    def _rank_again(self, user: str, named: list[str], query: Path, selection: Path) -> None:
        """The same query selects the same groups, whatever came meanwhile."""
        life, before = self._life, self._selected(selection)
        asked = [owner for owner in self._trusting(user) if owner in named or not named]
        code = 0 if asked else 4
        life.expect(code, "kmc", "rank", life.root / "kmc", query, "-o", selection, "--force")
        assert self._selected(selection) == before

    def _search(self, due: Due, selection: Path, results: Path) -> dict[Group, set[str]]:
        """Have the cloud bring the groups, and compare how much it brings."""
        life = self._life
        words = ("cloud", "search", life.root / "cloud", selection, "-o", results, "--json", "--force")
        counts = life.expect(0, *words).json["counts"]
        brought = {group: live_in_group(life.cloud, *group) for group in {*due.groups.values()}}
        here = [rows for rows in brought.values() if rows]
        assert (counts["images"], counts["groups not here"]) == (
            sum(map(len, here)),
            len(brought) - len(here),
        )
        return brought

    def _answer(
        self, user: str, due: Due, brought: dict[Group, set[str]], results: Path, answer: Path
    ) -> bool:
        """Have what was brought re-encrypted and decrypted, and compare every picture and every count."""
        life, opens = self._life, self._opens(due)
        words = ("kmc", "reencrypt", life.root / "kmc", results, "-o", answer, "--json")
        outcome = life.expect(0 if opens else 8, *words)
        if not opens:
            return False
        real, searched = self._real(user, due, brought)
        counts = outcome.json["counts"]
        for name in ("bad", "missing", "withdrawn"):
            assert counts[name] == sum(each[name] for each in searched.values())
            life.figures[f"told {name}"] += counts[name]
        assert counts["images received"] == sum(map(len, brought.values()))
        folder = answer.with_suffix("")
        opened = ("user", "decrypt", life.root / user, answer, "-o", folder, "--top", 999, "--json")
        told = life.expect(0, *opened).json["searched"]
        assert {
            owner: {name: told[owner][name] for name in each} for owner, each in searched.items()
        } == searched
        assert {*told} == {*searched}
        rows = list(csv.DictReader(io.StringIO((folder / "matches.csv").read_text())))
        assert [(row["owner"], row["name"]) for row in rows] == real
        for row in rows:
            content = due.contents[row["owner"], row["name"]]
            assert (folder / row["file"]).read_bytes() == content
        life.figures["pictures decrypted"] += len(rows)
        shutil.rmtree(folder)
        return True

    def _opens(self, due: Due) -> bool:
        return due.sealed_to in self._life.kmc.opens

    def _real(
        self, user: str, due: Due, brought: dict[Group, set[str]]
    ) -> tuple[list[Place], dict[str, dict[str, Any]]]:
        """Return which matches the user gets now, and what is said of each owner."""
        life, real = self._life, set[Place]()
        found: dict[str, dict[str, Any]] = {
            owner: {**each, "bad": 0, "missing": 0, "withdrawn": 0, "unread": False}
            for owner, each in due.searched.items()
        }
        lacking: defaultdict[str, set[int]] = defaultdict(set)
        trusting = self._trusting(user)
        for group, rows in brought.items():
            owner, number, _ = group
            live = live_in_group(life.features, *group) if owner in trusting else set[str]()
            matched = due.matched(group)
            for path in live | rows | matched:
                stored = life.features.applied[owner][number].images[path] if live else None
                if path not in live:
                    found[owner]["withdrawn"] += path in matched
                elif path not in rows:
                    found[owner]["missing"] += 1
                    lacking[owner].add(number)
                elif stored is None or not self._has_key(owner, stored):
                    found[owner]["withdrawn"] += path in matched
                elif path in matched:
                    real.add((owner, path))
        for owner, each in found.items():
            each["uploads"] = sorted(lacking[owner])[:_SHOWN]
        return [place for place in due.matches if place in real], found

    def _answer_again(
        self, user: str, due: Due, brought: dict[Group, set[str]], selection: Path, results: Path
    ) -> None:
        """The same results are answered again; others, which the cloud brings now, are refused."""
        life, opens = self._life, self._opens(due)
        self._answer(user, due, brought, results, life.path("answer-again"))
        now = life.path("others")
        others = self._search(due, selection, now)
        code = 8 if not opens else 0 if others == brought else 6
        words = ("kmc", "reencrypt", life.root / "kmc", now, "-o", life.path("other-answer"))
        life.expect(code, *words)
        life.figures["other answers refused"] += code == 6

    def ask_beside_damage(self, owner: str, number: int) -> None:
        """Ask while what the KMC keeps of an upload is damaged: the rest is ranked, and that is said."""
        life = self._life
        user = next((user for user in USERS if user in life.kmc.enrolled[owner].users), None)
        if user is None or life.user_sealing[user] not in life.kmc.opens:
            return
        query, selection = self._query(user, 999, []), life.path("selection")
        words = ("kmc", "rank", life.root / "kmc", query, "-o", selection, "--json")
        due = self._due(self._trusting(user), 999)
        if not any(each["images"] for name, each in due.searched.items() if name != owner):
            return  # there may be nothing left to rank
        outcome = life.expect(0, *words)
        stored = life.features.images(owner)
        lost = [path for path in stored if life.features.rows[owner][path] == number]
        coded = (owner, number) not in life.features.uncoded
        ranked = sum(each["images"] for each in due.searched.values())
        got = outcome.json["counts"]["images ranked"]
        assert got == ranked - (len(lost) if coded and self._has_key(owner, stored[lost[0]]) else 0)
        assert got == ranked or str(number) in outcome.out + outcome.err


def _number(query: Path) -> str:
    """Return the id of a query."""
    return header_of(query).number
