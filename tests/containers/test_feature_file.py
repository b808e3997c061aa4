"""A caller's file of features: which files are one, and that nothing outside of it is read."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest

from mipp_cli.containers import features_process
from mipp_cli.containers.feature_file import open_feature_file
from mipp_cli.errors import InvalidRequestError, MalformedError

TABLE = np.arange(12, dtype=np.int16).reshape(4, 3)


def hdf5(path: Path, rows: object = TABLE, names: object = ("a", "b", "c", "d"), **options: object) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=rows, **options)
        file.create_dataset("names", data=names)
    return path


def npy(path: Path, rows: np.ndarray = TABLE, **options: bool) -> Path:
    np.save(path, rows, **options)
    return path


@pytest.mark.parametrize(
    "dtype", ["u1", "i1", "<u2", ">u2", "<i4", ">i8", "<u8", "<f2", "<f4", ">f4", "<f8", ">f8"]
)
def test_integer_and_float_rows_are_read_unchanged(tmp_path: Path, dtype: str) -> None:
    rows = TABLE.astype(dtype)
    for path in (npy(tmp_path / "f.npy", rows), hdf5(tmp_path / "f.h5", rows)):
        file = open_feature_file(path)
        assert file.shape == (4, 3)
        assert file.rows(0, 4).tolist() == rows.tolist()
        assert file.rows(2, 3).tolist() == rows[2:3].tolist()
        assert file.rows(1, 1).shape == (0, 3)
        file.close()


def test_only_hdf5_rows_have_names(tmp_path: Path) -> None:
    assert open_feature_file(npy(tmp_path / "f.npy")).names() is None
    names = [f"Köln/{number}.png" for number in range(5000)]
    rows = np.zeros((5000, 3), dtype=np.uint8)
    with closing(open_feature_file(hdf5(tmp_path / "f.h5", rows, names))) as file:
        assert list(file.names() or []) == names


def test_names_may_be_of_one_length_and_rows_compressed(tmp_path: Path) -> None:
    names = np.array([b"a", b"bb", b"ccc", b"d"])
    path = hdf5(tmp_path / "f.h5", TABLE, names, compression="gzip", chunks=(2, 3))
    with closing(open_feature_file(path)) as file:
        assert list(file.names() or []) == ["a", "bb", "ccc", "d"]
        assert file.rows(0, 4).tolist() == TABLE.tolist()


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    one, other = npy(tmp_path / "one.npy"), npy(tmp_path / "other.npy", TABLE + 1)
    assert open_feature_file(one).digest() == open_feature_file(one).digest()
    assert open_feature_file(one).digest() != open_feature_file(other).digest()


def refuse(path: Path, words: str | None = None) -> None:
    with pytest.raises(MalformedError, match=words) as caught, closing(open_feature_file(path)) as file:
        file.rows(0, 1)
        list(file.names() or [])
    assert caught.value.hint


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (TABLE[0], "rows and columns"),
        (TABLE[None], "rows and columns"),
        (np.zeros((4, 3), dtype=bool), "type bool"),
        (np.zeros((4, 3), dtype=complex), "type complex"),
        (np.zeros((4, 3), dtype="S3"), "type"),
        (np.zeros((4, 3), dtype=[("a", "u1")]), "type"),
        (np.zeros((4, 3), dtype=np.longdouble), "type"),
    ],
    ids=str,
)
def test_what_is_no_table_of_numbers_is_refused(tmp_path: Path, rows: np.ndarray, words: str) -> None:
    refuse(npy(tmp_path / "f.npy", rows), words)
    refuse(hdf5(tmp_path / "f.h5", rows), words)


def test_an_npy_file_of_pickled_objects_is_refused(tmp_path: Path) -> None:
    refuse(npy(tmp_path / "f.npy", np.array([["a", []], [1, 2]], dtype=object), allow_pickle=True), "type")


def test_a_huge_claimed_npy_header_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "f.npy").write_bytes(b"\x93NUMPY\2\0" + b"\xff" * 4 + b"{}")
    tracemalloc.start()
    try:
        refuse(tmp_path / "f.npy", "damaged")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_an_npy_file_of_less_than_no_rows_is_refused(tmp_path: Path) -> None:
    data = npy(tmp_path / "f.npy", np.zeros((6, 2), np.uint8)).read_bytes()
    (tmp_path / "f.npy").write_bytes(data.replace(b"(6, 2), }  ", b"(-6, -2), }"))
    refuse(tmp_path / "f.npy", "rows and columns")


def test_an_npy_file_stored_by_columns_is_refused(tmp_path: Path) -> None:
    refuse(npy(tmp_path / "f.npy", np.asfortranarray(TABLE)), "column by column")


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0"])
def test_an_npy_file_of_another_length_than_it_says_is_refused(tmp_path: Path, change: object) -> None:
    path = npy(tmp_path / "f.npy")
    path.write_bytes(change(path.read_bytes()))
    refuse(path, "does not have the size")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1,2,3\n",
        b"PK\x03\x04",
        b"\x93NUMPY",
        b"\x93NUMPY\x09\x00" + b" " * 200,
        b"\x93NUMPY\x01\x00\x10\x00{'descr': '<i2',",
        b"\x93NUMPY\x01\x00\x10\x00" + b"(" * 16,
        b"\x89HDF\r\n\x1a\n",
        b"\x89HDF\r\n\x1a\n" + b"\0" * 2000,
    ],
    ids=lambda content: repr(content[:24]),
)
def test_what_is_no_file_of_features_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    refuse(tmp_path / "f")


@pytest.mark.slow
def test_an_hdf5_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    data = hdf5(tmp_path / "f.h5", chunks=(2, 3)).read_bytes()
    for size in range(0, len(data), 97):
        (tmp_path / "cut.h5").write_bytes(data[:size])
        refuse(tmp_path / "cut.h5")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("a", "b", "c"), "not one text per row"),
        ([["a", "b", "c", "d"]], "not one text per row"),
        ([1, 2, 3, 4], "not one text per row"),
    ],
    ids=str,
)
def test_names_that_are_not_one_text_a_row_are_refused(tmp_path: Path, names: object, words: str) -> None:
    refuse(hdf5(tmp_path / "f.h5", TABLE, names), words)


def test_names_may_be_the_bytes_of_paths(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "f.h5", TABLE, np.array([b"a", "é".encode(), b"\\xfe", b"\xff"]))
    with closing(open_feature_file(path)) as file:
        assert [*(file.names() or ())] == ["a", "é", "\\xfe", "\\xff"]


def test_a_file_without_names_or_features_is_refused(tmp_path: Path) -> None:
    for missing in ("names", "features"):
        path = hdf5(tmp_path / f"{missing}.h5")
        with h5py.File(path, "a") as file:
            del file[missing]
            file.create_group("other")
        refuse(path, f"no dataset {missing}")
        with h5py.File(path, "a") as file:
            file.create_group(missing)
        refuse(path, f"{missing} is not a dataset")
        with h5py.File(path, "a") as file:
            del file[missing]
            file.create_dataset(missing, data=h5py.Empty("f4"))
        refuse(path, "not one text|not rows and columns")


def test_what_lies_in_other_files_is_not_read(tmp_path: Path) -> None:
    other = hdf5(tmp_path / "other.h5")
    (tmp_path / "raw").write_bytes(TABLE.tobytes())
    layout = h5py.VirtualLayout((4, 3), "i2")
    layout[:] = h5py.VirtualSource(other, "features", (4, 3))
    makers = {
        "is a link": [
            lambda file: file.__setitem__("features", h5py.ExternalLink(other, "features")),
            lambda file: file.__setitem__("features", h5py.SoftLink("/names")),
        ],
        "other files": [
            lambda file: file.create_virtual_dataset("features", layout),
            lambda file: file.create_dataset(
                "features", (4, 3), "i2", external=[(str(tmp_path / "raw"), 0, 24)]
            ),
        ],
    }
    for words, each in makers.items():
        for make in each:
            path = hdf5(tmp_path / "f.h5")
            with h5py.File(path, "a") as file:
                del file["features"]
                make(file)
            refuse(path, words)


def test_a_list_without_end_in_an_hdf5_file_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hdf5(tmp_path / "f.h5")
    data = bytearray(path.read_bytes())
    heap = data.index(b"HEAP")  # of the names: the first free place in it, and where it lies
    free, names = (int.from_bytes(data[heap + place : heap + place + 8], "little") for place in (16, 24))
    data[names + free : names + free + 8] = free.to_bytes(8, "little")  # comes after itself
    path.write_bytes(data)
    monkeypatch.setattr(features_process, "SECONDS", 1)
    refuse(path, "the HDF5 library could not read the file")


def test_if_the_hdf5_library_crashes_the_file_is_refused(tmp_path: Path) -> None:
    with closing(open_feature_file(hdf5(tmp_path / "f.h5"))) as file:
        file._process.kill()
        with pytest.raises(MalformedError, match="the HDF5 library could not read the file"):
            file.rows(0, 4)


def test_hdf5_is_read_under_a_limit_of_memory(tmp_path: Path) -> None:
    read = (
        "import resource, sys\nfrom pathlib import Path\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))\n"
        "from mipp_cli.containers.feature_file import open_feature_file\n"
        "print(open_feature_file(Path(sys.argv[1])).shape)"
    )
    command = [sys.executable, "-c", read, str(hdf5(tmp_path / "f.h5"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(TABLE.shape), done.stderr


def test_many_rows_come_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_process, "_ANSWER_BYTES", 13)
    with closing(open_feature_file(hdf5(tmp_path / "f.h5"))) as file:
        assert file.rows(0, 4).tolist() == TABLE.tolist()


def test_a_missing_feature_file_is_an_invalid_request(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        open_feature_file(tmp_path / "missing.npy")
    with pytest.raises(InvalidRequestError, match="not a regular file"):
        open_feature_file(tmp_path)
