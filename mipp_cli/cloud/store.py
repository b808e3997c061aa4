"""The cloud's segments and parts, opened so that every block read is verified."""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mipp_cli.containers.base.container import Container, Schema, read_header
from mipp_cli.containers.base.source import FileSource
from mipp_cli.containers.base.stored import blocks_path, open_stored
from mipp_cli.containers.messages.upload import UploadReader, upload_schema
from mipp_cli.containers.store.index import Index, Part, Segment
from mipp_cli.containers.store.part import PART, PartReader, read_part
from mipp_cli.containers.store.segment import segment_schema
from mipp_cli.errors import errors_at
from mipp_cli.files.atomic import remove_all, try_all
from mipp_cli.files.folders import paths_in
from mipp_cli.scheme.parameters import Parameters

SEGMENTS_FOLDER = "segments"
PARTS_FOLDER = "parts"


@dataclass(frozen=True)
class Store:
    """The files below CLOUD that index.h5 lists."""

    folder: Path
    parameters: Parameters
    deployment: str

    def segment_path(self, segment: Segment) -> Path:
        """Return the path of a segment."""
        return self.segments_folder / segment.file_name

    def part_path(self, part: Part) -> Path:
        """Return the path of a part."""
        return self.parts_folder / part.file_name

    @property
    def segments_folder(self) -> Path:
        """The folder of segments."""
        return self.folder / SEGMENTS_FOLDER

    @property
    def parts_folder(self) -> Path:
        """The folder of parts."""
        return self.folder / PARTS_FOLDER

    @contextmanager
    def segment(self, segment: Segment, *, verified: bool = False) -> Iterator[UploadReader]:
        """Open a segment; errors name its file. With ``verified``, its blocks are not verified again."""
        schema = (segment_schema if segment.revision else upload_schema)(self.parameters)
        root = None if verified else segment.root
        with self._opened(self.segment_path(segment), root, schema) as container:
            yield UploadReader(container, self.parameters)

    @contextmanager
    def part(self, part: Part) -> Iterator[PartReader]:
        """Open a part; errors name its file."""
        with self._opened(self.part_path(part), part.root, PART) as container:
            yield read_part(container)

    @contextmanager
    def _opened(self, path: Path, root: bytes | None, schema: Schema) -> Iterator[Container]:
        with errors_at(path):
            source = FileSource(path) if root is None else open_stored(path, root)
            try:
                header = read_header(source, kind=schema.kind, deployment=self.deployment)
                container = Container(source, header, schema)
            except BaseException:
                source.close()
                raise
            with container:
                yield container

    def table(self, index: Index, part: Part) -> Iterator[tuple[str, int, int]]:
        """Yield (name, Σx, Σx²) of every image of a part, sorted by the sums: Table 2."""
        names: list[str] = []
        for place in part.segments:
            with self.segment(index.segments[place]) as upload:
                names += upload.names()
        with self.part(part) as reader:
            for rows in reader.batches():
                index.located(part, rows.images)  # raises if the part refers to images that do not exist
                sums = (column.tolist() for column in np.divmod(rows.pairs, 1 << 32))
                yield from zip((names[image] for image in rows.images.tolist()), *sums, strict=True)

    def remove_unlisted(self, index: Index) -> None:
        """Remove files that the index does not list: merged, replaced, deleted or left by an interruption.

        Raises OutputError if one cannot be removed, or a folder cannot be listed, which does no harm; the
        others are removed.
        """
        try_all(partial(self._remove_unlisted_in, folder, self.listed(index)) for folder in self.folders)

    @staticmethod
    def _remove_unlisted_in(folder: Path, listed: Set[Path]) -> None:
        remove_all(path for path in paths_in(folder) if path not in listed)

    def unlisted(self, index: Index) -> list[Path]:
        """Return the files of the store that the index does not list; raises OutputError."""
        listed = self.listed(index)
        return [path for folder in self.folders for path in paths_in(folder) if path not in listed]

    def listed(self, index: Index) -> set[Path]:
        """Return the files that the index lists, whether they are there or not."""
        listed = {*map(self.segment_path, index.segments), *map(self.part_path, index.parts)}
        return listed | {blocks_path(path) for path in listed}

    @property
    def folders(self) -> tuple[Path, Path]:
        """The folders of the store."""
        return self.segments_folder, self.parts_folder
