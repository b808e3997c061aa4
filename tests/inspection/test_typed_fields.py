"""What `mipp inspect --json` tells scripts: each field of its type, under a key that stays, without prose."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mipp_cli.containers.base.container import header_of
from mipp_cli.inspection.directories import inspect_path
from mipp_cli.workdir.replay import iso_time
from tests.support.cloud_stores import deletion_of, index, upload_of
from tests.support.deployment import Deployment, done
from tests.support.tiny_model import tiny_model

PAGE = Path(__file__).parents[2] / "mipp_cli" / "docs" / "inspect.md"
MESSAGE = {"number": int, "time": str}
SENT = {"images": int, "uploads": int, "complete": int, "complete_time": str, "missing": [MESSAGE]}
DEPLOYMENT = {
    "deployment": str,
    "scheme": str,
    "modulus_bits": (int, None),
    "descriptor": {"name": str, "dimension": int, "levels": int, "quantisation": None},
    "model": None,
    "group_size": (int, None),
    "signing_key": str,
}
PARTY = {"id": str, "deployment": str, "signing_key": str, "fingerprint": str, "signature_fits": bool}
HEADER = {
    "format_version": int,
    "kind": str,
    "sender": str,
    "deployment": str,
    "sender_key": str,
    "digest": str,
    "digest_fits": bool,
    "signature_fits": bool,
}
NUMBERED = HEADER | MESSAGE
UPLOAD = NUMBERED | {"images": int, "image_key": str, "encrypted_bytes": int, "earlier_messages": [MESSAGE]}
QUERY = HEADER | {
    "query_id": str,
    "query_images": int,
    "candidates": int,
    "owners": ([str], None),
    "feature_bytes": int,
    "usk_sealed": bool,
}
INDEX = {"segments": int, "parts": int, "images": int, "sent": [{"owner": str} | SENT]}
REMOVED = [{"owner": str, "number": int, "time": str, "name_free": bool}]
OWNER_OF_CLOUD = {"id": str, "number": int, "time": str, "users": ([str], None)}
OWNER_OF_KMC = {"id": str, "number": int, "time": str, "users": [str], "image_keys": [str]}
DIRECTORY = {"role": str, "id": str, "protected": bool} | DEPLOYMENT
KEY = {"id": str, "images": int}
MEMBERS = NUMBERED | {"users": [{"id": str, "key": str}]}
# Of each file and directory, the type of each field. A tuple says which types there may be.
ALL = {
    "kmc/kmc.pub": DEPLOYMENT,
    "cloud/cloud.pub": PARTY,
    "alice/user.pub": PARTY,
    "north/enrolment.h5": MEMBERS | {"image_keys_sealed": bool},
    "north/members.h5": MEMBERS,
    "alice.query.h5": QUERY,
    "alice.answer.h5": HEADER
    | {"query_id": str, "images": int, "encrypted_bytes": int, "manifest_sealed": bool},
    "cloud/index.h5": HEADER | {"number": int} | INDEX,
    "alice": DIRECTORY | {"public_file": str, "seals_to": str, "queries": [{"id": str, "pictures": [str]}]},
    "north": DIRECTORY
    | {
        "users": [str],
        "image_names": str,
        "seals_to": str,
        "image_key": KEY,
        "former_keys": [KEY],
        "forgotten_keys": [str],
        "messages": [
            {
                "kind": str,
                "number": int,
                "time": str,
                "images": int,
                "key": (str, None),
                "decides": int,
                "unsure": bool,
            }
        ],
    },
}
SUMS = {
    "north.h5": UPLOAD | {"feature_bytes": int},
    "alice.results.h5": HEADER
    | {
        "query_id": str,
        "query_bytes": int,
        "query_images": int,
        "matches": int,
        "images": int,
        "owners": [str],
        "searched": [{"owner": str, "images": int}],
    },
    "kmc": DIRECTORY
    | {
        "owners": [OWNER_OF_KMC | {"features": None}],
        "clouds": [str],
        "sealing_key": str,
        "removed": REMOVED,
        "queries_answered": int,
    },
    "cloud": DIRECTORY
    | {"owners": [OWNER_OF_CLOUD], "removed": REMOVED, "queries_answered": int, "public_file": str}
    | INDEX,
}
EXACT = {
    "north.h5": UPLOAD | {"groups": int},
    "north.features.h5": NUMBERED
    | {
        "images": int,
        "image_key": str,
        "groups": int,
        "codes_sealed": bool,
        "earlier_messages": [MESSAGE],
    },
    "alice.selection.h5": HEADER | {"selection_id": str, "cloud_key": str, "groups": int, "owners": [str]},
    "alice.results.h5": HEADER
    | {"selection_id": str, "images": int, "groups_with_images": int, "encrypted_bytes": int},
    "kmc": DIRECTORY
    | {
        "owners": [OWNER_OF_KMC | {"features": SENT}],
        "clouds": [str],
        "sealing_key": str,
        "removed": REMOVED,
        "queries_ranked": int,
    },
    "cloud": DIRECTORY | {"owners": [OWNER_OF_CLOUD], "removed": REMOVED, "public_file": str} | INDEX,
}
SEGMENT = UPLOAD | {"owner": str, "owner_key": str, "sent_digest": str, "names_deleted": int}


def inspected(path: Path) -> dict[str, Any]:
    """Return what scripts read of a path."""
    inspection = done("inspect", path, "--json").json["inspection"]
    assert set(inspection) == {"path", "kind", "fields"}
    assert inspection["path"] == str(path)
    fields = inspection["fields"]
    assert isinstance(fields, dict)
    return fields


def check_type(value: Any, wanted: Any, where: str) -> None:
    """Demand of a value that it has the type that is described, and of all that it holds."""
    if isinstance(wanted, tuple):
        wanted = next((each for each in wanted if (each is None) == (value is None)), wanted[0])
    if wanted is None:
        assert value is None, where
    elif isinstance(wanted, list):
        assert isinstance(value, list), where
        for each in value:
            check_type(each, wanted[0], f"{where}[]")
    elif isinstance(wanted, dict):
        assert isinstance(value, dict), where
        assert set(value) == set(wanted), where
        for key, each in wanted.items():
            check_type(value[key], each, f"{where}.{key}")
    else:
        assert type(value) is wanted, (where, value)


def texts(value: Any) -> Iterator[str]:
    """Yield every text that a value holds."""
    if isinstance(value, dict):
        for each in value.values():
            yield from texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)
    elif isinstance(value, str):
        yield value


def keys(value: Any) -> Iterator[str]:
    """Yield every key that a value holds."""
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from keys(each)
    if isinstance(value, dict):
        yield from value


def check_fields(path: Path, wanted: dict[str, Any]) -> None:
    fields = inspected(path)
    check_type(fields, wanted, path.name)
    assert not [text for text in texts(fields) if " " in text and text != str(path)]
    assert [key for key in keys(fields) if not re.fullmatch("[a-z][a-z0-9_]*", key)] == []
    found = inspect_path(path)
    assert len({field.key for field in found.fields}) == len(found.fields)
    assert json.loads(json.dumps(fields)) == fields


@pytest.mark.parametrize("name", ALL)
def test_every_field_has_its_type(any_scheme: Deployment, name: str) -> None:
    check_fields(any_scheme / name, ALL[name])


@pytest.mark.parametrize("name", SUMS)
def test_where_the_cloud_ranks_every_field_has_its_type(sum_scheme: Deployment, name: str) -> None:
    check_fields(sum_scheme / name, SUMS[name])


@pytest.mark.parametrize("name", EXACT)
def test_where_the_kmc_ranks_every_field_has_its_type(exact: Deployment, name: str) -> None:
    check_fields(exact / name, EXACT[name])


def test_a_deletion_and_a_segment_have_typed_fields(each_way: Deployment) -> None:
    deletion = deletion_of(each_way, "north", next(iter(each_way.names("north"))), earlier=[5])
    check_fields(deletion, NUMBERED | {"images": int, "earlier_messages": [MESSAGE]})
    index(each_way, deletion)
    shape = {"groups": int} if each_way.scheme == "exact" else {"feature_bytes": int}
    for path in (each_way / "cloud" / "segments").glob("north-*.h5"):
        check_fields(path, SEGMENT | shape)


def test_a_sealing_key_has_typed_fields(changeable: Deployment) -> None:
    done("kmc", "rotate-key", changeable / "kmc")
    renewal = {key: each for key, each in PARTY.items() if key != "id"}
    check_fields(changeable / "kmc" / "sealing.pub", renewal | MESSAGE | {"sealing_key": str})


def test_what_a_lived_in_directory_tells_is_typed(changeable: Deployment) -> None:
    north = changeable / "north"
    done("owner", "rotate-key", north)
    done("owner", "delete", north, "chest/a.jpg", "-o", changeable / "d.h5")
    check_fields(north, ALL["north"])
    fields = inspected(north)
    assert [each["kind"] for each in fields["messages"]] == ["upload", "deletion"]
    assert [each["images"] for each in fields["messages"]] == [5, 1]
    assert [each["decides"] for each in fields["messages"]] == [4, 1]
    assert [each["images"] for each in fields["former_keys"]] == [4]
    for role in ("kmc", "cloud"):
        done(role, "remove", changeable / role, "lake", "--release-name", "--yes")
        check_fields(changeable / role, SUMS[role])
        (removed,) = inspected(changeable / role)["removed"]
        assert (removed["owner"], removed["name_free"]) == ("lake", True)


def test_several_clouds_of_a_kmc_are_all_told(changeable: Deployment) -> None:
    kmc = changeable / "kmc"
    for name in ("second", "third"):
        done("cloud", "init", changeable / name, "--kmc", kmc / "kmc.pub")
        done("kmc", "enroll", kmc, changeable / name / "cloud.pub")
    wanted = {changeable.role("cloud").sender.signing_key.public.hex()}
    found = inspected(kmc)["clouds"]
    assert len(found) == len(set(found)) == 3
    assert wanted < set(found)
    shown = done("inspect", kmc).out
    assert all(f"cloud  {key}" in re.sub(" +", "  ", shown) for key in found)


def test_what_is_missing_is_told_in_numbers(each_way: Deployment) -> None:
    sent = header_of(each_way / "north.h5").sequence_number
    index(each_way, upload_of(each_way, "north", "x", earlier=[5, sent]))
    for name in ("cloud", "cloud/index.h5"):
        (north,) = (each for each in inspected(each_way / name)["sent"] if each["owner"] == "north")
        assert (north["images"], north["uploads"]) == (6, 2)
        assert (north["complete"], north["complete_time"]) == (sent, iso_time(sent))
        assert north["missing"] == [{"number": 5, "time": "1970-01-01T00:00:00.000005Z"}]


def test_an_index_alone_does_not_say_what_is_complete(deployment: Deployment, tmp_path: Path) -> None:
    (tmp_path / "index.h5").write_bytes((deployment / "cloud" / "index.h5").read_bytes())
    for each in inspected(tmp_path / "index.h5")["sent"]:
        assert (each["complete"], each["complete_time"]) == (None, None)
        assert each["images"] > 0


def test_what_there_is_none_of_is_null(exact: Deployment, sum_scheme: Deployment) -> None:
    assert inspected(sum_scheme / "kmc" / "kmc.pub")["group_size"] is None
    assert inspected(exact / "kmc" / "kmc.pub")["modulus_bits"] is None
    assert inspected(exact / "cloud")["owners"][0]["users"] is None  # the KMC alone knows them
    assert inspected(exact / "alice.query.h5")["owners"] is None  # whoever authorised alice


def test_the_owners_that_a_query_names_are_a_list(changeable: Deployment) -> None:
    words = ("user", "query", changeable / "alice", changeable / "pictures" / "queries", "--owner", "south")
    done(*words, "-o", changeable / "q.h5")
    assert inspected(changeable / "q.h5")["owners"] == ["south"]


def test_whether_keys_are_protected_is_told(changeable: Deployment, tmp_path: Path) -> None:
    assert inspected(changeable / "alice")["protected"] is False
    file = tmp_path / "passphrase"
    file.touch(mode=0o600)
    file.write_text("open sesame")
    done("protect", changeable / "alice", "--new-passphrase-file", file)
    words = ("inspect", changeable / "alice", "--json", "--passphrase-file", file)
    assert done(*words).json["inspection"]["fields"]["protected"] is True


def test_an_image_model_is_told_in_parts(tmp_path: Path) -> None:
    done("kmc", "init", tmp_path / "kmc", "--model", tiny_model(tmp_path / "model"))
    model = inspected(tmp_path / "kmc" / "kmc.pub")["model"]
    assert set(model) == {"sha256", "weights_sha256", "preprocessing", "output", "pooling"}
    assert set(model["preprocessing"]) == {"resize", "resample", "crop", "scale", "mean", "std"}
    assert len(model["preprocessing"]["mean"]) == 3


def test_a_time_is_the_number_in_words_of_iso_8601(deployment: Deployment) -> None:
    fields = inspected(deployment / "north.h5")
    time = datetime.fromisoformat(fields["time"])
    assert time.tzinfo == UTC
    assert (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) == fields["number"]
    assert iso_time(2**63 - 1) is None  # the largest number is no time


def test_the_page_names_every_field() -> None:
    page = PAGE.read_text()
    shapes = [*ALL.values(), *SUMS.values(), *EXACT.values(), SEGMENT, {"sealing_key": str}]

    def all_keys(shape: Any) -> Iterator[str]:
        for each in shape if isinstance(shape, list | tuple) else ():
            yield from all_keys(each)
        for key, each in shape.items() if isinstance(shape, dict) else ():
            yield key
            yield from all_keys(each)

    wanted = {key for shape in shapes for key in all_keys(shape)}
    assert [key for key in sorted(wanted) if f"`{key}`" not in page] == []
