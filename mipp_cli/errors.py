"""Every error a person can cause: one family, each class with its exit code.

A message says what is wrong; ``path`` says where; ``hint`` says what to do about it. The command line
catches :class:`MippError` in one place and turns it into a message and an exit code.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, NamedTuple


class Problem(NamedTuple):
    """What is wrong with one of many files."""

    path: str
    message: str


class MippError(Exception):
    """Base of all errors that a person can cause; never raised itself."""

    exit_code: ClassVar[int] = 1
    problems: tuple[Problem, ...] = ()  # of an error that is of many files, each and what is wrong with it

    def __init__(self, message: str, *, path: str | os.PathLike[str] | None = None, hint: str | None = None):
        super().__init__(message)
        self.message = message
        self.path = None if path is None else os.fspath(path)
        self.hint = hint


class InvalidRequestError(MippError):
    """Raised when a request makes no sense as given: an option's value, an empty list, a missing input."""

    exit_code = 2


class DeclinedError(MippError):
    """Raised when a command asked whether to go on, and the answer was no."""

    exit_code = 1


class TooFewImagesError(InvalidRequestError):
    """Raised when the images that go into new groups are fewer than a group has."""


class NotInitialisedError(InvalidRequestError):
    """Raised when a directory named as a role's is not one, or is another role's."""


class MalformedError(MippError):
    """Raised when a file departs from its format in any way, or carries values that cannot be."""

    exit_code = 3


class TamperedError(MalformedError):
    """Raised when a digest, a signature or an authentication tag does not fit the content."""


class DamagedError(MalformedError):
    """Raised when a check of a directory found damage; ``problems`` names every file that has some."""

    def __init__(self, problems: Sequence[Problem], *, path: str | os.PathLike[str], hint: str | None = None):
        files = len({problem.path for problem in problems})
        super().__init__(f"is damaged, in {files} {'file' if files == 1 else 'files'}", path=path, hint=hint)
        self.problems = tuple(problems)


class NotAuthorisedError(MippError):
    """Raised when a party asks for what no one gave it: an unknown user, owner or cloud."""

    exit_code = 4


class AlreadyAppliedError(MippError):
    """Raised when an input changes nothing, because it was applied before."""

    exit_code = 5


class ReplayedError(MippError):
    """Raised when a message is older than one applied, or other content comes under a known number."""

    exit_code = 6


class ClockError(ReplayedError):
    """Raised when the number of a message is of a time that the receiver's clock has not come near."""


class UnreadableImageError(MippError):
    """Raised when a picture cannot be read: format, damage, size or permission."""

    exit_code = 7


class NoPictureError(UnreadableImageError):
    """Raised when a file is sound and holds no picture, such as a report among DICOM files."""


class UnreadableImagesError(UnreadableImageError):
    """Raised when pictures of a collection cannot be read; ``problems`` names every one."""

    def __init__(self, problems: Sequence[Problem], *, hint: str):
        super().__init__(f"{len(problems)} of the images cannot be read", hint=hint)
        self.problems = tuple(problems)


class ChangedImageError(UnreadableImageError):
    """Raised when a picture is not what it was when the command described it."""


class WrongDeploymentError(MippError):
    """Raised when a file belongs to another deployment or key than the one at hand."""

    exit_code = 8


class MissingKeyError(WrongDeploymentError):
    """Raised when the key that a step needs is not there."""


class PassphraseError(MissingKeyError):
    """Raised when a protected directory is to be opened with another passphrase than its own, or without."""


class ConflictError(MippError):
    """Raised when an input contradicts what is stored: a pinned key, an image that is there already."""

    exit_code = 9


class OutputError(MippError):
    """Raised when an output exists, or cannot be written."""

    exit_code = 10


class InterruptedWorkError(MippError):
    """Raised when a run was interrupted, or a worker ended from outside, before its work was done."""

    exit_code = 130


@contextmanager
def errors_at(path: str | os.PathLike[str]) -> Iterator[None]:
    """Say of an error that comes out of the block, and names no place yet, that it was at ``path``."""
    try:
        yield
    except MippError as error:
        if error.path is None:
            error.path = os.fspath(path)
        raise
