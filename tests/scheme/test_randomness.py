"""Key streams: where their bytes come from, in what ranges numbers fall, and that none crosses a fork."""

from __future__ import annotations

import copy
import inspect
import multiprocessing
import os
import pickle
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from mipp_cli.scheme.aead import image_enc
from mipp_cli.scheme.feature_cipher import FeatureCipher, encrypt_features
from mipp_cli.scheme.randomness import KeyStream
from tests.support.examples import Features, every_code, repeatable

FORK = multiprocessing.get_context("fork")
# Later versions of Python warn of threads at a fork; the children here wait for no lock of theirs.
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


class StreamOf(KeyStream):
    """Reads given data in the place of random ones."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data

    def read(self, size: int) -> bytes:
        head, self.data = self.data[:size], self.data[size:]
        assert len(head) == size
        return head


def test_a_stream_is_aes_256_ctr_under_a_system_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def fixed(size: int) -> bytes:
        asked.append(size)
        return bytes(range(size))

    monkeypatch.setattr(os, "urandom", fixed)
    stream = KeyStream()
    block = Cipher(algorithms.AES(bytes(range(32))), modes.ECB()).encryptor()
    counters = b"".join(i.to_bytes(16, "big") for i in range(300))
    assert stream.read(7) + stream.read(0) + stream.read(4793) == block.update(counters)
    assert asked == [32]


def test_a_stream_takes_no_seed() -> None:
    assert not inspect.signature(KeyStream).parameters


def test_two_streams_have_nothing_in_common() -> None:
    first, second = KeyStream(), KeyStream()
    blocks = [stream.read(16) for stream in (first, second) for _ in range(500)]
    assert len(set(blocks)) == 1000


@repeatable(100)
@given(count=st.integers(0, 300), data=st.binary(min_size=38, max_size=38))
def test_bits_are_as_many_leading_bits_of_the_stream(count: int, data: bytes) -> None:
    written = "".join(f"{octet:08b}" for octet in data)
    assert StreamOf(data).bits(count) == int("0" + written[:count], 2)


@repeatable(200)
@given(count=st.integers(1, 300))
def test_bits_stay_in_their_range(count: int) -> None:
    assert 0 <= KeyStream().bits(count) < 2**count


@repeatable(200)
@given(bound=st.integers(1, 2**300))
def test_below_stays_under_its_bound(bound: int) -> None:
    assert 0 <= KeyStream().below(bound) < bound


def test_below_rejects_what_is_too_large_instead_of_reducing_it() -> None:
    assert StreamOf(bytes([7 << 5, 6 << 5, 5 << 5, 4 << 5, 0])).below(5) == 4


@pytest.mark.parametrize("bound", [1, 2, 3, 5, 8, 9, 17])
def test_below_gives_every_value_about_as_often(bound: int) -> None:
    stream, draws = KeyStream(), 2000 * bound
    seen = Counter(stream.below(bound) for _ in range(draws))
    assert set(seen) == set(range(bound))
    assert all(1400 < count < 2600 or bound == 1 for count in seen.values())  # 13 standard deviations


@pytest.mark.parametrize("copying", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_stream_cannot_be_copied(copying: Callable[[KeyStream], object]) -> None:
    with pytest.raises(RuntimeError, match="cannot be sent to another process"):
        copying(KeyStream())


def _read_in_child(stream: KeyStream, end: Connection) -> None:
    for reading in (lambda: stream.read(1), lambda: stream.bits(8), lambda: stream.below(5)):
        try:
            end.send(f"read {reading()!r}")
        except RuntimeError as error:
            end.send(str(error))


@forks
def test_a_stream_made_before_a_fork_cannot_be_read_after_it() -> None:
    stream = KeyStream()
    stream.read(5)
    here, there = FORK.Pipe()
    child = FORK.Process(target=_read_in_child, args=(stream, there))
    child.start()
    answers = [here.recv() for _ in range(3)]
    child.join()
    assert answers == ["a key stream made before a fork was read after it"] * 3
    assert len(stream.read(5)) == 5


_meeting: list[Barrier] = []


def _encrypt(cipher: FeatureCipher, features: Features) -> tuple[int, bytes, bytes]:
    for barrier in _meeting:
        barrier.wait(60)  # so that no process does both tasks
    ef, eff = encrypt_features(cipher, features)
    return os.getpid(), ef.tobytes(), eff.tobytes()


def _encrypt_image(key: bytes, plaintext: bytes) -> tuple[int, bytes]:
    for barrier in _meeting:
        barrier.wait(60)
    return os.getpid(), image_enc(key, plaintext, b"")


@forks
def test_forked_workers_draw_different_randomness(cipher: FeatureCipher) -> None:
    """ImageFeatureEnc in two processes that share the tables made before the fork."""
    features = every_code(80)
    ready = cipher.prepared(4, 80)
    before = _encrypt(ready, features)
    with ProcessPoolExecutor(2, FORK, _meeting.append, (FORK.Barrier(2),)) as pool:
        workers = [pool.submit(_encrypt, ready, features) for _ in range(2)]
        drawn = [before, *(worker.result(60) for worker in workers), _encrypt(ready, features)]
    assert drawn[0][0] == drawn[3][0] == os.getpid()
    assert len({process for process, _, _ in drawn}) == 3
    vectors = [vector for _, ef, eff in drawn for vector in (ef, eff)]
    assert len(set(vectors)) == 8
    # not even one number in ten stands in two of them at its place
    width = cipher.number_bytes
    for i, one in enumerate(vectors):
        for other in vectors[:i]:
            alike = sum(one[k : k + width] == other[k : k + width] for k in range(0, len(one), width))
            assert alike < 8


@forks
def test_forked_workers_draw_different_nonces() -> None:
    """ImageEnc of the same image in two processes."""
    key, plaintext = bytes(range(32)), bytes(100)
    with ProcessPoolExecutor(2, FORK, _meeting.append, (FORK.Barrier(2),)) as pool:
        workers = [pool.submit(_encrypt_image, key, plaintext) for _ in range(2)]
        (first_process, first), (second_process, second) = (worker.result(60) for worker in workers)
    assert first_process != second_process
    assert first[:12] != second[:12]
    assert first[12:] != second[12:]
