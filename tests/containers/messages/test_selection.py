"""`selection` names groups, sorted and once each, for one cloud; `groups` brings their rows in that order."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.containers.messages import selection as module
from mipp_cli.containers.messages.selection import (
    BroughtRow,
    GroupRef,
    GroupsReader,
    Selection,
    open_groups,
    read_selection,
    write_groups,
    write_selection,
)
from mipp_cli.errors import (
    MalformedError,
    MippError,
    NotAuthorisedError,
    OutputError,
    WrongDeploymentError,
)
from mipp_cli.scheme.protocol import MATCHES_LIMIT
from tests.containers.conftest import (
    ALICE,
    DEPLOYMENT,
    KEY,
    OTHER_DEPLOYMENT,
    QUERY_ID,
    Fill,
    forge,
    open_descriptors,
)

REFS = (GroupRef("north", 7, 0), GroupRef("north", 7, 2), GroupRef("north", 8, 1), GroupRef("south", 3, 9))
SELECTION = Selection(QUERY_ID, KEY.public, REFS, (1000, 1000, 2**31, 28))
ROWS = [BroughtRow(0, "x", b"first"), BroughtRow(0, "y", b"second"), BroughtRow(2, "x", b"third")]

identifiers = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}", fullmatch=True)
query_ids = st.binary(min_size=16, max_size=16).map(bytes.hex)
references = st.builds(GroupRef, identifiers, st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 1))
names_of_images = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


def put_ragged(file: h5py.File, name: str, rows: list[bytes]) -> None:
    if name in file:
        del file[name]
    group = file.create_group(name)
    group["offsets"] = np.cumsum([0, *map(len, rows)]).astype("<u8")
    group["bytes"] = np.frombuffer(b"".join(rows), np.uint8)


def put(file: h5py.File, name: str, values: list[int], dtype: str) -> None:
    if name in file:
        del file[name]
    file[name] = np.array(values, dtype)


# selection


def fill_selection(file: h5py.File) -> None:
    """Fill a selection of two groups."""
    put(file, "cloud", list(KEY.public), "u1")
    put_ragged(file, "owners", [b"north", b"south"])
    put(file, "uploads", [7, 3], "<u8")
    put(file, "groups", [0, 9], "<u4")
    put(file, "lengths", [28, 1000], "<u8")


def selected(path: Path, spoil: Fill = lambda _file: None) -> Selection:
    def fill(file: h5py.File) -> None:
        fill_selection(file)
        spoil(file)

    return read_selection(forge(path, fill, kind="selection", number=QUERY_ID), DEPLOYMENT)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(references, max_size=9), query_ids, st.binary(min_size=32, max_size=32))
def test_a_selection_comes_back_as_it_was_written(
    place: Path, refs: list[GroupRef], number: str, cloud: bytes
) -> None:
    groups = tuple(sorted(set(refs)))
    selection = Selection(number, cloud, groups, tuple(range(len(groups))))
    write_selection(place, ALICE, selection, force=True)
    assert read_selection(place, DEPLOYMENT) == selection


def test_a_selection_made_by_hand_is_read(tmp_path: Path) -> None:
    refs = (GroupRef("north", 7, 0), GroupRef("south", 3, 9))
    assert selected(tmp_path / "a") == Selection(QUERY_ID, KEY.public, refs, (28, 1000))


def test_a_selection_names_nobody_but_the_centre_and_owners(tmp_path: Path) -> None:
    """Columns and numbers are all that a container can hold."""
    assert sorted(module.SELECTION.columns) == ["cloud", "groups", "lengths", "owners", "uploads"]
    assert module.SELECTION.numbers == ()


def test_an_existing_selection_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(OutputError):
        write_selection(tmp_path / "a", ALICE, SELECTION)
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize(
    "refs",
    [REFS[::-1], (REFS[1], REFS[0]), (REFS[0], REFS[0]), (REFS[2], REFS[1]), (REFS[3], REFS[2])],
    ids=["all", "groups", "twice", "uploads", "owners"],
)
def test_groups_out_of_order_are_malformed(tmp_path: Path, refs: tuple[GroupRef, ...]) -> None:
    def spoil(file: h5py.File) -> None:
        put_ragged(file, "owners", [ref.owner.encode() for ref in refs])
        put(file, "uploads", [ref.upload for ref in refs], "<u8")
        put(file, "groups", [ref.group for ref in refs], "<u4")
        put(file, "lengths", [28] * len(refs), "<u8")

    with pytest.raises(MalformedError, match="out of order"):
        selected(tmp_path / "a", spoil)
    with pytest.raises(MalformedError, match="out of order"):
        replace(SELECTION, groups=refs, lengths=(28,) * len(refs))


@pytest.mark.parametrize("owner", [b"", b".x", b"a/b", b"a\0", b"\xff", b"n" * 65, b"north\n"])
def test_an_owner_that_is_no_identifier_is_malformed(tmp_path: Path, owner: bytes) -> None:
    with pytest.raises(MalformedError):
        selected(tmp_path / "a", lambda file: put_ragged(file, "owners", [owner, b"south"]))


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64])
def test_a_cloud_whose_key_has_another_length_is_malformed(tmp_path: Path, size: int) -> None:
    with pytest.raises(MalformedError, match=r"too long|invalid cloud key"):
        selected(tmp_path / "a", lambda file: put(file, "cloud", [5] * size, "u1"))
    with pytest.raises(MalformedError, match="invalid cloud key"):
        replace(SELECTION, cloud=bytes(size))


@pytest.mark.parametrize("number", [2**63, 2**64 - 1])
def test_an_upload_whose_number_is_none_is_malformed(tmp_path: Path, number: int) -> None:
    with pytest.raises(MalformedError, match="invalid upload number"):
        selected(tmp_path / "a", lambda file: put(file, "uploads", [7, number], "<u8"))


@pytest.mark.parametrize("column", ["owners", "uploads", "groups", "lengths"])
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_columns_of_a_selection_must_have_one_length(tmp_path: Path, column: str, rows: int) -> None:
    def spoil(file: h5py.File) -> None:
        if column == "owners":
            put_ragged(file, column, [b"north"] * rows)
        else:
            put(file, column, list(range(rows)), file[column].dtype.str)

    with pytest.raises(MalformedError, match="different lengths"):
        selected(tmp_path / "a", spoil)


def select_many(count: int) -> Fill:
    def spoil(file: h5py.File) -> None:
        put_ragged(file, "owners", [b"north"] * count)
        put(file, "uploads", [7] * count, "<u8")
        put(file, "groups", list(range(count)), "<u4")
        put(file, "lengths", [28] * count, "<u8")

    return spoil


def test_as_many_groups_as_a_query_can_match_are_read(tmp_path: Path) -> None:
    assert len(selected(tmp_path / "a", select_many(MATCHES_LIMIT)).groups) == MATCHES_LIMIT


def test_more_groups_than_a_query_can_match_are_malformed(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="too many groups"):
        selected(tmp_path / "a", select_many(MATCHES_LIMIT + 1))
    refs = tuple(GroupRef("north", 7, group) for group in range(MATCHES_LIMIT + 1))
    with pytest.raises(MalformedError, match="too many groups"):
        replace(SELECTION, groups=refs)
    with pytest.raises(MalformedError, match="row length"):
        replace(SELECTION, groups=REFS[:1])


# groups


def fill_groups(file: h5py.File) -> None:
    """Fill an answer of three rows of two groups."""
    put(file, "places", [0, 0, 2], "<u4")
    put_ragged(file, "image_names", [b"x", b"y", b"x"])
    put_ragged(file, "ER", [b"first", b"second", b"third"])


def brought(path: Path, spoil: Fill = lambda _file: None) -> GroupsReader:
    def fill(file: h5py.File) -> None:
        fill_groups(file)
        spoil(file)

    return open_groups(forge(path, fill, kind="groups", number=QUERY_ID), DEPLOYMENT)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.dictionaries(
        st.integers(0, 2**32 - 1),
        st.lists(
            st.tuples(names_of_images, st.binary(max_size=2000)), max_size=4, unique_by=lambda row: row[0]
        ),
        max_size=5,
    ),
    query_ids,
)
def test_groups_come_back_as_they_were_brought(
    place: Path, groups: dict[int, list[tuple[str, bytes]]], number: str
) -> None:
    rows = [BroughtRow(at, *row) for at in sorted(groups) for row in groups[at]]
    assert write_groups(place, ALICE, number, iter(rows), force=True) == len(rows)
    reader = open_groups(place, DEPLOYMENT)
    with reader.container:
        assert reader.container.header.number == number
        assert reader.places.tolist() == [row.place for row in rows]
        for at, expected in groups.items():
            found = reader.rows_at(at)
            assert reader.names(found) == [name for name, _ in expected]
            assert [reader.encrypted_image(row) for row in found] == [ew for _, ew in expected]


@pytest.mark.parametrize("place", [1, 3, 2**32 - 1])
def test_a_group_that_the_cloud_lacks_has_no_rows(tmp_path: Path, place: int) -> None:
    reader = brought(tmp_path / "a")
    with reader.container:
        assert [list(reader.rows_at(each)) for each in (0, 2)] == [[0, 1], [2]]
        assert len(reader.rows_at(place)) == 0


def test_existing_groups_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(OutputError):
        write_groups(tmp_path / "a", ALICE, QUERY_ID, ROWS)
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("places", [[2, 0, 0], [0, 2, 1], [1, 0, 2], [2**32 - 1, 0, 1]], ids=str)
def test_places_that_descend_are_malformed(tmp_path: Path, places: list[int]) -> None:
    with pytest.raises(MalformedError, match="out of order"):
        brought(tmp_path / "a", lambda file: put(file, "places", places, "<u4"))


def test_a_name_that_comes_twice_in_a_group_is_malformed(tmp_path: Path) -> None:
    reader = brought(tmp_path / "a", lambda file: put_ragged(file, "image_names", [b"x", b"x", b"x"]))
    with reader.container:
        assert reader.names(reader.rows_at(2)) == ["x"]
        with pytest.raises(MalformedError, match="same name"):
            reader.names(reader.rows_at(0))


@pytest.mark.parametrize("name", [b"", b"\0", b"a\0b", b"\xff", b"\xed\xa0\x80", b"x" * 4097])
def test_a_name_that_is_none_is_malformed(tmp_path: Path, name: bytes) -> None:
    reader = brought(tmp_path / "a", lambda file: put_ragged(file, "image_names", [b"x", name, b"x"]))
    with reader.container, pytest.raises(MalformedError):
        reader.names(reader.rows_at(0))


@pytest.mark.parametrize("column", ["places", "image_names", "ER"])
@pytest.mark.parametrize("rows", [0, 2, 4])
def test_columns_of_groups_must_have_one_length(tmp_path: Path, column: str, rows: int) -> None:
    def spoil(file: h5py.File) -> None:
        if column == "places":
            put(file, column, [0] * rows, "<u4")
        else:
            put_ragged(file, column, [b"z"] * rows)

    with pytest.raises(MalformedError, match="different lengths"):
        brought(tmp_path / "a", spoil)


def test_more_rows_than_an_answer_can_have_are_malformed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought(tmp_path / "a").container.close()
    monkeypatch.setattr(module, "_ROWS_LIMIT", 2)
    with pytest.raises(MalformedError, match="more rows"):
        brought(tmp_path / "b")


def test_refused_groups_are_closed(tmp_path: Path) -> None:
    before = open_descriptors()
    with pytest.raises(MalformedError):
        brought(tmp_path / "a", lambda file: put(file, "places", [2, 0, 0], "<u4"))
    assert open_descriptors() == before


# both


def write_one(kind: str, path: Path) -> None:
    if kind == "selection":
        write_selection(path, ALICE, SELECTION, force=True)
    else:
        write_groups(path, ALICE, QUERY_ID, ROWS, force=True)


def read_one(kind: str, path: Path, deployment: str = DEPLOYMENT, **options: Any) -> None:
    if kind == "selection":
        read_selection(path, deployment, **options)
    else:
        open_groups(path, deployment, **options).container.close()


@pytest.mark.parametrize("kind", ["selection", "groups"])
def test_another_deployment_is_refused_as_such(tmp_path: Path, kind: str) -> None:
    write_one(kind, tmp_path / "a")
    read_one(kind, tmp_path / "a")
    with pytest.raises(WrongDeploymentError):
        read_one(kind, tmp_path / "a", OTHER_DEPLOYMENT)


@pytest.mark.parametrize("kind", ["selection", "groups"])
def test_the_check_of_the_sender_is_asked_and_obeyed(tmp_path: Path, kind: str) -> None:
    def refuse(header: object) -> None:
        raise NotAuthorisedError("no")

    write_one(kind, tmp_path / "a")
    with pytest.raises(NotAuthorisedError):
        read_one(kind, tmp_path / "a", check=refuse)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["selection", "groups"])
def test_every_changed_byte_of_the_file_is_refused(tmp_path: Path, kind: str) -> None:
    write_one(kind, tmp_path / "a")
    data, read = (tmp_path / "a").read_bytes(), []
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        (tmp_path / "a").write_bytes(changed)
        with suppress(MippError):
            read_one(kind, tmp_path / "a")
            read.append(position)
    assert read == []


@pytest.mark.parametrize(("kind", "other"), [("selection", "groups"), ("groups", "selection")])
def test_one_is_not_read_as_the_other(tmp_path: Path, kind: str, other: str) -> None:
    write_one(kind, tmp_path / "a")
    with pytest.raises(MalformedError, match=f"is of kind {kind}"):
        read_one(other, tmp_path / "a")
