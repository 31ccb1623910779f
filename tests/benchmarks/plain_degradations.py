"""The nine degradations as released pipelines make them: in gamma space, without a camera. The peers of `realism`.

After RealRestorer's released code (arXiv 2603.25502) where it has the type (blur, haze, noise, rain, reflection, moire
as MIB, web compression), after the paper's text or the common practice of the field where it has not (low light: the
paper's attenuation and gamma; flare: a glow added in gamma space). Written anew, for comparison only.
"""

from collections.abc import Callable

import cv2
import numpy as np

from storage.records import Image, Scene

Plain = Callable[[np.ndarray, Scene, float, np.random.Generator], np.ndarray]  # picture in [0, 1] and severity


def plain(name: str, scene: Scene, severity: float, seed: int) -> Image:
    """Return the picture of `scene` with the plain degradation `name` at `severity` in [0, 1]."""
    rng = np.random.Generator(np.random.PCG64(seed))
    picture = PLAIN[name](scene.image.astype(np.float32) / 255, scene, severity, rng)
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _blur(picture, scene, severity, rng):
    side = int(rng.integers(3, 11)) * 2 + 1
    return cv2.GaussianBlur(picture, (side, side), 0.5 + 5.5 * severity)


def _compression(picture, scene, severity, rng):
    height, width = picture.shape[:2]
    scale = 1 - severity * rng.uniform(0.1, 0.5)
    small = cv2.resize(picture, (int(width * scale), int(height * scale)), interpolation=cv2.INTER_AREA)
    small = np.clip(small + rng.normal(0, severity * 10 / 255, small.shape), 0, 1)
    quality = int(95 - severity * rng.uniform(20, 65))
    _, code = cv2.imencode(".jpg", (small * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])
    back = cv2.imdecode(code, cv2.IMREAD_COLOR).astype(np.float32) / 255
    return cv2.resize(back, (width, height), interpolation=cv2.INTER_CUBIC)


def _haze(picture, scene, severity, rng):
    depth = (1 - scene.depth) ** rng.uniform(1, 2)
    beta = 0.6 + 1.2 * severity
    airlight = np.interp(beta, (0.3, 3), (0.78, 0.95)) + rng.normal(0, 0.01)
    transmission = cv2.GaussianBlur(np.exp(-beta * depth).clip(0.05, 1), (0, 0), 1)[..., None]
    return picture * transmission + airlight * (1 - transmission)


def _low_light(picture, scene, severity, rng):
    return ((1 - 0.6 * severity) * picture) ** (1 + 2.2 * severity)


def _noise(picture, scene, severity, rng):
    noisy = picture + rng.normal(0, np.sqrt(0.005 + 0.02 * severity) * severity, picture.shape)
    coarse = rng.normal(0, severity * 8 / 255, picture.shape[:2])[..., None]
    noisy = noisy + coarse + 0.35 * rng.normal(0, severity * 8 / 255, picture.shape)
    salt = rng.random(picture.shape[:2]) < 0.005 * severity
    noisy[salt] = rng.integers(0, 2, int(salt.sum()))[:, None]
    return noisy


def _rain(picture, scene, severity, rng):
    height, width = picture.shape[:2]
    layer = np.zeros((height, width), np.float32)
    slope = np.tan(np.deg2rad(rng.uniform(-15, 15)))
    for _ in range(int(severity * 0.006 * height * width)):
        row, column, length = rng.integers(0, height), rng.integers(0, width), rng.uniform(5, 30)
        end = (int(column + slope * length), int(row + length))
        cv2.line(layer, (int(column), int(row)), end, float(rng.uniform(0.3, 0.9)), 1)
    return picture + layer[..., None] * 0.8


def _reflection(picture, scene, severity, rng):
    other = cv2.resize(scene.overlays["reflection"], picture.shape[1::-1]).astype(np.float32) / 255
    other = cv2.GaussianBlur(other, (0, 0), rng.uniform(1, 5))
    weight = 0.05 + 0.45 * severity
    return (1 - weight) * picture + weight * other


def _flare(picture, scene, severity, rng):
    height, width = picture.shape[:2]
    rows, columns = np.mgrid[:height, :width] / height
    distance = np.hypot(rows - rng.uniform(0, 1), columns - rng.uniform(0, width / height))
    glow = np.exp(-distance / (0.05 + 0.3 * severity))[..., None] * rng.uniform(0.8, 1, 3)
    return 1 - (1 - picture) * (1 - np.clip(glow * (0.4 + severity), 0, 1))


def _moire(picture, scene, severity, rng):
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]]
    pattern = np.ones(picture.shape)
    for channel in range(3):
        angle, pitch = rng.uniform(0, np.pi), rng.uniform(4, 30)
        wave = np.cos(2 * np.pi * (rows * np.cos(angle) + columns * np.sin(angle)) / pitch)
        pattern[..., channel] -= 0.4 * severity * (0.5 + 0.5 * wave)
    return 0.7 * picture * pattern + 0.3 * np.clip(picture + pattern - 1, 0, 1)


PLAIN: dict[str, Plain] = {
    "blur": _blur,
    "compression": _compression,
    "flare": _flare,
    "haze": _haze,
    "low_light": _low_light,
    "moire": _moire,
    "noise": _noise,
    "rain": _rain,
    "reflection": _reflection,
}
