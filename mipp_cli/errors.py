"""All errors that users can cause: one hierarchy, each class with its exit code.

The message says what is wrong, ``path`` where, and ``hint`` what to do. The command line catches
:class:`MippError` in one place and prints it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, NamedTuple


class Problem(NamedTuple):
    """A problem with one of many files."""

    path: str
    message: str


class MippError(Exception):
    """Base class of all errors that users can cause; never raised itself."""

    exit_code: ClassVar[int] = 1
    problems: tuple[Problem, ...] = ()  # of an error about many files: each file with its problem
    problem_word: ClassVar[str] = "unreadable"  # what each of these files is

    def __init__(self, message: str, *, path: str | os.PathLike[str] | None = None, hint: str | None = None):
        super().__init__(message)
        self.message = message
        self.path = None if path is None else os.fspath(path)
        self.hint = hint


class InvalidRequestError(MippError):
    """Raised for an invalid request: a wrong option value, an empty list, a missing input."""

    exit_code = 2


class DeclinedError(MippError):
    """Raised when the user answers no to a confirmation."""

    exit_code = 1


class NotInitialisedError(InvalidRequestError):
    """Raised when a directory is not one of a role, or belongs to another role."""


class MalformedError(MippError):
    """Raised when a file violates its format, or has impossible values."""

    exit_code = 3


class TamperedError(MalformedError):
    """Raised when a digest, a signature or an authentication tag cannot be verified."""


class DamagedError(MalformedError):
    """Raised when a check of a directory finds damage; ``problems`` lists every damaged file."""

    problem_word = "damaged"

    def __init__(self, problems: Sequence[Problem], *, path: str | os.PathLike[str], hint: str | None = None):
        files = len({problem.path for problem in problems})
        super().__init__(f"is damaged, in {files} {'file' if files == 1 else 'files'}", path=path, hint=hint)
        self.problems = tuple(problems)


class NotAuthorisedError(MippError):
    """Raised for a request of an unknown or unauthorised user, owner or cloud."""

    exit_code = 4


class AlreadyAppliedError(MippError):
    """Raised when an input has no effect because it was applied before."""

    exit_code = 5


class ReplayedError(MippError):
    """Raised when a message is older than one applied, or reuses a known number with other content."""

    exit_code = 6


class ClockError(ReplayedError):
    """Raised when the number of a message lies in the future of the receiver's clock."""


class UnreadableImageError(MippError):
    """Raised when a picture cannot be read: format, damage, size or permission."""

    exit_code = 7


class NoPictureError(UnreadableImageError):
    """Raised when a valid file contains no picture, such as a report among DICOM files."""


class UnreadableImagesError(UnreadableImageError):
    """Raised when pictures of a collection cannot be read; ``problems`` lists every one."""

    def __init__(self, problems: Sequence[Problem], *, hint: str):
        super().__init__(f"{len(problems)} of the images cannot be read", hint=hint)
        self.problems = tuple(problems)


class ChangedImageError(UnreadableImageError):
    """Raised when a picture has changed since the command described it."""


class WrongDeploymentError(MippError):
    """Raised when a file belongs to another deployment, or needs another key."""

    exit_code = 8


class MissingKeyError(WrongDeploymentError):
    """Raised when a required key is missing."""


class PassphraseError(MissingKeyError):
    """Raised when a protected directory is opened with a wrong passphrase or without one."""


class ConflictError(MippError):
    """Raised when an input conflicts with stored data: a pinned key, an image that exists already."""

    exit_code = 9


class TooFewImagesError(ConflictError):
    """Raised when there are fewer images for new groups than the deployment's group size."""


class OutputError(MippError):
    """Raised when an output exists, or a file or folder cannot be reached, listed, written or deleted."""

    exit_code = 10


class InterruptedWorkError(MippError):
    """Raised when a run was interrupted, or a worker was killed."""

    exit_code = 130


@contextmanager
def errors_at(path: str | os.PathLike[str]) -> Iterator[None]:
    """Set the path of an error raised in the block to ``path``, unless it has one."""
    try:
        yield
    except MippError as error:
        if error.path is None:
            error.path = os.fspath(path)
        raise
