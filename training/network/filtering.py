"""How the small restorer makes an image: its reference, filtered as the transformer says for each cell of pixels.

Restoring is filtering, and a network learns when to use a filter far sooner than it learns the filter. Two are enough:

* Detail. The image is taken apart into undecimated wavelet bands, three scales of luma across, down and diagonal, and
  of two colours, which add up to what it was (a trous; Starck, Fadili and Murtagh 2007, doi:10.1109/TIP.2006.887733).
  Each is multiplied by 1 + everywhere + where_strong s(energy - threshold), s a sigmoid and energy the logarithm of the
  mean square around: shrinkage by local energy, which keeps edges (Mihcak, Kozintsev, Ramchandran and Moulin 1999,
  doi:10.1109/97.803428), and sharpening where the factor is above 1.
* Tone. A curve is added: a sum of eight functions of the tone, some of them of the tone between the darkest and the
  brightest that the glance saw in the whole image, so that a dark or a hazy one needs no larger numbers. The last is
  what clearing the air adds: Koschmieder's law inverted, with the transmission that the dark channel tells (He, Sun and
  Tang 2011, doi:10.1109/TPAMI.2010.168), so that one number does right by what is near and what is far.

What the transformer says is interpolated between cells. B batch, T tokens, N bands, S numbers seen in a cell, H and W
pixels, y and x cells. Images are float32 within -1 and 1, sRGB.
"""

import math
from dataclasses import dataclass
from functools import reduce

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from training.network.glance import LIGHT
from training.network.params import CELLS

SCALES = 3
PER_SCALE = 5  # luma across, down, diagonal; colour from red to blue, from green to both
BANDS = SCALES * PER_SCALE
CURVES = 8  # functions of the tone
DETAIL = CELLS**2 * 3 * BANDS  # numbers of a token: everywhere, where strong and threshold, of each band and cell
TONE = CURVES * 3  # and of each function and channel
GATES = DETAIL + TONE
SEEN = CELLS**2 * (BANDS + 2 * 3 + 2)  # what a token sees: energies, tones, stretched tones, dark channel twice

_RADIUS = 2  # of the window in which energy is measured
_STEEP = 2.0  # of the sigmoid: from a quarter to three quarters of the way by a factor of 2 in amplitude
_FAINT = 1e-6  # mean square, an eighth of a grey level
_SPAN = 0.03  # least distance of darkest and brightest
_AROUND = 3  # cells to each side that the dark channel is looked for in: 28 pixels of tokens of 8
_KEPT = 0.9  # share of the haze that clearing takes, so that far things still look far (He, Sun and Tang: 0.95)
_THICK = 0.1  # least transmission that is believed
_FARTHEST = 1.5  # that clearing changes a tone by
_TOE = 0.01  # keeps the slope of the square root finite


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What is measured of a degraded image.

    dark: of cells and of those around, (B, 2, y, x). low, high: its darkest and brightest tones, (B, 3, 1, 1).
    """

    image_BCHW: Tensor
    details_BNHW: Tensor
    energies_BNHW: Tensor
    dark_B2yx: Tensor
    low: Tensor
    high: Tensor


@torch.no_grad()
def measured(image_BCHW: Tensor, glance_BE: Tensor, patch: int) -> Reference:
    """Return what is measured of `image_BCHW` for tokens of `patch` pixels; `glance_BE` saw the whole."""
    details_BNHW = bands(image_BCHW)
    light_BCQ = rearrange(glance_BE[:, : 3 * LIGHT].float() / 2, "B (C Q) -> B C 1 1 Q", C=3)
    low, high = light_BCQ[..., 0], light_BCQ[..., -1]
    return Reference(
        image_BCHW=image_BCHW,
        details_BNHW=details_BNHW,
        energies_BNHW=_energies(details_BNHW),
        dark_B2yx=_dark(image_BCHW, high, patch // CELLS),
        low=low,
        high=high,
    )


@torch.no_grad()
def seen(reference: Reference, patch: int) -> Tensor:
    """Return what tokens of `patch` pixels see of the reference, (B, T, S): means over each cell, dark channels."""
    planes = [reference.energies_BNHW, reference.image_BCHW, _stretched(reference.image_BCHW, *_common(reference))]
    cells = [functional.avg_pool2d(plane, patch // CELLS) for plane in planes] + [2 * reference.dark_B2yx - 1]
    return rearrange(torch.cat(cells, dim=1), "B n (y p) (x q) -> B (y x) (n p q)", p=CELLS, q=CELLS)


def filtered(reference: Reference, gates_BTG: Tensor, strength_B2: Tensor, patch: int) -> Tensor:
    """Return the image (B, 3, H, W) that `gates_BTG` make of the reference; gates of zero leave it as it is.

    strength_B2: what all gates of detail and all of tone are multiplied by.
    """
    rows = reference.image_BCHW.shape[2] // patch
    detail, tone = torch.split(gates_BTG.float(), [DETAIL, TONE], dim=-1)
    of_detail, of_tone = strength_B2.float()[..., None, None, None].unbind(1)
    cells = rearrange(detail, "B (y x) (p q n) -> B n (y p) (x q)", y=rows, p=CELLS, q=CELLS)
    cells = torch.cat([cells[:, : 2 * BANDS] * of_detail, cells[:, 2 * BANDS :]], dim=1)
    everywhere, strong, threshold = _interpolated(cells, patch // CELLS).chunk(3, dim=1)
    where_strong = torch.sigmoid(_STEEP * (reference.energies_BNHW - threshold))
    image_BCHW = reference.image_BCHW + _colours((everywhere + strong * where_strong) * reference.details_BNHW)
    curves = _interpolated(rearrange(tone, "B (y x) n -> B n y x", y=rows) * of_tone, patch)
    curves_BFCHW = rearrange(curves, "B (F C) H W -> B F C H W", F=CURVES)
    functions_BFCHW = _functions(image_BCHW, reference, patch // CELLS)
    return image_BCHW + (curves_BFCHW * functions_BFCHW).sum(dim=1)


def bands(image_BCHW: Tensor) -> Tensor:
    """Return the bands (B, N, H, W); put together, and with what is smooth, they are the image."""
    smooth, found = _opponents(image_BCHW), []
    for scale in range(SCALES):
        across = _smoothed(smooth, 3, 2**scale)
        both = _smoothed(across, 2, 2**scale)
        luma_across = (smooth - across)[:, :1]
        vertical = _smoothed(luma_across, 2, 2**scale)
        found += [(across - both)[:, :1], vertical, luma_across - vertical, (smooth - both)[:, 1:]]
        smooth = both
    return torch.cat(found, dim=1)


def _opponents(image_BCHW: Tensor) -> Tensor:
    """Return luma and two colours of unit length, orthogonal; sums, because a product would be cut to bfloat16."""
    red, green, blue = image_BCHW.unbind(1)
    return torch.stack([(red + green + blue) / 3**0.5, (red - blue) / 2**0.5, (red - 2 * green + blue) / 6**0.5], 1)


def _colours(bands_BNHW: Tensor) -> Tensor:
    """Return the sum (B, 3, H, W) of bands in red, green and blue."""
    across, down, diagonal, first, second = rearrange(bands_BNHW, "B (s n) H W -> B s n H W", s=SCALES).sum(1).unbind(1)
    luma, first, second = (across + down + diagonal) / 3**0.5, first / 2**0.5, second / 6**0.5
    return torch.stack([luma + first + second, luma - 2 * second, luma - first + second], dim=1)


def _smoothed(x: Tensor, dim: int, step: int) -> Tensor:
    """Return a quarter, a half and a quarter of neighbours `step` apart along `dim`; edges are repeated."""
    sides = [0, 0, step, step] if dim == 2 else [step, step, 0, 0]
    padded, length = functional.pad(x, sides, mode="replicate"), x.shape[dim]
    return x / 2 + (padded.narrow(dim, 0, length) + padded.narrow(dim, 2 * step, length)) / 4


def _energies(details_BNHW: Tensor) -> Tensor:
    """Return logarithms of the root mean square around, to base 2: 0 for a thirty-second; colours look at luma too."""
    width, around = 2 * _RADIUS + 1, functional.pad(details_BNHW.square(), [_RADIUS] * 4, mode="replicate")
    for dim in (2, 3):
        length = details_BNHW.shape[dim]
        shifted = (around.narrow(dim, n, length) for n in range(width))
        around = reduce(torch.add, shifted) / width
    by_scale = rearrange(torch.log2(around + _FAINT) / 2 + 5, "B (s n) H W -> B s n H W", s=SCALES)
    luma, colour = by_scale[:, :, :3], by_scale[:, :, 3:]
    both = (colour + luma.mean(dim=2, keepdim=True)) / 2
    return torch.cat([luma, both], dim=2).flatten(1, 2)


def _dark(image_BCHW: Tensor, air: Tensor, side: int) -> Tensor:
    """Return the least channel's least share of `air` in each cell and in all around, (B, 2, y, x)."""
    relative = (image_BCHW + 1) / (air + 1).clamp_min(_SPAN)
    cells = -functional.max_pool2d(-relative.amin(dim=1, keepdim=True), side)
    padded = functional.pad(cells, [_AROUND] * 4, mode="replicate")
    return torch.cat([cells, -functional.max_pool2d(-padded, 2 * _AROUND + 1, stride=1)], dim=1)


def _common(reference: Reference) -> tuple[Tensor, Tensor]:
    """Return the darkest and the brightest tone of all channels."""
    return reference.low.amin(dim=1, keepdim=True), reference.high.amax(dim=1, keepdim=True)


def _stretched(image_BCHW: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return (image_BCHW - low) / (high - low).clamp_min(_SPAN)


def _functions(image_BCHW: Tensor, reference: Reference, side: int) -> Tensor:
    """Return the functions of the tone, (B, F, 3, H, W), about within -1 and 1; cells are `side` pixels."""
    together = _stretched(image_BCHW, *_common(reference)).clamp_min(0)
    apart = _stretched(image_BCHW, reference.low, reference.high).clamp_min(0)
    within = [_root(together), together, together * together.clamp_max(1.5), _root(apart), apart]
    cleared = _cleared(image_BCHW, reference, side) - image_BCHW
    given = [torch.ones_like(image_BCHW), image_BCHW, *(2 * tone - 1 for tone in within)]
    return torch.stack([*given, cleared.clamp(-_FARTHEST, _FARTHEST)], dim=1)


def _cleared(image_BCHW: Tensor, reference: Reference, side: int) -> Tensor:
    """Return the image without air: I = J t + A (1 - t), solved for J; A is the brightest tone of the whole."""
    padded = functional.pad(reference.dark_B2yx[:, 1:], [_AROUND] * 4, mode="replicate")
    dark = _interpolated(functional.avg_pool2d(padded, 2 * _AROUND + 1, stride=1), side)
    transmission = (1 - _KEPT * dark).clamp_min(_THICK)
    return reference.high + (image_BCHW - reference.high) / transmission


def _root(tone: Tensor) -> Tensor:
    return (tone + _TOE).sqrt() - math.sqrt(_TOE)


def _interpolated(cells_Bnyx: Tensor, factor: int) -> Tensor:
    """Return the cells drawn out to pixels, bilinearly; two products take a fifth of the time of `interpolate`."""
    rows, columns = (_between(side, factor, cells_Bnyx.device) for side in cells_Bnyx.shape[2:])
    with torch.autocast(cells_Bnyx.device.type, enabled=False):
        return rows @ (cells_Bnyx @ columns.T)


def _between(cells: int, factor: int, device: torch.device) -> Tensor:
    """Return how much of each cell a pixel takes, (cells * factor, cells)."""
    each = torch.eye(cells, device=device)[None]
    return functional.interpolate(each, scale_factor=factor, mode="linear", align_corners=False)[0].T.contiguous()
