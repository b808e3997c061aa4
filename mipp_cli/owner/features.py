"""The features files of an owner, `features/NUMBER.h5`, kept while their uploads still decide images.

From them, a KMC that lost features or never got a file can be repaired without sending pictures again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from mipp_cli.errors import AlreadyAppliedError, MalformedError, OutputError
from mipp_cli.files.atomic import discard, new_file, new_folder
from mipp_cli.files.folders import is_there
from mipp_cli.owner.owner import Owner
from mipp_cli.report import Output, Report
from mipp_cli.workdir.directory import RoleDirectory

FEATURES_FOLDER = "features"


def kept_file(directory: RoleDirectory, number: int) -> Path:
    """Return the path of the kept features file of an upload."""
    return directory.file(FEATURES_FOLDER) / f"{number}.h5"


def copy_file(source: Path, output: Path, *, force: bool = False) -> None:
    """Copy a file completely or not at all; raises OutputError."""
    with new_file(output, force=force) as temporary:
        shutil.copyfile(source, temporary)


def sweep_kept(directory: RoleDirectory, deciding: Collection[int]) -> None:
    """Remove the features of uploads that no longer decide any image; failures are retried next time."""
    folder = directory.file(FEATURES_FOLDER)
    for file in folder.glob("*.h5") if folder.is_dir() else ():
        if file.stem.isdecimal() and int(file.stem) not in deciding:
            discard(file)


def hand_out_features(path: Path, output: Path) -> Report:
    """Copy the features files of all current uploads into the new folder ``output``, for the KMC.

    Raises InvalidRequestError in a scheme without them, OutputError if ``output`` exists,
    AlreadyAppliedError if there are no current uploads, and MalformedError if all files are missing. If only
    some are missing, the report warns of them.
    """
    owner = Owner.open(path)
    directory = owner.directory
    directory.deployment.parameters.protocol.check_kmc_ranks()
    directory.refuse_inside(output)
    if os.path.lexists(output):
        raise OutputError("the output exists", path=output, hint="name a new folder")
    with directory.lock(shared=True):
        ledger = owner.ledger
        deciding = ledger.deciding()
        numbers = [
            each.number for each in ledger.messages() if each.key is not None and deciding[each.number]
        ]
        if not numbers:
            raise AlreadyAppliedError("none of the images sent is live", hint="there is nothing to do")
        missing = [number for number in numbers if not is_there(kept_file(directory, number))]
        again = " ".join(f"--again {number}" for number in missing)
        if len(missing) == len(numbers):
            raise MalformedError(
                f"lacks the features of all {len(numbers)} current uploads",
                path=directory.file(FEATURES_FOLDER),
                hint=f"send these images again: mipp owner encrypt OWNER IMAGES {again}",
            )
        with new_folder(output) as building:
            for number in sorted(set(numbers).difference(missing)):
                copy_file(kept_file(directory, number), building / f"{number}.features.h5")
    note = f"send them to the KMC: mipp kmc index KMC {output}/*.features.h5"
    warnings = [*owner.directory.warnings]
    if missing:
        warnings.append(
            f"the features of {len(missing)} uploads are missing; send these images again: mipp owner "
            f"encrypt OWNER IMAGES {again}"
        )
    counts = {"uploads": len(numbers) - len(missing), "missing": len(missing)}
    return Report((Output(output, "features"),), counts, tuple(warnings), notes=(note,))
