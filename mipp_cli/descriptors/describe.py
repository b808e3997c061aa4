"""Features in the clear, for whoever wants to see what the scheme compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mipp_cli.descriptors.edge_histogram import edge_histogram, is_edgeless
from mipp_cli.errors import errors_at
from mipp_cli.images.collection import ImageFile
from mipp_cli.images.pictures import open_picture
from mipp_cli.report import Report


@dataclass(frozen=True)
class Description:
    """The 80 codes of an image, and whether it has no edges at all."""

    path: str
    codes: list[int]
    edgeless: bool


def describe_images(images: Sequence[ImageFile], *, grey_bits: int) -> tuple[Report, list[Description]]:
    """Describe images by their edge histograms; raises UnreadableImageError."""
    descriptions = []
    for image in images:
        with errors_at(image.path):
            picture = open_picture(image.read(), path=str(image.path))
            codes = edge_histogram(picture, grey_bits=grey_bits)
        descriptions.append(Description(str(image.path), codes.tolist(), is_edgeless(codes)))
    edgeless = [each.path for each in descriptions if each.edgeless]
    warnings = tuple(f"{path} has no edges" for path in edgeless)
    return Report((), {"images": len(descriptions), "edgeless": len(edgeless)}, warnings), descriptions
