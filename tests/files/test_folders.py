"""Looking into folders: what is missing is told from what cannot be looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from mipp_cli.errors import OutputError
from mipp_cli.files.folders import is_there, paths_in


def test_a_file_and_a_folder_are_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert is_there(tmp_path / "file")
    assert is_there(tmp_path)


def test_what_is_missing_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nothing")
    assert not is_there(tmp_path / "nothing")
    assert not is_there(tmp_path / "file" / "below")
    assert not is_there(tmp_path / "dangling")


def test_what_cannot_be_looked_at_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        is_there(tmp_path / ("n" * 300))


def test_a_folder_is_listed_by_name(tmp_path: Path) -> None:
    for name in ("b.h5", "a.h5", "a.json"):
        (tmp_path / name).touch()
    assert paths_in(tmp_path, ".h5") == [tmp_path / "a.h5", tmp_path / "b.h5"]
    assert len(paths_in(tmp_path)) == 3


def test_a_missing_folder_has_nothing_in_it(tmp_path: Path) -> None:
    assert paths_in(tmp_path / "nothing") == []


def test_what_is_no_folder_cannot_be_listed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be listed") as caught:
        paths_in(tmp_path / "file")
    assert caught.value.path == str(tmp_path / "file")
