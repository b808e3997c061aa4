"""``mipp features``: the 80 codes, as a table for people, as CSV, as JSON."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mipp_cli.descriptors.edge_histogram import edge_histogram
from mipp_cli.images.windowing import windowed
from tests.support.deployment import SAMPLES, Deployment, done, feature_of, picture, refused
from tests.support.tiny_model import tiny_model


def test_the_codes_are_those_of_the_edge_histogram() -> None:
    folder = SAMPLES / "queries"
    found = done("features", folder, "--json").json["descriptions"]
    assert {each["path"]: each["codes"] for each in found} == {
        str(path): feature_of(path).tolist() for path in folder.iterdir()
    }


def test_as_csv_there_is_a_line_an_image() -> None:
    path = SAMPLES / "queries" / "chest.jpg"
    header, row = csv.reader(io.StringIO(done("features", path, "--csv").out))
    assert header == ["path", *(f"code{number}" for number in range(1, 81))]
    assert row == [str(path), *map(str, feature_of(path).tolist())]


def test_people_see_a_line_for_each_of_16_sub_images(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "a.png")
    lines = done("features", tmp_path / "a.png").out.splitlines()
    assert lines[0] == str(tmp_path / "a.png")
    assert lines[1].split() == ["row,column", "vert", "horiz", "45°", "135°", "none"]
    shown = [line.split() for line in lines[2:18]]
    assert [line[0] for line in shown] == [f"{row},{column}" for row in range(1, 5) for column in range(1, 5)]
    assert [int(code) for line in shown for code in line[1:]] == feature_of(tmp_path / "a.png").tolist()


def test_the_depth_of_grey_does_not_matter(tmp_path: Path) -> None:
    deep = np.asarray(picture(3, mode="I;16"))
    for bits in (12, 16):
        Image.fromarray(deep >> (16 - bits)).save(tmp_path / f"{bits}.png")
    shallow, full = done("features", tmp_path / "12.png", tmp_path / "16.png", "--json").json["descriptions"]
    assert full["codes"] == edge_histogram(Image.fromarray(windowed(deep).levels)).tolist()
    assert np.abs(np.subtract(shallow["codes"], full["codes"])).sum() <= 4


def test_a_picture_without_edges_is_warned_of(tmp_path: Path) -> None:
    Image.new("RGB", (90, 90), (9, 9, 9)).save(tmp_path / "flat.png")
    outcome = done("features", tmp_path / "flat.png")
    assert outcome.err == f"warning: {tmp_path / 'flat.png'} has no edges\n"
    description = done("features", tmp_path / "flat.png", "--json").json["descriptions"][0]
    assert description["edgeless"] is True
    assert set(description["codes"]) == {0}


def test_a_picture_without_edges_is_warned_of_beside_csv_too(tmp_path: Path) -> None:
    Image.new("RGB", (90, 90), (9, 9, 9)).save(tmp_path / "flat.png")
    outcome = done("features", tmp_path / "flat.png", "--csv")
    assert outcome.err == f"warning: {tmp_path / 'flat.png'} has no edges\n"
    assert len(outcome.out.splitlines()) == 2


def test_pictures_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "x.png" for folder in ("a", "b")]
    for number, path in enumerate(paths):
        path.parent.mkdir()
        picture(number).save(path)
    descriptions = done("features", *paths, "--json").json["descriptions"]
    assert [each["path"] for each in descriptions] == [str(path) for path in paths]


def test_a_folder_whose_name_is_not_text_can_be_described(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\x1b[31m"))
    folder.mkdir()
    picture(1).save(folder / "a.png")
    for option in ((), ("--csv",), ("--json",)):
        shown = done("features", folder, *option).out
        assert "\x1b" not in shown
        shown.encode()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--device", "cuda"), "no image model to run on cuda"),
        (("--model-output", "logits"), "need an image model, not edge-histogram"),
        (
            ("--descriptor", "colour-edge", "--model-pooling", "mean"),
            "need an image model, not colour-edge",
        ),
        (("--descriptor", "colour"), "is not a descriptor"),
        (("--descriptor", "model:"), "is not a descriptor"),
    ],
    ids=str,
)
def test_options_of_a_model_want_a_model(
    deployment: Deployment, options: tuple[str, ...], words: str
) -> None:
    example = next((deployment / "pictures" / "queries").iterdir())
    assert words in refused(2, "features", example, *options).err


def test_the_output_of_a_model_can_be_named(deployment: Deployment, tmp_path: Path) -> None:
    model = tiny_model(tmp_path, outputs={"image_embeds": "vector", "other": "vector"}).parent
    example = next((deployment / "pictures" / "queries").iterdir())
    words = ("features", example, "--descriptor", f"model:{model}", "--json")
    default, named = done(*words).json, done(*words, "--model-output", "other").json
    assert default["descriptions"] != named["descriptions"]


def test_a_device_wants_a_model_in_the_deployment(changeable: Deployment, tmp_path: Path) -> None:
    words = (
        changeable / "north",
        changeable / "pictures" / "north",
        "-o",
        tmp_path / "u.h5",
        "--device",
        "cuda",
    )
    assert "no image model to run on cuda" in refused(2, "owner", "encrypt", *words).err
