"""What an owner sends of features in scheme `exact`: chunks that the KMC opens, and manifests that fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mipp_cli.containers.container import open_container
from mipp_cli.containers.delete import delete_schema
from mipp_cli.containers.feature_columns import FeatureReader
from mipp_cli.containers.manifest import FeatureManifest
from mipp_cli.containers.upload import UploadWriter, upload_schema
from mipp_cli.errors import OutputError
from mipp_cli.roles.owner import Owner
from mipp_cli.roles.owner_features import feature_ledger
from mipp_cli.scheme import feature_chunks
from mipp_cli.scheme.feature_chunks import ChunkPlace, FeatureChunkCipher
from mipp_cli.scheme.image_cipher import key_id
from tests.deployment import JOBS, done, feature_of, picture, refused, snapshot

PICTURES = [f"{number}.png" for number in range(5)]


@dataclass
class North:
    """An owner of scheme `exact` with five pictures, whose chunks have two rows."""

    root: Path
    sent: int = 0

    @property
    def owner(self) -> Owner:
        return Owner.open(self.root / "north")

    def send(self, *words: object) -> Path:
        """Encrypt or delete, and return the file."""
        self.sent += 1
        path = self.root / f"{self.sent}.h5"
        jobs = JOBS if words[0] == "encrypt" else ()
        done("owner", words[0], self.root / "north", *words[1:], "-o", path, *jobs)
        return path

    def encrypt(self, *names: str, options: tuple[object, ...] = ()) -> Path:
        """Encrypt pictures by name."""
        folder = self.root / "pictures"
        return self.send("encrypt", *(folder / name for name in names), "--root", folder, *options)

    def read(self, path: Path) -> tuple[FeatureManifest, dict[ChunkPlace, bytes]]:
        """Return the manifest of a message, and the chunks that it brings."""
        parameters = self.owner.directory.deployment.parameters
        kind = path.read_bytes().split(b"\n")[1]
        schema = upload_schema(parameters) if kind == b"kind upload" else delete_schema(parameters)
        with open_container(path, schema) as container:
            reader = FeatureReader(container)
            manifest = reader.manifest(parameters, container.header.deployment)
            assert manifest.number == container.header.sequence_number
            return manifest, dict(reader.chunks())

    def codes(self, *messages: Path) -> list[list[int]]:
        """Return the features that are live after messages, as the KMC reads them, in the order of places."""
        chunks: dict[ChunkPlace, bytes] = {}
        for path in messages:
            manifest, brought = self.read(path)
            chunks |= brought
        owner, sender = self.owner, self.owner.directory.sender
        keys = {**owner.former_image_keys, key_id(owner.image_key): owner.image_key}
        parameters = owner.directory.deployment.parameters
        found: list[list[int]] = []
        for chunk in manifest.chunks:
            place = chunk.place
            cipher = FeatureChunkCipher(
                keys[chunk.key_id], sender.deployment, sender.name, place.upload, parameters
            )
            columns = cipher.decrypt(chunks[place], place.number, chunk.version, chunk.rows)
            found += columns.T.tolist()
        return found

    def features(self, *names: str) -> list[list[int]]:
        """Return the features of pictures."""
        return [feature_of(self.root / "pictures" / name).tolist() for name in names]

    def refuse(self, words: str, *command: object) -> None:
        """Demand exit 2 and nothing changed."""
        before = snapshot(self.root)
        outcome = refused(2, "owner", command[0], self.root / "north", *command[1:])
        assert words in outcome.err
        assert snapshot(self.root) == before


@pytest.fixture
def north(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[North]:
    monkeypatch.setattr(feature_chunks, "_MOST_ROWS", 2)
    done("kmc", "init", tmp_path / "kmc", "--scheme", "exact")
    kmc = tmp_path / "kmc" / "kmc.pub"
    done("owner", "init", tmp_path / "north", "--id", "north", "--kmc", kmc)
    (tmp_path / "pictures").mkdir()
    for number, name in enumerate(PICTURES):
        picture(number).save(tmp_path / "pictures" / name)
    return North(tmp_path)


def test_an_upload_brings_the_features_of_its_images_in_chunks_for_the_kmc(north: North) -> None:
    upload = north.encrypt(*PICTURES)
    manifest, chunks = north.read(upload)
    assert [chunk.rows for chunk in manifest.chunks] == [2, 2, 1]
    assert [chunk.place for chunk in manifest.chunks] == list(chunks)
    assert north.codes(upload) == north.features(*PICTURES)


def test_nobody_reads_a_feature_off_an_upload(north: North) -> None:
    octets = north.encrypt(*PICTURES).read_bytes()
    for feature in north.features(*PICTURES):
        assert bytes(feature)[:24] not in octets
    columns = np.array(north.features(*PICTURES[:2]), dtype=np.uint8).T.tobytes()
    assert columns[:24] not in octets


def test_a_second_upload_lists_the_chunks_of_the_first_too(north: North) -> None:
    first, second = north.encrypt(*PICTURES[:3]), north.encrypt(*PICTURES[3:])
    assert [chunk.rows for chunk in north.read(second)[0].chunks] == [2, 1, 2]
    assert north.codes(first, second) == north.features(*PICTURES)


def test_a_deletion_brings_the_touched_chunks_without_the_images(north: North) -> None:
    upload = north.encrypt(*PICTURES)
    deletion = north.send("delete", "1.png", "4.png")
    manifest, brought = north.read(deletion)
    assert [(chunk.rows, chunk.version == manifest.number) for chunk in manifest.chunks] == [
        (1, True),
        (2, False),
    ]
    assert list(brought) == [manifest.chunks[0].place]  # the last chunk is empty, and gone
    assert north.codes(upload, deletion) == north.features("0.png", "2.png", "3.png")


def test_images_leave_a_chunk_one_after_the_other(north: North) -> None:
    upload = north.encrypt(*PICTURES)
    first, second = north.send("delete", "2.png"), north.send("delete", "0.png", "3.png")
    assert north.codes(upload, first, second) == north.features("1.png", "4.png")
    third = north.send("delete", "1.png", "4.png")
    assert north.read(third) == (north.read(third)[0], {})
    assert not north.read(third)[0].chunks


def test_a_replacing_upload_takes_its_images_out_of_the_chunks_of_older_ones(north: North) -> None:
    upload = north.encrypt(*PICTURES)
    picture(77).save(north.root / "pictures" / "1.png")
    again = north.encrypt("1.png", "2.png", options=("--replace",))
    assert north.codes(upload, again) == north.features("0.png", "3.png", "4.png", "1.png", "2.png")


def test_what_is_left_of_a_chunk_stays_under_the_key_of_its_upload(north: North) -> None:
    upload, before = north.encrypt(*PICTURES), key_id(north.owner.image_key)
    done("owner", "rotate", north.root / "north")
    deletion = north.send("delete", "0.png")
    assert {chunk.key_id for chunk in north.read(deletion)[0].chunks} == {before}
    assert north.codes(upload, deletion) == north.features(*PICTURES[1:])
    refused(9, "owner", "forget-key", north.root / "north")


def test_each_of_several_uploads_brings_the_manifest_after_it(north: North) -> None:
    folder = north.root / "pictures"
    words = ("encrypt", north.root / "north", folder, "-o", north.root / "part.h5", "--split", "20kB", *JOBS)
    done("owner", *words)
    parts = sorted(north.root.glob("part-*.h5"))
    assert len(parts) > 1
    rows = [north.read(part)[0].rows for part in parts]
    assert rows == sorted(rows)
    assert north.codes(*parts) == north.features(*PICTURES)


def test_images_that_were_sent_are_not_sent_again_without_replace(north: North) -> None:
    north.encrypt(*PICTURES)
    words = ("encrypt", north.root / "pictures", "-o", north.root / "again.h5")
    north.refuse("5 of the images were sent before", *words)


def test_images_that_the_ledger_does_not_list_cannot_be_named(north: North) -> None:
    north.encrypt(*PICTURES[:2])
    north.refuse("that the ledger lists", "delete", "4.png", "--unlisted", "-o", north.root / "x.h5")
    words = (north.root / "pictures", "--replace", "--unlisted", "-o", north.root / "x.h5")
    north.refuse("that the ledger lists", "encrypt", *words)


def test_withdrawing_a_message_withdraws_all_that_was_made_after_it(north: North) -> None:
    first, second = north.encrypt(*PICTURES[:2]), north.encrypt("2.png")
    north.encrypt("3.png")
    outcome = done("owner", "withdraw", north.root / "north", second)
    assert "uploads withdrawn: 2" in outcome.out
    assert "with it went what was made after it" in outcome.out
    third = north.encrypt("2.png")
    assert north.codes(first, third) == north.features(*PICTURES[:3])


def test_what_was_withdrawn_counts_again_when_the_cloud_applied_it(north: North) -> None:
    first, second = north.encrypt(*PICTURES[:2]), north.encrypt("2.png")
    done("owner", "withdraw", north.root / "north", second)
    done("owner", "withdraw", north.root / "north", second, "--undo")
    third = north.encrypt("3.png")
    assert north.codes(first, second, third) == north.features(*PICTURES[:4])
    assert "is not withdrawn" in refused(5, "owner", "withdraw", north.root / "north", first, "--undo").err


def test_withdrawn_messages_count_again_in_the_order_in_which_they_were_made(north: North) -> None:
    sent = [north.encrypt(name) for name in PICTURES[:3]]
    done("owner", "withdraw", north.root / "north", sent[1])
    before = snapshot(north.root)
    outcome = refused(9, "owner", "withdraw", north.root / "north", sent[2], "--undo")
    assert "was made on other messages" in outcome.err
    assert snapshot(north.root) == before
    for path in sent[1:]:
        done("owner", "withdraw", north.root / "north", path, "--undo")
    assert north.codes(*sent, north.encrypt("3.png")) == north.features(*PICTURES[:4])


def test_what_was_withdrawn_does_not_count_beside_what_was_made_without_it(north: North) -> None:
    first, second = north.encrypt("0.png"), north.encrypt("1.png")
    done("owner", "withdraw", north.root / "north", second)
    without = north.encrypt("2.png")
    before = snapshot(north.root)
    outcome = refused(9, "owner", "withdraw", north.root / "north", second, "--undo")
    assert "was made without" in outcome.err
    assert snapshot(north.root) == before
    done("owner", "withdraw", north.root / "north", without)
    done("owner", "withdraw", north.root / "north", second, "--undo")
    refused(9, "owner", "withdraw", north.root / "north", without, "--undo")
    assert north.codes(first, second, north.encrypt("3.png")) == north.features("0.png", "1.png", "3.png")


def test_deletions_that_were_withdrawn_count_again_in_order_too(north: North) -> None:
    upload = north.encrypt(*PICTURES)
    deletions = [north.send("delete", name) for name in ("0.png", "1.png")]
    done("owner", "withdraw", north.root / "north", deletions[0])
    refused(9, "owner", "withdraw", north.root / "north", deletions[1], "--undo")
    for path in deletions:
        done("owner", "withdraw", north.root / "north", path, "--undo")
    last = north.send("delete", "3.png")
    assert north.codes(upload, *deletions, last) == north.features("2.png", "4.png")


def test_a_key_is_forgotten_once_no_chunk_is_under_it(north: North) -> None:
    sent = [north.encrypt(*PICTURES[:3])]
    done("owner", "rotate", north.root / "north")
    sent += [north.encrypt(*PICTURES[3:]), north.send("delete", "0.png", "1.png")]
    refused(9, "owner", "forget-key", north.root / "north")
    sent.append(north.encrypt("2.png", options=("--replace",)))
    done("owner", "forget-key", north.root / "north")
    assert north.codes(*sent) == north.features("3.png", "4.png", "2.png")


@pytest.mark.parametrize("suffix", ["features", "manifest.h5"])
@pytest.mark.parametrize("harm", ["missing", "changed"])
def test_a_ledger_whose_features_are_damaged_says_which_file(north: North, suffix: str, harm: str) -> None:
    north.encrypt(*PICTURES)
    file = next((north.root / "north" / "uploads").glob(f"*.{suffix}"))
    if harm == "missing":
        file.unlink()
    else:
        octets = bytearray(file.read_bytes())
        octets[20] ^= 1
        file.write_bytes(octets)
    before = snapshot(north.root / "north" / "uploads")
    words = ("delete", north.root / "north", "1.png", "-o", north.root / "x.h5")
    assert str(file) in refused(3, "owner", *words).err
    assert snapshot(north.root / "north" / "uploads") == before
    assert not (north.root / "x.h5").exists()


def test_a_message_that_fails_leaves_no_features_behind(
    north: North, monkeypatch: pytest.MonkeyPatch
) -> None:
    north.encrypt("0.png")

    def fail(*_: object) -> None:
        raise OutputError("cannot be written: No space left on device")

    monkeypatch.setattr(UploadWriter, "write_features", fail)
    monkeypatch.setattr("mipp_cli.roles.owner_delete.write_delete", lambda *_, **__: fail())
    before = snapshot(north.root / "north" / "uploads")
    for words in (("encrypt", north.root / "pictures" / "1.png", *JOBS), ("delete", "0.png")):
        refused(10, "owner", words[0], north.root / "north", *words[1:], "-o", north.root / "x.h5")
        assert snapshot(north.root / "north" / "uploads") == before


def test_what_a_killed_command_left_of_features_goes_with_the_next(north: North) -> None:
    north.encrypt("1.png")
    left = [north.root / "north" / "uploads" / name for name in ("7.features", "7.manifest.h5")]
    for file in left:
        file.write_bytes(b"left")
    north.encrypt("0.png")
    assert not any(file.exists() for file in left)


def test_the_features_of_a_ledger_are_for_the_owner_alone(north: North) -> None:
    north.encrypt(*PICTURES)
    folder = north.root / "north" / "uploads"
    assert {file.stat().st_mode & 0o777 for file in folder.glob("*.features")} == {0o600}
    codes = feature_ledger(north.owner).codes(int(next(folder.glob("*.features")).stem), 1)
    assert codes.tolist() == north.features("2.png", "3.png")
