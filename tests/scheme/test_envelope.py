"""What is encrypted of an image, and how its length is padded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipp_cli.errors import MalformedError, UnreadableImageError
from mipp_cli.scheme.envelope import IMAGE_LIMIT, Envelope, padme
from tests.support.ciphers import CHANGES, changed
from tests.support.examples import repeatable

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)

# Padmé


@pytest.mark.parametrize(
    ("size", "padded"),
    [
        *((0, 0), (1, 1), (2, 2), (3, 3), (8, 8), (9, 10), (15, 16), (17, 18), (100, 104), (1000, 1024)),
        *((10**6, 1015808), (2**20, 2**20), (2**20 + 1, 2**20 + 2**15)),
    ],
)
def test_padme_gives_the_lengths_worked_out_by_hand(size: int, padded: int) -> None:
    assert padme(size) == padded


@repeatable(500)
@given(size=st.integers(2, 2**40))
def test_padme_is_the_algorithm_of_its_paper(size: int) -> None:
    """Least length from ``size`` whose last E − S bits are zero, E = ⌊log2 L⌋, S = ⌊log2 E⌋ + 1."""
    e = 0
    while 2 ** (e + 1) <= size:
        e += 1
    s = 1
    while 2**s <= e:
        s += 1
    step = 2 ** max(0, e - s)
    assert padme(size) == -(-size // step) * step


@repeatable(300)
@given(size=st.integers(0, 2**31))
def test_padme_adds_at_most_an_eighth_and_pads_only_once(size: int) -> None:
    padded = padme(size)
    assert size <= padded <= size + size / 8
    assert padme(padded) == padded


def test_padme_leaves_16_lengths_between_32_and_64_kibibytes() -> None:
    assert {padme(size) for size in range(2**15 + 1, 2**16 + 1)} == set(range(34 * 1024, 66 * 1024, 2048))


# Envelope


@repeatable(200)
@given(
    path=TEXT,
    media_type=st.sampled_from(["", "image/png", "image/x-portable-anymap"]),
    feature=st.lists(st.integers(0, 255), max_size=90),
    content=st.binary(max_size=300),
)
def test_an_envelope_packed_and_unpacked_is_the_same(
    path: str, media_type: str, feature: list[int], content: bytes
) -> None:
    packed = Envelope(path, media_type, np.array(feature, np.uint8), content).pack()
    unpacked = Envelope.unpack(packed)
    assert (unpacked.path, unpacked.media_type, unpacked.content) == (path, media_type, content)
    assert unpacked.feature.dtype == np.uint8
    assert unpacked.feature.tolist() == feature
    assert len(packed) == padme(len(packed))


def by_hand(*, version: int = 1, path: bytes = "ä.png".encode(), media_type: bytes = b"image/png") -> bytes:
    """An envelope of codes 1 and 203 and the content ``abc``, packed field by field."""
    head = b"".join(
        (
            version.to_bytes(1, "big"),
            len(path).to_bytes(2, "big"),
            len(media_type).to_bytes(1, "big"),
            (2).to_bytes(2, "big"),
            (3).to_bytes(8, "big"),
        )
    )
    packed = head + path + media_type + bytes([1, 203]) + b"abc"
    return packed + bytes(padme(len(packed)) - len(packed))


def test_an_envelope_lies_as_its_format_says() -> None:
    envelope = Envelope("ä.png", "image/png", np.array([1, 203], dtype=np.uint8), b"abc")
    assert envelope.pack() == by_hand()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        by_hand()[:13],
        by_hand(version=0),
        by_hand(version=2),
        by_hand(path=b"\xff"),
        by_hand(path=b"\xed\xb3\xbf"),
        by_hand(media_type=b"\xc3\xa9"),
        by_hand()[:-1],
        by_hand() + b"\1",
        by_hand()[:-1] + b"\1",
        by_hand() + bytes(100) + b"\1",
        by_hand()[:6] + b"\xff" * 8 + by_hand()[14:],
    ],
    ids=range(12),
)
def test_an_envelope_that_departs_from_its_format_is_refused(data: bytes) -> None:
    assert by_hand()[-1] == 0  # so that the last cases change padding, not content
    with pytest.raises(MalformedError):
        Envelope.unpack(data)


@repeatable(100)
@given(content=st.binary(max_size=100), length=st.integers(0, 3000))
def test_an_envelope_padded_further_unpacks_to_the_same(content: bytes, length: int) -> None:
    """Rows of a group are padded to the largest of it."""
    envelope = Envelope("ä.png", "image/png", np.array([1, 203], dtype=np.uint8), content)
    packed = envelope.pack(length)
    assert len(packed) == max(length, len(envelope.pack()))
    assert packed == envelope.pack().ljust(length, b"\0")
    assert Envelope.unpack(packed).content == content


@repeatable(500)
@given(head=st.binary(max_size=14), rest=st.binary(max_size=60))
def test_no_bytes_upset_the_reading_of_an_envelope(head: bytes, rest: bytes) -> None:
    """Whatever is read as an envelope is one: packed again to its length it gives the same bytes."""
    data = b"\1" + head + rest
    try:
        envelope = Envelope.unpack(data)
    except MalformedError:
        return
    assert envelope.pack(len(data)) == data


@repeatable(300)
@given(**CHANGES)
def test_no_changed_byte_upsets_the_reading_of_an_envelope(place: int, change: int) -> None:
    data = changed(by_hand(), place, change)
    try:
        envelope = Envelope.unpack(data)
    except MalformedError:
        return
    assert envelope.pack(len(data)) == data


def test_an_image_that_is_too_large_is_refused_with_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mipp_cli.scheme.envelope.IMAGE_LIMIT", 10)
    Envelope("a.png", "image/png", np.zeros(80, dtype=np.uint8), bytes(10))
    with pytest.raises(UnreadableImageError) as refused:
        Envelope("a.png", "image/png", np.zeros(80, dtype=np.uint8), bytes(11))
    assert refused.value.path == "a.png"


def test_the_largest_image_still_fits_aes_gcm_when_padded() -> None:
    names = 2**16 + 2**8 + 2**16 + 14
    assert padme(IMAGE_LIMIT + names) + 28 < 2**31


@pytest.mark.parametrize(("path", "media_type"), [("ä" * 2**15, "image/png"), ("a.png", "i" * 256)])
def test_names_that_are_too_long_for_the_envelope_are_refused(path: str, media_type: str) -> None:
    with pytest.raises(MalformedError):
        Envelope(path, media_type, np.zeros(80, dtype=np.uint8), b"")
