"""`delete` carries the names of images, at least one and each once."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.containers.base.container import open_container
from mipp_cli.containers.messages.delete import DELETE, deleted_names, write_delete
from mipp_cli.containers.messages.earlier import read_earlier
from mipp_cli.errors import MalformedError, OutputError
from tests.containers.conftest import ALICE, DEPLOYMENT, Fill, forge

names_of_images = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


def names_in(path: Path) -> list[bytes]:
    with open_container(path, DELETE, deployment=DEPLOYMENT) as container:
        return deleted_names(container)


def fill_delete(names: list[bytes]) -> Fill:
    def fill(file: h5py.File) -> None:
        group = file.create_group("image_names")
        group["offsets"] = np.cumsum([0, *map(len, names)]).astype("<u8")
        group["bytes"] = np.frombuffer(b"".join(names), np.uint8)
        file["earlier"] = np.zeros(0, "<u8")

    return fill


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(names_of_images, min_size=1, max_size=9, unique=True), st.integers(0, 2**63 - 1))
def test_a_deletion_comes_back_as_it_was_written(place: Path, names: list[str], number: int) -> None:
    write_delete(place, ALICE, number, names, force=True)
    assert names_in(place) == [name.encode() for name in names]


def test_a_deletion_lists_the_earlier_messages_asked_for(tmp_path: Path) -> None:
    write_delete(tmp_path / "a", ALICE, 9, ["x"], earlier=[8, 3])
    with open_container(tmp_path / "a", DELETE) as container:
        assert read_earlier(container) == (3, 8)


def test_a_deletion_without_a_list_of_earlier_is_malformed(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        fill_delete([b"x"])(file)
        del file["earlier"]

    with pytest.raises(MalformedError, match="does not have the parts"):
        names_in(forge(tmp_path / "a", fill, kind="delete"))


def test_an_existing_file_is_not_overwritten_by_a_deletion(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(OutputError):
        write_delete(tmp_path / "a", ALICE, 1, ["x"])
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("names", [[], [b""], [b"x", b"x"], [b"a\0b"], [b"\xff"], [b"x" * 4097]])
def test_a_deletion_with_no_names_or_bad_names_is_malformed(tmp_path: Path, names: list[bytes]) -> None:
    path = forge(tmp_path / "a", fill_delete(names), kind="delete")
    with pytest.raises(MalformedError):
        names_in(path)
