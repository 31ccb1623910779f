"""Diffraction at the aperture of a lens: what makes the star around a lamp, and the shape of a ghost.

The point spread function of a lens is the squared Fourier transform of its pupil (Goodman, Introduction to Fourier
Optics, section 6). Its size is proportional to the wavelength, which in logarithmic polar coordinates is a shift, so
that white light is one short convolution along the radius. Dust and scratches on the front lens make the fine rays.
"""

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from scipy.fft import rfft2

from degradations.numerics.random import uniform_field
from degradations.pairs.contract import Light
from storage.records import Image

PUPIL = 256  # samples across the pupil plane
ANGLES, RADII = 512, 96
NEAR, FAR = 0.002, 3.0  # radii of the first and last sample, in short sides of the image
STEP = math.log(FAR / NEAR) / (RADII - 1)
WAVELENGTHS = (610.0, 540.0, 465.0)  # nm, the middle of the red, green and blue band
_BAND = 3  # samples: a band of +-12 %
_LOBES = 12  # points of the smooth noise over the angle
_SPECTRUM_EDGE = 0.9  # short sides from the lamp at which the pupil's spectrum ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Aperture:
    """The pupil of a lens.

    blades: 5 to 11. roundness: 0 polygon to 1 circle. rotation: radians. dust, scratches: how many. smear: strength of
    parallel wipe marks in [0, 1], seed: of where dust, scratches, smear and lobes are.
    """

    blades: int
    roundness: float
    rotation: float
    dust: int
    scratches: int
    smear: float
    seed: int


def outline(aperture: Aperture, angles: Light) -> Light:
    """Return the radius of the opening, 1 at its corners, at `angles` in radians, float32 of their shape."""
    sector = 2 * math.pi / aperture.blades
    inner = np.mod(angles - aperture.rotation, sector) - sector / 2
    polygon = math.cos(sector / 2) / np.cos(inner)
    return np.asarray(polygon + aperture.roundness * (1 - polygon), dtype=np.float32)


def pupil(aperture: Aperture, *, size: int = PUPIL, radius: float = 0.4) -> Light:
    """Return the transmission of the pupil, float32 (size, size) in [0, 1]; its corners lie at `radius` sizes."""
    rim = np.linspace(0, 2 * math.pi, 180, endpoint=False, dtype=np.float32)
    reach = outline(aperture, rim) * np.float32(radius * size)
    corners = np.stack((reach * np.cos(rim), reach * np.sin(rim)), axis=1) + (size - 1) / 2
    opening = np.zeros((size, size), np.uint8)
    cv2.fillPoly(opening, [np.rint(corners * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    _soil(opening, aperture, size * radius)
    return opening.astype(np.float32) * np.float32(1 / 255)


def _soil(opening: Image, aperture: Aperture, reach: float) -> None:
    """Draw dust and scratches into `opening`."""
    middle = opening.shape[0] / 2
    where = uniform_field((aperture.dust + aperture.scratches, 5), aperture.seed) * 2 - 1
    for row, column, size, shade, _ in where[: aperture.dust]:
        centre = (round(float(middle + column * reach) * 16), round(float(middle + row * reach) * 16))
        cv2.circle(
            opening, centre, round((1.2 + 3.5 * size**2) * 16), round(90 + 90 * float(shade)), -1, cv2.LINE_AA, 4
        )
    for row, column, tilt, length, shade in where[aperture.dust :]:
        half = reach * (0.3 + 0.5 * abs(float(length)))
        across, down = half * math.cos(math.pi * tilt), half * math.sin(math.pi * tilt)
        start = (round(float(middle + column * reach - across) * 16), round(float(middle + row * reach - down) * 16))
        end = (round(float(middle + column * reach + across) * 16), round(float(middle + row * reach + down) * 16))
        cv2.line(opening, start, end, round(120 + 80 * float(shade)), 1, cv2.LINE_AA, 4)


def star(aperture: Aperture) -> Light:
    """Return the diffraction pattern of green light over angle and log radius, float32 (ANGLES, RADII), mean about 1.

    Row: angle from 0 to 2 pi; whatever the pupil, half a turn further on it is the same, as the spectrum of what is
    real. Column: log radius from NEAR to FAR. Only the contrast between directions is kept, the
    fall with the radius is that of the lens (scatter), not of the pupil. Other colours are moved along the radius.
    """
    half = cv2.remap(_spectrum(pupil(aperture)), *_polar_maps(), cv2.INTER_LINEAR)
    half /= np.maximum(half.mean(axis=0), np.float32(1e-12))
    if aperture.smear > 0:
        half += np.float32(aperture.smear) * _smear(aperture)[:, None]
    half = cv2.blur(half, (_BAND, 1), borderType=cv2.BORDER_REPLICATE)
    half /= half.mean(axis=0)
    quarter = ANGLES // 4  # the half turn begins at -pi / 2
    return np.concatenate((half[quarter:], half, half[:quarter]))


def lobes(aperture: Aperture) -> Light:
    """Return the uneven spread of the glare over the angle, float32 (ANGLES,), mean 1: no lens is clean all round."""
    heights = uniform_field((1, _LOBES), aperture.seed, stream=2)
    columns = np.arange(ANGLES, dtype=np.float32)[None, :] * np.float32(_LOBES / ANGLES)
    smooth = cv2.remap(heights, columns, np.zeros_like(columns), cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)
    spread = np.exp(np.float32(2.5) * smooth[0])
    return np.asarray(spread / spread.mean(), dtype=np.float32)


@cache
def _polar_maps() -> tuple[Light, Light]:
    """Return the column and row of the spectrum at each angle and log radius: half a turn, the other is the same."""
    radius = np.minimum(NEAR * np.exp(np.arange(RADII) * STEP) / _SPECTRUM_EDGE, 1) * (PUPIL / 2 - 2)
    angle = np.arange(ANGLES // 2)[:, None] * (2 * math.pi / ANGLES) - math.pi / 2
    columns, rows = np.cos(angle) * radius, PUPIL / 2 + np.sin(angle) * radius
    return columns.astype(np.float32), rows.astype(np.float32)


def _spectrum(transmission: Light) -> Light:
    """Return the squared Fourier transform, float32 (PUPIL, PUPIL / 2 + 1), vertical frequency 0 in the middle."""
    swing = (np.arange(PUPIL, dtype=np.float32) % 2 * -2 + 1)[:, None]  # moves frequency 0 to the middle
    waves = rfft2(transmission * swing)
    return np.asarray(waves.real**2 + waves.imag**2, dtype=np.float32)


def _smear(aperture: Aperture) -> Light:
    """Return the light over half a turn that parallel wipe marks scatter across themselves, float32."""
    tilt, width = uniform_field((2,), aperture.seed, stream=1)
    distance = np.abs(np.sin(np.arange(ANGLES // 2) * (2 * math.pi / ANGLES) - math.pi * float(tilt)))
    return np.asarray(12 * np.exp(-((distance / (0.02 + 0.1 * float(width))) ** 2)), dtype=np.float32)
