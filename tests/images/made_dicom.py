"""DICOM files as tests need them: of any samples, with any attributes, in any transfer syntax."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, FileMetaDataset
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, generate_uid


def wheel_file(name: str) -> bytes:
    """Return one of the files in pydicom's wheel."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path).read_bytes()


def slice_of_body(seed: int = 0, size: int = 48) -> NDArray[np.int16]:
    """Return smooth signed samples of about 11 bits."""
    y, x = np.indices((size, size))
    noise = np.random.default_rng(seed).normal(0, 20, (size, size))
    return (600 * np.sin(x / 9) + 400 * np.cos(y / 7 + x / 31) + noise).astype(np.int16)


def header_of(samples: NDArray[Any], **attributes: Any) -> Dataset:
    """Return the data set of samples (rows, columns), (rows, columns, 3) or (frames, rows, columns)."""
    colour = samples.ndim >= 3 and samples.shape[-1] == 3
    spatial = samples.shape[:-1] if colour else samples.shape
    bits = samples.dtype.itemsize * 8
    header = Dataset()
    header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    header.SOPInstanceUID, header.StudyInstanceUID, header.SeriesInstanceUID = "1.2.3", "1.2.4", "1.2.5"
    header.PatientName = "Doe^Jane"
    header.Rows, header.Columns = spatial[-2:]
    header.SamplesPerPixel = 3 if colour else 1
    header.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit = bits, bits, bits - 1
    header.PixelRepresentation = int(samples.dtype.kind == "i")
    if colour:
        header.PlanarConfiguration = 0
    if len(spatial) == 3:
        header.NumberOfFrames = spatial[0]
    for name, value in attributes.items():
        setattr(header, name, value)
    return header


def written(header: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """Return the file of a data set."""
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["test"])
    memory = io.BytesIO()
    if UID(syntax).is_private:  # what is written under such a name is up to its maker
        header.save_as(memory, enforce_file_format=True, implicit_vr=False, little_endian=True)
    else:
        header.save_as(memory, enforce_file_format=True)
    return memory.getvalue()


def made(samples: NDArray[Any], syntax: str = ExplicitVRLittleEndian, **attributes: Any) -> bytes:
    """Return a file of samples that are not compressed, or deflated."""
    header = header_of(samples, **attributes)
    content = samples.astype(
        samples.dtype.newbyteorder(">" if syntax == ExplicitVRBigEndian else "<")
    ).tobytes()
    if "PixelData" not in header and "FloatPixelData" not in header:
        header.PixelData = content + bytes(len(content) % 2)
        header["PixelData"].VR = "OB" if samples.dtype.itemsize == 1 else "OW"
    return written(header, syntax)


def compressed(header: Dataset, frames: list[bytes], syntax: str) -> bytes:
    """Return a file of compressed frames."""
    header.PixelData = encapsulate(frames)
    header["PixelData"].VR = "OB"
    header["PixelData"].is_undefined_length = True
    return written(header, syntax)


def recompressed(data: bytes, syntax: int, folder: Path) -> bytes:
    """Return a file in one of GDCM's transfer syntaxes."""
    source, target = folder / "plain.dcm", folder / "compressed.dcm"
    source.write_bytes(data)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return target.read_bytes()


def table(descriptor: list[int], data: list[int]) -> Sequence:
    """Return a sequence of one look-up table."""
    item = Dataset()
    item.add_new(0x00283002, "US" if descriptor[1] >= 0 else "SS", descriptor)
    item.add_new(0x00283006, "US", data)
    return Sequence([item])


def group(**attributes: Any) -> Dataset:
    """Return a data set of attributes, those that are data sets as sequences of one item."""
    made_group = Dataset()
    for name, value in attributes.items():
        setattr(made_group, name, Sequence([value]) if isinstance(value, Dataset) else value)
    return made_group
