"""Options shared by several commands, and the decorator that prints a command's report."""

from __future__ import annotations

import functools
import inspect
import re
import time
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import click

from mipp_cli.cli.messages import report_success
from mipp_cli.cli.passphrases import new_passphrase_options, passphrase_option, passphrase_warnings
from mipp_cli.cli.verbose import verbose_option

if TYPE_CHECKING:
    from mipp_cli.compute.processes import Parallelism
    from mipp_cli.report import Report

Function = TypeVar("Function", bound=Callable[..., Any])
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
PATH = click.Path(path_type=Path)


# Types of options: click adds the option's name to what they raise.


def _size(value: str) -> int:
    """Parse a number of bytes: 500000, 500kB, 500MB, 4GB."""
    match = re.fullmatch(r"([1-9][0-9]*) *([KMGT]?)B?", value.upper())
    if match is None:
        raise click.BadParameter(f"{value!r} is not a size; write 500MB or 4GB")
    return int(match[1]) * {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}[match[2]]


def _key_id(value: str) -> int:
    """Parse the id of an image key, as printed by `mipp inspect`."""
    if re.fullmatch(r"[0-9a-f]{16}", value) is None:
        raise click.BadParameter(f"{value!r} is not a key id; write 16 lower-case hex digits")
    return int(value, 16)


def _number(value: str | int, where: str = "") -> int:
    """Parse a message number, as printed by `mipp cloud index` and `mipp inspect`, or a default."""
    if isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,18}", value, flags=re.ASCII) is None:
        what = f"{value!r} is not a message number; write up to 19 digits"
        raise click.BadParameter(f"{what}{where}")
    return int(value)


def _applied(value: str) -> int:
    return 0 if value == "0" else _number(value)


def _again(value: str | int) -> int:
    return _number(value, "; to send all images again, put --again after IMAGES")


SIZE, KEY_ID, NUMBER, APPLIED, AGAIN = _size, _key_id, _number, _applied, _again


def prints_report(function: Callable[..., Report]) -> Callable[..., None]:
    """Add ``--json`` and ``-v`` to a command, and print the report that it returns."""

    @verbose_option
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
    @functools.wraps(function)
    def run(*args: Any, as_json: bool, **kwargs: Any) -> None:
        started = time.perf_counter()
        report = function(*args, **kwargs)
        report = replace(report, warnings=(*report.warnings, *passphrase_warnings()))
        command = click.get_current_context().command_path.partition(" ")[2]
        report_success(command, report, as_json=as_json, seconds=time.perf_counter() - started)

    return run


def refuse_with_json(option: str) -> None:
    """Refuse ``--json`` together with an option that prints another format."""
    if click.get_current_context().params.get("as_json"):
        raise click.UsageError(f"{option} and --json cannot be combined")


def together(*options: Decorator) -> Decorator:
    """Add several options to a command, listed in this order by its help."""
    return lambda function: functools.reduce(lambda made, option: option(made), reversed(options), function)


def bundled(name: str, make: Callable[..., object], *options: Decorator) -> Decorator:
    """Add options to a command, passed to it as one argument: the result of ``make`` on their values."""
    names = [*inspect.signature(make).parameters]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            values = {each: kwargs.pop(each) for each in names}
            return function(*args, **kwargs, **{name: make(**values)})

        return together(*options)(run)

    return decorate


def directory_argument(name: str) -> Decorator:
    """The role's directory as first argument, and ``--passphrase-file``."""
    return lambda function: click.argument("directory", metavar=name, type=PATH)(passphrase_option(function))


def new_directory_argument(name: str) -> Decorator:
    """The directory that a role's `init` creates, and the options to protect it."""
    return lambda function: click.argument("directory", metavar=name, type=PATH)(
        new_passphrase_options(function)
    )


def files_argument(metavar: str, *, required: bool = True) -> Callable[[Function], Function]:
    """One or more files."""
    return click.argument("files", metavar=metavar, type=PATH, nargs=-1, required=required)


def output_option(metavar: str, what: str, *, required: bool = True) -> Callable[[Function], Function]:
    """``-o``: where the output goes."""
    return click.option(
        "-o", "--output", metavar=metavar, type=PATH, required=required, help=f"Where to write {what}."
    )


def _parallelism(jobs: int | None, scheduler: str | None) -> Parallelism:
    from mipp_cli.compute.processes import Parallelism

    if jobs is not None and scheduler is not None:
        raise click.UsageError("--jobs and --scheduler cannot be combined")
    return Parallelism(jobs, scheduler)


parallelism_options = bundled(
    "parallelism",
    _parallelism,
    click.option(
        "-j",
        "--jobs",
        metavar="N",
        type=click.IntRange(min=1),
        help="Number of processes.  [default: one per processor]",
    ),
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Use a Dask cluster instead: tls://HOST:PORT, or tcp:// on this machine.",
    ),
)
files_from_option = click.option(
    "--files-from",
    metavar="FILE",
    type=click.File("rb"),
    help="Read image paths from FILE, one per line; - is standard input.",
)
force_option = click.option(
    "--force", is_flag=True, help="Replace the output if it exists, unless it is a device or a pipe."
)
owner_argument = click.argument("owner", metavar="OID")
release_name_option = click.option(
    "--release-name",
    is_flag=True,
    help="Allow another key to enrol under this name, and retire the present key permanently.",
)
features_option = click.option(
    "--features",
    metavar="FILE",
    type=PATH,
    help="Read features from FILE: .npy with one row per image, in the order given (for a folder, sorted by "
    "path), or HDF5 with the datasets names and features. They are codes, 0 to levels - 1, or real "
    "numbers if the deployment's descriptor quantises them.",
)
model_option = click.option(
    "--model",
    metavar="PATH",
    type=PATH,
    help="Your copy of the deployment's image model, if it uses one: a folder, or the .onnx file in it.",
)
moved_model_option = click.option(
    "--model", metavar="PATH", type=PATH, help="The new path of your copy of the image model; remembered."
)
model_output_option = click.option(
    "--model-output",
    metavar="NAME",
    help="The model's output to use as feature.  [default: image_embeds, pooler_output, sentence_embedding, "
    "last_hidden_state, or the only vector]",
)
model_pooling_option = click.option(
    "--model-pooling",
    type=click.Choice(["cls", "mean"]),
    help="For an output with one row per token: use the first row (cls) or the mean.  [default: cls]",
)
device_option = click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where to run an image model; cuda needs onnxruntime-gpu.",
)
kmc_option = click.option(
    "--kmc",
    metavar="kmc.pub",
    type=PATH,
    required=True,
    help="The deployment's public file, from the KMC.",
)
fingerprint_option = click.option(
    "--fingerprint",
    "fingerprints",
    metavar="HEX",
    multiple=True,
    help="Require this fingerprint of the public files given; repeat it for several files.",
)


def listed_paths(file: BinaryIO | None) -> list[bytes]:
    """Return the paths listed in a file of ``--files-from``, one per line; raises InvalidRequestError.

    Paths are bytes. A byte order mark and CRs, as Windows editors add them, are removed.
    """
    from mipp_cli.errors import InvalidRequestError

    data = b"" if file is None else file.read()
    if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise InvalidRequestError("the list of paths is UTF-16", hint="save it as UTF-8")
    if b"\0" in data:
        raise InvalidRequestError("the list of paths contains NUL bytes", hint="write one path per line")
    lines = data.removeprefix(BOM_UTF8).split(b"\n")
    return [line.removesuffix(b"\r") for line in lines if line.strip()]
