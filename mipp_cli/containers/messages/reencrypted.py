"""`reencrypted` (KMC → cloud → user): NER and its manifest, under USK."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mipp_cli.containers.base.columns import Matrix, Ragged
from mipp_cli.containers.base.container import Check, Container, Schema, open_container
from mipp_cli.containers.base.writer import Sender, write_container
from mipp_cli.containers.messages.manifest import Manifest
from mipp_cli.errors import TamperedError
from mipp_cli.log import timed
from mipp_cli.scheme.aead import image_dec, image_enc, seal, unseal
from mipp_cli.scheme.encoding import length_prefixed
from mipp_cli.scheme.secret_keys import derive_key

REENCRYPTED = Schema("reencrypted", {"NER": Ragged(), "manifest": Matrix("u1")})
_MANIFEST_LIMIT = 1 << 30


@dataclass(frozen=True, repr=False)
class AnswerCipher:
    """ImageEnc and ImageDec under USK, for the images and the manifest of one query's answer."""

    usk: bytes
    deployment: str
    user: str
    query_id: str

    def _key(self, purpose: str) -> bytes:
        return derive_key(self.usk, f"mipp/1 answer {purpose}", bytes.fromhex(self.query_id))

    def _associated_data(self, purpose: str, *place: int) -> bytes:
        return length_prefixed(f"answer {purpose}", self.deployment, self.user, self.query_id, *place)

    def encrypt_image(self, plaintext: bytes, place: int) -> bytes:
        """Encrypt the image at ``place`` by Algorithm 1 under USK, which gives its NER."""
        return image_enc(self._key("images"), plaintext, self._associated_data("images", place))

    def decrypt_image(self, ner: bytes, place: int) -> bytes:
        """Decrypt an image by Algorithm 2 under USK; raises TamperedError."""
        return image_dec(self._key("images"), ner, self._associated_data("images", place))

    def seal_manifest(self, manifest: bytes) -> bytes:
        """Encrypt the packed manifest."""
        return seal(self._key("manifest"), manifest, self._associated_data("manifest"))

    def open_manifest(self, sealed: bytes) -> Manifest:
        """Decrypt the manifest; raises TamperedError or MalformedError."""
        return Manifest.unpack(unseal(self._key("manifest"), sealed, self._associated_data("manifest")))


@timed("re-encrypting the matches into {path}")
def write_reencrypted(
    path: Path,
    sender: Sender,
    query_id: str,
    ner: Iterable[bytes],
    sealed_manifest: Callable[[], bytes],
    *,
    force: bool = False,
) -> None:
    """Write `reencrypted`; ``sealed_manifest`` is called after all of ``ner``."""
    with write_container(path, REENCRYPTED, sender, query_id, force=force) as writer:
        for image in ner:
            writer.ragged("NER").append(image)
        writer.add(manifest=sealed_manifest())


@dataclass(frozen=True)
class Answer:
    """An open answer, whose manifest was decrypted with USK and matches its images and the query."""

    container: Container
    cipher: AnswerCipher
    manifest: Manifest

    def envelope(self, place: int) -> bytes:
        """Decrypt the envelope of the image at ``place``; raises TamperedError if it was replaced."""
        return self.cipher.decrypt_image(self.container.ragged("NER").row(place), place)


def open_reencrypted(path: Path, deployment: str, check: Check | None = None) -> Container:
    """Read and verify `reencrypted`, without decrypting what is under USK."""
    return open_container(path, REENCRYPTED, deployment=deployment, check=check)


def open_answer(container: Container, cipher: AnswerCipher, query_digest: bytes) -> Answer:
    """Decrypt the manifest of an answer; raises TamperedError if it answers another query."""
    manifest = cipher.open_manifest(container.data("manifest", _MANIFEST_LIMIT))
    if manifest.query_digest != query_digest.hex():
        raise TamperedError("does not answer the query that was sent, but another one")
    if len(container.ragged("NER")) != manifest.images:
        raise TamperedError("does not contain the images that its manifest lists: some were dropped or added")
    return Answer(container, cipher, manifest)
