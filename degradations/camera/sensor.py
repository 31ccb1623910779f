"""Noise as a sensor makes it: Poisson-Gaussian on the raw mosaic, then through the camera to the picture.

    raw = min(quantise(x + sqrt(shot x + read) n + row), 1),   x = what the colour filter lets through

(Foi et al., doi 10.1109/TIP.2008.2001399; row noise and quantisation as in ELD, arXiv 2108.02158. What a dark current
adds is the black level, and its noise part of `read`.) Only the difference raw - x goes through demosaicing, white
balance, colour matrix and noise reduction, all of them linear here: the photograph has been demosaiced once, by its own
camera, and loses no detail to a second time. Noise reduction takes away what is fine and leaves what is coarse, more of
the chroma than of the luma. A camera's tone curve x^2 (1 + toe) / (x + toe) is undone before the noise and comes again
after it, exactly (Brooks et al., arXiv 1811.11127, unprocess and process tones so). Noise acts at native pixels: it
does not scale with the image.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from degradations.camera.colour import demosaic, from_sensor, keeping, mosaic, to_sensor
from degradations.numerics.light import linear_to_srgb
from degradations.numerics.random import bits, gaussian_field
from degradations.numerics.strips import Work, strips, whole, widened
from degradations.pairs.contract import Light

BLOTCH = 4  # side, in pixels, of the cells that hold the coarse noise which noise reduction leaves behind
HALO = 2  # rows beyond a strip that its demosaiced rows depend on
STUCK = 1e6  # sigmas: a stuck pixel reads full scale
GREY = 0.21404  # linear light of sRGB 0.5
GREY_SIDE = 64  # of the picture that tells the sigma of a sensor: within 1 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """A sensor at one gain, and its camera; 1 is the raw value of white in green.

    shot: variance per unit of light. read: variance at black. row: sigma of whole rows. hot: fraction of stuck pixels.
    bits: of the converter, 0 for none. red, blue, crosstalk: see `from_sensor`. luma, chroma: what noise reduction
    leaves of the fine noise, 0 to 1; it leaves all of the coarse luma, and `blotch` of the coarse chroma. toe: linear
    light below which the tone curve crushes, 0 for none. seed: of the fields.
    """

    shot: float
    read: float
    row: float = 0.0
    hot: float = 0.0
    bits: int = 0
    red: float = 1.0
    blue: float = 1.0
    crosstalk: float = 0.0
    luma: float = 1.0
    chroma: float = 1.0
    blotch: float = 1.0
    toe: float = 0.0
    seed: int = 0


def expose(light: Light, sensor: Sensor, gain: Light | None = None) -> Light:
    """Return `light` (H, W, 3), linear in [0, 1], as `sensor` sees it; noise may take it out of [0, 1].

    gain: float32 (H, W), by which the noise is multiplied place by place.
    """
    return whole(exposure(light, sensor, gain), light)


def exposure(light: Light, sensor: Sensor, gain: Light | None = None) -> Work:
    """Return the work that adds to `light` the noise with which `sensor` sees it; see `expose`."""
    shape = light.shape[:2]
    noise = np.empty(shape, np.float32)
    rows = gaussian_field((shape[0], 1), sensor.seed, stream=1)
    hot = np.zeros(shape, bool) if sensor.hot else None
    if hot is not None:
        hot[stuck(shape, sensor.hot, sensor.seed)] = True
    for _, _, part in strips(shape):
        field = gaussian_field(shape, sensor.seed, rows=part)
        if hot is not None:
            field[hot[part]] = STUCK
        noise[part] = raw_noise(_filtered(light[part], sensor), sensor, field, rows[part])
        if gain is not None:
            noise[part] *= gain[part]
    return development(noise, sensor)


def raw_noise(signal: Light, sensor: Sensor, field: Light, rows: Light) -> Light:
    """Return the noise that `sensor` adds to a mosaic `signal` in [0, 1]: float32 (H, W).

    field, rows: white Gaussian noise of variance 1, (H, W) and (H, 1).
    """
    from degradations.kernels import sensor as kernels

    levels, out = 2**sensor.bits - 1 if sensor.bits else 0, np.empty_like(signal)
    added = (np.float32(sensor.row) * rows).reshape(-1)
    kernels.raw_noise(signal, field, added, sensor.shot, sensor.read, levels, out)
    return out


def development(noise: Light, sensor: Sensor) -> Work:
    """Return the work that adds raw `noise` (H, W) as the camera turns it into colour, alike among neighbours.

    The noise is added to the light before the tone curve of the camera, which then comes again.
    """
    from degradations.kernels.sensor import add_noise

    matrix = keeping(sensor.luma, sensor.chroma) @ from_sensor(sensor.red, sensor.blue, sensor.crosstalk)
    coarse = blotches(noise, sensor)

    wide = np.zeros((1, noise.shape[1], 3), np.float32) if coarse is None else widened(coarse, noise.shape[1])

    def add(light: Light, rows: slice, out: Light) -> None:
        top = max(0, rows.start - HALO)
        fine = demosaic(noise[top : rows.stop + HALO], matrix)[rows.start - top :][: len(light)]
        add_noise(light, fine, wide, np.float32(sensor.toe), rows.start, len(noise), out)

    return add


def blotches(noise: Light, sensor: Sensor) -> Light | None:
    """Return what noise reduction leaves of coarse noise beside the fine, (h, w, 3), or None if nothing.

    At 1 / BLOTCH of the size of raw `noise` (H, W).
    """
    if (sensor.blotch == sensor.chroma and sensor.luma == 1) or min(noise.shape) < BLOTCH:
        return None
    size = (noise.shape[1] // BLOTCH, noise.shape[0] // BLOTCH)
    sites = [noise[row::2, column::2] for row, column in ((0, 0), (0, 1), (1, 0), (1, 1))]
    red, first, second, blue = (cv2.resize(site, size, interpolation=cv2.INTER_AREA) for site in sites)
    left = keeping(1 - sensor.luma, sensor.blotch - sensor.chroma)
    coarse = cv2.merge([red, (first + second) * np.float32(0.5), blue])
    return np.asarray(cv2.transform(coarse, left @ from_sensor(sensor.red, sensor.blue, sensor.crosstalk)))


def stuck(shape: tuple[int, ...], fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of `fraction` of the pixels of `shape`, spread evenly."""
    count = round(fraction * shape[0] * shape[1])
    places = bits((count, 4), seed, stream=2).astype(np.int64) @ np.array([1, 65536, 0, 0])
    places = places * (shape[0] * shape[1]) >> 32
    return np.divmod(places, shape[1])


def grey_sigma(sensor: Sensor) -> float:
    """Return the sigma, in sRGB units of [0, 1], that `sensor` gives a mid-grey picture (mean of the channels)."""
    grey = np.full((GREY_SIDE, GREY_SIDE, 3), GREY, np.float32)
    tones = linear_to_srgb(np.clip(expose(grey, replace(sensor, seed=0)), 0, 1))
    return float(tones.std(axis=(0, 1)).mean())


def _raised(light: Light, toe: float) -> Light:
    from degradations.kernels.sensor import raise_toe

    if toe == 0:
        return light
    out = np.empty_like(light)
    raise_toe(np.ascontiguousarray(light).reshape(-1), np.float32(toe), out.reshape(-1))
    return out


def _filtered(light: Light, sensor: Sensor) -> Light:
    """Return what the mosaic passes of `light` before the tone curve, float32 (H, W)."""
    filters = to_sensor(sensor.red, sensor.blue, sensor.crosstalk)
    if np.array_equal(filters, np.eye(3)):  # a third of the values to raise
        return _raised(mosaic(light, filters), sensor.toe)
    return mosaic(_raised(light, sensor.toe), filters)
