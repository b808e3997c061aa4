"""The contents of a role's directory for `mipp inspect`, without secrets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mipp_cli.cloud import cloud as cloud_role
from mipp_cli.cloud.cloud import INDEX_FILE, Cloud
from mipp_cli.errors import NotInitialisedError
from mipp_cli.files.folders import paths_in
from mipp_cli.inspection.fields import Field, Fields, Value, completeness_of_owner, names, plain, several
from mipp_cli.inspection.files import Inspection, Table, inspect_file, parameter_fields
from mipp_cli.kmc.kmc import EnrolledOwner, Kmc
from mipp_cli.kmc.ranking import RANKINGS_FOLDER
from mipp_cli.kmc.status import received
from mipp_cli.kmc.store import FeatureStore
from mipp_cli.owner.ledger import UPLOAD, Ledger, Message
from mipp_cli.owner.owner import Owner
from mipp_cli.scheme.secret_keys import key_id
from mipp_cli.user import user as user_role
from mipp_cli.workdir.directory import RoleDirectory, role_of, with_article
from mipp_cli.workdir.removals import removals
from mipp_cli.workdir.replay import iso_time


def inspect_path(path: Path) -> Inspection:
    """Inspect a file, or a role's directory."""
    if not path.is_dir():
        return inspect_file(path)
    role = role_of(path)
    if role is None:
        raise NotInitialisedError(
            "is a folder, but not a role's directory",
            path=path,
            hint="name a file, or a directory created by `init`",
        )
    directory = RoleDirectory.open(path, role)
    found = {"kmc": _kmc, "cloud": _cloud, "user": _user, "owner": _owner}[role](directory)
    keys = (
        "in plaintext, readable only by this account"
        if directory.passphrase is None
        else "protected with a passphrase"
    )
    fields = [
        plain("role", role),
        plain("id", directory.name),
        plain("protected", directory.passphrase is not None, "keys", keys),
        *parameter_fields(directory.deployment),
        *found[0],
    ]
    title = f"{path}: directory of {with_article(role)}"
    return Inspection(title, "directory", fields, found[1], directory.warnings)


Found = tuple[Fields, Table | None]


def _names(users: frozenset[tuple[str, bytes]]) -> list[str]:
    return sorted(name for name, _ in users)


def _said(users: list[str]) -> str:
    return f"users {', '.join(users) or 'none'}"


def _kmc(directory: RoleDirectory) -> Found:
    kmc, grouped = Kmc(directory), directory.deployment.parameters.protocol.grouped
    owners = [owner for name in kmc.owner_names() if (owner := kmc.owner(name)) is not None]
    known = [_kmc_owner(kmc, owner, grouped) for owner in owners]
    clouds = kmc.cloud_names()
    fields: Fields = [
        several("owners", [value for value, _ in known], [line for _, lines in known for line in lines]),
        several("clouds", clouds, [("cloud", key) for key in clouds]),
        plain("sealing_key", kmc.sealing_key.public.short_name),
        _removed(directory, kmc.owner_names()),
    ]
    if grouped:
        rankings = paths_in(directory.file(RANKINGS_FOLDER), ".json")
        fields.append(plain("queries_ranked", sum("." not in file.stem for file in rankings)))
    else:
        fields.append(plain("queries_answered", _entries(directory, "queries")))
    return fields, None


def _kmc_owner(kmc: Kmc, owner: EnrolledOwner, grouped: bool) -> tuple[Value, list[tuple[str, str]]]:
    """Return what the KMC has of an owner and of its features, as a value and as lines."""
    name, member = owner.name, owner.membership
    users, keys = _names(member.users), [f"{key:016x}" for key in sorted(owner.image_keys)]
    value = {
        "id": name,
        "number": member.number,
        "time": iso_time(member.number),
        "users": users,
        "image_keys": keys,
        "features": None,
    }
    lines = [(f"owner {name}", f"number {member.number}; {_said(users)}; image keys {', '.join(keys)}")]
    if grouped:
        index = FeatureStore.of(kmc, owner).index()
        uploads, found = sum(1 for message in index.messages if message.rows), received(kmc, name, index)
        value["features"] = {"images": index.rows, "uploads": uploads, **completeness_of_owner(found)}
        lines.append((f"sent by {name}", f"features of {index.rows} images in {uploads} uploads; {found}"))
    return value, lines


def _removed(directory: RoleDirectory, enrolled: list[str]) -> Field:
    gone = [each for each in removals(directory) if each.owner not in enrolled]
    values = [
        {
            "owner": each.owner,
            "number": each.number,
            "time": iso_time(each.number),
            "name_free": each.released,
        }
        for each in gone
    ]
    lines = [
        (f"removed {each.owner}", f"number {each.number}; the name is {'' if each.released else 'not '}free")
        for each in gone
    ]
    return several("removed", values, lines)


def _cloud(directory: RoleDirectory) -> Found:
    members, grouped = Cloud(directory).members(), directory.deployment.parameters.protocol.grouped
    values, lines = [], []
    for member in members:
        users = None if grouped else _names(member.users)
        time = iso_time(member.number)
        values.append({"id": member.owner, "number": member.number, "time": time, "users": users})
        said = "users are known only to the KMC" if users is None else _said(users)
        lines.append((f"owner {member.owner}", f"number {member.number}; {said}"))
    index = inspect_file(directory.file(INDEX_FILE))
    fields = [
        several("owners", values, lines),
        *(field for field in index.fields if field.key in ("segments", "parts", "images", "sent")),
        _removed(directory, [member.owner for member in members]),
    ]
    if not grouped:
        fields.append(plain("queries_answered", _entries(directory, "queries")))
    fields.append(plain("public_file", str(directory.file(cloud_role.PUBLIC_FILE))))
    return fields, index.table


def _user(directory: RoleDirectory) -> Found:
    values, lines = [], []
    for query in sorted(file.stem for file in paths_in(directory.file(user_role.QUERIES_FOLDER), ".json")):
        pictures = [picture.name for picture in user_role.remembered_query(directory, query).pictures]
        values.append({"id": query, "pictures": pictures})
        lines.append((f"query {query}", ", ".join(pictures)))
    fields = [
        plain("public_file", str(directory.file(user_role.PUBLIC_FILE))),
        plain("seals_to", directory.sealing_key.short_name),
        several("queries", values, lines),
    ]
    return fields, None


def _owner(directory: RoleDirectory) -> Found:
    owner = Owner(directory)
    ledger, deciding = owner.ledger, owner.ledger.deciding()
    messages = ledger.messages()
    images: Counter[int] = Counter()
    for message in messages:
        if message.key is not None:
            images[message.key] += deciding[message.number]
    key, former = key_id(owner.image_key), [*owner.former_image_keys]
    forgotten = [f"{each:016x}" for each in sorted(owner.state.forgotten)]
    sent = [_sent(ledger, message, deciding[message.number]) for message in messages]
    fields: Fields = [
        names("users", _names(owner.users)),
        plain("image_names", owner.state.image_names),
        plain("seals_to", directory.sealing_key.short_name),
        plain("image_key", _key(key, images), text=f"{key:016x}; images {images[key]}"),
        several(
            "former_keys",
            [_key(each, images) for each in former],
            [(f"former key {each:016x}", f"images {images[each]}") for each in former],
        ),
        several("forgotten_keys", forgotten, [("forgotten keys", ", ".join(forgotten))] if forgotten else []),
        several("messages", [value for value, _ in sent], [line for _, line in sent]),
    ]
    return fields, None


def _key(key: int, images: Counter[int]) -> Value:
    return {"id": f"{key:016x}", "images": images[key]}


def _sent(ledger: Ledger, message: Message, deciding: int) -> tuple[Value, tuple[str, str]]:
    """Return the images of a message and how many it still decides, as a value and as a line."""
    number, unsure = message.number, message.number in ledger.unsure
    images = sum(1 for _ in ledger.images(number))
    kind = "upload" if message.kind == UPLOAD else "deletion"
    key = None if message.key is None else f"{message.key:016x}"
    value = {
        "kind": kind,
        "number": number,
        "time": iso_time(number),
        "images": images,
        "key": key,
        "decides": deciding,
        "unsure": unsure,
    }
    what = f"{images} images" + ("" if key is None else f" under {key}")
    said = f"{what}; still decides {deciding}" + ("; may not have been sent" if unsure else "")
    return value, (f"{kind} {number}", said)


def _entries(directory: RoleDirectory, folder: str) -> int:
    return len(paths_in(directory.file(folder)))
