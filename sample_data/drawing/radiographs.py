"""Pictures in the manner of X-ray films: bone is bright, air is dark."""

import numpy as np
from PIL import Image

from .canvas import Frame, Plane, Point, Rng, cover, ellipse, finish, line, mix, noise, posed, rod, warped


def chest(rng: Rng) -> Image.Image:
    """A frontal chest: lungs, rib arcs, spine, heart, collar bones and the domes of the diaphragm."""
    at = warped(rng, posed(rng, (304, 256)), 0.012)
    side = np.abs(at.x)
    both = Frame(side, at.y)
    torso = np.minimum(ellipse(at, (0, 0.55), (1.06, 1.5)), rod(at, (0, -1.4), (0, -0.7), (0.26, 0.34)))
    shoulders = rod(both, (0.1, -0.85), (1.0, -0.5), (0.16, 0.3))
    arms = rod(both, (1.0, -0.5), (1.4, 0.5), (0.3, 0.2))
    tone = 18 + 104 * cover(torso, 0.07)
    tone += 74 * cover(np.minimum(shoulders, arms), 0.05) * (1 - 0.55 * cover(torso, 0.05))

    width, height = rng.uniform(0.36, 0.41), rng.uniform(0.84, 0.92)
    domes = (rng.uniform(0.52, 0.6), rng.uniform(0.58, 0.68))
    lungs = np.zeros(at.shape)
    for sign, dome in zip((-1, 1), domes, strict=True):
        taper = Frame((at.x - sign * 0.5) / (1 + 0.22 * at.y), at.y)
        lobe = ellipse(taper, (0, 0.02), (width, height))
        floor = at.y - dome - 0.9 * (at.x - sign * 0.46) ** 2
        lungs = np.maximum(lungs, cover(np.maximum(lobe, floor), 0.03))
    heart = cover(ellipse(at, (0.16, 0.34), (rng.uniform(0.3, 0.38), 0.34), 32), 0.04)
    lungs *= 1 - 0.9 * heart
    tone += lungs * (-102 + 9 * noise(rng, at.shape, 7, 3))

    cage = cover(ellipse(at, (0, 0.05), (0.99, 1.02)), 0.05) * cover(0.1 - side, 0.05)
    slope, pitch = rng.uniform(0.34, 0.44), rng.uniform(0.165, 0.185)
    for number in range(9):
        back = -0.86 + number * pitch - 0.22 * np.sin(np.pi * side) + slope * side**2 + 0.02 * number * side
        tone += cage * rib(at.y - back, 0.04) * (44 - 2 * number)
        front = -0.62 + number * pitch + 0.3 * np.cos(1.9 * side)
        tone += cage * rib(at.y - front, 0.036) * cover(0.42 - side, 0.15) * 17
    hila = line(side - 0.2, 0.1) * line(at.y - 0.02, 0.26)
    tone += 34 * hila * (1 + 0.5 * noise(rng, at.shape, 14, 2))

    tone += 44 * cover(side - 0.1, 0.05) + 12 * cover(side - 0.1, 0.03) * np.cos(at.y * 38)
    for sign in (-1, 1):
        tip = -0.74 + rng.uniform(-0.05, 0.05)
        collar = rod(at, (sign * 0.13, -0.6), (sign * 0.9, tip), (0.045, 0.035))
        upper_arm = rod(at, (sign * 1.02, -0.5), (sign * 1.4, 0.5), (0.13, 0.09))
        tone += 40 * np.maximum(shell(collar, 0.03), shell(upper_arm, 0.04))
    return finish(rng, 128 + rng.uniform(0.92, 1.12) * (tone - 122), 2.2)


def hand(rng: Rng) -> Image.Image:
    """A hand and wrist, fingers up, each finger a row of waisted bones within a soft outline."""
    at = warped(rng, posed(rng, (256, 320), tilt=5), 0.008)
    left_or_right = rng.choice((-1.07, 1.07))
    at = Frame(left_or_right * at.x, 1.07 * at.y - 0.02)
    spread = rng.uniform(0.85, 1.12)
    flesh, bones = rod(at, (0.0, 0.66), (0.0, 1.3), (0.24, 0.27)), np.zeros(at.shape)
    flesh = np.minimum(flesh, ellipse(at, (0.0, 0.38), (0.29, 0.36)))

    # Each finger: where it starts, its direction in degrees, the lengths of its bones, their radius.
    rays: list[tuple[Point, float, tuple[float, ...], float]] = [
        ((-0.17, 0.43), -36, (0.25, 0.19, 0.14), 0.05),
        ((-0.14, 0.30), -10, (0.36, 0.24, 0.15, 0.1), 0.047),
        ((-0.04, 0.28), -1, (0.36, 0.27, 0.18, 0.11), 0.048),
        ((0.06, 0.30), 7, (0.33, 0.25, 0.17, 0.11), 0.045),
        ((0.15, 0.34), 17, (0.29, 0.2, 0.12, 0.1), 0.04),
    ]
    for root, degrees, lengths, radius in rays:
        turn = np.deg2rad(degrees * spread + rng.uniform(-2, 2))
        start = root
        for number, length in enumerate(lengths):
            thick = radius * 0.88**number
            end = (start[0] + length * np.sin(turn), start[1] - length * np.cos(turn))
            bones = np.maximum(bones, shell(rod(at, start, end, (thick, thick * 0.85), 0.38), 0.018))
            flesh = np.minimum(flesh, rod(at, start, end, (radius * (1.9 if number else 2.8), radius * 1.75)))
            joint = 2.2 * thick
            start = (end[0] + joint * np.sin(turn), end[1] - joint * np.cos(turn))
    for row, y in enumerate((0.43, 0.55)):
        for number in range(4):
            centre = (-0.15 + 0.1 * number + 0.01 * row, y + rng.uniform(-0.015, 0.015))
            wrist = ellipse(at, centre, (rng.uniform(0.05, 0.062), 0.062), rng.uniform(-40, 40))
            bones = np.maximum(bones, 0.92 * shell(wrist, 0.018))
    radius_bone = rod(at, (-0.09, 0.7), (-0.11, 1.4), (0.115, 0.075), 0.1)
    ulna = rod(at, (0.13, 0.72), (0.11, 1.4), (0.06, 0.062), 0.1)
    bones = np.maximum(bones, shell(np.minimum(radius_bone, ulna), 0.022))

    tone = 14 + 6 * noise(rng, at.shape, 2) + rng.uniform(52, 66) * cover(flesh, 0.03)
    tone = mix(tone, bones, rng.uniform(190, 215) + 7 * noise(rng, at.shape, 40, 2))
    return finish(rng, tone, 2.0)


def dental(rng: Rng) -> Image.Image:
    """A bitewing: two rows of molars facing each other, enamel caps, pulp chambers, roots in the jaw."""
    at = warped(rng, posed(rng, (368, 256), tilt=3), 0.01)
    bow = at.y + rng.uniform(0.01, 0.05) * at.x**2
    tone = 30 + 4 * noise(rng, at.shape, 3)
    trabeculae = 11 * noise(rng, at.shape, 26, 2) - 20 * line(noise(rng, at.shape, 24), 0.3)
    pitch, offset = rng.uniform(0.48, 0.53), rng.uniform(-0.08, 0.08)
    for sign, slide in ((-1, offset), (1, offset + rng.uniform(0.1, 0.22))):
        depth = Frame(at.x, sign * bow)
        crest = depth.y - 0.52 - 0.03 * np.cos(2 * np.pi * (at.x - slide) / pitch)
        tone = mix(tone, cover(0.36 - depth.y, 0.05), 62)
        tone = mix(tone, cover(-crest, 0.03), 116 + trabeculae)
        for number in range(-3, 4):
            tone = tooth(rng, tone, depth, slide + number * pitch, pitch)
    return finish(rng, 128 + rng.uniform(0.95, 1.1) * (tone - 128), 2.2)


def tooth(rng: Rng, tone: Plane, at: Frame, middle: float, pitch: float) -> Plane:
    """One molar drawn on `tone`, crown near y = 0 and roots towards y = 1."""
    half = pitch * rng.uniform(0.44, 0.47)
    local = Frame(at.x - middle, at.y)
    cusps = 0.04 + 0.025 * np.cos(2 * np.pi * local.x / half)
    square = (np.abs(local.x / half) ** 4 + np.abs((local.y - 0.26 - cusps / 2) / 0.25) ** 4) ** 0.25
    crown = (square - 1) * half
    lean = rng.uniform(-0.03, 0.03)
    roots = np.full(at.shape, np.inf)
    canals = np.zeros(at.shape)
    for sign in (-1, 1):
        start, end = (sign * half * 0.48, 0.42), (sign * half * 0.55 + lean, rng.uniform(0.88, 0.98))
        roots = np.minimum(roots, rod(local, start, end, (half * 0.46, half * 0.14)))
        canals = np.maximum(canals, cover(rod(local, start, end, (0.022, 0.01)), 0.012))
    body = np.minimum(crown, roots)
    tone = mix(tone, 0.7 * line(body - 0.018, 0.013), 66)
    tone = mix(tone, cover(body, 0.016), 160 + 5 * noise(rng, at.shape, 9))
    pulp = cover(ellipse(local, (0, 0.36), (half * 0.5, 0.055)), 0.02)
    tone = mix(tone, np.maximum(0.55 * pulp, 0.35 * canals), 76)
    cap = cover(crown) * cover(local.y - 0.36, 0.05) * cover(-0.055 - crown, 0.02)
    tone = mix(tone, cap, 218)
    if rng.random() < 0.12:
        spot = (rng.uniform(-0.08, 0.08), rng.uniform(0.08, 0.13))
        filling = ellipse(local, spot, (half * rng.uniform(0.3, 0.5), 0.07))
        tone = mix(tone, cover(np.maximum(filling, crown), 0.02), 244)
    return tone


def rib(distance: Plane, half: float) -> Plane:
    """The profile of a rib: a faint band between two brighter edges, the lower one the sharper."""
    band = cover(np.abs(distance) - half, 0.015)
    return 0.7 * band + 0.5 * line(distance - half, 0.012) + 0.3 * line(distance + half, 0.016)


def shell(distance: Plane, wall: float) -> Plane:
    """The mask of a bone: dense along its wall, less so within."""
    return np.asarray(cover(distance, 0.01) * (0.68 + 0.32 * line(distance + wall / 2, wall)))
