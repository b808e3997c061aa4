"""The order of an upload's rows: a keyed digest of the path, which tells nothing of folders or names."""

from __future__ import annotations

import hashlib
import hmac
import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from mipp_cli.containers.base.container import open_container
from mipp_cli.containers.messages.upload import UploadReader, upload_schema
from mipp_cli.files.json_state import parse_state
from mipp_cli.owner import descriptions
from mipp_cli.owner.ledger import Ledger
from mipp_cli.owner.owner import Owner
from tests.owner.test_descriptions import stop_at, watched
from tests.support.deployment import JOBS, Deployment, change_state, done, picture

CATEGORIES, EACH = 10, 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection whose folders are categories: 10 of them, with 20 pictures each."""
    folder = tmp_path_factory.mktemp("categories")
    for number in range(CATEGORIES * EACH):
        path = folder / f"{number // EACH}" / f"{number:03d}.png"
        path.parent.mkdir(exist_ok=True)
        picture(number, size=(16, 16), mode="L").save(path)
    return folder


@pytest.fixture(params=["hashed", "path"])
def owner(deployment: Deployment, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A new owner, whose images are called in either way."""
    words = ("--id", "owner", "--kmc", deployment / "kmc" / "kmc.pub", "--image-names", request.param)
    done("owner", "init", tmp_path / "owner", *words)
    return tmp_path / "owner"


@pytest.fixture(params=["hashed", "path"])
def grouped(exact: Deployment, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A new owner whose images lie in groups, and are called in either way."""
    words = ("--id", "owner", "--kmc", exact / "kmc" / "kmc.pub", "--image-names", request.param)
    done("owner", "init", tmp_path / "owner", *words)
    return tmp_path / "owner"


def with_key(owner: Path, byte: int) -> Path:
    """Give an owner who sent nothing yet an identifier key that is the same in every run of the tests."""
    change_state(owner / "secrets.json", lambda fields: fields | {"identifier": bytes([byte] * 32).hex()})
    return owner


def expected(owner: Path, folder: Path) -> list[str]:
    """Return the paths below ``folder`` in the order of the digests under the owner's key."""
    key = bytes.fromhex(parse_state((owner / "secrets.json").read_bytes())["identifier"])
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*.png")]
    return sorted(paths, key=lambda path: hmac.new(key, path.encode(), hashlib.sha256).digest())


def command(owner: Path, folder: Path, *options: object) -> tuple[object, ...]:
    return ("owner", "encrypt", owner, folder, "-o", owner.parent / "new.h5", *JOBS, *options)


def rows(owner: Path, upload: Path) -> list[str]:
    """Return the names on the wire, in the order of the rows, as the cloud sees it."""
    parameters = Owner.open(owner).directory.deployment.parameters
    with open_container(upload, upload_schema(parameters)) as container:
        return UploadReader(container, parameters).names()


def paths(owner: Path, *uploads: Path) -> list[str]:
    """Return the paths of the rows of uploads, by the owner's ledger."""
    ledger = Ledger(owner / "uploads")
    called = {image.name: image.path for each in ledger.messages() for image in ledger.images(each.number)}
    return [called[name] for upload in uploads for name in rows(owner, upload)]


def test_rows_are_sorted_by_a_keyed_digest_of_the_path(owner: Path, folder: Path) -> None:
    done(*command(owner, folder))
    assert paths(owner, owner.parent / "new.h5") == expected(owner, folder)


def test_the_ledger_lists_images_in_the_order_of_the_rows(owner: Path, folder: Path) -> None:
    done(*command(owner, folder / "0"))
    ledger = Ledger(owner / "uploads")
    (message,) = ledger.messages()
    listed = [image.name for image in ledger.images(message.number)]
    assert listed == rows(owner, owner.parent / "new.h5")


def test_the_order_is_the_same_however_images_are_named(owner: Path, folder: Path) -> None:
    given = sorted(folder.rglob("*.png"), reverse=True)[:30]
    done(*command(owner, given[0], *given[1:], "--root", folder))
    names = {path.relative_to(folder).as_posix() for path in given}
    assert paths(owner, owner.parent / "new.h5") == [
        each for each in expected(owner, folder) if each in names
    ]


def test_images_are_dealt_to_several_uploads_in_this_order(owner: Path, folder: Path) -> None:
    done(*command(owner, folder, "--split", "60kB"))
    uploads = sorted(owner.parent.glob("new-*.h5"))
    assert len(uploads) > 2
    assert paths(owner, *uploads) == expected(owner, folder)


@pytest.mark.parametrize("options", [(), ("--split", "60kB")])
def test_the_order_of_a_resumed_run_is_this_one_too(
    owner: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.setattr(descriptions, "SYNC_IMAGES", 16)
    for after in (50, 120):
        outcome = watched(stop_at("describing", after), *command(owner, folder, "--resume", *options))
        assert outcome.code == 130
    done(*command(owner, folder, "--resume", *options))
    assert paths(owner, *sorted(owner.parent.glob("new*.h5"))) == expected(owner, folder)


def test_two_owners_have_orders_of_their_own(owner: Path, folder: Path) -> None:
    one, two = (expected(with_key(owner, byte), folder) for byte in (1, 2))
    assert sorted(one) == sorted(two)
    assert one != two


def digests_of_groups(owner: Path, upload: Path) -> list[list[bytes]]:
    """Return the keyed digest of every row's path, group by group."""
    parameters = Owner.open(owner).directory.deployment.parameters
    row_key = Owner.open(owner).row_key
    keys = [row_key(path) for path in paths(owner, upload)]
    with open_container(upload, upload_schema(parameters)) as container:
        ends = UploadReader(container, parameters).group_ends().tolist()
    return [keys[begin:end] for begin, end in pairwise([0, *ends])]


def test_groups_and_their_rows_are_in_the_order_of_digests(grouped: Path, folder: Path) -> None:
    done(*command(grouped, folder))  # the pictures are of one class of size
    groups = digests_of_groups(grouped, grouped.parent / "new.h5")
    assert [len(group) for group in groups] == [2] * (CATEGORIES * EACH // 2)
    assert all(group == sorted(group) for group in groups)
    assert groups == sorted(groups)


def test_groups_are_the_same_however_images_are_named(grouped: Path, folder: Path) -> None:
    orders = []
    for number, reverse in enumerate((False, True)):
        owner = grouped.parent / str(number) / "owner"
        shutil.copytree(grouped, owner)
        given = sorted(folder.rglob("*.png"), reverse=reverse)
        done(*command(owner, given[0], *given[1:], "--root", folder))
        orders.append(paths(owner, owner.parent / "new.h5"))
    assert orders[0] == orders[1]


# An attack: whoever knows what one row shows takes the rows beside it for the same.


def neighbours_alike(order: Sequence[str]) -> float:
    """Return which share of neighbouring rows shows the same category: what the attacker finds."""
    alike = [one.split("/")[0] == two.split("/")[0] for one, two in pairwise(order)]
    return sum(alike) / len(alike)


CHANCE = (EACH - 1) / (CATEGORIES * EACH - 1)
# Of 199 pairs in random order, 19 are alike on average, with a standard deviation of about 4.1; the bound
# lies 5 of them above. The keys are fixed, so the outcome is the same in every run.
BOUND = CHANCE + 5 * (CHANCE * (1 - CHANCE) / (CATEGORIES * EACH - 1)) ** 0.5


@pytest.mark.parametrize("byte", [1, 2, 3])
def test_neighbouring_rows_tell_nothing_of_categories(owner: Path, folder: Path, byte: int) -> None:
    done(*command(with_key(owner, byte), folder))
    assert neighbours_alike(paths(owner, owner.parent / "new.h5")) < BOUND


@pytest.mark.parametrize("byte", [1, 2, 3])
def test_neighbouring_rows_of_groups_tell_nothing_either(grouped: Path, folder: Path, byte: int) -> None:
    done(*command(with_key(grouped, byte), folder))
    assert neighbours_alike(paths(grouped, grouped.parent / "new.h5")) < BOUND


def test_neighbours_tell_nothing_across_several_uploads(owner: Path, folder: Path) -> None:
    done(*command(with_key(owner, 4), folder, "--split", "60kB"))
    uploads = sorted(owner.parent.glob("new-*.h5"))
    assert neighbours_alike(paths(owner, *uploads)) < BOUND


def test_an_upload_of_many_holds_pictures_of_all_categories(owner: Path, folder: Path) -> None:
    done(*command(with_key(owner, 5), folder, "--split", "150kB"))
    first = paths(owner, owner.parent / "new-001.h5")
    assert len(first) > 60  # in the order of paths, of four categories at most
    assert len({path.split("/")[0] for path in first}) == CATEGORIES


def test_the_same_attacker_finds_nearly_all_in_path_order(folder: Path) -> None:
    order = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    assert neighbours_alike(order) > 0.95
