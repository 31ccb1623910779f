"""Moire: a photograph of a screen, whose subpixels beat with the camera's colour filters.

What is seen: curved, rainbow-coloured bands over all or part of the picture, and the dull, tinted look of a screen.

The full simulation (subpixel mosaic, projection, lens, Bayer mosaic, demosaicing; Liu et al., arXiv 1805.02996) needs
many samples per screen pixel. Ours is its closed form. A screen lights the pixel at x with L(x) S(g(x)), S periodic in
screen pixels, g the projection. The camera's optics keep the harmonics k of S below their MTF, and its mosaic, which
samples channel c at every other pixel from o_c on, sees each of them at the frequency left when half-integers n/2 are
taken away:

    P_c(x) = sum_k a_ck MTF(|k| / pitch) cos 2 pi (k . (g(x) - n x / 2) + k . (n o_c / 2 - d_c)),   out = L (1 + P)

d_c is the place of the subpixel, a_ck the Fourier series of its layout. So P is a periodic tile looked up along a slow
phase, g(x) - n x / 2; it is made at the density of the mosaic and interpolated bilinearly, as demosaicing does. Only
the phase of the grid is warped, never the content. All lengths are in pixels at min(H, W) = 1024: the pattern is that
of the camera that fills the picture with as many pixels. The tint and shade of a screen are there where the pattern
is, so that the affected area is the one that the level names.

`preset="mib"` blends a pattern as UniDemoire does (arXiv 2502.06324): w multiply + (1 - w) 0.8 grain merge.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from degradations.coding.codecs import Subsampling, jpeg
from degradations.numerics.fields import lattice
from degradations.numerics.light import LUMA
from degradations.numerics.random import chance, choice, integer, log_uniform, seed, uniform
from degradations.numerics.strips import ByRows, Work, widened
from degradations.pairs.contract import Degradation, Frame, Light, Options, Part, Share, Stage
from degradations.pairs.severity import path
from storage.records import Image, Scene

Layout = Literal["rgb", "bgr", "pentile", "delta"]
LAYOUTS: tuple[Layout, ...] = ("rgb", "bgr", "pentile", "delta")
WEIGHTS = (0.3, 0.3, 0.25, 0.15)  # a mosaic that begins with blue, or a camera upside down, sees rgb as bgr: as often
CONTRAST = (0.06, 0.09, 0.12, 0.15, 0.2, 0.28)  # RMS of the pattern over the light, at the borders of the levels
SATURATION = (0.4, 0.5, 0.7, 0.85, 1.0, 1.0)  # real patterns are of more colour than light (`EXPERIMENTS.md`)
AREA = (0.05, 0.18, 0.36, 0.52, 0.78, 1.0)  # of the pattern; weak, it is seen in half of that (`EXPERIMENTS.md`)
BLENDED_AREA = (0.05, 0.1, 0.2, 0.5, 0.8, 1.0)  # of a blended one, which is seen all over
LIFT = (0.0, 0.02, 0.06, 0.2, 0.5, 1.0)  # it is seen all over the picture, so it comes last
GREY = 0.7  # sRGB value on which patterns to blend lie
QUALITY = (99.0, 98.0, 96.0, 89.0, 76.0, 60.0)  # of a copy, which is seen all over, so it comes last, too
TILE = 48  # samples of the periodic tile, which holds two screen pixels a side
BLOCK = 2  # the pattern is made for each 2 x 2 cell of the mosaic


@dataclass(frozen=True, slots=True, kw_only=True)
class Moire:
    """Drawn values. Lengths in pixels at min(H, W) = 1024; tuples hold one value for each grid.

    contrast: RMS of the pattern where it is, relative. saturation: of its colours, 0 to 1. area: share of the picture,
    0 to 1; area_seed: of its mask. layout: of the subpixels. orders: camera pixels per half beat, 1 (a screen pixel is
    two camera pixels wide) or 2. beat_rows, beat_columns: cycles per pixel that are left. tilt_rows, tilt_columns:
    perspective, 1/pixel. bulge: radial distortion, 1/pixel^2. phases: cycles, row and column in turn. weights: of the
    grids. blur: sigma of the optics in camera pixels.
    lift: black level, linear. vignette: loss in the corners, 0 to 1. white: gains of the channels, exposure
    included. band: depth of the rolling-shutter band, band_cycles: per picture height, band_phase: cycles.
    quality: of the JPEG copy, 0 for none; subsampling: of its colours.
    blend: 0 for the camera, else the weight of multiply in the blend; opacity: of the blended pattern, 0 to 1.
    """

    contrast: float
    saturation: float
    area: float
    area_seed: int
    layout: Layout
    orders: tuple[int, ...]
    beat_rows: tuple[float, ...]
    beat_columns: tuple[float, ...]
    tilt_rows: tuple[float, ...]
    tilt_columns: tuple[float, ...]
    bulge: tuple[float, ...]
    phases: tuple[float, ...]
    weights: tuple[float, ...]
    blur: float
    lift: float
    vignette: float
    white: tuple[float, float, float]
    band: float
    band_cycles: float
    band_phase: float
    quality: int
    subsampling: Subsampling
    blend: float
    opacity: float
    use_overlay: bool


class MoireOptions(Options, frozen=True):
    """preset: the camera, or UniDemoire's blend. patterns: a folder of pictures of moire that may be blended instead.

    pattern_share: share of pictures that get one of `patterns` when there are any. screen_look: whether the screen's
    black level, tint and vignette are there too. jpeg: share that is stored as JPEG.
    """

    preset: Literal["camera", "mib"] = "camera"
    patterns: str | None = None
    pattern_share: Share = 0.5
    screen_look: bool = True
    jpeg: Share = 0.25


def sample(rng: np.random.Generator, severity: float, scene: Scene, options: MoireOptions) -> Moire:
    """Draw one to three grids before a camera; contrast, colour and area follow `severity`."""
    count = integer(rng, 1, 3)
    grids = [_grid(rng) for _ in range(3)][:count]
    overlay = chance(rng, options.pattern_share) and "moire" in scene.overlays
    weight, warm, tint = uniform(rng, 0.65, 0.75), uniform(rng, -1, 1), uniform(rng, -1, 1)
    banded, is_jpeg = chance(rng, 0.2), chance(rng, options.jpeg)
    compressed = is_jpeg and severity > 0
    look = path(severity, (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)) * options.screen_look
    dim = 1 - uniform(rng, 0.05, 0.25) * look  # who photographs a screen keeps its white below clipping
    blended = options.preset == "mib" or overlay
    white = (dim * (1 + 0.08 * look * warm), dim * (1 + 0.04 * look * tint), dim * (1 - 0.08 * look * warm))
    return Moire(
        contrast=path(severity, CONTRAST),
        saturation=path(severity, SATURATION),
        area=path(severity, BLENDED_AREA if blended else AREA),
        area_seed=seed(rng),
        layout=choice(rng, LAYOUTS, WEIGHTS),
        orders=tuple(grid[0] for grid in grids),
        beat_rows=tuple(grid[1] for grid in grids),
        beat_columns=tuple(grid[2] for grid in grids),
        tilt_rows=tuple(grid[3] for grid in grids),
        tilt_columns=tuple(grid[4] for grid in grids),
        bulge=tuple(grid[5] for grid in grids),
        phases=tuple(phase for grid in grids for phase in grid[6:8]),
        weights=tuple((1.0, 0.7, 0.5)[:count]),
        blur=uniform(rng, 0.25, 0.6),
        lift=uniform(rng, 0.005, 0.03) * path(severity, LIFT) * options.screen_look,
        vignette=uniform(rng, 0.05, 0.2) * look,
        white=white,
        band=uniform(rng, 0.02, 0.08) * look * banded,
        band_cycles=uniform(rng, 0.5, 3),
        band_phase=uniform(rng, 0, 1),
        quality=round(path(severity, QUALITY, identity=QUALITY[0])) if compressed else 0,
        subsampling="4:4:4",
        blend=weight if blended else 0.0,
        opacity=path(severity, (0.2, 0.3, 0.45, 0.6, 0.8, 1.0)),
        use_overlay=overlay,
    )


def _recapture(frame: Frame, params: Moire, scene: Scene) -> Frame | Work:
    """Let a camera see `frame` on a screen, or blend a pattern with it."""
    if params.blend:
        return _blended(params, scene)
    from degradations.kernels.moire import emit, screen

    shape = scene.image.shape[0], scene.image.shape[1]
    mask = region(params, shape)
    gain, white = np.empty((3, *mask.shape), np.float32), np.asarray(params.white, np.float32)
    screen(_patterned(params, shape, mask), mask, *_shading(params, mask.shape), white, params.lift, gain)
    wide = widened(_merged(gain), shape[1])
    return lambda light, rows, out: emit(light, wide, params.lift, rows.start, shape[0], out)


recapture = ByRows(_recapture, idle=lambda params: params.contrast == 0)


def copy(frame: Frame, params: Moire, scene: Scene) -> Frame:
    """Return the uint8 `frame` as its JPEG copy."""
    del scene
    if params.quality == 0:
        return frame
    return replace(frame, degraded=jpeg(frame.degraded, quality=params.quality, subsampling=params.subsampling))


def pattern(params: Moire, shape: tuple[int, int]) -> Light:
    """Return P at half the density, (ceil(H/2), ceil(W/2), 3): in the masked area mean 0, RMS `contrast`."""
    return _merged(_patterned(params, shape, region(params, shape)))


def _patterned(params: Moire, shape: tuple[int, int], mask: Light) -> Light:
    """Return the planes of P, (3, h, w)."""
    from degradations.kernels.moire import beats, coloured

    total, sums = np.empty((4, *mask.shape), np.float32), np.zeros((4, 4, mask.shape[1]), np.float32)
    scale = 1024 / min(shape)
    beats(_tiles(params), _grids(params), _axis(shape[0], scale), _axis(shape[1], scale), mask, total, sums)
    mean, covariance = _moments(sums.sum(axis=2, dtype=np.float64))
    colours = _saturation(params.saturation).astype(np.float64)
    power = float(np.trace(colours @ covariance @ colours.T)) / 3
    scaled = colours * (params.contrast / max(power, 1e-12) ** 0.5)
    out = np.empty((3, *mask.shape), np.float32)
    coloured(total, mask, np.column_stack((scaled, -scaled @ mean)).astype(np.float32), out)
    return out


def _merged(planes: Light) -> Light:
    return np.asarray(cv2.merge(list(planes))).reshape(*planes.shape[1:], 3)


def _moments(sums: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean (3,) and the covariance (3, 3) of three channels, from the sums of `beats`."""
    upper = np.triu(sums) / (sums[3, 3] + 1e-9)
    mean, products = upper[:3, 3], (upper + np.triu(upper, 1).T)[:3, :3]
    return mean, products - np.outer(mean, mean)


def _tiles(params: Moire) -> Light:
    """Return the tile of each grid, (G, 3, TILE + 2, TILE + 2), continued beyond its end."""
    tiles = [
        np.float32(weight) * tile_of(params.layout, order, params.blur).transpose(2, 0, 1)
        for weight, order in zip(params.weights, params.orders, strict=True)
    ]
    return np.stack([np.pad(tile, ((0, 0), (0, 2), (0, 2)), mode="wrap") for tile in tiles])


def _grids(params: Moire) -> Light:
    """Return the numbers of each grid, in samples of the tile (see `beats`): (G, 8)."""
    unit = TILE / 2  # samples in a screen pixel
    grids = zip(
        params.orders,
        params.beat_rows,
        params.beat_columns,
        params.tilt_rows,
        params.tilt_columns,
        params.bulge,
        params.phases[::2],
        params.phases[1::2],
        strict=True,
    )
    return np.array(
        [
            (unit * (order / 2 + beat), unit * turned, unit * order / 2, *tilts, bulge, unit * row, unit * column)
            for order, turned, beat, *tilts, bulge, row, column in grids
        ],
        np.float32,
    )


def tile_of(layout: Layout, order: int, blur: float) -> Light:
    """Return two screen pixels a side as the mosaic sees them, (TILE, TILE, 3): no mean, shifted by n o_c / 2.

    The layout is drawn with TILE samples a side and every harmonic weighed by the MTF of the sensor's aperture (95 % of
    a pixel) and of the optics (Gaussian).
    """
    frequencies = np.fft.fftfreq(TILE, 1 / TILE) / 2  # harmonics, in cycles per screen pixel
    radius = np.hypot(frequencies[:, None], frequencies[None, :]) * order / 2  # cycles per camera pixel
    aperture = np.sinc(0.95 * frequencies * order / 2)
    mtf = np.abs(aperture[:, None] * aperture[None, :]) * np.exp(-2 * (np.pi * blur * radius) ** 2)
    mtf[0, 0] = 0
    site = np.array([-0.5, 0.0, 0.5])  # of red, green (between its two) and blue, along rows and columns alike
    ramp = np.exp(1j * np.pi * order * frequencies[:, None] * site)
    shifted = mtf[..., None] * ramp[:, None] * ramp[None, :]
    tile = np.fft.ifft2(_spectrum(layout) * shifted, axes=(0, 1)).real
    return np.asarray(tile / (np.abs(tile).max() + 1e-12), dtype=np.float32)


def region(params: Moire, shape: tuple[int, int]) -> Light:
    """Return where the pattern is, (ceil(H/2), ceil(W/2)) in [0, 1], above one half in `area` of the picture."""
    half = (-(-shape[0] // BLOCK), -(-shape[1] // BLOCK))
    if params.area >= 1:
        return np.ones(half, np.float32)
    coarse = (max(1, half[0] // 8), max(1, half[1] // 8))
    field = lattice(coarse, params.area_seed, cell=420)
    border = float(np.quantile(field, 1 - params.area))
    ramp = np.clip((field - np.float32(border)) / np.float32(0.5) + np.float32(0.5), 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return np.asarray(cv2.resize(ramp, half[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def _blended(params: Moire, scene: Scene) -> Work:
    """Return the work that merges a pattern in the square root of light, which stands for display values."""
    shape = scene.image.shape[0], scene.image.shape[1]
    picture = _picture(params, scene, shape)
    mask = cv2.resize(region(params, shape), shape[::-1], interpolation=cv2.INTER_LINEAR).reshape(shape)
    mask *= np.float32(params.opacity)

    def merge(light: Light, rows: slice, out: Light) -> None:
        tones = np.sqrt(np.maximum(light, 0))
        part = picture[rows].astype(np.float32)
        part *= np.float32(1 / 255)
        merged = np.float32(params.blend) * part  # multiply, less the tones themselves
        merged -= np.float32(params.blend)
        merged *= tones
        part -= np.float32(0.5)  # grain merge adds what differs from mid-grey
        part *= np.float32((1 - params.blend) * 0.8)
        merged += part
        merged *= cv2.merge([mask[rows]] * 3).reshape(merged.shape)
        merged += tones
        np.maximum(merged, 0, out=merged)
        np.multiply(merged, merged, out=out)

    return merge


def _picture(params: Moire, scene: Scene, shape: tuple[int, int]) -> Image:
    """Return the pattern to blend, uint8 (H, W, 3) sRGB: the overlay, or the camera's beats over light grey."""
    if params.use_overlay:
        return np.asarray(cv2.resize(scene.overlays["moire"], shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    deviation = pattern(replace(params, contrast=0.15, area=1.0, saturation=1.0), shape)
    grey = np.clip(deviation * np.float32(255) + np.float32(GREY * 255), 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(grey, shape[::-1], interpolation=cv2.INTER_LINEAR), np.uint8).reshape(*shape, 3)


def _shading(params: Moire, shape: tuple[int, int]) -> tuple[Light, Light, Light]:
    """Return the rolling shutter's bands (h,), and what the vignette takes by row (h,) and by column (w,)."""
    rows, columns = (np.linspace(-1, 1, side) if side > 1 else np.zeros(1) for side in shape)
    bands = 1 + params.band * np.cos(np.pi * params.band_cycles * rows + 2 * np.pi * params.band_phase)
    down, across = (params.vignette / 2 * places**2 for places in (rows, columns))
    return bands.astype(np.float32), down.astype(np.float32), across.astype(np.float32)


def _axis(length: int, scale: float) -> Light:
    """Return the centres of the mosaic's cells along one side, from the middle, in pixels at min(H, W) = 1024."""
    cells = np.arange(-(-length // BLOCK), dtype=np.float32) * BLOCK + np.float32(BLOCK / 2 - length / 2)
    return cells * np.float32(scale)


def _saturation(keep: float) -> NDArray[np.float32]:
    return np.asarray(keep * np.eye(3) + (1 - keep) * np.tile(LUMA, (3, 1)), dtype=np.float32)


@cache
def _spectrum(layout: Layout) -> NDArray[np.complex128]:
    return np.asarray(np.fft.fft2(_subpixels(layout), axes=(0, 1)))


def _subpixels(layout: Layout) -> Light:
    """Return two by two screen pixels, (TILE, TILE, 3): 1 where a subpixel of that colour shines."""
    screen = np.zeros((TILE, TILE, 3), np.float32)
    pixel = TILE // 2
    rows = np.arange(TILE)[:, None]
    columns = np.arange(TILE)[None, :]
    for channel in range(3):
        place = channel if layout != "bgr" else 2 - channel
        shift = np.where(rows >= pixel, pixel // 2, 0) if layout == "delta" else 0
        along = (columns + shift - place * pixel / 3) % pixel
        lit = (along < 0.26 * pixel) & (rows % pixel < 0.9 * pixel)
        if layout == "pentile" and channel != 1:  # red and blue: every other pixel, in a checkerboard
            lit = (along < 0.4 * pixel) & ((rows // pixel + (columns + shift) // pixel) % 2 == (channel == 2))
        screen[..., channel] = lit
    return screen


def _grid(rng: np.random.Generator) -> tuple[int, float, float, float, float, float, float, float]:
    length, turn = log_uniform(rng, 12, 160), uniform(rng, 0, 2 * np.pi)
    return (
        choice(rng, (1, 2), (0.7, 0.3)),
        float(np.sin(turn)) / length,
        float(np.cos(turn)) / length,
        uniform(rng, -6e-5, 6e-5),
        uniform(rng, -6e-5, 6e-5),
        uniform(rng, -2e-8, 2e-8),
        uniform(rng, 0, 2),
        uniform(rng, 0, 2),
    )


DEGRADATION = Degradation(
    params=Moire,
    sample=sample,
    parts=(Part(Stage.SCREEN, recapture), Part(Stage.CODEC, copy)),
    overlay="pattern",
    backdrop=round(GREY * 255),
    reads=frozenset({"overlay"}),
    options=MoireOptions,
    local=True,
)
