"""The command that runs all roles at once, as a demonstration."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import chdir
from pathlib import Path

import click

from mipp_cli.cli.messages import say
from mipp_cli.cli.options import PATH, files_argument, output_option, prints_report
from mipp_cli.errors import InvalidRequestError, OutputError
from mipp_cli.files.folders import is_there
from mipp_cli.report import Output, Report
from mipp_cli.sanitize import printable

_OF_ROLES = ("kmc", "cloud", "doctor", "matches")
_NOT_IN_AN_ID = re.compile("[^A-Za-z0-9@+]+")
_LONGEST_ID = 60


@click.command()
@files_argument("IMAGES...")
@click.option(
    "--query",
    "queries",
    metavar="FILE",
    type=PATH,
    multiple=True,
    help="A query picture; may be repeated.  [default: the first of IMAGES]",
)
@output_option("DIR", "everything, including all roles' keys; this folder is created")
@click.option(
    "--scheme",
    type=click.Choice(["exact", "dcr", "mask", "paper"]),
    default="exact",
    show_default=True,
    help="The scheme, as in kmc init.",
)
@click.option(
    "--payload",
    type=click.Choice(["file", "pixels"]),
    help="As in owner encrypt.  [default: pixels if there are DICOM files, else file]",
)
@click.option("--skip-unreadable", is_flag=True, help="Leave out images that cannot be read, with a warning.")
@click.option("--descriptor", metavar="NAME", help="The descriptor, as in kmc init.")
@click.option("--model", metavar="PATH", type=PATH, help="An image model as the descriptor, as in kmc init.")
@prints_report
def demo(
    files: tuple[Path, ...],
    queries: tuple[Path, ...],
    output: Path,
    scheme: str,
    payload: str | None,
    skip_unreadable: bool,
    descriptor: str | None,
    model: Path | None,
) -> Report:
    """Run all roles on your own pictures and write a page of matches.

    Each folder in IMAGES is an owner. Every command is printed as it would be typed. In a real deployment
    each role runs its commands on its own machine.
    """
    from mipp_cli.files.atomic import new_folder

    if os.path.lexists(output):
        raise OutputError("exists", path=output, hint="name a new folder")
    owners = _owners(files)
    for each in queries:
        if not is_there(each):
            raise InvalidRequestError(
                "does not exist", path=each, hint="name an existing picture as the query"
            )
    notes = ["in a real deployment each role has its own machine, and its directory stays there"]
    if payload is None and _has_dicom(files, skip_unreadable=skip_unreadable):
        payload = "pixels"
        notes.append("DICOM files name patients, so only their pixels were encrypted; see --payload")
    encrypt = ["--payload", payload] if payload else []
    encrypt += ["--skip-unreadable"] if skip_unreadable else []
    asked = [str(each.absolute()) for each in queries] or [_first_picture(files)]
    described = ["--descriptor", descriptor] if descriptor else []
    copy = ["--model", str(model.absolute())] if model else []
    with new_folder(output) as building, chdir(building):
        folder = printable(shlex.quote(str(output)))
        say(f"$ mkdir {folder} && cd {folder}")
        for words in _commands(owners, asked, scheme, [*described, *copy], copy, encrypt):
            _run(words)
    page = output / "matches" / "matches.html"
    if len(owners) == 1:
        notes.append("all pictures belong to one owner: name several folders to have several owners")
    if not queries:
        notes.append(
            "the query is one of the pictures, so it finds itself first: choose another with --query"
        )
    notes.append(f"open {page} in a browser")
    return Report((Output(page, "page"),), {"owners": len(owners)}, notes=tuple(notes))


def _commands(
    owners: dict[str, list[str]],
    queries: Sequence[str],
    scheme: str,
    kmc: Sequence[str],
    copy: Sequence[str],
    encrypt: Sequence[str],
) -> Iterator[list[str]]:
    """Yield the words of each command, in order; the caller runs each before it asks for the next."""
    from mipp_cli.containers.messages.public_files import load_deployment

    public = ["--kmc", "kmc/kmc.pub"]
    yield ["kmc", "init", "kmc", "--scheme", scheme, *kmc]
    yield ["cloud", "init", "cloud", *public]
    yield ["user", "init", "doctor", "--id", "doctor", *public, *copy]
    for name in owners:
        yield ["owner", "init", name, "--id", name, *public, "--authorize", "doctor/user.pub", *copy]
    yield ["kmc", "enroll", "kmc", *(f"{name}/enrolment.h5" for name in owners), "cloud/cloud.pub"]
    yield ["cloud", "enroll", "cloud", *(f"{name}/members.h5" for name in owners)]
    ranked_by_kmc = load_deployment(Path("kmc/kmc.pub")).parameters.protocol.grouped
    small = ["--small"] if ranked_by_kmc else []
    for name, images in owners.items():
        yield ["owner", "encrypt", name, *images, "-o", f"{name}.h5", *small, *encrypt]
    yield ["cloud", "index", "cloud", *(f"{name}.h5" for name in owners)]
    if ranked_by_kmc:
        yield ["kmc", "index", "kmc", *(f"{name}.features.h5" for name in owners)]
    yield ["user", "query", "doctor", *queries, "-o", "query.h5"]
    if ranked_by_kmc:
        yield ["kmc", "rank", "kmc", "query.h5", "-o", "selection.h5"]
    search = "selection.h5" if ranked_by_kmc else "query.h5"
    yield ["cloud", "search", "cloud", search, "-o", "results.h5"]
    yield ["kmc", "reencrypt", "kmc", "results.h5", "-o", "reencrypted.h5"]
    yield ["user", "decrypt", "doctor", "reencrypted.h5", "-o", "matches"]


def _run(words: Sequence[str]) -> None:
    """Print a command, and run it in this process."""
    from mipp_cli.cli.main import mipp

    say(click.style(f"$ mipp {printable(shlex.join(words))}", bold=True))
    with mipp.make_context("mipp", [*words]) as context:
        mipp.invoke(context)


def _owners(paths: Sequence[Path]) -> dict[str, list[str]]:
    """Return the images of each owner, by an identifier from the folder's name; loose files share one."""
    owners: dict[str, list[str]] = {}
    for path in paths:
        if not is_there(path):
            raise InvalidRequestError("does not exist", path=path, hint="name folders of pictures")
        name = path.resolve().name if path.is_dir() else "owner"
        identifier = _NOT_IN_AN_ID.sub("-", name).strip("-@+")[:_LONGEST_ID] or "owner"
        if path.is_dir() or identifier in _OF_ROLES:
            identifier = _free(identifier, owners)
        owners.setdefault(identifier, []).append(str(path.absolute()))
    return owners


def _free(identifier: str, taken: dict[str, list[str]]) -> str:
    number, found = 1, identifier
    names = {name.lower() for name in (*taken, *_OF_ROLES)}  # some file systems ignore case
    while found.lower() in names:
        number += 1
        found = f"{identifier}-{number}"
    return found


def _has_dicom(paths: Sequence[Path], *, skip_unreadable: bool) -> bool:
    """Say whether there are DICOM files; raises InvalidRequestError if an extra is missing to read any."""
    from mipp_cli.images.collection import collect_images
    from mipp_cli.images.kinds import DICOM

    kinds = {
        kind
        for path in paths
        for image in collect_images([path], left_out=[] if skip_unreadable else None)
        if (kind := image.kind()) is not None
    }
    for kind in kinds:
        if (missing := kind.missing()) is not None:
            raise InvalidRequestError(f"{kind.name} files need a package that is not installed", hint=missing)
    return DICOM in kinds


def _first_picture(paths: Sequence[Path]) -> str:
    from mipp_cli.images.collection import collect_examples

    return str(collect_examples(paths)[0].path.absolute())
