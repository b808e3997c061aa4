"""The user's last step: which answers open, how matches are ranked, and what is written of them."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from mipp_cli.containers.messages.manifest import Manifest, ManifestMatch
from mipp_cli.containers.messages.reencrypted import AnswerCipher, open_reencrypted, write_reencrypted
from mipp_cli.errors import TamperedError
from mipp_cli.owner.owner import Owner
from mipp_cli.scheme.secret_keys import generate_key
from mipp_cli.user.user import remembered_query
from tests.support.deployment import (
    JOBS,
    Deployment,
    change_state,
    done,
    draw_pictures,
    feature_of,
    mode,
    picture,
    png_bomb,
    refused,
    shared_deployment,
    snapshot,
)
from tests.support.forgery import Picture, publish, random_feature, stranger

COLUMNS = ["query", "rank", "owner", "name", "distance", "file", "study", "series"]


def matches(folder: Path) -> list[dict[str, str]]:
    with (folder / "matches.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def decrypt(deployment: Deployment, answer: Path, folder: Path, *options: object) -> list[dict[str, str]]:
    done("user", "decrypt", deployment / "alice", answer, "-o", folder, *options)
    return matches(folder)


def all_matches(deployment: Deployment) -> list[dict[str, str]]:
    """Ask for everything that Alice may see, and decrypt it into `all`."""
    answer = deployment.answer(
        deployment.search(deployment.ask("alice", candidates=100, pictures=("q1.png",)))
    )
    return decrypt(deployment, answer, deployment / "all", "--top", 100)


def refuse(
    deployment: Deployment, answer: Path, code: int, words: str, *options: object, user: str = "alice"
) -> None:
    before = snapshot(deployment / user)
    output = answer.with_name("refused")
    outcome = refused(code, "user", "decrypt", deployment / user, answer, "-o", output, *options)
    assert words in outcome.err
    assert not output.exists()
    assert not list(answer.parent.glob(".*"))
    assert snapshot(deployment / user) == before


def parts_of(deployment: Deployment, answer: Path, user: str) -> tuple[AnswerCipher, Manifest, list[bytes]]:
    """Open an answer as its user does: cipher, manifest and NER."""
    with open_reencrypted(answer, deployment.public.fingerprint) as container:
        query_id = container.header.number
        query = remembered_query(deployment.role(user), query_id)
        cipher = AnswerCipher(query.usk, deployment.public.fingerprint, user, query_id)
        ner = [container.ragged("NER").row(number) for number in range(len(container.ragged("NER")))]
        return cipher, cipher.open_manifest(container.data("manifest", 1 << 20)), ner


def sealed_manifest(deployment: Deployment, answer: Path) -> bytes:
    with open_reencrypted(answer, deployment.public.fingerprint) as container:
        return container.data("manifest", 1 << 20)


@pytest.fixture(params=["mask", "exact"])
def answered(request: pytest.FixtureRequest, session_folder: Path) -> Deployment:
    """A deployment to read from, in which the cloud ranked, and one in which the KMC did."""
    return shared_deployment(session_folder, request.param)


def forge_answer(
    deployment: Deployment,
    path: Path,
    change: Callable[[Manifest, list[bytes]], tuple[Manifest, list[bytes]]],
    sender: str = "kmc",
    data: Callable[[bytes], bytes] = bytes,
) -> Path:
    """Write what a party would make of Alice's answer that has the KMC's key (or its own) and her USK."""
    cipher, manifest, ner = parts_of(deployment, deployment / "alice.answer.h5", "alice")
    manifest, ner = change(manifest, ner)
    sealed = cipher.seal_manifest(data(packed(manifest)))
    write_reencrypted(path, deployment.sender(sender), cipher.query_id, ner, lambda: sealed)
    return path


def packed(manifest: Manifest) -> bytes:
    return manifest.pack(len(manifest.matches), len(manifest.owners))


def same(manifest: Manifest, ner: list[bytes]) -> tuple[Manifest, list[bytes]]:
    """Change nothing."""
    return manifest, ner


# What opens an answer, and what does not.


def test_an_owners_sk_opens_no_answer(any_scheme: Deployment) -> None:
    answer = any_scheme / "alice.answer.h5"
    cipher, manifest, ner = parts_of(any_scheme, answer, "alice")
    for owner in ("north", "south", "lake"):
        image_key = Owner.open(any_scheme / owner).image_key
        leaked = AnswerCipher(image_key, cipher.deployment, cipher.user, cipher.query_id)
        with pytest.raises(TamperedError):
            leaked.open_manifest(sealed_manifest(any_scheme, answer))
        assert len(ner) == manifest.images
        for place, image in enumerate(ner):
            with pytest.raises(TamperedError):
                leaked.decrypt_image(image, place)
            assert cipher.decrypt_image(image, place)


def test_a_usk_opens_the_answer_to_its_query_and_no_other(any_scheme: Deployment, tmp_path: Path) -> None:
    deployment = any_scheme.copy(tmp_path / "copy")
    one, two = (deployment.answer(deployment.search(deployment.ask("alice"))) for _ in range(2))
    first, _, ner = parts_of(deployment, one, "alice")
    second, _, _ = parts_of(deployment, two, "alice")
    for query_id in (first.query_id, second.query_id):
        leaked = AnswerCipher(second.usk, first.deployment, "alice", query_id)
        with pytest.raises(TamperedError):
            leaked.open_manifest(sealed_manifest(deployment, one))
        with pytest.raises(TamperedError):
            leaked.decrypt_image(ner[0], 0)


def test_with_the_usk_of_another_query_nothing_is_written(each_way: Deployment) -> None:
    answer = each_way / "alice.answer.h5"
    for file in (each_way / "alice" / "queries").glob("*.json"):
        change_state(file, lambda fields: fields | {"usk": generate_key().hex()})
    refuse(each_way, answer, 3, "does not fit its key")


def test_another_users_answer_is_refused(answered: Deployment, tmp_path: Path) -> None:
    shutil.copy(answered / "alice.answer.h5", tmp_path / "a.h5")
    refuse(answered, tmp_path / "a.h5", 8, "answers a query that this user did not make", user="bob")


def test_an_answer_that_the_cloud_signed_is_refused(answered: Deployment, tmp_path: Path) -> None:
    answer = forge_answer(answered, tmp_path / "a.h5", same, sender="cloud")
    refuse(answered, answer, 8, "is not signed by the KMC of this deployment")


def test_an_answer_with_an_image_dropped_is_refused(answered: Deployment, tmp_path: Path) -> None:
    answer = forge_answer(answered, tmp_path / "a.h5", lambda m, ner: (m, ner[:-1]))
    refuse(answered, answer, 3, "some were dropped or added")


def test_an_answer_with_an_image_added_is_refused(answered: Deployment, tmp_path: Path) -> None:
    answer = forge_answer(answered, tmp_path / "a.h5", lambda m, ner: (m, [*ner, ner[0]]))
    refuse(answered, answer, 3, "some were dropped or added")


def test_an_answer_with_two_images_swapped_is_refused(answered: Deployment, tmp_path: Path) -> None:
    answer = forge_answer(answered, tmp_path / "a.h5", lambda m, ner: (m, [ner[1], ner[0], *ner[2:]]))
    refuse(answered, answer, 3, "does not fit its key, its owner, its name or its place")


def test_an_answer_with_another_query_digest_is_refused(answered: Deployment, tmp_path: Path) -> None:
    def answers_another(manifest: Manifest, ner: list[bytes]) -> tuple[Manifest, list[bytes]]:
        return replace(manifest, query_digest="00" * 32), ner

    answer = forge_answer(answered, tmp_path / "a.h5", answers_another)
    refuse(answered, answer, 3, "does not answer the query that was sent")


def test_an_answer_matching_an_unknown_query_image_is_refused(answered: Deployment, tmp_path: Path) -> None:
    def third_image(manifest: Manifest, ner: list[bytes]) -> tuple[Manifest, list[bytes]]:
        return replace(manifest, matches=(ManifestMatch(2, 0, manifest.owners[0].name),)), ner

    answer = forge_answer(answered, tmp_path / "a.h5", third_image)
    refuse(answered, answer, 3, "has a match for a query image that does not exist")


@pytest.mark.parametrize("owner", ["../../x", "", "x" * 65, "a\n"])
def test_an_answer_that_names_an_owner_improperly_is_refused(
    answered: Deployment, tmp_path: Path, owner: str
) -> None:
    def renamed(manifest: bytes) -> bytes:
        size = int.from_bytes(manifest[:4], "big")
        head = manifest[4 : 4 + size].replace(b'"north"', json.dumps(owner).encode())
        return len(head).to_bytes(4, "big") + head + manifest[4 + size :]

    answer = forge_answer(answered, tmp_path / "a.h5", same, data=renamed)
    refuse(answered, answer, 3, "invalid entry of an owner")


def test_an_answer_of_another_deployment_is_refused(changeable: Deployment, tmp_path: Path) -> None:
    done("kmc", "init", tmp_path / "kmc", "--scheme", "mask")
    done("user", "init", tmp_path / "u", "--id", "alice", "--kmc", tmp_path / "kmc" / "kmc.pub")
    words = ("user", "decrypt", tmp_path / "u", changeable / "alice.answer.h5", "-o", tmp_path / "m")
    assert "belongs to the deployment" in refused(8, *words).err


def test_an_answer_that_was_changed_on_its_way_is_refused(answered: Deployment, tmp_path: Path) -> None:
    content = bytearray((answered / "alice.answer.h5").read_bytes())
    content[-100] ^= 1
    (tmp_path / "a.h5").write_bytes(content)
    refuse(answered, tmp_path / "a.h5", 3, "does not match the digest")


# How matches are ranked and listed.


def test_matches_are_ranked_by_euclidean_distance(any_scheme: Deployment) -> None:
    for number, query in enumerate(("q1.png", "q2.png"), start=1):
        rows = [row for row in matches(any_scheme / "alice.matches") if row["query"] == query]
        y = feature_of(any_scheme / "pictures" / "queries" / f"q{number}.png").tolist()
        expected = []
        for row in rows:
            x = feature_of(any_scheme.pictures(row["owner"])[row["name"]]).tolist()
            distance = math.sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))
            expected.append(distance)
        assert expected == sorted(expected)
        assert [row["distance"] for row in rows] == [f"{each:.6f}" for each in expected]
        assert [row["rank"] for row in rows] == ["1", "2", "3", "4", "5"]


def test_equal_distances_are_ordered_by_owner_and_name(changeable: Deployment) -> None:
    content = picture(1)
    buffer = io.BytesIO()
    content.save(buffer, "PNG")
    twins = [Picture(f"{number}.png", content=buffer.getvalue()) for number in range(3)]
    for owner in ("south", "north"):
        publish(changeable, owner, twins)
    rows = all_matches(changeable)
    keys = [(float(row["distance"]), row["owner"], row["name"]) for row in rows]
    assert len({key[0] for key in keys}) < len(keys)
    assert keys == sorted(keys)


def test_the_table_has_its_columns_and_names_existing_files(answered: Deployment) -> None:
    folder = answered / "alice.matches"
    text = (folder / "matches.csv").read_bytes().decode()
    assert text.splitlines()[0].split(",") == COLUMNS
    assert "\r" not in text
    files = {row["file"] for row in matches(folder)}
    assert files == {path.relative_to(folder).as_posix() for path in folder.glob("query-*/*")}
    for row in matches(folder):
        assert row["name"] in answered.pictures(row["owner"])


def test_top_keeps_the_nearest_of_each_query_image(answered: Deployment, tmp_path: Path) -> None:
    nearest = decrypt(answered, answered / "alice.answer.h5", tmp_path / "m", "--top", 2)
    assert nearest == [row for row in matches(answered / "alice.matches") if int(row["rank"]) <= 2]
    assert len(list((tmp_path / "m").glob("query-*/*"))) == 4


@pytest.mark.parametrize("top", [0, -1])
def test_no_match_cannot_be_asked_for(deployment: Deployment, tmp_path: Path, top: int) -> None:
    shutil.copy(deployment / "alice.answer.h5", tmp_path / "a.h5")
    refuse(deployment, tmp_path / "a.h5", 2, "at least one match must be requested", "--top", top)


def test_what_is_printed_is_what_the_table_says(answered: Deployment, tmp_path: Path) -> None:
    words = (answered / "alice", answered / "alice.answer.h5", "-o", tmp_path / "m", "--json")
    listed = done("user", "decrypt", *words).json["matches"]
    shown = [{**each, "rank": str(each["rank"]), "distance": f"{each['distance']:.6f}"} for each in listed]
    assert shown == matches(tmp_path / "m")


# The folder.


def test_only_the_user_may_read_the_matches(any_scheme: Deployment) -> None:
    folder = any_scheme / "alice.matches"
    assert mode(folder) == "0700"
    for path in folder.rglob("*"):
        assert mode(path) == ("0700" if path.is_dir() else "0600"), path


def test_the_contact_sheet_is_a_picture_in_the_folder(any_scheme: Deployment) -> None:
    with Image.open(any_scheme / "alice.matches" / "contact-sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > 500
        assert len(sheet.convert("RGB").getcolors(1 << 24) or []) > 100


def test_the_page_links_to_every_picture_and_to_copies(any_scheme: Deployment) -> None:
    folder = any_scheme / "alice.matches"
    page = (folder / "matches.html").read_text()
    links = [unquote(link) for link in re.findall(r'<a class="picture[^>]* href="([^"]*)"', page)]
    rows = matches(folder)
    assert len(links) == len(rows)
    for link, row in zip(links, rows, strict=True):
        with Image.open(folder / row["file"]) as given:
            copied = row["file"].endswith(".tif") or given.mode.startswith("I")
        assert link.startswith("copies/") if copied else link == row["file"]
        with Image.open(folder / link) as shown:
            assert shown.format in {"JPEG", "PNG", "WEBP", "BMP"}
    assert any(link.startswith("copies/") for link in links)


def test_the_page_says_how_the_answer_came_about(any_scheme: Deployment) -> None:
    page = (any_scheme / "alice.matches" / "matches.html").read_text()
    assert "Searched: 10 images of 2 owners" in page
    assert "north (5), south (5)" in page
    assert f"<dd>{any_scheme.scheme}</dd>" in page
    assert "Euclidean distance of features (edge-histogram)" in page


def test_the_page_repeats_what_is_warned_of(changeable: Deployment, tmp_path: Path) -> None:
    publish(changeable, "south", [Picture(feature=random_feature(1)[:79])])
    answer = changeable.answer(changeable.search(changeable.ask("alice", candidates=100)))
    warning = "left out a malformed image of south"
    words = (changeable / "alice", answer, "-o", tmp_path / "m")
    assert warning in done("user", "decrypt", *words).err
    assert warning in (tmp_path / "m" / "matches.html").read_text()


def test_matches_that_exist_are_replaced_only_with_force(deployment: Deployment, tmp_path: Path) -> None:
    answer, folder = deployment / "alice.answer.h5", tmp_path / "m"
    decrypt(deployment, answer, folder)
    before = snapshot(folder)
    outcome = refused(10, "user", "decrypt", deployment / "alice", answer, "-o", folder)
    assert f"{folder}: the output exists" in outcome.err
    assert snapshot(folder) == before
    assert len(decrypt(deployment, answer, folder, "--force", "--top", 1)) == 2
    assert len(list(folder.glob("query-*/*"))) == 2
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("thing", ["notes.txt", "query-9", ".hidden", "matches.html.orig"])
def test_a_folder_with_other_things_in_it_is_never_replaced(
    deployment: Deployment, tmp_path: Path, thing: str
) -> None:
    answer, folder = deployment / "alice.answer.h5", tmp_path / "m"
    decrypt(deployment, answer, folder)
    (folder / thing).write_text("mine")
    before = snapshot(folder)
    outcome = refused(10, "user", "decrypt", deployment / "alice", answer, "-o", folder, "--force")
    assert "contains files other than matches" in outcome.err
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    "names",
    [
        ("contact-sheet.png",),
        ("query-1/a.png",),
        ("matches.html",),
        ("copies/a.jpg",),
        ("matches.csv", "copies"),
        ("matches.csv", "copies-2/a.jpg"),
        ("matches.csv", "query-notes/a.txt"),
        ("matches.csv", "query-1x/a.png"),
        ("matches.csv", "query-/a.png"),
    ],
    ids=str,
)
def test_a_folder_that_only_resembles_matches_is_never_replaced(
    deployment: Deployment, tmp_path: Path, names: tuple[str, ...]
) -> None:
    for name in names:
        (tmp_path / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / name).write_text("mine")
    before = snapshot(tmp_path)
    words = (deployment / "alice", deployment / "alice.answer.h5", "-o", tmp_path / "m", "--force")
    assert "contains files other than matches" in refused(10, "user", "decrypt", *words).err
    assert snapshot(tmp_path) == before


def test_an_empty_folder_is_replaced_with_force(deployment: Deployment, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    assert decrypt(deployment, deployment / "alice.answer.h5", tmp_path / "m", "--force")


@pytest.mark.parametrize(
    "name", ["m", "matches.csv", "matches.html", "contact-sheet.png", "query-1", "copies"]
)
def test_a_file_in_the_place_of_the_folder_is_never_replaced(
    deployment: Deployment, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("mine")
    words = (deployment / "alice", deployment / "alice.answer.h5", "-o", tmp_path / name, "--force")
    refused(10, "user", "decrypt", *words)
    assert (tmp_path / name).read_text() == "mine"


def test_what_is_written_is_synced(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = set()
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    decrypt(deployment, deployment / "alice.answer.h5", tmp_path / "m")
    files = [path for path in (tmp_path / "m").rglob("*") if path.is_file()]
    assert len(files) > 2
    assert {path.stat().st_ino for path in files} <= synced


def test_a_link_in_the_place_of_the_folder_is_never_followed(deployment: Deployment, tmp_path: Path) -> None:
    decrypt(deployment, deployment / "alice.answer.h5", tmp_path / "real")
    (tmp_path / "m").symlink_to(tmp_path / "real")
    before = snapshot(tmp_path)
    words = (deployment / "alice", deployment / "alice.answer.h5", "-o", tmp_path / "m", "--force")
    refused(10, "user", "decrypt", *words)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("place", [".", "..", ""])
def test_the_folder_at_hand_is_never_replaced(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    words = (deployment / "alice", deployment / "alice.answer.h5", "-o", place, "--force")
    refused(10, "user", "decrypt", *words)


def test_old_matches_stay_when_the_new_cannot_take_their_place(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, folder = deployment / "alice.answer.h5", tmp_path / "m"
    decrypt(deployment, answer, folder)
    before = snapshot(tmp_path)
    rename = Path.rename

    def fail(path: Path, target: Path) -> Path:
        if path.suffix == ".tmp":
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    refused(10, "user", "decrypt", deployment / "alice", answer, "-o", folder, "--force", "--top", 1)
    assert snapshot(tmp_path) == before


# Images come back as they were.


def test_every_format_comes_back_bit_for_bit(each_way: Deployment) -> None:
    rows = all_matches(each_way)
    suffixes = {Path(row["name"]).suffix for row in rows}
    assert suffixes == {".jpg", ".png", ".tif", ".bmp", ".webp", ".jpeg", ".tiff"}
    for row in rows:
        original = each_way.pictures(row["owner"])[row["name"]].read_bytes()
        assert (each_way / "all" / row["file"]).read_bytes() == original


@pytest.mark.parametrize("kind", ["L", "RGB", "I;16", "P", "RGBA", "LA"])
def test_the_pixel_payload_gives_back_the_same_pixels(each_way: Deployment, kind: str) -> None:
    drawn = picture(77, mode=kind)
    drawn.save(each_way / "pixels.png")
    words = (
        each_way / "north",
        each_way / "pixels.png",
        "-o",
        each_way / "p.h5",
        "--payload",
        "pixels",
    )
    done("owner", "encrypt", *words, "--small", *JOBS)
    each_way.index(each_way / "p.h5")
    name = Owner(each_way.role("north")).keyed_name("pixels.png")
    row = next(row for row in all_matches(each_way) if row["name"] == name)
    with Image.open(each_way / "all" / row["file"]) as given:
        assert given.format == "PNG"
        expected = drawn.convert("RGB") if kind == "P" else drawn
        assert np.array_equal(np.asarray(given), np.asarray(expected))


def test_an_image_matching_two_queries_is_written_twice(any_scheme: Deployment) -> None:
    rows = matches(any_scheme / "alice.matches")
    found = [{(row["owner"], row["name"]) for row in rows if row["query"] == f"q{n}.png"} for n in (1, 2)]
    assert found[0] & found[1]
    for image in found[0] & found[1]:
        files = [
            any_scheme / "alice.matches" / row["file"] for row in rows if (row["owner"], row["name"]) == image
        ]
        assert len(files) == 2
        assert len({file.read_bytes() for file in files}) == 1


# What hostile owners write into their images.

NAMES = [
    "../../../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "",
    "a/../../b.png",
    "..\\..\\windows\\x.png",
    "C:\\x.png",
    "same.png",
    "same.png",
    "SAME.PNG",
    ".bashrc",
    "x" * 60_000 + ".png",
    "é" * 5_000,
    "nul\0byte.png",
    "new\nline\r\n.png",
    "\x1b[31mred\x07.png",
    "exe.\u202egnp.png",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    'comma, and "quotes"',
    "CON",
    "trailing. . ",
    "💾 患者.png",
]


@pytest.fixture(scope="module")
def hostile(session_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """A deployment in which one owner gave its pictures every dangerous name."""
    made = shared_deployment(session_folder, "mask").copy(tmp_path_factory.mktemp("hostile") / "deployment")
    buffer = io.BytesIO()
    picture(3).save(buffer, "PNG")
    publish(made, "south", [Picture(name, content=buffer.getvalue()) for name in NAMES])
    all_matches(made)
    return made


def test_dangerous_names_never_leave_the_folder(hostile: Deployment) -> None:
    folder = hostile / "all"
    rows = matches(folder)
    assert len(rows) == 10 + len(NAMES)
    assert len({row["file"] for row in rows}) == len(rows)
    for row in rows:
        path = folder / row["file"]
        assert path.is_file()
        assert path.resolve().parent == (folder / "query-1").resolve()
        assert len(path.name.encode()) <= 255
        assert path.name.isprintable()
        assert not path.name.startswith((".", "-"))
    own = {"matches.csv", "matches.html", "contact-sheet.png", "query-1", "copies"}
    assert {path.name for path in folder.iterdir()} == own
    assert all(re.fullmatch(r"query-1-[0-9]{3}\.jpg", path.name) for path in (folder / "copies").iterdir())


def test_dangerous_names_are_no_formulas_and_steer_no_terminal(hostile: Deployment) -> None:
    raw = (hostile / "all" / "matches.csv").read_text()
    assert all(character.isprintable() or character == "\n" for character in raw)
    for row in matches(hostile / "all"):
        for cell in row.values():
            assert not cell.startswith(("=", "+", "-", "@"))
    # one line for each match: no name broke one
    assert raw.count("\n") == 1 + 10 + len(NAMES)


def test_dangerous_names_are_listed_so_that_they_can_be_told(hostile: Deployment) -> None:
    names = [row["name"] for row in matches(hostile / "all")]
    assert {"../../../../etc/passwd", "", "nul\\u0000byte.png", "./=cmd|' /C calc'!A0", "./-1"} <= set(names)
    assert names.count("same.png") == 2


def test_what_is_said_of_dangerous_names_steers_no_terminal(hostile: Deployment, tmp_path: Path) -> None:
    (answer,) = hostile.root.glob("alice-*.answer.h5")
    outcome = done("user", "decrypt", hostile / "alice", answer, "-o", tmp_path / "m", "--top", 100)
    assert all(character.isprintable() or character == "\n" for character in outcome.out + outcome.err)
    assert outcome.out.count("etc/passwd") == 2


HOSTILE = {
    "a bomb": Picture(content=png_bomb()),
    "no picture": Picture(content=b"<html>"),
    "nothing": Picture(content=b""),
    "another media type": Picture(media_type="text/html", content=b"<script>"),
    "a media type that is a path": Picture(media_type="../../x"),
    "no media type": Picture(media_type=""),
    "a PNG that is none": Picture(media_type="image/png", content=b"\x89PNG\r\n\x1a\n"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_picture_does_not_stop_the_others(each_way: Deployment, kind: str) -> None:
    publish(each_way, "south", [HOSTILE[kind]])
    rows = all_matches(each_way)
    assert len(rows) == 11
    (forged,) = (row for row in rows if row["name"] == "picture.png")
    given = (each_way / "all" / forged["file"]).read_bytes()
    assert given == HOSTILE[kind].content
    assert Path(forged["file"]).suffix in (".bin", ".png")
    with Image.open(each_way / "all" / "contact-sheet.png") as sheet:
        sheet.load()


@pytest.mark.parametrize(
    "feature",
    [
        random_feature(1)[:79],
        np.zeros(0, dtype=np.uint8),
        np.zeros(81, dtype=np.uint8),
        np.full(80, 8, dtype=np.uint8),
    ],
)
def test_an_image_with_a_foreign_feature_is_left_out(changeable: Deployment, feature: np.ndarray) -> None:
    publish(changeable, "south", [Picture(feature=feature)])
    answer = changeable.answer(changeable.search(changeable.ask("alice", candidates=100)))
    words = (changeable / "alice", answer, "-o", changeable / "all", "--top", 100, "--json")
    report = done("user", "decrypt", *words).json
    assert report["counts"]["matches"] == 20
    assert any("left out a malformed image of south" in warning for warning in report["warnings"])


@pytest.mark.parametrize("envelope", [b"", b"\0" * 64, b"\xff" * 64, b"\x01" + b"\xff" * 23])
def test_an_image_with_a_malformed_envelope_is_left_out(
    each_way: Deployment, envelope: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("mipp_cli.scheme.envelope.Envelope.pack", lambda *_: envelope)
        publish(each_way, "south", [Picture()])
    answer = each_way.answer(each_way.search(each_way.ask("alice", candidates=100)))
    words = (each_way / "alice", answer, "-o", each_way / "all", "--top", 100)
    assert "left out a malformed image of south" in done("user", "decrypt", *words).err
    assert len(matches(each_way / "all")) == 20


def test_an_image_over_the_size_limit_is_left_out(
    each_way: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(each_way, "south", [Picture(content=bytes(60_000))])
    answer = each_way.answer(each_way.search(each_way.ask("alice", candidates=100)))
    monkeypatch.setattr("mipp_cli.scheme.envelope.IMAGE_LIMIT", 50_000)
    words = (each_way / "alice", answer, "-o", each_way / "all", "--top", 100)
    assert "left out a malformed image of south" in done("user", "decrypt", *words).err
    assert len(matches(each_way / "all")) == 20


def test_the_kmc_of_a_stranger_is_not_trusted(answered: Deployment, tmp_path: Path) -> None:
    cipher, manifest, ner = parts_of(answered, answered / "alice.answer.h5", "alice")
    sealed = cipher.seal_manifest(packed(manifest))
    write_reencrypted(tmp_path / "a.h5", stranger(answered, "kmc"), cipher.query_id, ner, lambda: sealed)
    refuse(answered, tmp_path / "a.h5", 8, "is not signed by the KMC")


def test_queries_of_the_same_name_are_told_apart_by_folder(changeable: Deployment, tmp_path: Path) -> None:
    draw_pictures(tmp_path / "p")
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        shutil.copy(tmp_path / "p" / "queries" / "q1.png", tmp_path / folder / "same.png")
    images = (tmp_path / "one" / "same.png", tmp_path / "two" / "same.png")
    done("user", "query", changeable / "alice", *images, "-o", changeable / "q.h5")
    answer = changeable.answer(changeable.search(changeable / "q.h5"))
    found = decrypt(changeable, answer, changeable / "m")
    assert {match["query"] for match in found} == {str(image) for image in images}
