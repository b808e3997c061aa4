"""`owner init`: create an owner's directory, with keys, a list of users, and the files that enrol it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mipp_cli.containers.messages.public_files import load_deployment, load_party, read_public_file
from mipp_cli.files.atomic import write_bytes
from mipp_cli.owner.authorize import with_users
from mipp_cli.owner.owner import NOT_IN_FORCE, Owner, OwnerState
from mipp_cli.report import Output, Report
from mipp_cli.scheme.keys import SigningKey
from mipp_cli.scheme.secret_keys import generate_key
from mipp_cli.workdir.describer import remember_model
from mipp_cli.workdir.directory import (
    KMC_FILE,
    STATE_FILE,
    check_identifier,
    new_directory,
)
from mipp_cli.workdir.fingerprints import check_fingerprints


def init_owner(
    path: Path,
    name: str,
    kmc: Path,
    *,
    authorize: Sequence[Path] = (),
    image_names: str = "hashed",
    model: Path | None = None,
    fingerprints: Sequence[str] = (),
) -> Report:
    """Create an owner's directory: keys (KeyGen), the AUL, enrolment.h5 and members.h5.

    ``model`` is the owner's copy of the deployment's model, if the deployment has one.
    """
    check_identifier(name, "an owner's identifier")
    kmc_text, deployment = read_public_file(kmc), load_deployment(kmc)
    parties = {each: load_party(each, "user", deployment.fingerprint) for each in authorize}
    found = {kmc: deployment.fingerprint}
    found.update({each: party.fingerprint for each, party in parties.items()})
    shown = check_fingerprints(found, fingerprints)
    users = with_users(frozenset(), parties)
    with new_directory(path, "owner", name) as directory:
        write_bytes(directory.file(KMC_FILE), kmc_text)
        keys = {"signing": SigningKey.generate().seed, "image": generate_key(), "identifier": generate_key()}
        directory.write_secrets(keys)
        remember_model(directory, deployment.parameters, model)
        directory.write_json(STATE_FILE, OwnerState(0, image_names, frozenset()).to_json())
        outputs = Owner(directory).write_membership(users)
    moved = [Output(path / output.path.name, output.kind) for output in outputs]
    return Owner.open(path).report(moved, {"users": len(users)}, NOT_IN_FORCE, shown=shown)
