"""Public files have one spelling, are signed by the key they name, and belong to one deployment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mipp_cli.containers.messages.public_files import (
    SIZE_LIMIT,
    is_public_file,
    load_deployment,
    load_party,
    parse_kmc,
    parse_party,
    parse_renewal,
    party_deployment,
    public_kind,
    render_kmc,
    render_party,
    render_renewal,
)
from mipp_cli.errors import InvalidRequestError, MalformedError, TamperedError, WrongDeploymentError
from mipp_cli.scheme.keys import SigningKey
from mipp_cli.scheme.parameters import Parameters
from mipp_cli.scheme.sum_groups import PrimeGroup, standard_prime
from tests.containers.conftest import DEPLOYMENT, KEY, KMC, MASK, OTHER_DEPLOYMENT, OTHER_KEY
from tests.support.examples import KEY_OF_ALL, SIGNATURE_OF_ALL

PAPER = Parameters("paper", PrimeGroup(standard_prime(768), 2))
USER_PUB = render_party("user", "dr.who", DEPLOYMENT, KEY)
CLOUD_PUB = render_party("cloud", "cloud", DEPLOYMENT, KEY)
KMC_PUB = render_kmc(MASK, KMC.public, KEY)
PAPER_PUB = render_kmc(PAPER, KMC.public, KEY)

Change = Callable[[dict[str, Any]], dict[str, Any]]


def spelled(fields: dict[str, Any]) -> bytes:
    return (json.dumps(fields, indent=1) + "\n").encode()


def signed(fields: dict[str, Any], key: SigningKey = KEY) -> bytes:
    body = {name: value for name, value in fields.items() if name != "signature"}
    return spelled({**body, "signature": key.sign(spelled(body)).hex()})


def changed(data: bytes, change: Change) -> bytes:
    """Change the fields of a public file and sign them again."""
    return signed(change(json.loads(data)))


def field(name: str, value: object) -> Change:
    return lambda fields: {**fields, name: value}


def without(name: str) -> Change:
    return lambda fields: {key: value for key, value in fields.items() if key != name}


def modulus(**numbers: object) -> Change:
    return lambda fields: {**fields, "group": {**fields["group"], **numbers}}


def descriptor(**values: object) -> Change:
    return lambda fields: {**fields, "descriptor": {**fields["descriptor"], **values}}


def parse(data: bytes) -> object:
    return parse_kmc(data) if json.loads(data)["kind"] == "kmc" else parse_party(data, "user", DEPLOYMENT)


@pytest.mark.parametrize("parameters", [MASK, PAPER], ids=["mask", "paper"])
def test_a_deployment_is_read_as_it_was_rendered(parameters: Parameters, tmp_path: Path) -> None:
    path = tmp_path / "kmc.pub"
    path.write_bytes(render_kmc(parameters, KMC.public, KEY))
    deployment = load_deployment(path)
    assert deployment.parameters == parameters
    assert deployment.sealing_key == KMC.public
    assert deployment.signing_key == KEY.public


def test_composite_modulus_parameters_survive_a_round_trip() -> None:
    from mipp_cli.scheme.parameters import generate_parameters

    parameters = generate_parameters("dcr", modulus_bits=1024, allow_insecure=True)
    assert parse_kmc(render_kmc(parameters, KMC.public, KEY)).parameters == parameters


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from(["user", "cloud"]),
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}", fullmatch=True),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32).map(bytes.hex),
)
def test_a_party_is_read_as_it_was_rendered(kind: str, name: str, seed: bytes, deployment: str) -> None:
    key = SigningKey(seed)
    party = parse_party(render_party(kind, name, deployment, key), kind, deployment)
    assert (party.kind, party.name, party.key) == (kind, name, key.public)


def test_a_public_file_is_text_with_one_field_a_line() -> None:
    lines = USER_PUB.decode("ascii").splitlines()
    assert lines[:4] == ["{", ' "format": "mipp 2",', ' "kind": "user",', ' "id": "dr.who",']
    assert [line.split('"')[1] for line in lines[4:-1]] == ["deployment", "signing_key", "signature"]


def test_the_fingerprint_is_the_digest_of_the_whole_file() -> None:
    assert parse_kmc(KMC_PUB).fingerprint == hashlib.sha256(KMC_PUB).hexdigest()
    assert parse_party(USER_PUB, "user", DEPLOYMENT).fingerprint == hashlib.sha256(USER_PUB).hexdigest()


@pytest.mark.parametrize("data", [USER_PUB, KMC_PUB], ids=["user.pub", "kmc.pub"])
def test_a_flipped_bit_anywhere_in_a_public_file_is_refused(data: bytes) -> None:
    for position in [*range(300), *range(300, len(data), 7), *range(len(data) - 250, len(data))]:
        flipped = bytearray(data)
        flipped[position] ^= 1 << (position % 7)
        with pytest.raises(MalformedError):
            parse_kmc(bytes(flipped)) if data is KMC_PUB else parse_party(bytes(flipped), "user", None)


@pytest.mark.parametrize("name", ["id", "deployment", "signing_key"])
def test_a_field_changed_without_a_new_signature_is_tampering(name: str) -> None:
    other = json.loads(render_party("user", "dr.woo", OTHER_DEPLOYMENT, OTHER_KEY))
    with pytest.raises(TamperedError):
        parse_party(spelled({**json.loads(USER_PUB), name: other[name]}), "user", None)


def test_a_signature_by_another_key_is_tampering() -> None:
    with pytest.raises(TamperedError):
        parse_party(signed(json.loads(USER_PUB), OTHER_KEY), "user", DEPLOYMENT)


@pytest.mark.parametrize(
    "data",
    [
        json.dumps(json.loads(USER_PUB)).encode() + b"\n",
        json.dumps(json.loads(USER_PUB), indent=2).encode() + b"\n",
        USER_PUB.rstrip(b"\n"),
        USER_PUB + b"\n",
        USER_PUB + b" ",
        b"\xef\xbb\xbf" + USER_PUB,
        USER_PUB.replace(b"\n", b"\r\n"),
        USER_PUB.replace(b"dr.who", b"dr\\u002ewho"),
        USER_PUB.decode().encode("utf-16"),
        USER_PUB + USER_PUB,
        USER_PUB.replace(b' "kind": "user",\n', b' "kind": "user",\n "kind": "user",\n'),
        USER_PUB.replace(b' "id": "dr.who",\n', b' "id": "dr.evil",\n "id": "dr.who",\n'),
    ],
    ids=[
        "one line",
        "wider indent",
        "no last line feed",
        "empty line",
        "trailing space",
        "byte order mark",
        "CRLF",
        "escaped letter",
        "UTF-16",
        "twice",
        "same field twice",
        "field twice, the last as signed",
    ],
)
def test_the_same_fields_in_another_spelling_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_party(data, "user", DEPLOYMENT)


@pytest.mark.parametrize(
    "change",
    [
        field("note", "hello"),
        without("id"),
        without("deployment"),
        without("signing_key"),
        lambda fields: {"kind": fields["kind"], **fields},
        lambda fields: dict(reversed(list(fields.items()))),
        field("id", ""),
        field("id", ".hidden"),
        field("id", "../up"),
        field("id", "a" * 65),
        field("id", "dr.who\n"),
        field("id", 7),
        field("id", None),
        field("id", ["dr.who"]),
        field("deployment", 7),
        field("deployment", None),
        field("deployment", [DEPLOYMENT]),
        field("deployment", DEPLOYMENT.upper()),
        field("deployment", DEPLOYMENT[:-2]),
        field("signing_key", KEY.public.hex().upper()),
        field("signing_key", KEY.public.hex(" ")),
        field("signing_key", KEY.public.hex()[:-2]),
        field("signing_key", 7),
        field("format", "mipp 1"),
        field("format", "mipp 3"),
        field("format", None),
        field("kind", "cloud"),
        field("kind", ["user"]),
    ],
)
def test_a_party_signed_with_other_fields_is_malformed(change: Change) -> None:
    with pytest.raises(MalformedError):
        parse_party(changed(USER_PUB, change), "user", None)


def test_a_signature_spelled_in_capitals_is_malformed() -> None:
    fields = json.loads(USER_PUB)
    with pytest.raises(MalformedError):
        parse_party(spelled({**fields, "signature": fields["signature"].upper()}), "user", DEPLOYMENT)


@pytest.mark.parametrize("value", [None, 7, "", "zz", [], {}])
def test_a_signature_that_is_none_is_malformed(value: object) -> None:
    with pytest.raises(MalformedError):
        parse_party(spelled({**json.loads(USER_PUB), "signature": value}), "user", DEPLOYMENT)


@pytest.mark.parametrize(
    "change",
    [
        field("note", "hello"),
        without("group"),
        without("sealing_key"),
        without("hpke_suite"),
        lambda fields: {"kind": fields["kind"], **fields},
        field("scheme", "none"),
        field("scheme", "dcr"),
        field("scheme", "mask"),
        field("scheme", ["paper"]),
        field("descriptor", "edge-histogram"),
        field("descriptor", None),
        field("descriptor", {}),
        descriptor(name="Colour"),
        descriptor(name=None),
        descriptor(dimension=81),
        descriptor(dimension=80.0),
        descriptor(dimension="80"),
        descriptor(levels=8.0),
        descriptor(quantisation="l2"),
        descriptor(quantisation=[0, 1]),
        descriptor(name="own", quantisation=[0, 10**400]),
        descriptor(name="own", quantisation=[False, True]),
        descriptor(name="own", quantisation=[1, 0]),
        descriptor(name="own", quantisation=[0, 1, 2]),
        descriptor(name="own", quantisation="l1"),
        descriptor(name="own", levels=10**4000),
        descriptor(note=1),
        descriptor(model={}),
        descriptor(model=[]),
        field("hpke_suite", "none"),
        field("sealing_key", KMC.public.data.hex().upper()),
        field("sealing_key", KMC.public.data.hex()[:-2]),
        field("sealing_key", "ff" * 1216),
        field("sealing_key", 7),
        field("group", None),
        field("group", "p"),
        field("group", []),
        field("group", {}),
        modulus(q="2"),
        modulus(h="0x2"),
        modulus(h="02"),
        modulus(h=" 2"),
        modulus(h="0"),
        modulus(h="-2"),
        modulus(h=2),
        modulus(h=None),
        modulus(p="17"),
        modulus(p=f"{standard_prime(768) + 2:x}"),
        modulus(p=f"{standard_prime(768):X}"),
        modulus(p=f"{standard_prime(768):x}"[:8] + "_" + f"{standard_prime(768):x}"[8:]),
    ],
)
def test_a_deployment_signed_with_other_fields_is_malformed(change: Change) -> None:
    with pytest.raises(MalformedError):
        parse_kmc(changed(PAPER_PUB, change))


@pytest.mark.parametrize("n", [3 * standard_prime(1024), standard_prime(1024) + 1, -1])
def test_a_weak_modulus_is_malformed(n: int) -> None:
    fields = {**json.loads(PAPER_PUB), "scheme": "dcr", "group": {"N": f"{n:x}"}}
    with pytest.raises(MalformedError, match="modulus N"):
        parse_kmc(signed(fields))


def signed_by_anybody(data: bytes) -> bytes:
    return spelled({**json.loads(data), "signing_key": KEY_OF_ALL.hex(), "signature": SIGNATURE_OF_ALL.hex()})


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (KMC_PUB, parse_kmc),
        (USER_PUB, lambda data: parse_party(data, "user", DEPLOYMENT)),
        (CLOUD_PUB, lambda data: parse_party(data, "cloud", DEPLOYMENT)),
        (render_renewal(1, KMC.public, DEPLOYMENT, KEY), lambda data: parse_renewal(data, None)),
    ],
    ids=["kmc.pub", "user.pub", "cloud.pub", "sealing.pub"],
)
def test_a_public_file_that_anybody_can_sign_is_malformed(
    data: bytes, read: Callable[[bytes], object]
) -> None:
    assert read(data)
    with pytest.raises(MalformedError, match="small order"):
        read(signed_by_anybody(data))


@pytest.mark.timeout(60)  # far above what it takes
def test_an_enormous_modulus_is_refused_before_it_is_checked() -> None:
    huge = (1 << 200_000) + 1
    fields = {**json.loads(PAPER_PUB), "scheme": "dcr", "group": {"N": f"{huge:x}"}}
    with pytest.raises(MalformedError, match="too large"):
        parse_kmc(signed(fields))


@pytest.mark.parametrize(
    ("data", "kind"),
    [(USER_PUB, "cloud"), (KMC_PUB, "user"), (CLOUD_PUB, "user")],
)
def test_a_party_of_another_kind_is_malformed(data: bytes, kind: str) -> None:
    with pytest.raises(MalformedError, match=rf"not a {kind}\.pub") as caught:
        parse_party(data, kind, DEPLOYMENT)
    assert caught.value.hint == f"give a {kind}.pub instead"


def test_a_party_is_no_deployment() -> None:
    with pytest.raises(MalformedError, match=r"not a kmc\.pub"):
        parse_kmc(USER_PUB)


def test_a_party_of_another_deployment_is_refused_as_such(tmp_path: Path) -> None:
    path = tmp_path / "user.pub"
    path.write_bytes(USER_PUB)
    with pytest.raises(WrongDeploymentError) as caught:
        load_party(path, "user", OTHER_DEPLOYMENT)
    assert caught.value.path == str(path)


def test_a_party_is_read_without_a_deployment_to_compare() -> None:
    assert parse_party(USER_PUB, "user", None).name == "dr.who"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{}",
        b"[]",
        b"null",
        b"7",
        b'"user"',
        b"\x00",
        b"\xff\xfe",
        b'{"kind": "user"}',
        b"[" * SIZE_LIMIT,
        b'{"a":' * (SIZE_LIMIT // 6),
        b'{"kind": "user", "x": ' + b"9" * 5000 + b"}",
        b'{"kind": "user", "format": "mipp 2", "x": "\\ud800"}',
    ],
)
def test_what_is_no_public_file_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_party(data, "user", DEPLOYMENT)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_public_file_that_was_saved_again_is_refused_as_that(
    tmp_path: Path, encoding: str, ends: str
) -> None:
    path = tmp_path / "user.pub"
    path.write_bytes(USER_PUB.decode().replace("\n", ends).encode(encoding))
    assert is_public_file(path)
    with pytest.raises(MalformedError, match="was changed since its sender wrote it"):
        load_party(path, "user", DEPLOYMENT)


def test_nesting_of_any_depth_is_malformed() -> None:
    for depth in [*range(1, 1100, 9), 3_000, 10_000, 30_000]:
        nested = b"[" * depth + b"]" * depth
        with pytest.raises(MalformedError):
            parse_party(b'{"kind": "user", "format": "mipp 2", "x": ' + nested + b"}", "user", DEPLOYMENT)


def test_a_public_file_too_deep_to_render_is_malformed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def too_deep(*_arguments: object, **_options: object) -> str:
        raise RecursionError

    monkeypatch.setattr(json, "dumps", too_deep)
    with pytest.raises(MalformedError):
        parse_party(USER_PUB, "user", DEPLOYMENT)


def test_a_public_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "user.pub"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(MalformedError, match="larger"):
        load_party(path, "user", DEPLOYMENT)


def test_a_signed_public_file_over_the_limit_is_malformed() -> None:
    with pytest.raises(MalformedError):
        parse_party(changed(USER_PUB, field("note", "x" * SIZE_LIMIT)), "user", DEPLOYMENT)


def test_a_missing_public_file_is_an_invalid_request(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError):
        load_deployment(tmp_path / "kmc.pub")


def test_a_public_file_is_told_from_a_container(tmp_path: Path, toy: Path) -> None:
    path = tmp_path / "kmc.pub"
    path.write_bytes(KMC_PUB)
    empty = tmp_path / "empty"
    empty.touch()
    assert [is_public_file(each) for each in (path, toy, empty)] == [True, False, False]


def test_the_kind_of_a_public_file_is_what_it_says() -> None:
    assert [public_kind(data) for data in (KMC_PUB, USER_PUB)] == ["kmc", "user"]


@pytest.mark.parametrize("data", [b"{}", b'{"kind": "members"}', b'{"kind": ["user"]}', b"[]", b"mipp 1\n"])
def test_a_kind_that_is_not_known_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        public_kind(data)


def test_the_deployment_of_a_party_is_what_it_says() -> None:
    assert party_deployment(USER_PUB) == DEPLOYMENT


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.sampled_from([*json.loads(PAPER_PUB)]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    ),
)
def test_a_wrong_value_in_any_deployment_field_is_malformed(name: str, value: object) -> None:
    fields = json.loads(PAPER_PUB)
    data = signed({**fields, name: value}) if name != "signature" else spelled({**fields, name: value})
    if value == fields[name]:
        return
    with pytest.raises(MalformedError):
        parse_kmc(data)


SEALING_PUB = render_renewal(7, KMC.public, hashlib.sha256(KMC_PUB).hexdigest(), KEY)


def test_a_renewal_is_read_as_it_was_rendered() -> None:
    renewal = parse_renewal(SEALING_PUB, parse_kmc(KMC_PUB))
    assert (renewal.number, renewal.sealing_key, renewal.signing_key) == (7, KMC.public, KEY.public)
    assert public_kind(SEALING_PUB) == "sealing"


@pytest.mark.parametrize("number", [True, -1, 2**63, 7.0, "7", None, [7]])
def test_a_renewal_whose_number_is_none_is_malformed(number: object) -> None:
    with pytest.raises(MalformedError):
        parse_renewal(changed(SEALING_PUB, field("number", number)), None)


@pytest.mark.parametrize(
    "change",
    [
        field("hpke_suite", "X25519"),
        field("sealing_key", "ff" * 1216),
        field("sealing_key", KMC.public.data.hex().upper()),
        field("deployment", "none"),
        field("extra", 1),
        field("kind", "kmc"),
        without("number"),
    ],
)
def test_a_renewal_that_departs_from_its_form_is_malformed(change: Change) -> None:
    with pytest.raises(MalformedError):
        parse_renewal(changed(SEALING_PUB, change), None)


def test_a_renewal_of_another_kmc_is_refused() -> None:
    deployment = parse_kmc(KMC_PUB)
    for text in (
        signed(json.loads(SEALING_PUB) | {"signing_key": OTHER_KEY.public.hex()}, OTHER_KEY),
        render_renewal(7, KMC.public, OTHER_DEPLOYMENT, KEY),
    ):
        with pytest.raises(WrongDeploymentError):
            parse_renewal(text, deployment)
