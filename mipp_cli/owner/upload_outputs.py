"""Where the uploads of a run of `owner encrypt` go."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from mipp_cli.errors import OutputError
from mipp_cli.files.atomic import refuse_existing, remove


class UploadOutput(NamedTuple):
    """Where an upload goes, and the features file beside it, in a scheme that has one."""

    upload: Path
    features: Path | None

    @property
    def paths(self) -> list[Path]:
        """All of its files."""
        return [self.upload] if self.features is None else [self.upload, self.features]


class UploadOutputs:
    """One place, or with ``split`` as many numbered ones as there are uploads.

    With ``features`` a second file lies beside each. What is there is replaced if ``may_replace`` says so of
    it. Raises OutputError if another file is there.
    """

    def __init__(
        self,
        output: Path,
        may_replace: Callable[[Path], bool],
        *,
        split: bool,
        force: bool,
        features: bool,
    ):
        self._output, self._split, self._may_replace = output, split, may_replace
        self._features = features
        for path in [*self._place(1).paths, *self._there()] if split else self._beside(output).paths:
            goes = may_replace(path)
            if force and not goes and os.path.lexists(path):
                raise OutputError(
                    "is no upload of this owner, and is not replaced",
                    path=path,
                    hint="move it away, or choose another name for the output",
                )
            refuse_existing(path, force=goes)

    def paths(self, count: int) -> list[UploadOutput]:
        """Return where ``count`` uploads go."""
        if not self._split:
            return [self._beside(self._output)]
        return [self._place(place + 1) for place in range(count)]

    def remove_older(self, written: Sequence[UploadOutput]) -> None:
        """Remove the numbered uploads of a longer run that this one replaces; raises OutputError."""
        kept = {path for output in written for path in output.paths}
        for path in self._there() if self._split else []:
            if path not in kept and self._may_replace(path):
                remove(path)

    def _there(self) -> list[Path]:
        stem, suffix = re.escape(self._output.stem), re.escape(self._output.suffix)
        middle = r"(\.features)?" if self._features else ""
        pattern = re.compile(stem + r"-[0-9]{3,}" + middle + suffix)
        folder = self._output.parent
        found = folder.iterdir() if folder.is_dir() else []
        return sorted(path for path in found if pattern.fullmatch(path.name))

    def _place(self, number: int) -> UploadOutput:
        return self._beside(self._output.with_name(f"{self._output.stem}-{number:03d}{self._output.suffix}"))

    def _beside(self, upload: Path) -> UploadOutput:
        features = upload.with_name(f"{upload.stem}.features{upload.suffix}") if self._features else None
        return UploadOutput(upload, features)
