"""How grey values of DICOM files are shown: rescaling, windows, tables, padding, and polarity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydicom.sequence import Sequence

from mipp_cli.errors import UnreadableImageError
from mipp_cli.images.dicom import read_dicom
from mipp_cli.images.windowing import windowed
from tests.images.made_dicom import group, made, slice_of_body, table

RAMP = np.arange(-512, 512, dtype=np.int16).reshape(32, 32)


def levels(samples: Any, **attributes: Any) -> Any:
    return read_dicom(made(samples, **attributes)).levels


def rounded(values: Any) -> Any:
    return np.floor(np.clip(values, 0, 255) + 0.5)


def test_without_a_window_the_picture_is_its_own() -> None:
    assert (levels(slice_of_body()) == windowed(slice_of_body()).levels).all()
    assert (
        levels(slice_of_body(), RescaleSlope=2, RescaleIntercept=-9) == windowed(slice_of_body()).levels
    ).all()


def test_grey_of_eight_bits_is_windowed_too() -> None:
    dark = (np.arange(256, dtype=np.uint8) // 4).reshape(16, 16)
    assert levels(dark).max() == 255


def test_a_falling_slope_inverts() -> None:
    falling = levels(slice_of_body(), RescaleSlope=-1, RescaleIntercept=0)
    assert (falling == windowed(-slice_of_body()).levels).all()


@pytest.mark.parametrize(("center", "width"), [(0, 800), (100.5, 333.25), (-200, 600)])
@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (2, -100), (0.5, 7)])
def test_a_window_is_that_of_the_standard(
    center: float, width: float, slope: float, intercept: float
) -> None:
    x = RAMP * slope + intercept
    given = {
        "WindowCenter": center,
        "WindowWidth": width,
        "RescaleSlope": slope,
        "RescaleIntercept": intercept,
    }
    linear = rounded(((x - (center - 0.5)) / (width - 1) + 0.5) * 255)
    exact = rounded(((x - center) / width + 0.5) * 255)
    sigmoid = rounded(255 / (1 + np.exp(-4 * (x - center) / width)))
    assert (levels(RAMP, **given) == linear).all()
    assert (levels(RAMP, VOILUTFunction="LINEAR_EXACT", **given) == exact).all()
    assert (levels(RAMP, VOILUTFunction="SIGMOID", **given) == sigmoid).all()


def test_of_several_windows_the_first_counts() -> None:
    first = levels(RAMP, WindowCenter=0, WindowWidth=900)
    assert (levels(RAMP, WindowCenter=[0, 300], WindowWidth=[900, 10]) == first).all()


@pytest.mark.parametrize(
    "window", [(5000, 10), (-5000, 10), (0, 20), (0, 0), (0, -5), (math.nan, 5), ("", ""), (None, 400)]
)
def test_a_window_that_shows_nothing_is_passed_over(window: tuple[Any, Any]) -> None:
    center, width = window
    shown = levels(RAMP, WindowCenter=center, WindowWidth=width)
    assert (shown == windowed(RAMP).levels).all()


def test_a_table_of_interest_comes_before_a_window() -> None:
    entries = [int(4095 * math.sqrt(place / 1023)) for place in range(1024)]
    shown = levels(RAMP, VOILUTSequence=table([1024, -512, 12], entries), WindowCenter=0, WindowWidth=700)
    assert (shown.ravel() == rounded(np.array(entries) * 255 / 4095)).all()


def test_values_beyond_a_table_are_its_first_and_last() -> None:
    shown = levels(RAMP, VOILUTSequence=table([512, -256, 8], [place // 2 for place in range(512)])).ravel()
    assert set(shown[:256].tolist()) == {0} and set(shown[768:].tolist()) == {255}


def test_a_modality_table_comes_before_all() -> None:
    squares = [place * place // 16 for place in range(1024)]
    tables = {"ModalityLUTSequence": table([1024, -512, 16], squares)}
    values = np.array(squares).reshape(32, 32)
    assert (levels(RAMP, **tables) == windowed(values).levels).all()
    shown = levels(RAMP, WindowCenter=32768, WindowWidth=65536, **tables)
    assert (shown == rounded(((values - 32767.5) / 65535 + 0.5) * 255)).all()


def test_a_table_shorter_than_it_says_is_refused() -> None:
    with pytest.raises(UnreadableImageError, match="fewer entries"):
        levels(RAMP, VOILUTSequence=table([1024, 0, 8], [1, 2, 3]))


def test_monochrome1_is_inverted() -> None:
    window = {"WindowCenter": 0, "WindowWidth": 900}
    bright = levels(RAMP, **window)
    assert (levels(RAMP, PhotometricInterpretation="MONOCHROME1", **window) == 255 - bright).all()
    assert (
        levels(RAMP, PhotometricInterpretation="MONOCHROME1") == windowed(RAMP, inverted=True).levels
    ).all()


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 0, "WindowWidth": 2500}])
def test_padding_is_black_and_counts_for_nothing(photometric: str, window: dict[str, Any]) -> None:
    body = slice_of_body()
    outside = np.add.outer(np.arange(48), np.arange(48)) < 40
    padded = np.where(outside, -2000, body).astype(np.int16)
    padded[0, :5] = -1990
    attributes = {"PhotometricInterpretation": photometric, **window}
    shown = levels(padded, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1990, **attributes)
    alone = windowed(body, counted=~outside, inverted=photometric == "MONOCHROME1").levels
    assert (shown[outside] == 0).all()
    if not window:
        assert (shown == alone).all()


def test_padding_written_with_the_other_sign_is_found() -> None:
    samples = slice_of_body().astype(np.int32) + 2000
    samples[:10] = 65000
    shown = levels(samples.astype(np.uint16), PixelPaddingValue=65000)
    assert (shown[:10] == 0).all() and shown[10:].max() == 255


def test_a_picture_of_padding_alone_is_flat() -> None:
    picture = read_dicom(made(np.full((4, 4), 7, np.uint16), PixelPaddingValue=7))
    assert picture.flat and not picture.levels.any()


def test_a_constant_picture_is_flat() -> None:
    assert read_dicom(made(np.full((4, 4), 7, np.uint16))).flat
    assert not read_dicom(made(RAMP)).flat


def test_each_frame_of_an_enhanced_file_has_its_own_window() -> None:
    frames = np.stack([RAMP, RAMP // 2, RAMP])
    windows = [(0, 100), (-100, 400), (0, 50)]
    per_frame = [
        group(FrameVOILUTSequence=group(WindowCenter=center, WindowWidth=width)) for center, width in windows
    ]
    shared = group(PixelValueTransformationSequence=group(RescaleSlope=2, RescaleIntercept=-50))
    shown = levels(
        frames,
        PerFrameFunctionalGroupsSequence=Sequence(per_frame),
        SharedFunctionalGroupsSequence=Sequence([shared]),
    )
    x = (RAMP // 2) * 2.0 - 50
    assert (shown == rounded(((x + 100.5) / 399 + 0.5) * 255)).all()


@pytest.mark.parametrize("frames", [0, 1])
def test_functional_groups_that_are_too_few_are_no_matter(frames: int) -> None:
    groups = Sequence([group(FrameVOILUTSequence=group(WindowCenter=0, WindowWidth=9))] * frames)
    shown = levels(np.stack([RAMP] * 5), PerFrameFunctionalGroupsSequence=groups)
    assert (shown == windowed(RAMP).levels).all()
