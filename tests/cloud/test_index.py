"""IndexConstruct: which uploads are taken, and that the sums are those of the plain codes."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from mipp_cli.cloud import changes as cloud_changes
from mipp_cli.cloud import index as cloud_index
from mipp_cli.errors import OutputError
from mipp_cli.files import atomic
from mipp_cli.scheme.feature_cipher import encrypt_features
from tests.support.deployment import (
    JOBS,
    OWNERS,
    SAMPLES,
    Deployment,
    done,
    feature_of,
    refused,
    run,
    snapshot,
)
from tests.support.forgery import Picture, forge_upload, next_number, random_feature, stranger


def index(deployment: Deployment, *uploads: Path) -> None:
    done("cloud", "index", deployment / "cloud", *uploads, *JOBS)


def refuse(deployment: Deployment, code: int, words: str, *uploads: Path) -> None:
    """Demand that the cloud refuses all of the uploads and is as it was."""
    before = snapshot(deployment / "cloud")
    outcome = refused(code, "cloud", "index", deployment / "cloud", *uploads, *JOBS)
    assert words in outcome.err
    assert snapshot(deployment / "cloud") == before


def rows(deployment: Deployment) -> set[tuple[str, ...]]:
    lines = done("inspect", deployment / "cloud" / "index.h5", "--csv").out.splitlines()
    assert lines[0] == "owner,image_id" + ("" if deployment.scheme == "exact" else ",sum1,sum2")
    found = [tuple(line.split(",")) for line in lines[1:]]
    assert len(set(found)) == len(found)
    return set(found)


def upload_of(deployment: Deployment, owner: str, *names: str, number: int | None = None) -> Path:
    images = [(name, Picture().envelope(), random_feature(seed)) for seed, name in enumerate(names)]
    return forge_upload(deployment, owner, images, deployment / f"{owner}-{next_number()}.h5", number=number)


def sums(path: Path) -> tuple[str, str]:
    codes = [int(code) for code in feature_of(path)]
    return str(sum(codes)), str(sum(code * code for code in codes))


def test_the_sums_in_the_index_are_those_of_the_plain_codes(sum_scheme: Deployment) -> None:
    assert rows(sum_scheme) == {
        (owner, image_id, *sums(sum_scheme.pictures(owner)[path]))
        for owner in OWNERS
        for image_id, path in sum_scheme.names(owner).items()
    }


def test_where_the_kmc_ranks_the_index_has_no_sums(exact: Deployment) -> None:
    assert rows(exact) == {(owner, name) for owner in OWNERS for name in exact.names(owner)}


def test_the_indexed_sums_match_the_plain_codes(sum_scheme: Deployment, tmp_path: Path) -> None:
    deployment = sum_scheme.copy(tmp_path / "copy")
    kmc = deployment / "kmc" / "kmc.pub"
    samples = sorted(path for path in (SAMPLES / "owners").iterdir() if path.is_dir())
    for folder in samples:
        owner = tmp_path / folder.name
        done("owner", "init", owner, "--id", folder.name, "--kmc", kmc, "--image-names", "path")
        done("cloud", "enroll", deployment / "cloud", owner / "members.h5")
        done("owner", "encrypt", owner, folder, "-o", tmp_path / f"{folder.name}.h5", *JOBS)
    index(deployment, *(tmp_path / f"{folder.name}.h5" for folder in samples))
    pictures = [path for path in (SAMPLES / "owners").rglob("*") if path.is_file()]
    assert len(pictures) >= 50
    names = [path.relative_to(SAMPLES / "owners").as_posix().split("/", 1) for path in pictures]
    expected = {(*name, *sums(path)) for name, path in zip(names, pictures, strict=True)}
    assert {row for row in rows(deployment) if row[0] not in OWNERS} == expected


def test_an_upload_applied_before_changes_nothing(each_way: Deployment) -> None:
    refuse(each_way, 5, "was already applied; nothing changed", each_way / "north.h5")


def test_among_several_uploads_those_applied_before_are_skipped(each_way: Deployment) -> None:
    new = upload_of(each_way, "north", "new")
    words = ("cloud", "index", each_way / "cloud", each_way / "north.h5", new, "--json", *JOBS)
    counts = done(*words).json["counts"]
    assert {name: count for name, count in counts.items() if count} == {
        "uploads": 1,
        "images": 1,
        "already applied": 1,
        "images in all": 15,
    }


def test_an_upload_given_twice_is_applied_once(changeable: Deployment) -> None:
    new = upload_of(changeable, "north", "new")
    counts = done("cloud", "index", changeable / "cloud", new, new, "--json", *JOBS).json["counts"]
    assert (counts["uploads"], counts["already applied"]) == (1, 1)


def test_another_upload_under_a_known_number_is_a_replay(each_way: Deployment) -> None:
    number = next_number()
    index(each_way, upload_of(each_way, "north", "one", number=number))
    refuse(
        each_way,
        6,
        "which another file of 'north' used",
        upload_of(each_way, "north", "two", number=number),
    )


def test_uploads_of_one_call_are_taken_in_any_order(each_way: Deployment) -> None:
    first, second = (upload_of(each_way, "north", name) for name in ("first", "second"))
    index(each_way, second, first)
    assert {"first", "second"} <= {row[1] for row in rows(each_way)}


def test_an_image_that_is_sent_again_takes_its_own_place(each_way: Deployment) -> None:
    known = next(iter(each_way.names("north")))
    index(each_way, upload_of(each_way, "north", "new", known))
    assert len(rows(each_way)) == 15


def test_a_number_more_than_a_day_ahead_is_refused(changeable: Deployment) -> None:
    number = time.time_ns() // 1000 + 25 * 3600 * 10**6
    late = upload_of(changeable, "north", "late", number=number)
    refuse(changeable, 6, "more than a day ahead of this machine's clock", late)


def test_a_number_less_than_a_day_above_the_last_is_taken(changeable: Deployment) -> None:
    day = 23 * 3600 * 10**6
    numbers = [time.time_ns() // 1000 + place * day for place in (1, 2, 3)]
    for number in numbers:
        index(changeable, upload_of(changeable, "north", f"of {number}", number=number))
    assert len(rows(changeable)) == 17


def test_two_owners_may_call_images_alike(each_way: Deployment) -> None:
    index(each_way, upload_of(each_way, "north", "same"), upload_of(each_way, "south", "same"))
    assert {row[0] for row in rows(each_way) if row[1] == "same"} == {"north", "south"}


def test_an_upload_that_is_refused_takes_the_others_with_it(each_way: Deployment) -> None:
    good, bad = upload_of(each_way, "north", "new"), upload_of(each_way, "south", "same", "same")
    refuse(each_way, 3, str(bad), good, bad)
    index(each_way, good)


def test_an_owner_who_is_not_enrolled_is_refused(changeable: Deployment, tmp_path: Path) -> None:
    kmc = changeable / "kmc" / "kmc.pub"
    done("owner", "init", tmp_path / "new", "--id", "newcomer", "--kmc", kmc)
    done(
        "owner",
        "encrypt",
        tmp_path / "new",
        changeable / "pictures/lake/b.png",
        "-o",
        tmp_path / "u.h5",
        *JOBS,
    )
    refuse(changeable, 4, "the owner 'newcomer' is not enrolled with this cloud", tmp_path / "u.h5")


def test_an_upload_signed_with_another_key_is_a_conflict(each_way: Deployment) -> None:
    images = [("new", Picture().envelope(), random_feature(1))]
    upload = forge_upload(each_way, "north", images, each_way / "u.h5", sender=stranger(each_way, "north"))
    refuse(each_way, 9, "is not signed with the key that 'north' was enrolled with", upload)


def test_an_upload_made_for_another_kmc_is_refused(changeable: Deployment, tmp_path: Path) -> None:
    done("kmc", "init", tmp_path / "kmc", "--scheme", "mask")
    done("owner", "init", tmp_path / "o", "--id", "north", "--kmc", tmp_path / "kmc" / "kmc.pub")
    done(
        "owner", "encrypt", tmp_path / "o", changeable / "pictures/lake/b.png", "-o", tmp_path / "u.h5", *JOBS
    )
    refuse(changeable, 8, "belongs to the deployment", tmp_path / "u.h5")


def test_an_upload_that_was_changed_on_its_way_is_refused(each_way: Deployment) -> None:
    upload = upload_of(each_way, "north", "new")
    content = bytearray(upload.read_bytes())
    content[5000] ^= 1
    upload.write_bytes(content)
    refuse(each_way, 3, f"{upload}: the content does not match the digest", upload)


def test_sums_that_no_feature_can_have_are_refused(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mislead(cipher: object, features: np.ndarray) -> object:
        return encrypt_features(cipher, np.full_like(features, 200))

    monkeypatch.setattr("mipp_cli.scheme.feature_cipher.encrypt_features", mislead)
    upload = upload_of(changeable, "north", "new")
    refuse(changeable, 3, f"{upload}: no feature can have the sums", upload)


def test_an_upload_that_names_two_images_alike_is_refused(each_way: Deployment) -> None:
    refuse(each_way, 3, "contains two images with the same name", upload_of(each_way, "north", "new", "new"))


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_an_upload_that_names_an_image_by_nothing_is_refused(each_way: Deployment, name: str) -> None:
    refuse(each_way, 3, "has an image name that is empty or contains NUL", upload_of(each_way, "north", name))


def test_an_upload_of_no_images_does_no_harm(each_way: Deployment) -> None:
    before = rows(each_way)
    run("cloud", "index", each_way / "cloud", upload_of(each_way, "north"), *JOBS)
    assert rows(each_way) == before
    assert each_way.search(each_way.ask("alice")).exists()


@pytest.mark.slow
def test_many_small_uploads_leave_a_whole_index(changeable: Deployment) -> None:
    before = rows(changeable)
    names = [f"image-{number:02d}" for number in range(40)]
    for begin in range(0, 40, 10):
        index(changeable, *(upload_of(changeable, "north", name) for name in names[begin : begin + 10]))
    features = random_feature(0).astype(int)
    expected = {("north", name, str(features.sum()), str((features**2).sum())) for name in names}
    assert rows(changeable) == before | expected
    parts = list((changeable / "cloud" / "parts").glob("*.h5"))
    assert len(parts) < 10


def test_work_in_several_processes_gives_the_same_index(each_way: Deployment, tmp_path: Path) -> None:
    upload = upload_of(each_way, "north", *(f"{number}" for number in range(30)))
    other = each_way.copy(tmp_path / "other")
    index(each_way, upload)
    done("cloud", "index", other / "cloud", upload, "--jobs", 2)
    assert rows(each_way) == rows(other)


def test_an_old_part_that_cannot_be_removed_does_no_harm(
    changeable: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise OutputError("cannot be removed", path=path)

    uploads = [upload_of(changeable, "north", f"{number}") for number in range(12)]
    monkeypatch.setattr(atomic, "remove", fail)
    index(changeable, *uploads)
    assert len(rows(changeable)) == 14 + 12


def test_an_index_that_cannot_be_written_leaves_no_segments(
    each_way: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, *_: object) -> None:
        raise OutputError("cannot be written", path=path)

    monkeypatch.setattr(cloud_index, "write_index", fail)
    refuse(each_way, 10, "cannot be written", upload_of(each_way, "north", "new"))


def test_an_interrupt_after_the_index_is_replaced_is_harmless(
    each_way: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced_then_interrupted(path: Path, *words: object) -> None:
        write_index(path, *words)
        raise KeyboardInterrupt

    upload, before = upload_of(each_way, "north", "new"), len(rows(each_way))
    write_index = cloud_index.write_index
    with monkeypatch.context() as patch:
        patch.setattr(cloud_index, "write_index", replaced_then_interrupted)
        assert run("cloud", "index", each_way / "cloud", upload, *JOBS).code == 130
    assert len(rows(each_way)) == before + 1
    assert each_way.search(each_way.ask("alice")).exists()


def test_leftovers_of_a_crashed_run_are_removed_by_the_next(each_way: Deployment) -> None:
    left = [each_way / "cloud" / "segments" / ".x.h5.tmp", each_way / "cloud" / "parts" / "99.h5"]
    for path in left:
        path.write_text("left")
    index(each_way, upload_of(each_way, "north", "new"))
    assert not any(path.exists() for path in left)
    assert each_way.search(each_way.ask("alice")).exists()


def test_an_interrupt_leaves_no_segments(changeable: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cloud_changes, "sums_of", interrupt)
    refuse(changeable, 130, "interrupted", upload_of(changeable, "north", "new"))


def test_the_features_stay_hidden_from_whoever_reads_the_cloud(any_scheme: Deployment) -> None:
    # the path of an image is inside the encrypted envelope, and its codes are there or at the KMC
    stored = b"".join(path.read_bytes() for path in (any_scheme / "cloud").rglob("*") if path.is_file())
    for owner in OWNERS:
        for name, path in any_scheme.pictures(owner).items():
            assert feature_of(path).tobytes() not in stored
            assert name.encode() not in stored or len(name) < 8


def test_other_owners_parts_are_left_alone(each_way: Deployment) -> None:
    from mipp_cli.containers.store.index import read_index

    def parts() -> dict[str, list[int]]:
        read = read_index(each_way / "cloud" / "index.h5", each_way.public.fingerprint)
        return {owner: [part.number for part in read.parts_of(owner)] for owner in OWNERS}

    before = parts()
    index(each_way, upload_of(each_way, "north", "new"))
    assert {**parts(), "north": []} == {**before, "north": []}
