"""Baseline JPEG on any device, to the last bit what libjpeg and libjpeg-turbo decode by default.

After ITU-T T.81 and the arithmetic of libjpeg that is common to all its builds: integer colour conversion, chroma
averaged with alternating rounding, the "islow" integer cosine transforms (Loeffler, Ligtenberg and Moschytz, ICASSP
1989), division by the steps with rounding, and "fancy" triangle upsampling of chroma. Entropy coding loses nothing and
is left out. All in int32; the same codes in give the same codes out as Pillow, whatever the size.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from degradations.batched.canvas import Sizes, extended, sides
from degradations.coding.quantisation import STANDARD, percent

# The constants of the transforms, times 2^13.
_C0298, _C0390, _C0541, _C0765, _C0899, _C1175 = 2446, 3196, 4433, 6270, 7373, 9633
_C1501, _C1847, _C1961, _C2053, _C2562, _C3072 = 12299, 15137, 16069, 16819, 20995, 25172
_PASS = 2  # bits kept between the two passes


def jpeg(codes: Tensor, sizes: Sizes, steps: Tensor, subsampling: str) -> Tensor:
    """Return `codes`, int32 (B, 3, H, W) in [0, 255], of pictures of `sizes` at their top left, after a JPEG.

    steps: int32 (B, 2, 8, 8), of luma and chroma, 1 to 255. subsampling: "4:4:4", "4:2:2" or "4:2:0". Of what is
    returned only the pictures count.
    """
    down, across = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2)}[subsampling]
    shape = sides(sizes)
    planes = _to_ycc(extended(codes, sizes, shape))
    coarse = [(-(-height // down), -(-width // across)) for height, width in sizes]
    small = _averaged(planes[:, 1:], down, across)
    small = extended(small, [(height, small.shape[3]) for height, _ in coarse], (small.shape[2], small.shape[3]))
    luma = _coded(planes[:, :1], steps[:, :1])
    chroma = _coded(small, steps[:, 1:].expand(-1, 2, -1, -1))
    chroma = extended(chroma, coarse, (chroma.shape[2], chroma.shape[3]))
    return _to_rgb(luma, _enlarged(chroma, coarse, down, across))


def standard_steps(qualities: Sequence[int], device: torch.device) -> Tensor:
    """Return the standard quantisation steps of each quality, 1 to 100: int32 (B, 2, 8, 8)."""
    tables = [np.clip((STANDARD * percent(quality) + 50) // 100, 1, 255) for quality in qualities]
    return torch.from_numpy(np.stack(tables).astype(np.int32)).to(device)


def _to_ycc(rgb: Tensor) -> Tensor:
    red, green, blue = rgb.unbind(1)
    half, offset = 1 << 15, (128 << 16) + (1 << 15) - 1
    luma = (19595 * red + 38470 * green + 7471 * blue + half) >> 16
    chroma_blue = (-11059 * red - 21709 * green + 32768 * blue + offset) >> 16
    chroma_red = (32768 * red - 27439 * green - 5329 * blue + offset) >> 16
    return torch.stack([luma, chroma_blue, chroma_red], dim=1)


def _to_rgb(luma: Tensor, chroma: Tensor) -> Tensor:
    light, half = luma[:, 0], 1 << 15
    blue, red = (chroma - 128).unbind(1)
    planes = [
        light + ((91881 * red + half) >> 16),
        light + ((-22554 * blue - 46802 * red + half) >> 16),
        light + ((116130 * blue + half) >> 16),
    ]
    return torch.stack(planes, dim=1).clamp_(0, 255)


def _averaged(planes: Tensor, down: int, across: int) -> Tensor:
    """Return means of `down` x `across` pixels; what is rounded alternates from column to column."""
    if across == 1:
        return planes
    total = planes[..., ::2] + planes[..., 1::2]
    bias = torch.arange(total.shape[-1], device=planes.device, dtype=torch.int32) % 2
    if down == 1:
        return (total + bias) >> 1
    return (total[..., ::2, :] + total[..., 1::2, :] + bias + 1) >> 2


def _enlarged(planes: Tensor, sizes: Sizes, down: int, across: int) -> Tensor:
    """Return `planes` at full size: neighbours weigh 3 : 1 along each halved axis; narrow pictures are repeated."""
    if across == 1:
        return planes
    plain = planes.repeat_interleave(across, 3).repeat_interleave(down, 2)
    narrow = torch.tensor([width <= 2 for _, width in sizes], device=planes.device)[:, None, None, None]
    rows = [planes]
    if down == 2:
        rows = [3 * planes + _neighbour(planes, 2, step) for step in (-1, 1)]
    shift, rounding = (4, (8, 7)) if down == 2 else (2, (1, 2))
    wide = [
        torch.stack(
            [
                (3 * row + _neighbour(row, 3, step) + more) >> shift
                for step, more in zip((-1, 1), rounding, strict=True)
            ],
            dim=-1,
        ).flatten(3)
        for row in rows
    ]
    return torch.where(narrow, plain, torch.stack(wide, dim=3).flatten(2, 3))


def _neighbour(planes: Tensor, axis: int, step: int) -> Tensor:
    """Return for each pixel the one before (`step` -1) or after it along `axis`; at the border the pixel itself."""
    length = planes.shape[axis]
    if step < 0:
        return torch.cat([planes.narrow(axis, 0, 1), planes.narrow(axis, 0, length - 1)], dim=axis)
    return torch.cat([planes.narrow(axis, 1, length - 1), planes.narrow(axis, length - 1, 1)], dim=axis)


def _coded(planes: Tensor, steps: Tensor) -> Tensor:
    """Return `planes` (B, C, H, W), whole blocks, after transform, quantiser and inverse; steps (B, C, 8, 8)."""
    batch, channels, height, width = planes.shape
    blocks = (planes - 128).view(batch, channels, height // 8, 8, width // 8, 8).permute(3, 5, 0, 1, 2, 4).contiguous()
    unit = steps.permute(2, 3, 0, 1)[..., None, None]
    columns = _forward(_forward(blocks, 1, 13 - _PASS, -_PASS), 0, 13 + _PASS, _PASS)
    whole = torch.div(columns.abs() + 4 * unit, 8 * unit, rounding_mode="floor") * columns.sign() * unit
    back = _inverse(_inverse(whole, 0, 13 - _PASS), 1, 13 + _PASS + 3)
    return (back + 128).clamp_(0, 255).permute(2, 3, 4, 0, 5, 1).reshape(batch, channels, height, width)


def _forward(blocks: Tensor, axis: int, odd_bits: int, even_bits: int) -> Tensor:
    """Return the cosine transform along `axis`, scaled by sqrt(8); negative `even_bits` shift to the left."""
    first, last = blocks.unbind(axis)[:4], blocks.unbind(axis)[:3:-1]
    s0, s1, s2, s3 = (a + b for a, b in zip(first, last, strict=True))
    d0, d1, d2, d3 = (a - b for a, b in zip(first, last, strict=True))
    even, odd = s0 + s3, s1 + s2
    low, high = s1 - s2, s0 - s3
    middle = (low + high) * _C0541
    c0, c4 = even + odd, even - odd
    c0, c4 = (
        (c0 << -even_bits, c4 << -even_bits) if even_bits < 0 else (_rounded(c0, even_bits), _rounded(c4, even_bits))
    )
    c2, c6 = _rounded(middle + high * _C0765, odd_bits), _rounded(middle - low * _C1847, odd_bits)
    # d3, d2, d1, d0 are tmp4 to tmp7 of libjpeg's jfdctint.c
    z3, z4 = d3 + d1, d2 + d0
    z5 = (z3 + z4) * _C1175
    z1, z2 = -(d3 + d0) * _C0899, -(d2 + d1) * _C2562
    z3, z4 = z5 - z3 * _C1961, z5 - z4 * _C0390
    c7, c5 = _rounded(d3 * _C0298 + z1 + z3, odd_bits), _rounded(d2 * _C2053 + z2 + z4, odd_bits)
    c3, c1 = _rounded(d1 * _C3072 + z2 + z3, odd_bits), _rounded(d0 * _C1501 + z1 + z4, odd_bits)
    return torch.stack([c0, c1, c2, c3, c4, c5, c6, c7], dim=axis)


def _inverse(blocks: Tensor, axis: int, bits: int) -> Tensor:
    """Return the inverse transform along `axis`, divided by 2^(13 - bits) (jidctint.c)."""
    c0, c1, c2, c3, c4, c5, c6, c7 = blocks.unbind(axis)
    middle = (c2 + c6) * _C0541
    low, high = middle - c6 * _C1847, middle + c2 * _C0765
    even, odd = (c0 + c4) << 13, (c0 - c4) << 13
    e0, e3, e1, e2 = even + high, even - high, odd + low, odd - low
    z3, z4 = c7 + c3, c5 + c1
    z5 = (z3 + z4) * _C1175
    z1, z2 = -(c7 + c1) * _C0899, -(c5 + c3) * _C2562
    z3, z4 = z5 - z3 * _C1961, z5 - z4 * _C0390
    o3, o2 = c7 * _C0298 + z1 + z3, c5 * _C2053 + z2 + z4
    o1, o0 = c3 * _C3072 + z2 + z3, c1 * _C1501 + z1 + z4
    pairs = ((e0, o0), (e1, o1), (e2, o2), (e3, o3))
    rising = [_rounded(even + odd, bits) for even, odd in pairs]
    falling = [_rounded(even - odd, bits) for even, odd in pairs]
    return torch.stack([*rising, *falling[::-1]], dim=axis)


def _rounded(values: Tensor, bits: int) -> Tensor:
    return (values + (1 << (bits - 1))) >> bits
