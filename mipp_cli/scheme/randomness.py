"""Randomness from the operating system, expanded with AES-256-CTR within one process and task."""

from __future__ import annotations

import math
import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

_BLOCK_BYTES = 16


class KeyStream:
    """A stream of random bytes: AES-256-CTR under a key drawn from os.urandom.

    Each task creates its own stream, inside the process that uses it. A stream inherited across a fork would
    give two processes the same masks, so reading it in another process raises. It cannot be seeded.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        # The key serves one stream only, so the counter may start at zero.
        self._encryptor = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(bytes(16))).encryptor()

    def __reduce__(self) -> str | tuple[object, ...]:
        raise RuntimeError("a key stream cannot be sent to another process")

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
        # zeros are encrypted in place; update_into needs one block more than it writes
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
