"""Chunks of encrypted features: they open where they belong and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mipp_cli.errors import MalformedError, TamperedError
from mipp_cli.scheme.feature_chunks import (
    FeatureChunkCipher,
    check_codes,
    chunk_bytes,
    chunk_rows,
    stored_type,
)
from mipp_cli.scheme.image_cipher import image_enc
from mipp_cli.scheme.parameters import Parameters, generate_parameters

PARAMETERS = generate_parameters("exact")
CIPHER = FeatureChunkCipher(bytes(range(32)), "d" * 64, "north", 17, PARAMETERS)
ROWS = np.random.default_rng(1).integers(0, 8, (6, 80), dtype=np.uint8)
CHUNK = CIPHER.encrypt(ROWS, number=2, version=19)


def other(**fields: object) -> FeatureChunkCipher:
    return replace(CIPHER, **fields)  # type: ignore[arg-type]


def test_a_chunk_opens_to_the_codes_that_went_in_one_column_an_image() -> None:
    assert (CIPHER.decrypt(CHUNK, 2, 19, 6) == ROWS.T).all()


def test_a_chunk_opens_into_memory_that_is_there_whatever_was_in_it() -> None:
    memory = bytearray(b"x" * 1000)
    codes = CIPHER.decrypt(CHUNK, 2, 19, 6, memory)
    assert (codes == ROWS.T).all()
    assert memory[: codes.nbytes] == codes.tobytes()


def test_the_same_codes_encrypt_to_something_else_each_time() -> None:
    assert CIPHER.encrypt(ROWS, 2, 19) != CHUNK


def test_the_features_of_an_image_take_82_bytes_at_the_most() -> None:
    assert len(CHUNK) == chunk_bytes(PARAMETERS, 6)
    rows = chunk_rows(PARAMETERS)
    assert chunk_bytes(PARAMETERS, rows) / rows <= 80.01


@pytest.mark.parametrize(
    "cipher",
    [
        other(image_key=bytes(32)),
        other(deployment="e" * 64),
        other(owner="south"),
        other(upload=18),
        other(parameters=Parameters("mask", None)),
    ],
)
def test_a_chunk_of_another_key_deployment_owner_upload_or_scheme_does_not_open(
    cipher: FeatureChunkCipher,
) -> None:
    with pytest.raises(TamperedError):
        cipher.decrypt(CHUNK, 2, 19, 6)


@pytest.mark.parametrize("place", [(1, 19, 6), (2, 20, 6), (2, 19, 5)])
def test_a_chunk_does_not_open_under_another_number_version_or_count_of_rows(
    place: tuple[int, int, int],
) -> None:
    with pytest.raises(TamperedError):
        CIPHER.decrypt(CHUNK, *place)


@pytest.mark.parametrize(
    "change",
    [
        lambda chunk: chunk[:-1],
        lambda chunk: chunk + b"\0",
        lambda chunk: b"",
        lambda chunk: chunk[:11],
        lambda chunk: chunk[:40] + bytes([chunk[40] ^ 1]) + chunk[41:],
    ],
)
def test_a_chunk_that_was_cut_lengthened_or_changed_does_not_open(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(TamperedError):
        CIPHER.decrypt(change(CHUNK), 2, 19, 6)


def test_codes_that_no_feature_has_are_refused() -> None:
    encrypted = CIPHER.encrypt(np.full((3, 80), 8, dtype=np.uint8), 0, 17)
    with pytest.raises(MalformedError, match="below 8"):
        CIPHER.decrypt(encrypted, 0, 17, 3)


def test_an_owner_cannot_send_more_or_less_than_the_rows_it_names() -> None:
    associated = CIPHER._associated_data(0, 17, 3)
    encrypted = image_enc(CIPHER._key, bytes(80 * 2), associated)
    with pytest.raises(MalformedError, match="length"):
        CIPHER.decrypt(encrypted, 0, 17, 3)


@pytest.mark.parametrize(("levels", "largest"), [(256, 255), (257, 256), (65536, 65535)])
def test_every_code_of_the_declared_levels_has_room_and_passes(levels: int, largest: int) -> None:
    parameters = Parameters("exact", None, "own", 3, levels)
    codes = np.array([[0, 1, largest]], dtype=np.uint16)
    cipher = replace(CIPHER, parameters=parameters)
    opened = cipher.decrypt(cipher.encrypt(codes, 0, 17), 0, 17, 1)
    assert opened.dtype == stored_type(parameters)
    assert opened.T.tolist() == codes.tolist()


def test_chunks_of_long_features_have_fewer_rows() -> None:
    longer = Parameters("exact", None, "own", 1536, 65536)
    assert [chunk_rows(parameters) for parameters in (PARAMETERS, longer)] == [4096, 170]


def test_codes_of_a_word_that_holds_no_other_pass_unseen() -> None:
    check_codes(np.array([255], dtype=np.uint8), 256)
