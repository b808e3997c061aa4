"""What a step gives back to whoever asked for it: outputs, counts and warnings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Output:
    """A file or folder that a step wrote, and its kind (of container, or what it holds)."""

    path: Path
    kind: str


@dataclass(frozen=True)
class Report:
    """The outcome of a step that succeeded; ``details`` are for scripts."""

    outputs: tuple[Output, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    details: Mapping[str, object] = field(default_factory=dict)
