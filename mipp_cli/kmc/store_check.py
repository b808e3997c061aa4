"""Checks of the KMC's feature store, which read everything in it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from mipp_cli.errors import MalformedError, MippError
from mipp_cli.kmc.kmc import Kmc
from mipp_cli.kmc.store.index import StoredMessage, StoreIndex
from mipp_cli.kmc.store.store import INDEX_FILE, FeatureStore, is_stored
from mipp_cli.progress import Progress
from mipp_cli.workdir.completeness import (
    AGAIN_AT_KMC,
    Completeness,
    completeness_of,
    details_of,
    notes_of,
)
from mipp_cli.workdir.findings import Findings
from mipp_cli.workdir.floors import floor_of


def check_block(store: FeatureStore, message: StoredMessage, block_number: int) -> None:
    """Check a block against the index and the deployment's parameters; raises MalformedError."""
    path = store.block_path(message, block_number)
    if message.coded:
        codes = store.codes(message, block_number)
        if len(codes) and codes.max() >= store.levels:
            raise MalformedError(f"holds a code that is not below {store.levels}", path=path)
    groups = store.table(message, block_number)["group"].astype(np.int64)
    if not len(groups):
        return
    first, following = message.groups_of(block_number)
    beyond = following is not None and groups[-1] >= following
    if groups[0] < first or beyond or (np.diff(groups) < 0).any():
        raise MalformedError("holds groups that do not belong there", path=path)


def check_deleted(store: FeatureStore, message: StoredMessage) -> None:
    """Check what stays of a deletion; raises MalformedError."""
    names = store.deleted(message)
    rows = [row.tobytes() for row in names]
    if any(low >= high for low, high in pairwise(rows)):
        raise MalformedError("holds digests out of order", path=store.deleted_path(message))


def received(kmc: Kmc, owner: str, index: StoreIndex) -> Completeness:
    """Say how much of what an owner sent has come to the KMC; what a removal took is not missing."""
    removed = floor_of(kmc.directory, owner).removed
    return completeness_of(index.rows_by_number(), index.lists(), removed)


def check_stores(findings: Findings, kmc: Kmc, progress: Progress) -> tuple[list[Path], bool]:
    """Check the features of every enrolled owner; return the files, and whether one of them is damaged."""
    found: dict[str, Completeness] = {}
    stored: list[Path] = []
    before = len(findings.problems)
    for name in kmc.owner_names():
        folder = kmc.features_folder(name)
        if folder.is_dir():
            stored += [path for path in folder.iterdir() if is_stored(path)]
        try:
            owner = kmc.owner(name)
        except MippError:
            continue  # of which there is a problem already
        if owner is not None and folder.is_dir():
            with findings.of(folder / INDEX_FILE, "stores"):
                store = FeatureStore.of(kmc, owner)
                index = store.index()
                found[name] = received(kmc, name, index)
                _check_store(findings, store, index, progress)
    for name, each in found.items():
        findings.warnings += each.warnings(name, AGAIN_AT_KMC)
    if found:
        findings.notes += notes_of(found)
        findings.details |= details_of(found)
    return stored, len(findings.problems) > before


def _check_store(findings: Findings, store: FeatureStore, index: StoreIndex, progress: Progress) -> None:
    with progress(f"checking features of {store.owner}", index.rows, "image") as advance:
        for message in index.messages:
            for block_number, block in enumerate(message.blocks):
                if block.rows:
                    with findings.of(store.block_path(message, block_number), "blocks"):
                        check_block(store, message, block_number)
                advance(block.rows)
            if message.deleted:
                with findings.of(store.deleted_path(message), "deletions"):
                    check_deleted(store, message)
    findings.counts["images"] += index.rows
    left = store.unlisted(index)
    if left:
        findings.warnings.append(
            f"{len(left)} files that no index lists, such as {left[0]}: the next `mipp kmc index` for this "
            "owner removes them"
        )
