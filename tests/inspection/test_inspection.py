"""What `mipp inspect` says of every kind of file and directory: all of it, readable, and never a secret."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from mipp_cli.containers.base.container import Schema, header_of
from mipp_cli.containers.base.writer import Sender, write_container
from mipp_cli.containers.messages.delete import write_delete
from mipp_cli.containers.messages.membership import ENROLMENT, MEMBERS
from mipp_cli.inspection.directories import inspect_path
from mipp_cli.scheme.keys import SigningKey
from mipp_cli.workdir.replay import moment
from tests.support.cloud_stores import deletion_of, index, upload_of
from tests.support.deployment import JOBS, OWNERS, Deployment, done, feature_of, refused, run, secrets_of
from tests.support.forgery import Picture, forge_upload, random_feature

FILES = {
    "kmc/kmc.pub": (
        "public file of a KMC",
        ["deployment", "scheme", "descriptor", "signing key"],
    ),
    "cloud/cloud.pub": (
        "public file of a cloud",
        ["id", "deployment", "signing key", "fingerprint", "signature"],
    ),
    "alice/user.pub": (
        "public file of a user",
        ["id", "deployment", "signing key", "fingerprint", "signature"],
    ),
    "north/enrolment.h5": ("enrolment of north", ["users", "user alice", "image keys"]),
    "north/members.h5": ("members of north", ["users"]),
    "north.h5": ("upload of north", ["images", "image key", "bytes of EW", "earlier messages"]),
    "alice.query.h5": ("query of alice", ["query images", "candidates", "owners", "USK"]),
    "alice.answer.h5": ("reencrypted of kmc", ["images", "bytes of NER", "manifest"]),
    "cloud/index.h5": ("index of cloud", ["segments", "parts", "images", "sent by lake", "sent by north"]),
}
SUM_FILES = {
    "north/members.h5": ("members of north", ["user alice"]),
    "north.h5": ("upload of north", ["bytes of EF"]),
    "alice.query.h5": ("query of alice", ["bytes of EQ"]),
    "alice.results.h5": (
        "results of cloud",
        ["query", "query images", "matches", "images", "owners", "searched"],
    ),
}
EXACT_FILES = {
    "north.h5": ("upload of north", ["groups"]),
    "north.features.h5": (
        "features of north",
        ["number", "images", "image key", "groups", "codes", "earlier messages"],
    ),
    "alice.query.h5": ("query of alice", ["bytes of codes"]),
    "alice.selection.h5": ("selection of kmc", ["selection id", "for the cloud", "groups", "owners"]),
    "alice.results.h5": (
        "groups of cloud",
        ["selection id", "images", "groups with images", "bytes of ER"],
    ),
}
DIRECTORIES = {
    "kmc": ["role", "id", "scheme", "owner lake", "owner north", "owner south", "cloud"],
    "cloud": ["role", "id", "owner lake", "segments", "parts", "images", "sent by lake"],
    "alice": ["role", "id", "public file", "seals to"],
    "north": ["role", "id", "users", "image names", "seals to", "image key"],
}
TABLES = {
    "north/enrolment.h5": ["user", "key"],
    "north.h5": ["image_id", "encrypted_bytes"],
}
SUM_TABLES = {
    "north/members.h5": ["user", "key"],
    "alice.results.h5": ["query", "owner", "image_id", "sim"],
    "cloud/index.h5": ["owner", "image_id", "sum1", "sum2"],
    "cloud": ["owner", "image_id", "sum1", "sum2"],
}
EXACT_TABLES = {
    "north.features.h5": ["group", "images", "encrypted_bytes"],
    "alice.selection.h5": ["owner", "upload", "group"],
    "alice.results.h5": ["place", "image_id", "encrypted_bytes"],
    "cloud/index.h5": ["owner", "image_id"],
    "cloud": ["owner", "image_id"],
}


def fields(deployment: Deployment, name: str) -> dict[str, str]:
    """Return what people read, by its label; what scripts read is in test_typed_fields.py."""
    return {label: text for field in inspect_path(deployment / name).fields for label, text in field.lines}


def table(deployment: Deployment, name: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(done("inspect", deployment / name, "--csv").out)))


def number_of(deployment: Deployment, name: str) -> int:
    """Return the number of a message."""
    return header_of(deployment / name).sequence_number


def check_described(deployment: Deployment, name: str, title: str, wanted: list[str]) -> None:
    """Demand of a file that it is called by a title, with these fields, for people and for scripts."""
    outcome = done("inspect", deployment / name)
    assert outcome.out.splitlines()[0].startswith(f"{deployment / name}: {title}")
    found = fields(deployment, name)
    assert set(wanted) <= set(found)
    if name.endswith(".h5"):
        assert found["deployment"] == deployment.public.fingerprint
        assert found["digest"].endswith("(verified)")
        assert found["format"] == "mipp 2"
    for field, value in found.items():
        assert f"{field} " in outcome.out
        assert value in outcome.out


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_is_described(any_scheme: Deployment, name: str) -> None:
    check_described(any_scheme, name, *FILES[name])


@pytest.mark.parametrize("name", SUM_FILES)
def test_what_the_cloud_ranks_with_is_described(sum_scheme: Deployment, name: str) -> None:
    check_described(sum_scheme, name, *SUM_FILES[name])


@pytest.mark.parametrize("name", EXACT_FILES)
def test_what_the_kmc_ranks_with_is_described(exact: Deployment, name: str) -> None:
    check_described(exact, name, *EXACT_FILES[name])


def test_where_the_kmc_ranks_members_name_no_user(exact: Deployment) -> None:
    assert fields(exact, "south/members.h5")["users"] == "0"
    assert table(exact, "south/members.h5") == [["user", "key"]]


def test_a_selection_tells_nothing_of_the_query(exact: Deployment) -> None:
    query = fields(exact, "alice.query.h5")["query id"]
    for name in ("alice.selection.h5", "alice.results.h5"):
        shown = done("inspect", exact / name).out + done("inspect", exact / name, "--csv").out
        assert query not in shown
        assert "alice" not in shown.replace(str(exact / name), "")
        assert "query" not in shown.replace(str(exact / name), "")


def test_the_table_of_a_features_file_lists_its_groups(exact: Deployment) -> None:
    rows = [[int(cell) for cell in row] for row in table(exact, "north.features.h5")[1:]]
    assert [row[0] for row in rows] == list(range(len(rows)))
    assert fields(exact, "north.features.h5")["groups"] == str(len(rows))
    assert sum(row[1] for row in rows) == 5
    sent = [int(row[1]) for row in table(exact, "north.h5")[1:]]
    assert [row[2] for row in rows for _ in range(row[1])] == sent


def test_what_the_cloud_brought_is_listed_by_group(exact: Deployment) -> None:
    places = [int(row[0]) for row in table(exact, "alice.results.h5")[1:]]
    found = fields(exact, "alice.results.h5")
    assert places == sorted(places)
    assert found["images"] == str(len(places))
    assert found["groups with images"] == str(len(set(places)))
    assert set(places) == set(range(int(fields(exact, "alice.selection.h5")["groups"])))


def test_a_query_says_whose_images_it_asks_for(each_way: Deployment) -> None:
    assert fields(each_way, "alice.query.h5")["owners"] == "all who authorised the user"
    words = ("user", "query", each_way / "alice", each_way / "pictures" / "queries", "--owner", "south")
    done(*words, "--owner", "north", "-o", each_way / "q.h5")
    assert fields(each_way, "q.h5")["owners"] == "north, south"


def test_the_kmc_says_what_features_it_has(changeable_exact: Deployment) -> None:
    sent = number_of(changeable_exact, "north.h5")
    found = fields(changeable_exact, "kmc")
    assert found["queries ranked"] == "2"
    assert found["sent by north"] == (
        f"features of 5 images in 1 uploads; complete up to {sent} ({moment(sent)})"
    )
    index(changeable_exact, upload_of(changeable_exact, "north", "x", earlier=[5, sent]))
    assert fields(changeable_exact, "kmc")["sent by north"] == (
        f"features of 6 images in 2 uploads; complete up to {sent} ({moment(sent)}); missing: 5 ({moment(5)})"
    )


def test_a_cloud_that_ranks_says_who_may_ask_and_has(sum_scheme: Deployment) -> None:
    found = fields(sum_scheme, "cloud")
    assert found["owner south"].endswith("; users alice, bob")
    assert int(found["queries answered"]) > 0


def test_where_the_kmc_ranks_the_cloud_knows_nobody_who_asks(exact: Deployment) -> None:
    found = fields(exact, "cloud")
    assert found["owner south"].endswith("; users are known only to the KMC")
    assert "queries answered" not in found


@pytest.mark.parametrize("name", DIRECTORIES)
def test_every_roles_directory_is_described(any_scheme: Deployment, name: str) -> None:
    found = fields(any_scheme, name)
    assert set(DIRECTORIES[name]) <= set(found)
    assert found["deployment"] == any_scheme.public.fingerprint
    assert found["scheme"].startswith(any_scheme.scheme)


def test_counts_are_true(any_scheme: Deployment) -> None:
    assert fields(any_scheme, "north.h5")["images"] == "5"
    assert fields(any_scheme, "cloud/index.h5")["images"] == "14"
    assert fields(any_scheme, "cloud")["segments"] == "3"
    assert fields(any_scheme, "alice.query.h5")["query images"] == "2"
    if any_scheme.scheme != "exact":
        assert fields(any_scheme, "alice.results.h5")["matches"] == "10"
        assert fields(any_scheme, "kmc")["queries answered"] == "2"
    sent = number_of(any_scheme, "south.h5")
    said = f"5 images in 1 uploads; complete up to {sent} ({moment(sent)})"
    assert fields(any_scheme, "cloud/index.h5")["sent by south"] == said
    assert fields(any_scheme, "cloud")["sent by south"] == said
    assert fields(any_scheme, "north.h5")["earlier messages"] == "none"
    assert "users alice, bob" in fields(any_scheme, "kmc")["owner south"]
    assert fields(any_scheme, "north")["users"] == "alice"
    queries = [value for field, value in fields(any_scheme, "alice").items() if field.startswith("query ")]
    assert queries == ["q1.png, q2.png"]


def check_columns(deployment: Deployment, name: str, columns: list[str]) -> None:
    """Demand of a table that it has some rows, and these columns in all of them."""
    rows = table(deployment, name)
    assert rows[0] == columns
    assert len(rows) > 1
    assert all(len(row) == len(rows[0]) for row in rows)


@pytest.mark.parametrize("name", TABLES)
def test_tables_have_these_columns(any_scheme: Deployment, name: str) -> None:
    check_columns(any_scheme, name, TABLES[name])


@pytest.mark.parametrize("name", SUM_TABLES)
def test_where_the_cloud_ranks_tables_have_sums(sum_scheme: Deployment, name: str) -> None:
    check_columns(sum_scheme, name, SUM_TABLES[name])


@pytest.mark.parametrize("name", EXACT_TABLES)
def test_where_the_kmc_ranks_tables_have_groups(exact: Deployment, name: str) -> None:
    check_columns(exact, name, EXACT_TABLES[name])


@pytest.mark.parametrize(
    "name", ["kmc", "alice", "north", "kmc/kmc.pub", "alice.query.h5", "alice.answer.h5"]
)
def test_what_has_no_table_says_so(deployment: Deployment, name: str) -> None:
    assert "has no table to print" in refused(2, "inspect", deployment / name, "--csv").err


def test_the_table_of_an_upload_lists_encrypted_sizes(deployment: Deployment) -> None:
    rows = table(deployment, "north.h5")[1:]
    assert {row[0] for row in rows} == set(deployment.names("north"))
    sizes = {name: path.stat().st_size for name, path in deployment.pictures("north").items()}
    for name, encrypted in rows:
        assert int(encrypted) > sizes[deployment.names("north")[name]]
    assert fields(deployment, "north.h5")["bytes of EW"] == str(sum(int(row[1]) for row in rows))


def test_no_secret_is_ever_shown(any_scheme: Deployment) -> None:
    secrets = secrets_of(any_scheme.root)
    assert len(secrets) >= 15
    shown = (any_scheme / "transcript.txt").read_text()
    for path in [any_scheme.root, *any_scheme.root.rglob("*")]:
        for option in ((), ("--json",), ("--csv",)):
            outcome = run("inspect", path, *option)
            shown += outcome.out + outcome.err
    assert any_scheme.public.fingerprint in shown
    for secret in secrets:
        assert secret not in shown


def test_no_secret_is_in_a_file_that_goes_to_another_party(any_scheme: Deployment) -> None:
    handed = [
        *any_scheme.root.glob("*.h5"),
        *any_scheme.root.glob("*/*.h5"),
        *any_scheme.root.glob("*/*.pub"),
    ]
    assert len(handed) >= 20
    for path in handed:
        content = path.read_bytes()
        for secret in secrets_of(any_scheme.root):
            assert bytes.fromhex(secret) not in content, path
            assert secret.encode() not in content, path


def test_the_codes_of_no_image_can_be_told_from_what_is_shown(any_scheme: Deployment) -> None:
    special = EXACT_FILES if any_scheme.scheme == "exact" else SUM_FILES
    shown = "".join(done("inspect", any_scheme / name).out for name in [*FILES, *special, *DIRECTORIES])
    for owner in OWNERS:
        for path in any_scheme.pictures(owner).values():
            codes = feature_of(path).tolist()
            for separator in ("", " ", ",", ", "):
                assert separator.join(map(str, codes[:20])) not in shown


def test_hostile_names_cannot_steer_terminal_or_spreadsheet(changeable: Deployment) -> None:
    names = ["=cmd()", "-1", "\x1b[31mred", "a\nb", "x\u202ey", "@x", "+1"]
    images = [(name, Picture().envelope(), random_feature(1)) for name in names]
    forge_upload(changeable, "north", images, changeable / "hostile.h5")
    outcome = done("inspect", changeable / "hostile.h5", "--csv")
    rows = list(csv.reader(io.StringIO(outcome.out)))[1:]
    assert [row[0] for row in rows] == [
        "./=cmd()",
        "./-1",
        "\\u001b[31mred",
        "a\\u000ab",
        "x\\u202ey",
        "./@x",
        "./+1",
    ]
    assert all(character.isprintable() or character == "\n" for character in outcome.out)


@pytest.mark.parametrize("flip", [0, 100, 700, 1000, 2000, -1])
def test_a_container_that_was_changed_is_refused(deployment: Deployment, tmp_path: Path, flip: int) -> None:
    content = bytearray((deployment / "north.h5").read_bytes())
    content[flip] ^= 1
    (tmp_path / "x.h5").write_bytes(content)
    assert str(tmp_path / "x.h5") in refused(3, "inspect", tmp_path / "x.h5").err


@pytest.mark.parametrize(
    "content", [b"", b"{", b"{}", b"\x89HDF\r\n\x1a\n", b"x" * 2000, b'{"kind": "king"}']
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert str(tmp_path / "x") in refused(3, "inspect", tmp_path / "x").err


def test_a_folder_that_is_no_roles_directory_is_refused(tmp_path: Path) -> None:
    assert "is a folder, but not a role's directory" in refused(2, "inspect", tmp_path).err


def test_an_index_taken_out_of_its_cloud_has_no_table(deployment: Deployment, tmp_path: Path) -> None:
    (tmp_path / "index.h5").write_bytes((deployment / "cloud" / "index.h5").read_bytes())
    done("inspect", tmp_path / "index.h5")
    assert "is not in its cloud's directory" in refused(2, "inspect", tmp_path / "index.h5", "--csv").err


def test_a_segment_of_the_cloud_is_the_upload_that_it_was(deployment: Deployment) -> None:
    (segment,) = (deployment / "cloud" / "segments").glob("north-*.h5")
    assert segment.read_bytes() == (deployment / "north.h5").read_bytes()
    assert done("inspect", segment, "--csv").out == done("inspect", deployment / "north.h5", "--csv").out


def test_inspecting_a_directory_changes_nothing_in_it(any_scheme: Deployment) -> None:
    from tests.support.deployment import snapshot

    for name in DIRECTORIES:
        before = snapshot(any_scheme / name)
        done("inspect", any_scheme / name)
        assert snapshot(any_scheme / name) == before


def test_a_deletion_names_its_images(deployment: Deployment, tmp_path: Path) -> None:
    write_delete(tmp_path / "delete.h5", deployment.sender("north"), 7, ["one", "two"])
    inspection = done("inspect", tmp_path / "delete.h5", "--json").json["inspection"]
    assert inspection["fields"]["images"] == 2
    assert done("inspect", tmp_path / "delete.h5", "--csv").out.split() == ["image_id", "one", "two"]


def segment(deployment: Deployment, number: int) -> str:
    """Return where the cloud keeps what is left of a message of north."""
    (path,) = (deployment / "cloud" / "segments").glob(f"north-{number}*.h5")
    return str(path.relative_to(deployment.root))


def test_what_is_left_of_an_upload_says_whose_it_is(each_way: Deployment) -> None:
    index(each_way, deletion_of(each_way, "north", next(iter(each_way.names("north")))))
    number, upload = number_of(each_way, "north.h5"), header_of(each_way / "north.h5")
    found = fields(each_way, segment(each_way, number))
    assert found["kind"] == "segment"
    assert found["sender"] == "cloud"
    assert found["owner"] == "north"
    assert found["owner's key"] == upload.key
    assert found["digest of the message"] == upload.digest
    assert (found["images"], found["names deleted"]) == ("4", "0")
    assert found["number"].startswith(str(number))


def test_what_is_left_of_a_deletion_counts_names_alone(each_way: Deployment) -> None:
    deletion = deletion_of(each_way, "north", "one", "two", earlier=[7, 8])
    number = header_of(deletion).sequence_number
    index(each_way, deletion)
    name = segment(each_way, number)
    found = fields(each_way, name)
    assert (found["images"], found["names deleted"]) == ("0", "2")
    assert found["earlier messages"] == "7 (1970-01-01 00:00:00 UTC), 8 (1970-01-01 00:00:00 UTC)"
    assert found["digest of the message"] == header_of(deletion).digest
    assert table(each_way, name) == [["image_id", "encrypted_bytes"]]


def test_a_message_names_the_earlier_ones_that_it_lists(deployment: Deployment, tmp_path: Path) -> None:
    path = tmp_path / "delete.h5"
    write_delete(path, deployment.sender("north"), 9, ["one"], earlier=[8, 5])
    told = "5 (1970-01-01 00:00:00 UTC), 8 (1970-01-01 00:00:00 UTC)"
    assert f"earlier messages  {told}\n" in done("inspect", path).out
    assert done("inspect", path, "--json").json["inspection"]["fields"]["earlier_messages"] == [
        {"number": 5, "time": "1970-01-01T00:00:00.000005Z"},
        {"number": 8, "time": "1970-01-01T00:00:00.000008Z"},
    ]


def test_an_index_says_what_of_an_owner_is_missing(each_way: Deployment) -> None:
    sent = number_of(each_way, "north.h5")
    upload = upload_of(each_way, "north", "x", earlier=[5, sent, sent + 1])
    index(each_way, upload)
    gaps = f"missing: 5 ({moment(5)}), {sent + 1} ({moment(sent + 1)})"
    said = f"6 images in 2 uploads; complete up to {sent} ({moment(sent)}); {gaps}"
    assert fields(each_way, "cloud")["sent by north"] == said
    assert fields(each_way, "cloud/index.h5")["sent by north"] == said


def test_of_many_missing_messages_a_few_are_listed(changeable: Deployment) -> None:
    index(changeable, upload_of(changeable, "north", "x", earlier=range(1, 10)))
    assert fields(changeable, "cloud")["sent by north"].endswith(f"5 ({moment(5)}) and 4 more")


def test_an_owner_of_whom_nothing_is_complete_is_said_so(changeable: Deployment) -> None:
    folder, kmc = changeable / "cloud2", changeable / "kmc" / "kmc.pub"
    done("cloud", "init", folder, "--kmc", kmc)
    done("cloud", "enroll", folder, changeable / "north" / "members.h5")
    done("cloud", "index", folder, upload_of(changeable, "north", "x", earlier=[5]), *JOBS)
    said = fields(changeable, "cloud2")["sent by north"]
    assert said == f"1 images in 1 uploads; not complete up to any message; missing: 5 ({moment(5)})"


def test_an_owner_who_deleted_everything_has_sent_something(each_way: Deployment) -> None:
    deletion = deletion_of(each_way, "lake", *each_way.names("lake"))
    index(each_way, deletion)
    number = header_of(deletion).sequence_number
    said = f"0 images in 0 uploads; complete up to {number} ({moment(number)})"
    assert fields(each_way, "cloud")["sent by lake"] == said


def test_an_owners_directory_says_what_each_message_decides(changeable: Deployment) -> None:
    north, pictures = changeable / "north", changeable / "pictures" / "north"
    words = ("--root", pictures, "--again", "-o", changeable / "u.h5")
    done("owner", "encrypt", north, pictures / "hand", *words, *JOBS)
    done("owner", "delete", north, "chest/a.jpg", "hand/d.bmp", "-o", changeable / "d.h5")
    first, second, third = (number_of(changeable, name) for name in ("north.h5", "u.h5", "d.h5"))
    found = fields(changeable, "north")
    key = found["image key"].partition(";")[0]
    assert found[f"upload {first}"] == f"5 images under {key}; still decides 2"
    assert found[f"upload {second}"] == f"2 images under {key}; still decides 1"
    assert found[f"deletion {third}"] == "2 images; still decides 2"


def test_a_file_of_version_1_is_refused_by_its_version() -> None:
    path = Path(__file__).parents[1] / "vectors" / "v1" / "upload.h5"
    said = refused(3, "inspect", path).err
    assert f"{path}: has the format 'mipp 1'; this version of mipp reads only 'mipp 2'" in said


def test_an_owners_directory_lists_its_image_keys(changeable: Deployment) -> None:
    from mipp_cli.owner.owner import Owner
    from mipp_cli.scheme.secret_keys import key_id

    north, keys = changeable / "north", []
    for _ in range(3):
        keys.append(f"{key_id(Owner.open(north).image_key):016x}")
        done("owner", "rotate-key", north)
    done("owner", "forget-key", north, keys[1], "--applied", number_of(changeable, "north.h5"))
    current = f"{key_id(Owner.open(north).image_key):016x}"
    found = fields(changeable, "north")
    assert found["image key"] == f"{current}; images 0"
    assert found[f"former key {keys[0]}"] == "images 5"
    assert found[f"former key {keys[2]}"] == "images 0"
    assert found["forgotten keys"] == keys[1]


def test_a_renewed_sealing_key_shows_wherever_it_is_in_use(
    changeable: Deployment,
) -> None:
    before = fields(changeable, "kmc")["sealing key"]
    done("kmc", "rotate-key", changeable / "kmc")
    done("user", "update-kmc-key", changeable / "alice", changeable / "kmc" / "sealing.pub")
    found = fields(changeable, "kmc/sealing.pub")
    assert found["deployment"] == changeable.public.fingerprint
    assert found["signing key"] == changeable.public.signing_key.hex()
    assert found["number"].endswith("UTC)")
    assert found["sealing key"] == fields(changeable, "kmc")["sealing key"] != before
    assert fields(changeable, "alice")["seals to"] == found["sealing key"]
    assert fields(changeable, "bob")["seals to"] == fields(changeable, "north")["seals to"] == before


@pytest.mark.parametrize("role", ["kmc", "cloud"])
def test_an_owner_is_shown_as_removed_until_it_is_back(changeable: Deployment, role: str) -> None:
    done(role, "remove", changeable / role, "north", "--release-name", "--yes")
    assert fields(changeable, role)["removed north"].endswith("the name is free")
    assert "owner north" not in fields(changeable, role)
    new = changeable / "new"
    done("owner", "init", new, "--id", "north", "--kmc", changeable / "kmc" / "kmc.pub")
    done(role, "enroll", changeable / role, new / ("enrolment.h5" if role == "kmc" else "members.h5"))
    assert "removed north" not in fields(changeable, role)
    assert "owner north" in fields(changeable, role)


@pytest.mark.parametrize("keys", [0, 1, 3])
@pytest.mark.parametrize("schema", [MEMBERS, ENROLMENT], ids=lambda schema: schema.kind)
def test_lists_of_users_with_other_keys_than_users_are_refused(
    tmp_path: Path, schema: Schema, keys: int
) -> None:
    path, sender = tmp_path / "a", Sender("north", SigningKey(bytes(32)), "5a" * 32)
    with write_container(path, schema, sender, 1) as writer:
        writer.ragged("user_ids").extend([b"alice", b"bob"])
        writer.matrix("user_keys").append(np.zeros((keys, 32), np.uint8))
    refused(3, "inspect", path)
