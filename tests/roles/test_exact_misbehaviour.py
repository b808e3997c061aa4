"""Scheme `exact`: what a cloud gains by putting things in each other's place, and by answers of its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mipp_cli.containers.results import Match
from tests.deployment import done, refused, snapshot
from tests.roles.exact_deployment import NORTH, SOUTH, Exact
from tests.roles.exact_owner import features_of
from tests.roles.forgery import changed_results, contents_of
from tests.roles.test_kmc_rank import Offer, check_refused, forged, selection_of

QUERY = np.random.default_rng(7).integers(0, 8, (1, 80), dtype=np.uint8)


def _between_chunks(offer: Offer) -> None:
    chunks = offer.owners["north"][1]
    chunks[0], chunks[1] = chunks[1], chunks[0]


def _between_owners(offer: Offer) -> None:
    north, south = offer.owners["north"][1], offer.owners["south"][1]
    north[0], south[0] = south[0], north[0]


@pytest.mark.parametrize(("swap", "lost"), [(_between_chunks, 6), (_between_owners, 6)])
def test_chunks_in_each_others_place_do_not_open(
    exact: Exact, swap: Callable[[Offer], object], lost: int
) -> None:
    candidates = forged(exact, exact.ask(QUERY), swap)
    words = (exact / "kmc", candidates, "-o", exact / "selection.h5", "--json")
    report = done("kmc", "rank", *words).json
    assert (report["counts"]["left out"], report["counts"]["images ranked"]) == (lost, 12 - lost)


def test_chunks_of_two_uploads_of_an_owner_in_each_others_place_do_not_open(exact: Exact) -> None:
    exact.index(exact.south.upload(features_of(["one", "two", "three"])))

    def swap(offer: Offer) -> None:  # the first of each upload: both have three rows
        chunks = offer.owners["south"][1]
        chunks[0], chunks[2] = chunks[2], chunks[0]

    candidates = forged(exact, exact.ask(QUERY), swap)
    words = (exact / "kmc", candidates, "-o", exact / "selection.h5", "--json")
    assert done("kmc", "rank", *words).json["counts"]["left out"] == 6


def test_an_older_ciphertext_of_a_chunk_does_not_open_under_the_newest_manifest(exact: Exact) -> None:
    older = exact.north.encrypted(exact.north.chunks[0].place)[1]
    exact.index(exact.north.delete([NORTH[0]]))

    def bring_back(offer: Offer) -> None:
        offer.owners["north"][1][0] = older

    words = (exact / "kmc", forged(exact, exact.ask(QUERY), bring_back), "-o", exact / "x.h5", "--json")
    assert done("kmc", "rank", *words).json["counts"]["left out"] == 2


def test_an_older_manifest_with_the_chunks_that_it_lists_is_refused_once_a_newer_was_ranked(
    exact: Exact,
) -> None:
    kept: list[tuple[bytes, list[bytes]]] = []
    forged(exact, exact.ask(QUERY), lambda offer: kept.append(offer.owners["south"]))
    exact.index(exact.south.delete([SOUTH[0]]))
    newer = exact.ask(QUERY)
    newer.search()
    newer.rank()

    def bring_back(offer: Offer) -> None:
        offer.owners["south"] = kept[0]

    assert "older" in check_refused(exact, 6, forged(exact, exact.ask(QUERY), bring_back))


@pytest.mark.parametrize("more", ["twice", "other"])
def test_results_with_more_images_than_were_selected_are_refused(exact: Exact, more: str) -> None:
    asked, wide = exact.ask(QUERY, candidates=2), exact.ask(QUERY, candidates=50)
    for each in (asked, wide):
        each.search()
        each.rank()
        each.collect()
    had = {image[0].name for image in contents_of(exact.deployment, asked.file("results")).images}
    others = contents_of(exact.deployment, wide.file("results")).images
    extra = next(image for image in others if (image[0].name in had) == (more == "twice"))
    spoilt = changed_results(
        exact.deployment, asked.file("results"), lambda contents: contents.images.append(extra)
    )
    before = snapshot(exact / "kmc")
    refused(3, "kmc", "reencrypt", exact / "kmc", spoilt, "-o", exact / "x.h5")
    assert snapshot(exact / "kmc") == before


def test_a_cloud_that_marks_decoys_as_matches_is_refused(exact: Exact) -> None:
    asked = exact.ask(QUERY, candidates=1)
    asked.search()
    asked.rank("--decoys", 3)
    spoilt = changed_results(
        exact.deployment,
        asked.collect(),
        lambda contents: contents.matches.extend(Match(0, number, 0.0) for number in range(4)),
    )
    refused(3, "kmc", "reencrypt", exact / "kmc", spoilt, "-o", exact / "x.h5")


def test_a_selection_that_the_cloud_signed_itself_is_refused_and_changes_nothing(exact: Exact) -> None:
    asked = exact.ask(QUERY)
    asked.search()
    made_up = selection_of(exact, asked, [], exact.deployment.sender("cloud"))
    before = snapshot(exact / "cloud")
    outcome = refused(8, "cloud", "collect", exact / "cloud", made_up, "-o", exact / "x.h5")
    assert "is not signed by the KMC" in outcome.err
    assert snapshot(exact / "cloud") == before


def test_a_user_whom_the_kmc_revoked_since_gets_no_answer_to_what_was_selected(exact: Exact) -> None:
    asked = exact.ask(QUERY, candidates=50)
    asked.search()
    asked.rank()
    asked.collect()
    done("owner", "revoke", exact / "south", "alice")
    done("kmc", "enroll", exact / "kmc", exact / "south" / "enrolment.h5")
    assert (
        "south"
        in refused(4, "kmc", "reencrypt", exact / "kmc", asked.file("results"), "-o", exact / "x.h5").err
    )
