"""Images that leave the cloud, deleted or replaced, and nothing of them stays behind."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from mipp_cli.cloud import changes as cloud_changes
from mipp_cli.containers.base.container import open_container
from mipp_cli.containers.messages.delete import write_delete
from mipp_cli.containers.messages.upload import UploadReader, upload_schema
from mipp_cli.containers.store.index import Segment
from mipp_cli.errors import OutputError
from mipp_cli.files import atomic
from tests.support.cloud_stores import (
    check_searches,
    deletion_of,
    expected_row,
    index,
    names,
    read_store,
    refuse,
    rows,
    upload_of,
)
from tests.support.deployment import JOBS, Deployment, done, refused, run
from tests.support.forgery import next_number, stranger


def ciphertexts(deployment: Deployment, upload: Path) -> dict[str, tuple[bytes, ...]]:
    """Return EW of each image of an upload, and in the sum schemes EF and EFF."""
    parameters = deployment.public.parameters
    with open_container(upload, upload_schema(parameters)) as container:
        reader = UploadReader(container, parameters)
        columns = [container.matrix(column).all() for column in parameters.protocol.upload_columns]
        return {
            name: (reader.encrypted_image(row), *(column[row].tobytes() for column in columns))
            for row, name in enumerate(reader.names())
        }


def files_with(deployment: Deployment, data: bytes) -> list[Path]:
    files = (path for path in (deployment / "cloud").rglob("*") if path.is_file())
    return [path for path in files if data in path.read_bytes()]


def test_a_deleted_image_leaves_no_byte_behind(any_scheme: Deployment, tmp_path: Path) -> None:
    deployment = any_scheme.copy(tmp_path / "copy")
    gone, *kept = sorted(deployment.names("north"))
    data = ciphertexts(deployment, deployment / "north.h5")
    assert all(files_with(deployment, part) for part in data[gone])
    before = rows(deployment)
    counts = index(deployment, deletion_of(deployment, "north", gone))
    assert counts == {"deletions": 1, "images deleted": 1, "images in all": 13}
    assert rows(deployment) == {row for row in before if row[:2] != ("north", gone)}
    assert not any(files_with(deployment, part) for part in (*data[gone], gone.encode()))
    for name in kept:
        assert all(files_with(deployment, part) for part in data[name])
    check_searches(deployment)


def test_a_replaced_image_leaves_no_byte_of_the_old_behind(each_way: Deployment) -> None:
    name = sorted(each_way.names("north"))[2]
    old = ciphertexts(each_way, each_way / "north.h5")[name]
    before = rows(each_way)
    upload = upload_of(each_way, "north", name, seed=50)
    counts = index(each_way, upload)
    assert counts == {"uploads": 1, "images": 1, "images replaced": 1, "images in all": 14}
    left = {row for row in before if row[:2] != ("north", name)}
    assert rows(each_way) == left | {expected_row(each_way, "north", name, 50)}
    assert not any(files_with(each_way, part) for part in old)
    assert all(files_with(each_way, part) for part in ciphertexts(each_way, upload)[name])
    check_searches(each_way)


def test_bytes_that_resist_deletion_are_reported_and_go_later(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = sorted(changeable.names("north"))[0]
    data = ciphertexts(changeable, changeable / "north.h5")[gone]
    deletion = deletion_of(changeable, "north", gone)

    def fail(path: Path) -> None:
        raise OutputError("cannot be removed", path=path)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "remove", fail)
        told = done("cloud", "index", changeable / "cloud", deletion, *JOBS)
    assert "files that the index no longer lists may be left; the next run tries again: " in told.err
    assert files_with(changeable, data[0])
    refused(5, "cloud", "index", changeable / "cloud", deletion, *JOBS)
    assert not files_with(changeable, data[0])


def test_of_another_owner_nothing_is_deleted_or_replaced(each_way: Deployment) -> None:
    known, other = sorted(each_way.names("north"))[0], next(iter(each_way.names("south")))
    before = {row for row in rows(each_way) if row[0] == "south"}
    counts = index(each_way, deletion_of(each_way, "north", known, other, "absent"))
    assert counts == {"deletions": 1, "images deleted": 1, "images in all": 13}
    index(each_way, upload_of(each_way, "north", other))
    assert {row for row in rows(each_way) if row[0] == "south"} == before


def test_a_deletion_of_nothing_that_is_there_is_kept(changeable: Deployment) -> None:
    upload = upload_of(changeable, "north", "late")
    counts = index(changeable, deletion_of(changeable, "north", "late"))
    assert counts == {"deletions": 1, "images in all": 14}
    assert index(changeable, upload) == {"uploads": 1, "superseded": 1, "images in all": 14}
    assert "late" not in names(changeable, "north")


def test_an_owner_may_delete_everything_and_begin_again(each_way: Deployment) -> None:
    index(each_way, deletion_of(each_way, "north", *each_way.names("north")))
    assert names(each_way, "north") == set()
    assert read_store(each_way).parts_of("north") == []
    check_searches(each_way)
    index(each_way, upload_of(each_way, "north", *each_way.names("north")))
    assert names(each_way, "north") == set(each_way.names("north"))
    check_searches(each_way)


def test_applied_deletions_and_deleted_uploads_are_still_known(each_way: Deployment) -> None:
    upload = upload_of(each_way, "north", "new")
    deletion = deletion_of(each_way, "north", "new")
    index(each_way, upload)
    index(each_way, deletion)
    refuse(each_way, 5, "was already applied", deletion)
    refuse(each_way, 5, "was already applied", upload)
    refuse(each_way, 5, "was already applied", each_way / "north.h5")
    index(each_way, deletion_of(each_way, "north", *each_way.names("north")))
    refuse(each_way, 5, "was already applied", each_way / "north.h5")


def test_a_late_deletion_spares_what_came_again(each_way: Deployment) -> None:
    gone, again = sorted(each_way.names("north"))[:2]
    deletion = deletion_of(each_way, "north", gone, again)
    index(each_way, upload_of(each_way, "north", again, seed=70))
    counts = index(each_way, deletion)
    assert counts == {"deletions": 1, "images deleted": 1, "superseded": 1, "images in all": 13}
    assert expected_row(each_way, "north", again, 70) in rows(each_way)
    assert gone not in names(each_way, "north")
    check_searches(each_way)


def test_late_rows_leave_no_byte(each_way: Deployment) -> None:
    late = upload_of(each_way, "north", "replaced", "was-deleted", "kept")
    index(each_way, upload_of(each_way, "north", "replaced", seed=60))
    index(each_way, deletion_of(each_way, "north", "was-deleted"))
    counts = index(each_way, late)
    assert counts == {"uploads": 1, "images": 1, "superseded": 2, "images in all": 16}
    data = ciphertexts(each_way, late)
    assert all(files_with(each_way, part) for part in data["kept"])
    for name in ("replaced", "was-deleted"):
        assert not any(files_with(each_way, part) for part in data[name])
    assert not files_with(each_way, b"was-deleted")
    check_searches(each_way)


def test_a_deletion_in_anothers_name_is_refused(changeable: Deployment) -> None:
    for number, sender in enumerate((stranger(changeable, "north"), stranger(changeable, "nobody"))):
        path = changeable / f"forged{number}.h5"
        write_delete(path, sender, next_number(), list(changeable.names("north")))
    refuse(changeable, 9, "is not signed with the key", changeable / "forged0.h5")
    refuse(changeable, 4, "is not enrolled", changeable / "forged1.h5")


def test_a_changed_deletion_is_refused(changeable: Deployment) -> None:
    path = deletion_of(changeable, "north", *changeable.names("north"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    refuse(changeable, 3, "does not match the digest", path)


def test_messages_of_one_call_are_applied_one_upon_the_other(each_way: Deployment) -> None:
    files = [
        upload_of(each_way, "north", "a", "b", "c", "d"),
        deletion_of(each_way, "north", "b"),
        upload_of(each_way, "north", "c", "a", seed=20),
        deletion_of(each_way, "north", "c"),
        upload_of(each_way, "north", "b", seed=40),
    ]
    before = rows(each_way)
    counts = index(each_way, *files)
    assert counts == {
        "uploads": 3,
        "deletions": 2,
        "images": 7,
        "images replaced": 2,
        "images deleted": 2,
        "images in all": 17,
    }
    new = {
        expected_row(each_way, "north", "d", 3),
        expected_row(each_way, "north", "a", 21),
        expected_row(each_way, "north", "b", 40),
    }
    assert rows(each_way) == before | new
    check_searches(each_way)


def test_a_bad_message_takes_the_deletions_before_it_with_it(changeable: Deployment) -> None:
    good = deletion_of(changeable, "north", *changeable.names("north"))
    bad = upload_of(changeable, "north", "same", "same")
    refuse(changeable, 3, str(bad), good, bad)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_long_used_index_equals_a_fresh_one(each_way: Deployment, seed: int) -> None:
    choose = random.Random(seed)
    truth = {row[1]: row for row in rows(each_way) if row[0] == "north"}
    for step in range(8):
        files = []
        for turn in range(choose.randrange(1, 4)):
            action = choose.choice(["add", "delete", "replace"])
            first = 1000 * step + 100 * turn
            if action == "add":
                chosen = [f"{step}-{turn}-{number}" for number in range(choose.randrange(1, 7))]
            else:
                chosen = choose.sample(sorted(truth), min(len(truth), choose.randrange(1, 6)))
            if not chosen:
                continue
            if action == "delete":
                files.append(deletion_of(each_way, "north", *chosen))
                truth = {name: row for name, row in truth.items() if name not in chosen}
            else:
                files.append(upload_of(each_way, "north", *chosen, seed=first))
                truth |= {
                    n: expected_row(each_way, "north", n, first + place) for place, n in enumerate(chosen)
                }
        if files:
            index(each_way, *files)
        assert {row for row in rows(each_way) if row[0] == "north"} == set(truth.values())
    check_searches(each_way)


def test_many_deletions_of_one_call_write_a_segment_anew_once(
    each_way: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = cloud_changes.write_upload_segment

    def counted(path: Path, *words: object) -> None:
        written.append(path.name)
        write(path, *words)

    known = sorted(each_way.names("north"))
    deletions = [deletion_of(each_way, "north", name) for name in known[:3]]
    monkeypatch.setattr(cloud_changes, "write_upload_segment", counted)
    index(each_way, *deletions)
    assert len(written) == 1


def test_an_interrupt_while_images_leave_changes_nothing(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    deletion = deletion_of(changeable, "north", next(iter(changeable.names("north"))))
    with monkeypatch.context() as patch:
        patch.setattr(cloud_changes, "write_upload_segment", interrupt)
        refuse(changeable, 130, "interrupted", deletion)
    index(changeable, deletion)


def test_a_segment_that_was_written_anew_can_be_inspected(each_way: Deployment) -> None:
    gone, *kept = sorted(each_way.names("north"))
    index(each_way, deletion_of(each_way, "north", gone))

    def table(segment: Segment) -> list[str]:
        path = each_way / "cloud" / "segments" / segment.file_name
        fields = done("inspect", path, "--json").json["inspection"]["fields"]
        assert fields["owner"] == "north"
        assert fields["sent_digest"] == segment.digest.hex()
        return [line.split(",")[0] for line in done("inspect", path, "--csv").out.splitlines()[1:]]

    upload, deletion = read_store(each_way).of_owner("north")
    assert sorted(table(upload)) == kept
    assert table(deletion) == []
    assert "4 images in 1 uploads; complete up to" in done("inspect", each_way / "cloud" / "index.h5").out


def test_nothing_but_uploads_and_deletions_is_indexed(changeable: Deployment) -> None:
    refuse(changeable, 3, "is of kind results, not upload or delete", changeable / "alice.results.h5")
    gone = next(iter(changeable.names("north")))
    index(changeable, deletion_of(changeable, "north", gone))
    segment = changeable / "cloud" / "segments" / read_store(changeable).of_owner("north")[0].file_name
    refuse(changeable, 3, "is of kind segment, not upload or delete", segment)
    assert run("cloud", "index", changeable / "cloud", changeable / "absent.h5", *JOBS).code == 2


def test_many_small_uploads_make_few_parts() -> None:
    sizes: list[int] = []
    rewritten_with_large = 0
    for _ in range(1000):
        sizes.append(10)
        count = cloud_changes.parts_to_merge(sizes)
        rewritten_with_large += sum(sizes[-count:]) >= 5000
        sizes[-count:] = [sum(sizes[-count:])]
    assert sum(sizes) == 10_000
    assert len(sizes) <= 8
    assert rewritten_with_large <= 4


def test_a_thousand_images_do_not_rewrite_ten_million() -> None:
    assert cloud_changes.parts_to_merge([10_000_000, 1000]) == 1


def test_parts_too_large_for_the_row_numbers_are_not_merged() -> None:
    assert cloud_changes.parts_to_merge([2**31, 2**31 + 5]) == 1


def test_a_shrunken_part_is_merged_with_all_after_it() -> None:
    assert cloud_changes.parts_to_merge([1000, 200, 40, 8]) == 1
    assert cloud_changes.parts_to_merge([100, 200, 40, 8]) == 4
    assert cloud_changes.parts_to_merge([1000, 20, 40, 8]) == 3
