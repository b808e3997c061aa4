"""The report of a step: outputs, counts and warnings; and text in columns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Output:
    """A file or folder that a step wrote, and its kind (the container's kind, or a description)."""

    path: Path
    kind: str


@dataclass(frozen=True)
class Report:
    """The outcome of a successful step; ``details`` are for JSON only, ``lines`` are printed first."""

    outputs: tuple[Output, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    details: Mapping[str, object] = field(default_factory=dict)
    lines: Iterable[str] = ()


class Streamed(list[object]):
    """A list in a report's ``details`` that is generated while it is printed, never whole in memory."""

    def __init__(self, count: int, make: Callable[[], Iterable[object]]):
        super().__init__()
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[object]:
        return iter(self._make())


def in_columns(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Format rows of equal length as lines of text in columns; those in ``right`` are right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
