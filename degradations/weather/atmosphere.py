"""The air between camera and scene: distances from inverse depth, the light that haze and rain scatter in.

Inverse depth tells distance up to a scale and an offset (Ranftl et al., arXiv 1907.01341), so distances here are
relative: 1 is that of the nearest point. What the offset hides is drawn, not guessed.
"""

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np

from degradations.numerics.light import decode, luminance
from degradations.pairs.contract import Frame, Light
from storage.records import Image, Plane, Scene

A = TypeVar("A", Image, Plane)

SKY = 0.03  # inverse depth below which a point fades into the sky, at infinity
DARK_SCENE = 0.08  # luminance of the bright parts below which a photograph is of the night
DAY = (0.45, 0.93)  # luminance of daylight scattered in: sRGB 0.7 to 0.97


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What the depth map says of the scene as a whole.

    reach: 95th percentile of the relative distance of all but the sky. horizon: row of the horizon, as a fraction of H.
    sky: fraction of the image that is sky.
    """

    reach: float
    horizon: float
    sky: float


def layout(inverse_depth: Plane, *, offset: float) -> Layout:
    """Return reach, horizon and share of sky, measured on a small copy of the depth map, float32 (H, W) in [0, 1].

    offset: of the inverse depth, above 0.
    """
    small = _shrink(inverse_depth, 64)
    sky = small < SKY
    ground = small[~sky]
    reach = float(np.percentile((1 + offset) / ((ground if ground.size else small) + offset), 95))
    rows = np.nonzero(sky)[0]
    horizon = float(np.percentile(rows + 1, 90)) / small.shape[0] if sky.mean() > 0.02 else 0.35
    return Layout(reach=reach, horizon=horizon, sky=float(sky.mean()))


def airlight(image: Image, inverse_depth: Plane, *, percentile: float, chroma: float) -> tuple[float, float, float]:
    """Return the linear RGB that the air scatters in: a percentile of the far fifth's luminance, nearly grey.

    percentile: 90 to 99, of a copy so small that lamps do not count. chroma: how much of the far part's own colour
    stays, 0 to 1; the mean colour of the scene looks wrong as airlight.
    """
    light = decode(_shrink(image, 48))
    away = _shrink(inverse_depth, 48)
    luma = luminance(light)
    far = light[away <= np.percentile(away, 20)]
    bright = far[luminance(far[None])[0] >= np.percentile(luminance(far[None]), percentile - 5)].mean(axis=0)
    level = float(luminance(bright[None, None])[0, 0])
    around = float(min(np.percentile(luma, 95), 2 * luma.mean()))  # air is lit by what lights the scene, not a lamp
    floor = max(0.75 * around, min(DAY[0], max(0.05, 1.5 * around)))
    colour = 1 + chroma * (bright / max(level, 1e-3) - 1)
    target = float(np.clip(level, floor, DAY[1]))
    red, green, blue = (float(np.clip(target * value, 0.0, 1.0)) for value in np.clip(colour, 0.5, 1.5))
    return red, green, blue


def is_night(image: Image) -> bool:
    """Return whether the photograph, uint8 (H, W, 3), is of the night: dark but for small lights."""
    return float(np.percentile(luminance(decode(_shrink(image, 48))), 75)) < DARK_SCENE


def relit(frame: Frame, light: tuple[float, float, float]) -> Light:
    """Return `light`, linear RGB, as changed by the illumination that acted on the frame before: night dims air too."""
    colour = np.array(light, dtype=np.float32)
    if frame.degraded is frame.clean:
        return colour
    before, after = np.array(cv2.mean(frame.clean)[:3]), np.array(cv2.mean(frame.degraded)[:3])
    dimmed = np.where(before > 1e-4, after / np.maximum(before, 1e-4), 1)
    return np.asarray(colour * np.clip(dimmed, 0, 1), dtype=np.float32)


def glow(light: Light, strength: float) -> Light:
    """Return the light of lamps around them, float32 (h, w, 3), reduced: near them much, far away a little."""
    height, width = light.shape[:2]
    small = cv2.resize(light, (-(-width // 8), -(-height // 8)), interpolation=cv2.INTER_AREA)
    short = min(small.shape[:2])
    near = cv2.GaussianBlur(small, (0, 0), max(0.5, 0.03 * short), borderType=cv2.BORDER_REPLICATE)
    wide = cv2.GaussianBlur(small, (0, 0), max(0.5, 0.12 * short), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.addWeighted(near, 0.6 * strength, wide, 0.4 * strength, 0))


def overlay_luminance(scene: Scene, name: str, *, flip: bool) -> Light | None:
    """Return the luminance, float32 (H, W) in [0, 1], of the pattern handed in for `name`, stretched to the image."""
    pattern = scene.overlays.get(name)
    if pattern is None:
        return None
    height, width = scene.image.shape[:2]
    plane = luminance(decode(np.ascontiguousarray(pattern[:, ::-1] if flip else pattern)))
    return np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR))


def soften(light: Light, sigma: float) -> Light:
    """Return `light` (H, W, C) blurred by a Gaussian of `sigma` >= 1 pixels, (h, w, C), as small as that allows."""
    height, width = light.shape[:2]
    factor = min(max(2, min(8, int(1.5 * sigma))), height, width)
    small = cv2.resize(light, (-(-width // factor), -(-height // factor)), interpolation=cv2.INTER_AREA)
    left = (sigma / factor) ** 2 - (0.25 if factor > 1 else 0)  # shrinking and enlarging blur by half a cell
    return np.asarray(cv2.GaussianBlur(small, (0, 0), max(left, 0.01) ** 0.5, borderType=cv2.BORDER_REPLICATE))


def _shrink(array: A, side: int) -> A:
    height, width = array.shape[:2]
    factor = max(1.0, min(height, width) / side)
    size = max(1, round(width / factor)), max(1, round(height / factor))
    shrunk: A = cv2.resize(array, size, interpolation=cv2.INTER_AREA)
    return shrunk
