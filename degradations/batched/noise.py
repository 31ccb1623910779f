"""Noise of a batch: what the noise degradation does, its sensor, its grain and its web noise, each sample by its own.

The numbers are those of `random`, the arithmetic that of `sensor` and `noise` in float32: codes are within one of the
NumPy path's. Where a converter has bits, a raw value at a tie may fall to the other side, a few in a million pixels.
Segments, clumps and the web copy (`segment_gains`, `clump`, `tail_quality`) have no batched form; wear a batch with
`web` instead of the copy.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from degradations.batched.canvas import gathered, weighed
from degradations.batched.fields import bits, gaussian_fields
from degradations.batched.light import decode, encode
from degradations.numerics.taps import mirrored, resampling_taps

if TYPE_CHECKING:
    from degradations.noise import Noise

_LUMA = (0.2126, 0.7152, 0.0722)  # Rec. 709
_STEPS = 32767  # of the signed 16-bit range in which `colour.demosaic` works
_BLOTCH, _STUCK = 4, 1e6  # as in `sensor`
_CHROMA_GAIN = 1.6  # as in `noise`


def noisy(images: Tensor, params: Sequence["Noise"]) -> Tensor:
    """Return `images`, float32 (B, 3, H, W) sRGB in [0, 1] on any device, each with the noise of its own `params`.

    Values are taken at the nearest code of 255 and come back on that grid. Raises ValueError for params that have no
    batched form.
    """
    for each in params:
        _check(each)
    light = decode((images * 255).round_().clamp_(0, 255))
    for needed, add in ((_is_exposed, _exposed), (_is_scattered, _scattered)):
        light = _where(light, params, needed, add).clamp_(0, 1)
    return encode(light).to(torch.float32).mul_(1 / 255)


def _check(params: "Noise") -> None:
    for name, absent in (("segment_gains", ()), ("clump", 0), ("tail_quality", 0)):
        if getattr(params, name) != absent and not (name == "clump" and params.grain == 0):
            raise ValueError(f"{name} has no batched form: add this noise by the NumPy path")


def _is_exposed(params: "Noise") -> bool:
    return not params.shot == params.read == params.hot == 0


def _is_scattered(params: "Noise") -> bool:
    return not params.grain == params.white == params.poisson == params.impulse == 0


def _where(
    light: Tensor,
    params: Sequence["Noise"],
    needed: Callable[["Noise"], bool],
    add: Callable[[Tensor, list["Noise"]], Tensor],
) -> Tensor:
    chosen = [index for index, each in enumerate(params) if needed(each)]
    if not chosen:
        return light
    places = torch.tensor(chosen, device=light.device)
    light[places] = add(light[places], [params[index] for index in chosen])
    return light


def _exposed(light: Tensor, params: list["Noise"]) -> Tensor:
    """Return `light` as the sensors see it: noise on the mosaic, developed (`sensor.expose`)."""
    toe = _flat(params, "toe", light)[..., None]
    light = (light + (light * light + 4 * (1 + toe) * toe * light).sqrt_()) / (2 * (1 + toe))
    raw = _raw_noise(_mosaic(_mixed(light, np.stack([_to_sensor(each) for each in params]))), params)
    fine = np.stack([_keeping(each.luma, each.chroma) @ _from_sensor(each) for each in params])
    out = light + _demosaiced(raw, fine)
    if min(raw.shape[1:]) >= _BLOTCH:
        coarse = [_keeping(1 - each.luma, each.blotch - each.chroma) @ _from_sensor(each) for each in params]
        out += _blotches(raw, np.stack(coarse))
    out.clamp_(min=0)
    return out * out * (1 + toe) / (out + toe).clamp_(min=1e-12)


def _raw_noise(signal: Tensor, params: list["Noise"]) -> Tensor:
    batch, height, width = signal.shape
    seeds = [each.seed for each in params]
    field = gaussian_fields(height * width, seeds, stream=0, device=signal.device)
    for index, each in enumerate(params):
        field[index, _stuck(height * width, each.hot, each.seed, signal.device)] = _STUCK
    field = field.view(batch, height, width)
    rows = gaussian_fields(height, seeds, stream=1, device=signal.device)[:, :, None]
    raw = (signal.clamp(min=0) * _flat(params, "shot", signal) + _flat(params, "read", signal)).sqrt_() * field + signal
    raw = raw + _flat(params, "row", signal) * rows
    levels = torch.tensor([2**each.bits - 1 for each in params], dtype=torch.float32, device=signal.device)
    levels = levels[:, None, None]
    raw = torch.where(levels > 0, (raw * levels).round_() * (1 / levels), raw)
    return raw.clamp_(max=1) - signal


def _stuck(pixels: int, fraction: float, seed: int, device: torch.device) -> Tensor:
    """Return where `fraction` of `pixels` are stuck: `sensor.stuck`, as flat indices."""
    count = round(fraction * pixels)
    places = bits(count * 4, [seed], stream=2, device=device).view(count, 4)
    return (places[:, 0] + places[:, 1] * 65536) * pixels >> 32


def _mosaic(light: Tensor) -> Tensor:
    """Return what an RGGB mosaic passes of `light` (B, 3, H, W): (B, H, W)."""
    raw = light[:, 1].clone()
    raw[:, ::2, ::2] = light[:, 0, ::2, ::2]
    raw[:, 1::2, 1::2] = light[:, 2, 1::2, 1::2]
    return raw


def _demosaiced(raw: Tensor, matrices: NDArray[np.float64]) -> Tensor:
    """Return (B, 3, H, W) of an RGGB mosaic by bilinear interpolation in steps of 2^-15, then `matrices` (B, 3, 3)."""
    if min(raw.shape[1:]) < 4:
        return _mixed(raw[:, None].expand(-1, 3, -1, -1), matrices)
    codes = (raw * _STEPS + (_STEPS + 1.5)).clamp_(0, 65535).int()
    up, down, left, right = (codes.roll(step, axis) for step, axis in ((1, 1), (-1, 1), (1, 2), (-1, 2)))
    flat, steep = (left + right + 1) >> 1, (up + down + 1) >> 1
    cross = (left + right + up + down + 2) >> 2
    diagonal = (up.roll(1, 2) + up.roll(-1, 2) + down.roll(1, 2) + down.roll(-1, 2) + 2) >> 2
    red_row = (torch.arange(raw.shape[1], device=raw.device) % 2 == 0)[:, None]
    red_column = torch.arange(raw.shape[2], device=raw.device) % 2 == 0
    red = torch.where(red_row, torch.where(red_column, codes, flat), torch.where(red_column, steep, diagonal))
    blue = torch.where(red_row, torch.where(red_column, diagonal, steep), torch.where(red_column, flat, codes))
    green = torch.where(red_row == red_column, cross, codes)
    colours = torch.stack([red, green, blue], dim=1).float()
    for axis in (0, 1):  # OpenCV's border repeats what is inside
        length = colours.shape[axis + 2]
        inside = np.clip(np.arange(length), 1, length - 2)
        colours = gathered(colours, np.broadcast_to(inside, (len(colours), length)).copy(), axis)
    return _mixed(colours - (_STEPS + 1), matrices / _STEPS)


def _blotches(raw: Tensor, matrices: NDArray[np.float64]) -> Tensor:
    """Return the coarse noise, (B, 3, H, W): means of blocks of the mosaic's colours, through `matrices`, enlarged."""
    shape = (raw.shape[1], raw.shape[2])
    size = (shape[0] // _BLOTCH, shape[1] // _BLOTCH)
    red, first, second, blue = (
        _resized(raw[:, None, row::2, column::2], size, "area") for row, column in ((0, 0), (0, 1), (1, 0), (1, 1))
    )
    coarse = _mixed(torch.cat([red, (first + second) * 0.5, blue], dim=1), matrices)
    return _resized(coarse, shape, "bilinear")


def _resized(light: Tensor, shape: tuple[int, int], interpolation: str) -> Tensor:
    for axis in (0, 1):
        indices, weights = resampling_taps(light.shape[axis + 2], shape[axis], interpolation)
        batch = len(light)
        light = weighed(light, np.stack([indices] * batch), np.stack([weights] * batch), axis)
    return light


def _scattered(light: Tensor, params: list["Noise"]) -> Tensor:
    """Return `light` with grain, web noise and impulses, added in the square root of light (`noise.scatter`)."""
    tones = light.clamp(min=0).sqrt_()
    noise = _web(tones, params) + _grains(tones, params)
    tones = (tones + noise).clamp_(min=0)
    for index, each in enumerate(params):
        places = _stuck(tones.shape[2] * tones.shape[3], each.impulse, each.seed, tones.device)
        tones[index].view(3, -1)[:, places] = (torch.arange(len(places), device=tones.device) % 2).float()
    return tones.square_()


def _web(tones: Tensor, params: list["Noise"]) -> Tensor:
    if all(each.white == each.poisson == 0 for each in params):
        return torch.zeros_like(tones)
    batch, _, height, width = tones.shape
    numbers = gaussian_fields(height * width * 3, [each.seed for each in params], stream=5, device=tones.device)
    coloured = numbers.view(batch, height, width, 3).permute(0, 3, 1, 2)
    grey = numbers[:, : height * width].view(batch, 1, height, width)
    is_grey = torch.tensor([each.grey for each in params], device=tones.device)[:, None, None, None]
    luma = _mixed(tones, np.broadcast_to(np.array(_LUMA), (batch, 3, 3)))
    signal = torch.where(is_grey, luma, tones)
    white = torch.tensor([each.white**2 for each in params], dtype=torch.float32, device=tones.device)
    sigma = (signal * _flat(params, "poisson", tones)[..., None] + white[:, None, None, None]).sqrt_()
    return sigma * torch.where(is_grey, grey, coloured)


def _grains(tones: Tensor, params: list["Noise"]) -> Tensor:
    if all(each.grain == 0 for each in params):
        return torch.zeros_like(tones)
    height, width = tones.shape[2:]
    grain = torch.stack([_grain((height, width), each, tones.device) for each in params])[:, None]
    grains = grain * _flat(params, "grain", tones)[..., None] + _grain_chroma(tones, params)
    midtones = torch.tensor([each.midtones for each in params], device=tones.device)[:, None, None, None]
    return torch.where(midtones, grains * (4 * tones * (1 - tones.clamp(max=1))), grains)


def _grain(shape: tuple[int, int], params: "Noise", device: torch.device) -> Tensor:
    """Return luma grain of variance 1, (H, W): white noise blurred by OpenCV's Gaussian of `grain_radius`."""
    grain = gaussian_fields(shape[0] * shape[1], [params.seed], stream=3, device=device).view(1, 1, *shape)
    if params.grain_radius > 0:
        reach = (round(params.grain_radius * 8 + 1) | 1) // 2
        taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / params.grain_radius) ** 2)
        weights = (taps / taps.sum()).astype(np.float32)
        for axis in (0, 1):
            windows = np.lib.stride_tricks.sliding_window_view(mirrored(shape[axis], reach), 2 * reach + 1)
            grain = weighed(grain, windows[None].copy(), np.broadcast_to(weights, (1, *windows.shape)).copy(), axis)
    deviation = float(grain.double().std(correction=0))
    return grain[0, 0] * (1 / max(deviation, 1e-6))


def _grain_chroma(tones: Tensor, params: list["Noise"]) -> Tensor:
    batch, _, height, width = tones.shape
    half = (max(1, height // 2), max(1, width // 2))
    numbers = gaussian_fields(half[0] * half[1] * 3, [each.seed for each in params], stream=4, device=tones.device)
    field = numbers.view(batch, *half, 3).permute(0, 3, 1, 2)
    gains = np.stack([_CHROMA_GAIN * each.grain_chroma * _keeping(0, 1) for each in params])
    return _resized(_mixed(field, gains), (height, width), "bilinear")


def _flat(params: Sequence["Noise"], name: str, like: Tensor) -> Tensor:
    values = [getattr(each, name) for each in params]
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None, None]


def _mixed(light: Tensor, matrices: NDArray[np.float64]) -> Tensor:
    """Return the colours of `light` (B, 3, H, W) through `matrices` (B, 3, 3), without any tensor core's rounding."""
    mixing = torch.from_numpy(matrices.astype(np.float32)).to(light.device)[..., None, None]
    return (light[:, None] * mixing).sum(dim=2)


def _from_sensor(params: "Noise") -> NDArray[np.float64]:
    """Return `colour.from_sensor`: white balance, then the colour matrix."""
    colour = (1 + params.crosstalk) * np.eye(3) - params.crosstalk / 2 * (1 - np.eye(3))
    return np.asarray(colour @ np.diag((params.red, 1.0, params.blue)))


def _to_sensor(params: "Noise") -> NDArray[np.float64]:
    return np.asarray(np.linalg.inv(_from_sensor(params)))


def _keeping(luma: float, chroma: float) -> NDArray[np.float64]:
    """Return `colour.keeping`: `luma` of the luminance, `chroma` of what differs from it."""
    return chroma * np.eye(3) + (luma - chroma) * np.tile(_LUMA, (3, 1))
