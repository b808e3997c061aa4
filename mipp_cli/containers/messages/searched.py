"""What an answer says of how it came about, for its user and the KMC: who was searched, what was wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mipp_cli.containers.messages.manifest import Manifest, SearchedOwner


def fields_of(owner: SearchedOwner) -> dict[str, Any]:
    """Return what was searched of an owner as fields for scripts; ``images`` is None if nothing was."""
    fields = asdict(owner)
    del fields["name"]
    return fields


def notes_of(manifest: Manifest) -> tuple[str, ...]:
    """Say which owners, and how many images of each, were searched."""
    searched = [f"{o.name} ({_images(o.images)})" for o in manifest.owners if o.images is not None]
    return (f"searched: {', '.join(searched)}",) if searched else ()


def warnings_of(manifest: Manifest) -> list[str]:
    """Say what was not searched, and what of the matches' groups was bad, missing or withdrawn."""
    warnings = [warning for owner in manifest.owners for warning in _warnings(owner)]
    if manifest.left_out:
        warnings.append(
            f"{manifest.left_out} groups of images were left out, the largest: the cloud would have had to "
            "bring too much at once; ask for fewer candidates, or the KMC ranks a new query with a higher "
            "--limit"
        )
    return warnings


def _warnings(owner: SearchedOwner) -> list[str]:
    name = owner.name
    if owner.images is None:
        return [
            f"{name} was not searched: no such owner is enrolled, or this owner did not authorise the user"
        ]
    warnings = []
    if not owner.images and not owner.unread:
        warnings.append(f"the KMC holds no features of {name}: the owner brings them to mipp kmc index")
    if owner.unread:
        warnings.append(
            f"what the KMC keeps of {name} is damaged, and could not be searched or given out: "
            "mipp kmc check names the file, and what mends it"
        )
    if owner.unranked:
        warnings.append(
            f"{_images(owner.unranked)} of {name} were not searched: the KMC does not hold their image key"
        )
    if owner.gaps:
        warnings.append(
            f"the KMC lacks what {name} sent as {_numbers(owner.gaps)}: the owner brings the features files "
            "(mipp owner features) or deletions to mipp kmc index"
        )
    if owner.missing:
        warnings.append(missing_at_cloud(name, owner.missing, owner.uploads, kmc_is_behind=bool(owner.gaps)))
    if owner.bad:
        warnings.append(
            f"{_images(owner.bad)} of {name} are not as the owner sent them: damaged at the cloud, or "
            "made wrongly"
        )
    if owner.withdrawn:
        warnings.append(
            f"{_images(owner.withdrawn)} of {name} matched and were withdrawn since: replaced, deleted, or "
            "you were revoked"
        )
    return warnings


def missing_at_cloud(name: str, count: int, uploads: Sequence[int], *, kmc_is_behind: bool) -> str:
    """Say that images are not at the cloud, and who is to bring what: the KMC may be what is behind."""
    said = f"{_images(count)} of {name} are not at the cloud, of upload {_numbers(uploads)}: "
    if kmc_is_behind:
        return (
            said + "replaced or deleted there, and the KMC lacks what says so: bring that to mipp kmc index"
        )
    return said + "bring it to mipp cloud index; or bring what replaced or deleted them to mipp kmc index"


def _images(count: int | None) -> str:
    return f"{count or 0} image{'' if count == 1 else 's'}"


def _numbers(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
