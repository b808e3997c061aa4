"""What published image processors do to a picture, slowly and from their documentation; pictures to try."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mipp_cli.descriptors.preprocessing import preprocessed, read_preprocessing, sample_values
from tests.support.deployment import picture

Plane = list[list[float]]


def seen_by_the_model(image: Image.Image, config: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return what the package gives a model for a picture, shape (3, height, width)."""
    preprocessing = read_preprocessing(json.dumps(config).encode())
    pixels = preprocessed(image, preprocessing)
    values = sample_values(preprocessing)
    planes = [values[channel][pixels[:, :, channel]] for channel in range(3)]
    return np.array(planes, dtype=np.float64)


def slowly(rgb: Image.Image, config: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return the same of an upright RGB picture by a stated ``config`` that is complete."""
    size = config["size"]
    if config.get("do_resize", True):
        if "shortest_edge" in size:
            short, long = min(rgb.size), max(rgb.size)
            longer = int(size["shortest_edge"] * long / short)
            width, height = (
                (size["shortest_edge"], longer)
                if rgb.width <= rgb.height
                else (longer, size["shortest_edge"])
            )
        else:
            width, height = size["width"], size["height"]
        rgb = rgb.resize((width, height), Image.Resampling(config["resample"]))
    rows = [[rgb.getpixel((x, y)) for x in range(rgb.width)] for y in range(rgb.height)]
    if config.get("do_center_crop", False):
        rows = _cut(rows, config["crop_size"]["height"], config["crop_size"]["width"])
    scale = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1
    normal = config.get("do_normalize", True)
    planes = []
    for channel in range(3):
        mean = config["image_mean"][channel] if normal else 0
        std = config["image_std"][channel] if normal else 1
        planes.append([[(pixel[channel] * scale - mean) / std for pixel in row] for row in rows])
    return np.array(planes, dtype=np.float64)


def _cut(rows: list[list[Any]], height: int, width: int) -> list[list[Any]]:
    """Return the middle of an image; what is outside is black, and odd borders are thicker above and left."""
    top, left = (len(rows) - height) // 2, (len(rows[0]) - width) // 2
    return [
        [
            rows[y][x] if 0 <= y < len(rows) and 0 <= x < len(rows[0]) else (0, 0, 0)
            for x in range(left, left + width)
        ]
        for y in range(top, top + height)
    ]


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Return a picture stored as its EXIF ``orientation`` says, which looks like ``image`` when upright."""
    stored = {
        1: (),
        2: (Image.Transpose.FLIP_LEFT_RIGHT,),
        3: (Image.Transpose.ROTATE_180,),
        4: (Image.Transpose.FLIP_TOP_BOTTOM,),
        5: (Image.Transpose.TRANSPOSE,),
        6: (Image.Transpose.ROTATE_90,),
        7: (Image.Transpose.TRANSVERSE,),
        8: (Image.Transpose.ROTATE_270,),
    }[orientation]
    for each in stored:
        image = image.transpose(each)
    image = image.copy()
    image.getexif()[0x0112] = orientation
    return image


PICTURES = {
    "wide": picture(1, (61, 17)),
    "tall": picture(2, (13, 50)),
    "square": picture(3, (33, 33)),
    "of one pixel": picture(4, (1, 1)),
    "of one row": picture(5, (40, 1)),
    "of one column": picture(6, (1, 40)),
    "as large as is wanted": picture(7, (24, 24)),
    "grey": picture(8, (40, 30), "L"),
    "black and white": picture(9, (40, 30), "1"),
    "grey with alpha": picture(10, (40, 30), "LA"),
    "with alpha": picture(11, (40, 30), "RGBA"),
    "of a palette": picture(12, (40, 30), "P"),
    "of four inks": picture(13, (40, 30), "CMYK"),
}
"""Pictures that Pillow turns into RGB as anybody would, by what is special about them."""
