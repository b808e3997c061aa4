"""Where the uploads of a run of `owner encrypt` go."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from mipp_cli.containers.atomic import refuse_existing
from mipp_cli.containers.stored import remove
from mipp_cli.errors import OutputError


class UploadOutputs:
    """One place, or with ``split`` as many numbered ones as there are uploads.

    What is there is replaced if ``may_replace`` says so of it. Raises OutputError if another file is there.
    """

    def __init__(self, output: Path, may_replace: Callable[[Path], bool], *, split: bool, force: bool):
        self._output, self._split, self._may_replace = output, split, may_replace
        for path in [self._numbered(1), *self._there()] if split else [output]:
            goes = may_replace(path)
            if force and not goes and os.path.lexists(path):
                raise OutputError(
                    "is no upload of this owner, and is not replaced",
                    path=path,
                    hint="move it away, or choose another name for the output",
                )
            refuse_existing(path, force=goes)

    def paths(self, count: int) -> list[Path]:
        """Return where ``count`` uploads go."""
        return [self._numbered(place + 1) for place in range(count)] if self._split else [self._output]

    def remove_older(self, written: Sequence[Path]) -> None:
        """Remove the numbered uploads of a longer run that this one replaces; raises OutputError."""
        for path in self._there() if self._split else []:
            if path not in written and self._may_replace(path):
                remove(path)

    def _there(self) -> list[Path]:
        pattern = re.compile(re.escape(self._output.stem) + r"-[0-9]{3,}" + re.escape(self._output.suffix))
        folder = self._output.parent
        found = folder.iterdir() if folder.is_dir() else []
        return sorted(path for path in found if pattern.fullmatch(path.name))

    def _numbered(self, number: int) -> Path:
        return self._output.with_name(f"{self._output.stem}-{number:03d}{self._output.suffix}")
