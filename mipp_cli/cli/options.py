"""Options that several commands share, and the decorator that prints what a command returns."""

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


# Types of options: what they raise is said of the option whose value it is.


def _size(value: str) -> int:
    """Return a number of bytes: 500000, 500kB, 500MB, 4GB."""
    match = re.fullmatch(r"([1-9][0-9]*) *([KMGT]?)B?", value.upper())
    if match is None:
        raise click.BadParameter(f"{value!r} is not a size; write 500MB or 4GB")
    return int(match[1]) * {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}[match[2]]


def _key_id(value: str) -> int:
    """Return the id of an image key, as `mipp inspect` shows it."""
    if re.fullmatch(r"[0-9a-f]{16}", value) is None:
        raise click.BadParameter(f"{value!r} is not the id of a key; it has 16 digits in lower-case hex")
    return int(value, 16)


def _number(value: str | int, where: str = "") -> int:
    """Return the number of a message, as `mipp cloud index` and `mipp inspect` show it, or a default."""
    if isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,18}", value, flags=re.ASCII) is None:
        what = f"{value!r} is not the number of a message, which has up to 19 digits"
        raise click.BadParameter(f"{what}{where}")
    return int(value)


def _applied(value: str) -> int:
    return 0 if value == "0" else _number(value)


def _again(value: str | int) -> int:
    return _number(value, "; to send all again, put --again behind IMAGES")


SIZE, KEY_ID, NUMBER, APPLIED, AGAIN = _size, _key_id, _number, _applied, _again


def prints_report(function: Callable[..., Report]) -> Callable[..., None]:
    """Give a command ``--json`` and ``-v``, and print the report that it returns."""

    @verbose_option
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")
    @functools.wraps(function)
    def run(*args: Any, as_json: bool, **kwargs: Any) -> None:
        started = time.perf_counter()
        report = function(*args, **kwargs)
        report = replace(report, warnings=(*report.warnings, *passphrase_warnings()))
        command = click.get_current_context().command_path.partition(" ")[2]
        report_success(command, report, as_json=as_json, seconds=time.perf_counter() - started)

    return run


def refuse_with_json(option: str) -> None:
    """Refuse an option that prints in a form of its own beside ``--json``."""
    if click.get_current_context().params.get("as_json"):
        raise click.UsageError(f"{option} and --json cannot go together")


def together(*options: Decorator) -> Decorator:
    """Give a command several options, which its help lists in this order."""
    return lambda function: functools.reduce(lambda made, option: option(made), reversed(options), function)


def bundled(name: str, make: Callable[..., object], *options: Decorator) -> Decorator:
    """Give a command options, and in their place one argument: what ``make`` makes of their values."""
    names = [*inspect.signature(make).parameters]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            values = {each: kwargs.pop(each) for each in names}
            return function(*args, **kwargs, **{name: make(**values)})

        return together(*options)(run)

    return decorate


def directory_argument(name: str) -> Decorator:
    """The role's directory, which stands first, and where its passphrase comes from."""
    return lambda function: click.argument("directory", metavar=name, type=PATH)(passphrase_option(function))


def new_directory_argument(name: str) -> Decorator:
    """The directory that a role's `init` makes, and whether it is protected."""
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
        raise click.UsageError("--jobs and --scheduler cannot go together")
    return Parallelism(jobs, scheduler)


parallelism_options = bundled(
    "parallelism",
    _parallelism,
    click.option(
        "-j",
        "--jobs",
        metavar="N",
        type=click.IntRange(min=1),
        help="Processes to use.  [default: one for each processor]",
    ),
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Work on a Dask cluster instead: tls://HOST:PORT, or tcp:// on this machine.",
    ),
)
files_from_option = click.option(
    "--files-from",
    metavar="FILE",
    type=click.File("rb"),
    help="Read paths of images from FILE, one a line; - is standard input.",
)
force_option = click.option(
    "--force", is_flag=True, help="Replace the output if it exists; never a device or a pipe."
)
owner_argument = click.argument("owner", metavar="OID")
release_name_option = click.option(
    "--release-name",
    is_flag=True,
    help="Let another key enrol under the name, and retire the key that bore it for good.",
)
features_option = click.option(
    "--features",
    metavar="FILE",
    type=PATH,
    help="Take features from FILE: .npy, a row an image in the order in which the images are named (of a "
    "folder, sorted by path), or HDF5 with the datasets names (what the images are called) and features. "
    "They are codes, 0 to levels - 1, unless the deployment's descriptor says how real numbers become codes.",
)
model_option = click.option(
    "--model",
    metavar="PATH",
    type=PATH,
    help="Your copy of the deployment's image model, if it has one: a folder, or the .onnx file in it.",
)
moved_model_option = click.option(
    "--model", metavar="PATH", type=PATH, help="Where your copy of the image model is now; remembered."
)
model_output_option = click.option(
    "--model-output",
    metavar="NAME",
    help="Which output is the feature.  [default: image_embeds, pooler_output, sentence_embedding, "
    "last_hidden_state, or the only vector]",
)
model_pooling_option = click.option(
    "--model-pooling",
    type=click.Choice(["cls", "mean"]),
    help="Of an output with a row a token: take the first row (cls), or the mean of all.  [default: cls]",
)
device_option = click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="What runs an image model; cuda needs the extra model-gpu.",
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
    help="Demand this fingerprint of the public files given; again for each of several.",
)


def listed_paths(file: BinaryIO | None) -> list[bytes]:
    """Return the paths that a file of ``--files-from`` lists, one a line; raises InvalidRequestError.

    They are bytes, as paths are. What editors of Windows add, a byte order mark and CR, is none of them.
    """
    from mipp_cli.errors import InvalidRequestError

    data = b"" if file is None else file.read()
    if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise InvalidRequestError("the list of paths is UTF-16", hint="save it as UTF-8")
    if b"\0" in data:
        raise InvalidRequestError("the list of paths holds NUL bytes", hint="write one path a line")
    lines = data.removeprefix(BOM_UTF8).split(b"\n")
    return [line.removesuffix(b"\r") for line in lines if line.strip()]
