"""Descriptors: which can be declared, and that the arithmetic is exact for all of them."""

from __future__ import annotations

import numpy as np
import pytest

from mipp_cli.errors import InvalidRequestError
from mipp_cli.scheme.descriptor import Descriptor, parse_descriptor
from mipp_cli.scheme.feature_cipher import MaskCipher, encrypt_features
from mipp_cli.scheme.parameters import Parameters, generate_parameters
from mipp_cli.scheme.retrieval_index import PairTable, check_sums, ids_of, index_construct, nearest_pairs
from mipp_cli.scheme.similarity import euclidean_distances, new_distances
from mipp_cli.scheme.sum_groups import CompositeGroup

WIDE = Descriptor("embedding", 4096, 256)
LARGEST = Descriptor("embedding", 65535, 256)


@pytest.mark.parametrize(
    ("text", "descriptor"),
    [
        ("edge-histogram", Descriptor()),
        ("edge-histogram:80:8", Descriptor()),
        ("resnet:512", Descriptor("resnet", 512, 256)),
        ("resnet:512:l2", Descriptor("resnet", 512, 256, "l2")),
        ("resnet:512:16:l2", Descriptor("resnet", 512, 16, "l2")),
        ("resnet:512:-1..1", Descriptor("resnet", 512, 256, (-1.0, 1.0))),
        ("resnet:512:100:-.5..2.5e3", Descriptor("resnet", 512, 100, (-0.5, 2500.0))),
        ("resnet:512:256", Descriptor("resnet", 512, 256)),
        ("9:3:2", Descriptor("9", 3, 2)),
        ("e" * 64 + ":80:255", Descriptor("e" * 64, 80, 255)),
        ("embedding:65535:256", LARGEST),
    ],
)
def test_a_descriptor_is_read_as_it_is_written(text: str, descriptor: Descriptor) -> None:
    assert parse_descriptor(text) == descriptor


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a descriptor"),
        ("resnet", "not a descriptor"),
        ("colour", "not a descriptor"),
        ("resnet:512:256:1", "not a descriptor"),
        ("resnet:512:l1", "not a descriptor"),
        ("resnet:512:l2:256", "not a descriptor"),
        ("resnet:512:1..", "not a descriptor"),
        ("resnet:512:a..b", "not a range of numbers"),
        ("resnet:512:1..1", "quantised by"),
        ("resnet:512:2..1", "quantised by"),
        ("resnet:512:0..inf", "quantised by"),
        ("resnet:512:nan..1", "quantised by"),
        ("resnet:512:-1e308..1e308", "quantised by"),
        ("resnet:512:" + "9" * 400 + "..1e999", "quantised by"),
        ("edge-histogram:80:8:l2", "80 codes of 8 levels"),
        ("model:1280", "name 'model' is reserved"),
        ("resnet:-512:256", "not a descriptor"),
        ("resnet:512.0:256", "not a descriptor"),
        ("resnet:٥١٢:256", "not a descriptor"),
        (":512:256", "not a valid descriptor name"),
        ("Resnet:512:256", "not a valid descriptor name"),
        ("-resnet:512:256", "not a valid descriptor name"),
        ("res net:512:256", "not a valid descriptor name"),
        ("resnet\n:512:256", "not a valid descriptor name"),
        ("e" * 65 + ":512:256", "not a valid descriptor name"),
        ("resnet:2:256", "dimension cannot be 2"),
        ("resnet:65536:256", "dimension cannot be 65536"),
        ("resnet:512:1", "levels cannot be 1"),
        ("resnet:512:257", "levels cannot be 257"),
        ("edge-histogram:80:16", "80 codes of 8 levels"),
        ("edge-histogram:150:8", "80 codes of 8 levels"),
    ],
)
def test_a_descriptor_that_cannot_be_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words) as caught:
        parse_descriptor(text)
    assert caught.value.hint


def test_a_word_of_scheme_mask_holds_the_largest_sum_of_squares() -> None:
    parameters = Parameters("mask", None, LARGEST)
    largest = 65535 * 255**2
    feature = np.full((1, LARGEST.l), LARGEST.levels - 1, dtype=np.uint8)
    assert parameters.cipher.sums(encrypt_features(parameters.cipher, feature)[1]) == [largest]
    assert largest < 1 << 8 * parameters.cipher.number_bytes


@pytest.mark.parametrize("kind", ["i1", "<u2", ">u2", "u4", "f8"])
def test_a_feature_is_bytes_and_nothing_wider(kind: str) -> None:
    codes = np.arange(80) % 8
    assert Descriptor().has(codes.astype(np.uint8))
    assert not Descriptor().has(codes.astype(kind))


def extreme_features(descriptor: Descriptor, rows: int) -> np.ndarray:
    """Return random features, among them the smallest and the largest that there are."""
    random = np.random.default_rng(5)
    features = random.integers(0, descriptor.levels, (rows, descriptor.l)).astype(np.uint8)
    features[0], features[1] = 0, descriptor.levels - 1
    features[2, : descriptor.l // 2] = descriptor.levels - 1
    return features


@pytest.mark.parametrize("descriptor", [WIDE, LARGEST, Descriptor("e", 65534, 201)], ids=str)
def test_the_nearest_rows_of_the_largest_sums_are_exact(
    descriptor: Descriptor,
) -> None:
    features, dimension = extreme_features(descriptor, 12), descriptor.l
    parameters = Parameters("mask", None, descriptor)
    ef, eff = encrypt_features(parameters.cipher, features)
    cipher = MaskCipher()
    exact = [[int(x) for x in row] for row in features.tolist()]
    pairs = [(sum(row), sum(x * x for x in row)) for row in exact]
    assert list(zip(cipher.sums(ef), cipher.sums(eff), strict=True)) == pairs
    rows = index_construct(*zip(*pairs, strict=True), ids_of(bytes([row]) for row in range(len(pairs))))
    order, sums = rows.images, (rows.pairs >> np.uint64(32), rows.pairs & np.uint64(2**32 - 1))
    table = PairTable(*sums, np.arange(len(pairs) + 1, dtype=np.uint64))
    for query, (q1, q2) in enumerate(pairs):
        check_sums(q1, q2, dimension, descriptor.levels)
        numerators = [dimension * (s2 + q2) - 2 * q1 * s1 for s1, s2 in pairs]
        found, values = nearest_pairs(table, q1, q2, dimension, len(pairs))
        assert [pairs[row] for row in order] == list(
            zip(table.sum1.tolist(), table.sum2.tolist(), strict=True)
        )
        assert values.tolist() == sorted(numerators)
        assert [numerators[order[pair]] for pair in found.tolist()] == sorted(numerators)
        squares = [sum((x - y) ** 2 for x, y in zip(row, exact[query], strict=True)) for row in exact]
        distances = euclidean_distances(features, features[query])
        assert np.rint(distances**2).astype(int).tolist() == squares
        assert new_distances(features, features[query]).tolist() == [
            float(np.sqrt(float(numerator) / dimension)) for numerator in numerators
        ]


def test_a_modulus_holds_the_largest_sums(dcr_group: CompositeGroup) -> None:
    parameters = Parameters("dcr", dcr_group, Descriptor("embedding", 64, 256))
    features = extreme_features(parameters.descriptor, 3)
    ef, eff = encrypt_features(parameters.cipher, features)
    wide = features.astype(object)
    assert parameters.cipher.sums(ef) == wide.sum(axis=1).tolist()
    assert parameters.cipher.sums(eff) == (wide * wide).sum(axis=1).tolist()


def test_keygen_takes_a_descriptor_in_every_scheme() -> None:
    parameters = generate_parameters("paper", descriptor=WIDE)
    assert (parameters.descriptor, parameters.l, parameters.levels) == (WIDE, 4096, 256)
