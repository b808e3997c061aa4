"""Recovers an upload's features without a key, which scheme `paper` allows (Eq. 3 and 4).

The order of every R_i divides p − 1, so C_i^(p−1) = (1 + x_i·p)^(p−1) = 1 − x_i·p mod p². The same attack on
the other schemes must fail: N − 1 is not a multiple of the order of an N-th residue, and a masked word has no
structure.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from mipp_cli.compute.processes import Parallelism, open_workers
from mipp_cli.containers.base.container import open_container
from mipp_cli.containers.messages.public_files import Deployment
from mipp_cli.containers.messages.upload import UploadReader, upload_schema
from mipp_cli.progress import Progress
from mipp_cli.scheme.parameters import Parameters

Numbers = NDArray[np.int64]
Ciphertexts = NDArray[np.uint8]


@dataclass(frozen=True)
class Reading:
    """The values recovered from a column of an image, and which of them ``fit``, each of shape (l,).

    Values that fit have the form of Eq. 4 after exponentiation, and are below the bound of the column. The
    other values are guesses: the result modulo the bound.
    """

    values: Numbers
    fits: NDArray[np.bool_]


@dataclass(frozen=True)
class ImageReading:
    """The readings of EF, EFF and their quotients for an image of an upload, with its wire name."""

    name: str
    codes: Reading
    squares: Reading
    quotients: Reading


def integers(parameters: Parameters, row: Ciphertexts) -> list[int]:
    """Return the ciphertexts of a row, shape (l, number_bytes), as integers."""
    order: Literal["little", "big"] = "little" if parameters.group is None else "big"
    return [int.from_bytes(number.tobytes(), order) for number in row]


def read_numbers(parameters: Parameters, ciphertexts: list[int], bound: int) -> Reading:
    """Read numbers below ``bound`` from their ciphertexts, by C^(m−1) = 1 − x·m mod m²."""
    if parameters.group is None:
        return _checked([(c, 0) for c in ciphertexts], bound)
    m = mpz(parameters.group.m)
    powers = (gmpy2.powmod(c, m - 1, m * m) for c in ciphertexts)
    return _checked([gmpy2.f_divmod((1 - power) % (m * m), m) for power in powers], bound)


def read_quotients(parameters: Parameters, of_codes: list[int], of_squares: list[int]) -> Reading:
    """Read x² − x from C'/C = 1 + (x² − x)·m, which holds if x and x² share R_i; Eq. 4 as printed.

    For `mask`, read it from the difference of the words.
    """
    bound = (parameters.levels - 1) * (parameters.levels - 2) + 1
    pairs = zip(of_codes, of_squares, strict=True)
    if parameters.group is None:
        word = 1 << (8 * parameters.cipher.number_bytes)
        return _checked([((square - code) % word, 0) for code, square in pairs], bound)
    m = mpz(parameters.group.m)
    quotients = (square * gmpy2.invert(code, m * m) % (m * m) for code, square in pairs)
    return _checked([gmpy2.f_divmod((quotient - 1) % (m * m), m) for quotient in quotients], bound)


def _checked(found: list[tuple[int, int]], bound: int) -> Reading:
    """Return quotients by the modulus; they fit if the remainder is 0 and they are below ``bound``."""
    fits = [bool(remainder == 0 and value < bound) for value, remainder in found]
    return Reading(np.array([int(value % bound) for value, _ in found]), np.array(fits))


def read_upload(
    upload: Path, deployment: Deployment, limit: int, parallelism: Parallelism, progress: Progress
) -> tuple[list[ImageReading], float]:
    """Read the first ``limit`` images of an upload with kmc.pub alone; return the readings and the seconds.

    The time includes some tenths of a second for starting workers. Raises what opening a container raises;
    the upload must belong to the deployment.
    """
    parameters = deployment.parameters
    schema = upload_schema(parameters)
    with (
        open_container(upload, schema, deployment=deployment.fingerprint) as container,
        open_workers(partial(_read_image, parameters), parallelism) as workers,
    ):
        reader = UploadReader(container, parameters)
        rows = min(limit, len(reader))
        names = list(islice(reader.names(), rows))
        begin, found = time.perf_counter(), []
        with progress("attacking without a key", rows, "image") as advance:
            for _, result in workers.in_order(_tasks(reader, names), under_way=2 * workers.count):
                found.append(result)
                advance(1)
        return found, time.perf_counter() - begin


def _tasks(reader: UploadReader, names: list[str]) -> Iterator[tuple[str, Ciphertexts, Ciphertexts]]:
    for row, name in enumerate(names):
        ef, eff = reader.encrypted_features(row, row + 1)
        yield name, ef[0], eff[0]


def _read_image(parameters: Parameters, task: tuple[str, Ciphertexts, Ciphertexts]) -> ImageReading:
    name, ef, eff = task
    codes, squares = integers(parameters, ef), integers(parameters, eff)
    return ImageReading(
        name,
        read_numbers(parameters, codes, parameters.levels),
        read_numbers(parameters, squares, (parameters.levels - 1) ** 2 + 1),
        read_quotients(parameters, codes, squares),
    )
