"""Features are read out of uploads of scheme `paper` without a key, and out of no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mipp_cli.errors import InvalidRequestError, WrongDeploymentError
from mipp_cli.experiments.attack.as_printed import one_key_stream, shared_blinding
from mipp_cli.experiments.attack.attack import (
    ATTACKED,
    CODES,
    QUOTIENTS,
    SHARED,
    SQUARES,
    AttackOptions,
    attack_every_scheme,
    run_attack,
)
from mipp_cli.experiments.attack.keyless_reading import read_upload
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.result import Observation, Result
from mipp_cli.experiments.base.trial_deployment import (
    SampleOptions,
    SchemeSetting,
    scheme_settings,
    trial_deployment,
)
from mipp_cli.images.collection import collect_images
from mipp_cli.progress import silent
from tests.support.deployment import JOBS, SCHEMES, Deployment, done, feature_of, picture
from tests.support.small_datasets import INLINE


def attacked(deployment: Deployment, **options: object) -> Result:
    """Attack north's upload with the public file alone, which is all that is copied to the attacker."""
    given = {"images": deployment / "pictures" / "north", "parallelism": INLINE} | options
    return run_attack(deployment / "north.h5", AttackOptions(deployment / "kmc" / "kmc.pub", **given))


def rows(result: Result, reading: str) -> list[Observation]:
    return [row for row in result.observations if row["reading"] == reading]


def test_scheme_paper_falls_and_no_other_does(sum_scheme: Deployment) -> None:
    result = attacked(sum_scheme)
    codes, squares = rows(result, CODES), rows(result, SQUARES)
    assert len(codes) == len(squares) == 5 * 80
    if sum_scheme.scheme == "paper":
        assert all(row["fits"] and row["agrees"] == 1 for row in [*codes, *squares])
        read = np.array([row["read"] for row in codes]).reshape(5, 80)
        true = [feature_of(path) for path in sum_scheme.pictures("north").values()]
        assert sorted(read.tolist()) == sorted(each.tolist() for each in true)
        assert "All numbers are recovered" in result.claims[0].measured
        assert "codes of 5 images equal those of pictures in the folder" in result.claims[0].measured
    else:
        assert not any(row["fits"] for row in [*codes, *squares])
        assert {row["true"] for row in codes} == {None}
        assert float(np.mean([row["agrees"] for row in codes])) < 0.25
        assert "Nothing is recovered" in result.claims[0].measured
        assert "codes of 0 images" in result.claims[0].measured


def test_only_a_blinding_shared_by_code_and_square_leaks(sum_scheme: Deployment) -> None:
    result = attacked(sum_scheme)
    shared, apart = rows(result, SHARED), rows(result, QUOTIENTS)
    assert all(row["fits"] and row["agrees"] == 1 for row in shared)
    assert not any(row["fits"] for row in apart)
    assert "400 of 400 differences" in result.claims[1].measured


def test_the_leak_of_shared_blinding_is_x_squared_less_x(sum_scheme: Deployment) -> None:
    codes = np.arange(80) % 8
    assert shared_blinding(sum_scheme.public.parameters, codes).values.tolist() == (codes**2 - codes).tolist()


def test_images_are_compared_by_name_where_names_are_paths(deployment: Deployment, dataset: DataSet) -> None:
    folder = deployment / "pictures" / "lake"
    with trial_deployment(SchemeSetting("dcr", 1024), dataset, INLINE, image_names="path") as made:
        upload = made.encrypt("owner", collect_images([folder]), "upload")
        result = run_attack(upload, AttackOptions(made.kmc_file, folder, 2, parallelism=INLINE))
    found = rows(result, CODES)
    names = [str(row["image"]) for row in found[::80]]
    assert len(set(names) & set(deployment.pictures("lake"))) == 2
    assert [row["image"] for row in found] == [name for name in names for _ in range(80)]
    assert [row["true"] for row in found] == [
        code for name in names for code in feature_of(folder / name).tolist()
    ]
    assert all(row["agrees"] == float(row["read"] == row["true"]) for row in found)


def test_only_as_many_images_are_read_as_asked_for(sum_scheme: Deployment) -> None:
    readings, seconds = read_upload(sum_scheme / "north.h5", sum_scheme.public, 3, INLINE, silent)
    assert len(readings) == 3
    assert seconds > 0


def test_without_images_nothing_is_compared_or_drawn(sum_scheme: Deployment) -> None:
    result = attacked(sum_scheme, images=None, limit=1)
    assert (
        {row["true"] for row in rows(result, CODES)} == {None} == {r["agrees"] for r in rows(result, CODES)}
    )
    assert len(result.claims) == 2
    assert "true" not in result.notes[0]
    with pytest.raises(InvalidRequestError):
        attacked(sum_scheme, images=None, picture=Path("sheet.png"))


def test_two_pictures_under_one_key_stream_show_each_other(sum_scheme: Deployment, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    result = attacked(sum_scheme, limit=1, picture=sheet)
    assert "in 100 % of the bytes" in result.claims[2].measured
    with Image.open(sheet) as picture:
        assert picture.size == (912, 656)
    first, second = sorted(sum_scheme.pictures("south").values())[:2]
    pad = one_key_stream(first, second)
    assert (pad.difference == pad.plain[0] ^ pad.plain[1]).all()
    assert not (pad.encrypted[0] == pad.plain[0]).all()


def test_an_upload_of_another_deployment_is_refused(sum_scheme: Deployment, dataset: DataSet) -> None:
    with trial_deployment(SchemeSetting("mask", None), dataset) as other, pytest.raises(WrongDeploymentError):
        run_attack(sum_scheme / "north.h5", AttackOptions(other.kmc_file))


def test_where_the_kmc_ranks_an_upload_holds_nothing_to_attack(exact: Deployment) -> None:
    with pytest.raises(InvalidRequestError, match="an upload of scheme exact contains no features"):
        attacked(exact)


def test_at_least_one_image_is_read() -> None:
    with pytest.raises(InvalidRequestError):
        AttackOptions(Path("kmc.pub"), limit=0)


def test_own_features_are_read_but_not_compared_with_images(tmp_path: Path) -> None:
    kmc, images = tmp_path / "kmc" / "kmc.pub", tmp_path / "images"
    done("kmc", "init", tmp_path / "kmc", *SCHEMES["paper"], "--descriptor", "deep:5:256")
    done("owner", "init", tmp_path / "owner", "--id", "owner", "--kmc", kmc)
    images.mkdir()
    picture(1, size=(24, 24)).save(images / "a.png")
    vector = [0, 1, 9, 128, 255]
    np.save(tmp_path / "f.npy", [vector])
    upload = tmp_path / "u.h5"
    done(
        "owner", "encrypt", tmp_path / "owner", images, "-o", upload, "--features", tmp_path / "f.npy", *JOBS
    )
    result = run_attack(upload, AttackOptions(kmc, parallelism=INLINE))
    assert [row["read"] for row in rows(result, CODES)] == vector
    assert [row["read"] for row in rows(result, SQUARES)] == [x * x for x in vector]
    assert "All numbers are recovered" in result.claims[0].measured
    assert any("read 0 1 9 128 255" in note for note in result.notes)
    with pytest.raises(InvalidRequestError, match="cannot be compared"):
        run_attack(upload, AttackOptions(kmc, images, parallelism=INLINE))


def test_of_uploads_made_for_it_that_of_scheme_paper_falls(dataset: DataSet, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    trial = SampleOptions(tuple(scheme_settings(ATTACKED, (1024,))), images=2, parallelism=INLINE)
    results = {each.name: each for each in attack_every_scheme(dataset, trial, sheet, silent)}
    assert list(results) == ["attack-paper", "attack-dcr", "attack-mask"]
    assert "All numbers are recovered" in results["attack-paper"].claims[0].measured
    for name in ("attack-dcr", "attack-mask"):
        assert "Nothing is recovered" in results[name].claims[0].measured
        assert len(results[name].claims) == 1
    assert sheet.exists()
