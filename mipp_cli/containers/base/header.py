"""The user block of a container: 1024 bytes of readable text in a strict format.

It has eight ASCII lines in a fixed order, the last a signature of the others, and is padded with NUL. See
docs/file-format.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mipp_cli.errors import MalformedError
from mipp_cli.scheme.encoding import length_prefixed
from mipp_cli.scheme.keys import SigningKey, verify_signature

HEAD_BYTES = 1024
FORMAT_VERSION = 2
FORMAT_LINE = f"mipp {FORMAT_VERSION}"

NUMBERED_KINDS = ("enrolment", "members", "upload", "features", "delete", "index", "part", "segment")
QUERY_KINDS = ("query", "selection", "results", "groups", "reencrypted")
KINDS = NUMBERED_KINDS + QUERY_KINDS

IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")

_HEX32 = r"[0-9a-f]{64}"
_PATTERN = re.compile(
    rf"{FORMAT_LINE}\n"
    rf"kind (?P<kind>{'|'.join(KINDS)})\n"
    rf"sender (?P<sender>{IDENTIFIER.pattern})\n"
    rf"number (?P<number>0|[1-9][0-9]{{0,18}}|[0-9a-f]{{32}})\n"
    rf"deployment (?P<deployment>{_HEX32})\n"
    rf"digest (?P<digest>{_HEX32})\n"
    rf"key (?P<key>{_HEX32})\n"
    rf"signature (?P<signature>[0-9a-f]{{128}})\n"
)
LARGEST_NUMBER = 2**63 - 1


@dataclass(frozen=True)
class Header:
    """The fields of the user block: kind, sender, number, deployment, content digest and key.

    ``number`` is a sequence number in decimal, or the id of a query or selection in 32 hex digits. In
    lower-case hex, ``deployment`` is the fingerprint of kmc.pub, ``digest`` the digest of the content
    (:func:`~mipp_cli.containers.base.source.digest_of`), and ``key`` the sender's public key.
    """

    kind: str
    sender: str
    number: str
    deployment: str
    digest: str
    key: str

    def __post_init__(self) -> None:
        is_query_id = len(self.number) == 32
        if is_query_id != (self.kind in QUERY_KINDS):
            raise _wrong_number(self.kind)
        if not is_query_id and int(self.number) > LARGEST_NUMBER:
            raise MalformedError(
                f"the sequence number {self.number} would exceed 2^63 - 1, the largest possible",
                hint="nothing was written; the sender's numbers are used up: start again under another name",
            )

    @property
    def sequence_number(self) -> int:
        """The number as an integer, for numbered kinds."""
        return int(self.number)

    @property
    def sender_key(self) -> bytes:
        """The sender's public key, 32 bytes."""
        return bytes.fromhex(self.key)

    @property
    def sealing_info(self) -> bytes:
        """The HPKE info string that binds the sealed part to this container."""
        return sealing_info(self.kind, self.deployment, self.sender, self.sender_key, self.number)

    def render(self, signing_key: SigningKey) -> bytes:
        """Return the signed block, 1024 bytes."""
        text = (
            f"{FORMAT_LINE}\nkind {self.kind}\nsender {self.sender}\nnumber {self.number}\n"
            f"deployment {self.deployment}\ndigest {self.digest}\nkey {self.key}\n"
        ).encode("ascii")
        block = text + f"signature {signing_key.sign(text).hex()}\n".encode("ascii")
        parse(block.ljust(HEAD_BYTES, b"\0"))  # never write a header that we would not read
        return block.ljust(HEAD_BYTES, b"\0")


def sealing_info(kind: str, deployment: str, sender: str, key: bytes, number: str) -> bytes:
    """Return the HPKE info string that binds a part sealed to the KMC to one container."""
    return length_prefixed("mipp/1", kind, deployment, sender, key, number)


def parse(block: bytes) -> Header:
    """Read a user block and verify its signature under the key that it contains.

    The caller must check whether that key may speak for the sender. Raises MalformedError for any
    deviation from the format, and TamperedError for an invalid signature.
    """
    if len(block) != HEAD_BYTES or not block.startswith(b"mipp "):
        raise MalformedError("is not a MIPP container", hint="give a file that a mipp command wrote")
    if not block.startswith(FORMAT_LINE.encode() + b"\n"):
        raise wrong_format(block[:16].partition(b"\n")[0].decode("ascii", "replace"))
    text, _, padding = block.partition(b"\0")
    try:
        match = _PATTERN.fullmatch(text.decode("ascii"))
    except UnicodeDecodeError:
        match = None
    if match is None or padding.strip(b"\0"):
        raise MalformedError("has a malformed header", hint="the file is damaged, or was not written by mipp")
    fields = match.groupdict()
    if len(fields["number"]) < 20 and int(fields["number"]) > LARGEST_NUMBER:
        raise _wrong_number(fields["kind"])
    signature = bytes.fromhex(fields.pop("signature"))
    verify_signature(bytes.fromhex(fields["key"]), signature, text[: text.rindex(b"signature ")])
    return Header(**fields)


def wrong_format(found: object) -> MalformedError:
    """Return the error for a file in another version of the format."""
    return MalformedError(
        f"has the format {str(found)[:16]!r}; this version of mipp reads only {FORMAT_LINE!r}",
        hint="make the file again with this version, or read it with the version that made it",
    )


def _wrong_number(kind: str) -> MalformedError:
    return MalformedError(f"the number of a {kind} is out of range or malformed")
