"""What has not come of what an owner sent, as the index alone knows it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mipp_cli.cloud.completeness import completeness
from mipp_cli.containers.messages.earlier import LIMIT
from mipp_cli.containers.store.index import Index, Segment

NORTH = Segment("north", 7, 8, 9, b"\1" * 32, b"\2" * 32)
SOUTH = Segment("south", 5, 6, 2, b"\3" * 32, b"\4" * 32)


def of_north(number: int, *earlier: int, rows: int = 1) -> Segment:
    return replace(NORTH, number=number, rows=rows, earlier=earlier)


@pytest.mark.parametrize(
    ("listed", "gaps"),
    [
        ((), ()),
        ((of_north(7),), ()),
        ((of_north(7, 5),), (5,)),
        ((of_north(9, 7), of_north(7)), ()),
        ((of_north(7), of_north(9, 7, 8)), (8,)),
        ((of_north(9, 7, 8), of_north(7)), (8,)),
        ((of_north(7, 5), of_north(9, 7)), ()),
    ],
)
def test_gaps_are_what_the_newest_message_misses(listed: tuple[Segment, ...], gaps: tuple[int, ...]) -> None:
    index = Index(3, (replace(SOUTH, number=99, earlier=(1,)), *listed))
    assert completeness(None, index, "north").gaps == gaps


@pytest.mark.parametrize(
    ("listed", "unlisted"),
    [
        ((of_north(7), of_north(9)), (7,)),
        ((of_north(7), of_north(9, 7)), ()),
        ((of_north(7, rows=0), of_north(9)), ()),
        ((of_north(5), of_north(7), of_north(9, 5)), (7,)),
        ((of_north(9, 5), of_north(7), of_north(5)), (7,)),
    ],
)
def test_uploads_that_the_owner_does_not_know_of_are_told(
    listed: tuple[Segment, ...], unlisted: tuple[int, ...]
) -> None:
    index = Index(3, (replace(SOUTH, number=3), *listed))
    assert completeness(None, index, "north").unlisted == unlisted


def test_a_truncated_list_says_nothing_of_older_messages() -> None:
    for last, unlisted in ((8 + LIMIT, ()), (7 + LIMIT, (7,))):
        index = Index(3, (of_north(7), of_north(10**6, *range(8, last))))
        assert completeness(None, index, "north").unlisted == unlisted
