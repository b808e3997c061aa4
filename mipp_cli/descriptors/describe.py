"""Plaintext features, for `mipp features`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mipp_cli.descriptors.describer import Describer, codes_of
from mipp_cli.descriptors.edge_histogram import is_edgeless
from mipp_cli.errors import errors_at
from mipp_cli.images.collection import ImageFile
from mipp_cli.images.pictures import open_picture
from mipp_cli.names import name_of
from mipp_cli.report import Report


def describe_images(images: Sequence[ImageFile], describer: Describer) -> tuple[Report, list[dict[str, Any]]]:
    """Return path and codes of images, and whether they have no edges; raises UnreadableImageError."""
    found = []
    for image in images:
        with errors_at(image.path):
            codes = codes_of(describer, open_picture(image.read(), path=str(image.path)).eight_bits())
        edgeless = is_edgeless(describer.descriptor, codes)
        found.append({"path": name_of(image.path), "codes": codes.tolist(), "edgeless": edgeless})
    warnings = tuple(f"{each['path']} has no edges" for each in found if each["edgeless"])
    counts = {"images": len(found), "edgeless": len(warnings)}
    return Report((), counts, warnings, details={"descriptions": found}), found
