"""What a role's directory holds, for whoever looks; never a secret."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mipp_cli.cloud import cloud as cloud_role
from mipp_cli.cloud.cloud import INDEX_FILE, Cloud
from mipp_cli.errors import NotInitialisedError
from mipp_cli.inspection.containers import Fields
from mipp_cli.inspection.files import Inspection, Table, inspect_file, parameter_fields
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.kmc.ranking import RANKINGS_FOLDER
from mipp_cli.kmc.status import received
from mipp_cli.kmc.store import FeatureStore
from mipp_cli.owner.ledger import UPLOAD, Ledger, Message
from mipp_cli.owner.owner import Owner
from mipp_cli.scheme.secret_keys import key_id
from mipp_cli.user import user as user_role
from mipp_cli.workdir.directory import RoleDirectory, role_of, with_article
from mipp_cli.workdir.removals import removals


def inspect_path(path: Path) -> Inspection:
    """Inspect a file, or a role's directory."""
    if not path.is_dir():
        return inspect_file(path)
    role = role_of(path)
    if role is None:
        raise NotInitialisedError(
            "is a folder, but no role's directory", path=path, hint="name a file, or what `init` made"
        )
    directory = RoleDirectory.open(path, role)
    found = {"kmc": _kmc, "cloud": _cloud, "user": _user, "owner": _owner}[role](directory)
    keys = "in plain, for this account alone" if directory.passphrase is None else "sealed with a passphrase"
    fields = [
        ("role", role),
        ("id", directory.name),
        ("keys", keys),
        *parameter_fields(directory.deployment),
        *found[0],
    ]
    warnings = directory.warnings
    return Inspection(f"{path}: directory of {with_article(role)}", fields, found[1], warnings)


Found = tuple[Fields, Table | None]


def _users(users: frozenset[tuple[str, bytes]]) -> str:
    return ", ".join(sorted(name for name, _ in users)) or "none"


def _kmc(directory: RoleDirectory) -> Found:
    kmc, grouped = Kmc(directory), directory.deployment.parameters.protocol.grouped
    fields: Fields = []
    for name in kmc.owner_names():
        owner = kmc.owner(name)
        if owner is None:
            continue
        member, keys = owner.membership, ", ".join(f"{key:016x}" for key in sorted(owner.image_keys))
        known = f"number {member.number}; users {_users(member.users)}; image keys {keys}"
        fields.append((f"owner {name}", known))
        if grouped:
            index = FeatureStore.of(kmc, owner).index()
            uploads = sum(1 for message in index.messages if message.rows)
            found = f"features of {index.rows} images in {uploads} uploads"
            fields.append((f"sent by {name}", f"{found}; {received(kmc, name, index)}"))
    fields += [("cloud", key) for key in kmc.cloud_names()]
    fields += [("sealing key", kmc.sealing_key.public.short_name), *_removed(directory, kmc.owner_names())]
    if grouped:
        rankings = directory.file(RANKINGS_FOLDER).glob("*.json")
        fields.append(("queries ranked", str(sum("." not in file.stem for file in rankings))))
    else:
        fields.append(("queries answered", str(_entries(directory, "queries"))))
    return fields, None


def _removed(directory: RoleDirectory, enrolled: list[str]) -> Fields:
    return [
        (f"removed {each.owner}", f"number {each.number}; the name is {'' if each.released else 'not '}free")
        for each in removals(directory)
        if each.owner not in enrolled
    ]


def _cloud(directory: RoleDirectory) -> Found:
    members, grouped = Cloud(directory).members(), directory.deployment.parameters.protocol.grouped
    fields: Fields = []
    for member in members:
        users = "are known to the KMC alone" if grouped else _users(member.users)
        fields.append((f"owner {member.owner}", f"number {member.number}; users {users}"))
    index = inspect_file(directory.file(INDEX_FILE))
    fields += [
        (name, value)
        for name, value in index.fields
        if name in ("segments", "parts", "images") or name.startswith("sent by ")
    ]
    fields += _removed(directory, [member.owner for member in members])
    if not grouped:
        fields.append(("queries answered", str(_entries(directory, "queries"))))
    fields.append(("public file", str(directory.file(cloud_role.PUBLIC_FILE))))
    return fields, index.table


def _user(directory: RoleDirectory) -> Found:
    fields: Fields = [("public file", str(directory.file(user_role.PUBLIC_FILE)))]
    fields.append(("seals to", directory.sealing_key.short_name))
    queries = sorted(file.stem for file in directory.folder(user_role.QUERIES_FOLDER).glob("*.json"))
    for query_id in queries:
        pictures = user_role.remembered_query(directory, query_id).pictures
        fields.append((f"query {query_id}", ", ".join(picture.name for picture in pictures)))
    return fields, None


def _owner(directory: RoleDirectory) -> Found:
    owner = Owner(directory)
    ledger, deciding = owner.ledger, owner.ledger.deciding()
    messages = ledger.messages()
    images: Counter[int] = Counter()
    for message in messages:
        if message.key is not None:
            images[message.key] += deciding[message.number]
    key = key_id(owner.image_key)
    fields: Fields = [
        ("users", _users(owner.users)),
        ("image names", owner.state.image_names),
        ("seals to", directory.sealing_key.short_name),
        ("image key", f"{key:016x}; images {images[key]}"),
    ]
    fields += [(f"former key {each:016x}", f"images {images[each]}") for each in owner.former_image_keys]
    if owner.state.forgotten:
        forgotten = ", ".join(f"{each:016x}" for each in sorted(owner.state.forgotten))
        fields.append(("forgotten keys", forgotten))
    fields += [_sent(ledger, message, deciding[message.number]) for message in messages]
    return fields, None


def _sent(ledger: Ledger, message: Message, deciding: int) -> tuple[str, str]:
    kind = "upload" if message.kind == UPLOAD else "deletion"
    what = f"{sum(1 for _ in ledger.images(message.number))} images"
    if message.key is not None:
        what += f" under {message.key:016x}"
    unsure = "; may not have got out" if message.number in ledger.unsure else ""
    return f"{kind} {message.number}", f"{what}; still decides {deciding}{unsure}"


def _entries(directory: RoleDirectory, folder: str) -> int:
    return sum(1 for _ in directory.file(folder).glob("*"))
