"""DICOM files become pictures or are refused with a reason: real, made, damaged and hostile ones."""

from __future__ import annotations

import io
import json
import random
import signal
import struct
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_files
from pydicom.encaps import get_frame
from pydicom.pixels import apply_color_lut
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSNearLossless,
    RLELossless,
)

from mipp_cli.errors import NoPictureError, UnreadableImageError
from mipp_cli.images import decoder_process, dicom_frames
from mipp_cli.images.decoder_process import DecoderProcess
from mipp_cli.images.dicom import read_dicom
from mipp_cli.images.kinds import DICOM, HEAD_BYTES, kind_of
from mipp_cli.images.pixels import png_of_pixels
from mipp_cli.images.windowing import windowed
from tests.images.made_dicom import (
    compressed,
    header_of,
    made,
    recompressed,
    slice_of_body,
    wheel_file,
    written,
)

FILES = sorted(
    path
    for path in map(Path, get_testdata_files())
    if path.is_file() and kind_of(path.read_bytes()[:HEAD_BYTES]) == DICOM
)
BODY = slice_of_body()
COLOURS = np.random.default_rng(5).integers(0, 256, (12, 10, 3), dtype=np.uint8)

# What pydicom's wheel holds: shape, type, bits, and frame.
DECODED = {
    "CT_small.dcm": ((128, 128), "int16", 16, None),
    "JPEG2000.dcm": ((1024, 256), "int16", 16, None),
    "JPEGLSNearLossless_08.dcm": ((45, 10), "uint8", 8, None),
    "JPEGLSNearLossless_16.dcm": ((50, 10), "uint16", 16, None),
    "MR_small_RLE.dcm": ((64, 64), "int16", 16, None),
    "MR_small_bigendian.dcm": ((64, 64), "int16", 16, None),
    "SC_rgb_rle_32bit_2frame.dcm": ((100, 100, 3), "uint32", 32, 1),
    "SC_rgb_small_odd_big_endian.dcm": ((3, 3, 3), "uint8", 8, None),
    "SC_ybr_full_422_uncompressed.dcm": ((100, 100, 3), "uint8", 8, None),
    "examples_jpeg2k.dcm": ((480, 640, 3), "uint8", 8, None),
    "examples_overlay.dcm": ((300, 484), "uint16", 12, None),
    "examples_palette.dcm": ((350, 800, 3), "uint8", 8, None),
    "examples_ybr_color.dcm": ((240, 320, 3), "uint8", 8, 15),
    "image_dfl.dcm": ((512, 512), "uint8", 8, None),
}
REFUSED = {
    "DICOMDIR": "directory of DICOM files",
    "MR_truncated.dcm": "cut short",
    "liver_1frame.dcm": "segmentation",
    "reportsi.dcm": "structured report",
    "rtdose.dcm": "dose",
    "rtplan.dcm": "no pixels",
    "waveform_ecg.dcm": "no pixels",
}
NO_PICTURES = ("meta_missing_tsyntax.dcm", "nested_priv_SQ.dcm", "reportsi.dcm", "waveform_ecg.dcm")


def refusal(data: bytes) -> UnreadableImageError:
    with pytest.raises(UnreadableImageError) as caught:
        read_dicom(data)
    assert caught.value.hint
    assert caught.value.message.isprintable()
    return caught.value


def either(data: bytes) -> str:
    """Return "picture", or why there is none; whatever else is raised passes through."""
    try:
        picture = read_dicom(data)
    except UnreadableImageError as error:
        assert error.hint and error.message.isprintable()
        return error.message
    assert picture.levels.dtype == np.uint8
    assert picture.levels.shape == picture.stored.shape
    return "picture"


def test_there_are_files_to_look_at() -> None:
    assert len(FILES) > 100


@pytest.mark.parametrize("path", FILES, ids=lambda path: "-".join(path.parts[-2:]))
def test_every_file_is_a_picture_or_has_a_reason(path: Path) -> None:
    assert either(path.read_bytes())


@pytest.mark.parametrize("name", DECODED)
def test_a_file_of_a_hospital_is_decoded(name: str) -> None:
    picture = read_dicom(wheel_file(name))
    assert (picture.stored.shape, str(picture.stored.dtype), picture.bits, picture.frame) == DECODED[name]
    assert not picture.flat and picture.levels.std() > 5


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_without_a_picture_is_refused_by_reason(name: str) -> None:
    assert REFUSED[name] in refusal(wheel_file(name)).message


@pytest.mark.parametrize("name", NO_PICTURES)
def test_a_file_without_pixels_is_no_damaged_picture(name: str) -> None:
    assert isinstance(refusal(wheel_file(name)), NoPictureError)


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small_RLE.dcm",
        "JPEG2000.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "examples_jpeg2k.dcm",
    ],
)
def test_samples_are_those_that_pydicom_decodes(name: str) -> None:
    wanted = dcmread(io.BytesIO(wheel_file(name))).pixel_array
    assert abs(read_dicom(wheel_file(name)).stored.astype(int) - wanted).max() <= (
        2 if wanted.ndim == 3 else 0
    )


def test_colours_of_a_palette_are_those_of_pydicom() -> None:
    header = dcmread(io.BytesIO(wheel_file("examples_palette.dcm")))
    wanted = apply_color_lut(header.pixel_array, header)
    assert (
        read_dicom(wheel_file("examples_palette.dcm")).levels == wanted >> (8 * (wanted.max() > 255))
    ).all()


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
)
@pytest.mark.parametrize(
    "samples", [BODY, BODY.astype(np.uint16), np.abs(BODY // 8).astype(np.uint8), COLOURS]
)
def test_uncompressed_samples_come_back(syntax: str, samples: Any) -> None:
    picture = read_dicom(made(samples, syntax))
    assert (picture.stored == samples).all()
    assert picture.frame is None


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_file_without_its_preamble_is_read(syntax: str) -> None:
    assert (read_dicom(made(BODY, syntax)[132:]).stored == BODY).all()


@pytest.mark.parametrize(
    "syntax",
    [
        gdcm.TransferSyntax.JPEGLosslessProcess14,
        gdcm.TransferSyntax.JPEGLosslessProcess14_1,
        gdcm.TransferSyntax.JPEGLSLossless,
        gdcm.TransferSyntax.JPEG2000Lossless,
        gdcm.TransferSyntax.RLELossless,
    ],
)
@pytest.mark.parametrize("kind", ["u1", "u2", "i2", "rgb"])
def test_losslessly_compressed_samples_come_back(syntax: int, kind: str, tmp_path: Path) -> None:
    if kind == "rgb" and syntax == gdcm.TransferSyntax.JPEG2000Lossless:
        pytest.skip("GDCM does not write it; the test below does")
    samples = COLOURS if kind == "rgb" else (BODY // (8 if kind == "u1" else 1)).astype(np.int64)
    if kind in ("u1", "u2"):
        samples = samples - samples.min()
    samples = samples.astype("u1" if kind == "rgb" else kind)
    picture = read_dicom(recompressed(made(samples), syntax, tmp_path))
    assert (picture.stored == samples).all()


def test_colours_in_lossless_jpeg_2000_come_back() -> None:
    memory = io.BytesIO()
    Image.fromarray(COLOURS).save(memory, "JPEG2000", irreversible=False, mct=1, no_jp2=True)
    header = header_of(COLOURS, PhotometricInterpretation="YBR_RCT")
    assert (read_dicom(compressed(header, [memory.getvalue()], JPEG2000Lossless)).stored == COLOURS).all()


def test_a_photograph_in_jpeg_is_decoded() -> None:
    photo = np.asarray(Image.radial_gradient("L").resize((40, 32)).convert("RGB"))
    memory = io.BytesIO()
    Image.fromarray(photo).save(memory, "JPEG", quality=95)
    header = header_of(photo, PhotometricInterpretation="YBR_FULL_422")
    picture = read_dicom(compressed(header, [memory.getvalue()], JPEGBaseline8Bit))
    assert abs(picture.levels.astype(int) - photo).max() < 12


@pytest.mark.parametrize(("frames", "middle"), [(1, None), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_of_several_frames_the_middle_one_is_taken(frames: int, middle: int | None) -> None:
    stack = np.stack([BODY + 1000 * number for number in range(frames)]).astype(np.int16)
    picture = read_dicom(made(stack))
    assert picture.frame == middle
    assert (picture.stored == stack[(middle or 1) - 1]).all()


def test_only_the_middle_frame_is_decoded() -> None:
    memory = io.BytesIO()
    Image.fromarray(np.abs(BODY).astype(np.uint16)).save(memory, "JPEG2000", irreversible=False, no_jp2=True)
    header = header_of(np.abs(BODY).astype(np.uint16), NumberOfFrames=5)
    good = memory.getvalue()
    frames = [b"no frame"] * 2 + [good] + [b"no frame"] * 2
    data = compressed(header, frames, JPEG2000Lossless)
    picture = read_dicom(data)
    assert picture.frame == 3
    assert (picture.stored == np.abs(BODY)).all()


def test_frames_of_one_bit_need_not_begin_at_a_byte() -> None:
    bits = np.random.default_rng(3).random((3, 5, 7)) < 0.5
    packed = np.packbits(bits.ravel(), bitorder="little").tobytes()
    header = header_of(bits.astype(np.uint8), BitsAllocated=1, BitsStored=1, HighBit=0)
    header.PixelData = packed + bytes(len(packed) % 2)
    header["PixelData"].VR = "OB"
    picture = read_dicom(written(header))
    assert (picture.stored == bits[1]).all()
    assert (picture.levels == bits[1] * 255).all()


@pytest.mark.parametrize(("keyword", "dtype"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_floats_are_windowed(keyword: str, dtype: str) -> None:
    floats = (BODY / 7).astype(dtype)
    header = header_of(floats, FloatPixelPaddingValue=-1e9, DoubleFloatPixelPaddingValue=-1e9)
    del header.BitsStored, header.HighBit, header.PixelRepresentation
    setattr(header, keyword, floats.tobytes())
    picture = read_dicom(written(header))
    assert (picture.stored == floats).all()
    assert (picture.levels == windowed(floats).levels).all()
    with pytest.raises(UnreadableImageError, match="pixel payload"):
        picture.pixels()


@pytest.mark.parametrize("entry_bits", [8, 16])
def test_a_palette_gives_colours(entry_bits: int) -> None:
    indices = np.arange(64, dtype=np.uint8).reshape(8, 8)
    header = header_of(indices, PhotometricInterpretation="PALETTE COLOR")
    for place, colour in enumerate(("Red", "Green", "Blue")):
        entries = (np.arange(64) * (place + 1) % 256).astype(np.uint16) << (entry_bits - 8)
        setattr(header, f"{colour}PaletteColorLookupTableDescriptor", [64, 0, entry_bits])
        words = entries.astype("<u2" if entry_bits == 16 else "u1").tobytes()
        setattr(header, f"{colour}PaletteColorLookupTableData", words)
    header.PixelData = indices.tobytes()
    header["PixelData"].VR = "OB"
    wanted = np.stack([np.arange(64) * place % 256 for place in (1, 2, 3)], axis=-1).reshape(8, 8, 3)
    assert (read_dicom(written(header)).levels == wanted).all()


def test_deep_colours_have_one_pair_of_limits() -> None:
    deep = COLOURS.astype(np.uint16) * 15 + 100
    picture = read_dicom(made(deep, BitsStored=12))
    assert (picture.levels == windowed(deep).levels).all()
    with pytest.raises(UnreadableImageError, match="pixel payload"):
        picture.pixels()


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("kind", "bits"), [("u1", 8), ("u2", 12), ("u2", 16), ("i2", 12), ("i2", 16)])
def test_the_pixel_payload_holds_what_is_stored(photometric: str, kind: str, bits: int) -> None:
    low = -(2 ** (bits - 1)) if kind == "i2" else 0
    samples = np.random.default_rng(1).integers(low, low + 2**bits, (9, 7)).astype(kind)
    data = made(samples, PhotometricInterpretation=photometric, BitsStored=bits, HighBit=bits - 1)
    png = png_of_pixels(read_dicom(data).pixels())
    image = Image.open(io.BytesIO(png))
    bright = samples.astype(int) - low
    assert image.mode == ("L" if bits == 8 else "I;16")
    assert (np.asarray(image) == (2**bits - 1 - bright if photometric == "MONOCHROME1" else bright)).all()
    assert b"Doe" in data and b"Doe" not in png


def test_the_pixel_payload_of_colours_is_theirs() -> None:
    png = png_of_pixels(read_dicom(made(COLOURS)).pixels())
    assert (np.asarray(Image.open(io.BytesIO(png))) == COLOURS).all()


@pytest.mark.parametrize(
    ("sop_class", "reason"),
    [
        ("1.2.840.10008.5.1.4.1.1.66.4", "segmentation"),
        ("1.2.840.10008.5.1.4.1.1.66.7", "segmentation"),
        ("1.2.840.10008.5.1.4.1.1.88.33", "structured report"),
        ("1.2.840.10008.5.1.4.1.1.104.1", "encapsulated document"),
        ("1.2.840.10008.5.1.4.1.1.481.2", "dose"),
        ("1.2.840.10008.1.3.10", "DICOMDIR"),
    ],
)
def test_what_is_no_picture_is_refused_by_its_class(sop_class: str, reason: str) -> None:
    assert reason in refusal(made(BODY, SOPClassUID=sop_class)).message


def test_a_radiotherapy_image_is_a_picture() -> None:
    assert either(made(BODY, SOPClassUID="1.2.840.10008.5.1.4.1.1.481.1")) == "picture"


@pytest.mark.parametrize(
    ("syntax", "named"),
    [
        ("1.2.840.10008.1.2.4.102", "MPEG-4"),
        ("1.2.840.10008.1.2.4.201", "High-Throughput"),
        ("1.2.3.4", "1.2.3.4"),
    ],
)
def test_an_unsupported_transfer_syntax_is_named(syntax: str, named: str) -> None:
    memory = io.BytesIO()
    Image.fromarray(np.abs(BODY).astype(np.uint16)).save(memory, "JPEG2000", no_jp2=True)
    error = refusal(compressed(header_of(BODY), [memory.getvalue()], syntax))
    assert "transfer syntax" in error.message and named in error.message


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"Rows": 65535, "Columns": 65535}, "limit"),
        ({"Rows": 0}, "no pixels"),
        ({"Rows": 60000, "Columns": 2000, "BitsAllocated": 64, "BitsStored": 64}, "limit"),
        ({"Rows": 4000, "Columns": 4000}, "cut short"),
        ({"NumberOfFrames": 2**31 - 1}, "cut short"),
        ({"NumberOfFrames": -1}, "damaged"),
        ({"BitsStored": 17}, "damaged"),
        ({"SamplesPerPixel": 4, "PhotometricInterpretation": "CMYK"}, "not supported"),
        ({"PhotometricInterpretation": "\x1b[2J"}, "not supported"),
    ],
)
def test_a_header_that_cannot_be_is_refused(attributes: dict[str, Any], reason: str) -> None:
    assert reason in refusal(made(BODY, **attributes)).message


@pytest.mark.parametrize("frames", [2**31 - 1, 10**6])
def test_a_claim_of_many_compressed_frames_is_refused(frames: int) -> None:
    header = header_of(BODY, NumberOfFrames=frames)
    assert "damaged" in refusal(compressed(header, [b"frame"] * 3, JPEG2000Lossless)).message


@pytest.mark.parametrize("file_format", ["JPEG", "JPEG2000"])
def test_a_frame_larger_than_its_header_is_not_decoded(file_format: str) -> None:
    memory = io.BytesIO()
    Image.new("L", (3000, 3000)).save(memory, file_format)
    header = header_of(np.zeros((8, 8), np.uint8))
    syntax = JPEGBaseline8Bit if file_format == "JPEG" else JPEG2000Lossless
    assert "3000×3000×1" in refusal(compressed(header, [memory.getvalue()], syntax)).message


def peak_of(data: bytes) -> tuple[str, int]:
    tracemalloc.start()
    try:
        return either(data), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_run_lengths_that_swell_stay_small() -> None:
    frame = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0" * 10**6
    outcome, peak = peak_of(compressed(header_of(np.zeros((8, 8), np.uint8)), [frame], RLELossless))
    assert outcome == "picture"
    assert peak < 20 * 2**20


def test_a_deflated_file_that_swells_is_refused() -> None:
    plain = made(BODY, DeflatedExplicitVRLittleEndian)
    start = 132 + 12 + struct.unpack_from("<I", plain, 140)[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = bytes(2**24)
    swollen = b"".join(packer.compress(zeros) for _ in range(33)) + packer.flush()
    assert "limit" in refusal(plain[:start] + swollen).message


def test_sequences_in_sequences_are_refused() -> None:
    deep = struct.pack("<HH2sHI", 0x5200, 0x9230, b"SQ", 0, 0xFFFFFFFF) + b"\xfe\xff\0\xe0\xff\xff\xff\xff"
    plain = made(BODY)
    at = plain.index(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OW"))
    assert "damaged" in refusal(plain[:at] + deep * 100_000 + plain[at:]).message


def test_a_header_of_many_items_is_refused() -> None:
    items = b"\xfe\xff\0\xe0\0\0\0\0" * 300_000
    sequence = struct.pack("<HH2sHI", 0x5200, 0x9230, b"SQ", 0, len(items)) + items
    plain = made(BODY)
    at = plain.index(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OW"))
    assert "header is too long" in refusal(plain[:at] + sequence + plain[at:]).message


def test_large_elements_that_nobody_asks_for_are_passed_over() -> None:
    plain = made(BODY)
    at = plain.index(struct.pack("<HH2s", 0x7FE0, 0x0010, b"OW"))
    private = struct.pack("<HH2sHI", 0x6001, 0x1010, b"OB", 0, 2**26) + bytes(2**26)
    assert (read_dicom(plain[:at] + private + plain[at:]).stored == BODY).all()


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "MR_small_RLE.dcm", "JPEG2000.dcm", "JPEGLSNearLossless_16.dcm"]
)
def test_a_file_cut_short_is_refused(name: str) -> None:
    data = wheel_file(name)
    for share in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9):
        refusal(data[: int(len(data) * share)])


FLIPPED = ["MR_small.dcm", "MR_small_implicit.dcm", "MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm"]
FLIPPED += [
    "JPEG2000.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "image_dfl.dcm",
    "SC_rgb_small_odd_jpeg.dcm",
    "rtplan.dcm",
]


@pytest.mark.parametrize("name", FLIPPED)
def test_flipped_bytes_lead_to_a_picture_or_a_reason(name: str) -> None:
    original = wheel_file(name)
    generator = random.Random(f"flip {name}")
    outcomes = set()
    for _ in range(60):
        data = bytearray(original)
        for _ in range(generator.choice([1, 2, 5, 20])):
            end = generator.choice([min(2000, len(data)), len(data)])
            data[generator.randrange(end)] = generator.choice([0, 255, generator.randrange(256)])
        outcomes.add(either(bytes(data)))
    assert len(outcomes) > 1


def test_a_decoder_that_ended_is_started_again() -> None:
    data = wheel_file("MR_small_jpeg_ls_lossless.dcm")
    before = read_dicom(data)
    process = dicom_frames._ASIDE._process
    assert process is not None
    process.kill()
    process.wait()
    assert (read_dicom(data).stored == before.stored).all()


def test_a_decoder_that_ends_at_a_frame_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = get_frame(dcmread(io.BytesIO(wheel_file("JPEGLSNearLossless_08.dcm"))).PixelData, 0)
    options = {"rows": 45, "columns": 10, "samples_per_pixel": 1, "number_of_frames": 1, "bits_allocated": 8}
    options |= {"bits_stored": 8, "photometric_interpretation": "MONOCHROME2", "pixel_representation": 0}
    options |= {"pixel_keyword": "PixelData", "planar_configuration": 0}
    aside = DecoderProcess()
    request = (frame, JPEGLSNearLossless, "gdcm", options)
    before = aside.decode(*request)
    assert aside._process is not None
    aside._process.send_signal(signal.SIGSTOP)  # as one that goes on for ever with a frame
    with monkeypatch.context() as patch:
        patch.setattr(decoder_process, "_SECONDS", 0.05)
        with pytest.raises(ValueError, match="crashed or timed out"):
            aside.decode(*request)
    assert (aside.decode(*request) == before).all()
    aside.close()


@pytest.mark.parametrize("answer", [{"dtype": "<f8", "shape": [2, 2]}, {"dtype": "|u1", "shape": [2, 3]}])
def test_another_frame_than_was_asked_for_is_refused(answer: dict[str, Any]) -> None:
    pipe = io.BytesIO(json.dumps(answer).encode() + b"\n" + bytes(100))
    with pytest.raises(ValueError, match="wrong shape or type"):
        decoder_process._answer(pipe, {"rows": 2, "columns": 2, "samples_per_pixel": 1})


def test_without_pydicom_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = made(BODY)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert refusal(data).hint == "pip install pydicom python-gdcm"


def test_faults_in_a_file_are_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    header = header_of(BODY, WindowCenter="1", ImageType=["ORIGINAL"])
    header.SharedFunctionalGroupsSequence = Sequence([Dataset()])
    data = written_with_faults(header)
    either(data)
    assert capfd.readouterr() == ("", "")


def written_with_faults(header: Dataset) -> bytes:
    header.PixelData = BODY.tobytes()
    header["PixelData"].VR = "OW"
    return written(header).replace(b"DS\x02\0" + b"1 ", b"DS\x02\0" + b"xx")
