"""What `mipp inspect` says of a cloud's index in scheme `exact`: where every image lies, and no more."""

from __future__ import annotations

import csv
import io

from mipp_cli.scheme.live_chunks import places_of_rows
from tests.deployment import done, refused
from tests.roles.exact_deployment import NORTH, Exact
from tests.roles.exact_owner import ExactOwner, features_of


def table(exact: Exact) -> list[list[str]]:
    """Return what --csv prints, without the header."""
    header, *rows = csv.reader(io.StringIO(done("inspect", exact / "cloud" / "index.h5", "--csv").out))
    assert header == ["owner", "image_id", "upload", "chunk", "row"]
    return rows


def places(owner: ExactOwner) -> list[list[str]]:
    """Return where the owner's images lie, as the owner knows."""
    rows = []
    for upload, images in owner.live.items():
        own = [chunk for chunk in owner.chunks if chunk.place.upload == upload]
        found = places_of_rows(own, range(len(images)))
        for (name, _), (chunk, row) in zip(images, found, strict=True):
            rows.append([owner.name, name, str(upload), str(own[chunk].place.number), str(row)])
    return rows


def test_the_table_has_the_place_of_every_image(exact: Exact) -> None:
    assert sorted(table(exact)) == sorted(places(exact.north) + places(exact.south))
    assert ["north", NORTH[7]] == sorted(table(exact))[7][:2]
    assert sorted(table(exact))[7][3:] == ["2", "1"]


def test_places_follow_images_that_leave_and_parts_that_merge(exact: Exact) -> None:
    north = exact.north
    messages = [north.delete([NORTH[1], NORTH[3], NORTH[4], NORTH[5]])]  # the second chunk is empty now
    messages.append(north.upload(features_of([f"new {number}" for number in range(7)])))
    messages.append(north.upload(features_of([NORTH[0], "new 2", "new 3"], seed=1), replace_images=True))
    exact.index(*messages)
    assert sorted(table(exact)) == sorted(places(north) + places(exact.south))


def test_a_store_that_lacks_features_has_no_table(exact: Exact) -> None:
    deletion = exact.north.delete(NORTH[:1])
    exact.index(deletion)
    for path in (exact / "cloud" / "segments").glob(f"{deletion.stem}.*"):
        path.unlink()  # and with it the manifest in force
    done("cloud", "index", exact / "cloud", "--rebuild", "--drop-damaged")
    assert "lacks features of 'north'" in refused(3, "inspect", exact / "cloud" / "index.h5", "--csv").err
