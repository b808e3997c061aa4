"""What a file is, by its content: files of every kind, texts that look like one, and names that lie."""

from __future__ import annotations

import io
import random
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pillow_heif
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from mipp_cli.images import kinds
from mipp_cli.images.kinds import HEAD_BYTES, KINDS, Kind, kind_of


def saved(file_format: str, mode: str = "RGB", **options: Any) -> bytes:
    memory = io.BytesIO()
    Image.linear_gradient("L").convert(mode).save(memory, file_format, **options)
    return memory.getvalue()


def heic() -> bytes:
    memory = io.BytesIO()
    pillow_heif.from_pillow(Image.linear_gradient("L").convert("RGB")).save(memory)
    return memory.getvalue()


def stored(name: str) -> bytes:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path).read_bytes()


def codestream() -> bytes:
    return saved("JPEG2000", no_jp2=True)


FILES: dict[str, tuple[Kind, Callable[[], bytes]]] = {
    "jpeg": (kinds.JPEG, lambda: saved("JPEG")),
    "jpeg-of-a-camera": (kinds.JPEG, lambda: saved("JPEG", exif=Image.Exif())),
    "mpo": (kinds.JPEG, lambda: saved("MPO")),
    "png": (kinds.PNG, lambda: saved("PNG")),
    "tiff": (kinds.TIFF, lambda: saved("TIFF")),
    "tiff-big": (kinds.TIFF, lambda: saved("TIFF", big_tiff=True)),
    "bmp": (kinds.BMP, lambda: saved("BMP")),
    "webp": (kinds.WEBP, lambda: saved("WEBP")),
    "gif": (kinds.GIF, lambda: saved("GIF")),
    "avif": (kinds.AVIF, lambda: saved("AVIF")),
    "jpeg-2000": (kinds.JPEG_2000, lambda: saved("JPEG2000")),
    "jpeg-2000-codestream": (kinds.CODESTREAM, codestream),
    "heic": (kinds.HEIC, heic),
    "dicom": (kinds.DICOM, lambda: stored("CT_small.dcm")),
    "dicom-implicit-without-preamble": (kinds.DICOM, lambda: stored("rtplan.dcm")[132:]),
    "dicom-without-meta": (kinds.DICOM, lambda: stored("ExplVR_LitEndNoMeta.dcm")),
    "dicom-big-endian-without-meta": (kinds.DICOM, lambda: stored("ExplVR_BigEndNoMeta.dcm")),
    "dicom-without-preamble": (kinds.DICOM, lambda: stored("CT_small.dcm")[132:]),
    "dicom-that-is-a-tiff-too": (kinds.DICOM, lambda: saved("TIFF")[:128] + stored("CT_small.dcm")[128:]),
    "dicomdir": (kinds.DICOM, lambda: stored("DICOMDIR")),
}

NO_PICTURES = {
    "nothing": b"",
    "text": b"BMW and other makes of cars, of which there are many",
    "zip": b"PK\x03\x04" + bytes(60),
    "pdf": b"%PDF-1.7\n",
    "film": b"\0\0\0\x18ftypisom\0\0\0\0isomavc1",
    "sound": b"RIFF\0\0\0\0WAVEfmt ",
    "zeros": bytes(HEAD_BYTES),
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "one-element": b"\x08\0\x05\0CS\x0a\0ISO_IR 100",
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_what_its_first_bytes_say(name: str) -> None:
    kind, make = FILES[name]
    assert kind_of(make()) == kind_of(make()[:HEAD_BYTES]) == kind


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture_is_none(name: str) -> None:
    assert kind_of(NO_PICTURES[name]) is None


@pytest.mark.parametrize("major", [b"mif1", b"msf1"])
@pytest.mark.parametrize(("brand", "kind"), [(b"avif", kinds.AVIF), (b"heic", kinds.HEIC), (b"mp42", None)])
def test_a_general_brand_is_told_by_the_others(major: bytes, brand: bytes, kind: Kind | None) -> None:
    assert kind_of(b"\0\0\0\x18ftyp" + major + bytes(4) + b"miaf" + brand) == kind


def test_a_brand_beyond_the_box_of_brands_does_not_count() -> None:
    assert kind_of(b"\0\0\0\x14ftypmif1" + bytes(4) + b"miafavif") is None


@pytest.mark.parametrize("name", FILES)
def test_the_beginning_of_a_file_never_raises(name: str) -> None:
    data = FILES[name][1]()
    assert {kind_of(data[:length]) for length in range(200)} <= {None, *KINDS}


def test_random_bytes_are_hardly_ever_a_picture() -> None:
    generator = random.Random(1)
    assert not any(kind_of(generator.randbytes(200)) for _ in range(5000))


def test_kinds_differ_in_name_media_type_and_suffix() -> None:
    for values in zip(*((kind.name, kind.media_type, kind.extension) for kind in KINDS), strict=True):
        assert len(set(values)) == len(KINDS)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any(kind.missing() for kind in KINDS)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert kinds.DICOM.missing() == "pip install pydicom python-gdcm"
    assert kinds.HEIC.missing() == "pip install pillow-heif"
    assert not kinds.PNG.missing()


@pytest.mark.parametrize(("kind", "extra"), [(kinds.DICOM, "dicom"), (kinds.HEIC, "heif")])
def test_the_packages_of_a_kind_are_those_of_its_extra(kind: Kind, extra: str) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    packages = [re.split("[>=]", each)[0] for each in project["optional-dependencies"][extra]]
    assert kind.packages == " ".join(packages)
