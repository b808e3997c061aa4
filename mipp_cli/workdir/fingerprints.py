"""Fingerprints of public files and of owners: shown always, and compared when the caller demands one.

A public file's is its SHA-256. An owner's is its public signing key, which stands in the header of
enrolment.h5 and members.h5, and which the first enrolment pins the owner's name to.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from pathlib import Path

from mipp_cli.errors import InvalidRequestError, WrongDeploymentError


def check_fingerprints(found: Mapping[Path, str], demanded: Sequence[str]) -> dict[str, str]:
    """Return the fingerprints by path, once each is among those demanded (if any are), and each demand met.

    Raises WrongDeploymentError for a file with another fingerprint and for a demand that no file meets,
    InvalidRequestError for a demand that is not 64 hex digits.
    """
    wanted = [fingerprint.replace(":", "").replace(" ", "").lower() for fingerprint in demanded]
    for text, fingerprint in zip(demanded, wanted, strict=True):
        if len(fingerprint) != 64 or fingerprint.strip("0123456789abcdef"):
            raise InvalidRequestError(
                f"{text!r} is not a fingerprint", hint="a fingerprint has 64 hex digits"
            )
    for path, fingerprint in found.items():
        if wanted and not any(hmac.compare_digest(fingerprint, each) for each in wanted):
            raise WrongDeploymentError(
                f"has the fingerprint {fingerprint}, which is not the one demanded",
                path=path,
                hint="the file is not the one that its owner told you about: ask again, over another channel",
            )
    for fingerprint in wanted:
        if fingerprint not in found.values():
            raise WrongDeploymentError(
                f"no file given has the fingerprint {fingerprint}, which was demanded",
                hint="the file that should have it is missing, or is not the one you were told about",
            )
    return {str(path): fingerprint for path, fingerprint in found.items()}
