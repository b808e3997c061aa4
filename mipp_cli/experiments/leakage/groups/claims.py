"""Claims about selections of groups: each measure at the largest number of observed queries."""

from __future__ import annotations

from collections.abc import Sequence

from mipp_cli.experiments.base.bootstrap import Interval
from mipp_cli.experiments.base.result import Claim, Observation, column, where
from mipp_cli.experiments.leakage.groups.images import AND_SIZES, COUNTS, SELECTIONS
from mipp_cli.experiments.leakage.groups.queries import GOT, OWN

NAME = "leakage-groups"
IMAGE, QUERIES, REPEATED, READ = "category of an image", "queries alike", "repeated query", "query read"
MORE_SEEN = (COUNTS, SELECTIONS + AND_SIZES, COUNTS + AND_SIZES)

_CLAIMED = "the similarity of images does not leak to the cloud"


def settings_of(observations: Sequence[Observation]) -> list[tuple[int, int]]:
    """Return the settings measured: (group size, decoys per match)."""
    return list(dict.fromkeys((row["group_size"], row["decoys"]) for row in observations))


def setting_label(setting: tuple[int, int]) -> str:
    """Return the name of a setting."""
    size, decoys = setting
    if decoys:
        return f"{decoys} fresh decoys per match"
    return "no groups" if size == 1 else f"groups of {size}"


def queries_of(observations: Sequence[Observation]) -> list[int]:
    """Return the numbers of observed queries, ascending."""
    return sorted({row["queries"] for row in observations if row["queries"]})


def best(
    observations: Sequence[Observation],
    measure: str,
    setting: tuple[int, int],
    queries: int,
    *seen: str,
    attacker: str | None = None,
) -> Observation | None:
    """Return the matching row with the largest share, or None.

    Without ``seen`` or ``attacker``, rows match whatever was seen, and by any attacker.
    """
    size, decoys = setting
    rows = where(observations, measure=measure, group_size=size, decoys=decoys, queries=queries)
    kept = [row for row in rows if (not seen or row["from"] in seen) and attacker in (None, row["attacker"])]
    return max(kept, key=lambda row: row["share"], default=None)


def interval_of(row: Observation) -> Interval:
    """Return the share of a row with its interval."""
    return Interval(row["share"], row["low"], row["high"])


def group_claims(observations: Sequence[Observation]) -> list[Claim]:
    """Return claims about images, about queries, and about queries if a user colludes with the cloud."""
    if not queries_of(observations):
        return []
    most = queries_of(observations)[-1]
    settings = {setting: setting_label(setting) for setting in settings_of(observations)}

    def said(measure: str, *seen: str) -> str:
        found = ((label, best(observations, measure, each, most, *seen)) for each, label in settings.items())
        parts = [f"{label} {interval_of(row).percent}" for label, row in found if row is not None]
        return ", ".join(parts) or "was not measured"

    def chance(measure: str) -> str:
        values = column(where(observations, measure=measure), "chance")
        return f"chance {100 * values.mean() if len(values) else 0:.1f} %"

    above: dict[str, list[str]] = {"Better": [], "Not better": []}
    for each, label in settings.items():
        row = best(observations, IMAGE, each, most, SELECTIONS)
        if row is not None:
            above["Better" if row["share"] > row["shuffled_high"] else "Not better"].append(label)
    compared = [f"{how} than shuffled categories: {', '.join(who)}." for how, who in above.items() if who]
    image = (
        f"after {most} queries in scheme exact, share of the 10 images most often selected with an image "
        f"that are of its category ({chance(IMAGE)}; without images of its group; the better of two "
        f"attackers): {said(IMAGE, SELECTIONS)}. Also using counts and sizes: {said(IMAGE, *MORE_SEEN)}. "
        f"{' '.join(compared)}"
    )
    query = (
        f"after {most} queries, share of the 10 queries most similar to a query that are of its category "
        f"({chance(QUERIES)}): {said(QUERIES)}. Share of repeated queries recognised: {said(REPEATED)}. "
        "Groups do not hide which queries are similar, since these select the same groups."
    )
    read = (
        f"after {most} queries, a tenth of them by a user who colludes with the cloud, share of queries "
        f"whose category is guessed right ({chance(READ)}) from the images that this user got: "
        f"{said(READ, GOT)}; from its own queries: {said(READ, OWN)}. Groups help little against somebody "
        "who knows the pictures."
    )
    conclusions = (
        _conclusion(above),
        _above_chance(observations, QUERIES, settings, most),
        _above_chance(observations, READ, settings, most),
    )
    texts = zip((image, query, read), conclusions, strict=True)
    return [Claim("section 6.2", _CLAIMED, text, conclusion) for text, conclusion in texts]


def _conclusion(above: dict[str, list[str]]) -> str:
    if not above["Better"]:
        return "not refuted: no better than shuffled categories"
    if not above["Not better"]:
        return "not confirmed: better than shuffled in every setting"
    return f"not confirmed: better than shuffled with {', '.join(above['Better'])}"


def _above_chance(
    observations: Sequence[Observation], measure: str, settings: dict[tuple[int, int], str], most: int
) -> str:
    found = {label: best(observations, measure, each, most) for each, label in settings.items()}
    measured = {label: row for label, row in found.items() if row is not None}
    above = [label for label, row in measured.items() if row["low"] > row["chance"]]
    if not measured:
        return "not measured"
    if not above:
        return "not refuted: no better than chance"
    if len(above) == len(measured):
        return "not confirmed: better than chance in every setting"
    return f"not confirmed: better than chance with {', '.join(above)}"
