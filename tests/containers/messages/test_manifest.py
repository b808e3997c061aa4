"""The manifest is as long as its room, says what was put into it, and is read in one form alone."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.containers.messages.manifest import Manifest, ManifestMatch, SearchedOwner
from mipp_cli.errors import MalformedError

DIGEST = "ab" * 32
OWNER_BYTES = 512  # of the room for an owner, and for the rest
ENTRY_BYTES = 20
LARGEST = 2**63 - 1
LONGEST_NAME = "n" * 64
OWNERS = (SearchedOwner("north", 5, bad=1, uploads=(7, 9), gaps=(8,)), SearchedOwner("south"))
MATCHES = (ManifestMatch(0, 1, "north", 25), ManifestMatch(1, 1, "north"), ManifestMatch(0, 0, "south", 0))
MANIFEST = Manifest(DIGEST, 3, OWNERS, MATCHES, 2)

numbers = st.integers(0, LARGEST)
lists = st.lists(numbers, max_size=5).map(tuple)
identifiers = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}", fullmatch=True)
searched_owners = st.builds(
    SearchedOwner, identifiers, st.none() | numbers, numbers, numbers, numbers, numbers, lists, lists
)


@st.composite
def manifests(draw: st.DrawFn, owners: int = 5, matches: int = 12) -> Manifest:
    """Draw a manifest with at most so many owners and matches."""
    searched = draw(st.lists(searched_owners, max_size=owners, unique_by=lambda owner: owner.name))
    images = draw(st.integers(1, 2**32 - 1))
    names = [owner.name for owner in searched]
    match = st.builds(
        ManifestMatch,
        st.integers(0, 2**32 - 2),
        st.integers(0, images - 1),
        st.sampled_from(names or ["nobody"]),
        st.none() | st.integers(0, 2**64 - 2),
    )
    found = draw(st.lists(match, max_size=matches)) if names else []
    return Manifest(DIGEST, images, tuple(searched), tuple(found), draw(numbers))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(manifests(), st.integers(12, 40), st.integers(5, 20))
def test_a_manifest_comes_back_with_as_many_numbers_as_fit(
    manifest: Manifest, capacity: int, owners: int
) -> None:
    shortened = tuple(owner.shortened() for owner in manifest.owners)
    assert Manifest.unpack(manifest.pack(capacity, owners)) == replace(manifest, owners=shortened)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(manifests(), st.integers(12, 40), st.integers(5, 20))
def test_the_length_of_a_manifest_depends_on_its_room_alone(
    manifest: Manifest, capacity: int, owners: int
) -> None:
    length = len(manifest.pack(capacity, owners))
    assert length == 4 + OWNER_BYTES * (owners + 1) + ENTRY_BYTES * capacity
    assert length == len(Manifest(DIGEST, 0, (), ()).pack(capacity, owners))


def test_the_longest_that_can_be_said_of_owners_fits_their_room() -> None:
    numbers = (LARGEST - 1, LARGEST, LARGEST)
    longest = SearchedOwner(LONGEST_NAME, LARGEST, LARGEST, LARGEST, LARGEST, LARGEST, numbers, numbers)
    assert len(json.dumps(asdict(longest), separators=(",", ":"))) < OWNER_BYTES
    owners = tuple(replace(longest, name=f"{number:064d}") for number in range(100))
    manifest = Manifest("f" * 64, 2**32 - 1, owners, (), LARGEST)
    assert Manifest.unpack(manifest.pack(0, 100)) == manifest


def test_of_many_numbers_a_manifest_keeps_the_first_three() -> None:
    owner = SearchedOwner("north", 5, uploads=tuple(range(10)), gaps=tuple(range(20, 24)))
    packed = Manifest(DIGEST, 0, (owner,), ()).pack(0, 1)
    assert Manifest.unpack(packed).owners[0] == replace(owner, uploads=(0, 1, 2), gaps=(20, 21, 22))


@pytest.mark.parametrize(("capacity", "owners"), [(2, 2), (0, 2), (3, 1), (3, 0), (-1, 2), (3, -1)])
def test_a_manifest_without_enough_room_is_refused(capacity: int, owners: int) -> None:
    assert Manifest.unpack(MANIFEST.pack(3, 2)) == MANIFEST
    with pytest.raises(MalformedError, match="room"):
        MANIFEST.pack(capacity, owners)


def test_a_manifest_that_says_too_much_is_refused_and_not_cut() -> None:
    with pytest.raises(MalformedError, match="too long"):
        replace(MANIFEST, query_digest="f" * 2000).pack(3, 2)


# What cannot be said


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "../x"},
        {"name": "n" * 65},
        {"images": -1},
        {"images": 2**63},
        {"images": True},
        {"images": False},
        {"images": ""},
        {"images": 5.0},
        {"unranked": None},
        {"bad": -1},
        {"missing": 1.0},
        {"withdrawn": "1"},
        {"uploads": (1, -1)},
        {"uploads": ("1",)},
        {"gaps": (2**63,)},
        {"gaps": (True,)},
    ],
    ids=str,
)
def test_what_cannot_be_said_of_an_owner_is_malformed(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        SearchedOwner(**{"name": "north", "images": 5, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"images": -1},
        {"images": 2**32},
        {"images": 1},
        {"left_out": -1},
        {"owners": (*OWNERS, SearchedOwner("north"))},
        {"owners": OWNERS[:1]},
        {"matches": (ManifestMatch(0, 3, "north"),)},
        {"matches": (ManifestMatch(0, -1, "north"),)},
        {"matches": (ManifestMatch(-1, 0, "north"),)},
        {"matches": (ManifestMatch(2**32 - 1, 0, "north"),)},
        {"matches": (ManifestMatch(0, 0, "lake"),)},
        {"matches": (ManifestMatch(0, 0, "north", -1),)},
        {"matches": (ManifestMatch(0, 0, "north", 2**64 - 1),)},
    ],
    ids=lambda change: str(change)[:50],
)
def test_a_manifest_that_cannot_be_is_never_made(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        replace(MANIFEST, **change)


# What is read


def spelled(*, entries: bytes | None = None, pad: int = OWNER_BYTES * 3, **fields: object) -> bytes:
    """Spell a manifest as it is packed, with other fields or entries; ``...`` leaves a field out."""
    said = {
        "query": DIGEST,
        "images": 3,
        "owners": [asdict(owner) for owner in OWNERS],
        "left_out": 2,
        **fields,
    }
    text = json.dumps({name: said[name] for name in said if said[name] is not ...}, separators=(",", ":"))
    return framed(text.encode().ljust(pad), entries)


def framed(head: bytes, entries: bytes | None = None) -> bytes:
    packed = b"".join(map(entry, MATCHES)) if entries is None else entries
    return len(head).to_bytes(4, "big") + head + packed


def entry(match: ManifestMatch) -> bytes:
    distance = 2**64 - 1 if match.distance is None else match.distance
    owner = [each.name for each in OWNERS].index(match.owner)
    return raw_entry(match.query, match.image, owner, distance)


def raw_entry(query: int, image: int, owner: int, distance: int) -> bytes:
    return b"".join(each.to_bytes(4, "little") for each in (query, image, owner)) + distance.to_bytes(
        8, "little"
    )


PADDING = raw_entry(2**32 - 1, 0, 0, 0)
MATCH = entry(MATCHES[0])
NORTH = asdict(OWNERS[0])


def test_a_manifest_spelled_as_it_is_packed_is_read() -> None:
    assert MANIFEST.pack(3, 2) == spelled()
    assert Manifest.unpack(spelled()) == MANIFEST
    assert Manifest.unpack(spelled(entries=PADDING * 4)).matches == ()
    assert Manifest.unpack(spelled(entries=MATCH + PADDING)).matches == MATCHES[:1]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(3),
        bytes(4),
        bytes(5000),
        b"\xff" * 5000,
        b"\xff\xff\xff\xff" + spelled()[4:],
        framed(b""),
        framed(b"{".ljust(512)),
        framed(b"[]".ljust(512)),
        framed(b"null".ljust(512)),
        framed(b"\xff".ljust(512)),
        framed(b"[" * 512 * 200),
        spelled(query=...),
        spelled(query=7),
        spelled(query=None),
        spelled(images=...),
        spelled(images="3"),
        spelled(images=3.0),
        spelled(images=True),
        spelled(images=None),
        spelled(images=-1),
        spelled(images=2**70),
        spelled(images=float("inf")),
        spelled(images=float("nan")),
        spelled(owners=...),
        spelled(owners=None),
        spelled(owners={}),
        spelled(owners="north"),
        spelled(owners=[]),
        spelled(owners=[None]),
        spelled(owners=["north"]),
        spelled(owners=[[]]),
        spelled(owners=[{}]),
        spelled(owners=[NORTH, NORTH]),
        spelled(owners=[{**NORTH, "note": 1}]),
        spelled(owners=[{**NORTH, "name": None}]),
        spelled(owners=[{**NORTH, "images": False}], entries=MATCH),
        spelled(owners=[{**NORTH, "images": ""}], entries=MATCH),
        spelled(owners=[{**NORTH, "bad": None}], entries=MATCH),
        spelled(owners=[{**NORTH, "uploads": 5}], entries=MATCH),
        spelled(owners=[{**NORTH, "uploads": "ab"}], entries=MATCH),
        spelled(owners=[{**NORTH, "uploads": {"a": 1}}], entries=MATCH),
        spelled(owners=[{**NORTH, "uploads": [[]]}], entries=MATCH),
        spelled(owners=[{**NORTH, "uploads": [1, 2, 3, 4]}], entries=MATCH),
        spelled(left_out=...),
        spelled(left_out="2"),
        spelled(left_out=True),
        spelled(left_out=2.0),
        spelled(left_out=None),
        spelled(left_out=-1),
        spelled(note="hello"),
        spelled().replace(b'{"query"', b'{"query":"00","query"').replace(b" " * 13, b"", 1),
        spelled().replace(b",", b", ", 1).replace(b"  ", b" ", 1),
        spelled(pad=OWNER_BYTES * 3 - 1),
        spelled(pad=OWNER_BYTES * 3 + 1),
        spelled(pad=OWNER_BYTES * 2),
        spelled(pad=0),
        spelled() + b"\0",
        spelled()[:-1],
        spelled(entries=raw_entry(0, 3, 0, 0)),
        spelled(entries=raw_entry(0, 0, 2, 0)),
        spelled(entries=raw_entry(0, 0, 2**32 - 1, 0)),
        spelled(entries=PADDING + MATCH),
        spelled(entries=MATCH + PADDING + MATCH),
        spelled(entries=raw_entry(2**32 - 1, 1, 0, 0)),
        spelled(entries=raw_entry(2**32 - 1, 0, 0, 7)),
        framed(b'{"left_out":' + b"9" * 5000 + b"}"),
    ],
    ids=lambda data: f"{data[:60].decode('ascii', 'replace')}… {len(data)} bytes",
)
def test_a_manifest_of_another_form_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        Manifest.unpack(data)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=400), st.binary(max_size=60))
def test_no_bytes_upset_the_reading_of_a_manifest(head: bytes, entries: bytes) -> None:
    for data in (head + entries, framed(head, entries), framed(b'{"query":' + head, entries)):
        with pytest.raises(MalformedError):
            Manifest.unpack(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.sampled_from(["query", "images", "owners", "left_out", "note", *NORTH]),
    json_values,
    st.binary(max_size=40).filter(lambda data: len(data) % ENTRY_BYTES),
)
def test_no_json_upsets_the_reading_of_a_manifest(field: str, value: object, entries: bytes) -> None:
    """Entries that are cut short make sure that none of them may be read."""
    spoiled = spelled(owners=[{**NORTH, field: value}], entries=entries)
    for data in (spoiled, spelled(**{field: value}, entries=entries)):
        with pytest.raises(MalformedError):
            Manifest.unpack(data)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.integers(0, len(spelled()) - 1), st.integers(1, 255), st.data())
def test_what_is_read_would_be_written_as_it_was_read(place: int, change: int, data: st.DataObject) -> None:
    changed = bytearray(spelled())
    changed[place] ^= change
    for _ in range(data.draw(st.integers(0, 2))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        manifest = Manifest.unpack(bytes(changed))
    except MalformedError:
        return
    assert manifest.pack(3, 2) == bytes(changed)


def test_a_length_that_the_manifest_only_claims_takes_no_memory() -> None:
    import tracemalloc

    tracemalloc.start()
    try:
        for size in (2**32 - 1, 2**31, 2**32 - 512):
            with pytest.raises(MalformedError):
                Manifest.unpack(size.to_bytes(4, "big") + spelled()[4:])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_a_manifest_of_many_matches_is_packed_and_read() -> None:
    matches = tuple(ManifestMatch(number % 100, number, "north", number) for number in range(10_000))
    manifest = Manifest(DIGEST, 10_000, OWNERS[:1], matches)
    packed = manifest.pack(10_000, 16)
    assert np.frombuffer(packed[-ENTRY_BYTES * 10_000 :], "<u4").reshape(-1, 5)[:, 1].tolist() == list(
        range(10_000)
    )
    assert Manifest.unpack(packed) == manifest
