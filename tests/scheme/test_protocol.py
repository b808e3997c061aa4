"""One object knows the scheme: what it says of each, and that nothing else in the package asks."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mipp_cli
from mipp_cli.containers.messages.query import features_place
from mipp_cli.errors import InvalidRequestError, MippError, TamperedError
from mipp_cli.scheme.aead import OVERHEAD_BYTES
from mipp_cli.scheme.parameters import SCHEMES, SUM_SCHEMES, Parameters
from mipp_cli.scheme.protocol import MATCHES_LIMIT, ExactProtocol, FeatureProtocol
from mipp_cli.scheme.sum_groups import CompositeGroup, PrimeGroup
from tests.support.examples import repeatable

PACKAGE = Path(mipp_cli.__file__).parent
MAY_ASK = {
    "scheme/protocol.py",
    "scheme/parameters.py",
    "containers/messages/public_files.py",
    "cli/kmc.py",
    "kmc/kmc.py",
}
USK = bytes(range(32))
EXACT = ExactProtocol(80, 8)
PLACE = features_place("fingerprint", "alice", "0" * 32)
USERS = frozenset({("alice", bytes(32)), ("bob", bytes(32))})
CODES = np.random.default_rng(1).integers(0, 8, (3, 80), dtype=np.uint8)


@pytest.fixture
def protocols(dcr_group: CompositeGroup, paper_group: PrimeGroup) -> dict[str, FeatureProtocol]:
    groups = {"dcr": dcr_group, "paper": paper_group}
    sizes = {"exact": 8}
    return {
        scheme: Parameters(scheme, groups.get(scheme), group_size=sizes.get(scheme)).protocol
        for scheme in SCHEMES
    }


# Who asks


def constants(node: ast.AST) -> set[object]:
    return {each.value for each in ast.walk(node) if isinstance(each, ast.Constant)}


def is_scheme(node: ast.AST) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr == "scheme") or (
        isinstance(node, ast.Name) and node.id == "scheme"
    )


def asks(node: ast.AST) -> bool:
    """Say whether a node decides by the name of a scheme, or by the class of the object that knows it."""
    names, asked = set(SCHEMES), False
    match node:
        case ast.Compare():
            sides = [node.left, *node.comparators]
            said = set().union(*map(constants, sides))
            # another string beside it is what it is compared with: a URL has a scheme, too
            asked = bool(said & names) or (any(map(is_scheme, sides)) and not said)
        case ast.match_case():
            asked = bool(constants(node.pattern) & names)
        case ast.Match():
            asked = is_scheme(node.subject)
        case ast.Subscript():
            asked = is_scheme(node.slice)
        case ast.Dict():
            asked = any(key is not None and constants(key) & names for key in node.keys)
        case ast.Call(func=ast.Attribute(attr="get" | "startswith"), args=[first, *_]):
            asked = is_scheme(first) or bool(constants(first) & names)
        case ast.Call(func=ast.Name(id="isinstance"), args=[_, classes]):
            found = {each.id for each in ast.walk(classes) if isinstance(each, ast.Name)}
            asked = bool(found & {"ExactProtocol", "SumProtocol", "MaskCipher", "ProductCipher"})
    return asked


def questions(source: str) -> list[str]:
    return [ast.unparse(node) for node in ast.walk(ast.parse(source)) if asks(node)]


@pytest.mark.parametrize(
    "source",
    [
        "parameters.scheme == 'exact'",
        "'dcr' != scheme",
        "name in ('mask', 'exact')",
        "parameters.scheme in SUM_SCHEMES",
        "parameters.scheme == other.scheme",
        "match x:\n    case 'paper': pass",
        "match parameters.scheme:\n    case y: pass",
        "table[parameters.scheme]",
        "table.get(parameters.scheme)",
        "{'exact': 1}",
        "isinstance(parameters.protocol, ExactProtocol)",
        "isinstance(cipher, (int, MaskCipher))",
    ],
)
def test_a_question_for_the_scheme_is_noticed(source: str) -> None:
    assert questions(source)


@pytest.mark.parametrize(
    "source",
    [
        "parts.scheme == 'tls'",
        "f'scheme {parameters.scheme}'",
        "Choice(['exact', 'dcr'])",
        "protocol.grouped",
    ],
)
def test_other_code_is_not_taken_for_a_question_for_the_scheme(source: str) -> None:
    assert questions(source) == []


def test_nothing_else_in_the_package_asks_which_scheme_it_is() -> None:
    asked = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if name not in MAY_ASK and not name.startswith("experiments/"):
            asked[name] = questions(path.read_text())
    assert len(asked) > 100
    assert {name: found for name, found in asked.items() if found} == {}


# What it says


def test_only_in_scheme_exact_does_the_centre_rank(protocols: dict[str, FeatureProtocol]) -> None:
    protocols["exact"].check_kmc_ranks()
    for scheme in SUM_SCHEMES:
        with pytest.raises(InvalidRequestError, match="the cloud ranks"):
            protocols[scheme].check_kmc_ranks()


def test_a_cloud_searches_with_a_query_or_with_a_selection(protocols: dict[str, FeatureProtocol]) -> None:
    said = {scheme: (each.search_input, each.results) for scheme, each in protocols.items()}
    sums = dict.fromkeys(SUM_SCHEMES, ("query", "results"))
    assert said == {"exact": ("selection", "groups"), **sums}


def test_what_lies_beside_an_image_fits_its_columns(protocols: dict[str, FeatureProtocol]) -> None:
    for protocol in protocols.values():
        widths = [column.shape[1] for column in protocol.prepared(3).beside_image(CODES)]
        assert widths == list(protocol.upload_columns.values())


def test_the_features_of_a_query_fit_its_columns(protocols: dict[str, FeatureProtocol]) -> None:
    for protocol in protocols.values():
        columns = protocol.query_features(CODES, USK, PLACE)
        assert [column.shape for column in columns] == [
            (3, width) for width in protocol.query_columns.values()
        ]


def test_exact_keeps_the_feature_from_cloud_and_image(
    protocols: dict[str, FeatureProtocol],
) -> None:
    assert protocols["exact"].beside_image(CODES) == ()
    assert protocols["exact"].inside_image(CODES[0]).shape == (0,)
    for scheme in SUM_SCHEMES:
        assert (protocols[scheme].inside_image(CODES[0]) == CODES[0]).all()


def test_only_in_exact_does_the_cloud_hear_of_no_user(protocols: dict[str, FeatureProtocol]) -> None:
    heard = {scheme: protocol.users_at_cloud(USERS) for scheme, protocol in protocols.items()}
    assert heard == {"exact": frozenset(), **dict.fromkeys(SUM_SCHEMES, USERS)}


def test_only_exact_groups_rows_and_sorts_them_by_size(
    protocols: dict[str, FeatureProtocol],
) -> None:
    grouped = {scheme: (each.grouped, each.size_class(2**20)) for scheme, each in protocols.items()}
    assert grouped == {"exact": (True, 5), **dict.fromkeys(SUM_SCHEMES, (False, 0))}


def test_only_in_scheme_exact_are_matches_limited(protocols: dict[str, FeatureProtocol]) -> None:
    for protocol in protocols.values():
        protocol.check_matches(MATCHES_LIMIT)
    for scheme in SUM_SCHEMES:
        protocols[scheme].check_matches(10**9)
    with pytest.raises(InvalidRequestError, match="up to 10001 matches"):
        protocols["exact"].check_matches(MATCHES_LIMIT + 1)


# The features of a query to the centre


@repeatable(50)
@given(images=st.integers(1, 9), width=st.integers(3, 300), usk=st.binary(min_size=32, max_size=32))
def test_the_features_of_a_query_open_again(images: int, width: int, usk: bytes) -> None:
    protocol = ExactProtocol(width, 8)
    codes = np.random.default_rng(images * width).integers(0, 256, (images, width), dtype=np.uint8)
    (rows,) = protocol.query_features(codes, usk, PLACE)
    assert rows.shape == (images, width + OVERHEAD_BYTES)
    assert (protocol.open_query(rows, usk, PLACE) == codes).all()


@pytest.mark.parametrize(
    "usk", [bytes(32), USK[::-1], USK[:31] + b"\0"], ids=["zeros", "backwards", "last byte"]
)
def test_the_features_of_a_query_open_under_no_other_key(usk: bytes) -> None:
    (rows,) = EXACT.query_features(CODES, USK, PLACE)
    with pytest.raises(TamperedError):
        EXACT.open_query(rows, usk, PLACE)


@pytest.mark.parametrize(
    "place",
    [
        ("another", "alice", "0" * 32),
        ("fingerprint", "mallory", "0" * 32),
        ("fingerprint", "alice", "1" * 32),
    ],
    ids=["deployment", "user", "query"],
)
def test_a_querys_features_are_bound_to_user_and_query(place: tuple[str, str, str]) -> None:
    (rows,) = EXACT.query_features(CODES, USK, PLACE)
    with pytest.raises(TamperedError):
        EXACT.open_query(rows, USK, features_place(*place))


@pytest.mark.parametrize("order", [[1, 0, 2], [0, 2, 1], [1, 2], [0, 1, 1]], ids=str)
def test_the_features_of_a_query_cannot_be_moved_or_doubled(order: list[int]) -> None:
    (rows,) = EXACT.query_features(CODES, USK, PLACE)
    with pytest.raises(TamperedError):
        EXACT.open_query(rows[order], USK, PLACE)


def test_every_changed_byte_of_a_query_feature_is_tampering() -> None:
    (rows,) = EXACT.query_features(CODES[:1], USK, PLACE)
    for position in range(rows.shape[1]):
        changed = rows.copy()
        changed[0, position] ^= 1
        with pytest.raises(TamperedError):
            EXACT.open_query(changed, USK, PLACE)


def test_the_same_features_twice_give_nothing_alike() -> None:
    (first,), (second,) = (EXACT.query_features(CODES, USK, PLACE) for _ in range(2))
    assert (first[:, :12] != second[:, :12]).any(axis=1).all()
    assert (first[:, 12:] != second[:, 12:]).any(axis=1).all()


@pytest.mark.parametrize("kind", ["query", "selection"])
def test_an_error_of_a_protocol_says_what_to_do(kind: str, protocols: dict[str, FeatureProtocol]) -> None:
    ask = protocols["mask"].check_kmc_ranks if kind == "query" else lambda: EXACT.check_matches(10**6)
    with pytest.raises(MippError) as caught:
        ask()
    assert caught.value.hint
