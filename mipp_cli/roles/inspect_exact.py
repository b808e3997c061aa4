"""What the containers of scheme `exact` hold, for whoever looks: places and sizes, never a feature."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mipp_cli.containers.candidates import open_candidates
from mipp_cli.containers.container import Container, open_container
from mipp_cli.containers.feature_columns import FeatureReader
from mipp_cli.containers.header import Header
from mipp_cli.containers.manifest import MANIFEST
from mipp_cli.containers.selection import read_selection
from mipp_cli.roles.inspected import Fields, Found, Row, Table


def feature_fields(container: Container) -> Fields:
    """Describe the features of an upload or a deletion."""
    sizes = FeatureReader(container).sizes()
    return [
        ("chunks of features", str(len(sizes))),
        ("bytes of features", f"{sum(sizes)}, for the KMC alone"),
        ("manifest", f"{len(container.matrix('manifest'))} bytes: the live chunks after this message"),
    ]


def inspect_manifest(path: Path) -> Found:
    """Describe a `manifest`; its table has the live chunks."""
    with open_container(path, MANIFEST) as container:
        container.same_length(*MANIFEST.columns)
        columns = [container.matrix(name).all().tolist() for name in MANIFEST.columns]
    fields: Fields = [("chunks", str(len(columns[0]))), ("images", str(sum(columns[-1])))]

    def rows() -> Iterable[Row]:
        for upload, number, version, key, count in zip(*columns, strict=True):
            yield upload, number, version, f"{key:016x}", count

    return fields, Table(("upload", "chunk", "version", "image_key", "images"), rows)


def inspect_candidates(path: Path, header: Header) -> Found:
    """Describe `candidates`; the table has the owners."""
    reader = open_candidates(path, header.deployment)
    with reader.container:
        manifests = [(owner, len(manifest)) for owner, manifest in reader.manifests()]
        fields: Fields = [
            ("query", f"{len(reader.query_octets)} bytes, as the user sent it"),
            ("owners", ", ".join(reader.owners) or "none"),
            ("chunks of features", str(len(reader))),
            ("bytes of features", f"{reader.container.ragged('chunks').total_bytes}, for the KMC alone"),
        ]
    return fields, Table(("owner", "manifest_bytes"), lambda: manifests)


def inspect_selection(path: Path, header: Header) -> Found:
    """Describe a `selection`; the table has the places of its images."""
    selection = read_selection(path, header.deployment)
    fields: Fields = [
        ("query", f"{len(selection.query_octets)} bytes, as the user sent it"),
        ("images", f"{len(selection.images)}, matches and decoys alike"),
        ("owners", ", ".join(sorted({image.owner for image in selection.images})) or "none"),
    ]

    def rows() -> Iterable[Row]:
        for image in selection.images:
            yield image.owner, image.chunk.upload, image.chunk.number, image.version, image.row

    return fields, Table(("owner", "upload", "chunk", "version", "row"), rows)
