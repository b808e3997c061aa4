"""`kmc rank` and `cloud collect`: what cloud, owners and others may try, and what they get."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from mipp_cli.containers.candidates import OwnerFeatures, open_candidates, write_candidates
from mipp_cli.containers.container import Sender
from mipp_cli.containers.selection import SelectedRow, read_selection, write_selection
from mipp_cli.errors import MalformedError
from mipp_cli.roles.kmc_rank import rank
from mipp_cli.roles.ranking import Ranking
from mipp_cli.roles.state_files import read_state, write_state
from mipp_cli.scheme.keys import SigningKey
from tests.deployment import Deployment, done, refused, run, snapshot
from tests.roles.exact_deployment import NORTH, SOUTH, Asked, Exact
from tests.roles.exact_owner import features_of
from tests.roles.forgery import changed_results, stranger

QUERY = np.random.default_rng(7).integers(0, 8, (1, 80), dtype=np.uint8)


@dataclass
class Offer:
    """What candidates hold, to be changed before they are written again."""

    number: str
    query: bytes
    owners: dict[str, tuple[bytes, list[bytes]]]


def forged(
    exact: Exact, asked: Asked, change: Callable[[Offer], object], sender: Sender | None = None
) -> Path:
    """Write what a dishonest cloud would make of candidates."""
    reader = open_candidates(asked.search(), exact.deployment.public.fingerprint)
    with reader.container:
        chunks = iter([reader.chunk(number) for number in range(len(reader))])
        sizes = {owner.name: len(owner.chunks) for owner in (exact.north, exact.south)}
        owners = {
            owner: (manifest, [next(chunks) for _ in range(sizes[owner])])
            for owner, manifest in reader.manifests()
        }
        offer = Offer(reader.container.header.number, reader.query_octets, owners)
    change(offer)
    features = [
        OwnerFeatures(owner, manifest, [len(each) for each in own], lambda own=own: own)
        for owner, (manifest, own) in offer.owners.items()
    ]
    path = asked.file("forged")
    write_candidates(
        path, sender or exact.deployment.sender("cloud"), offer.number, offer.query, features, force=True
    )
    return path


def check_refused(exact: Exact, code: int, candidates: Path, *options: object) -> str:
    """Demand that a ranking is refused and leaves nothing."""
    before = snapshot(exact / "kmc")
    outcome = refused(code, "kmc", "rank", exact / "kmc", candidates, "-o", exact / "x.h5", *options)
    assert not (exact / "x.h5").exists()
    assert snapshot(exact / "kmc") == before
    return outcome.err


def _drop_chunk(offer: Offer) -> None:
    offer.owners["north"][1].pop()


def _add_chunk(offer: Offer) -> None:
    offer.owners["south"][1].append(offer.owners["south"][1][0])


def _other_owner(offer: Offer) -> None:
    offer.owners["north"] = (offer.owners["south"][0], offer.owners["north"][1])


def _unauthorised(offer: Offer) -> None:
    offer.owners["lake"] = (offer.owners["south"][0], [])


def _other_id(offer: Offer) -> None:
    offer.number = "0" * 32


@pytest.mark.parametrize(
    ("change", "code"),
    [(_drop_chunk, 3), (_add_chunk, 3), (_other_owner, 3), (_unauthorised, 4), (_other_id, 3)],
)
def test_candidates_that_a_cloud_tampered_with_are_refused(
    exact: Exact, change: Callable[[Offer], object], code: int
) -> None:
    check_refused(exact, code, forged(exact, exact.ask(QUERY), change))


def test_candidates_of_a_cloud_that_was_not_enrolled_are_refused(exact: Exact) -> None:
    sender = stranger(exact.deployment, "cloud")
    check_refused(exact, 4, forged(exact, exact.ask(QUERY), lambda _: None, sender))


def test_a_manifest_that_its_owner_did_not_sign_is_refused(exact: Exact) -> None:
    from mipp_cli.containers.manifest import write_manifest

    fake = Sender("north", SigningKey.generate(), exact.deployment.public.fingerprint)
    write_manifest(exact / "fake", fake, 2**62, exact.north.chunks)

    def change(offer: Offer) -> None:
        offer.owners["north"] = ((exact / "fake").read_bytes(), offer.owners["north"][1])

    check_refused(exact, 9, forged(exact, exact.ask(QUERY), change))


def test_a_user_who_was_revoked_since_is_refused(exact: Exact) -> None:
    candidates = exact.ask(QUERY).search()
    done("owner", "revoke", exact / "north", "alice")
    done("kmc", "enroll", exact / "kmc", exact / "north" / "enrolment.h5")
    assert "north" in check_refused(exact, 4, candidates)


def test_features_older_than_those_ranked_before_are_refused(exact: Exact) -> None:
    old = exact.ask(QUERY)
    old.search()
    exact.index(exact.north.delete([NORTH[0]]))
    new = exact.ask(QUERY)
    new.search()
    new.rank()
    assert "older" in check_refused(exact, 6, old.file("candidates"))


def test_an_owner_of_whom_features_were_seen_must_not_be_missing(exact: Exact) -> None:
    first = exact.ask(QUERY)
    first.search()
    first.rank()
    hidden = forged(exact, exact.ask(QUERY), lambda offer: offer.owners.pop("south"))
    assert "south" in check_refused(exact, 9, hidden)


def test_an_owner_who_has_nothing_at_the_cloud_yet_is_not_missing(exact: Exact) -> None:
    done("owner", "authorize", exact / "lake", exact / "alice" / "user.pub")
    exact.deployment.enroll_all()
    asked = exact.ask(QUERY, candidates=50)
    matches, _, _ = asked.read(asked.answered())
    assert matches == [set(exact.nearest(QUERY[0], 50))]


def test_an_owner_who_was_removed_and_came_back_cannot_be_shown_old_features_of(exact: Exact) -> None:
    first, second = exact.ask(QUERY), exact.ask(QUERY)
    for asked in (first, second):
        asked.search()
    first.rank()
    done("kmc", "remove", exact / "kmc", "north")
    done("owner", "authorize", exact / "north", exact / "eve" / "user.pub")
    done("kmc", "enroll", exact / "kmc", exact / "north" / "enrolment.h5")
    assert "older" in check_refused(exact, 6, second.file("candidates"))
    done("kmc", "check", exact / "kmc")


def test_the_same_candidates_give_the_same_selection_again(exact: Exact) -> None:
    asked = exact.ask(QUERY)
    asked.search()
    public = exact.deployment.public
    selections = [read_selection(asked.rank("--decoys", 3), public.fingerprint).images for _ in range(2)]
    assert selections[0] == selections[1]
    assert len(selections[0]) == 6
    asked.search()
    assert read_selection(asked.rank("--decoys", 3), public.fingerprint).images == selections[0]


def test_a_query_is_not_ranked_again_with_other_features_or_decoys(exact: Exact) -> None:
    asked = exact.ask(QUERY)
    asked.search()
    asked.rank()
    assert "--decoys 0" in check_refused(exact, 6, asked.file("candidates"), "--decoys", 1)
    exact.index(exact.north.delete([NORTH[0]]))
    assert "other features" in check_refused(exact, 6, asked.search())


@pytest.mark.parametrize("decoys", [-1, 1_000_001])
def test_an_impossible_number_of_decoys_is_refused(exact: Exact, decoys: int) -> None:
    check_refused(exact, 2, exact / "alice" / "user.pub", "--decoys", decoys)


def test_a_selection_does_not_tell_matches_from_decoys_or_the_order(exact: Exact) -> None:
    asked = exact.ask(QUERY)
    asked.search()
    selection = read_selection(asked.rank("--decoys", 2), exact.deployment.public.fingerprint)
    assert list(selection.images) == sorted(selection.images)
    report = done("inspect", asked.file("selection"), "--csv").out
    assert len(report.splitlines()) == 1 + 5


def test_decoys_are_drawn_evenly_from_what_does_not_match(exact: Exact) -> None:
    drawn = []
    for _ in range(25):
        asked = exact.ask(QUERY)
        asked.search()
        rank(exact / "kmc", asked.file("candidates"), asked.file("selection"), decoys=4)
        images = read_selection(asked.file("selection"), exact.deployment.public.fingerprint).images
        drawn += [(image.owner, image.chunk, image.row) for image in images]
    counts = sorted(drawn.count(place) for place in set(drawn))
    assert counts[-3:] == [25, 25, 25]
    assert len(counts) == 12 and sum(counts[:9]) == 100 and counts[0] >= 2  # 11 each on average


def _spoil_chunk(offer: Offer) -> None:
    chunk = offer.owners["north"][1][1]
    offer.owners["north"][1][1] = chunk[:-1] + bytes([chunk[-1] ^ 1])


def test_images_whose_features_do_not_open_are_left_out_and_counted(exact: Exact) -> None:
    asked = exact.ask(QUERY, candidates=50)
    shutil.copy(forged(exact, asked, _spoil_chunk), asked.file("candidates"))
    words = (exact / "kmc", asked.file("candidates"), "-o", asked.file("selection"), "--json")
    report = done("kmc", "rank", *words).json
    assert (report["counts"]["left out"], report["counts"]["images ranked"]) == (3, 9)
    assert "left out images of north (3)" in " ".join(report["warnings"])
    asked.collect()
    matches, _, left_out = asked.read(asked.reencrypt())
    assert matches == [{("north", name) for name in NORTH[:3] + NORTH[6:]} | {("south", n) for n in SOUTH}]
    assert left_out == 3


def test_if_no_features_open_that_is_an_error(exact: Exact) -> None:
    def spoil(offer: Offer) -> None:
        for _, chunks in offer.owners.values():
            chunks[:] = [chunk[:-1] + bytes([chunk[-1] ^ 1]) for chunk in chunks]

    check_refused(exact, 3, forged(exact, exact.ask(QUERY), spoil))


def test_codes_that_no_feature_has_are_left_out(exact: Exact) -> None:
    exact.index(exact.south.upload({"odd": np.full(80, 9, dtype=np.uint8)}))
    asked = exact.ask(QUERY, candidates=50)
    asked.search()
    words = (exact / "kmc", asked.file("candidates"), "-o", asked.file("selection"), "--json")
    assert done("kmc", "rank", *words).json["counts"]["left out"] == 1


def test_an_image_with_another_feature_than_the_one_ranked_is_left_out(exact: Exact) -> None:
    near = {"lure": QUERY[0]}  # ranked first, whatever it shows
    exact.index(exact.south.upload(near, hidden=features_of(["lure"])))
    asked = exact.ask(QUERY)
    matches, images, left_out = asked.read(asked.answered())
    assert ("south", "lure") not in images
    assert (len(matches[0]), left_out) == (2, 1)


def reencryption_refused(exact: Exact, code: int, results: Path) -> str:
    outcome = refused(code, "kmc", "reencrypt", exact / "kmc", results, "-o", exact / "x.h5")
    assert not (exact / "x.h5").exists()
    return outcome.err


def test_results_of_a_query_that_was_not_ranked_are_refused(exact: Exact) -> None:
    first, second = exact.ask(QUERY), exact.ask(QUERY)
    first.answered()
    second.search()
    number, octets = second.path.read_bytes().split(b"\n")[3].removeprefix(b"number ").decode(), second.path

    def change(contents: object) -> None:
        contents.query_id, contents.query = number, octets.read_bytes()  # type: ignore[attr-defined]

    forged_results = changed_results(exact.deployment, first.file("results"), change)
    assert "did not rank" in reencryption_refused(exact, 4, forged_results)


@pytest.mark.parametrize("change", ["drop", "swap", "upload", "match"])
def test_results_that_are_not_the_selection_are_refused(exact: Exact, change: str) -> None:
    from mipp_cli.containers.results import Match

    asked = exact.ask(QUERY, candidates=8)
    asked.answered()

    def spoil(contents: object) -> None:
        images = contents.images  # type: ignore[attr-defined]
        if change == "drop":
            images.pop()
        elif change == "swap":
            images.reverse()
        elif change == "upload":
            images[0] = (replace(images[0][0], upload=5), images[0][1])
        else:
            contents.matches.append(Match(0, 0, 0.0))  # type: ignore[attr-defined]

    assert "selected" in reencryption_refused(
        exact, 3, changed_results(exact.deployment, asked.file("results"), spoil)
    )


def test_another_image_of_the_same_upload_in_the_place_of_one_selected_is_left_out(exact: Exact) -> None:
    asked = exact.ask(QUERY, candidates=1)
    asked.search()
    asked.rank()
    asked.collect()
    ((owner, name),) = exact.nearest(QUERY[0], 1)
    other = exact.ask(QUERY, candidates=50)
    other.search()
    other.rank()
    from tests.roles.forgery import contents_of

    images = contents_of(exact.deployment, other.collect()).images
    lure = next(image for image in images if image[0].owner == owner and image[0].name != name)

    def swap(contents: object) -> None:
        contents.images[0] = lure  # type: ignore[attr-defined]

    forged_results = changed_results(exact.deployment, asked.file("results"), swap)
    assert "other features" in reencryption_refused(exact, 3, forged_results)


def collect_refused(exact: Exact, code: int, selection: Path) -> str:
    before = snapshot(exact / "cloud")
    outcome = refused(code, "cloud", "collect", exact / "cloud", selection, "-o", exact / "x.h5")
    assert not (exact / "x.h5").exists()
    assert snapshot(exact / "cloud") == before
    return outcome.err


def test_a_selection_of_a_collection_that_changed_since_is_refused(exact: Exact) -> None:
    asked = exact.ask(QUERY, candidates=50)
    asked.search()
    asked.rank()
    exact.index(exact.north.delete([NORTH[0]]))
    assert "make" in collect_refused(exact, 9, asked.file("selection"))


def test_a_selection_outlives_changes_that_do_not_touch_its_chunks(exact: Exact) -> None:
    asked = exact.ask(QUERY, candidates=1)
    asked.search()
    asked.rank()
    ((owner, name),) = exact.nearest(QUERY[0], 1)
    far = [NORTH[7]] if (owner, name) != ("north", NORTH[7]) and name not in NORTH[6:] else [NORTH[0]]
    exact.index(exact.north.delete(far))
    asked.collect()
    matches, _, _ = asked.read(asked.reencrypt())
    assert matches == [{(owner, name)}]


def selection_of(exact: Exact, asked: Asked, images: list[SelectedRow], sender: Sender | None = None) -> Path:
    number = asked.path.read_bytes().split(b"\n")[3].removeprefix(b"number ").decode()
    path = asked.file("forged-selection")
    write_selection(
        path, sender or exact.deployment.sender("kmc"), number, asked.path.read_bytes(), images, force=True
    )
    return path


def test_a_selection_that_the_centre_did_not_sign_is_refused(exact: Exact) -> None:
    asked = exact.ask(QUERY)
    asked.search()
    collect_refused(exact, 8, selection_of(exact, asked, [], stranger(exact.deployment, "kmc")))


def test_a_selection_for_a_query_that_was_never_searched_is_refused(exact: Exact) -> None:
    assert "search" in collect_refused(exact, 4, selection_of(exact, exact.ask(QUERY), []))


def test_a_selection_of_an_owner_who_did_not_authorise_the_user_is_refused(exact: Exact) -> None:
    asked = exact.ask(QUERY, user="bob")
    asked.search()
    chunk = exact.north.chunks[0]
    row = SelectedRow("north", chunk.place, 0, chunk.version)
    assert "north" in collect_refused(exact, 4, selection_of(exact, asked, [row]))


def test_the_steps_of_scheme_exact_are_refused_in_other_schemes(
    deployment: Deployment, tmp_path: Path
) -> None:
    query, results = deployment / "alice.query.h5", deployment / "alice.results.h5"
    refused(2, "kmc", "rank", deployment / "kmc", results, "-o", tmp_path / "x.h5")
    refused(2, "cloud", "collect", deployment / "cloud", query, "-o", tmp_path / "x.h5")


def test_a_scan_without_index_is_refused_under_exact(exact: Exact) -> None:
    words = (exact / "cloud", exact.ask(QUERY).path, "-o", exact / "x.h5", "--without-index")
    refused(2, "cloud", "search", *words)


def test_an_existing_selection_is_not_overwritten(exact: Exact) -> None:
    asked = exact.ask(QUERY)
    asked.search()
    asked.rank()
    before = asked.file("selection").read_bytes()
    outcome = run("kmc", "rank", exact / "kmc", asked.file("candidates"), "-o", asked.file("selection"))
    assert outcome.code == 10
    assert asked.file("selection").read_bytes() == before


def test_what_the_centre_remembers_of_rankings_is_checked(exact: Exact) -> None:
    asked = exact.ask(QUERY)
    asked.search()
    asked.rank("--decoys", 1)
    counts = done("kmc", "check", exact / "kmc", "--json").json["counts"]
    assert (counts["rankings"], counts["manifests"]) == (1, 2)
    for file in [*(exact / "kmc" / "rankings").iterdir(), *(exact / "kmc" / "manifests").iterdir()]:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        assert file.name in refused(3, "kmc", "check", exact / "kmc").err


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        '["00", "00", 0, 0]',
        '["xx", "00", 0, 0, []]',
        '["00", "00", 0, 0, [["north"]]]',
        '["00", "00", 0, 0, [[1, 2, 3, 4, 5, 6, [], ""]]]',
        '["00", "00", 0, 0, [["north", "2", 3, 4, 5, 6, [], ""]]]',
        '["00", "00", 0, 0, [["north", 2, 3, 4, 5, 6, {}, ""]]]',
        '["00", "00", 0, 0, [["north", 2, 3, 4, 5, 6, [], "x"]]]',
    ],
)
def test_the_record_of_a_ranking_is_read_or_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        Ranking.from_text(text)


def test_a_query_under_the_id_of_another_is_not_ranked(exact: Exact) -> None:
    """Another query of the same user, signed with the same id: the cloud passes on the first alone."""
    asked = exact.ask(QUERY)
    asked.search()
    asked.rank()
    record = next((exact / "kmc" / "rankings").iterdir())
    fields = read_state(record)
    write_state(record, {"content": fields["content"].replace('["', '["00', 1)})
    assert "another query" in check_refused(exact, 6, asked.file("candidates"))
