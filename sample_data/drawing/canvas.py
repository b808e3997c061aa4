"""What the painters share: a posed coordinate frame, shapes as signed distances, noise and tone.

A *plane* is a float array of one value per pixel. Shapes are planes of signed distances (negative
inside), `cover` turns them into soft masks in [0, 1], and a painter mixes tones with those masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

Plane = npt.NDArray[np.float64]
Rng = np.random.Generator
Point = tuple[float, float]
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Frame:
    """Pixel coordinates in the frame of the subject: y runs from about -1 (top) to about 1 (bottom)."""

    x: Plane
    y: Plane

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.x.shape
        return height, width


def frame(size: tuple[int, int]) -> Frame:
    """The frame of an upright subject on a picture of `size` (width, height)."""
    width, height = size
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    half = height / 2
    return Frame((columns + 0.5 - width / 2) / half, (rows + 0.5 - half) / half)


def posed(
    rng: Rng, size: tuple[int, int], tilt: float = 3.0, shift: float = 0.04, zoom: float = 0.05
) -> Frame:
    """A frame turned by up to `tilt` degrees, moved by up to `shift` and scaled by up to `zoom`."""
    upright = frame(size)
    angle = np.deg2rad(rng.uniform(-tilt, tilt))
    scale = 1 + rng.uniform(-zoom, zoom)
    x, y = upright.x - rng.uniform(-shift, shift), upright.y - rng.uniform(-shift, shift)
    return Frame(
        (x * np.cos(angle) + y * np.sin(angle)) / scale, (y * np.cos(angle) - x * np.sin(angle)) / scale
    )


def warped(rng: Rng, at: Frame, amount: float, cells: int = 3) -> Frame:
    """The frame bent by smooth noise, so that no outline is a perfect curve."""
    return Frame(at.x + amount * noise(rng, at.shape, cells), at.y + amount * noise(rng, at.shape, cells))


def noise(rng: Rng, shape: tuple[int, int], cells: float, octaves: int = 1) -> Plane:
    """Smooth noise of mean 0 and deviation 1 with about `cells` bumps over the height of the picture."""
    height, width = shape
    total = np.zeros(shape)
    for octave in range(octaves):
        pitch = cells * 2**octave
        rows, columns = max(2, round(pitch)), max(2, round(pitch * width / height))
        coarse = Image.fromarray(rng.standard_normal((rows, columns)).astype(np.float32))
        total += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) / 2**octave
    return np.asarray((total - total.mean()) / total.std())


def ellipse(at: Frame, centre: Point, radii: Point, degrees: float = 0.0) -> Plane:
    """Roughly the signed distance to an ellipse: exact on its outline, which is where it matters."""
    turn = np.deg2rad(degrees)
    x, y = at.x - centre[0], at.y - centre[1]
    across = (x * np.cos(turn) + y * np.sin(turn)) / radii[0]
    along = (y * np.cos(turn) - x * np.sin(turn)) / radii[1]
    return np.asarray((np.hypot(across, along) - 1) * min(radii))


def rod(at: Frame, start: Point, end: Point, radii: Point, waist: float = 0.0) -> Plane:
    """Signed distance to a rod with round ends; `waist` narrows its middle by that share, as a bone's."""
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    x, y = at.x - start[0], at.y - start[1]
    share = np.clip((x * along_x + y * along_y) / (along_x**2 + along_y**2), 0, 1)
    radius = (radii[0] + (radii[1] - radii[0]) * share) * (1 - waist * (1 - (2 * share - 1) ** 2))
    return np.asarray(np.hypot(x - share * along_x, y - share * along_y) - radius)


def cover(distance: Plane, softness: float = 0.012) -> Plane:
    """The mask of a shape: 1 well inside, 0 well outside, smooth over `softness` on either side."""
    share = np.clip(0.5 - distance / (2 * softness), 0, 1)
    return np.asarray(share * share * (3 - 2 * share))


def line(distance: Plane, width: float) -> Plane:
    """The mask of a soft line along the zeros of `distance`."""
    return np.asarray(np.exp(-((distance / width) ** 2)))


def mix(tone: Plane, mask: Plane, value: float | Plane | Colour) -> Plane:
    """`tone` (grey or colour) moved towards `value` where the mask is set."""
    weight = mask[..., None] if tone.ndim == mask.ndim + 1 else mask
    return tone + weight * (np.asarray(value) - tone)


def mask_of(drawn: Image.Image, size: tuple[int, int]) -> Plane:
    """The mask of an enlarged 8-bit drawing, brought down to `size` so that its edges are smooth."""
    return np.asarray(drawn.resize(size, Image.Resampling.BOX), dtype=np.float64) / 255


def outline(centre: Point, radius: float, wobble: Sequence[Point], steps: int = 60) -> list[Point]:
    """A closed curve around `centre`; `wobble` holds the amplitude and phase of harmonics 2, 3, ..."""
    angles = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    reach = 1 + sum(a * np.cos(k * angles + phase) for k, (a, phase) in enumerate(wobble, start=2))
    xs, ys = centre[0] + radius * reach * np.cos(angles), centre[1] + radius * reach * np.sin(angles)
    return list(zip(xs.tolist(), ys.tolist(), strict=True))


def finish(rng: Rng, tone: Plane, grain: float) -> Image.Image:
    """The picture of a tone plane (grey or colour), with the grain of a film or a sensor."""
    height, width = tone.shape[:2]
    speck = rng.normal(0, grain, (height, width)) + grain * noise(rng, (height, width), height / 3)
    exposed = tone + (speck[..., None] if tone.ndim == 3 else speck)
    return Image.fromarray(np.clip(np.rint(exposed), 0, 255).astype(np.uint8))
