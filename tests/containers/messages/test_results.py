"""`results` carries the query byte for byte, each image once, and matches of images that are there."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.containers.messages.results import ImageRef, Match, ResultsReader, open_results, write_results
from mipp_cli.errors import MalformedError, NotAuthorisedError, TamperedError, WrongDeploymentError
from tests.containers.conftest import (
    ALICE,
    DEPLOYMENT,
    OTHER_DEPLOYMENT,
    QUERY_ID,
    Fill,
    forge,
    open_descriptors,
)

identifiers = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}", fullmatch=True)
names_of_images = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
numbers = st.integers(0, 2**64 - 1)
references = st.builds(ImageRef, identifiers, names_of_images, numbers, numbers)
sims = st.floats(0, 1e308, allow_nan=False)


def put_ragged(file: h5py.File, name: str, rows: list[bytes]) -> None:
    group = file.require_group(name)
    for old in list(group):
        del group[old]
    group["offsets"] = np.cumsum([0, *map(len, rows)]).astype("<u8")
    group["bytes"] = np.frombuffer(b"".join(rows), np.uint8)


def put(file: h5py.File, name: str, values: list[float], dtype: str) -> None:
    if name in file:
        del file[name]
    file[name] = np.array(values, dtype=dtype)


def fill_results(file: h5py.File) -> None:
    """Fill results of two images and three matches."""
    put(file, "query", list(b"query"), "u1")
    put_ragged(file, "image_owners", [b"north", b"south"])
    put_ragged(file, "image_names", [b"x", b"x"])
    put(file, "image_uploads", [1, 2], "<u8")
    put(file, "image_keys", [3, 4], "<u8")
    put_ragged(file, "ER", [b"first", b"second"])
    put(file, "match_queries", [0, 0, 1], "<u4")
    put(file, "match_images", [0, 1, 1], "<u4")
    put(file, "match_sims", [0.5, 1.5, 0.0], "<f8")
    put_ragged(file, "searched_owners", [b"north", b"lake"])
    put(file, "searched_images", [7, 0], "<u8")


def opened(path: Path, spoil: Fill = lambda _file: None) -> ResultsReader:
    def fill(file: h5py.File) -> None:
        fill_results(file)
        spoil(file)

    return open_results(forge(path, fill, kind="results", number=QUERY_ID), DEPLOYMENT)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(references, max_size=6, unique_by=lambda ref: (ref.owner, ref.name)),
    st.data(),
    st.binary(max_size=3000),
    st.dictionaries(identifiers, numbers, max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_results_come_back_as_they_were_written(
    place: Path,
    images: list[ImageRef],
    data: st.DataObject,
    query: bytes,
    searched: dict[str, int],
    seed: int,
) -> None:
    source = random.Random(seed)
    contents = [source.randbytes(source.choice([0, 28, 5000, 300_000])) for _ in images]
    pairs = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, max(0, len(images) - 1)))
    drawn = data.draw(st.dictionaries(pairs, sims, max_size=8)) if images else {}
    matches = [Match(*pair, sim) for pair, sim in drawn.items()]
    rows = zip(images, contents, strict=True)
    write_results(place, ALICE, QUERY_ID, query, rows, matches, searched, force=True)
    results = open_results(place, DEPLOYMENT)
    with results.container:
        assert results.query_data == query
        assert results.images == images
        assert results.matches == matches
        assert results.searched == searched
        assert [results.encrypted_image(number) for number in range(len(images))] == contents


def test_results_made_by_hand_are_read(tmp_path: Path) -> None:
    results = opened(tmp_path / "a")
    with results.container:
        assert results.images == [ImageRef("north", "x", 1, 3), ImageRef("south", "x", 2, 4)]
        assert results.matches == [Match(0, 0, 0.5), Match(0, 1, 1.5), Match(1, 1, 0.0)]
        assert results.searched == {"north": 7, "lake": 0}


@pytest.mark.parametrize(
    "name", ["image_owners", "image_names", "image_uploads", "image_keys", "ER", "match_sims", "match_images"]
)
@pytest.mark.parametrize("rows", [0, 1, 4])
def test_columns_of_different_lengths_are_malformed(tmp_path: Path, name: str, rows: int) -> None:
    def spoil(file: h5py.File) -> None:
        if isinstance(file[name], h5py.Group):
            put_ragged(file, name, [b"abcd"[row : row + 1] for row in range(rows)])
        else:
            put(file, name, [0] * rows, file[name].dtype.str)

    with pytest.raises(MalformedError, match="different lengths"):
        opened(tmp_path / "a", spoil)


@pytest.mark.parametrize("owner", [b"", b".x", b"a/b", b"a\0", b"\xff", b"n" * 65, b"north\n"])
def test_an_owner_that_is_no_identifier_is_malformed(tmp_path: Path, owner: bytes) -> None:
    with pytest.raises(MalformedError):
        opened(tmp_path / "a", lambda file: put_ragged(file, "image_owners", [b"north", owner]))


@pytest.mark.parametrize("owner", [b"", b".x", b"a/b", b"a\0", b"\xff", b"n" * 65, b"north\n"])
def test_a_searched_owner_that_is_no_identifier_is_malformed(tmp_path: Path, owner: bytes) -> None:
    with pytest.raises(MalformedError):
        opened(tmp_path / "a", lambda file: put_ragged(file, "searched_owners", [b"north", owner]))


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_searched_owners_without_a_count_each_are_malformed(tmp_path: Path, rows: int) -> None:
    with pytest.raises(MalformedError, match="different lengths"):
        opened(tmp_path / "a", lambda file: put(file, "searched_images", [5] * rows, "<u8"))


def test_an_owner_who_was_searched_twice_is_malformed(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="twice"):
        opened(tmp_path / "a", lambda file: put_ragged(file, "searched_owners", [b"north", b"north"]))


def test_more_owners_than_there_can_be_are_malformed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mipp_cli.containers.messages import results

    monkeypatch.setattr(results, "_OWNERS_LIMIT", 1)
    with pytest.raises(MalformedError, match="too many owners"):
        opened(tmp_path / "a")


@pytest.mark.parametrize("name", [b"", b"\0", b"a\0b", b"\xff", b"\xed\xa0\x80", b"x" * 4097])
def test_a_name_that_is_none_is_malformed(tmp_path: Path, name: bytes) -> None:
    with pytest.raises(MalformedError):
        opened(tmp_path / "a", lambda file: put_ragged(file, "image_names", [b"x", name]))


def test_an_image_that_comes_twice_is_malformed(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="contains an image twice"):
        opened(tmp_path / "a", lambda file: put_ragged(file, "image_owners", [b"north", b"north"]))


@pytest.mark.parametrize("image", [2, 2**32 - 1])
def test_a_match_of_an_image_that_is_not_there_is_malformed(tmp_path: Path, image: int) -> None:
    with pytest.raises(MalformedError, match="does not contain"):
        opened(tmp_path / "a", lambda file: put(file, "match_images", [0, 1, image], "<u4"))


@pytest.mark.parametrize("sim", [-1.0, -1e-300, float("nan"), float("inf"), float("-inf")])
def test_an_impossible_sim_is_malformed(tmp_path: Path, sim: float) -> None:
    with pytest.raises(MalformedError, match="invalid Sim"):
        opened(tmp_path / "a", lambda file: put(file, "match_sims", [0.5, 1.5, sim], "<f8"))


def test_a_match_that_comes_twice_is_malformed(tmp_path: Path) -> None:
    with pytest.raises(MalformedError, match="twice with the same query image"):
        opened(tmp_path / "a", lambda file: put(file, "match_queries", [0, 0, 0], "<u4"))


def change_last(data: bytes) -> bytes:
    return data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]


@pytest.mark.parametrize(
    ("change", "error"), [(change_last, TamperedError), (lambda data: data[:1000], MalformedError)]
)
def test_damaged_results_are_refused(
    tmp_path: Path, change: Callable[[bytes], bytes], error: type[MalformedError]
) -> None:
    path = forge(tmp_path / "a", fill_results, kind="results", number=QUERY_ID)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(error):
        open_results(path, DEPLOYMENT)


def test_another_deployment_is_refused_as_such(tmp_path: Path) -> None:
    path = forge(tmp_path / "a", fill_results, kind="results", number=QUERY_ID)
    with pytest.raises(WrongDeploymentError):
        open_results(path, OTHER_DEPLOYMENT)


def test_the_check_of_the_sender_is_asked_and_obeyed(tmp_path: Path) -> None:
    def refuse(header: object) -> None:
        raise NotAuthorisedError("no")

    path = forge(tmp_path / "a", fill_results, kind="results", number=QUERY_ID)
    with pytest.raises(NotAuthorisedError):
        open_results(path, DEPLOYMENT, refuse)


def test_a_query_over_its_limit_is_malformed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mipp_cli.containers.messages import results

    monkeypatch.setattr(results, "QUERY_BYTES_LIMIT", 4)
    with pytest.raises(MalformedError, match="query is too long"):
        opened(tmp_path / "a")


@pytest.mark.parametrize(("limit", "what"), [(1, "images"), (2, "matches")])
def test_more_than_an_answer_can_have_is_malformed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, what: str
) -> None:
    from mipp_cli.containers.messages import results

    monkeypatch.setattr(results, "_MATCHES_LIMIT", limit)
    with pytest.raises(MalformedError, match=f"more {what}"):
        opened(tmp_path / "a")


def test_refused_results_are_closed(tmp_path: Path) -> None:
    before = open_descriptors()
    with pytest.raises(MalformedError):
        opened(tmp_path / "a", lambda file: put_ragged(file, "image_owners", [b"north", b"north"]))
    assert open_descriptors() == before
