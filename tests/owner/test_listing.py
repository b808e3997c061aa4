"""What `mipp owner list` tells: every image that was sent, as the owner's ledger has it."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mipp_cli.containers.base.container import header_of
from mipp_cli.owner.ledger import Ledger, Message, SentImage
from mipp_cli.owner.listing import ListedImage, ListFilter, listing_of
from mipp_cli.owner.owner import Owner
from mipp_cli.report import Streamed
from mipp_cli.scheme.secret_keys import key_id
from mipp_cli.workdir.replay import iso_time, moment
from tests.owner.test_encrypt import envelopes
from tests.support.deployment import JOBS, Deployment, done, refused, run, snapshot

COLUMNS = ["path", "shown_as", "image_id", "upload", "time", "group", "state", "key"]


def table(deployment: Deployment, *options: object) -> list[dict[str, str]]:
    """Return what north's list prints as CSV."""
    rows = [*csv.DictReader(io.StringIO(done("owner", "list", deployment / "north", "--csv", *options).out))]
    assert all(list(row) == COLUMNS for row in rows)
    return rows


def listed(deployment: Deployment, *options: object) -> list[dict[str, Any]]:
    """Return the same as JSON."""
    report = done("owner", "list", deployment / "north", "--json", *options).json
    assert report["counts"]["images"] == len(report["images"])
    images = report["images"]
    assert isinstance(images, list)
    return images


def states(deployment: Deployment, *options: object) -> dict[str, str]:
    return {row["path"]: row["state"] for row in listed(deployment, *options)}


@pytest.fixture
def lived(each_way: Deployment) -> tuple[Deployment, int, int, int]:
    """A deployment whose north sent all, two images anew, and deleted two: the numbers of these messages."""
    north, pictures = each_way / "north", each_way / "pictures" / "north"
    words = ("--root", pictures, "--again", "-o", each_way / "u.h5")
    done("owner", "encrypt", north, pictures / "hand", *words, *JOBS)
    done("owner", "delete", north, "chest/a.jpg", "hand/d.bmp", "-o", each_way / "d.h5")
    files = (each_way / name for name in ("north.h5", "u.h5", "d.h5"))
    first, second, third = (header_of(file).sequence_number for file in files)
    return each_way, first, second, third


def test_all_that_is_live_is_listed(deployment: Deployment) -> None:
    rows = table(deployment)
    assert {row["image_id"]: row["path"] for row in rows} == deployment.names("north")
    number = header_of(deployment / "north.h5").sequence_number
    key = f"{key_id(Owner.open(deployment / 'north').image_key):016x}"
    for row in rows:
        assert row["upload"] == str(number)
        assert row["time"] == iso_time(number)
        assert (row["state"], row["key"], row["group"]) == ("live", key, "")


def test_groups_are_listed_where_there_are_some(exact: Deployment) -> None:
    groups = [row["group"] for row in listed(exact)]
    assert all(groups)
    assert 1 < len(set(groups)) < len(groups)


def test_without_filters_only_what_is_live_is_listed(lived: tuple[Deployment, int, int, int]) -> None:
    deployment, first, second, _ = lived
    found = {row["path"]: row["upload"] for row in listed(deployment)}
    assert set(found) == {"chest/b.png", "chest/c.png", "hand/a.tif"}
    assert found["hand/a.tif"] == second
    assert found["chest/b.png"] == first or deployment.scheme == "exact"  # mates are sent again


def test_what_was_deleted_is_listed_by_its_deletion(lived: tuple[Deployment, int, int, int]) -> None:
    deployment, _, _, third = lived
    rows = listed(deployment, "--deleted")
    assert {row["path"] for row in rows} == {"chest/a.jpg", "hand/d.bmp"}
    for row in rows:
        assert (row["upload"], row["state"], row["key"], row["group"]) == (third, "deleted", None, None)


def test_an_upload_is_listed_with_what_was_superseded(lived: tuple[Deployment, int, int, int]) -> None:
    deployment, first, second, third = lived
    found = states(deployment, "--upload", first)
    assert set(found) == set(deployment.pictures("north"))
    assert found["hand/a.tif"] == found["chest/a.jpg"] == "superseded"
    assert {found["chest/b.png"], found["chest/c.png"]} <= {"live", "superseded"}
    assert states(deployment, "--upload", second)["hand/d.bmp"] == "superseded"
    assert set(states(deployment, "--upload", third).values()) == {"deleted"}
    assert states(deployment, "--upload", first, "--deleted") == {}


def test_each_image_is_live_or_deleted_once(lived: tuple[Deployment, int, int, int]) -> None:
    deployment, *numbers = lived
    rows = [row for number in numbers for row in listed(deployment, "--upload", number)]
    decided = [row["path"] for row in rows if row["state"] != "superseded"]
    assert sorted(decided) == sorted(deployment.pictures("north"))
    shown = [*listed(deployment), *listed(deployment, "--deleted")]
    assert sorted(row["path"] for row in shown) == sorted(decided)


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("chest/*", {"chest/a.jpg", "chest/b.png", "chest/c.png"}),
        ("*a*.*", {"chest/a.jpg", "hand/a.tif", "hand/d.bmp"}),
        ("hand/?.bmp", {"hand/d.bmp"}),
        ("HAND/*", set()),
        ("chest", set()),
    ],
)
def test_a_pattern_chooses_paths(deployment: Deployment, pattern: str, paths: set[str]) -> None:
    assert set(states(deployment, "--match", pattern)) == paths


def test_a_name_shown_to_users_leads_back_to_the_path(changeable: Deployment) -> None:
    north, pictures = changeable / "north", changeable / "pictures" / "north"
    words = ("--payload", "pixels", "--again", "-o", changeable / "u.h5")
    done("owner", "encrypt", north, pictures, *words, *JOBS)
    sent = {row["path"]: row["shown_as"] for row in table(changeable)}
    assert set(sent.values()) == {each.path for each in envelopes(changeable, changeable / "u.h5").values()}
    shown_as = sent["hand/d.bmp"]
    assert set(states(changeable, "--match", shown_as)) == {"hand/d.bmp"}
    assert f"hand/d.bmp  shown as {shown_as}\n" in done("owner", "list", north).out
    done("owner", "delete", north, "hand/d.bmp", "-o", changeable / "d.h5")
    (deleted,) = listed(changeable, "--deleted", "--match", shown_as)
    assert (deleted["path"], deleted["shown_as"]) == ("hand/d.bmp", shown_as)


def test_an_image_sent_as_a_file_is_shown_as_its_path(deployment: Deployment) -> None:
    assert all(row["shown_as"] == row["path"] for row in table(deployment))


def test_people_read_which_message_is_which(lived: tuple[Deployment, int, int, int]) -> None:
    deployment, _, second, third = lived
    shown = done("owner", "list", deployment / "north", "--match", "hand/*").out.splitlines()
    assert shown[0].startswith(f"upload {second} ({moment(second)}), key ")
    assert shown[1].startswith("  live  ")
    assert shown[1].endswith("  hand/a.tif")
    assert shown[2:] == ["images: 1"]
    shown = done("owner", "list", deployment / "north", "--deleted").out.splitlines()
    assert shown[0] == f"deletion {third} ({moment(third)})"
    assert len(shown) == 4


def test_the_number_of_no_message_is_refused(deployment: Deployment) -> None:
    said = refused(2, "owner", "list", deployment / "north", "--upload", 7).err
    assert "this owner sent no message 7" in said


def test_a_table_and_json_do_not_go_together(deployment: Deployment) -> None:
    outcome = run("owner", "list", deployment / "north", "--csv", "--json")
    assert outcome.code == 2
    assert "--csv and --json cannot be combined" in outcome.err


def test_an_owner_who_sent_nothing_has_an_empty_list(deployment: Deployment, tmp_path: Path) -> None:
    done("owner", "init", tmp_path / "o", "--id", "o", "--kmc", deployment / "kmc" / "kmc.pub")
    assert done("owner", "list", tmp_path / "o").out == ""
    assert done("owner", "list", tmp_path / "o", "--csv").out == ",".join(COLUMNS) + "\n"
    assert done("owner", "list", tmp_path / "o", "--json").json["images"] == []


def test_listing_changes_nothing(deployment: Deployment) -> None:
    before = snapshot(deployment / "north")
    listed(deployment)
    assert snapshot(deployment / "north") == before


def test_damage_is_found_before_a_row_is_printed(changeable: Deployment) -> None:
    (file,) = (changeable / "north" / "uploads").glob("*.jsonl")
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:-2], lines[-2].replace("/", "_"), lines[-1]]))
    assert str(file) in refused(3, "owner", "list", changeable / "north", "--csv").err


def test_hostile_paths_cannot_steer_terminal_or_spreadsheet(changeable: Deployment) -> None:
    ledger = Owner.open(changeable / "north").ledger
    with ledger.writing(Message(9, 7)) as append:
        append(SentImage("x", "=cmd()\x1b[31m"))
    assert "./=cmd()\\u001b[31m" in [row["path"] for row in table(changeable)]
    assert "\x1b" not in done("owner", "list", changeable / "north").out


def peak_of(work: Callable[[], object]) -> int:
    """Return how many bytes were in use at most while ``work`` ran."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_no_more_is_in_memory_than_the_ledger_takes(changeable: Deployment) -> None:
    owner = Owner.open(changeable / "north")
    with owner.ledger.writing(Message(9, 7)) as append:
        for number in range(20_000):
            append(SentImage(f"{number:032x}", f"a/long/folder/of/pictures/{number:08}.jpg", "v", "d", "g"))
    ledger = Ledger(owner.ledger.folder)
    found = listing_of(changeable / "north", ListFilter())
    assert found.count == 20_005
    images = Streamed(found.count, lambda: (row._asdict() for row in found.rows()))
    printed = peak_of(lambda: sum(map(len, json.JSONEncoder().iterencode({"images": images}))))
    assert printed < 1.2 * peak_of(lambda: sum(1 for _ in ledger.live()))


def test_a_streamed_list_is_written_like_any_other() -> None:
    for rows in ([], [{"a": 1}, {"a": None}], ["x"]):
        written = "".join(
            json.JSONEncoder().iterencode({"rows": Streamed(len(rows), lambda rows=rows: rows)})
        )
        assert json.loads(written) == {"rows": rows}


def test_columns_are_those_of_a_row() -> None:
    assert list(ListedImage._fields) == COLUMNS
