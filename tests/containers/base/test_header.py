"""The user block is strict to the byte: one spelling, signed, and nothing beside it."""

from __future__ import annotations

import io
import random
import re

import h5py
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mipp_cli.containers.base.header import (
    FORMAT_LINE,
    HEAD_BYTES,
    KINDS,
    NUMBERED_KINDS,
    QUERY_KINDS,
    Header,
    parse,
)
from mipp_cli.errors import MalformedError, TamperedError
from mipp_cli.scheme.keys import SigningKey
from tests.containers.conftest import DEPLOYMENT, KEY, OTHER_KEY, QUERY_ID
from tests.support.examples import KEY_OF_ALL, SIGNATURE_OF_ALL

DIGEST = "0f" * 32
HEADER = Header("upload", "alice", "12", DEPLOYMENT, DIGEST, KEY.public.hex())
BLOCK = HEADER.render(KEY)
LINES = BLOCK.rstrip(b"\0").split(b"\n")[:7]
END = BLOCK.index(b"\0")


def signed(text: bytes, *, key: SigningKey = KEY, after: bytes = b"") -> bytes:
    """Sign any text, as a hostile party can, and pad it to a block."""
    block = text + b"signature " + key.sign(text).hex().encode() + b"\n" + after
    return block.ljust(HEAD_BYTES, b"\0")


def text_of(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def with_line(name: bytes, line: bytes) -> bytes:
    return signed(text_of([line if old.startswith(name + b" ") else old for old in LINES]))


identifiers = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}", fullmatch=True)
data = st.binary(min_size=32, max_size=32)
numbered = st.tuples(st.sampled_from(NUMBERED_KINDS), st.integers(0, 2**63 - 1).map(str))
queried = st.tuples(st.sampled_from(QUERY_KINDS), st.binary(min_size=16, max_size=16).map(bytes.hex))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(numbered | queried, identifiers, data, data, data)
@example(("upload", "0"), "a", bytes(32), bytes(32), bytes(32))
@example(("index", str(2**63 - 1)), "Z" * 64, b"\xff" * 32, b"\xff" * 32, b"\xff" * 32)
@example(("query", "0" * 32), "0", bytes(32), bytes(32), bytes(32))
def test_what_is_rendered_is_parsed_again(
    kind_and_number: tuple[str, str], sender: str, deployment: bytes, digest: bytes, seed: bytes
) -> None:
    key = SigningKey(seed)
    header = Header(
        *kind_and_number[:1], sender, kind_and_number[1], deployment.hex(), digest.hex(), key.public.hex()
    )
    block = header.render(key)
    assert len(block) == HEAD_BYTES
    assert parse(block) == header


def test_the_block_is_readable_lines_in_their_order() -> None:
    assert [
        b"mipp 2",
        b"kind upload",
        b"sender alice",
        b"number 12",
        b"deployment " + b"5a" * 32,
        b"digest " + b"0f" * 32,
        b"key " + KEY.public.hex().encode(),
    ] == LINES
    assert BLOCK[END - 139 : END - 129] == b"signature "
    assert BLOCK[END:].strip(b"\0") == b""


def test_the_numbers_of_a_header_are_given_as_numbers() -> None:
    header = parse(BLOCK)
    assert header.sequence_number == 12
    assert header.sender_key == KEY.public


def test_every_single_bit_flip_of_the_block_is_refused() -> None:
    for bit in range(8 * HEAD_BYTES):
        flipped = bytearray(BLOCK)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(MalformedError):
            parse(bytes(flipped))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, HEAD_BYTES - 1), st.integers(0, 255))
def test_every_change_of_a_single_byte_is_refused(position: int, value: int) -> None:
    changed = bytearray(BLOCK)
    changed[position] = value if value != BLOCK[position] else value ^ 0x20
    with pytest.raises(MalformedError):
        parse(bytes(changed))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, END - 1), st.sampled_from([b"", *(bytes([byte]) for byte in b"\0\n\r 0aA\xff")]))
def test_every_character_taken_out_or_put_in_is_refused(position: int, added: bytes) -> None:
    changed = BLOCK[:position] + added + BLOCK[position + (not added) :]
    with pytest.raises(MalformedError):
        parse(changed[:HEAD_BYTES].ljust(HEAD_BYTES, b"\0"))


@pytest.mark.parametrize("name", ["kind", "sender", "number", "deployment", "digest", "key"])
def test_a_field_changed_to_another_valid_value_is_tampering(name: str) -> None:
    other = Header("members", "malice", "13", "00" * 32, "11" * 32, OTHER_KEY.public.hex())
    line = f"{name} {getattr(other, name)}\n".encode()
    changed = re.sub(rf"{name} .*\n".encode(), line, BLOCK, count=1)
    with pytest.raises(TamperedError):
        parse(changed.rstrip(b"\0").ljust(HEAD_BYTES, b"\0"))


def test_a_changed_digit_of_the_signature_is_tampering() -> None:
    for position in random.Random(4).sample(range(END - 129, END - 1), 20):
        changed = bytearray(BLOCK)
        changed[position] = ord("0") if changed[position] != ord("0") else ord("1")
        with pytest.raises(TamperedError):
            parse(bytes(changed))


def test_a_signature_by_another_key_is_tampering() -> None:
    with pytest.raises(TamperedError):
        parse(signed(text_of(LINES), key=OTHER_KEY))


def test_a_signature_of_another_text_is_tampering() -> None:
    other = Header("upload", "alice", "11", DEPLOYMENT, DIGEST, KEY.public.hex()).render(KEY)
    with pytest.raises(TamperedError):
        parse(BLOCK[: END - 129] + other[END - 129 :])


@pytest.mark.parametrize("data", [b"\xff" * 32, b"\x02" + bytes(31)])
def test_a_key_that_is_none_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError, match="not a point"):
        parse(with_line(b"key", b"key " + data.hex().encode()))


def test_a_header_that_anybody_can_sign_is_malformed() -> None:
    text = text_of([*LINES[:6], b"key " + KEY_OF_ALL.hex().encode()])
    block = text + b"signature " + SIGNATURE_OF_ALL.hex().encode() + b"\n"
    with pytest.raises(MalformedError, match="small order"):
        parse(block.ljust(HEAD_BYTES, b"\0"))


@pytest.mark.parametrize("order", [(0, 1), (1, 2), (2, 3), (4, 5), (5, 6)])
def test_lines_in_another_order_are_malformed(order: tuple[int, int]) -> None:
    lines = list(LINES)
    lines[order[0]], lines[order[1]] = lines[order[1]], lines[order[0]]
    with pytest.raises(MalformedError):
        parse(signed(text_of(lines)))


@pytest.mark.parametrize("line", range(7))
def test_a_repeated_line_is_malformed(line: int) -> None:
    with pytest.raises(MalformedError):
        parse(signed(text_of([*LINES[: line + 1], *LINES[line:]])))


@pytest.mark.parametrize("line", range(7))
def test_a_missing_line_is_malformed(line: int) -> None:
    with pytest.raises(MalformedError):
        parse(signed(text_of(LINES[:line] + LINES[line + 1 :])))


@pytest.mark.parametrize("extra", [b"", b"note hello", b"# comment", b" "])
@pytest.mark.parametrize("place", range(8))
def test_an_extra_line_is_malformed(extra: bytes, place: int) -> None:
    with pytest.raises(MalformedError):
        parse(signed(text_of([*LINES[:place], extra, *LINES[place:]])))


def test_the_signature_must_be_the_last_line() -> None:
    text = text_of(LINES)
    signature = b"signature " + KEY.sign(text).hex().encode()
    for lines in ([signature, *LINES], [*LINES[:6], signature, LINES[6]]):
        with pytest.raises(MalformedError):
            parse(text_of(lines).ljust(HEAD_BYTES, b"\0"))


def test_a_missing_signature_is_malformed() -> None:
    with pytest.raises(MalformedError):
        parse(text_of(LINES).ljust(HEAD_BYTES, b"\0"))


def test_two_signatures_are_malformed() -> None:
    with pytest.raises(MalformedError):
        parse(signed(BLOCK.rstrip(b"\0")))


def test_carriage_returns_are_malformed() -> None:
    with pytest.raises(MalformedError):
        parse(signed(text_of([line + b"\r" for line in LINES])))


@pytest.mark.parametrize("name", [b"deployment", b"digest", b"key"])
def test_upper_case_hex_is_malformed(name: bytes) -> None:
    line = next(line for line in LINES if line.startswith(name + b" "))
    with pytest.raises(MalformedError):
        parse(with_line(name, name + b" " + line.removeprefix(name + b" ").upper()))


def test_an_upper_case_signature_is_malformed() -> None:
    changed = BLOCK[: END - 129] + BLOCK[END - 129 : END].upper() + BLOCK[END:]
    with pytest.raises(MalformedError):
        parse(changed)


@pytest.mark.parametrize("name", [b"deployment", b"digest", b"key"])
@pytest.mark.parametrize("value", [b"", b"5a" * 31, b"5a" * 33, b"5a" * 31 + b"5", b"0x" + b"5a" * 31])
def test_hex_of_another_length_is_malformed(name: bytes, value: bytes) -> None:
    with pytest.raises(MalformedError):
        parse(with_line(name, name + b" " + value))


@pytest.mark.parametrize(
    "number",
    [
        b"",
        b"00",
        b"012",
        b"-1",
        b"+1",
        b" 1",
        b"1 ",
        b"1e3",
        b"1_000",
        b"0x10",
        b"1.0",
        str(2**63).encode(),
        b"9" * 19,
        b"1" + b"0" * 19,
        b"9" * 32,
        QUERY_ID.encode(),
        "\N{ARABIC-INDIC DIGIT ONE}".encode(),
    ],
)
def test_a_number_that_is_none_is_malformed(number: bytes) -> None:
    with pytest.raises(MalformedError):
        parse(with_line(b"number", b"number " + number))


@pytest.mark.parametrize(
    "query_id", [b"", b"12", b"0" * 31, b"0" * 33, b"A" * 32, b"g" * 32, str(2**63 - 1).encode()]
)
def test_a_query_id_that_is_none_is_malformed(query_id: bytes) -> None:
    lines = [LINES[0], b"kind query", LINES[2], b"number " + query_id, *LINES[4:]]
    with pytest.raises(MalformedError):
        parse(signed(text_of(lines)))


@pytest.mark.parametrize("number", ["0", str(2**63 - 1)])
def test_the_smallest_and_the_largest_number_are_read(number: str) -> None:
    assert parse(with_line(b"number", f"number {number}".encode())).number == number


@pytest.mark.parametrize(
    "kind", [b"", b"Upload", b"uploads", b"upload ", b"unknown", b"delete\n", b"up load"]
)
def test_an_unknown_kind_is_malformed(kind: bytes) -> None:
    with pytest.raises(MalformedError):
        parse(with_line(b"kind", b"kind " + kind))


@pytest.mark.parametrize(
    "version",
    [b"mipp 1", b"mipp 3", b"mipp 0", b"mipp 20", b"mipp 2.0", b"mipp 02", b"mipp 2 ", b"mipp ", b"mipp two"],
)
def test_an_unknown_version_is_malformed_and_said_to_be_one(version: bytes) -> None:
    with pytest.raises(MalformedError) as caught:
        parse(signed(text_of([version, *LINES[1:]])))
    said = f"has the format {version.decode()!r}; this version of mipp reads only 'mipp 2'"
    assert caught.value.message == said


@pytest.mark.parametrize("rest", [b"\xff" * 40, b"\x1b[31m" * 8, b"x" * 2000, b""])
def test_a_version_of_any_bytes_is_shown_and_short(rest: bytes) -> None:
    block = (b"mipp " + rest)[:HEAD_BYTES].ljust(HEAD_BYTES, b"\0")
    with pytest.raises(MalformedError, match="has the format") as caught:
        parse(block)
    assert len(caught.value.message) < 140
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    "sender",
    [
        b"",
        b".hidden",
        b"-a",
        b"_a",
        b"a/b",
        b"a b",
        b"a\tb",
        b"a\0b",
        b"\xc3\xa9",
        b"a" * 65,
        b"../a",
        b"a:b",
    ],
)
def test_a_sender_that_is_no_identifier_is_malformed(sender: bytes) -> None:
    with pytest.raises(MalformedError):
        parse(with_line(b"sender", b"sender " + sender))


@pytest.mark.parametrize("line", range(7))
@pytest.mark.parametrize("form", [b" %s", b"%s ", b"\t%s", b"%s\t", b"%s\x0b", b"%s\x0c", b"%s\xc2\xa0"])
def test_white_space_around_a_line_is_malformed(line: int, form: bytes) -> None:
    with pytest.raises(MalformedError):
        parse(signed(text_of([*LINES[:line], form % LINES[line], *LINES[line + 1 :]])))


@pytest.mark.parametrize("separator", [b"  ", b"\t", b"=", b": ", b""])
def test_another_separator_is_malformed(separator: bytes) -> None:
    with pytest.raises(MalformedError):
        parse(with_line(b"sender", b"sender" + separator + b"alice"))


@pytest.mark.parametrize(
    "after", [b"\n", b" ", b"x", b"\0x", b"\0\n", b"\0" * 400 + b"\x01", b"\xff", LINES[1] + b"\n"]
)
def test_anything_but_nul_after_the_signature_is_malformed(after: bytes) -> None:
    with pytest.raises(MalformedError):
        parse(signed(text_of(LINES), after=after))


@pytest.mark.parametrize("position", [END, END + 1, 511, 512, 513, HEAD_BYTES - 1])
def test_a_byte_anywhere_in_the_padding_is_malformed(position: int) -> None:
    changed = bytearray(BLOCK)
    changed[position] = 0x80
    with pytest.raises(MalformedError):
        parse(bytes(changed))


def test_a_second_hdf5_superblock_in_the_block_is_malformed() -> None:
    hidden = io.BytesIO()
    with h5py.File(hidden, "w") as file:
        file.attrs["count"] = 666
    block = BLOCK[:512] + hidden.getvalue()[:512]
    assert BLOCK[512:].strip(b"\0") == b""
    with pytest.raises(MalformedError):
        parse(block)


@pytest.mark.parametrize("size", [0, 1, 7, END, 512, HEAD_BYTES - 1, HEAD_BYTES + 1, 2 * HEAD_BYTES])
def test_a_block_of_another_size_is_malformed(size: int) -> None:
    with pytest.raises(MalformedError):
        parse(BLOCK[:size].ljust(min(size, 2 * HEAD_BYTES), b"\0"))


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"\x89HDF\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n",
        b"\xef\xbb\xbfmipp 2\n",
        b"MIPP 2\n",
        b'{"kind": "kmc"}',
        b"mipp",
    ],
)
def test_another_kind_of_file_is_no_container(start: bytes) -> None:
    with pytest.raises(MalformedError, match="not a MIPP container"):
        parse(start.ljust(HEAD_BYTES, b"\0"))


def test_a_header_that_would_not_be_read_is_not_written() -> None:
    with pytest.raises(MalformedError):
        Header("upload", "not an identifier", "12", DEPLOYMENT, DIGEST, KEY.public.hex()).render(KEY)


def test_a_header_is_not_signed_with_another_key_than_it_names() -> None:
    with pytest.raises(TamperedError):
        HEADER.render(OTHER_KEY)


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_of_the_other_sort_is_malformed(kind: str) -> None:
    number = "12" if kind in QUERY_KINDS else QUERY_ID
    with pytest.raises(MalformedError):
        Header(kind, "alice", number, DEPLOYMENT, DIGEST, KEY.public.hex())


def test_writing_a_number_past_the_largest_says_so() -> None:
    with pytest.raises(MalformedError, match=r"9223372036854775808 would exceed 2\^63 - 1") as caught:
        Header("upload", "alice", str(2**63), DEPLOYMENT, DIGEST, KEY.public.hex())
    assert caught.value.hint is not None
    assert "nothing was written" in caught.value.hint


def test_reading_a_number_past_the_largest_is_malformed() -> None:
    with pytest.raises(MalformedError, match="out of range or malformed") as caught:
        parse(with_line(b"number", f"number {2**63}".encode()))
    assert caught.value.hint is None


def test_the_format_line_names_version_2() -> None:
    assert FORMAT_LINE == "mipp 2"
