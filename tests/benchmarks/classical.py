"""Classical restoration, as a user without weights would try it: OpenCV, scikit-image and two short classics.

Every method is a function of an image, uint8 (H, W, 3) sRGB, and its settings. `best` picks method and settings on
training pairs of one type and level, so that these baselines are told the level, which a restorer is not.
"""

import itertools

import cv2
import numpy as np
from skimage import restoration


def untouched(image):
    return image


def non_local_means(image, strength, colour):
    return cv2.fastNlMeansDenoisingColored(image, None, strength, strength * colour, 5, 15)


def bilateral(image, size, sigma):
    return cv2.bilateralFilter(image, size, sigma, size / 2)


def median(image, size):
    return cv2.medianBlur(image, size)


def gaussian(image, sigma):
    return cv2.GaussianBlur(image, (0, 0), sigma)


def total_variation(image, weight):
    return _coded(restoration.denoise_tv_chambolle(image / 255.0, weight=weight, channel_axis=2, max_num_iter=25))


def unsharp(image, sigma, amount):
    soft = cv2.GaussianBlur(image, (0, 0), sigma).astype(np.float32)
    return _coded((image + amount * (image - soft)) / 255)


def richardson_lucy(image, sigma, iterations):
    kernel = _kernel(sigma)
    planes = [restoration.richardson_lucy(plane, kernel, num_iter=iterations) for plane in _planes(image)]
    return _coded(np.dstack(planes))


def wiener(image, sigma, balance):
    return _coded(np.dstack([restoration.wiener(plane, _kernel(sigma), balance) for plane in _planes(image)]))


def auto_gamma(image, mean):
    """Raise the image to the power that gives it this mean."""
    at = float(np.clip(image.mean() / 255, 0.004, 0.996))
    return _coded((image / 255.0) ** (np.log(mean) / np.log(at)))


def auto_gain(image, white, gamma):
    """Stretch the 99th percentile to `white`, then brighten."""
    top = max(float(np.percentile(image, 99)), 1.0)
    return _coded(np.clip(image / top * white, 0, 1) ** gamma)


def tone_curve(image, black, white, gain, gamma):
    """Map the percentiles `black` and 100 - `white` to the ends, by `gain` of the way."""
    low, high = np.percentile(image, (black, 100 - white))
    stretched = np.clip((image - low) / max(high - low, 1), 0, 1) ** gamma
    return _coded(gain * stretched + (1 - gain) * image / 255.0)


def equalised(image, limit):
    """CLAHE of the lightness."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(limit, (8, 8)).apply(lab[..., 0])
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def affine(image, gain, offset):
    return _coded(gain * image / 255.0 + offset)


def dark_channel(image, strength, least, gamma):
    """Dehaze by the dark channel prior (He, Sun, Tang 2011) with a guided filter as refinement."""
    light = image / np.float32(255)
    radius = max(3, min(image.shape[:2]) // 40)
    patch = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    dark = cv2.erode(light.min(axis=2), patch)
    haziest = np.argsort(dark, axis=None)[-max(1, dark.size // 1000) :]
    airlight = light.reshape(-1, 3)[haziest].mean(axis=0).clip(0.2, 1)
    transmission = 1 - strength * cv2.erode((light / airlight).min(axis=2), patch)
    transmission = _guided(cv2.cvtColor(light, cv2.COLOR_RGB2GRAY), transmission, 4 * radius)
    clear = (light - airlight) / np.maximum(transmission, least)[..., None] + airlight
    return _coded(np.clip(clear, 0, 1) ** gamma)


def chroma_blur(image, sigma, light):
    """Blur the colour differences, and a little of the light."""
    planes = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    planes[..., 1:] = cv2.GaussianBlur(planes[..., 1:], (0, 0), sigma)
    if light:
        planes[..., 0] = cv2.GaussianBlur(planes[..., 0], (0, 0), light)
    return cv2.cvtColor(planes, cv2.COLOR_YCrCb2RGB)


def opening(image, size):
    return cv2.morphologyEx(image, cv2.MORPH_OPEN, np.ones((1, size), np.uint8))


SMOOTH = [
    (non_local_means, {"strength": (2, 4, 7, 11, 16, 24), "colour": (1, 2)}),
    (bilateral, {"size": (5, 9), "sigma": (10, 20, 40, 80)}),
    (median, {"size": (3, 5)}),
    (gaussian, {"sigma": (0.5, 0.8, 1.3)}),
    (total_variation, {"weight": (0.01, 0.03, 0.06, 0.12, 0.2)}),
]
SHARPEN = [
    (unsharp, {"sigma": (0.8, 1.5, 2.5, 4), "amount": (0.2, 0.5, 1, 1.8)}),
    (richardson_lucy, {"sigma": (0.6, 1, 1.6, 2.4), "iterations": (2, 5, 12)}),
    (wiener, {"sigma": (0.6, 1, 1.6), "balance": (0.01, 0.05, 0.2)}),
]
CURVES = [
    (auto_gamma, {"mean": (0.25, 0.3, 0.35, 0.4, 0.45, 0.5)}),
    (auto_gain, {"white": (0.6, 0.75, 0.9, 1.0), "gamma": (0.6, 0.75, 0.9, 1.0)}),
    (tone_curve, {"black": (0, 1), "white": (0, 0.5, 2), "gain": (0.3, 0.7, 1), "gamma": (0.5, 0.7, 1, 1.4)}),
    (equalised, {"limit": (1, 2, 4)}),
    (affine, {"gain": (0.9, 1, 1.1, 1.3), "offset": (-0.15, -0.08, -0.04, 0, 0.04)}),
]
HAZE = [(dark_channel, {"strength": (0.4, 0.6, 0.8, 0.95), "least": (0.1, 0.3), "gamma": (0.7, 0.85, 1)})]

METHODS = {
    "noise": SMOOTH,
    "blur": SHARPEN,
    "haze": HAZE + CURVES,
    "low_light": CURVES,
    "compression": SMOOTH + SHARPEN[:1],
    "moire": [*SMOOTH, (chroma_blur, {"sigma": (1.5, 4, 8), "light": (0, 0.5, 1)})],
    "rain": [*SMOOTH, (opening, {"size": (2, 3, 5)}), *CURVES[2:]],
    "flare": CURVES + HAZE,
    "reflection": CURVES + HAZE,
}


def candidates(name):
    """Yield (method, settings) of all that is tried for a type."""
    yield untouched, {}  # the best there is for a faint degradation
    for method, grid in METHODS[name]:
        for values in itertools.product(*grid.values()):
            yield method, dict(zip(grid, values, strict=True))


def scored(name, pairs):
    """Return the PSNR, (candidates, pairs), that each candidate comes to on each of `pairs` of (clean, degraded)."""
    return np.array(
        [
            [psnr(clean, method(degraded, **settings)) for clean, degraded in pairs]
            for method, settings in candidates(name)
        ]
    )


def best(name, scores):
    """Return the method and settings with the best mean of `scores`, (candidates, pairs)."""
    return list(candidates(name))[int(scores.mean(axis=1).argmax())]


def psnr(one, other):
    """Return the PSNR in dB, 60 at most, so that an untouched image does not rule a mean."""
    error = np.mean((one.astype(np.float64) - other) ** 2)
    return float(min(60.0, 10 * np.log10(255**2 / max(error, 1e-9))))


def _planes(image):
    return [image[..., channel] / 255.0 for channel in range(3)]


def _kernel(sigma):
    line = cv2.getGaussianKernel(2 * int(np.ceil(3 * sigma)) + 1, sigma)
    return line @ line.T


def _guided(guide, image, radius, epsilon=1e-3):
    """Return the guided filter of `image` (He, Sun, Tang 2013), by box filters."""
    size = (2 * radius + 1, 2 * radius + 1)
    mean, both = cv2.blur(guide, size), cv2.blur(image, size)
    slope = (cv2.blur(guide * image, size) - mean * both) / (cv2.blur(guide * guide, size) - mean * mean + epsilon)
    return cv2.blur(slope, size) * guide + cv2.blur(both - slope * mean, size)


def _coded(image):
    return np.clip(np.rint(np.asarray(image) * 255), 0, 255).astype(np.uint8)
