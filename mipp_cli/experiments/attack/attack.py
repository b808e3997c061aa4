"""The break of scheme `paper` on a real upload: recovers features with kmc.pub alone; and other leaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mipp_cli.compute.processes import LOCAL, Parallelism
from mipp_cli.containers.messages.public_files import load_deployment
from mipp_cli.descriptors.describer import FORMULAS
from mipp_cli.errors import InvalidRequestError, UnreadableImageError
from mipp_cli.experiments.attack.as_printed import one_key_stream, shared_blinding
from mipp_cli.experiments.attack.keyless_reading import ImageReading, Numbers, Reading, read_upload
from mipp_cli.experiments.attack.known_images import KnownImages
from mipp_cli.experiments.base.bootstrap import mean_interval
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.result import Claim, Observation, Result, column, table, where
from mipp_cli.experiments.base.trial_deployment import SampleOptions, trial_deployment
from mipp_cli.images.collection import ImageFile, collect_images
from mipp_cli.progress import Progress, silent
from mipp_cli.sanitize import printable
from mipp_cli.scheme.parameters import Parameters

NAME = "attack"
CODES, SQUARES, QUOTIENTS, SHARED = "x from EF", "x² from EFF", "x² − x from EFF/EF", "x² − x, R_i shared"
ATTACKED = ("paper", "dcr", "mask")
"""The schemes of a trial; the first must be the broken one."""

_SHOWN = 5
_SEED = 1  # only for the bootstrap


@dataclass(frozen=True)
class AttackOptions:
    """Options of the attack on an upload.

    ``kmc`` is kmc.pub; ``images`` the folder of the original images, to compare with; ``limit`` the number of
    images to attack; ``picture`` the path of the sheet of the two-time pad, made of the first and the last
    picture of ``images``.
    """

    kmc: Path
    images: Path | None = None
    limit: int = 10
    picture: Path | None = None
    parallelism: Parallelism = LOCAL

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise InvalidRequestError("--limit must be at least 1", hint="give --limit 1 or more")
        if self.picture is not None and self.images is None:
            raise InvalidRequestError(
                "the sheet needs pictures", hint="also give the folder of images: --images DIR"
            )


def run_attack(
    upload: Path, options: AttackOptions, progress: Progress = silent, truth: KnownImages | None = None
) -> Result:
    """Recover the features of an upload without a key, and compare them with the images if these are given.

    The images are described by the deployment's built-in descriptor, unless ``truth`` has their codes. For
    schemes `dcr` and `mask` nothing is recovered, and the result says so. Raises what opening the upload
    raises, InvalidRequestError for scheme `exact`, InvalidRequestError or UnreadableImageError for the
    images.
    """
    deployment = load_deployment(options.kmc)
    parameters = deployment.parameters
    if not parameters.protocol.upload_columns:
        raise InvalidRequestError(
            f"an upload of scheme {parameters.scheme} contains no features to attack",
            path=upload,
            hint="attack an upload of scheme paper, dcr or mask; in this scheme features go only to the KMC",
        )
    if options.images is not None and truth is None and parameters.descriptor.name not in FORMULAS:
        raise InvalidRequestError(
            f"features of this deployment ({parameters.descriptor.name}) cannot be compared with images",
            hint="leave out --images",
        )
    files = [] if options.images is None else collect_images([options.images])
    readings, taken = read_upload(upload, deployment, options.limit, options.parallelism, progress)
    truth = KnownImages.of(files, parameters) if truth is None else truth
    observations: list[Observation] = []
    for reading in readings:
        codes, likeness = truth.codes_of(reading), truth.likeness(reading.codes.values)
        squares, less = (None, None) if codes is None else (codes**2, codes**2 - codes)
        observations += _rows(CODES, reading.name, reading.codes, codes, likeness)
        observations += _rows(SQUARES, reading.name, reading.squares, squares)
        observations += _rows(QUOTIENTS, reading.name, reading.quotients, less)
    for number, codes in enumerate(truth.examples(len(readings), parameters)):
        read = shared_blinding(parameters, codes)
        observations += _rows(SHARED, f"as printed {number + 1}", read, codes**2 - codes)
    claims = [_reading_claim(observations, parameters, readings, truth, taken), _shared_claim(observations)]
    notes = [*_shown(readings, truth), *_reading_notes(parameters, truth)]
    if len(files) >= 2:
        claims.append(_pad_claim(files, options.picture))
    return Result(
        NAME, f"Features recovered without a key, scheme {parameters.scheme}", observations, claims, notes
    )


def attack_every_scheme(
    dataset: DataSet, sample: SampleOptions, sheet: Path, progress: Progress
) -> list[Result]:
    """Encrypt a sample under every scheme, and attack each upload with kmc.pub alone.

    ``sheet`` is the path of the pictures of the two-time pad. The claims about EFF/EF and about key streams
    do not depend on the scheme, and are only in the first result.
    """
    files, truth = dataset.files(sample.draw(dataset)), KnownImages.of_dataset(dataset)
    results: list[Result] = []
    for setting in sample.settings:
        with trial_deployment(setting, dataset, sample.parallelism, progress, image_names="path") as made:
            upload = made.encrypt("owner", files, "upload")
            picture = None if results else sheet
            options = AttackOptions(made.kmc_file, dataset.folder, len(files), picture, sample.parallelism)
            result = run_attack(upload, options, progress, truth)
        said = {claim.where for claim in result.claims[1:]} if results else set()
        claims = [claim for claim in result.claims if claim.where not in said]
        results.append(replace(result, name=f"{NAME}-{setting.scheme}", claims=claims))
    return results


def _rows(
    what: str, image: str, reading: Reading, true: Numbers | None, likeness: Sequence[float] | None = None
) -> list[Observation]:
    """Return a row per number; without a true value, it has the share of the given images that agree."""
    nothing = [None] * len(reading.values)
    return table(
        reading=what,
        image=printable(image),
        position=range(len(reading.values)),
        read=reading.values,
        fits=reading.fits.astype(int),
        true=nothing if true is None else true,
        agrees=(likeness or nothing) if true is None else (reading.values == true).astype(float),
    )


def _reading_claim(
    observations: Sequence[Observation],
    parameters: Parameters,
    readings: Sequence[ImageReading],
    truth: KnownImages,
    taken: float,
) -> Claim:
    rows = [*where(observations, reading=CODES), *where(observations, reading=SQUARES)]
    fitting = len(where(rows, fits=1))
    squares = sum(int((r.squares.values == r.codes.values**2).sum()) for r in readings)
    form = "small enough to be codes or squares" if parameters.group is None else "of the form 1 − x·m"
    measured = (
        f"scheme {parameters.scheme}: {fitting} of {len(rows)} numbers of {len(readings)} images are "
        f"{form}, in {taken:.1f} s ({taken / len(readings):.2f} s per image)"
    )
    if truth.by_name:
        measured += f"; the codes of {truth.found_in(readings)} images equal those of pictures in the folder"
        agrees = column(where(observations, reading=CODES), "agrees").reshape(len(readings), -1)
        measured += f"; codes that agree: {mean_interval(agrees.mean(axis=1), _SEED).percent}"
        measured += f", chance {100 / parameters.levels:.1f} %"
    if fitting == len(rows):
        measured += (
            f". All numbers are recovered from the upload and the public file alone ({squares} of "
            f"{len(rows) // 2} numbers of EFF are the squares of those of EF, which proves it even without "
            "the images). Theorem 6.1 does not hold: the attack does not need R_i."
        )
        conclusion = f"not confirmed: scheme {parameters.scheme} is broken without a key"
    elif fitting < len(rows) / 100:
        measured += ". Nothing is recovered: the values are guesses."
        conclusion = f"not refuted: scheme {parameters.scheme} withstands this attack"
    else:
        measured += ". Part of the features is recovered."
        conclusion = f"not confirmed: scheme {parameters.scheme} is partly broken"
    return Claim(
        "Theorem 6.1, section 6.1.2",
        "to get a_i an attacker must find R_i, and cannot: features are safe from the cloud and from users",
        measured,
        conclusion,
    )


def _shared_claim(observations: Sequence[Observation]) -> Claim:
    shared, apart = (where(observations, reading=each) for each in (SHARED, QUOTIENTS))
    fitting = where(shared, fits=1)
    right = len(where(fitting, agrees=1))
    settled = np.count_nonzero(column(fitting, "read"))
    return Claim(
        "section 5.3.3",
        "EF and EFF of an image are encrypted with the same R_i",
        f"encrypted that way, {right} of {len(shared)} differences x² − x follow from EFF/EF with one "
        f"division and no key, for any modulus. They determine x for {settled} codes, and leave 0 or 1 for "
        "the rest. In the upload, where EF and EFF have independent randomness, "
        f"{len(where(apart, fits=1))} of {len(apart)} have that form.",
        f"insecure as printed: {right} of {len(shared)} differences are recovered"
        if right
        else "not refuted: none is recovered",
    )


def _pad_claim(files: Sequence[ImageFile], sheet: Path | None) -> Claim:
    """Encrypt the first and the last picture under one key stream, and write the sheet if given a path."""
    try:
        pad = one_key_stream(files[0].path, files[-1].path)
    except OSError as error:
        raise UnreadableImageError(
            "cannot be read", path=error.filename, hint="check its permissions"
        ) from error
    if sheet is not None:
        pad.write_sheet(sheet)
    return Claim(
        "Algorithm 1, section 5.3.2",
        "images XOR a key stream SK are secure against chosen-plaintext attacks",
        "with one SK for two pictures, as Algorithm 1 is printed, the XOR of the two encrypted pictures "
        f"is the XOR of the plaintexts in {100 * pad.share_of_plain:.0f} % of the bytes"
        + (f" (see {sheet.name})" if sheet is not None else "")
        + ". mipp uses a fresh nonce for every image.",
        "not confirmed: one key stream for two pictures reveals both"
        if pad.share_of_plain > 1 / 2
        else "not refuted here",
    )


def _shown(readings: Sequence[ImageReading], truth: KnownImages) -> list[str]:
    notes = []
    for reading in readings[:_SHOWN]:
        true = truth.codes_of(reading)
        lines = [f"{printable(reading.name)}: read {_digits(reading.codes.values)}"]
        if truth.by_name:
            lines.append("true " + ("not among the images given" if true is None else _digits(true)))
        notes.append(", ".join(lines))
    return notes


def _digits(values: Numbers) -> str:
    """Format codes: one digit each, in groups of five per sub-image."""
    texts = list(map(str, values.tolist()))
    if max(map(len, texts)) > 1:
        return " ".join(texts)
    return " ".join("".join(texts[begin : begin + 5]) for begin in range(0, len(texts), 5))


def _reading_notes(parameters: Parameters, truth: KnownImages) -> list[str]:
    notes = [
        "fits: the number has the form that Eq. 4 has after exponentiation. Numbers that do not fit are "
        "guesses."
    ]
    if parameters.group is None:
        notes.append("Scheme mask has no modulus: each masked word is taken as the number itself.")
    if truth.by_name:
        notes.append(
            "true: the codes of the image with that path or, if names are hashed, of an image with exactly "
            "these codes. If there is none, agrees is the share of the given images with this code at this "
            "position."
        )
    else:
        notes.append("No images were given to compare with.")
    return notes
