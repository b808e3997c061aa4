"""Every kind of container refuses what a hostile party could make of each of its columns in HDF5.

Twice: by its form, before HDF5 sees it, and by what HDF5 tells of it.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from mipp_cli.containers.base import hdf5
from mipp_cli.containers.base.header import HEAD_BYTES, KINDS
from mipp_cli.errors import MalformedError
from tests.fuzz.seeds import WRITERS, containers, kind_of
from tests.fuzz.targets import BODY, TARGETS, attempt

TERABYTES = 1 << 43
MEMORY_LIMIT = 8 << 20
Spoil = Callable[[h5py.Group, str, h5py.Dataset], object]


def soft_link(group: h5py.Group, leaf: str, _old: h5py.Dataset) -> None:
    group[leaf] = h5py.SoftLink("/elsewhere")


def external_link(group: h5py.Group, leaf: str, _old: h5py.Dataset) -> None:
    group[leaf] = h5py.ExternalLink("/etc/hostname", "/x")


def external_storage(group: h5py.Group, leaf: str, old: h5py.Dataset) -> None:
    size = max(1, old.nbytes)
    group.create_dataset(leaf, old.shape, old.dtype, external=[("/etc/hostname", 0, size)])


def compressed(group: h5py.Group, leaf: str, old: h5py.Dataset) -> None:
    chunk = tuple(max(1, side) for side in old.shape)
    maximum = (None, *old.shape[1:])
    group.create_dataset(leaf, data=old[...], chunks=chunk, maxshape=maximum, compression="gzip")


def virtual(group: h5py.Group, leaf: str, old: h5py.Dataset) -> None:
    layout = h5py.VirtualLayout(old.shape, old.dtype)
    layout[...] = h5py.VirtualSource("/etc/hostname", "x", old.shape)
    group.create_virtual_dataset(leaf, layout)


def wrong_type(group: h5py.Group, leaf: str, old: h5py.Dataset) -> None:
    group.create_dataset(leaf, data=old[...].astype(">i4"))


def text(group: h5py.Group, leaf: str, old: h5py.Dataset) -> None:
    group.create_dataset(leaf, old.shape, h5py.string_dtype())


def too_many_sides(group: h5py.Group, leaf: str, old: h5py.Dataset) -> None:
    group.create_dataset(leaf, data=old[...].reshape(*old.shape, 1))


def no_shape(group: h5py.Group, leaf: str, old: h5py.Dataset) -> None:
    group.create_dataset(leaf, data=h5py.Empty(old.dtype))


def terabytes_in_one_piece(group: h5py.Group, leaf: str, old: h5py.Dataset) -> None:
    group.create_dataset(leaf, (TERABYTES, *old.shape[1:]), old.dtype)


def terabytes_in_chunks(group: h5py.Group, leaf: str, old: h5py.Dataset) -> None:
    row = old.dtype.itemsize * int(np.prod(old.shape[1:]))
    chunk, maximum = (max(1, (1 << 16) // row), *old.shape[1:]), (None, *old.shape[1:])
    new = group.create_dataset(leaf, (TERABYTES, *old.shape[1:]), old.dtype, chunks=chunk, maxshape=maximum)
    if len(old):
        new[: len(old)] = old[...]


def a_group(group: h5py.Group, leaf: str, _old: h5py.Dataset) -> None:
    group.create_group(leaf)


def nothing(_group: h5py.Group, _leaf: str, _old: h5py.Dataset) -> None:
    pass


SPOILERS: list[Spoil] = [
    soft_link,
    external_link,
    external_storage,
    compressed,
    virtual,
    wrong_type,
    text,
    too_many_sides,
    no_shape,
    a_group,
    nothing,
]


def datasets(body: Path) -> list[str]:
    names: list[str] = []
    with h5py.File(body, "r") as file:
        file.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
    return names


def spoiled(original: bytes, name: str, spoil: Spoil, path: Path) -> bytes:
    """Return the content of a container whose dataset ``name`` is replaced by what ``spoil`` makes of it."""
    path.write_bytes(original)
    with h5py.File(path, "r") as old, h5py.File(path.with_suffix(".new"), "w", userblock_size=1024) as new:
        for member in old:
            old.copy(member, new)
        for number, value in old.attrs.items():
            new.attrs.create(number, value, dtype="<u8")
        group, _, leaf = name.rpartition("/")
        parent = new[group] if group else new
        del parent[leaf]
        spoil(parent, leaf, old[name])
    return path.with_suffix(".new").read_bytes()[HEAD_BYTES:]


@pytest.fixture(
    scope="module", params=[*((target, 0) for target in WRITERS), ("segment", 1), ("segment-exact", 1)]
)
def original(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes]:
    """A target, and a container for it as the package writes it: of segments what either message leaves."""
    target, number = request.param
    return target, containers(target, tmp_path_factory.mktemp("original"))[number]


def refused_twice(original: tuple[str, bytes], spoil: Spoil, scratch: Path) -> None:
    """Demand that no column may be what ``spoil`` makes of it, neither by its form nor by what HDF5 says."""
    (target, data), path = original, scratch / "spoiled.h5"
    path.write_bytes(data)
    bodies = [BODY + spoiled(data, name, spoil, path) for name in datasets(path)]
    assert bodies
    for check in (hdf5.check_form, lambda *_arguments: None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(hdf5, "check_form", check)
            refusals = [attempt(TARGETS[target], body, scratch) for body in bodies]
        assert [type(refusal) for refusal in refusals] == [MalformedError] * len(bodies)


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_no_column_of_any_kind_takes_what_it_is_not(
    tmp_path: Path, original: tuple[str, bytes], spoil: Spoil
) -> None:
    refused_twice(original, spoil, tmp_path)


@pytest.mark.parametrize("spoil", [terabytes_in_one_piece, terabytes_in_chunks], ids=lambda s: s.__name__)
def test_a_huge_claimed_column_takes_no_memory_in_any_kind(
    tmp_path: Path, original: tuple[str, bytes], spoil: Spoil
) -> None:
    tracemalloc.start()
    try:
        refused_twice(original, spoil, tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_LIMIT


def test_every_kind_is_among_them() -> None:
    assert {kind_of(target) for target in WRITERS} == set(KINDS)
