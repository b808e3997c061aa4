"""Small pictures of every kind, as their encoders write them: what mutations begin with."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
from pydicom.data import data_manager
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from tests.images.made_dicom import group, made, recompressed, slice_of_body, table
from tests.support.deployment import picture

SIZE = (20, 17)
# by kind: Pillow's name of the format, a mode, and what the encoder is told
FILES: dict[str, tuple[tuple[str, str, dict[str, Any]], ...]] = {
    "jpeg": (
        ("jpeg", "RGB", {}),
        ("jpeg", "CMYK", {}),
        ("jpeg", "L", {"progressive": True}),
        ("jpeg", "RGB", {"restart_marker_blocks": 1, "comment": b"comment"}),
    ),
    "png": (
        ("png", "RGB", {}),
        ("png", "P", {"transparency": 0}),
        ("png", "LA", {}),
        ("png", "I;16", {}),
        ("png", "1", {}),
    ),
    "tiff": (
        ("tiff", "RGB", {}),
        ("tiff", "RGB", {"compression": "tiff_lzw"}),
        ("tiff", "L", {"compression": "tiff_adobe_deflate"}),
        ("tiff", "1", {"compression": "group4"}),
        ("tiff", "RGB", {"compression": "jpeg"}),
        ("tiff", "I;16", {}),
        ("tiff", "F", {}),
        ("tiff", "I", {"compression": "packbits"}),
        ("tiff", "CMYK", {"big_tiff": True}),
    ),
    "bmp": (("bmp", "RGB", {}), ("bmp", "P", {}), ("bmp", "1", {}), ("bmp", "RGBA", {})),
    "webp": (("webp", "RGB", {}), ("webp", "RGBA", {"lossless": True})),
    "gif": (("gif", "P", {}), ("gif", "L", {"interlace": 0}), ("gif", "RGB", {"transparency": 0})),
    "avif": (("avif", "RGB", {}), ("avif", "RGBA", {"subsampling": "4:4:4"})),
    "jpeg-2000": (
        ("jpeg2000", "RGB", {}),
        ("jpeg2000", "LA", {}),
        ("jpeg2000", "I;16", {}),
        ("jpeg2000", "L", {"no_jp2": True, "tile_size": (8, 8)}),
    ),
    "heic": (("heif", "RGB", {}), ("heif", "RGBA", {}), ("heif", "L", {}), ("heif", "I;16", {})),
}
_WITH_EXIF = ("jpeg", "png", "webp", "avif", "heif")
_ANIMATED = ("gif", "webp", "png", "tiff", "avif")
_LARGEST = 5000  # bytes of a file of pydicom's wheel that is small


def picture_files(kind: str) -> list[bytes]:
    """Return small pictures of a kind, with an orientation to be read, and one of several frames."""
    if kind == "heic":
        importlib.import_module("pillow_heif").register_heif_opener()  # to write them
    files = []
    for seed, (form, mode, options) in enumerate(FILES[kind]):
        image = picture(seed, SIZE, "RGB" if mode in ("F", "I") else mode)
        image = image.convert(mode) if mode in ("F", "I") else image
        exif = image.getexif()
        exif[0x0112] = 1 + seed % 8
        extra = {"exif": exif.tobytes()} if form in _WITH_EXIF else {}
        memory = io.BytesIO()
        image.save(memory, form, **options, **extra)
        files.append(memory.getvalue())
    if kind in _ANIMATED:
        memory = io.BytesIO()
        frames = [picture(seed, SIZE) for seed in range(2)]
        frames[0].save(memory, kind, save_all=True, append_images=frames[1:])
        files.append(memory.getvalue())
    return files


def dicom_files(scratch: Path) -> list[bytes]:
    """Return small DICOM files: those of pydicom's wheel, and some made in every way of storing pixels."""
    return [*_of_the_wheel(), *_made(), *_compressed(scratch)]


def _of_the_wheel() -> Iterator[bytes]:
    for path in sorted(Path(data_manager.DATA_ROOT, "test_files").glob("*.dcm")):
        if path.stat().st_size <= _LARGEST:
            yield path.read_bytes()


def _made() -> Iterator[bytes]:
    grey = slice_of_body(size=12)
    bytes_ = (grey >> 4).astype(np.uint8)
    colour = np.stack([bytes_, 255 - bytes_, bytes_ >> 1], axis=-1)
    for syntax in (ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian):
        yield made(grey, syntax)
    yield made(grey, WindowCenter=[40, 60], WindowWidth=[400, 200], RescaleSlope="2", RescaleIntercept="-9")
    yield made(grey, PixelPaddingValue=-400, PixelPaddingRangeLimit=-300)
    yield made(grey.astype(np.uint16), PhotometricInterpretation="MONOCHROME1", BitsStored=12)
    yield made(np.stack([bytes_] * 3))
    yield made(bytes_.astype(np.uint32))
    yield made(colour)
    yield made(colour.transpose(2, 0, 1).reshape(12, 12, 3), PlanarConfiguration=1)
    yield made(np.packbits(bytes_ > 60).reshape(1, -1), Rows=12, Columns=12, BitsAllocated=1, BitsStored=1)
    yield made(bytes_, ModalityLUTSequence=table([256, 0, 16], [*range(0, 512, 2)]))
    yield made(bytes_, VOILUTSequence=table([256, 0, 8], [*range(256)]))
    palette = {
        f"{each}PaletteColorLookupTable{what}": value
        for each in ("Red", "Green", "Blue")
        for what, value in (("Descriptor", [256, 0, 8]), ("Data", bytes(range(256))))
    }
    yield made(bytes_, PhotometricInterpretation="PALETTE COLOR", **palette)
    window = group(FrameVOILUTSequence=group(WindowCenter=40, WindowWidth=400))
    yield made(np.stack([grey] * 2), PerFrameFunctionalGroupsSequence=[window] * 2)
    yield made(grey, FloatPixelData=np.linspace(0, 1, 144, dtype=np.float32).tobytes())


def _compressed(scratch: Path) -> Iterator[bytes]:
    plain = made((slice_of_body(size=12) + 1100).astype(np.uint16), BitsStored=12, HighBit=11)
    names = ("RLELossless", "JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless")
    for name in names:
        yield recompressed(plain, getattr(gdcm.TransferSyntax, name), scratch)
