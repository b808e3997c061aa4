"""Options that several commands share, and the decorator that prints what a command returns."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mipp_cli.cli.messages import report_success
from mipp_cli.cli.passphrases import new_passphrase_options, passphrase_option, passphrase_warnings

if TYPE_CHECKING:
    from mipp_cli.report import Report

Function = TypeVar("Function", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)


class _Size(click.ParamType[int]):
    """A number of bytes: 500000, 500kB, 500MB, 4GB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes that ``value`` names."""
        units = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
        match = re.fullmatch(r"([1-9][0-9]*) *([KMGT]?B?)", str(value).upper())
        unit = match[2].removesuffix("B") if match else ""
        if match is None:
            self.fail(f"{value!r} is not a size; write 500MB or 4GB", param, ctx)
        return int(match[1]) * units[f"{unit}B" if unit else ""]


class _KeyId(click.ParamType[int]):
    """The id of an image key, as `mipp inspect` shows it."""

    name = "key id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the id as a number."""
        if isinstance(value, int):
            return value
        if re.fullmatch(r"[0-9a-f]{16}", str(value)) is None:
            self.fail(f"{value!r} is not the id of a key; it has 16 digits in lower-case hex", param, ctx)
        return int(value, 16)


class _Number(click.ParamType[int]):
    """The number of a message, as `mipp cloud index` and `mipp inspect` show it."""

    name = "number"

    def __init__(self, where: str = "", *, least: int = 1) -> None:
        self._where, self._least = where, least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"0|[1-9][0-9]{0,18}", str(value), flags=re.ASCII)
        if found is None or int(value) < self._least:
            self.fail(
                f"{value!r} is not the number of a message, which has up to 19 digits{self._where}",
                param,
                ctx,
            )
        return int(value)


SIZE, KEY_ID, NUMBER = _Size(), _KeyId(), _Number()
APPLIED = _Number(least=0)
AGAIN = _Number("; to send all again, put --again behind IMAGES")


@dataclass(frozen=True)
class CommandResult:
    """A report with more to it: fields for ``--json``, and lines for people."""

    report: Report
    details: dict[str, Any] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


def prints_report(function: Callable[..., Report | CommandResult]) -> Callable[..., None]:
    """Give a command ``--json``, and print the report that it returns."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")
    @functools.wraps(function)
    def run(*args: Any, as_json: bool, **kwargs: Any) -> None:
        started = time.perf_counter()
        result = function(*args, **kwargs)
        spoken = result if isinstance(result, CommandResult) else CommandResult(result)
        warnings = (*spoken.report.warnings, *passphrase_warnings())
        command = click.get_current_context().command_path
        report_success(
            command.partition(" ")[2],
            replace(spoken.report, warnings=warnings),
            as_json=as_json,
            seconds=time.perf_counter() - started,
            details=spoken.details,
            lines=spoken.lines,
        )

    return run


def refuse_with_json(option: str) -> None:
    """Refuse an option that prints in a form of its own beside ``--json``."""
    if click.get_current_context().params.get("as_json"):
        raise click.UsageError(f"{option} and --json cannot go together")


def directory_argument(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The role's directory, which stands first, and where its passphrase comes from."""
    return lambda function: click.argument("directory", metavar=name, type=PATH)(passphrase_option(function))


def new_directory_argument(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
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


def force_option(function: Function) -> Function:
    """``--force``: replace the output."""
    return click.option(
        "--force", is_flag=True, help="Replace the output if it exists; never a device or a pipe."
    )(function)


def owner_argument(function: Function) -> Function:
    """The owner whose membership ends."""
    return click.argument("owner", metavar="OID")(function)


def release_name_option(function: Function) -> Function:
    """``--release-name``: let another key have the name."""
    return click.option(
        "--release-name",
        is_flag=True,
        help="Let another key enrol under the name, and retire the key that bore it for good.",
    )(function)


def parallelism_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--jobs`` and ``--scheduler``: where work is done."""

    @click.option(
        "-j",
        "--jobs",
        metavar="N",
        type=click.IntRange(min=1),
        help="Processes to use.  [default: one for each processor]",
    )
    @click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Work on a Dask cluster instead: tls://HOST:PORT, or tcp:// on this machine.",
    )
    @functools.wraps(function)
    def run(*args: Any, jobs: int | None, scheduler: str | None, **kwargs: Any) -> Any:
        from mipp_cli.compute.processes import Parallelism

        if jobs is not None and scheduler is not None:
            raise click.UsageError("--jobs and --scheduler cannot go together")
        return function(*args, parallelism=Parallelism(jobs, scheduler), **kwargs)

    return run


def features_option(function: Function) -> Function:
    """``--features``: a file of features to take in the place of edge histograms."""
    return click.option(
        "--features",
        metavar="FILE",
        type=PATH,
        help="Take features from FILE: .npy, a row an image in the order in which the images are named (of a "
        "folder, sorted by path), or HDF5 with the datasets names (what the images are called) and features. "
        "Whole numbers are codes, 0 to levels - 1; floats from 0 to 1 are quantised, as floor(v * levels).",
    )(function)


def kmc_option(function: Function) -> Function:
    """``--kmc``: the deployment's public file."""
    return click.option(
        "--kmc",
        metavar="kmc.pub",
        type=PATH,
        required=True,
        help="The deployment's public file, from the KMC.",
    )(function)


def fingerprint_option(function: Function) -> Function:
    """``--fingerprint``: demand that public files are the right ones."""
    return click.option(
        "--fingerprint",
        "fingerprints",
        metavar="HEX",
        multiple=True,
        help="Demand this fingerprint of the public files given; again for each of several.",
    )(function)
