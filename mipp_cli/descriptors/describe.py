"""Features in the clear, for whoever wants to see what the scheme compares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mipp_cli.descriptors.edge_histogram import edge_histogram, is_edgeless
from mipp_cli.errors import errors_at
from mipp_cli.images.collection import ImageFile
from mipp_cli.images.pictures import open_picture
from mipp_cli.report import Report


def describe_images(images: Sequence[ImageFile], *, grey_bits: int) -> tuple[Report, list[dict[str, Any]]]:
    """Return path, the 80 codes, and whether there are no edges, of images; raises UnreadableImageError."""
    found = []
    for image in images:
        with errors_at(image.path):
            codes = edge_histogram(open_picture(image.read(), path=str(image.path)), grey_bits=grey_bits)
        found.append({"path": str(image.path), "codes": codes.tolist(), "edgeless": is_edgeless(codes)})
    warnings = tuple(f"{each['path']} has no edges" for each in found if each["edgeless"])
    counts = {"images": len(found), "edgeless": len(warnings)}
    return Report((), counts, warnings, details={"descriptions": found}), found
