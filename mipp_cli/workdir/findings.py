"""Check a role's directory: collect all problems, then report them together."""

from __future__ import annotations

import hmac
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mipp_cli.containers.base.header import IDENTIFIER
from mipp_cli.containers.messages.public_files import load_deployment
from mipp_cli.errors import (
    DamagedError,
    InterruptedWorkError,
    MalformedError,
    MippError,
    OutputError,
    Problem,
)
from mipp_cli.files.atomic import TEMPORARY
from mipp_cli.files.folders import is_there, paths_in
from mipp_cli.report import Report
from mipp_cli.workdir.directory import KMC_FILE, RoleDirectory, with_article
from mipp_cli.workdir.floors import FLOORS_FOLDER, floor_of
from mipp_cli.workdir.removals import REMOVED_FOLDER, removal_of
from mipp_cli.workdir.secrets_file import ROLE_FILE, SECRETS_FILE

_QUERY_NAME = re.compile("[0-9a-f]{64}-[0-9a-f]{32}")
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass
class Findings:
    """What a check has found so far: the problems, and how many things of each kind were sound."""

    directory: RoleDirectory
    problems: list[Problem] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    details: dict[str, object] = field(default_factory=dict)

    @classmethod
    def begin(cls, path: Path, role: str) -> Findings:
        """Begin a check of the directory of ``role``; raises NotInitialisedError if it is not one.

        A damaged role.json is a problem like others; the rest is still checked.
        """
        problems = []
        try:
            directory = RoleDirectory.open(path, role)
        except MalformedError as error:
            directory = RoleDirectory(path, role)
            problems.append(Problem(error.path or str(path), error.message))
        return cls(directory, problems)

    def check_common(self) -> list[Path]:
        """Check the files that clouds and KMCs have in common, and the directory's mode; return the files.

        The content of secrets.json is left to the role.
        """
        folder = self.directory.path
        mode = folder.stat().st_mode & 0o777
        if mode & 0o077:
            self.warnings.append(
                f"other accounts have access to {folder} (mode {mode:04o}): chmod 700 keeps them out; "
                "where that has no effect, as on FAT or SMB, move the directory"
            )
        with self.of(folder / ROLE_FILE, "files"):
            _ = self.directory.name
        with self.of(folder / KMC_FILE, "files"):
            load_deployment(folder / KMC_FILE)
        return [
            *(folder / name for name in (ROLE_FILE, KMC_FILE, SECRETS_FILE)),
            *self.check_each(REMOVED_FOLDER, ".json", "removals", partial(self._check_record, removal_of)),
            *self.check_each(FLOORS_FOLDER, ".json", "refusals", partial(self._check_record, floor_of)),
        ]

    def _check_record(self, read: Callable[[RoleDirectory, str], object], name: str) -> None:
        if not IDENTIFIER.fullmatch(name):
            raise MalformedError("is not named after an owner")
        read(self.directory, name)

    @contextmanager
    def of(self, path: Path, kind: str) -> Iterator[None]:
        """Count one ``kind``, or add a problem if the block fails, at the error's path or ``path``."""
        try:
            yield
        except InterruptedWorkError:
            raise  # not a problem of the file
        except MippError as error:
            self.add(Path(error.path or path), error.message)
        except OSError as error:
            self.add(path, _unreadable(error))
        else:
            self.counts[kind] += 1

    def add(self, path: Path, message: str) -> None:
        """Add a problem, unless it was added before."""
        problem = Problem(str(path), message)
        if problem not in self.problems:
            self.problems.append(problem)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the directory, unless the file that is locked is missing."""
        if is_there(self.directory.file(ROLE_FILE)):
            with self.directory.lock(shared=True):
                yield
        else:
            yield

    def check_each(self, folder: str, ending: str, kind: str, check: Callable[[str], None]) -> list[Path]:
        """Call ``check`` with the name of each file in a folder, less its ``ending``; return the files."""
        files = self.listed(self.directory.file(folder), ending)
        for file in files:
            with self.of(file, kind):
                check(file.name.removesuffix(ending))
        return files

    def is_folder(self, path: Path) -> bool | None:
        """Return whether a path is a folder and not a link; None if it is missing.

        If this cannot be said, add a problem and return None.
        """
        try:
            return stat.S_ISDIR(path.lstat().st_mode)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.add(path, _unreadable(error))
            return None

    def listed(self, folder: Path, ending: str = "") -> list[Path]:
        """Return what is in a folder and has this ``ending``; add a problem if it cannot be listed."""
        try:
            return paths_in(folder, ending)
        except OutputError as error:
            self.add(folder, error.message)
            return []

    def _files_below(self, folder: Path) -> Iterator[Path]:
        for path in self.listed(folder):
            is_folder = self.is_folder(path)
            if is_folder:
                yield from self._files_below(path)
            elif is_folder is not None:
                yield path

    def check_unknown(self, known: Iterable[Path]) -> None:
        """Add a problem for every file in the directory that is not ``known``; count temporary files."""
        listed = set(known)
        for path in self._files_below(self.directory.path):
            if path in listed:
                continue
            if TEMPORARY.fullmatch(path.name):
                self.counts["temporary files"] += 1
            else:
                self.add(path, f"does not belong in the directory of {with_article(self.directory.role)}")

    def report(self, hint: str) -> Report:
        """Return the counts; raises DamagedError with all problems if there are any."""
        if self.problems:
            raise DamagedError(self.problems, path=self.directory.path, hint=hint)
        warnings = [*self.directory.warnings, *self.warnings]
        if left := self.counts.pop("temporary files", 0):
            warnings.append(f"{left} temporary files of interrupted commands can be removed (.*.tmp)")
        return Report((), dict(self.counts), tuple(warnings), {}, tuple(self.notes), self.details)


def _unreadable(error: OSError) -> str:
    return f"cannot be read: {error.strerror}"


def check_key(found: bytes, named: bytes, file: str) -> None:
    """Raise MalformedError if a key's public half is not the one in a public file."""
    if not hmac.compare_digest(found, named):
        raise MalformedError(f"its key does not match {file}")


def check_query_record(directory: RoleDirectory, folder: str, name: str) -> None:
    """Raise MalformedError if a file is not the record of an answered query."""
    recorded = directory.recorded(folder, name)
    if not _QUERY_NAME.fullmatch(name) or not _DIGEST.fullmatch(recorded or ""):
        raise MalformedError("is not the record of a query")
