"""The break of scheme `paper` on a real upload: features read with kmc.pub alone; and what else leaks."""

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
"""The schemes of a trial: the first must be the one that falls."""

_SHOWN = 5
_SEED = 1  # of the bootstrap alone


@dataclass(frozen=True)
class AttackOptions:
    """How an upload is attacked.

    ``kmc`` is kmc.pub; ``images`` the folder that was encrypted, to compare with; ``limit`` how many
    images are read; ``picture`` is where the sheet of the two-time pad goes, which takes the first and
    the last picture of ``images``.
    """

    kmc: Path
    images: Path | None = None
    limit: int = 10
    picture: Path | None = None
    parallelism: Parallelism = LOCAL

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise InvalidRequestError("at least one image must be read", hint="give --limit 1 or more")
        if self.picture is not None and self.images is None:
            raise InvalidRequestError("the sheet needs pictures", hint="give the folder of images too")


def run_attack(
    upload: Path, options: AttackOptions, progress: Progress = silent, truth: KnownImages | None = None
) -> Result:
    """Read the features of an upload without a key, and compare them with the images if these are given.

    The images are described by the deployment's built-in descriptor, unless ``truth`` says their codes.
    On schemes `dcr` and `mask` nothing is recovered, and the result says so. Raises what opening the upload
    raises, InvalidRequestError for scheme `exact`, InvalidRequestError or UnreadableImageError for the
    images.
    """
    deployment = load_deployment(options.kmc)
    parameters = deployment.parameters
    if not parameters.protocol.upload_columns:
        raise InvalidRequestError(
            f"an upload of scheme {parameters.scheme} holds no features that could be read",
            path=upload,
            hint="there they go to the KMC, in a file of their own",
        )
    if options.images is not None and truth is None and parameters.descriptor.name not in FORMULAS:
        raise InvalidRequestError(
            f"features of this deployment ({parameters.descriptor.name}) cannot be compared with images",
            hint="leave out the folder of images",
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
        NAME, f"Features read without a key, scheme {parameters.scheme}", observations, claims, notes
    )


def attack_every_scheme(
    dataset: DataSet, sample: SampleOptions, sheet: Path, progress: Progress
) -> list[Result]:
    """Encrypt a sample under every scheme, and attack each upload with kmc.pub alone.

    ``sheet`` is where the pictures of the two-time pad go. What the attacks say of EFF/EF and of key
    streams does not depend on the scheme, and stands in the first result alone.
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
    """Return a line for each number; without a true value, how many of the images given agree."""
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
        f"scheme {parameters.scheme}: of {len(rows)} numbers of {len(readings)} images {fitting} come out "
        f"{form}, in {taken:.1f} s ({taken / len(readings):.2f} s an image)"
    )
    if truth.by_name:
        measured += f"; the codes of {truth.found_in(readings)} images are those of pictures in the folder"
        agrees = column(where(observations, reading=CODES), "agrees").reshape(len(readings), -1)
        measured += f"; codes that agree: {mean_interval(agrees.mean(axis=1), _SEED).percent}"
        measured += f", chance {100 / parameters.levels:.1f} %"
    if fitting == len(rows):
        measured += (
            f". All is recovered, from the upload and the public file alone ({squares} of {len(rows) // 2} "
            "numbers of EFF are the squares of those of EF, which shows it even without the images): Theorem "
            "6.1 does not hold, nobody needs to solve for R_i."
        )
        conclusion = f"not confirmed: scheme {parameters.scheme} is read without a key"
    elif fitting < len(rows) / 100:
        measured += ". Nothing is recovered: what comes out are guesses."
        conclusion = f"not refuted: scheme {parameters.scheme} withstands this attack"
    else:
        measured += ". Part of it is recovered."
        conclusion = f"not confirmed: scheme {parameters.scheme} is read in part"
    return Claim(
        "Theorem 6.1, section 6.1.2",
        "whoever wants a_i must solve for R_i, and cannot: features are safe from the cloud and from users",
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
        f"encrypted so, {right} of {len(shared)} differences x² − x come out of EFF/EF with one division and "
        f"no key, under this modulus too; they settle x for {settled} codes, and leave 0 or 1 for the rest. "
        f"In the upload, where EF and EFF are drawn separately, {len(where(apart, fits=1))} of "
        f"{len(apart)} come out in that form.",
        f"insecure as printed: {right} of {len(shared)} differences are read"
        if right
        else "not refuted: none is read",
    )


def _pad_claim(files: Sequence[ImageFile], sheet: Path | None) -> Claim:
    """Encrypt the first and the last picture under one key stream, and write the sheet if it is wanted."""
    try:
        pad = one_key_stream(files[0].path, files[-1].path)
    except OSError as error:
        raise UnreadableImageError("cannot be read", path=error.filename, hint="check the rights") from error
    if sheet is not None:
        pad.write_sheet(sheet)
    return Claim(
        "Algorithm 1, section 5.3.2",
        "images XOR a key stream SK are secure against chosen-plaintext attacks",
        "with one SK for two pictures, as Algorithm 1 reads, the XOR of the two encrypted pictures is the "
        f"XOR of the plain ones in {100 * pad.share_of_plain:.0f} % of the bytes"
        + (f", as a person can see in {sheet.name}" if sheet is not None else "")
        + ". Here every image has a nonce of its own.",
        "not confirmed: one key stream for two pictures shows both"
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
    """Return codes as they are read: one digit each, in the groups of five of a sub-image."""
    texts = list(map(str, values.tolist()))
    if max(map(len, texts)) > 1:
        return " ".join(texts)
    return " ".join("".join(texts[begin : begin + 5]) for begin in range(0, len(texts), 5))


def _reading_notes(parameters: Parameters, truth: KnownImages) -> list[str]:
    notes = ["fits: the number has the form that Eq. 4 leaves after the power. What does not fit is a guess."]
    if parameters.group is None:
        notes.append("Scheme mask has no modulus to take powers of: each word is taken for what it hides.")
    if truth.by_name:
        notes.append(
            "true: the codes of the image of that path; where names are hashed, of the image with just these "
            "codes. Where there is none, agrees says how many of the images given have this code there."
        )
    else:
        notes.append("No images were given to compare with.")
    return notes
