"""Randomness of the operating system's generator, stretched by AES-256-CTR within one process and task."""

from __future__ import annotations

import math
import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

_BLOCK_BYTES = 16


class KeyStream:
    """A stream of random bytes: AES-256-CTR under a key drawn from os.urandom.

    One is made for each task, inside the process that uses it. A stream that crossed a fork would give
    two processes the same masks, so reading from another process than the one that made it raises.
    There is no way to give it a seed.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        # The key serves one stream only, so the counter may start at zero.
        self._encryptor = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(bytes(16))).encryptor()

    def __reduce__(self) -> str | tuple[object, ...]:
        raise RuntimeError("a key stream stays in the process that made it")

    def read(self, size: int) -> bytes:
        """Return ``size`` fresh random bytes; RuntimeError after a fork."""
        return self.words((size,), np.dtype(np.uint8)).tobytes()

    def words(
        self, shape: tuple[int, ...], dtype: np.dtype[np.unsignedinteger]
    ) -> NDArray[np.unsignedinteger]:
        """Return an array of fresh random words; RuntimeError after a fork."""
        if os.getpid() != self._process:
            raise RuntimeError("a key stream made before a fork was read after it")
        size = math.prod(shape) * dtype.itemsize
        # zeros are encrypted where they lie; update_into asks for a block more than it writes
        data = np.zeros(size + _BLOCK_BYTES - 1, dtype=np.uint8)
        self._encryptor.update_into(data[:size].data, data.data)
        return data[:size].view(dtype).reshape(shape)

    def bits(self, count: int) -> int:
        """Return an integer uniform in [0, 2^count)."""
        size = (count + 7) // 8
        return int.from_bytes(self.read(size), "big") >> (8 * size - count)

    def below(self, bound: int) -> int:
        """Return an integer uniform in [0, bound), by rejection; ``bound`` is at least 1."""
        count = bound.bit_length()
        while (value := self.bits(count)) >= bound:
            pass
        return value
