"""What a cloud's index holds, for whoever looks: all that the cloud knows of the features."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mipp_cli.cloud.completeness import completeness
from mipp_cli.cloud.store import Store
from mipp_cli.containers.base.header import Header
from mipp_cli.containers.messages.public_files import load_deployment
from mipp_cli.containers.store.index import Index, read_index
from mipp_cli.errors import InvalidRequestError
from mipp_cli.inspection.findings import Fields, Found, Row, Table
from mipp_cli.workdir.completeness import listed
from mipp_cli.workdir.directory import KMC_FILE


def inspect_index(path: Path, header: Header) -> Found:
    """Describe CLOUD/index.h5; its table has the sums of every image, in schemes where the cloud has some."""
    index, store = read_index(path, header.deployment), _store_beside(path)
    fields: Fields = [
        ("segments", str(len(index.segments))),
        ("parts", str(len(index.parts))),
        ("images", str(sum(segment.rows for segment in index.segments))),
    ]
    for owner in index.owners():
        segments = [segment for segment in index.of_owner(owner) if segment.rows]
        found = f"{sum(s.rows for s in segments)} images in {len(segments)} uploads"
        if store is not None:
            found += f"; {completeness(store, index, owner)}"
        elif gaps := completeness(None, index, owner).gaps:
            found += f"; missing: {listed(gaps)}"
        fields.append((f"sent by {owner}", found))

    def rows() -> Iterator[Row]:
        if store is None:
            raise InvalidRequestError(
                "is not in its cloud's directory", path=path, hint="inspect it where it lies: CLOUD/index.h5"
            )
        yield from _sums(store, index, len(columns))

    columns: tuple[str, ...] = ("owner", "image_id", "sum1", "sum2")
    if store is not None and not store.parameters.protocol.upload_columns:
        columns = columns[:2]
    return fields, Table(columns, rows)


def _store_beside(path: Path) -> Store | None:
    """Return the store of an index, if it lies in its cloud's directory."""
    kmc = path.absolute().parent / KMC_FILE
    if not kmc.exists():
        return None
    deployment = load_deployment(kmc)
    return Store(kmc.parent, deployment.parameters, deployment.fingerprint)


def _sums(store: Store, index: Index, columns: int) -> Iterator[Row]:
    for part in index.parts:
        for name, sum1, sum2 in store.table(index, part):
            yield (index.owner_of(part), name, sum1, sum2)[:columns]
