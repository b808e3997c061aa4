"""Colour pictures: stained tissue, the back of an eye, a mole."""

import numpy as np
from PIL import Image, ImageDraw

from .canvas import (
    Colour,
    Plane,
    Point,
    Rng,
    cover,
    ellipse,
    finish,
    frame,
    line,
    mask_of,
    mix,
    noise,
    outline,
    posed,
    warped,
)

ENLARGED = 3  # strokes and polygons are drawn this many times larger, then averaged down


def histology(rng: Rng) -> Image.Image:
    """Stained tissue: glands ringed by violet nuclei, in a stroma of pink fibres and slim nuclei."""
    size = (320, 240)
    at = frame(size)
    flow = noise(rng, at.shape, 2)
    grain = rng.uniform(-0.5, 0.5)
    across = at.y * np.cos(grain) - at.x * np.sin(grain)
    fibres = np.sin(28 * (across + 0.18 * flow) + 3 * noise(rng, at.shape, 5))
    tone = np.full((*at.shape, 3), (226.0, 150.0, 186.0))
    tone = mix(tone, 0.5 * cover(-fibres, 0.9), (238, 186, 206))
    tone = mix(tone, 0.7 * cover(0.75 - fibres, 0.15), (247, 226, 234))

    width, height = size[0] * ENLARGED, size[1] * ENLARGED
    walls, lumens, nuclei = (Image.new("L", (width, height)) for _ in range(3))
    pen = ImageDraw.Draw(nuclei)
    for spot in spots(rng, (width, height), 31):
        drop(rng, pen, spot, (rng.uniform(9, 15), rng.uniform(4, 6)), grain + rng.normal(0, 0.3))
    for spot in spots(rng, (width, height), int(rng.integers(180, 215))):
        gland(rng, ImageDraw.Draw(walls), ImageDraw.Draw(lumens), pen, spot)
    wall, stained = mask_of(walls, size), mask_of(nuclei, size)
    tone = mix(tone, 0.9 * wall, (206, 132, 188))
    tone = mix(tone, mask_of(lumens, size), (246, 236, 243))
    tone = mix(tone, 0.95 * stained, (96, 52, 138))
    tone += 5 * noise(rng, at.shape, 40, 2)[..., None]
    return finish(rng, 128 + rng.uniform(0.92, 1.08) * (tone - 128), 2.0)


def spots(rng: Rng, size: tuple[int, int], pitch: int) -> list[Point]:
    """Points scattered about `pitch` apart: a brick pattern, each point moved at random."""
    found = []
    for row, y in enumerate(range(0, size[1] + pitch, pitch)):
        for x in range(-(row % 2) * pitch // 2, size[0] + pitch, pitch):
            found.append((x + rng.uniform(-0.25, 0.25) * pitch, y + rng.uniform(-0.25, 0.25) * pitch))
    return found


def gland(
    rng: Rng,
    walls: ImageDraw.ImageDraw,
    lumens: ImageDraw.ImageDraw,
    nuclei: ImageDraw.ImageDraw,
    centre: Point,
) -> None:
    """One gland cut across: its wall, its hollow, and a ring of nuclei that point at the centre."""
    radius = rng.uniform(72, 98)
    wobble = [(rng.uniform(0, most), rng.uniform(0, 2 * np.pi)) for most in (0.17, 0.1)]
    edge = outline(centre, radius, wobble)
    walls.polygon(edge, fill=255)
    nuclei.polygon(edge, fill=0)
    lumens.polygon(outline(centre, radius * rng.uniform(0.3, 0.48), wobble), fill=255)
    for x, y in outline(centre, radius * 0.84, wobble, steps=round(radius / 2.9)):
        turn = np.arctan2(y - centre[1], x - centre[0]) + rng.normal(0, 0.15)
        drop(rng, nuclei, (x + rng.normal(0, 2), y + rng.normal(0, 2)), (rng.uniform(10, 14), 6.5), turn)


def drop(rng: Rng, pen: ImageDraw.ImageDraw, centre: Point, radii: Point, turn: float) -> None:
    """One nucleus: a turned ellipse, of its own density."""
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    along, across = radii[0] * np.cos(angles), radii[1] * np.sin(angles)
    xs = centre[0] + along * np.cos(turn) - across * np.sin(turn)
    ys = centre[1] + along * np.sin(turn) + across * np.cos(turn)
    pen.polygon(list(zip(xs.tolist(), ys.tolist(), strict=True)), fill=int(rng.integers(165, 255)))


def fundus(rng: Rng) -> Image.Image:
    """The back of an eye: an orange disc on black, the optic disc, vessels arching round the macula."""
    size = (300, 240)
    at = posed(rng, size, tilt=4)
    side = rng.choice((-1.0, 1.0))
    disc = (side * rng.uniform(0.42, 0.5), rng.uniform(-0.06, 0.06))
    eye = ellipse(at, (0, 0), (0.94, 0.94))
    shade = 1 - 0.22 * np.clip(1 + eye, 0, 1) ** 3 + 0.04 * noise(rng, at.shape, 4, 3)
    tone = np.asarray((214.0, 112.0, 52.0)) * shade[..., None]
    tone = mix(tone, 0.45 * line(ellipse(at, (-side * 0.12, 0.06), (0.1, 0.1)) + 0.1, 0.13), (120, 46, 22))
    tone = mix(tone, 0.5 * line(np.hypot(at.x - disc[0], at.y - disc[1]), 0.24), (246, 178, 96))
    tone = mix(tone, cover(ellipse(at, disc, (0.125, 0.145)), 0.02), (250, 214, 140))
    tone = mix(tone, cover(ellipse(at, disc, (0.06, 0.07)), 0.04), (255, 240, 196))
    for reach, colour in ((1.0, (122, 22, 18)), (0.72, (164, 44, 26))):
        tone = mix(tone, 0.85 * vessels(rng, size, disc, -side, reach), colour)
    tone = mix(np.full_like(tone, 5.0), cover(eye, 0.012), tone)
    return finish(rng, tone * rng.uniform(0.92, 1.08), 1.8)


def vessels(rng: Rng, size: tuple[int, int], disc: Point, temporal: float, thick: float) -> Plane:
    """The mask of one tree of vessels; it leaves the optic disc and arches to the `temporal` side."""
    drawn = Image.new("L", (size[0] * ENLARGED, size[1] * ENLARGED))
    pen = ImageDraw.Draw(drawn)
    half = size[1] * ENLARGED / 2
    step = 0.03
    # Each entry: where it is, its heading (0 is temporal, positive is down), its bend a step, its width.
    growing = []
    for up in (-1, 1):
        growing.append((disc, up * rng.uniform(1.2, 1.5), -up * rng.uniform(0.028, 0.04), 11.0 * thick))
        growing.append((disc, up * rng.uniform(1.9, 2.3), up * rng.uniform(0.0, 0.02), 7.5 * thick))
    while growing:
        (x, y), heading, bend, width = growing.pop()
        travelled = rng.uniform(0, 0.1)
        while width > 1.6 and np.hypot(x, y) < 1:
            heading += bend + rng.normal(0, 0.07)
            ahead = (x + temporal * step * np.cos(heading), y + step * np.sin(heading))
            ends = [(half * (px + size[0] / size[1]), half * (py + 1)) for px, py in ((x, y), ahead)]
            pen.line([*ends[0], *ends[1]], fill=255, width=max(1, round(width)))
            (x, y), width, travelled = ahead, width * 0.982, travelled + step
            if travelled > 0.3:
                turn = rng.choice((-1, 1)) * rng.uniform(0.6, 1.0)
                growing.append(((x, y), heading + turn, -0.015 * np.sign(turn), width * 0.62))
                travelled = rng.uniform(0, 0.1)
    return mask_of(drawn, size)


def skin(rng: Rng) -> Image.Image:
    """A mole seen through a magnifier: brown net within an uneven border, skin lines, a few hairs."""
    size = (304, 240)
    at = posed(rng, size, tilt=25)
    base: Colour = (rng.uniform(218, 232), rng.uniform(168, 184), rng.uniform(142, 158))
    tone = np.asarray(base) * (1 + 0.02 * noise(rng, at.shape, 3, 3))[..., None]
    tone = mix(tone, 0.16 * line(noise(rng, at.shape, 22), 0.2), (196, 138, 116))

    bent = warped(rng, warped(rng, at, 0.06, 4), 0.02, 14)
    mole = ellipse(bent, (0, 0), (rng.uniform(0.5, 0.62), rng.uniform(0.42, 0.5)))
    tone = mix(tone, 0.92 * cover(mole, 0.06), (146, 88, 58))
    core = ellipse(bent, (rng.uniform(-0.12, 0.12), rng.uniform(-0.1, 0.1)), (0.28, 0.24))
    tone = mix(tone, 0.75 * cover(core + 0.05 * noise(rng, at.shape, 7), 0.12), (84, 44, 32))
    net = line(noise(rng, at.shape, 30), 0.4)
    tone = mix(tone, 0.55 * net * cover(mole, 0.05), (70, 36, 28))

    hairs = Image.new("L", (size[0] * ENLARGED, size[1] * ENLARGED))
    pen = ImageDraw.Draw(hairs)
    for _ in range(rng.integers(3, 7)):
        start, heading = rng.uniform((0, 0), hairs.size), rng.uniform(0, 2 * np.pi)
        bend = rng.normal(0, 0.009)
        for _ in range(60):
            end = start + 7 * np.asarray((np.cos(heading), np.sin(heading)))
            pen.line([*start, *end], fill=220, width=4)
            start, heading = end, heading + bend
    tone = mix(tone, 0.8 * mask_of(hairs, size), (64, 42, 36))
    lens = frame(size)
    corner = np.clip(np.hypot(lens.x, lens.y) - 0.95, 0, 1)
    return finish(rng, tone * (1 - 0.5 * corner)[..., None], 1.8)
