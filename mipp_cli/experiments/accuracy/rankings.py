"""Your own method: answers read from a CSV file with the columns query,rank,image."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mipp_cli.errors import InvalidRequestError, MalformedError
from mipp_cli.experiments.base.dataset import DataSet
from mipp_cli.experiments.base.methods import Method, Order, without
from mipp_cli.names import composed, name_of
from mipp_cli.sanitize import printable, table_cell

COLUMNS = ("query", "rank", "image")
_FORM_HINT = (
    "the first line must be query,rank,image; images are named by their path in the data set's folder"
)


def read_rankings(path: Path, dataset: DataSet, queries: NDArray[np.int64]) -> Method:
    """Read the answers to ``queries`` as a method named after its file.

    The file may contain further queries, and the query in its own answer. Images are given by name, or as
    printed in queries.csv, where names that could be a formula or control a terminal are escaped.

    Raises InvalidRequestError if an answer is missing, MalformedError for an invalid ranking: unknown images,
    ranks that are not integers, a rank or an image twice in one answer.
    """
    position: dict[str, int] = {}
    for form in (composed, table_cell, str):  # the last is the name itself, which goes before the others
        position |= {form(name): number for number, name in enumerate(dataset.names)}
    answers: dict[int, dict[int, int]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            if not set(COLUMNS) <= set(table.fieldnames or ()):
                raise MalformedError("lacks the columns query, rank and image", path=path, hint=_FORM_HINT)
            for row in table:
                _add(answers, row, position, f"line {table.line_num}", path)
    except OSError as error:
        raise InvalidRequestError(
            f"the rankings cannot be read: {error.strerror}",
            path=path,
            hint="check the path and its permissions",
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise MalformedError("is not a CSV file in UTF-8", path=path, hint=_FORM_HINT) from error
    missing = [query for query in queries.tolist() if query not in answers]
    if missing:
        raise InvalidRequestError(
            f"has no answer to {len(missing)} of {len(queries)} queries, the first "
            f"{dataset.names[missing[0]]}",
            path=path,
            hint="run without --rankings first: queries.csv then lists the queries of this seed",
        )
    orders = {query: _order(query, ranks, path) for query, ranks in answers.items()}
    about, name = f"answers read from {name_of(path.name)}.", name_of(path.stem)
    return Method(name, name, orders.__getitem__, about)


def _add(
    answers: dict[int, dict[int, int]],
    row: Mapping[str, str | None],
    position: Mapping[str, int],
    where: str,
    path: Path,
) -> None:
    query, rank, image = (row[column] or "" for column in COLUMNS)
    query, image = (each if each in position else composed(each) for each in (query, image))
    for name in (query, image):
        if name not in position:
            raise MalformedError(
                f"{where} names an image that the data set does not have: {printable(name)!r}",
                path=path,
                hint=_FORM_HINT,
            )
    if not rank.isdecimal():
        raise MalformedError(f"{where} has a rank that is not an integer", path=path, hint=_FORM_HINT)
    answer = answers.setdefault(position[query], {})
    if int(rank) in answer:
        raise MalformedError(f"{where} repeats a rank", path=path, hint="write one line per image")
    answer[int(rank)] = position[image]


def _order(query: int, ranks: Mapping[int, int], path: Path) -> Order:
    images = [ranks[rank] for rank in sorted(ranks)]
    if len(set(images)) != len(images):
        raise MalformedError("has an image twice in one answer", path=path, hint="write one line per image")
    return without(query, np.array(images, dtype=np.int64))
