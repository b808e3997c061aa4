"""`cloud init` and `cloud enroll`: creates the cloud's directory and enrols owners in it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path

from mipp_cli.cloud.store import PARTS_FOLDER, SEGMENTS_FOLDER, Store
from mipp_cli.containers.base.container import read_header
from mipp_cli.containers.base.header import Header
from mipp_cli.containers.base.source import FileSource, read_file
from mipp_cli.containers.messages.membership import MEMBERS_BYTES_LIMIT, Membership, parse_members
from mipp_cli.containers.messages.public_files import (
    CLOUD_NAME,
)
from mipp_cli.containers.store.index import Index, read_index, write_index
from mipp_cli.errors import (
    ConflictError,
    InvalidRequestError,
    MalformedError,
    NotAuthorisedError,
    errors_at,
)
from mipp_cli.files.atomic import unchanged_on_failure, write_bytes
from mipp_cli.files.folders import is_there, paths_in
from mipp_cli.report import Report
from mipp_cli.workdir.directory import RoleDirectory
from mipp_cli.workdir.fingerprints import check_fingerprints
from mipp_cli.workdir.floors import floor_file, set_floor_of_return
from mipp_cli.workdir.party import init_party
from mipp_cli.workdir.removals import check_return, check_spelling, removal_of
from mipp_cli.workdir.replay import check_clock, check_pinned_key, check_sequence, each_new

PUBLIC_FILE = "cloud.pub"
INDEX_FILE = "index.h5"
MEMBERS_FOLDER = "members"


class Cloud:
    """A cloud's directory."""

    def __init__(self, directory: RoleDirectory):
        self.directory = directory

    @classmethod
    def open(cls, path: Path) -> Cloud:
        """Open a cloud's directory."""
        return cls(RoleDirectory.open(path, "cloud"))

    def index(self) -> Index:
        """Read index.h5, which must be signed by this cloud."""
        sender = self.directory.sender
        try:
            return read_index(
                self.directory.file(INDEX_FILE),
                sender.deployment,
                lambda header: check_pinned_key(header, sender.signing_key.public),
            )
        except (MalformedError, InvalidRequestError) as error:
            error.hint = "rebuild it from the stored uploads: mipp cloud index CLOUD --rebuild"
            raise

    @cached_property
    def store(self) -> Store:
        """The files that the index lists."""
        deployment = self.directory.deployment
        return Store(self.directory.path, deployment.parameters, deployment.fingerprint)

    def members_file(self, owner: str) -> Path:
        """Return the path of an owner's `members` container."""
        return self.directory.file(MEMBERS_FOLDER) / f"{owner}.h5"

    def members_header(self, owner: str) -> Header:
        """Return the header of an enrolled owner's `members`; raises NotAuthorisedError."""
        path = self.members_file(owner)
        if not is_there(path):
            raise NotAuthorisedError(
                f"the owner {owner!r} is not enrolled with this cloud",
                hint="enrol the owner first: mipp cloud enroll CLOUD members.h5",
            )
        with errors_at(path), closing(FileSource(path)) as source:
            return read_header(source, kind="members", deployment=self.directory.sender.deployment)

    def owner_names(self) -> list[str]:
        """Return the OIDs of all enrolled owners."""
        return sorted(file.stem for file in paths_in(self.directory.file(MEMBERS_FOLDER), ".h5"))

    def members(self) -> list[Membership]:
        """Return all current memberships, sorted by owner."""
        found = []
        for file in map(self.members_file, self.owner_names()):
            with errors_at(file):
                data = read_file(file, MEMBERS_BYTES_LIMIT)
                found.append(parse_members(data, self.directory.sender.deployment))
        return found


def init_cloud(path: Path, kmc: Path, *, fingerprints: Sequence[str] = ()) -> Report:
    """Create a cloud's directory, with cloud.pub for the KMC."""

    def fill(directory: RoleDirectory) -> None:
        for folder in (MEMBERS_FOLDER, SEGMENTS_FOLDER, PARTS_FOLDER):
            directory.folder(folder)
        write_index(directory.file(INDEX_FILE), directory.sender, Index(0))

    return init_party(path, "cloud", CLOUD_NAME, kmc, fingerprints, fill)


def enroll_at_cloud(path: Path, files: Sequence[Path], *, fingerprints: Sequence[str] = ()) -> Report:
    """Enrol owners: apply their `members`, either all of ``files`` or none.

    Files applied before are skipped; AlreadyAppliedError if none is left. The fingerprints shown and required
    are those of owners whose names are pinned here.
    """
    cloud = Cloud.open(path)
    found: dict[Path, str] = {}
    headers: dict[str, Header] = {}
    contents: dict[str, bytes] = {}
    back: dict[str, Header] = {}  # owners who return after a removal

    def read(file: Path) -> Membership:
        def check(header: Header) -> None:
            found[file] = header.key
            check_spelling(cloud.directory, header.sender, [*cloud.owner_names(), *headers])
            known = headers.get(header.sender)
            if known is None and is_there(cloud.members_file(header.sender)):
                known = cloud.members_header(header.sender)
            check_return(cloud.directory, header, enrolled=known is not None)
            if known is None:
                if _was_removed(cloud, header.sender):
                    back[header.sender] = header
            else:
                check_pinned_key(header, known.sender_key)
                check_sequence(header, known.sequence_number, known.digest)
            check_clock(header, known.sequence_number if known else 0)
            headers[header.sender] = header

        content = read_file(file, MEMBERS_BYTES_LIMIT)
        membership = parse_members(content, cloud.directory.sender.deployment, check)
        contents[membership.owner] = content
        return membership

    with cloud.directory.lock():
        _, skipped = each_new(files, read, lambda: check_fingerprints(found, fingerprints))
        floors = (floor_file(cloud.directory, owner) for owner in back)
        with unchanged_on_failure(*map(cloud.members_file, contents), *floors):
            for header in back.values():
                set_floor_of_return(cloud.directory, header)
            for owner, content in contents.items():
                write_bytes(cloud.members_file(owner), content, force=True)
    counts = {"owners": len(contents), "already enrolled": skipped}
    shown = {str(file): fingerprint for file, fingerprint in found.items()}
    notes = tuple(
        f"the images of {owner} from before the removal are gone: mipp owner encrypt --again sends them again"
        for owner in sorted(back)
    )
    return Report((), counts, cloud.directory.warnings, shown, notes)


def _was_removed(cloud: Cloud, owner: str) -> bool:
    """Return whether an owner who enrols was removed before; ConflictError if the removal is unfinished."""
    if removal_of(cloud.directory, owner) is None:
        return False
    index = cloud.index()
    # a rebuild of the index would apply files again that the index does not list
    left = any(path.name.startswith(f"{owner}-") for path in cloud.store.unlisted(index))
    if left or index.of_owner(owner):
        raise ConflictError(
            f"the removal of {owner!r} was interrupted before its images were removed",
            hint=f"finish it first: mipp cloud remove CLOUD {owner}",
        )
    return True
