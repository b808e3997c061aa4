"""`reencrypted` (KMC → cloud → user): NER, and the manifest that says what belongs to it, under USK."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mipp_cli.containers.columns import Matrix, Ragged
from mipp_cli.containers.container import Container, Schema, Sender, open_container, write_container
from mipp_cli.containers.header import IDENTIFIER, Header
from mipp_cli.errors import MalformedError, TamperedError
from mipp_cli.scheme.image_cipher import derive_key, image_dec, image_enc, length_prefixed

REENCRYPTED = Schema("reencrypted", {"NER": Ragged(limit=2**31), "manifest": Matrix("u1")})
_MANIFEST_LIMIT = 1 << 30


@dataclass(frozen=True)
class Manifest:
    """What an answer consists of: digest of the query, (owner, image) of each NER, and who matches what.

    ``matches`` lists (query image, position in NER), ``left_out`` says how many images the KMC could not
    decrypt. Sealed under USK, so that neither a dropped, an added nor a swapped image passes.
    """

    query_digest: str
    images: tuple[tuple[str, str], ...]
    matches: tuple[tuple[int, int], ...]
    left_out: int = 0

    def pack(self) -> bytes:
        """Return the manifest as bytes."""
        fields = {
            "query": self.query_digest,
            "images": self.images,
            "matches": self.matches,
            "left_out": self.left_out,
        }
        return json.dumps(fields, separators=(",", ":")).encode()

    @classmethod
    def unpack(cls, data: bytes) -> Manifest:
        """Read what :meth:`pack` wrote; raises MalformedError."""
        try:
            fields = json.loads(data)
            images = tuple((str(owner), str(name)) for owner, name in fields["images"])
            matches = tuple((int(query), int(image)) for query, image in fields["matches"])
            manifest = cls(str(fields["query"]), images, matches, int(fields["left_out"]))
            for _, name in images:
                name.encode()  # half of a surrogate pair is no text
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise MalformedError("holds a manifest that cannot be read") from None
        if manifest.pack() != data:
            raise MalformedError("holds a manifest in another form than the one that is written")
        if not all(IDENTIFIER.fullmatch(owner) for owner, _ in images):
            raise MalformedError("names an owner by an identifier that is not one")
        if any(query < 0 or not 0 <= image < len(images) for query, image in matches):
            raise MalformedError("matches an image that it does not hold")
        if manifest.left_out < 0:
            raise MalformedError("left out an impossible number of images")
        return manifest


@dataclass(frozen=True, repr=False)
class AnswerCipher:
    """ImageEnc and ImageDec under USK, for the images and the manifest of one query's answer."""

    usk: bytes
    deployment: str
    user: str
    query_id: str

    def _key(self, purpose: str) -> bytes:
        return derive_key(self.usk, f"mipp/1 answer {purpose}", bytes.fromhex(self.query_id))

    def _associated_data(self, purpose: str, *place: str | int) -> bytes:
        return length_prefixed(f"answer {purpose}", self.deployment, self.user, self.query_id, *place)

    def encrypt_image(self, plaintext: bytes, owner: str, name: str) -> bytes:
        """Algorithm 1 under USK: the NER of one image."""
        return image_enc(self._key("images"), plaintext, self._associated_data("images", owner, name))

    def decrypt_image(self, ner: bytes, owner: str, name: str) -> bytes:
        """Algorithm 2 under USK; raises TamperedError."""
        return image_dec(self._key("images"), ner, self._associated_data("images", owner, name))

    def seal_manifest(self, manifest: Manifest) -> bytes:
        """Encrypt the manifest."""
        return image_enc(self._key("manifest"), manifest.pack(), self._associated_data("manifest"))

    def open_manifest(self, sealed: bytes) -> Manifest:
        """Decrypt the manifest; raises TamperedError or MalformedError."""
        return Manifest.unpack(image_dec(self._key("manifest"), sealed, self._associated_data("manifest")))


def write_reencrypted(
    path: Path,
    sender: Sender,
    query_id: str,
    ner: Iterable[bytes],
    sealed_manifest: bytes | Callable[[], bytes],
    *,
    force: bool = False,
) -> None:
    """Write `reencrypted`; the manifest may be made by a function, which is called after all of ``ner``."""
    with write_container(path, REENCRYPTED, sender, query_id, force=force) as writer:
        for image in ner:
            writer.ragged("NER").append(image)
        sealed = sealed_manifest() if callable(sealed_manifest) else sealed_manifest
        writer.matrix("manifest").append(np.frombuffer(sealed, dtype=np.uint8))


@dataclass(frozen=True)
class Answer:
    """An open answer whose manifest was opened with USK and fits its images and the query."""

    container: Container
    cipher: AnswerCipher
    manifest: Manifest

    def envelope(self, number: int) -> bytes:
        """Return the decrypted envelope of one image; raises TamperedError if it was swapped."""
        owner, name = self.manifest.images[number]
        return self.cipher.decrypt_image(self.container.ragged("NER").row(number), owner, name)


def open_reencrypted(path: Path, deployment: str, check: Callable[[Header], None] | None = None) -> Container:
    """Read and verify `reencrypted`, without opening what is under USK."""
    return open_container(path, REENCRYPTED, deployment=deployment, check=check)


def open_answer(container: Container, cipher: AnswerCipher, query_digest: bytes) -> Answer:
    """Open the manifest of an answer; raises TamperedError if it is not the answer to that query."""
    manifest = cipher.open_manifest(container.octets("manifest", _MANIFEST_LIMIT))
    if manifest.query_digest != query_digest.hex():
        raise TamperedError("answers another query than the one that was sent")
    if len(container.ragged("NER")) != len(manifest.images):
        raise TamperedError("does not hold the images that its manifest lists: some were dropped or added")
    return Answer(container, cipher, manifest)
