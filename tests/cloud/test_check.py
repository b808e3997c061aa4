"""`mipp cloud check`: whatever changed in a cloud's directory, it is found and the file named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mipp_cli.cloud.check import check_cloud
from mipp_cli.cloud.cloud import Cloud
from mipp_cli.containers.base.stored import store_digests
from mipp_cli.containers.messages.delete import write_delete
from mipp_cli.containers.store.index import Index, write_index
from mipp_cli.containers.store.part import write_part
from mipp_cli.errors import DamagedError
from mipp_cli.owner.owner import Owner
from mipp_cli.scheme.keys import SigningKey
from mipp_cli.scheme.retrieval_index import Rows
from tests.support.deployment import JOBS, Deployment, done, refused, snapshot
from tests.support.forgery import next_number


@pytest.fixture
def cloud(each_way: Deployment) -> Path:
    """A cloud's directory with a file of every kind: an upload cut short, an owner removed."""
    deletion = each_way / "delete.h5"
    name = sorted(each_way.names("north"))[0]
    earlier = [message.number for message in Owner.open(each_way / "north").ledger.messages()]
    write_delete(deletion, each_way.sender("north"), next_number(), [name], earlier=earlier)
    done("cloud", "index", each_way / "cloud", deletion, *JOBS)
    done("cloud", "remove", each_way / "cloud", "lake", "--yes")
    return each_way / "cloud"


def damaged(cloud: Path, *, with_sums: bool = False) -> set[str]:
    """Return the files that a check names, below the directory."""
    with pytest.raises(DamagedError) as caught:
        check_cloud(cloud, with_sums=with_sums)
    return {Path(problem.path).relative_to(cloud).as_posix() for problem in caught.value.problems}


def reindex(cloud: Path, change: Callable[[Index], Index]) -> None:
    """Change the index as only the cloud itself could."""
    role = Cloud.open(cloud)
    write_index(cloud / "index.h5", role.directory.sender, change(role.index()))


@pytest.mark.parametrize("options", [(), ("--sums", *JOBS)])
def test_a_sound_directory_is_counted(cloud: Path, options: tuple[str, ...]) -> None:
    before = snapshot(cloud)
    outcome = done("cloud", "check", cloud, "--json", *options)
    where_the_cloud_ranks = {"queries": 2} if any(cloud.glob("queries/*")) else {}
    assert outcome.json["counts"] == where_the_cloud_ranks | {
        "files": 5,
        "members": 2,
        "removals": 1,
        "refusals": 1,
        "owners": 2,
        "segments": 3,
        "parts": 2,
        "images": 9,
    }
    assert outcome.json["warnings"] == []
    assert snapshot(cloud) == before


def test_a_store_of_any_scheme_is_sound(any_scheme: Deployment) -> None:
    assert check_cloud(any_scheme / "cloud", with_sums=True).counts["images"] == 14


@pytest.mark.slow
def test_a_changed_byte_anywhere_is_found(cloud: Path) -> None:
    files = [file for file in cloud.rglob("*") if file.is_file()]
    assert len(files) >= 18
    for file in files:
        content = file.read_bytes()
        for place in (0, len(content) // 3, len(content) - 1):
            file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            named = damaged(cloud)
            assert file.relative_to(cloud).as_posix() in named, (file, place)
        file.write_bytes(content)
    check_cloud(cloud)


@pytest.mark.parametrize(
    "name",
    ["kmc.pub", "cloud.pub", "secrets.json", "index.h5", "parts/*.h5", "segments/*.h5", "parts/*.blocks"],
)
def test_a_missing_file_is_named(cloud: Path, name: str) -> None:
    file = sorted(cloud.glob(name))[0]
    file.unlink()
    assert file.relative_to(cloud).as_posix() in damaged(cloud)


def test_a_rebuild_is_what_is_advised(cloud: Path) -> None:
    (cloud / "index.h5").unlink()
    assert "mipp cloud index CLOUD --rebuild" in refused(3, "cloud", "check", cloud).err


@pytest.mark.parametrize("name", ["notes.txt", "segments/notes.txt", "members/x", "removed/x/y.json"])
def test_a_file_that_nobody_put_there_is_named(cloud: Path, name: str) -> None:
    (cloud / name).parent.mkdir(exist_ok=True)
    (cloud / name).write_text("what is this?")
    assert damaged(cloud) == {name}


def test_a_file_of_the_store_that_is_not_listed_is_told(cloud: Path) -> None:
    (cloud / "segments" / "lake-7.h5").write_text("what an interrupted command left")
    assert "1 files are not listed in index.h5" in done("cloud", "check", cloud).err


def test_an_owner_with_images_and_without_members_is_found(cloud: Path) -> None:
    (cloud / "members" / "south.h5").unlink()
    assert {name.partition("-")[0] for name in damaged(cloud)} == {"segments/south"}


def test_members_under_another_owners_name_are_found(cloud: Path) -> None:
    (cloud / "members" / "south.h5").rename(cloud / "members" / "lake.h5")
    assert "members/lake.h5" in damaged(cloud)


def test_a_cloud_without_its_own_key_is_found(cloud: Path) -> None:
    Cloud.open(cloud).directory.write_secrets({"signing": SigningKey.generate().seed})
    assert "secrets.json" in damaged(cloud)


@pytest.mark.parametrize(
    "change",
    [
        lambda segment: replace(segment, rows=segment.rows + 1),
        lambda segment: replace(segment, key_id=7),
        lambda segment: replace(segment, digest=bytes(32)),
        lambda segment: replace(segment, deleted=1),
        lambda segment: replace(segment, earlier=(7,)),
    ],
)
@pytest.mark.parametrize("owner", ["north", "south"])
def test_a_segment_that_is_not_what_the_index_says_is_named(
    cloud: Path, owner: str, change: Callable[[object], object]
) -> None:
    def changed(index: Index) -> Index:
        segments = list(index.segments)
        place = next(i for i, each in enumerate(segments) if each.owner == owner and each.rows)
        segments[place] = change(segments[place])
        return replace(index, segments=tuple(segments))

    reindex(cloud, changed)
    assert any(name.startswith(f"segments/{owner}-") for name in damaged(cloud))


def test_images_in_no_part_and_in_two_parts_are_found(cloud: Path) -> None:
    parts = Cloud.open(cloud).index().parts
    for listed in (parts[:1], (*parts, parts[0])):
        reindex(cloud, lambda index, listed=listed: replace(index, parts=listed))
        assert "index.h5" in damaged(cloud)


@pytest.mark.parametrize(("change", "with_sums"), [("names", False), ("rows", False), ("sums", True)])
def test_a_part_that_does_not_fit_its_segments_is_found(cloud: Path, change: str, with_sums: bool) -> None:
    role = Cloud.open(cloud)
    part = role.index().parts[0]
    path = role.store.part_path(part)
    with role.store.part(part) as reader:
        (rows,) = reader.batches()
    keys, images = rows.keys.view(np.uint8).reshape(len(rows), -1).copy(), rows.images.copy()
    if change == "names":
        keys[0, -1] ^= 1
    if change == "rows":
        images[:2] = images[1::-1]
    if change == "sums":
        keys[-1, 0] ^= 1
    rows = Rows(keys.view(rows.keys.dtype).reshape(-1), images)
    write_part(path, role.directory.sender, part.number, [rows])
    root = store_digests(path)
    reindex(cloud, lambda index: replace(index, parts=(replace(part, root=root), *index.parts[1:])))
    assert damaged(cloud, with_sums=with_sums) == {f"parts/{part.file_name}"}
    if change == "sums":
        check_cloud(cloud)


def test_another_roles_directory_is_refused(deployment: Deployment) -> None:
    assert "is the directory of a kmc" in refused(2, "cloud", "check", deployment / "kmc").err


def test_a_cluster_that_does_not_answer_is_no_damage(deployment: Deployment) -> None:
    outcome = refused(2, "cloud", "check", deployment / "cloud", "--sums", "--scheduler", "tcp://10.0.0.1:1")
    assert "damage" not in outcome.err


def test_all_is_checked_though_a_folder_is_gone(cloud: Path) -> None:
    shutil.rmtree(cloud / "parts")
    (cloud / "members" / "south.h5").write_bytes(b"")
    found = damaged(cloud)
    assert "members/south.h5" in found
    assert any(name.startswith("parts/") for name in found)
