"""Statistics of a picture that need no trained weights, by which `realism` compares sets of pictures.

Normalised luma and its products with neighbours (Mittal et al., BRISQUE, doi 10.1109/TIP.2012.2214050), gradients,
the power spectrum, the residual that a median leaves (noise: its size, its growth with light, its grain, its colour),
block edges, the dark channel, saturation, local contrast and tones.
"""

import cv2
import numpy as np

from storage.records import Image

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def statistics(picture: Image) -> dict[str, float]:
    """Return the statistics of `picture`, uint8 (H, W, 3) sRGB, by name."""
    rgb = picture.astype(np.float32) / 255
    luma = rgb @ LUMA
    half = cv2.resize(luma, (luma.shape[1] // 2, luma.shape[0] // 2), interpolation=cv2.INTER_AREA)
    found = {f"{name}_1": value for name, value in _normalised(luma).items()}
    found |= {f"{name}_2": value for name, value in _normalised(half).items()}
    return found | _gradients(luma) | _spectrum(luma) | _residual(rgb, luma) | _blocks(luma) | _tones(rgb, luma)


def _normalised(luma: np.ndarray) -> dict[str, float]:
    """Return width, shape and neighbour products of luma less its local mean, over its local deviation."""
    mean = cv2.GaussianBlur(luma, (7, 7), 7 / 6)
    spread = np.sqrt(np.abs(cv2.GaussianBlur(luma * luma, (7, 7), 7 / 6) - mean * mean))
    field = (luma - mean) / (spread + 1 / 255)
    found = {"mscn_width": float(field.std()), "mscn_shape": float(np.mean(np.abs(field)) / (field.std() + 1e-6))}
    for name, rows, columns in (("row", 0, 1), ("column", 1, 0), ("diagonal", 1, 1)):
        product = field[rows:, columns:] * field[: len(field) - rows, : field.shape[1] - columns]
        found |= {f"product_{name}": float(product.mean()), f"lean_{name}": float(np.mean(np.sign(product)))}
    return found


def _gradients(luma: np.ndarray) -> dict[str, float]:
    across, down = np.diff(luma, axis=1)[:-1], np.diff(luma, axis=0)[:, :-1]
    size = np.hypot(across, down) + 1e-4
    peaked = np.mean(size**4) / np.mean(size**2) ** 2
    edges = size > np.quantile(size, 0.95)
    wide = cv2.boxFilter(size.astype(np.float32), -1, (5, 5))[edges].mean() / size[edges].mean()
    return {
        "gradient_log": float(np.log(size).mean()),
        "gradient_peaked": float(np.log(peaked)),
        "edge_width": float(wide),
        "anisotropy": float(np.log((np.mean(across**2) + 1e-8) / (np.mean(down**2) + 1e-8))),
    }


def _spectrum(luma: np.ndarray) -> dict[str, float]:
    """Return the slope of the log spectrum, its high end, and how far single frequencies rise above their ring."""
    side = min(luma.shape)
    window = np.outer(np.hanning(side), np.hanning(side))
    power = np.log(np.abs(np.fft.fftshift(np.fft.fft2(luma[:side, :side] * window))) ** 2 + 1e-6)
    rows, columns = np.mgrid[:side, :side] - side // 2
    ring = np.hypot(rows, columns).astype(int)
    level = np.bincount(ring.ravel(), power.ravel()) / np.maximum(np.bincount(ring.ravel()), 1)
    radii = np.arange(4, side // 2)
    slope, start = np.polyfit(np.log(radii), level[radii], 1)
    above = (power - level[ring])[(ring > side // 16) & (ring < side // 2)]
    return {
        "slope": float(slope),
        "high_end": float(level[int(0.45 * side)] - (start + slope * np.log(0.45 * side))),
        "peaks": float(np.quantile(above, 0.9999)),
    }


def _residual(rgb: np.ndarray, luma: np.ndarray) -> dict[str, float]:
    """Return what a median of 3 x 3 takes away, where the picture is flat: the noise, its growth, grain and colour."""
    rest = rgb - cv2.medianBlur(rgb, 3)
    texture = cv2.boxFilter(cv2.absdiff(luma, cv2.GaussianBlur(luma, (0, 0), 2)), -1, (9, 9))
    flat = texture <= np.quantile(texture, 0.3)
    grey = rest @ LUMA
    colour = rest - grey[..., None]
    order = np.argsort(luma[flat], kind="stable")
    low, high = (float(np.std(part)) + 1e-4 for part in np.array_split(grey[flat][order], 2))
    neighbour = np.mean(grey[:, 1:][flat[:, 1:]] * grey[:, :-1][flat[:, 1:]]) / (np.mean(grey[flat] ** 2) + 1e-8)
    return {
        "noise": float(np.log(np.std(grey[flat]) + 1e-4)),
        "noise_growth": float(np.log(high / low)),
        "grain": float(neighbour),
        "noise_colour": float(np.log((np.std(colour[flat]) + 1e-4) / (np.std(grey[flat]) + 1e-4))),
    }


def _blocks(luma: np.ndarray) -> dict[str, float]:
    """Return by how much steps on a grid of 8 exceed the others, in log, wherever the grid starts."""
    found = []
    for steps in (np.abs(np.diff(luma, axis=1)).mean(axis=0), np.abs(np.diff(luma, axis=0)).mean(axis=1)):
        by_phase = np.array([steps[phase::8].mean() for phase in range(8)])
        found.append(np.log((by_phase.max() + 1e-5) / (np.median(by_phase) + 1e-5)))
    return {"blocks": float(np.mean(found))}


def _tones(rgb: np.ndarray, luma: np.ndarray) -> dict[str, float]:
    dark = cv2.erode(rgb.min(axis=2), np.ones((7, 7)))
    mean = cv2.GaussianBlur(luma, (0, 0), 8)
    contrast = np.sqrt(np.maximum(cv2.GaussianBlur(luma * luma, (0, 0), 8) - mean * mean, 0))
    quantiles = np.quantile(luma, (0.02, 0.25, 0.5, 0.75, 0.98))
    found = {f"tone_{index}": float(value) for index, value in enumerate(quantiles)}
    spread = rgb.max(axis=2) - rgb.min(axis=2)
    return found | {
        "dark_channel": float(dark.mean()),
        "saturation": float(np.mean(spread / (rgb.max(axis=2) + 0.02))),
        "local_contrast": float(contrast.mean()),
    }
