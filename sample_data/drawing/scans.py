"""Pictures in the manner of scanners: a slice through a head, an ultrasound sector."""

import numpy as np
from PIL import Image

from .canvas import Frame, Plane, Rng, cover, ellipse, finish, line, mix, noise, posed, rod, warped


def brain(rng: Rng) -> Image.Image:
    """An axial slice of a head: scalp, skull, folded cortex, white matter and the ventricles."""
    at = warped(rng, posed(rng, (256, 256), tilt=5), 0.008)
    wide, tall = rng.uniform(0.7, 0.76), rng.uniform(0.88, 0.93)
    scalp = ellipse(at, (0, 0), (wide, tall))
    mantle = scalp + 0.1
    tone = mix(np.full(at.shape, 6.0), cover(scalp), 175 + 14 * noise(rng, at.shape, 12))
    tone = mix(tone, cover(scalp + 0.035), 24)
    tone = mix(tone, cover(mantle), 128)

    # The zeros of a smooth noise wander as furrows do: dark on the line, grey beside it, white between.
    furrow = np.abs(noise(rng, at.shape, 13) + 0.3 * noise(rng, at.shape, 24))
    depth = np.clip(-mantle / 0.34, 0, 1)
    white = cover(0.62 + 0.5 * (0.5 - depth) - furrow, 0.16) * cover(mantle + 0.03, 0.03)
    white = np.maximum(white, cover(mantle + 0.34, 0.05) * 0.95)
    tone = mix(tone, white, 178)
    tone = mix(tone, line(furrow, 0.2) * cover(mantle, 0.02) * cover(depth - 0.8, 0.25), 40)

    fissure = at.x + 0.012 * noise(rng, at.shape, 6)
    tone = mix(tone, line(fissure, 0.018) * cover(mantle) * cover(0.3 - np.abs(at.y), 0.06), 30)
    dilation = rng.uniform(0.8, 1.25)
    for sign in (-1, 1):
        nucleus = ellipse(at, (sign * 0.22, 0.02), (0.075, 0.15), sign * 12)
        tone = mix(tone, 0.8 * cover(nucleus, 0.03), 132)
        bow = np.abs(sign * at.x - 0.05 - 1.1 * at.y**2) - 0.035 * dilation * (0.8 + 2.2 * np.abs(at.y))
        tone = mix(tone, cover(np.maximum(bow, np.abs(at.y) - 0.3), 0.03), 30)
    bias = 1 + 0.07 * noise(rng, at.shape, 2)
    return finish(rng, tone * bias * rng.uniform(0.92, 1.1), 2.0)


def ultrasound(rng: Rng) -> Image.Image:
    """A sector of speckle: tissue layers, a kidney with its bright sinus, the arc of the diaphragm."""
    at = posed(rng, (320, 256), tilt=0, shift=0.03, zoom=0.03)
    reach, angle = np.hypot(at.x, at.y + 1.12), np.arctan2(at.x, at.y + 1.12)
    opening = rng.uniform(0.66, 0.72)
    sector = cover(np.abs(angle) - opening, 0.006) * cover(reach - 2.0, 0.008) * cover(0.26 - reach, 0.008)

    bent = warped(rng, at, 0.02)
    echo = 0.46 + 0.05 * noise(rng, at.shape, 4, 2)
    for layer in np.cumsum(rng.uniform(0.05, 0.1, 4)) + 0.3:
        echo += 0.3 * line(reach - layer - 0.01 * noise(rng, at.shape, 4), 0.014)
    centre, turn = (rng.uniform(-0.12, 0.2), rng.uniform(0.02, 0.14)), rng.uniform(50, 75)
    kidney = ellipse(bent, centre, (0.23, 0.44), turn)
    echo = mix(echo, cover(kidney, 0.03), 0.26)
    echo = mix(echo, cover(ellipse(bent, centre, (0.09, 0.27), turn), 0.06), 0.74)
    echo += 0.3 * line(kidney, 0.016)
    echo += 0.45 * line(ellipse(bent, (0.1, -0.2), (1.1, rng.uniform(0.86, 0.92))), 0.018) * (at.y > 0)
    curved = warped(rng, at, 0.06)
    vessel = rod(curved, (-0.75, rng.uniform(0.05, 0.25)), (-0.2, -0.4), (0.075, 0.03))
    vessel = np.minimum(vessel, rod(curved, (-0.5, -0.1), (-0.4, 0.3), (0.05, 0.03)))
    echo = mix(echo, cover(vessel, 0.015), 0.06) + 0.25 * line(vessel, 0.012)

    streaks = np.interp(angle, np.linspace(-0.8, 0.8, 24), rng.normal(1, 0.13, 24))
    tone = 245 * echo * streaks * (1 - 0.12 * reach) * speckle(rng, Frame(angle / opening, reach / 2))
    return finish(rng, 4 + sector * tone, 1.2)


def speckle(rng: Rng, polar: Frame) -> Plane:
    """Speckle of mean 1 that is fine in depth and widens with it, as a beam does."""
    depths, beams = 150, 84
    real, imaginary = rng.standard_normal((2, depths, beams))
    amplitude = np.hypot(real, imaginary) ** 0.6
    row = np.clip(polar.y, 0, 0.999) * (depths - 2)
    column = np.clip((polar.x + 1) / 2, 0, 0.999) * (beams - 2)
    top, left = row.astype(int), column.astype(int)
    down, right = row - top, column - left
    upper = amplitude[top, left] * (1 - right) + amplitude[top, left + 1] * right
    lower = amplitude[top + 1, left] * (1 - right) + amplitude[top + 1, left + 1] * right
    return np.asarray((upper * (1 - down) + lower * down) / amplitude.mean())
