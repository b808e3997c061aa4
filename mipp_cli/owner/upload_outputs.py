"""Where `owner encrypt` writes its uploads, and which files of earlier runs they may replace."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from os.path import realpath
from pathlib import Path

from mipp_cli.containers.base.container import header_of
from mipp_cli.containers.messages.features import FEATURES
from mipp_cli.errors import InvalidRequestError, MippError, OutputError
from mipp_cli.files.atomic import refuse_existing, remove
from mipp_cli.files.folders import paths_in
from mipp_cli.owner.ledger import UPLOAD
from mipp_cli.owner.owner import Owner
from mipp_cli.owner.whats_new import EncryptOptions


class UploadOutputs:
    """The paths of a run's uploads: ``output``, or with ``split`` numbered paths beside it.

    Where the KMC ranks, each has a features file beside it. A file of this owner is replaced with ``force``,
    or if a killed run left it. Raises OutputError if another file exists.
    """

    def __init__(self, owner: Owner, output: Path, options: EncryptOptions):
        self._owner, self._output, self._options = owner, output, options
        self.in_place = False  # whether the uploads of this run are
        grouped = owner.directory.deployment.parameters.protocol.grouped
        self._parts = ("", ".features") if grouped else ("",)
        if options.report is not None and self._is_output(options.report):
            raise InvalidRequestError(
                "the report would replace an upload", path=options.report, hint="give it another name"
            )
        if output.name in ("", ".."):
            refuse_existing(output, force=True)  # a folder: no names can be made from its name
        for path in [*self.paths(1)[0], *self._there()]:
            goes = self._may_replace(path)
            if options.force and not goes and os.path.lexists(path):
                raise OutputError(
                    "is not an upload of this owner, so it is not replaced",
                    path=path,
                    hint="move it, or choose another output name",
                )
            refuse_existing(path, force=goes)

    def _may_replace(self, path: Path) -> bool:
        """Return whether a file may be replaced; a foreign one only if it is named as the output."""
        force = self._options.force
        if force and path == self._output and self._options.split is None:
            return True
        try:
            header, sender = header_of(path), self._owner.directory.sender
        except MippError:
            return False
        own = header.kind in (UPLOAD, FEATURES.kind) and header.sender_key == sender.signing_key.public
        if not own or force:
            return own
        return self._options.resume is True and header.sequence_number in self._owner.state.unsure

    def paths(self, count: int) -> list[list[Path]]:
        """Return the paths of ``count`` uploads, each followed by that of its features file, if any."""
        split, stem, suffix = self._options.split is not None, self._output.stem, self._output.suffix
        places = [f"-{place + 1:03d}" if split else "" for place in range(count)]
        return [
            [self._output.with_name(f"{stem}{place}{part}{suffix}") for part in self._parts]
            for place in places
        ]

    def remove_older(self, written: Sequence[Sequence[Path]]) -> None:
        """Remove surplus numbered uploads of a longer run that this one replaces; raises OutputError."""
        for path in set(self._there()).difference(*written):
            if self._may_replace(path):
                remove(path)

    def _there(self) -> list[Path]:
        """Return the numbered outputs of an earlier run."""
        folder = self._output.parent
        if self._options.split is None:
            return []
        name = self._pattern("-[0-9]{3,}")
        return [path for path in paths_in(folder) if re.fullmatch(name, path.name)]

    def _is_output(self, path: Path) -> bool:
        """Return whether a path may be an output of some run, numbered or not."""
        is_beside = realpath(path.parent) == realpath(self._output.parent)
        return is_beside and re.fullmatch(self._pattern("(-[0-9]{3,})?"), path.name) is not None

    def _pattern(self, number: str) -> str:
        parts = "|".join(map(re.escape, self._parts))
        return f"{re.escape(self._output.stem)}{number}({parts}){re.escape(self._output.suffix)}"
