"""Feature encryption: beside phe and HEU, in two processes beside one, and beside the copying of memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import phe
from heu import numpy as heu_numpy
from heu import phe as heu_phe

from mipp_cli.compute.processes import Parallelism
from mipp_cli.images.collection import collect_images
from mipp_cli.owner.encrypt import encrypt_images
from mipp_cli.owner.whats_new import EncryptOptions
from mipp_cli.scheme.descriptor import DIMENSION
from mipp_cli.scheme.feature_cipher import encrypt_features
from mipp_cli.scheme.fixed_base import fixed_base_table
from mipp_cli.scheme.parameters import DEFAULT_MODULUS_BITS, generate_parameters
from tests.benchmark.materials import Setting, features, make_roles, write_collection
from tests.benchmark.measure import Result, Target, in_turn, median_ratio, one_core, seconds, timed

_SLICES = 10
_COPIES = 10


def dcr_features(setting: Setting) -> Iterator[Result]:
    """`dcr` at 3072 bits beside phe and HEU, per number, on one core.

    A batch of 1,000 images is encrypted in ten slices, and between them phe and HEU encrypt some numbers.
    The table of powers is made before the first slice, and each slice bears a tenth of its time. HEU
    gets its numbers encoded already, and has the one thread that one processor gives its pool.
    """
    images, few, some = setting.size(1_000, 40), setting.size(12, 2), setting.size(400, 20)
    with one_core():
        batch = features(images)
        numbers = batch.ravel().tolist()
        phe_key, _ = phe.generate_paillier_keypair(n_length=DEFAULT_MODULUS_BITS)
        heu_kit = heu_numpy.setup(heu_phe.SchemaType.ZPaillier, DEFAULT_MODULUS_BITS)
        heu_encryptor, heu_numbers = heu_kit.encryptor(), heu_kit.array(numbers[:some])

        def phe_encrypt() -> None:
            for number in numbers[:few]:
                phe_key.raw_encrypt(number)

        def heu_encrypt() -> None:
            heu_encryptor.encrypt(heu_numbers)

        parameters = generate_parameters("dcr")
        begin = time.perf_counter()
        cipher = parameters.cipher.prepared(2 * images, DIMENSION)
        table_seconds = time.perf_counter() - begin
        slices = iter(np.array_split(batch, _SLICES))

        def mipp_encrypt() -> None:
            encrypt_features(cipher, next(slices))

        phe_encrypt()  # warm-up
        heu_encrypt()
        ours, phe_times, heu_times = in_turn(
            _SLICES, timed(mipp_encrypt), timed(phe_encrypt), timed(heu_encrypt), warm_up=False
        )
    ours = [(each + table_seconds / _SLICES) * _SLICES / (2 * batch.size) for each in ours]
    for name, spent, numbers_each, limit in (
        ("python-paillier (`phe`) `raw_encrypt`", phe_times, few, 100),
        ("HEU (`sf-heu`) ZPaillier, its batch call, one thread", heu_times, some, 3),
    ):
        theirs = [each / numbers_each for each in spent]
        yield Result(
            f"`dcr` feature encryption at {DEFAULT_MODULUS_BITS} bits, {images:,} images, per number",
            f"{name}, {DEFAULT_MODULUS_BITS} bits",
            median_ratio(theirs, ours),
            f"{seconds(ours)}, {seconds(theirs)}",
            Target(f"at least {limit} × faster", limit, least=True),
        )


def dcr_jobs(setting: Setting) -> Iterator[Result]:
    """`owner encrypt` of pictures of 384×256 under `dcr`, in two processes beside one.

    The whole step is measured: reading, decoding, describing, both ciphers, descriptions and the upload. The
    table of powers is made anew each time, as a command does.
    """
    images = setting.size(1_000, 24)
    folder = setting.folder("dcr-jobs")
    roles = make_roles(folder, "dcr")
    collection = collect_images([write_collection(setting.folder("dcr-jobs-pictures"), images)])

    def encrypt(jobs: int) -> Callable[[], float]:
        def work() -> None:
            fixed_base_table.cache_clear()
            options, parallelism = EncryptOptions(force=True, again=True), Parallelism(jobs=jobs)
            encrypt_images(
                roles.owner(roles.owners[0]), collection, folder / "upload.h5", options, parallelism
            )

        return timed(work)

    # the first of these runs takes as long as all later ones: what there is to warm up does not show
    one, two = in_turn(setting.size(3, 1), encrypt(1), encrypt(2), warm_up=False)
    yield Result(
        f"`owner encrypt` under `dcr`, {images:,} pictures of 384×256, 2 jobs",
        "1 job",
        median_ratio(one, two),
        f"{seconds(two)}, {seconds(one)}",
        Target("at least 1.8 × faster", 1.8, least=True),
    )


def mask_features(setting: Setting) -> Iterator[Result]:
    """`mask` on 10,000 images, EF and EFF, beside ten copies of as many bytes, on one core.

    Ten copies that are kept, each in memory of its own as the ciphertexts are; and ten over the same
    memory, which stays in the processor's cache.
    """
    images = setting.size(10_000, 1_000)
    with one_core():
        batch = features(images)
        cipher = generate_parameters("mask").cipher
        ciphertexts = encrypt_features(cipher, batch)
        places = [np.empty_like(each) for each in ciphertexts]

        def copy() -> None:
            [each.copy() for _ in range(_COPIES) for each in ciphertexts]

        def copy_over() -> None:
            for _ in range(_COPIES):
                for place, each in zip(places, ciphertexts, strict=True):
                    np.copyto(place, each)

        sides = (timed(lambda: encrypt_features(cipher, batch)), timed(copy), timed(copy_over))
        ours, kept, over = in_turn(101, *sides)
    for theirs, how in ((kept, "times, all copies kept"), (over, "times over the same memory")):
        yield Result(
            f"`mask` feature encryption of {images:,} images",
            f"copying the same bytes {_COPIES} {how}",
            median_ratio(ours, theirs),
            f"{seconds(ours)}, {seconds(theirs)}",
            Target("not slower", 1.0),
        )
