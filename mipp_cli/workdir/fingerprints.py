"""Compare fingerprints of public files and of owners with those that the caller demands.

A public file's is its SHA-256. An owner's is its public signing key, which is in the header of enrolment.h5
and members.h5; the first enrolment pins the owner's name to it.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from pathlib import Path

from mipp_cli.errors import InvalidRequestError, WrongDeploymentError


def check_fingerprints(found: Mapping[Path, str], demanded: Sequence[str]) -> dict[str, str]:
    """Check the fingerprints of files against those demanded, if any, and return them by path.

    Raises WrongDeploymentError for a file with a different fingerprint and for a demanded one that no file
    has, InvalidRequestError for a demanded one that is not 64 hex digits.
    """
    wanted = [fingerprint.replace(":", "").replace(" ", "").lower() for fingerprint in demanded]
    for text, fingerprint in zip(demanded, wanted, strict=True):
        if len(fingerprint) != 64 or fingerprint.strip("0123456789abcdef"):
            raise InvalidRequestError(f"{text!r} is not a fingerprint", hint="a fingerprint is 64 hex digits")
    for path, fingerprint in found.items():
        if wanted and not any(hmac.compare_digest(fingerprint, each) for each in wanted):
            raise WrongDeploymentError(
                f"has the fingerprint {fingerprint}, which is not the expected one",
                path=path,
                hint="this is not the file that its owner told you about: ask again, over another channel",
            )
    for fingerprint in wanted:
        if fingerprint not in found.values():
            raise WrongDeploymentError(
                f"none of the files has the expected fingerprint {fingerprint}",
                hint="the file with this fingerprint is missing, or is not the one you were told about",
            )
    return {str(path): fingerprint for path, fingerprint in found.items()}
