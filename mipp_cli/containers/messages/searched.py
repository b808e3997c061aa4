"""Notes and warnings on an answer, for its user and the KMC: who was searched, and what was wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mipp_cli.containers.messages.manifest import Manifest, SearchedOwner


def fields_of(owner: SearchedOwner) -> dict[str, Any]:
    """Return the outcome for an owner as JSON fields; ``images`` is None if the owner was not searched."""
    fields = asdict(owner)
    del fields["name"]
    return fields


def notes_of(manifest: Manifest) -> tuple[str, ...]:
    """Return a note on the owners that were searched and their numbers of images."""
    searched = [f"{o.name} ({_images(o.images)})" for o in manifest.owners if o.images is not None]
    return (f"searched: {', '.join(searched)}",) if searched else ()


def warnings_of(manifest: Manifest) -> list[str]:
    """Return warnings on what was not searched, and on bad, missing or withdrawn images of the matches."""
    warnings = [warning for owner in manifest.owners for warning in _warnings(owner)]
    if manifest.left_out:
        warnings.append(
            f"{manifest.left_out} groups of images were left out, the largest: the cloud would have had to "
            "deliver too much at once; ask for fewer candidates, or have the KMC rank a new query with a "
            "higher --limit"
        )
    return warnings


def _warnings(owner: SearchedOwner) -> list[str]:
    name = owner.name
    if owner.images is None:
        return [f"{name} was not searched: the owner is not enrolled, or did not authorise the user"]
    warnings = []
    if not owner.images and not owner.unread:
        warnings.append(f"the KMC has no features of {name}: add the owner's with mipp kmc index")
    if owner.unread:
        warnings.append(
            f"the KMC's data of {name} are damaged and could not be searched or given out: "
            "mipp kmc check names the file and how to repair it"
        )
    if owner.unranked:
        warnings.append(
            f"{_images(owner.unranked)} of {name} were not searched: the KMC does not have their image key"
        )
    if owner.gaps:
        warnings.append(
            f"the KMC lacks the messages {_numbers(owner.gaps)} of {name}: add the owner's features files "
            "(mipp owner features) or deletions with mipp kmc index"
        )
    if owner.missing:
        warnings.append(missing_at_cloud(name, owner.missing, owner.uploads, kmc_is_behind=bool(owner.gaps)))
    if owner.bad:
        warnings.append(
            f"{_images(owner.bad)} of {name} could not be used: damaged at the cloud, or not encrypted "
            "correctly by the owner"
        )
    if owner.withdrawn:
        warnings.append(
            f"{_images(owner.withdrawn)} of {name} matched, but were withdrawn since: replaced, deleted, or "
            "you were revoked"
        )
    return warnings


def missing_at_cloud(name: str, count: int, uploads: Sequence[int], *, kmc_is_behind: bool) -> str:
    """Return the warning that images are missing at the cloud, with what to do."""
    said = f"{_images(count)} of {name}, from upload {_numbers(uploads)}, are not at the cloud: "
    if kmc_is_behind:
        return said + "messages that the KMC lacks replaced or deleted them; add these with mipp kmc index"
    return (
        said + "add the upload with mipp cloud index; or if they were replaced or deleted, add the message "
        "that did so with mipp kmc index"
    )


def _images(count: int | None) -> str:
    return f"{count or 0} image{'' if count == 1 else 's'}"


def _numbers(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
