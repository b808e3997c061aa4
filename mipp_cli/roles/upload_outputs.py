"""Where the uploads of a run of `owner encrypt` go."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mipp_cli.containers.atomic import refuse_existing


class UploadOutputs:
    """One place, or with ``split`` as many numbered ones as there are uploads.

    ``published`` are the uploads of the interrupted run that this one goes on with: they stay. Raises
    OutputError if another file is there, unless it is to be replaced by ``force``.
    """

    def __init__(self, output: Path, published: Sequence[Path], *, split: bool, force: bool):
        self._output, self._split, self._force = output, split, force
        self._published = set(published)
        for path in [self._numbered(1), *self._there()] if self._split else [output]:
            if path.absolute() not in self._published:
                refuse_existing(path, force=self._force)

    def paths(self, count: int) -> list[Path]:
        """Return where ``count`` uploads go."""
        if not self._split:
            return [self._output]
        places = (self._numbered(number) for number in range(1, len(self._published) + count + 1))
        return [path for path in places if path.absolute() not in self._published][:count]

    def remove_older(self, written: Sequence[Path]) -> None:
        """Remove the numbered uploads of a longer run that this one replaces."""
        if self._split and self._force:
            for path in self._there():
                if path not in written and path.absolute() not in self._published:
                    path.unlink()

    def _there(self) -> list[Path]:
        pattern = re.compile(re.escape(self._output.stem) + r"-[0-9]{3,}" + re.escape(self._output.suffix))
        folder = self._output.parent
        found = folder.iterdir() if folder.is_dir() else []
        return sorted(path for path in found if pattern.fullmatch(path.name))

    def _numbered(self, number: int) -> Path:
        return self._output.with_name(f"{self._output.stem}-{number:03d}{self._output.suffix}")
