"""Which files are taken for images, and what their owner calls them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mipp_cli.errors import InvalidRequestError, UnreadableImageError
from mipp_cli.images.collection import ImageFile, collect_examples, collect_images


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(*paths: Path, root: Path | None = None) -> list[str]:
    return [image.name for image in collect_images(paths, root=root)]


def test_a_folder_is_walked_in_the_order_of_paths(tmp_path: Path) -> None:
    touch(
        tmp_path / "b.png", tmp_path / "a" / "z.JPG", tmp_path / "a" / "deep" / "y.tiff", tmp_path / "c.webp"
    )
    assert names(tmp_path) == ["a/deep/y.tiff", "a/z.JPG", "b.png", "c.webp"]


def test_other_files_and_hidden_ones_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path / "a.png", tmp_path / "notes.txt", tmp_path / ".hidden.png", tmp_path / "png")
    assert names(tmp_path) == ["a.png"]


def test_hidden_folders_are_not_walked_unless_they_are_named(tmp_path: Path) -> None:
    touch(tmp_path / "a.png", tmp_path / ".trash" / "deep" / "b.png", tmp_path / "c" / ".d" / "e.png")
    assert names(tmp_path) == ["a.png"]
    assert names(tmp_path / ".trash") == ["deep/b.png"]


def test_a_file_that_is_named_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    touch(tmp_path / "scan")
    assert names(tmp_path / "scan") == ["scan"]


def test_paths_are_called_by_their_place_below_the_root(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "x.png", tmp_path / "b" / "x.png")
    assert names(tmp_path / "a", tmp_path / "b", root=tmp_path) == ["a/x.png", "b/x.png"]
    assert names(tmp_path / "b" / "x.png", root=tmp_path / "a" / "..") == ["b/x.png"]


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "x.png", tmp_path / "b" / "x.png")
    with pytest.raises(InvalidRequestError, match=r"would have the name 'x\.png'.*a/x\.png.*b/x\.png"):
        collect_images([tmp_path / "a", tmp_path / "b"])


def test_the_same_path_twice_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "x.png")
    with pytest.raises(InvalidRequestError, match="two images would have the name") as caught:
        collect_images([tmp_path / "x.png", tmp_path / "x.png"])
    assert caught.value.hint is not None
    assert "name each image once" in caught.value.hint


def test_examples_of_one_name_are_called_by_the_paths_given(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "x.png", tmp_path / "b" / "x.png", tmp_path / "b" / "y.png")
    found = [image.name for image in collect_examples([tmp_path / "a", tmp_path / "b"])]
    assert found == [str(tmp_path / "a" / "x.png"), str(tmp_path / "b" / "x.png"), "y.png"]


def test_an_example_named_twice_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "x.png")
    with pytest.raises(InvalidRequestError, match="two images would have the name"):
        collect_examples([tmp_path / "x.png"] * 2)


def test_a_path_that_is_no_text_gives_an_example_a_name(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    touch(folder / "x.png", tmp_path / "x.png")
    assert [image.name for image in collect_examples([folder / "x.png", tmp_path / "x.png"])] == [
        f"{tmp_path}/\\xff/x.png",
        f"{tmp_path}/x.png",
    ]


def test_no_example_named_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="no images were given"):
        collect_examples([])


@pytest.mark.parametrize("outside", ["other/x.png", "../x.png"])
def test_a_path_outside_the_root_is_refused(tmp_path: Path, outside: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(InvalidRequestError, match="is not below"):
        collect_images([(tmp_path if outside.startswith("other") else root) / outside], root=root)


def test_a_root_that_is_the_image_itself_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "x.png")
    with pytest.raises(InvalidRequestError, match="is not below"):
        collect_images([tmp_path / "x.png"], root=tmp_path / "x.png")


def test_nothing_named_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="no images were given"):
        collect_images([])


def test_an_empty_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="contains no images") as caught:
        collect_images([tmp_path])
    assert caught.value.path == str(tmp_path)
    assert caught.value.hint is not None
    assert "JPEG" in caught.value.hint


def not_utf8(folder: Path, name: bytes = b"\xff.png") -> Path:
    """Return a path below ``folder`` whose name is not UTF-8."""
    return Path(os.fsdecode(os.fsencode(folder) + b"/" + name))


def test_bytes_that_are_not_utf8_are_escaped_in_a_name(tmp_path: Path) -> None:
    touch(tmp_path / "b.png", not_utf8(tmp_path), not_utf8(not_utf8(tmp_path, b"a\xe9"), b"\xc3\xa9\xc3.png"))
    assert names(tmp_path) == ["a\\xe9/é\\xc3.png", "b.png", "\\xff.png"]
    assert names(not_utf8(tmp_path)) == ["\\xff.png"]


def test_a_name_that_looks_escaped_is_not_taken_for_another(tmp_path: Path) -> None:
    touch(not_utf8(tmp_path), tmp_path / "\\xff.png", tmp_path / "a\\b.png")
    assert names(tmp_path) == ["\\x5cxff.png", "a\\b.png", "\\xff.png"]


def test_names_are_in_the_order_of_their_bytes(tmp_path: Path) -> None:
    found = ["\N{BATH}.png", "\N{FULLWIDTH LATIN SMALL LETTER A}.png", "é.png"]
    touch(*(tmp_path / name for name in found), not_utf8(tmp_path, b"\xc3z.png"))
    assert names(tmp_path) == ["\\xc3z.png", *reversed(found)]


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    touch(tmp_path / "a.png")

    def deny(path: str, real: object = os.scandir) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        assert callable(real)
        return real(path)

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(InvalidRequestError, match="the folder cannot be read: Permission denied") as caught:
        collect_images([tmp_path])
    assert caught.value.path == str(tmp_path / "closed")


# What is left out where a list of it is wanted


def test_where_all_is_left_out_no_image_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(InvalidRequestError, match="no images were given"):
        collect_images([tmp_path], left_out=[])


def test_a_path_outside_the_root_is_not_just_left_out(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "x.png", tmp_path / "b" / "y.png")
    with pytest.raises(InvalidRequestError, match="is not below"):
        collect_images([tmp_path / "a", tmp_path / "b"], root=tmp_path / "a", left_out=[])


@pytest.mark.parametrize("kind", ["missing", "folder", "dangling link", "pipe", "too long", "denied"])
def test_a_file_that_cannot_be_read_is_an_unreadable_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "x.jpg"
    if kind == "folder":
        path.mkdir()
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "gone.jpg")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "too long":
        path = tmp_path / ("x" * 300)
    elif kind == "denied":
        touch(path)

        def deny(*_: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "stat", deny)
    with pytest.raises(UnreadableImageError) as caught:
        ImageFile(path, "x.jpg").read()
    assert caught.value.path == str(path)
    assert caught.value.hint


def test_an_image_over_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "x.png").open("wb") as file:
        file.truncate(1 << 31)
    with pytest.raises(UnreadableImageError, match="the image is too large"):
        ImageFile(tmp_path / "x.png", "x.png").read()


@pytest.mark.parametrize("numbers", [itertools.repeat(7), itertools.count()], ids=["one for all", "ever new"])
def test_folders_are_told_apart_whatever_their_inode_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: Iterator[int]
) -> None:
    touch(tmp_path / "a" / "x.png", tmp_path / "b" / "c" / "x.png")
    (tmp_path / "b" / "c" / "up").symlink_to(tmp_path / "b")
    real = os.stat

    def renumbered(path: object, **options: object) -> os.stat_result:
        status = real(path, **options)
        return os.stat_result((status[0], next(numbers), *status[2:10]))

    monkeypatch.setattr(os, "stat", renumbered)
    assert names(tmp_path) == ["a/x.png", "b/c/x.png"]
